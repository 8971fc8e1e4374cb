//! The command line: one file per subcommand. Knows everything; nothing knows it.

mod agent;
mod check;
mod client;
mod controller;
mod crds;
mod duration;
mod install;
mod run;
mod source_files;
mod status;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::testload;

/// Proves seccomp profiles, and gets them onto every node of a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judges every `SeccompProfile` of a cluster, and says in its status where it is installed.
    Controller(controller::Args),
    /// Installs the profiles of a cluster on this node, keeps them there, and reports.
    Agent(agent::Args),
    /// Installs a folder of profiles on this machine, without a cluster.
    Install(install::Args),
    /// Proves profiles in files, and says where each is wrong.
    Check(check::Args),
    /// Shows where each profile of a cluster is installed, failed and in use.
    Status(status::Args),
    /// Prints the custom resource definitions.
    Crds(crds::Args),
    /// Prints completions for a shell.
    #[command(after_help = "Example:\n  callgate completions bash > /etc/bash_completion.d/callgate")]
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
    if let Err(error) = testload::protect_memory() {
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
