//! Logs, metrics, health: how a running Callgate is observed. Knows nothing of ours.

mod api;
mod build;
mod health;
mod line;
mod server;

pub use api::{ApiMetrics, Asked};
pub use build::register_build;
pub use health::{Health, Heartbeat};
pub use server::serve;

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends log lines to standard error, filtered by `RUST_LOG` (default: `info`): a level, or levels by module as in
/// `info,callgate::store=debug`. To be called once.
pub fn init_logs(format: LogFormat) {
    let chosen = std::env::var("RUST_LOG").ok().filter(|it| !it.is_empty());
    // The client tells of each request that fails, once a second in an outage. So do we, and less often.
    let usual = || {
        Targets::new()
            .with_default(LevelFilter::INFO)
            .with_target("kube", LevelFilter::OFF)
    };
    let (filter, refused) = match chosen.map(|levels| levels.parse()).transpose() {
        Ok(levels) => (levels.unwrap_or_else(usual), None),
        Err(error) => (usual(), Some(error)),
    };
    let lines = tracing_subscriber::fmt::layer()
        // Colours in a file are noise.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(|| line::Lines(std::io::stderr()));
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        // What is told of is beside the message, where a query finds it: no nesting.
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
    if let Some(error) = refused {
        tracing::warn!(%error, "RUST_LOG is no list of levels, as in info,callgate::store=debug: it is not heeded");
    }
}
