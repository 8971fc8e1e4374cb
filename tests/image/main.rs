//! The image that `make image` builds: what is in it, and that agent and controller work in it under the settings of
//! their pods. Needs root, and `make image kubernetes runtimes` first.

mod container;
mod unpacked;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use callgate::profile::Digest;
use harness::{CONTROLLER_SERVICE_ACCOUNT, Cluster, NAMESPACE, eventually, repository};
use serde_json::Value;
use tempfile::TempDir;

use self::container::{Container, Pod};
use self::unpacked::{Image, file, run};

/// Bytes of all files.
const BUDGET: u64 = 20_000_000;

/// The user of the image.
const USER: u32 = 65532;

#[test]
fn the_image_holds_the_program_its_libraries_and_whose_they_are_and_no_more_than_20_mb() -> Result<()> {
    let image = Image::unpack()?;
    let (mut files, mut programs, mut bytes) = (BTreeSet::new(), BTreeSet::new(), 0);
    for path in image.paths()? {
        let metadata = fs::symlink_metadata(image.root().join(path.strip_prefix("/")?))?;
        let (name, mode) = (path.display().to_string(), metadata.mode());
        assert!(
            metadata.is_dir() || metadata.is_file(),
            "{name} is neither file nor directory"
        );
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{name} is not root's");
        assert_eq!(
            mode & 0o7022,
            0,
            "{name} may be written to, or gives rights: {mode:o}"
        );
        if metadata.is_file() {
            bytes += metadata.len();
            if mode & 0o111 != 0 {
                programs.insert(name.clone());
            }
            files.insert(name);
        }
    }
    assert!(bytes <= BUDGET, "{bytes} bytes");
    let (triplet, loader) = match unpacked::architecture() {
        "arm64" => ("aarch64-linux-gnu", "/lib/ld-linux-aarch64.so.1"),
        _ => ("x86_64-linux-gnu", "/lib64/ld-linux-x86-64.so.2"),
    };
    let libraries = ["libc.so.6", "libgcc_s.so.1", "libm.so.6", "libseccomp.so.2"];
    let packages = ["libc6", "libgcc-s1", "libseccomp2"];
    let expected = libraries
        .map(|library| format!("/usr/lib/{triplet}/{library}"))
        .into_iter()
        .chain(packages.map(|package| format!("/usr/share/doc/{package}/copyright")))
        .chain(packages.map(|package| format!("/var/lib/dpkg/status.d/{package}")))
        .chain(
            [
                "/etc/os-release",
                "/usr/bin/callgate",
                "/usr/share/doc/callgate/copyright",
                "/usr/share/doc/callgate/crates",
                loader,
            ]
            .map(str::to_owned),
        )
        .collect::<BTreeSet<_>>();
    assert_eq!(files, expected);
    assert_eq!(
        programs,
        BTreeSet::from(["/usr/bin/callgate".to_owned(), loader.to_owned()])
    );
    Ok(())
}

