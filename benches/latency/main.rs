//! `make bench`: how long a profile takes, on a real API server with a real controller and a real agent.
//!
//! Prints a Markdown table, and writes every sample to `target/bench/latency.json`. Nothing fails for being slow.

mod bed;
mod floor;
mod observe;
mod profiles;
mod proofs;
mod report;
mod scenes;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::bed::Bed;
use crate::profiles::Size;
use crate::report::Report;

/// Measures the way of a profile from the API server to the node's disk.
#[derive(Debug, Parser)]
struct Arguments {
    /// Runs of each latency.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Profiles that are created at once.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=500))]
    burst: u16,
    /// Profiles that an agent finds when it starts.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=500))]
    profiles: u16,
    /// Files that are checked at once.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    files: u16,
    /// How long to count requests while nothing happens, in seconds.
    #[arg(long, default_value_t = 30)]
    idle: u64,
    /// What `cargo bench` says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let mut report = Report::default();
    anstream::eprintln!("Compile and test-load");
    for size in Size::ALL {
        proofs::test_load(&mut report, size, arguments.runs).await?;
        floor::floor(&mut report, size, arguments.runs)?;
    }
    for size in Size::ALL {
        proofs::meaning(&mut report, size, arguments.runs)?;
    }
    for size in Size::ALL {
        proofs::verdict(&mut report, size, arguments.runs).await?;
    }
    for size in Size::ALL {
        proofs::cached(&mut report, size, arguments.runs).await?;
    }
    proofs::fold(&mut report, arguments.runs).await?;
    anstream::eprintln!("callgate check of {} files", arguments.files);
    proofs::check(&mut report, arguments.files)?;
    anstream::eprintln!("Starting etcd, kube-apiserver, one controller and one agent");
    let mut bed = Bed::start().await?;
    anstream::eprintln!("One profile, changed again and again");
    for size in Size::ALL {
        scenes::change(&mut report, &mut bed, size, arguments.runs).await?;
    }
    anstream::eprintln!("Drift");
    scenes::drift(&mut report, &mut bed, arguments.runs).await?;
    anstream::eprintln!("{} profiles at once", arguments.burst);
    scenes::burst(&mut report, &mut bed, arguments.burst).await?;
    scenes::memory(&mut report, &mut bed)?;
    anstream::eprintln!("Starts of the agent with {} profiles", arguments.profiles);
    scenes::starts(&mut report, &mut bed, arguments.profiles).await?;
    anstream::eprintln!("Nothing, for {} s", arguments.idle);
    scenes::idle(&mut report, &bed, arguments.idle).await?;

    anstream::println!("{}", report.markdown());
    anstream::println!("Every sample: {}", report.write_json()?.display());
    Ok(())
}
