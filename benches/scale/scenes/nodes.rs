//! Nodes that are lost, return and join; and a rolling restart of their agents.

use std::time::Instant;

use anyhow::{Context as _, Result};
use callgate::api::SeccompNode;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::Api;

use crate::agent::Agent;
use crate::fleet::{Fleet, IN_FLIGHT};
use crate::report::{Report, Scene, Spread};

/// One node of ten.
const SHARE: usize = 10;

pub(crate) async fn come_and_go(report: &mut Report, fleet: &mut Fleet) -> Result<()> {
    let count = (fleet.nodes() / SHARE).max(1);
    fleet.calm().await?;

    // Their kubelets no longer answer, so their pods are no longer ready; what runs there ends.
    let before = fleet.begin().await?;
    let lost = fleet.agents.split_off(fleet.agents.len() - count);
    let (lost, _) = each(lost, async |agent: &mut Agent| {
        fleet.set_ready(&agent.node, false).await?;
        agent.stop().await
    })
    .await?;
    let costs = fleet.end(&before).await?;
    report.no_profile_writes(&format!("{count} nodes lost"), &costs);
    report.scene(scene(format!("{count} nodes lost"), vec![], None, costs));

    let before = fleet.begin().await?;
    let began = Instant::now();
    let (mut returned, times) = each(lost, async |agent: &mut Agent| {
        let seconds = seconds_to_ready(fleet, agent).await?;
        fleet.set_ready(&agent.node, true).await?;
        Ok(seconds)
    })
    .await?;
    let done = began.elapsed().as_secs_f64();
    fleet.agents.append(&mut returned);
    let costs = fleet.end(&before).await?;
    report.no_profile_writes(&format!("{count} nodes return"), &costs);
    report.scene(scene(
        format!("{count} nodes return (times: until ready)"),
        times,
        Some(done),
        costs,
    ));

    let before = fleet.begin().await?;
    let stayed = fleet.agents.len();
    fleet.join("joined", count).await?;
    let joined = fleet.agents.split_off(stayed);
    let began = Instant::now();
    let (joined, times) = each(joined, async |agent: &mut Agent| {
        seconds_to_ready(fleet, agent).await
    })
    .await?;
    let profiles = fleet.profiles;
    let everything = |view: &crate::observe::View| {
        let reports = joined.iter().filter_map(|agent| view.reports.get(&agent.node));
        reports
            .filter(|report| report.spec.profiles.len() == profiles)
            .count()
    };
    fleet
        .observer
        .until("new nodes have every profile", count, everything)
        .await?;
    let done = began.elapsed().as_secs_f64();
    let costs = fleet.end(&before).await?;
    report.no_profile_writes(&format!("{count} nodes join"), &costs);
    report.scene(scene(
        format!("{count} nodes join (times: until ready)"),
        times,
        Some(done),
        costs,
    ));

    // They go for good, objects and all; nothing collects what they owned here.
    let before = fleet.begin().await?;
    let client = &fleet.admin;
    each(joined, async |agent: &mut Agent| {
        agent.stop().await?;
        let pod = format!("{}-{}", harness::AGENT_SERVICE_ACCOUNT, agent.node);
        Fleet::delete(&Api::<Pod>::namespaced(client.clone(), harness::NAMESPACE), &pod).await?;
        Fleet::delete(&Api::<Node>::all(client.clone()), &agent.node).await?;
        Fleet::delete(&Api::<SeccompNode>::all(client.clone()), &agent.node).await
    })
    .await?;
    let costs = fleet.end(&before).await?;
    report.no_profile_writes(&format!("{count} nodes removed"), &costs);
    report.scene(scene(format!("{count} nodes removed"), vec![], None, costs));
    Ok(())
}

/// A new version of the agent: one node of ten at a time.
pub(crate) async fn restart(report: &mut Report, fleet: &mut Fleet) -> Result<()> {
    let at_once = (fleet.nodes() / SHARE).max(1);
    let before = fleet.begin().await?;
    let began = Instant::now();
    let agents = std::mem::take(&mut fleet.agents);
    let fleet_now = &*fleet;
    let restarted: Vec<(Agent, f64)> = stream::iter(agents)
        .map(|mut agent| async move {
            fleet_now.set_ready(&agent.node, false).await?;
            agent.stop().await?;
            let seconds = seconds_to_ready(fleet_now, &mut agent).await?;
            fleet_now.set_ready(&agent.node, true).await?;
            anyhow::Ok((agent, seconds))
        })
        .buffer_unordered(at_once)
        .try_collect()
        .await?;
    let done = began.elapsed().as_secs_f64();
    let (agents, times): (Vec<_>, Vec<_>) = restarted.into_iter().unzip();
    fleet.agents = agents;
    let costs = fleet.end(&before).await?;
    report.no_profile_writes("every agent restarts", &costs);
    let name = format!("every agent restarts, {at_once} at a time (times: until ready)");
    report.scene(scene(name, times, Some(done), costs));
    Ok(())
}

/// Starts the agent of a node; after how long it is ready.
async fn seconds_to_ready(fleet: &Fleet, agent: &mut Agent) -> Result<f64> {
    let started = Instant::now();
    agent.start(&fleet.cluster, &fleet.prover).await?;
    agent.ready().await?;
    Ok(started.elapsed().as_secs_f64())
}

fn scene(name: String, times: Vec<f64>, done: Option<f64>, costs: crate::costs::Costs) -> Scene {
    Scene {
        name,
        disk: None,
        reported: Spread::of(times),
        done,
        costs,
    }
}

/// Does something to each of these, several at a time. They come back with what it gave.
async fn each<T>(
    agents: Vec<Agent>,
    act: impl AsyncFn(&mut Agent) -> Result<T>,
) -> Result<(Vec<Agent>, Vec<T>)> {
    let act = &act;
    let done: Vec<(Agent, T)> = stream::iter(agents)
        .map(|mut agent| async move {
            let given = act(&mut agent).await;
            let given = given.with_context(|| format!("node {}", agent.node))?;
            anyhow::Ok((agent, given))
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    Ok(done.into_iter().unzip())
}