#[test]
fn the_image_says_what_it_is_and_starts_the_program_as_a_user_that_is_not_root() -> Result<()> {
    let config = Image::unpack()?.config;
    assert_eq!(config["architecture"], unpacked::architecture());
    assert_eq!(
        config["config"]["Entrypoint"],
        serde_json::json!(["/usr/bin/callgate"])
    );
    // PodSecurity "restricted" has runAsNonRoot, and a kubelet knows only of a number that it is not root.
    assert_eq!(config["config"]["User"], format!("{USER}:{USER}"));
    let labels = labels(&config)?;
    assert_eq!(labels["title"], "callgate");
    assert_eq!(labels["description"], env!("CARGO_PKG_DESCRIPTION"));
    assert_eq!(labels["licenses"], env!("CARGO_PKG_LICENSE"));
    assert_eq!(labels["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        labels["created"],
        config["created"].as_str().context("it has no time")?
    );
    let revision = labels["revision"].trim_end_matches("-dirty");
    assert!(
        revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{revision}"
    );
    Ok(())
}

/// Its labels, without what they all begin with.
fn labels(config: &Value) -> Result<BTreeMap<String, String>> {
    let labels = config["config"]["Labels"]
        .as_object()
        .context("it has no labels")?;
    let strip = |(key, value): (&String, &Value)| {
        let key = key.strip_prefix("org.opencontainers.image.")?;
        Some((key.to_owned(), value.as_str()?.to_owned()))
    };
    Ok(labels.iter().filter_map(strip).collect())
}

#[test]
fn the_dockerfile_says_the_same_of_the_image() -> Result<()> {
    let config = Image::unpack()?.config;
    let text = fs::read_to_string(repository().join("deploy/Dockerfile"))?.replace("\\\n", "");
    let instruction = |name: &str| {
        let last = text.lines().rfind(|line| line.starts_with(&format!("{name} ")));
        last.map(|line| line[name.len()..].trim()).unwrap_or_default()
    };
    assert_eq!(
        instruction("ENTRYPOINT"),
        config["config"]["Entrypoint"].to_string()
    );
    assert_eq!(instruction("USER"), config["config"]["User"]);
    assert_eq!(instruction("WORKDIR"), config["config"]["WorkingDir"]);
    let dockerfile = instruction("LABEL");
    for (label, value) in labels(&config)? {
        let value = match label.as_str() {
            // Docker writes the time of SOURCE_DATE_EPOCH where images have it, and nowhere else.
            "created" => continue,
            "revision" => "$REVISION",
            _ => &value,
        };
        let expected = format!("org.opencontainers.image.{label}=\"{value}\"");
        assert!(
            dockerfile.contains(&expected),
            "{expected} is not in {dockerfile}"
        );
    }
    Ok(())
}

#[test]
fn both_archives_hold_the_same_files_and_the_docker_archive_names_the_image() -> Result<()> {
    let archive = file("docker.tar")?;
    let manifest = run(Command::new("tar").arg("-xOf").arg(&archive).arg("manifest.json"))?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    let name = concat!("ghcr.io/callgate/callgate:", env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!([name]));
    let config = manifest[0]["Config"]
        .as_str()
        .context("the archive names no configuration")?;
    let config: Value =
        serde_json::from_str(&run(Command::new("tar").arg("-xOf").arg(&archive).arg(config))?)?;
    let image = Image::unpack()?;
    assert_eq!(config["rootfs"], image.config["rootfs"]);
    assert_eq!(config["config"], image.config["config"]);
    assert_eq!(config["architecture"], image.config["architecture"]);
    Ok(())
}

#[test]
fn the_bill_of_materials_names_every_crate_in_the_program_and_every_debian_package() -> Result<()> {
    let bill: Value = serde_json::from_slice(&fs::read(file("cdx.json")?)?)?;
    assert_eq!(bill["bomFormat"], "CycloneDX");
    let purl = concat!("pkg:cargo/callgate@", env!("CARGO_PKG_VERSION"));
    assert_eq!(bill["metadata"]["component"]["purl"], purl);
    let components = bill["components"].as_array().context("it has no components")?;
    let purls = components
        .iter()
        .map(|component| component["purl"].as_str().context("a component has no purl"))
        .collect::<Result<BTreeSet<_>>>()?;
    let tree = run(Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--package=callgate",
            "--edges=normal",
            "--prefix=none",
            "--format={p}",
        ])
        .arg(format!("--target={}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(repository()))?;
    for line in tree.lines().filter(|line| !line.starts_with("callgate ")) {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let version = words
            .next()
            .and_then(|word| word.strip_prefix('v'))
            .unwrap_or_default();
        // Macros run at build time and are not in the program.
        let purl = format!("pkg:cargo/{name}@{version}");
        assert!(
            line.contains("(proc-macro)") || purls.contains(purl.as_str()),
            "{purl} is missing"
        );
    }
    for package in ["libc6", "libgcc-s1", "libseccomp2"] {
        let known = purls
            .iter()
            .any(|purl| purl.starts_with(&format!("pkg:deb/debian/{package}@")));
        assert!(known, "{package} is missing in {purls:?}");
    }
    Ok(())
}

#[tokio::test]
async fn as_pods_run_them_the_agent_installs_a_profile_the_controller_sees_it_and_both_end_on_sigterm()
-> Result<()> {
    let image = Image::unpack()?;
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    cluster.namespace("shop").await?;
    let folder = TempDir::new()?;
    let seccomp = folder.path().join("seccomp");
    fs::create_dir(&seccomp)?;

    let token = cluster.agent_token("north").await?;
    let account = account(&cluster, &folder.path().join("agent-account"), &token)?;
    let [agent_port, controller_port] = [harness::free_port()?, harness::free_port()?];
    let hosts = hosts(folder.path())?;
    let mut env = environment(&cluster, agent_port)?;
    env.push(("NODE_NAME", "north".to_owned()));
    let mut agent = Container::start(
        folder.path(),
        &image,
        &Pod {
            name: "agent",
            // The directory is root's.
            uid: Some(0),
            args: &["agent"],
            env: &env,
            volumes: &[
                (&account, ACCOUNT, false),
                (&hosts, "/etc/hosts", false),
                (&seccomp, "/var/lib/kubelet/seccomp", true),
            ],
        },
    )?;

    let token = cluster.controller_token("1").await?;
    let account = self::account(&cluster, &folder.path().join("controller-account"), &token)?;
    let mut env = environment(&cluster, controller_port)?;
    env.push(("POD_NAMESPACE", NAMESPACE.to_owned()));
    env.push(("POD_NAME", format!("{CONTROLLER_SERVICE_ACCOUNT}-1")));
    let mut controller = Container::start(
        folder.path(),
        &image,
        &Pod {
            name: "controller",
            uid: None,
            args: &["controller"],
            env: &env,
            volumes: &[(&account, ACCOUNT, false), (&hosts, "/etc/hosts", false)],
        },
    )?;

    cluster.kubectl(&["create", "-f", "-"], PROFILE).await?.ok()?;
    eventually("the profile to be ready", async || {
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status} {.status.digest}";
        let ready = cluster
            .kubectl(&["get", "scp", "--namespace=shop", "web", "-o", ready], "")
            .await?
            .ok()?;
        let installed = fs::read(seccomp.join("callgate/shop/web.json"))?;
        let digest = format!("True {}", Digest::of(&installed));
        ensure!(
            ready == digest,
            "the status says {ready}, and the file is {digest}"
        );
        Ok(())
    })
    .await?;
    let synced = "jsonpath={.conditions[?(@.type=='Synced')].status}";
    let synced = cluster
        .kubectl(&["get", "seccompnode", "north", "-o", synced], "")
        .await?
        .ok()?;
    assert_eq!(synced, "True");
    for (container, uid) in [(&mut agent, 0), (&mut controller, USER)] {
        let status = container.status()?;
        for expected in [
            "Name:\tcallgate".to_owned(),
            format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}"),
            "CapPrm:\t0000000000000000".to_owned(),
            "CapBnd:\t0000000000000000".to_owned(),
            "NoNewPrivs:\t1".to_owned(),
            "Seccomp:\t2".to_owned(),
        ] {
            assert!(
                status.lines().any(|line| line == expected),
                "not {expected}:\n{status}"
            );
        }
    }
    agent.terminate().await.context("the agent")?;
    controller.terminate().await.context("the controller")
}

