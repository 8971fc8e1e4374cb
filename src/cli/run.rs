//! What the subcommands have in common: a runtime, a fork server, signals, the last words.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::client::{self, Access};
use super::finding;
use crate::confine::{Confinement, Opening, confine, confine_privileges};
use crate::profile::Code;
use crate::proof::Prover;
use crate::telemetry::{self, Health, LogFormat};
use crate::testload::{self, ForkServer, Limits};
use crate::text::{chain, printable};

/// Runs a future on a runtime of its own.
pub(super) fn once<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    provide_cryptography();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let outcome = runtime.block_on(future);
    // A store operation that hangs on a dead disk must not hold up the end of the process.
    runtime.shutdown_background();
    outcome
}

/// For what is encrypted from here on.
fn provide_cryptography() {
    // It is part of the process; a second call finds the first one's.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What a profile is proven against beside the rules.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ProofArgs {
    /// Accept findings of this code in every profile, as its acceptFindings would; may be given several times
    #[arg(long = "accept", value_name = "CODE", value_parser = finding::acceptable)]
    accepted: Vec<Code>,
    /// Directory that a profile's listenerPath may lie in; may be given several times (default: none)
    #[arg(long = "listener-prefix", value_name = "DIR", value_parser = listener_prefix)]
    listener_prefixes: Vec<String>,
}

/// No path lies in a directory that is not named from the root: such a prefix would allow nothing.
fn listener_prefix(text: &str) -> Result<String, String> {
    let path = Path::new(text);
    if path.is_absolute() && !path.components().any(|part| part == Component::ParentDir) {
        Ok(text.to_owned())
    } else {
        Err("write the whole path of a directory, without \"..\", for example /run/agents".to_owned())
    }
}

/// Starts the fork server, then runs a future with a prover on top of it. Must be called before any thread
/// exists.
pub(super) fn with_prover<T, F: Future<Output = anyhow::Result<T>>>(
    args: ProofArgs,
    body: impl FnOnce(Prover) -> F,
) -> anyhow::Result<T> {
    let server = start_fork_server()?;
    once(async move { body(args.prover(server)).await })
}

fn start_fork_server() -> anyhow::Result<ForkServer> {
    ForkServer::start(Limits::default()).context("cannot start the process that test-loads profiles")
}

impl ProofArgs {
    /// Within a tokio runtime.
    fn prover(self, server: ForkServer) -> Prover {
        Prover::new(testload::Client::new(server), self.listener_prefixes).accepting(self.accepted)
    }
}

/// What both daemons are told.
#[derive(Debug, clap::Args)]
pub(super) struct DaemonArgs {
    /// Directory that a profile's listenerPath may lie in; may be given several times (default: none)
    #[arg(
        long = "listener-prefix",
        env = "CALLGATE_LISTENER_PREFIXES",
        value_delimiter = ',',
        value_name = "DIR",
        value_parser = listener_prefix
    )]
    listener_prefixes: Vec<String>,
    /// How to reach the API server (default: the service account of the pod)
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How log lines look
    #[arg(long, env = "CALLGATE_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Starts logs and the fork server, shuts the process in but for these openings, then runs a daemon with its client and
/// a prover. Must be called before any thread exists.
pub(super) fn with_daemon<F: Future<Output = anyhow::Result<()>>>(
    args: DaemonArgs,
    openings: Vec<Opening<'_>>,
    body: impl FnOnce(Client, Prover, Confinement) -> F,
) -> anyhow::Result<()> {
    let DaemonArgs {
        listener_prefixes,
        kubeconfig,
        log_format,
    } = args;
    telemetry::init_logs(log_format);
    let proof = ProofArgs {
        // For one profile its author accepts, and for all of a cluster nobody.
        accepted: Vec::new(),
        listener_prefixes,
    };
    provide_cryptography();
    let access = client::daemon(kubeconfig)?;
    let server = start_fork_server()?;
    let confinement = shut_in(openings, &access);
    once(async move { body((access.connect)(), proof.prover(server), confinement).await })
}

fn shut_in(mut openings: Vec<Opening<'_>>, access: &Access) -> Confinement {
    let confinement = if access.runs_a_program {
        confine_privileges("the kubeconfig names a program that makes tokens, and what it needs is not known")
    } else {
        openings.extend(access.read_again.iter().cloned().map(Opening::Read));
        confine(&openings)
    };
    let message = confinement.message();
    if confinement.is_confined() {
        tracing::info!(reason = confinement.reason(), "shut in: {message}");
    } else {
        tracing::warn!(
            reason = confinement.reason(),
            "not shut in as it should be: {message}"
        );
    }
    confinement
}

/// Runs a daemon beside its HTTP server, until SIGTERM or SIGINT, or until one of the two ends.
pub(super) async fn daemon<F: Future<Output = anyhow::Result<()>>>(
    listen: SocketAddr,
    health: Health,
    metrics: Registry,
    body: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
            _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
        }
        token.cancel();
    });
    let serve = telemetry::serve(listen, health, metrics, shutdown.clone());
    let body = body(shutdown);
    tokio::pin!(body);
    tokio::select! {
        outcome = &mut body => outcome,
        outcome = serve => match outcome {
            // Shut down: the body ends as well.
            Ok(()) => body.await,
            Err(error) => Err(error).with_context(|| format!("cannot serve health and metrics on {listen}")),
        },
    }
}

/// Writes to standard output, whole; a reader that has seen enough is no error.
pub(super) fn print(text: &[u8]) -> anyhow::Result<()> {
    anstream::stdout()
        .write_all(text)
        .or_else(ignore_closed_pipe)
        .context("cannot print")
}

fn ignore_closed_pipe(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Ok(())
    } else {
        Err(error)
    }
}

/// An error and its causes, on standard error.
pub(super) fn complain(error: &anyhow::Error) {
    tell(&chain(error.as_ref()));
}

/// Something to know, on standard error, on one line.
pub(super) fn tell(line: &str) {
    // There is nobody left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "callgate: {}", printable(line));
}
