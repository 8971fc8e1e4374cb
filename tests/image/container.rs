//! One container of a pod of Callgate, started by runc with the settings that a kubelet would ask for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bed::{Runtime, RuntimeName};
use harness::Process;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::unpacked::Image;

/// Bytes of memory.
const MEMORY: u64 = 64 << 20;

/// What a pod says of its container.
pub(crate) struct Pod<'a> {
    /// Its name, unique on the machine with the process id behind it.
    pub(crate) name: &'a str,
    /// `runAsUser`; nothing where the image's user is the one.
    pub(crate) uid: Option<u32>,
    /// `args`.
    pub(crate) args: &'a [&'a str],
    /// `env`.
    pub(crate) env: &'a [(&'a str, String)],
    /// Its volumes: where they are, their mount path, and whether it may write to them.
    pub(crate) volumes: &'a [(&'a Path, &'a str, bool)],
}

/// A running container. It goes with this value, and with the process that started it however that one ends.
pub(crate) struct Container {
    process: Option<Process>,
    log: PathBuf,
    cgroup: String,
}

impl Container {
    /// Starts it, with its own files beneath `folder`: no capabilities, no way to more privileges, a read-only root, the
    /// default seccomp profile, a limit of memory, and the host's network, where the API server of the tests listens.
    pub(crate) fn start(folder: &Path, image: &Image, pod: &Pod<'_>) -> Result<Self> {
        let runtime = Runtime::find(RuntimeName::Runc)?;
        let cgroup = format!("callgate-image-{}-{}", std::process::id(), pod.name);
        let bundle = folder.join(pod.name);
        fs::create_dir(&bundle)?;
        fs::write(
            bundle.join("config.json"),
            config(image, pod, &cgroup)?.to_string(),
        )?;
        // In a PID namespace of its own everything ends with the first process.
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation=private",
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "--mount-proc",
            ])
            .arg(runtime.program)
            .arg("--root")
            .arg(bundle.join("state"))
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(pod.name);
        let log = bundle.join("log");
        let process = Process::start(pod.name, &command, &log)?;
        Ok(Self {
            process: Some(process),
            log,
            cgroup,
        })
    }

    /// `/proc/PID/status` of the program in it.
    pub(crate) fn status(&mut self) -> Result<String> {
        // unshare, then runc, then the program.
        let program = only_child(only_child(self.process()?.id())?)?;
        Ok(fs::read_to_string(format!("/proc/{program}/status"))?)
    }

    /// Waits until it ends by itself, with 0, and gives what it wrote.
    pub(crate) async fn finish(mut self) -> Result<String> {
        self.ended().await?;
        fs::read_to_string(&self.log).context("it has no log")
    }

    /// Asks it to end, as a kubelet does, and waits for that; an error if it does not end with 0.
    pub(crate) async fn terminate(mut self) -> Result<()> {
        // runc hands the signal on. It is the child of unshare, which waits for it whatever it gets itself.
        let runc = i32::try_from(only_child(self.process()?.id())?)?;
        let runc = Pid::from_raw(runc).context("runc has no process id")?;
        kill_process(runc, Signal::TERM)?;
        self.ended().await
    }

    async fn ended(&mut self) -> Result<()> {
        let process = self.process.take().context("it has ended already")?;
        let status = process.ended().await?;
        ensure!(
            status.success(),
            "it ended with {status}:\n{}",
            fs::read_to_string(&self.log)?
        );
        Ok(())
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("it has ended already")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // With it ends everything in its namespace, runc first, which then removes no control group.
        self.process = None;
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(controller.path().join(&self.cgroup));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.cgroup));
    }
}

fn only_child(process: u32) -> Result<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    let child = children.trim().parse();
    child.with_context(|| format!("process {process} has these children: {children:?}"))
}

/// What the image alone leads to, and upon that what a kubelet and containerd make of the pod's settings.
fn config(image: &Image, pod: &Pod<'_>, cgroup: &str) -> Result<Value> {
    let mut config = image.runtime_config()?;
    let process = &mut config["process"];
    if let Some(uid) = pod.uid {
        process["user"] = json!({ "uid": uid, "gid": uid });
    }
    extend(
        &mut process["args"],
        pod.args.iter().map(|argument| json!(argument)),
    )?;
    let variables = pod.env.iter().map(|(key, value)| json!(format!("{key}={value}")));
    process["env"] = variables.collect();
    process["capabilities"] = json!({});
    process["noNewPrivileges"] = json!(true);
    process["terminal"] = json!(false);
    config["root"] = json!({ "path": image.root(), "readonly": true });
    let volumes = pod.volumes.iter().map(|(source, destination, writable)| {
        let access = if *writable { "rw" } else { "ro" };
        json!({ "source": source, "destination": destination, "type": "bind", "options": ["rbind", "rprivate", access] })
    });
    extend(&mut config["mounts"], volumes)?;
    let profile: Value = serde_json::from_str(include_str!("../data/default.json"))?;
    config["linux"] = json!({
        "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
        "cgroupsPath": format!("/{cgroup}"),
        "resources": { "memory": { "limit": MEMORY }, "devices": [{ "allow": false, "access": "rwm" }] },
        "seccomp": profile,
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    Ok(config)
}

fn extend(list: &mut Value, more: impl Iterator<Item = Value>) -> Result<()> {
    list.as_array_mut()
        .context("umoci wrote another kind of configuration")?
        .extend(more);
    Ok(())
}
