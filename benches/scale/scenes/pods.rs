//! Pods that use profiles start and end, as short jobs do.

use std::time::Instant;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::fleet::{Fleet, IN_FLIGHT, NAMESPACE, name};
use crate::report::{Report, Scene, Spread};
use crate::usage::float;

/// Different profiles that the pods of one node use.
const KINDS: usize = 3;

/// Each node's pods follow one another, with one of a few profiles each. They carry a label of a Job's pods, as most pods
/// of a cluster carry one that controllers set: for those that carry none the API server works the chart's warning out
/// once for each profile of the namespace, which is not measured here.
pub(crate) async fn come_and_go(report: &mut Report, fleet: &mut Fleet, pods: usize) -> Result<()> {
    let nodes: Vec<&str> = fleet.agents.iter().map(|agent| agent.node.as_str()).collect();
    let (each, profiles) = ((pods / nodes.len()).max(1), fleet.profiles);
    let nodes: Vec<String> = nodes.into_iter().map(str::to_owned).collect();
    let before = fleet.begin().await?;
    let began = Instant::now();
    let api = Api::<Pod>::namespaced(fleet.admin.clone(), NAMESPACE);
    let api = &api;
    let works = nodes.iter().enumerate().map(|(number, node)| async move {
        let mut times = Vec::with_capacity(each);
        for job in 0..each {
            let profile = name((number + job % KINDS) % profiles);
            let began = Instant::now();
            start_and_end(api, node, &format!("job-{number}-{job}"), &profile).await?;
            times.push(began.elapsed().as_secs_f64());
        }
        anyhow::Ok(times)
    });
    let times: Vec<Vec<f64>> = stream::iter(works)
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    let done = began.elapsed().as_secs_f64();
    // What is no longer used stays in the report for a minute.
    let unused = |view: &crate::observe::View| {
        let reports = view.reports.values();
        reports.filter(|report| report.spec.in_use.is_empty()).count()
    };
    let all = fleet.nodes();
    fleet.observer.until("no profile is in use", all, unused).await?;
    let costs = fleet.end(&before).await?;
    let count = each * nodes.len();
    let writes = costs.report_writes();
    report.no_profile_writes(&format!("{count} pods start and end"), &costs);
    // One when a node's first pod of a kind starts, and one when nothing of the kind has run for a minute.
    let most = 2 * KINDS.min(each) * nodes.len();
    report.soft(
        &format!("report writes for {count} pods"),
        &format!("≤ {most}, two for each profile of a node"),
        format!(
            "{writes}, {:.2} for each pod",
            float(writes) / float(count as u64)
        ),
        writes <= most as u64,
    );
    report.scene(Scene {
        name: format!("{count} pods start and end (times: of each)"),
        disk: None,
        reported: Spread::of(times.concat()),
        done: Some(done),
        costs,
    });
    Ok(())
}

/// As a Job, the scheduler and the kubelet would.
async fn start_and_end(pods: &Api<Pod>, node: &str, name: &str, profile: &str) -> Result<()> {
    let profile = format!("callgate/{NAMESPACE}/{profile}.json");
    let pod: Pod = serde_json::from_value(json!({
        // Of the labels that the Job controller sets, the one that tells its pods from those that people make.
        "metadata": { "name": name, "labels": { "batch.kubernetes.io/controller-uid": name } },
        "spec": {
            "nodeName": node,
            "securityContext": {
                "seccompProfile": { "type": "Localhost", "localhostProfile": profile },
            },
            "containers": [{ "name": "job", "image": "job" }],
        },
    }))?;
    let created = pods.create(&PostParams::default(), &pod).await;
    created.with_context(|| format!("cannot create pod {name}"))?;
    for phase in ["Running", "Succeeded"] {
        let patch = Patch::Merge(json!({ "status": { "phase": phase } }));
        pods.patch_status(name, &PatchParams::default(), &patch).await?;
    }
    Fleet::delete(pods, name).await
}
