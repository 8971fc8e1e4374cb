//! What the API server takes for the bare writes that a change cannot do without.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use callgate::api::{LiveSet, SeccompNode};
use callgate::profile::{Digest, ProfileName};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};

use crate::fleet::{Fleet, IN_FLIGHT, NAMESPACE};
use crate::report::{Report, Scene};
use crate::usage::float;

const ROUNDS: u32 = 3;
/// When to write again.
const AGAIN: Duration = Duration::from_secs(1);

/// Every node's report is written once, as its agent would, while no agent and no controller is there.
pub(crate) async fn bare_writes(report: &mut Report, fleet: &mut Fleet) -> Result<()> {
    fleet.stop().await?;
    let mut writers = Vec::new();
    for agent in &fleet.agents {
        let client = agent.client(&fleet.cluster).await?;
        // Its connection is made before anything is counted.
        client.apiserver_version().await?;
        writers.push((agent.node.clone(), client));
    }
    let mut costs = crate::costs::Costs::default();
    let mut seconds = 0.0;
    for round in 0..ROUNDS {
        let objects: Vec<_> = writers
            .iter()
            .map(|(node, client)| Ok((client.clone(), changed(fleet, node, round)?)))
            .collect::<Result<_>>()?;
        let before = fleet.begin().await?;
        let began = Instant::now();
        stream::iter(objects)
            .map(async |(client, object)| write(client, object).await)
            .buffer_unordered(4 * IN_FLIGHT)
            .try_collect::<()>()
            .await?;
        seconds += began.elapsed().as_secs_f64() / f64::from(ROUNDS);
        costs = costs.plus(fleet.end(&before).await?);
    }
    let mut costs = costs.divided(ROUNDS);
    costs.controller_peak = 0;
    let name = "update, API server, s of processor";
    if let Some(change) = report.figures.0.get(name).copied() {
        let floor = costs.apiserver * float(fleet.nodes() as u64 + 1) / float(writers.len() as u64);
        let ratio = change / floor;
        report.soft(
            "processor time of the API server for one update, of that for N bare writes",
            "≤ 1.2",
            format!("{ratio:.2} ({change:.2} s of {floor:.2} s)"),
            ratio <= 1.2,
        );
        report.figure("update, API server, of the floor", ratio);
    }
    report.scene(Scene {
        name: format!("{} bare writes of reports (of {ROUNDS})", writers.len()),
        disk: None,
        reported: None,
        done: Some(seconds),
        costs,
    });
    Ok(())
}

/// The report of a node with one profile more, as its agent writes it.
fn changed(fleet: &Fleet, node: &str, round: u32) -> Result<SeccompNode> {
    let held = fleet.observer.view().reports.get(node).cloned();
    let held = held.with_context(|| format!("node {node} has no report"))?;
    let mut object = SeccompNode {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            owner_references: held.metadata.owner_references,
            ..ObjectMeta::default()
        },
        spec: held.spec,
    };
    // As many entries as there are profiles; which ones is all the same to the API server.
    let digest = Digest::of(&round.to_le_bytes());
    let names = (0..=fleet.profiles).map(|number| ProfileName::new(NAMESPACE, format!("floor-{number}")));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    object.spec.profiles = names.iter().map(|name| (name, &digest)).collect::<LiveSet>();
    Ok(object)
}

/// Again where the API server has no time for it, as the agent does.
async fn write(client: Client, object: SeccompNode) -> Result<()> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let reports = Api::<SeccompNode>::all(client);
    loop {
        match reports
            .patch(&name, &PatchParams::default(), &Patch::Merge(&object))
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 429 => tokio::time::sleep(AGAIN).await,
            outcome => return outcome.map(drop).map_err(Into::into),
        }
    }
}
