//! What is measured on a cluster, one function per part of the table.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use harness::Memory;
use kube::api::{Patch, PatchParams, PostParams};

use crate::bed::Bed;
use crate::observe::{Files, Ready};
use crate::profiles::Size;
use crate::report::Report;

/// Runs that are thrown away: the first meets cold caches and makes directories.
pub(crate) const WARM_UP: usize = 3;
/// How often the costly scenes are repeated.
pub(crate) const REPEATS: usize = 10;
/// How long nothing is written before nothing happens, and how often that is waited for.
const QUIET: Duration = Duration::from_secs(5);
const TRIES: usize = 12;
/// Creates in flight at once, as from a tool that applies a folder.
const IN_FLIGHT: usize = 8;

/// One profile, changed again and again, each time from the request to the file and to Ready.
pub(crate) async fn change(report: &mut Report, bed: &mut Bed, size: Size, runs: u16) -> Result<()> {
    let name = size.name();
    let parameters = PatchParams::apply("bench").force();
    let mut ready = Ready::watch(bed.profiles.clone());
    let first = bed
        .profiles
        .create(&PostParams::default(), &size.profile(name, 0)?)
        .await?;
    ready
        .next(name, first.metadata.generation.unwrap_or_default())
        .await?;
    let mut files = Files::watch(&bed.directory())?;

    let (mut to_disk, mut to_ready) = (Vec::new(), Vec::new());
    let mut before = bed.requests().await?;
    for number in 1..=WARM_UP + usize::from(runs) {
        if number == WARM_UP + 1 {
            before = bed.requests().await?;
        }
        let profile = size.profile(name, number)?;
        let started = Instant::now();
        let stored = bed
            .profiles
            .patch(name, &parameters, &Patch::Apply(&profile))
            .await?;
        let on_disk = files.next(|file| file == format!("{name}.json")).await?;
        let is_ready = ready
            .next(name, stored.metadata.generation.unwrap_or_default())
            .await?;
        to_disk.push(on_disk.saturating_duration_since(started));
        to_ready.push(is_ready.saturating_duration_since(started));
    }
    let writes = bed.requests().await?.writes_since(&before);

    let describe = size.describe();
    let budget = match size {
        Size::Small => "",
        Size::Docker => "25 ms, p99 100 ms",
        Size::DockerAllArchitectures => "60 ms, p99 100 ms",
    };
    report.times(
        format!("apply → file on disk: {describe}"),
        budget,
        &to_disk[WARM_UP..],
    );
    report.times(
        format!("apply → Ready: {describe}"),
        "300 ms",
        &to_ready[WARM_UP..],
    );
    report.value(
        format!("API writes per change, one node: {describe}"),
        "≤ 4",
        per(writes, runs),
    );
    bed.clear().await
}

/// Files that somebody else changes or removes, until they are back.
pub(crate) async fn drift(report: &mut Report, bed: &mut Bed, runs: u16) -> Result<()> {
    let name = "drift";
    let mut ready = Ready::watch(bed.profiles.clone());
    let profile = Size::Docker.profile(name, 0)?;
    bed.profiles.create(&PostParams::default(), &profile).await?;
    ready.next(name, 1).await?;
    let file = format!("{name}.json");
    let path = bed.directory().join(&file);
    let mut files = Files::watch(&bed.directory())?;
    let (mut changed, mut removed) = (Vec::new(), Vec::new());
    for _ in 0..WARM_UP + usize::from(runs) {
        let started = Instant::now();
        std::fs::write(&path, "{}")?;
        changed.push(
            files
                .next(|one| one == file)
                .await?
                .saturating_duration_since(started),
        );
        let started = Instant::now();
        std::fs::remove_file(&path)?;
        removed.push(
            files
                .next(|one| one == file)
                .await?
                .saturating_duration_since(started),
        );
    }
    report.times("changed file → back", "1 s", &changed[WARM_UP..]);
    report.times("removed file → back", "1 s", &removed[WARM_UP..]);
    bed.clear().await
}

