//! Profiles that are created, changed and deleted, and what that costs on all nodes.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use crate::agent::GRACE;
use crate::costs::Costs;
use crate::fleet::{Fleet, IN_FLIGHT, key, name};
use crate::report::{Report, Scene, Spread};
use crate::usage::float;

/// How often one profile is created, changed and deleted.
const ROUNDS: u32 = 3;
/// Changes at once.
const BURST: usize = 100;
/// Report writes that each of a hundred changes may cost each node.
const WRITES: f64 = 0.1;
/// What no slow machine excuses, in a burst of any size: 0.10 to 0.13 were seen of twenty changes. A report for each change
/// would be 1.
const WRITES_AT_MOST: f64 = 0.5;
/// Of fewer changes than these, a few reports say nothing.
const FEWEST: usize = 10;

/// Times and costs of one change, or of several that are one to the reader.
#[derive(Default)]
struct Change {
    disk: Vec<f64>,
    reported: Vec<f64>,
    ready: Option<f64>,
    costs: Costs,
}

/// One profile, created, changed and deleted again.
pub(crate) async fn one(report: &mut Report, fleet: &mut Fleet) -> Result<()> {
    let (mut created, mut updated, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let spec = fleet.version().await?;
        created.push(change(fleet, &[("one".to_owned(), spec)]).await?);
        let spec = fleet.version().await?;
        updated.push(change(fleet, &[("one".to_owned(), spec.clone())]).await?);
        deleted.push(delete(fleet, "one", &spec).await?);
    }
    let nodes = fleet.nodes();
    let limit = nodes as u64 + 3;
    let mut slowest: f64 = 0.0;
    for (what, changes) in [("created", created), ("updated", updated), ("deleted", deleted)] {
        let most = changes.iter().map(|change| change.costs.callgate_writes()).max();
        let most = most.unwrap_or_default();
        report.writes(
            &format!("API writes of one profile {what}"),
            &format!("≤ N + 3 = {limit}"),
            most,
            limit,
        );
        let scene = summary(&format!("one profile {what}"), changes);
        let last = scene.reported.map_or(0.0, |reported| reported.last);
        let grace = if what == "deleted" {
            GRACE.as_secs_f64()
        } else {
            0.0
        };
        slowest = slowest.max(last - grace).max(scene.done.unwrap_or_default());
        if what == "updated" {
            let costs = &scene.costs;
            report.figure("update, last node, s", last);
            report.figure("update, Ready, s", scene.done.unwrap_or_default());
            report.figure("update, API writes", float(costs.callgate_writes()));
            report.figure("update, watch events", float(costs.watch_events));
            report.figure("update, etcd bytes", float(costs.etcd_bytes));
            report.figure("update, API server, s of processor", costs.apiserver);
            report.figure("update, controller, s of processor", costs.controller);
            report.figure("update, all agents, s of processor", costs.agents);
        }
        report.scene(scene);
    }
    report.soft(
        "one profile's change everywhere and Ready, the slowest",
        "≤ 5 s at N = 1,000",
        format!("{slowest:.2} s"),
        slowest <= 5.0,
    );
    Ok(())
}

fn summary(name: &str, changes: Vec<Change>) -> Scene {
    let mut all = Change::default();
    let rounds = changes.len();
    for change in changes {
        all.disk.extend(change.disk);
        all.reported.extend(change.reported);
        all.ready = all.ready.max_of(change.ready);
        all.costs = all.costs.plus(change.costs);
    }
    Scene {
        name: format!("{name} (of {rounds})"),
        disk: Spread::of(all.disk),
        reported: Spread::of(all.reported),
        done: all.ready,
        costs: all.costs.divided(u32::try_from(rounds).unwrap_or(1)),
    }
}

trait MaxOf {
    fn max_of(self, other: Self) -> Self;
}

impl MaxOf for Option<f64> {
    fn max_of(self, other: Self) -> Self {
        self.into_iter().chain(other).max_by(f64::total_cmp)
    }
}

/// Applies these at once, and waits until every node has reported them and all are Ready.
async fn change(fleet: &mut Fleet, profiles: &[(String, Value)]) -> Result<Change> {
    let keys = profiles
        .iter()
        .map(|(name, spec)| key(name, spec))
        .collect::<Result<_>>()?;
    let names: BTreeSet<String> = profiles.iter().map(|(name, _)| name.clone()).collect();
    let nodes = fleet.nodes();
    let before = fleet.begin().await?;
    fleet.observer.aim(keys, true);
    let (began, began_at) = (Instant::now(), SystemTime::now());
    let this = &*fleet;
    let generations: Vec<_> = stream::iter(profiles)
        .map(async |(name, spec)| anyhow::Ok((name.clone(), this.apply(name, spec).await?)))
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    let observer = &fleet.observer;
    observer
        .until("nodes have what changed", nodes, |view| view.reached.len())
        .await?;
    let are_ready = |view: &crate::observe::View| {
        let is_ready = |(name, generation): &&(String, i64)| {
            view.ready.get(name).is_some_and(|ready| ready.0 >= *generation)
        };
        generations.iter().filter(is_ready).count()
    };
    observer
        .until("changed profiles are Ready", names.len(), are_ready)
        .await?;
    let (reported, ready) = {
        let view = observer.view();
        let since = |at: &Instant| (*at - began).as_secs_f64();
        let ready = names.iter().filter_map(|name| view.ready.get(name));
        (
            view.reached.values().map(since).collect(),
            ready.map(|(_, at)| since(at)).max_by(f64::total_cmp),
        )
    };
    let disk = fleet
        .directories()
        .iter()
        .map(|directory| last_written(directory, &names, began_at))
        .collect::<Result<_>>()?;
    Ok(Change {
        disk,
        reported,
        ready,
        costs: fleet.end(&before).await?,
    })
}

