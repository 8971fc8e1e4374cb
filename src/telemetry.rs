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

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends log lines to standard error, filtered by `RUST_LOG` (default: `info`). To be called once.
pub fn init_logs(format: LogFormat) {
    // The client tells of each request that fails, once a second in an outage. So do we, and less often.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube=off"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Colours in a file are noise.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(|| line::Lines(std::io::stderr()));
    match format {
        LogFormat::Text => builder.init(),
        // What is told of is beside the message, where a query finds it: no nesting.
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
