//! `make scale`: a fleet of agents on one machine, against a real API server with a real controller.
//!
//! Each agent is the product's own code with a node, a token, a directory, watches and reports of its own; all but one
//! run in this process, and share the fork server and what it has proven. Prints what was measured against its budgets,
//! and writes that to `target/scale/`. Fails where a count is wrong (a write too many, a LIST while idle), and where what is
//! waited for comes no nearer for ten minutes; otherwise not for being slow.

mod agent;
mod costs;
mod fleet;
mod growth;
mod limits;
mod observe;
#[allow(
    dead_code,
    reason = "the other benchmark's profiles, of which one size is used here"
)]
#[path = "../latency/profiles.rs"]
mod profiles;
mod report;
mod scenes;
mod usage;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use crate::fleet::Fleet;
use crate::limits::{Limits, ground};
use crate::report::Report;

/// Measures Callgate with many nodes.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many nodes there are.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..))]
    nodes: u32,
    /// How many profiles there are.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    profiles: u32,
    /// What to do after the cold start.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Act::ALL)]
    scenes: Vec<Act>,
    /// How long nothing happens, in seconds.
    #[arg(long, default_value_t = 600)]
    idle: u64,
    /// How many pods start and end (default: ten for each node).
    #[arg(long)]
    pods: Option<u32>,
    /// Runs with more and more nodes and profiles instead, and compares them.
    #[arg(long)]
    growth: bool,
    /// What `cargo bench` says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Act {
    /// One profile created, changed, deleted.
    Changes,
    /// A hundred changes at once.
    Burst,
    /// A change that fails on every node.
    Broken,
    /// Nodes that are lost, return and join.
    Nodes,
    /// Pods that use profiles.
    Pods,
    /// Every agent restarted.
    Restart,
    /// The API server restarted.
    Apiserver,
    /// Another controller leads.
    Leader,
    /// Nothing.
    Idle,
    /// Bare writes of the same reports.
    Floor,
}

impl Act {
    const ALL: [Self; 10] = [
        Self::Changes,
        Self::Burst,
        Self::Broken,
        Self::Nodes,
        Self::Pods,
        Self::Restart,
        Self::Apiserver,
        Self::Leader,
        Self::Idle,
        Self::Floor,
    ];
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = if arguments.growth {
        growth::run(&arguments)
    } else {
        run(&arguments)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let _limits = Limits::raise(u64::from(arguments.nodes) * 12 / 10)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Each would keep memory of its own.
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let name = format!("{}x{}", arguments.nodes, arguments.profiles);
    let report = runtime.block_on(measure(arguments, &name))?;
    let path = report.write(&name)?;
    anstream::println!("{}", report.markdown());
    anstream::println!("Everything: {} and .json beside it", path.display());
    let broken = report.broken();
    anyhow::ensure!(broken.is_empty(), "missed: {}", broken.join("; "));
    Ok(())
}

async fn measure(arguments: &Arguments, name: &str) -> Result<Report> {
    let (nodes, profiles) = (arguments.nodes, arguments.profiles);
    let (roots, kind) = ground(u64::from(nodes) * u64::from(profiles))?;
    let title = format!("{nodes} nodes, {profiles} profiles, directories {kind}");
    anstream::eprintln!("{title}");
    let mut report = Report::new(title);
    let mut fleet = Fleet::prepare(roots).await?;
    scenes::cold::footprint(&mut report, &mut fleet).await?;
    scenes::cold::start(&mut report, &mut fleet, nodes as usize, profiles as usize).await?;
    for act in Act::ALL.into_iter().filter(|act| arguments.scenes.contains(act)) {
        // What there is so far is there, whatever happens.
        report.write(name)?;
        anstream::eprintln!("  {act:?}");
        match act {
            Act::Changes => scenes::changes::one(&mut report, &mut fleet).await?,
            Act::Burst => scenes::changes::burst(&mut report, &mut fleet).await?,
            Act::Broken => scenes::changes::broken(&mut report, &mut fleet).await?,
            Act::Nodes => scenes::nodes::come_and_go(&mut report, &mut fleet).await?,
            Act::Pods => {
                let pods = arguments.pods.unwrap_or(10 * nodes) as usize;
                scenes::pods::come_and_go(&mut report, &mut fleet, pods).await?;
            }
            Act::Restart => scenes::nodes::restart(&mut report, &mut fleet).await?,
            Act::Apiserver => scenes::outages::apiserver(&mut report, &mut fleet).await?,
            Act::Leader => scenes::outages::leader(&mut report, &mut fleet).await?,
            Act::Idle => scenes::idle::idle(&mut report, &mut fleet, arguments.idle).await?,
            Act::Floor => scenes::floor::bare_writes(&mut report, &mut fleet).await?,
        }
    }
    fleet.stop().await?;
    report.controller_memory();
    Ok(report)
}
