//! From nothing to everything.

use std::time::Instant;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use harness::Memory;

use crate::fleet::{Fleet, IN_FLIGHT};
use crate::report::{Report, Scene, Spread, mebibytes};
use crate::usage::{Usage, float};

const MIB: u64 = 1 << 20;
/// The profiles that the budget of an agent's memory speaks of.
const BUDGETED: usize = 100;

/// The memory of one agent in a process of its own, fork server included: with no profile, and with a hundred. The budget is
/// for these two. No other node is there yet; [`start`] tells it again among all.
pub(crate) async fn footprint(report: &mut Report, fleet: &mut Fleet) -> Result<()> {
    anstream::eprintln!("  One agent as a process");
    fleet.start_process().await?;
    let agent = fleet.process.as_mut().context("the agent runs")?;
    agent.ready().await?;
    fleet.observer.quiet().await?;
    let idle = memory(fleet)?;
    fleet.create_up_to(BUDGETED).await?;
    let reports = |view: &crate::observe::View| {
        let report = view.reports.values().next();
        report.map_or(0, |report| report.spec.profiles.len())
    };
    fleet
        .observer
        .until("profiles are on one node", BUDGETED, reports)
        .await?;
    fleet.observer.quiet().await?;
    let full = memory(fleet)?;
    report.soft(
        "memory of an agent, no profile",
        "≤ 12 MiB",
        mebibytes(idle),
        idle <= 12 * MIB,
    );
    report.soft(
        &format!("memory of an agent, {BUDGETED} profiles"),
        "≤ 16 MiB",
        mebibytes(full),
        full <= 16 * MIB,
    );
    let agent = fleet.process.take().context("the agent runs")?;
    agent.terminate().await?;
    std::fs::remove_dir_all(fleet.process_root())?;
    std::fs::create_dir(fleet.process_root())?;
    Ok(())
}

fn memory(fleet: &mut Fleet) -> Result<u64> {
    let agent = fleet.process.as_mut().context("the agent runs")?;
    Ok(Memory::of(agent.process().id())?.bytes())
}

/// Controller and agents start at once, with every node and every profile there.
pub(crate) async fn start(
    report: &mut Report,
    fleet: &mut Fleet,
    nodes: usize,
    profiles: usize,
) -> Result<()> {
    anstream::eprintln!("  Making {nodes} nodes and {profiles} profiles");
    fleet.join("node", nodes - 1).await?;
    fleet.create_up_to(profiles).await?;
    fleet.delete_down_to(profiles).await?;
    let memory_before = Usage::of_agents()?.memory;
    anstream::eprintln!("  Cold start");
    let before = fleet.begin().await?;
    let began = Instant::now();
    fleet.controller = Some(fleet.controller("1").await?);
    fleet.start_process().await?;
    let (cluster, prover) = (&fleet.cluster, &fleet.prover);
    stream::iter(&mut fleet.agents)
        .map(|agent| agent.start(cluster, prover))
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<()>()
        .await?;
    // One too many counts against a node as one too few.
    let installed = |view: &crate::observe::View| {
        let live = view.reports.values().map(|report| report.spec.profiles.len());
        live.map(|live| profiles.saturating_sub(profiles.abs_diff(live)))
            .sum()
    };
    fleet
        .observer
        .until("profiles that nodes have", nodes * profiles, installed)
        .await?;
    let names = fleet.names();
    fleet
        .observer
        .until("profiles are Ready", profiles, |view| {
            view.ready_as_they_are(&names)
        })
        .await?;
    let done = began.elapsed().as_secs_f64();
    let costs = fleet.end(&before).await?;
    let reported = {
        let view = fleet.observer.view();
        let ready = names.iter().filter_map(|name| view.ready.get(name));
        Spread::of(ready.map(|(_, at)| (*at - began).as_secs_f64()).collect())
    };
    let agents = Usage::of_agents()?.memory.saturating_sub(memory_before);
    let each = agents / fleet.agents.len() as u64;
    report.fact("memory of an agent that shares this process", mebibytes(each));
    let one = memory(fleet)?;
    report.fact(
        &format!("memory of an agent, {profiles} profiles, after the cold start of {nodes} nodes"),
        mebibytes(one),
    );
    report.figure("memory of an agent as a process, bytes", float(one));
    report.figure("cold start, all Ready and reported by every node, s", done);
    report.figure("cold start, API server, s of processor", costs.apiserver);
    report.figure("cold start, etcd bytes", float(costs.etcd_bytes));
    report.figure("memory of an agent that shares this process, bytes", float(each));
    report.scene(Scene {
        name: "cold start (times: profiles Ready; done: and reported by every node)".to_owned(),
        disk: None,
        reported,
        done: Some(done),
        costs,
    });
    Ok(())
}
