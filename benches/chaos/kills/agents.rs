//! Agents on a real API server, killed while they carry out a change.

use std::time::Duration;

use anyhow::{Context as _, Result};
use callgate::api::SeccompProfile;
use harness::{Cluster, Program, eventually};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use serde_json::json;

use super::Count;
use crate::callgate;
use crate::insist::{self, insist};
use crate::install::Change;
use crate::report::Outcome;
use crate::trace::traced;
use crate::tree::Tree;
use crate::versions::{self, Versions};

const NODE: &str = "node-1";
/// Files go as soon as they are not wanted.
const GRACE: &str = "0s";
/// Calls of the store's alone. An agent's blocking threads share its work, and each counts for itself.
const CALLS: [&str; 5] = ["openat2", "fchmod", "fsync", "renameat", "unlinkat"];
/// How long an agent may have done nothing before it is killed, since the chosen call does not come.
const PATIENCE: Duration = Duration::from_secs(2);
/// After how long it is killed, whatever it has done: a slow machine is no violation.
const DEADLINE: Duration = Duration::from_secs(20);

/// Until when an agent is killed at a random time: after a change that it hears of while it runs, and after its start. Most
/// have not done everything by then.
const CHANGED: Duration = Duration::from_millis(100);
const STARTED: Duration = Duration::from_millis(400);

pub(super) async fn run(kills: u32, outcome: &mut Outcome, random: &mut fastrand::Rng) -> Result<()> {
    if kills == 0 {
        return Ok(());
    }
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    for namespace in ["shop", "bank", "x"] {
        cluster.namespace(namespace).await?;
    }
    let root = cluster.directory().join("seccomp");
    std::fs::create_dir(&root)?;
    let token = cluster.agent_token(NODE).await?;
    let kubeconfig = cluster.kubeconfig_for(&token)?;
    let log = cluster.directory().join("strace.log");
    let client = cluster.admin().await?;

    let mut installed = Versions::new();
    let mut count = Count::of(kills);
    while !count.is_reached()? {
        let change = Change::random(&installed, random);
        // Half of the changes are there when the agent starts, and half come while it runs.
        let is_running = random.bool();
        let at_call = random.u8(..3) > 0;
        let kill = random.choice(CALLS).map(|call| (call, random.usize(..6)));
        let command = if at_call {
            traced(callgate(), &log, kill)
        } else {
            std::process::Command::new(callgate())
        };
        if !is_running {
            apply(&client, &change).await?;
        }
        let mut agent = cluster.start_agent_with(command, NODE, &kubeconfig, &root, GRACE)?;
        if is_running {
            wait(&mut agent, |agent| agent.get("/readyz").is_ok()).await?;
            apply(&client, &change).await?;
        }
        let settled = || Ok::<_, anyhow::Error>(Tree::read(&root)?.unsettled(&change.after)?.is_empty());
        let (state, when, counted);
        if at_call {
            let mut idle = std::time::Instant::now();
            state = wait(&mut agent, |_| {
                if !settled().unwrap_or(false) {
                    idle = std::time::Instant::now();
                }
                idle.elapsed() > PATIENCE
            })
            .await?;
            when = format!("agent, {change:?}, killed before {kill:?}");
            counted = match state {
                State::Runs => "kills of agents that had not done everything in time",
                State::Killed | State::Ended => "kills of agents at a chosen call",
            };
        } else {
            let latest = if is_running { CHANGED } else { STARTED };
            let after = Duration::from_micros(random.u64(..u64::try_from(latest.as_micros())?));
            tokio::time::sleep(after).await;
            state = State::of(&mut agent)?;
            when = format!("agent, {change:?}, killed after {after:?}");
            counted = "kills of agents at a random time";
        }
        let is_done = state == State::Runs && settled().unwrap_or(false);
        if state == State::Ended {
            outcome.violations(&when, ended(&mut agent));
        } else if is_done {
            outcome.count("beside them: agents killed once they had done everything", 1);
        } else {
            outcome.count(counted, 1);
        }
        drop(agent); // which kills it
        outcome.violations(&when, Tree::read(&root)?.torn(&change.before, &change.after)?);

        let mut agent = cluster.start_agent(callgate(), NODE, &root, GRACE).await?;
        agent.ready().await.context("the next start of the agent")?;
        let settled = eventually("the next agent to mend everything", async || {
            let found = Tree::read(&root)?.unsettled(&change.after)?;
            anyhow::ensure!(found.is_empty(), "{found:?}");
            Ok(())
        })
        .await;
        if let Err(error) = settled {
            outcome.violations(&when, [format!("{error:#}")]);
            // The next round begins with what is there.
            return Ok(());
        }
        outcome.violations(&when, ended(&mut agent));
        installed = change.after;
        if count.add(state != State::Ended && !is_done) {
            outcome.progress(count.killed.into(), kills.into());
        }
    }
    Ok(())
}

/// Of an agent that is to be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Runs,
    Killed,
    /// By itself, which no agent may do.
    Ended,
}

impl State {
    /// Leaves the process to be waited for.
    fn of(agent: &mut Program) -> Result<Self> {
        let id = i32::try_from(agent.process().id())?;
        let id = Pid::from_raw(id).context("no process has the number 0")?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(id), options).context("cannot ask for the state of an agent")?;
        Ok(match status {
            None => Self::Runs,
            Some(status) if status.terminating_signal() == Some(Signal::KILL.as_raw()) => Self::Killed,
            Some(_) => Self::Ended,
        })
    }
}

/// How an agent ended that nobody killed, if it did, with the end of its log.
fn ended(agent: &mut Program) -> Option<String> {
    let error = agent.process().running().err()?;
    Some(format!("it ended by itself: {error:#}"))
}

/// Waits until the process has ended, or this is so, or the time is over. What has become of it.
async fn wait(agent: &mut Program, mut until: impl FnMut(&mut Program) -> bool) -> Result<State> {
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        let state = State::of(agent)?;
        if state != State::Runs || until(agent) || std::time::Instant::now() > deadline {
            return Ok(state);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes the API server's profiles those after the change.
async fn apply(client: &kube::Client, change: &Change) -> Result<()> {
    let api = |name: &str| -> Result<(Api<DynamicObject>, String)> {
        let (namespace, name) = name.split_once('/').context("a name without namespace")?;
        let resource = ApiResource::erase::<SeccompProfile>(&());
        Ok((
            Api::namespaced_with(client.clone(), namespace, &resource),
            name.to_owned(),
        ))
    };
    for (profile, version) in &change.after {
        if change.before.get(profile) == Some(version) {
            continue;
        }
        let (api, name) = api(profile)?;
        let object = json!({
            "apiVersion": "callgate.dev/v1alpha1",
            "kind": "SeccompProfile",
            "metadata": { "name": name },
            "spec": versions::spec(*version)?,
        });
        let (parameters, patch) = (PatchParams::apply("chaos").force(), Patch::Apply(&object));
        insist(async || api.patch(&name, &parameters, &patch).await).await?;
    }
    for profile in change
        .before
        .keys()
        .filter(|name| !change.after.contains_key(*name))
    {
        let (api, name) = api(profile)?;
        insist::delete(&api, &name).await?;
    }
    Ok(())
}
