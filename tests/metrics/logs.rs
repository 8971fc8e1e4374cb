//! What is logged.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use harness::{Cluster, NAMESPACE, Program, eventually};
use serde_json::Value;

use crate::{TEAM, apply, bad, good};

fn lines(program: &mut Program) -> Result<Vec<Value>> {
    let log = program.process().log()?;
    log.lines()
        .map(|line| {
            let parsed: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
            for key in ["timestamp", "level", "target", "message"] {
                ensure!(parsed[key].is_string(), "no {key}: {line}");
            }
            Ok(parsed)
        })
        .collect()
}

/// The lines with this message, which may go on.
fn saying<'a>(lines: &'a [Value], message: &str) -> Vec<&'a Value> {
    let says = |line: &&Value| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.starts_with(message))
    };
    lines.iter().filter(says).collect()
}

/// The one line with this message about this profile.
fn about<'a>(lines: &'a [Value], message: &str, profile: &str) -> Result<&'a Value> {
    let mut found = saying(lines, message);
    found.retain(|line| line["profile"] == format!("{TEAM}/{profile}"));
    ensure!(
        found.len() == 1,
        "{message:?} of {profile}: {found:?} in {lines:?}"
    );
    Ok(found[0])
}

/// How often the agent's loop has turned.
fn turns(agent: &Program) -> Result<u64> {
    let metrics = agent.get("/metrics")?;
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix("callgate_agent_syncs_total "));
    Ok(count.context("no syncs")?.parse()?)
}

/// A system that logs as JSON.
struct Logging {
    cluster: Cluster,
    root: PathBuf,
    controller: Program,
    agent: Program,
}

impl Logging {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start().await?;
        cluster.install().await?;
        cluster.namespace(TEAM).await?;
        let root = cluster.directory().join("seccomp");
        std::fs::create_dir(&root)?;
        let start = async |component: &str, token: String, more: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_callgate"));
            command
                .args([component, "--log-format=json"])
                .arg(format!(
                    "--kubeconfig={}",
                    cluster.kubeconfig_for(&token)?.display()
                ))
                .args(more);
            let mut program = cluster.start_program(command, component)?;
            program.ready().await?;
            anyhow::Ok(program)
        };
        let namespace = format!("--namespace={NAMESPACE}");
        let token = cluster.controller_token("1").await?;
        let controller = start("controller", token, &[&namespace, "--identity=one"]).await?;
        let directory = format!("--seccomp-root={}", root.display());
        let token = cluster.agent_token("north").await?;
        let agent = start(
            "agent",
            token,
            &["--node=north", &directory, "--removal-grace=0s"],
        )
        .await?;
        Ok(Self {
            cluster,
            root,
            controller,
            agent,
        })
    }

    /// One of each kind of change.
    async fn change(&self) -> Result<()> {
        apply(&self.cluster, "good", &good(1)).await?;
        apply(&self.cluster, "bad", &bad()).await?;
        apply(&self.cluster, "gone", &good(2)).await?;
        for (profile, condition) in [("good", "Ready"), ("gone", "Ready"), ("bad", "Stalled")] {
            let (profile, condition) = (
                format!("seccompprofile/{profile}"),
                format!("--for=condition={condition}"),
            );
            let wait = ["wait", "-n", TEAM, &profile, &condition, "--timeout=60s"];
            self.cluster.kubectl(&wait, "").await?.ok()?;
        }
        let delete = ["delete", "-n", TEAM, "seccompprofile", "gone"];
        self.cluster.kubectl(&delete, "").await?.ok()?;
        let file = |name: &str| self.root.join("callgate").join(TEAM).join(format!("{name}.json"));
        gone(&file("gone")).await?;
        let whole = std::fs::read(file("good"))?;
        std::fs::write(file("good"), "{}")?;
        eventually("the file to be back", async || {
            ensure!(std::fs::read(file("good"))? == whole);
            Ok(())
        })
        .await?;
        let stray = self.root.join("callgate/stray");
        std::fs::write(&stray, "")?;
        gone(&stray).await
    }

    /// What agent and controller have logged, after some turns of the agent's loop.
    async fn told(&mut self) -> Result<[Vec<Value>; 2]> {
        let before = turns(&self.agent)?;
        eventually("three turns", async || {
            ensure!(turns(&self.agent)? > before + 3);
            Ok(())
        })
        .await?;
        Ok([lines(&mut self.agent)?, lines(&mut self.controller)?])
    }
}