#[tokio::test]
async fn the_program_in_the_image_is_of_the_version_that_its_label_says() -> Result<()> {
    let image = Image::unpack()?;
    let folder = TempDir::new()?;
    let pod = Pod {
        name: "version",
        uid: None,
        args: &["--version"],
        env: &[],
        volumes: &[],
    };
    let said = Container::start(folder.path(), &image, &pod)?.finish().await?;
    assert_eq!(
        said.trim(),
        format!("callgate {}", labels(&image.config)?["version"])
    );
    Ok(())
}

const PROFILE: &str = r#"{
  "apiVersion": "callgate.dev/v1alpha1",
  "kind": "SeccompProfile",
  "metadata": { "name": "web", "namespace": "shop" },
  "spec": {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{ "names": ["add_key"], "action": "SCMP_ACT_ERRNO" }]
  }
}"#;

/// Where a pod finds its `ServiceAccount`.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A name of the API server in its certificate. Some clusters give pods a name instead of an address.
const API_SERVER: &str = "kubernetes.default.svc";

/// Writes what the kubelet projects into a pod.
fn account(cluster: &Cluster, folder: &Path, token: &str) -> Result<PathBuf> {
    let kubeconfig = kubeconfig(cluster)?;
    let authority = kubeconfig["certificate-authority"]
        .as_str()
        .context("no certificate")?;
    fs::create_dir(folder)?;
    fs::write(folder.join("token"), token)?;
    fs::write(folder.join("ca.crt"), fs::read(authority)?)?;
    fs::write(folder.join("namespace"), NAMESPACE)?;
    Ok(folder.to_owned())
}

/// Writes the file of names that the kubelet mounts into a pod.
fn hosts(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("hosts");
    fs::write(&path, format!("127.0.0.1 localhost\n127.0.0.1 {API_SERVER}\n"))?;
    Ok(path)
}

/// Where a pod finds the API server, and where it answers here: ports are shared with everything on the machine.
fn environment(cluster: &Cluster, port: u16) -> Result<Vec<(&'static str, String)>> {
    let kubeconfig = kubeconfig(cluster)?;
    let server = kubeconfig["server"].as_str().context("no server")?;
    let (_, api_port) = server.rsplit_once(':').context("no port")?;
    Ok(vec![
        ("KUBERNETES_SERVICE_HOST", API_SERVER.to_owned()),
        ("KUBERNETES_SERVICE_PORT", api_port.to_owned()),
        ("CALLGATE_LISTEN", format!("{}:{port}", Ipv4Addr::LOCALHOST)),
    ])
}

/// The cluster part of the admin's kubeconfig.
fn kubeconfig(cluster: &Cluster) -> Result<Value> {
    let kubeconfig: Value = serde_json::from_slice(&fs::read(cluster.kubeconfig())?)?;
    Ok(kubeconfig["clusters"][0]["cluster"].clone())
}
