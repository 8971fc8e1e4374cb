//! The API server goes and comes back, and another controller comes to lead.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::fleet::{Fleet, key, name};
use crate::report::{Report, Scene, Spread};
use crate::usage::float;

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(10);

/// The controller and this program ask as well: no more than so many agents.
const OTHERS: usize = 10;

/// `PAGE` of `src/agent/watch.rs`, which is not for others to see: the profiles of one answer to an agent.
const PAGE: usize = 50;

/// What an agent asks for after a break, each once: the profiles, page by page; its pods, its Node and its report; a
/// watch of each of the four; and its report is written.
const fn asked_by_each(profiles: usize) -> usize {
    profiles.div_ceil(PAGE) + 3 + 4 + 1
}

/// All watches break at once, and come back.
pub(crate) async fn apiserver(report: &mut Report, fleet: &mut Fleet) -> Result<()> {
    let name = name(0);
    let spec = fleet.version().await?;
    let nodes = fleet.nodes();
    let before = fleet.begin().await?;
    fleet.cluster.stop_apiserver()?;
    tokio::time::sleep(AWAY).await;
    fleet.observer.aim(vec![key(&name, &spec)?], true);
    fleet.cluster.start_apiserver().await?;
    let began = Instant::now();
    let generation = fleet.apply(&name, &spec).await?;
    let mut busiest = 0_u64;
    let (observer, cluster) = (&fleet.observer, &fleet.cluster);
    let back = observer.until("nodes are back", nodes, |view| view.reached.len());
    let watched = async {
        let mut last = None;
        loop {
            let now = Instant::now();
            // It may be too busy to answer.
            if let Ok(counters) = cluster.counters().await {
                let all: u64 = counters.requests.values().sum();
                if let Some((count, at)) = last.replace((all, now)) {
                    let seconds: f64 = (now - at).as_secs_f64();
                    busiest = busiest.max(per_second(all - count, seconds));
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        outcome = back => outcome?,
        () = watched => {}
    }
    let is_ready = |view: &crate::observe::View| {
        usize::from(view.ready.get(&name).is_some_and(|ready| ready.0 >= generation))
    };
    observer.until("the profile is Ready", 1, is_ready).await?;
    let done = began.elapsed().as_secs_f64();
    let reached = observer.view().reached.clone();
    let since = |at: &Instant| at.saturating_duration_since(began).as_secs_f64();
    let reported = Spread::of(reached.values().map(since).collect());
    let costs = fleet.end(&before).await?;
    // Of the one profile that was changed meanwhile: judged, and Ready.
    report.writes(
        "profile writes: one change while the API server comes back",
        "≤ 2",
        costs.profile_writes(),
        2,
    );
    let requests = costs.of_watched();
    let limit = 3 * (nodes + OTHERS) * asked_by_each(fleet.profiles);
    report.hard(
        "requests while all come back, of three times what each asks for once",
        &format!("≤ {limit}"),
        format!(
            "{requests}; of any kind at most {busiest} in a second, {} answered 429",
            costs.refused()
        ),
        requests <= limit as u64,
    );
    report.figure("API server back, requests", float(requests));
    report.scene(Scene {
        name: "API server back, and one update".to_owned(),
        disk: None,
        reported,
        done: Some(done),
        costs,
    });
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate of requests is not negative, and far below 2^53"
)]
fn per_second(count: u64, seconds: f64) -> u64 {
    (float(count) / seconds).round() as u64
}

/// The leader is killed, and then the next one told to end.
pub(crate) async fn leader(report: &mut Report, fleet: &mut Fleet) -> Result<()> {
    let mut second = fleet.controller("2").await?;
    second.ready().await?;
    let before = fleet.begin().await?;
    let began = Instant::now();
    // Killed: the Lease runs out.
    drop(fleet.controller.replace(second));
    fleet.cluster.leads("2").await?;
    let killed = began.elapsed().as_secs_f64();
    let costs = fleet.end(&before).await?;
    report.no_profile_writes("the leader is killed", &costs);
    report.scene(scene("the leader is killed", killed, costs));

    let mut third = fleet.controller("3").await?;
    third.ready().await?;
    let before = fleet.begin().await?;
    let began = Instant::now();
    let ending = fleet.controller.replace(third).context("a controller runs")?;
    ending.terminate().await?;
    fleet.cluster.leads("3").await?;
    let ended = began.elapsed().as_secs_f64();
    let costs = fleet.end(&before).await?;
    report.no_profile_writes("the leader ends", &costs);
    report.scene(scene("the leader ends", ended, costs));
    Ok(())
}

fn scene(name: &str, done: f64, costs: crate::costs::Costs) -> Scene {
    Scene {
        name: name.to_owned(),
        disk: None,
        reported: None,
        done: Some(done),
        costs,
    }
}
