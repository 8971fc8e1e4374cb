//! Clocks that jump, as those of machines that slept or that find a time server late.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use callgate::profile::Digest;
use harness::{CONTROLLER_SERVICE_ACCOUNT, Cluster, NAMESPACE, Program, eventually};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::lease;

const CALLGATE: &str = env!("CARGO_BIN_EXE_callgate");

/// What is in the place of the calls that ask for the time, from Debian's libfaketime; the dynamic linker knows where.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// The clock of processes, ahead of the true one. It is never behind: tokens and certificates are of now.
struct Clock {
    directory: PathBuf,
}

impl Clock {
    fn new(cluster: &Cluster, hours: u32) -> Result<Self> {
        let directory = cluster.directory().join("clock");
        fs::create_dir(&directory)?;
        let clock = Self { directory };
        clock.jump(hours)?;
        Ok(clock)
    }

    fn jump(&self, hours: u32) -> Result<()> {
        let new = self.directory.join("new");
        fs::write(&new, format!("+{hours}h\n"))?;
        Ok(fs::rename(new, self.directory.join("time"))?)
    }

    /// Starts a daemon with this clock. The one that only counts how long it runs stays true, as in a machine whose
    /// time is set.
    fn start(&self, cluster: &Cluster, token: &str, arguments: &[&str]) -> Result<Program> {
        let mut config: Value = serde_json::from_slice(&fs::read(cluster.kubeconfig_for(token)?)?)?;
        let name = arguments.first().context("it is an agent or a controller")?;
        // Where a token lies a daemon may read again, as few other places: the time lies beside it.
        let file = self.directory.join(format!("{name}.token"));
        fs::write(&file, token)?;
        config["users"][0]["user"] = json!({ "tokenFile": file });
        let kubeconfig = self.directory.join(format!("{name}.kubeconfig"));
        fs::write(&kubeconfig, config.to_string())?;
        let mut command = Command::new(CALLGATE);
        command
            .args(arguments)
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .env("LD_PRELOAD", LIBRARY)
            .env("FAKETIME_TIMESTAMP_FILE", self.directory.join("time"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        cluster.start_program(command, name)
    }
}

/// How many hours from now this is, to the nearest.
fn hours_from_now(time: Timestamp) -> i64 {
    let seconds = time.as_second() - Timestamp::now().as_second();
    (seconds + 1_800).div_euclid(3_600)
}

/// The time at the beginning of the last line of a log.
fn last_logged(log: &str) -> Result<Timestamp> {
    let line = log.lines().last().context("an empty log")?;
    let time = line.split_whitespace().next().context("an empty line")?;
    time.parse().with_context(|| format!("no time in {line}"))
}

fn no_mkdir(errno: u32) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }],
    })
}

async fn apply(cluster: &Cluster, name: &str, errno: u32) -> Result<()> {
    let profile = json!({
        "apiVersion": "callgate.dev/v1alpha1",
        "kind": "SeccompProfile",
        "metadata": { "namespace": "default", "name": name },
        "spec": no_mkdir(errno),
    });
    let apply = ["apply", "--server-side", "-f", "-"];
    cluster.kubectl(&apply, &profile.to_string()).await?.ok()?;
    Ok(())
}

/// Waits until the newest generation of a profile is Ready; returns its digest.
async fn ready(cluster: &Cluster, name: &str) -> Result<String> {
    eventually(&format!("{name} to be Ready"), async || {
        let get = ["get", "scp", name, "--namespace=default", "-o", "json"];
        let profile: Value = serde_json::from_str(&cluster.kubectl(&get, "").await?.ok()?)?;
        let conditions = profile["status"]["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .find(|one| one["type"] == "Ready");
        let ready = ready.context("it has no condition Ready")?;
        ensure!(
            ready["status"] == "True" && ready["observedGeneration"] == profile["metadata"]["generation"],
            "{ready}"
        );
        let digest = profile["status"]["digest"].as_str();
        Ok(digest.context("Ready, and no digest")?.to_owned())
    })
    .await
}

/// Waits until the Lease has been renewed by this clock.
async fn renewed(cluster: &Cluster, hours: u32) -> Result<()> {
    eventually("the Lease to be renewed at the new time", async || {
        let renewed = lease(cluster).await?.renew_time;
        let renewed = renewed.context("a Lease that nobody renewed")?.0;
        ensure!(hours_from_now(renewed) == i64::from(hours), "renewed {renewed}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_clock_that_jumps_changes_neither_files_nor_who_leads() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    let root = cluster.directory().join("seccomp");
    fs::create_dir(&root)?;
    let clock = Clock::new(&cluster, 12)?;
    let identity = format!("--identity={CONTROLLER_SERVICE_ACCOUNT}-1");
    let namespace = format!("--namespace={NAMESPACE}");
    let token = cluster.controller_token("1").await?;
    let mut leader = clock.start(&cluster, &token, &["controller", &namespace, &identity])?;
    leader.ready().await?;
    cluster.leads("1").await?;
    let mut standby = cluster.start_controller(Path::new(CALLGATE), "2").await?;
    standby.ready().await?;
    let root_is = format!("--seccomp-root={}", root.display());
    let token = cluster.agent_token("north").await?;
    let arguments = ["agent", "--node=north", &root_is, "--removal-grace=1h"];
    let mut agent = clock.start(&cluster, &token, &arguments)?;
    agent.ready().await?;
    let file = |name: &str| root.join(format!("callgate/default/{name}.json"));
    for name in ["steady", "deleted", "web"] {
        apply(&cluster, name, 70).await?;
        ready(&cluster, name).await?;
    }
    let steady = fs::metadata(file("steady"))?.ino();
    // Its grace is an hour that passes, and not one that a clock leaps over.
    let delete = ["delete", "scp", "deleted", "--namespace=default"];
    cluster.kubectl(&delete, "").await?.ok()?;

    for (errno, hours) in [(71, 36), (72, 0), (73, 24 * 365), (74, 1)] {
        clock.jump(hours)?;
        apply(&cluster, "web", errno).await?;
        let digest = ready(&cluster, "web").await?;
        assert_eq!(Digest::of(&fs::read(file("web"))?).to_string(), digest);
        assert_eq!(fs::metadata(file("steady"))?.ino(), steady, "after {hours} h");
        ensure!(file("deleted").exists(), "the grace was cut short by {hours} h");
        assert_eq!(
            hours_from_now(last_logged(&agent.process().log()?)?),
            i64::from(hours)
        );
        renewed(&cluster, hours).await?;
        cluster.leads("1").await?;
    }

    // The Lease was renewed in the future of the one who now looks whether it has run out.
    clock.jump(24)?;
    renewed(&cluster, 24).await?;
    drop(leader);
    cluster.leads("2").await?;
    apply(&cluster, "web", 75).await?;
    ready(&cluster, "web").await?;
    agent.terminate().await
}
