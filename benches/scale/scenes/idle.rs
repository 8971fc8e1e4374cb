//! Nothing happens.

use std::time::Duration;

use anyhow::Result;

use crate::fleet::Fleet;
use crate::report::{Report, Scene};

pub(crate) async fn idle(report: &mut Report, fleet: &mut Fleet, seconds: u64) -> Result<()> {
    fleet.calm().await?;
    let before = fleet.begin().await?;
    let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
    while tokio::time::Instant::now() < until {
        let step = Duration::from_secs(60);
        tokio::time::sleep_until(until.min(tokio::time::Instant::now() + step)).await;
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        anstream::eprintln!("    nothing for {} s more", left.as_secs());
    }
    let costs = fleet.end(&before).await?;
    let lists = costs.verb("LIST");
    let writes = costs.callgate_writes();
    let core = 100.0 * costs.controller / costs.seconds;
    report.hard(
        &format!("LISTs in {seconds} idle seconds"),
        "0",
        lists.to_string(),
        lists == 0,
    );
    report.hard(
        &format!("writes in {seconds} idle seconds, but for leases"),
        "0",
        writes.to_string(),
        writes == 0,
    );
    report.soft(
        "the controller while nothing changes",
        "< 5 % of a core",
        format!("{core:.2} %"),
        core < 5.0,
    );
    report.figure(
        "idle controller, s of processor per s",
        costs.controller / costs.seconds,
    );
    report.figure(
        "idle API server, s of processor per s",
        costs.apiserver / costs.seconds,
    );
    report.scene(Scene {
        name: format!("{seconds} s of nothing"),
        disk: None,
        reported: None,
        done: None,
        costs,
    });
    Ok(())
}