/// Many new profiles at once, until the last file is there.
pub(crate) async fn burst(report: &mut Report, bed: &mut Bed, count: u16) -> Result<()> {
    let (mut to_disk, mut to_ready, mut writes) = (Vec::new(), Vec::new(), 0);
    for repeat in 0..REPEATS {
        if repeat > 0 {
            bed.clear().await?;
        }
        let mut ready = Ready::watch(bed.profiles.clone());
        // The directory must exist to be watched, and the agent removes it when it is empty.
        // Another version each time: the node's last report may still speak of the one that was deleted.
        let keep = Size::Small.profile("keep", repeat)?;
        bed.profiles.create(&PostParams::default(), &keep).await?;
        ready.next("keep", 1).await?;
        let mut files = Files::watch(&bed.directory())?;
        let mut ready = Ready::watch(bed.profiles.clone());
        let before = bed.requests().await?;

        let created = create(bed, repeat * usize::from(count), count).await?;
        let mut missing: BTreeSet<String> = (0..count).map(|number| format!("many-{number}.json")).collect();
        let last = files
            .next(|file| {
                missing.remove(file);
                missing.is_empty()
            })
            .await?;
        let is_ready = ready.all(usize::from(count) + 1).await?;
        to_disk.push(last.saturating_duration_since(created));
        to_ready.push(is_ready.saturating_duration_since(created));
        writes += bed.requests().await?.writes_since(&before);
    }
    let total = usize::from(count) * REPEATS;
    report.times(
        format!("last of {count} creates returned → all on disk"),
        "500 ms",
        &to_disk,
    );
    report.times(
        format!("last of {count} creates returned → all Ready"),
        "",
        &to_ready,
    );
    report.value(
        "API writes per profile in such a burst",
        "≤ 4",
        format!("{:.2}", ratio(writes, total)),
    );
    Ok(())
}

/// Memory, with the profiles of the last burst.
pub(crate) fn memory(report: &mut Report, bed: &mut Bed) -> Result<()> {
    let agent = Memory::of(bed.agent()?.process().id())?;
    let controller = Memory::of(bed.controller.process().id())?;
    report.value(
        "memory of the agent, fork server included",
        "≤ 16 MiB",
        agent.to_string(),
    );
    report.value(
        "memory of the controller, fork server included",
        "",
        controller.to_string(),
    );
    Ok(())
}

/// The agent's start, with profiles that its disk knows and with profiles that it does not.
pub(crate) async fn starts(report: &mut Report, bed: &mut Bed, count: u16) -> Result<()> {
    bed.clear().await?;
    create(bed, 0, count).await?;
    bed.files(usize::from(count)).await?;
    let (mut known, mut new, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        let started = Instant::now();
        bed.stop_agent().await?;
        ends.push(started.elapsed());
        known.push(bed.start_agent().await?);
    }
    for _ in 0..REPEATS {
        bed.stop_agent().await?;
        bed.wipe()?;
        new.push(bed.start_agent().await?);
        bed.files(usize::from(count)).await?;
    }
    report.times(
        format!("start of the agent → ready, {count} profiles proven before"),
        "300 ms",
        &known,
    );
    report.times(
        format!("start of the agent → ready, {count} new profiles"),
        "5 s",
        &new,
    );
    report.times("SIGTERM → the agent has ended", "1 s", &ends);
    Ok(())
}

/// Requests while nothing happens, once all that was told of the scene before is written.
pub(crate) async fn idle(report: &mut Report, bed: &Bed, seconds: u64) -> Result<()> {
    let mut before = bed.requests().await?;
    // What never ends is what is to be measured.
    for _ in 0..TRIES {
        tokio::time::sleep(QUIET).await;
        let now = bed.requests().await?;
        let is_quiet = now.lists == before.lists && now.writes_since(&before) == 0;
        before = now;
        if is_quiet {
            break;
        }
    }
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = bed.requests().await?;
    let lists = after.lists - before.lists;
    let writes = after.writes_since(&before);
    report.value(
        format!("LISTs and writes in {seconds} s of nothing"),
        "0",
        format!("{lists} and {writes}"),
    );
    Ok(())
}

/// Creates Docker-size profiles `many-0`, `many-1`, … of versions nobody has seen, and returns when the last create
/// returned.
async fn create(bed: &Bed, first_version: usize, count: u16) -> Result<Instant> {
    let objects = (0..count)
        .map(|number| Size::Docker.profile(&format!("many-{number}"), first_version + usize::from(number)))
        .collect::<Result<Vec<_>>>()?;
    stream::iter(objects)
        .map(async |object| bed.profiles.create(&PostParams::default(), &object).await)
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<_>>()
        .await?;
    Ok(Instant::now())
}

fn per(count: u64, runs: u16) -> String {
    format!("{:.2}", ratio(count, usize::from(runs)))
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
fn ratio(count: u64, of: usize) -> f64 {
    count as f64 / of as f64
}