async fn gone(path: &Path) -> Result<()> {
    eventually("a file to be gone", async || {
        ensure!(!path.exists(), "{} is there", path.display());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn each_change_is_one_line_with_what_it_is_about_and_a_settled_system_is_silent() -> Result<()> {
    let mut system = Logging::start().await?;
    system.change().await?;
    let told = system.told().await?;
    // Loops turn and find nothing to say.
    let settled = system.told().await?;
    assert_eq!(settled, told);
    let [agent, controller] = settled;
    // Nothing but what is looked at below, so that a new line comes to be looked at.
    let known = [
        "directory opened",
        "every watch has shown what there is",
        "profile installed",
        "profile not installed: ",
        "profile removed",
        "ready: every profile was dealt with",
        "removed: not a file of Callgate",
        "somebody changed or removed",
        "shut in: ",
        "status written",
        "the agent starts",
        "the controller starts",
        "this replica leads",
    ];
    for line in agent.iter().chain(&controller) {
        let message = line["message"].as_str().unwrap_or_default();
        assert!(known.iter().any(|known| message.starts_with(known)), "{line}");
    }
    let digest = says_what_it_did(&agent)?;
    says_what_it_wrote(&controller, &digest)
}

/// The agent. The digest of the good profile.
fn says_what_it_did(agent: &[Value]) -> Result<Value> {
    let started = saying(agent, "the agent starts");
    assert_eq!((started.len(), &started[0]["node"]), (1, &Value::from("north")));
    let installed = about(agent, "profile installed", "good")?;
    assert_eq!(installed["level"], "INFO");
    let digest = installed["digest"].as_str().context("no digest")?;
    assert!(digest.starts_with("sha256:"), "{digest}");
    let refused = about(agent, "profile not installed: ", "bad")?;
    assert_eq!(
        (&refused["level"], &refused["reason"]),
        (&"WARN".into(), &"Contradiction".into())
    );
    assert_eq!(refused["generation"], 1);
    assert!(
        refused["digest"].is_string() && refused["live"].is_null(),
        "{refused}"
    );
    about(agent, "profile removed", "gone")?;
    let restored = about(agent, "somebody changed or removed", "good")?;
    assert_eq!(restored["level"], "WARN");
    let stray = saying(agent, "removed: not a file of Callgate");
    let path = stray[0]["path"].as_str().context("no path")?;
    assert!(path.ends_with("stray"), "{path}");
    Ok(installed["digest"].clone())
}

/// The controller.
fn says_what_it_wrote(controller: &[Value], digest: &Value) -> Result<()> {
    assert_eq!(saying(controller, "the controller starts")[0]["identity"], "one");
    assert_eq!(saying(controller, "this replica leads").len(), 1);
    let last = |profile: &str| {
        let mut written = saying(controller, "status written");
        written.retain(|line| line["profile"] == format!("{TEAM}/{profile}"));
        written.pop().with_context(|| format!("nothing of {profile}"))
    };
    let good = last("good")?;
    assert_eq!(
        (&good["valid"], &good["ready"]),
        (&"Proven".into(), &"Installed".into())
    );
    assert_eq!(good["digest"], *digest);
    let bad = last("bad")?;
    assert_eq!(
        (&bad["valid"], &bad["ready"]),
        (&"Contradiction".into(), &"Invalid".into())
    );
    Ok(())
}
