//! `make chaos`: what must hold under kills, power loss and a faulty API server, by the thousand.
//!
//! Prints a Markdown report, writes it and a JSON one to `target/chaos/` after each scene, and ends with an error on any
//! violation, and if a scene could not be done to its end, which does not keep the others from being done. All that is
//! random comes from one seed, which is printed: `make chaos SEED=N` chooses the same again. How processes and threads
//! interleave it does not repeat, and so neither what depends on that: how many runs as many kills take, how much of the
//! churn fits into its time, and which request meets which fault.

mod faults;
mod insist;
mod install;
mod kills;
mod power;
#[allow(
    dead_code,
    reason = "the other benchmark's profiles, of which two sizes are used here"
)]
#[path = "../latency/profiles.rs"]
mod profiles;
mod report;
mod torn;
mod trace;
mod tree;
mod versions;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::report::{Outcome, Report};

/// Breaks what can break around the agent, and looks at what is left.
#[derive(Debug, Parser)]
struct Arguments {
    /// Of all that is random.
    #[arg(long)]
    seed: Option<u64>,
    /// Scenes to run (default: all).
    #[arg(long, value_enum, value_delimiter = ',')]
    scenes: Vec<Scene>,
    /// Updates of one profile under a reader.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    updates: u32,
    /// Kills of what is not done yet; one in ten is of an agent, the others of `callgate install`.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..))]
    kills: u32,
    /// Power losses.
    #[arg(long, default_value_t = 20_000)]
    losses: u32,
    /// How long a faulty API server is endured, in seconds.
    #[arg(long, default_value_t = 600)]
    faults: u64,
    /// Nodes behind it.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    nodes: u8,
    /// What `cargo bench` says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scene {
    /// Updates of one profile under a reader.
    Torn,
    /// SIGKILL at and between all steps of a write.
    Kills,
    /// Power loss at and between all steps of a write.
    Power,
    /// A faulty API server under churn.
    Faults,
}

impl Scene {
    const fn title(self) -> &'static str {
        match self {
            Self::Torn => "Updates of one profile under readers",
            Self::Kills => "SIGKILL of `callgate install` and of agents",
            Self::Power => "Power loss",
            Self::Faults => "A faulty API server under churn",
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all held.
async fn run(arguments: &Arguments) -> Result<bool> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    anstream::eprintln!("Seed {seed}");
    let mut report = Report::new(seed);
    for (number, scene) in (1..).zip(Scene::value_variants()) {
        if !arguments.scenes.is_empty() && !arguments.scenes.contains(scene) {
            continue;
        }
        // Whichever scenes run, each has its own.
        let mut random = fastrand::Rng::with_seed(seed ^ (number << 32));
        let started = std::time::Instant::now();
        let mut outcome = Outcome::new(scene.title());
        let done = match scene {
            Scene::Torn => torn::run(arguments.updates, &mut outcome).await,
            Scene::Kills => kills::run(arguments.kills, &mut outcome, &mut random).await,
            Scene::Power => power::run(arguments.losses, &mut outcome, &mut random),
            Scene::Faults => {
                let time = std::time::Duration::from_secs(arguments.faults);
                faults::run(arguments.nodes, time, &mut outcome, &mut random).await
            }
        };
        if let Err(error) = done {
            anstream::eprintln!("  error: {error:#}");
            outcome.error = Some(format!("{error:#}"));
        }
        outcome.seconds = started.elapsed().as_secs();
        report.add(outcome);
        // What was found is not lost if a later scene, or the machine, ends all this.
        report.write()?;
    }
    anstream::println!("{}", report.markdown());
    anstream::println!("Also in {}", report.write()?.display());
    Ok(report.holds())
}

/// The program that Cargo built for this.
fn callgate() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_callgate"))
}