/// When the last of these files was put in its place, in seconds after a moment.
fn last_written(directory: &Path, names: &BTreeSet<String>, began: SystemTime) -> Result<f64> {
    use std::os::unix::fs::MetadataExt as _;
    let began = began.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    let mut last: f64 = 0.0;
    for name in names {
        let path = directory.join(format!("{name}.json"));
        let file = std::fs::metadata(&path).with_context(|| format!("{} is missing", path.display()))?;
        // A rename changes the inode, and that is the last thing that happens to a file.
        let seconds =
            std::time::Duration::new(file.ctime().cast_unsigned(), u32::try_from(file.ctime_nsec())?);
        last = last.max(seconds.as_secs_f64() - began);
    }
    // The kernel's clock for files ticks in milliseconds.
    Ok(last.max(0.0))
}

async fn delete(fleet: &mut Fleet, name: &str, spec: &Value) -> Result<Change> {
    let nodes = fleet.nodes();
    let before = fleet.begin().await?;
    fleet.observer.aim(vec![key(name, spec)?], false);
    let began = Instant::now();
    Fleet::delete(&fleet.api(), name).await?;
    fleet
        .observer
        .until("nodes have removed it", nodes, |view| view.reached.len())
        .await?;
    let reached = fleet.observer.view().reached.clone();
    Ok(Change {
        reported: reached.values().map(|at| (*at - began).as_secs_f64()).collect(),
        costs: fleet.end(&before).await?,
        ..Change::default()
    })
}

/// Many changes at once, each of another profile.
pub(crate) async fn burst(report: &mut Report, fleet: &mut Fleet) -> Result<()> {
    let count = BURST.min(fleet.profiles);
    let mut profiles = Vec::new();
    for number in 0..count {
        profiles.push((name(number), fleet.version().await?));
    }
    let change = change(fleet, &profiles).await?;
    let nodes = fleet.nodes();
    let each = float(change.costs.report_writes()) / float((count * nodes) as u64);
    let what = format!("report writes per profile and node, {count} changes at once");
    let measured = format!("{each:.3}");
    if count == BURST {
        report.soft(&what, &format!("< {WRITES}"), measured.clone(), each < WRITES);
    }
    if count < FEWEST {
        report.fact(&what, measured);
    } else {
        let budget = format!("< {WRITES_AT_MOST} on any machine");
        report.hard(&what, &budget, measured, each < WRITES_AT_MOST);
    }
    report.scene(summary(
        &format!("{count} profiles updated at once"),
        vec![change],
    ));
    Ok(())
}

/// A change that fails on every node, although the controller finds nothing wrong with it; and its cure.
pub(crate) async fn broken(report: &mut Report, fleet: &mut Fleet) -> Result<()> {
    let nodes = fleet.nodes();
    let name = name(0);
    let spec = fleet.broken_version()?;
    let before = fleet.begin().await?;
    let began = Instant::now();
    fleet.apply(&name, &spec).await?;
    let failures = |view: &crate::observe::View| {
        let status = view
            .profiles
            .get(&name)
            .and_then(|profile| profile.status.as_ref());
        status
            .and_then(|status| status.failures_total)
            .unwrap_or_default() as usize
    };
    fleet
        .observer
        .until("failures are in the status", nodes, failures)
        .await?;
    let done = began.elapsed().as_secs_f64();
    let costs = fleet.end(&before).await?;
    let status = {
        let view = fleet.observer.view();
        view.profiles
            .get(&name)
            .and_then(|profile| profile.status.clone())
    };
    let status = status.context("the profile has a status")?;
    let bytes = serde_json::to_vec(&status)?.len();
    ensure!(!status.failures.is_empty(), "no failure is listed");
    report.hard(
        &format!("failures that a status lists of {nodes}"),
        "≤ 10, all counted",
        format!("{} groups, {bytes} bytes in all", status.failures.len()),
        status.failures.len() <= 10,
    );
    // Three at once, and one every ten seconds after that; its generation is judged once more when it is cured.
    let allowed = 3.0 + costs.seconds.div_euclid(10.0);
    report.hard(
        "status writes while every node fails",
        &format!("≤ {allowed}"),
        costs.profile_writes().to_string(),
        float(costs.profile_writes()) <= allowed,
    );
    report.scene(Scene {
        name: "a change that fails on every node (done: all counted)".to_owned(),
        disk: None,
        reported: None,
        done: Some(done),
        costs,
    });
    let spec = fleet.version().await?;
    let cure = change(fleet, &[(name, spec)]).await?;
    report.scene(summary("and its cure", vec![cure]));
    Ok(())
}
