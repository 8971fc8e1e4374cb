//! The command line: one file per subcommand. Knows everything; nothing knows it.

mod agent;
mod check;
mod client;
mod controller;
mod crds;
mod duration;
mod finding;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz {
    pub(crate) use super::check::fuzz::report;
}
mod install;
mod resolve;
mod run;
mod source_files;
mod status;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{confine, testload};

/// Proves seccomp profiles, and gets them onto every node of a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 success, 1 some profile is invalid, 2 everything else.

Examples:
  callgate check profile.json                       # is it valid, and where is it wrong?
  callgate resolve docker.json > profile.json       # from Docker's or Podman's format
  callgate install profiles/ --seccomp-root /var/lib/kubelet/seccomp
  callgate status                                   # where is each profile of the cluster?
  callgate crds | kubectl apply --server-side -f -"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Controller(controller::Args),
    Agent(agent::Args),
    Install(install::Args),
    Check(check::Args),
    Resolve(resolve::Args),
    Status(status::Args),
    Crds(crds::Args),
    /// Prints completions for a shell.
    #[command(after_help = "Examples:
  callgate completions bash > /etc/bash_completion.d/callgate
  callgate completions zsh > \"${fpath[1]}/_callgate\"")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// The process that compiles and loads profiles in children; started by the others.
    #[command(hide = true)]
    ForkServer,
}

/// Runs the command that the arguments name. To be called once, before any thread exists.
///
/// Exit codes: 0 is success, 1 is "some profile is invalid", 2 is everything else, wrong usage included.
#[must_use]
pub fn main() -> ExitCode {
    if let Err(error) = confine::protect_memory() {
        run::complain(
            &anyhow::Error::new(error).context("cannot keep other processes out of this one's memory"),
        );
        return ExitCode::from(2);
    }
    let outcome = match Cli::parse().command {
        Command::ForkServer => testload::serve(),
        Command::Controller(args) => controller::run(args).map(|()| ExitCode::SUCCESS),
        Command::Agent(args) => agent::run(args).map(|()| ExitCode::SUCCESS),
        Command::Install(args) => install::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Resolve(args) => resolve::run(&args),
        Command::Status(args) => run::once(async move {
            let client = args.client().await?;
            status::run(args, client, &mut anstream::stdout()).await
        })
        .map(|()| ExitCode::SUCCESS),
        Command::Crds(args) => crds::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "callgate", &mut script);
            run::print(&script).map(|()| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        run::complain(&error);
        ExitCode::from(2)
    })
}
