//! What runs on a node: which versions of what, and how they are set up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::fabric::{node_address, pod_network};
use super::machine::Machine;
use crate::tools;

/// Where both versions of containerd listen.
const SOCKET: &str = "/run/containerd/containerd.sock";
/// The image that the sandbox of each pod starts; `tests/kubernetes/workload/build` makes it.
pub(crate) const WORKLOAD_IMAGE: &str = "docker.io/callgate/workload:1";
/// Where Debian has the plugins.
const CNI: &str = "/usr/lib/cni";

/// A container runtime, and the OCI runtime that it calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Software {
    /// The newest containerd and runc, as `go.mod` files pin them.
    Newest,
    /// Debian's containerd and crun.
    Debian,
}

impl Software {
    /// The OCI runtime.
    #[must_use]
    pub const fn runtime(self) -> &'static str {
        match self {
            Self::Newest => "runc",
            Self::Debian => "crun",
        }
    }

    /// The directory with `containerd`, `ctr` and the shim.
    pub(crate) fn containerd(self) -> Result<PathBuf> {
        let directory = tools::repository().join("tests/kubernetes/bin");
        let directory = match self {
            Self::Newest => directory,
            Self::Debian => directory.join("debian"),
        };
        for program in ["containerd", "containerd-shim-runc-v2", "ctr"] {
            let path = directory.join(program);
            if !path.is_file() {
                bail!("{} is missing: run make nodes", path.display());
            }
        }
        Ok(directory)
    }

    fn oci_runtime(self) -> Result<PathBuf> {
        let (path, cure) = match self {
            Self::Newest => (
                tools::repository().join("tests/runtimes/bin/runc"),
                "run make runtimes",
            ),
            Self::Debian => (PathBuf::from("/usr/bin/crun"), "run tests/packages"),
        };
        if !path.is_file() {
            bail!("{} is missing: {cure}", path.display());
        }
        Ok(path)
    }

    /// containerd's settings, as TOML.
    fn containerd_settings(self) -> Result<String> {
        let runtime = self.oci_runtime()?;
        let runtime = runtime.display();
        // The limits of the machine may be those of a container, too.
        Ok(match self {
            Self::Newest => format!(
                r#"
version = 3
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{WORKLOAD_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{CNI}"]
conf_dir = "/run/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runtime}"
SystemdCgroup = false
"#
            ),
            Self::Debian => format!(
                r#"
version = 2
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{WORKLOAD_IMAGE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI}"
conf_dir = "/run/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runtime}"
SystemdCgroup = false
"#
            ),
        })
    }

    /// containerd, as a command that runs on the machine; writes its settings.
    pub(crate) fn containerd_command(self, machine: &Machine) -> Result<Command> {
        let settings = machine.directory().join("containerd.toml");
        fs::write(&settings, self.containerd_settings()?)?;
        let directory = self.containerd()?;
        let mut command = machine.command("env");
        command
            .arg(format!(
                "PATH={}:/usr/sbin:/usr/bin:/sbin:/bin",
                directory.display()
            ))
            .arg(directory.join("containerd"))
            .arg("--config")
            .arg(settings);
        Ok(command)
    }

    /// `ctr` for the images of Kubernetes, with these arguments.
    pub(crate) fn ctr(self, machine: &Machine, arguments: &[&str]) -> Result<String> {
        let program = self.containerd()?.join("ctr");
        machine.run(
            program,
            &[&["--address", SOCKET, "--namespace", "k8s.io"], arguments].concat(),
        )
    }
}

/// What gives pods their network: a bridge on each node.
pub(crate) fn write_cni_settings(machine: &Machine, number: u8) -> Result<()> {
    let settings = json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isDefaultGateway": true,
            "hairpinMode": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": pod_network(number) }]] },
        }],
    });
    let directory = machine.path("/run/cni");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("pods.conflist"), settings.to_string())?;
    Ok(())
}

/// kubelet, as a command that runs on the machine; writes its settings.
pub(crate) fn kubelet_command(
    machine: &Machine,
    number: u8,
    kubeconfig: &Path,
    more: &Value,
) -> Result<Command> {
    let mut settings = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        // Nobody else reaches its network.
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        // There is no name server; pods do without, and are not warned about it.
        "clusterDNS": ["10.0.0.10"],
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "evictionHard": { "memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%" },
        "enforceNodeAllocatable": [],
        "nodeStatusReportFrequency": "10s",
    });
    let extended = settings.as_object_mut().zip(more.as_object());
    let (settings_of, more) = extended.context("settings of a kubelet are an object")?;
    settings_of.extend(more.clone());
    let file = machine.directory().join("kubelet.json");
    fs::write(&file, settings.to_string())?;
    let mut command = machine.command(tools::node_program("kubelet")?);
    command
        .arg("--config")
        .arg(file)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg(format!("--hostname-override={}", machine.name()))
        .arg(format!("--node-ip={}", node_address(number)));
    Ok(command)
}

/// kube-proxy, as a command that runs on the machine; writes its settings.
pub(crate) fn kube_proxy_command(machine: &Machine, kubeconfig: &Path) -> Result<Command> {
    let settings = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": kubeconfig },
        "hostnameOverride": machine.name(),
        "mode": "nftables",
        // Connection tracking stays as the machine has it.
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
    });
    let file = machine.directory().join("kube-proxy.json");
    fs::write(&file, settings.to_string())?;
    let mut command = machine.command(tools::node_program("kube-proxy")?);
    command.arg("--config").arg(file);
    Ok(command)
}
