//! What a running agent and a running controller show: their metrics, what is built on these (dashboard, alerts,
//! runbooks, `docs/metrics.md`), and their logs.

mod exposed;
mod logs;
mod watched;

use std::path::Path;

use anyhow::{Result, ensure};
use harness::{Cluster, Program, eventually};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use exposed::Family;

/// The namespace of the profiles.
const TEAM: &str = "team";

/// A controller that leads and an agent that is ready, with a good and a bad profile.
struct System {
    cluster: Cluster,
    controller: Program,
    agent: Program,
}

impl System {
    /// One for the tests that only look.
    async fn shared() -> Result<&'static Self> {
        static SYSTEM: OnceCell<System> = OnceCell::const_new();
        SYSTEM.get_or_try_init(Self::start).await
    }

    async fn start() -> Result<Self> {
        let callgate = Path::new(env!("CARGO_BIN_EXE_callgate"));
        let cluster = Cluster::start().await?;
        cluster.install().await?;
        cluster.namespace(TEAM).await?;
        let root = cluster.directory().join("seccomp");
        std::fs::create_dir(&root)?;
        let mut controller = cluster.start_controller(callgate, "1").await?;
        let mut agent = cluster.start_agent(callgate, "north", &root, "1s").await?;
        controller.ready().await?;
        agent.ready().await?;
        let system = Self {
            cluster,
            controller,
            agent,
        };
        apply(&system.cluster, "good", &good(1)).await?;
        apply(&system.cluster, "bad", &bad()).await?;
        system.settled().await?;
        Ok(system)
    }

    /// Waits until both profiles have been dealt with on either side.
    async fn settled(&self) -> Result<()> {
        eventually("everything to be settled", async || {
            let (agent, controller) = (self.agent.get("/metrics")?, self.controller.get("/metrics")?);
            for line in [
                "callgate_agent_profiles{state=\"live\"} 1",
                "callgate_agent_profiles{state=\"failed\"} 1",
                "callgate_agent_profiles{state=\"pending\"} 0",
            ] {
                ensure!(agent.lines().any(|other| other == line), "{line} in {agent}");
            }
            for line in [
                "callgate_controller_profiles{valid=\"true\",ready=\"true\"} 1",
                "callgate_controller_profiles{valid=\"false\",ready=\"false\"} 1",
                "callgate_controller_nodes{state=\"reporting\"} 1",
                "callgate_controller_leader 1",
                "callgate_controller_events_total{result=\"ok\"} 2",
            ] {
                ensure!(
                    controller.lines().any(|other| other == line),
                    "{line} in {controller}"
                );
            }
            Ok(())
        })
        .await
    }

    fn agent_families(&self) -> Result<Vec<Family>> {
        exposed::parse(&self.agent.get("/metrics")?)
    }

    fn controller_families(&self) -> Result<Vec<Family>> {
        exposed::parse(&self.controller.get("/metrics")?)
    }
}

/// Applies a profile of the team.
async fn apply(cluster: &Cluster, name: &str, spec: &Value) -> Result<()> {
    let object = json!({
        "apiVersion": "callgate.dev/v1alpha1",
        "kind": "SeccompProfile",
        "metadata": { "name": name, "namespace": TEAM },
        "spec": spec,
    });
    let apply = ["apply", "--server-side", "-f", "-"];
    cluster.kubectl(&apply, &object.to_string()).await?.ok()?;
    Ok(())
}

fn good(errno: u16) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }],
    })
}

/// What only the fork server finds out.
fn bad() -> Value {
    let rule = |errno| {
        json!({ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
            "args": [{ "index": 0, "value": 38, "op": "SCMP_CMP_EQ" }] })
    };
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule(5), rule(6)] })
}
