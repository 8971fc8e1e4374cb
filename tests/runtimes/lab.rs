//! What all tests here start from: the runtimes, Callgate's own verdict, a listener, and two workers.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use bed::{Answer, Bed, Container, Outcome, Runtime, RuntimeName};
use callgate::filter::libseccomp_version;
use callgate::profile::{SourceDocument, read};
use callgate::proof::{Proven, Prover, Verdict};
use callgate::testload::{Client, ForkServer, Limits};
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::ask::Ask;
use crate::cases::{LISTENER, User};

/// Long enough for a runtime on a busy machine; what hangs, hangs for ever.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// For profiles that are known to hang some runtimes: it makes no difference whether one of them is slow.
pub(crate) const SHORT_DEADLINE: Duration = Duration::from_secs(4);

pub(crate) struct Lab {
    pub(crate) bed: Bed,
    pub(crate) runtimes: Vec<Runtime>,
    prover: Prover,
    async_runtime: tokio::runtime::Runtime,
    folder: TempDir,
}

impl Lab {
    /// The one of this process. Fails with what to install where something is missing.
    pub(crate) fn get() -> &'static Self {
        static LAB: OnceLock<Lab> = OnceLock::new();
        LAB.get_or_init(|| {
            let runtimes = RuntimeName::ALL
                .map(Runtime::find)
                .into_iter()
                .collect::<Result<_, _>>();
            let folder = TempDir::new().unwrap();
            let listener = UnixListener::bind(folder.path().join("listener")).unwrap();
            thread::spawn(move || close_what_comes(&listener));
            let async_runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let prefixes = vec![folder.path().to_str().unwrap().to_owned()];
            let prover = {
                let _entered = async_runtime.enter();
                let program = Path::new(env!("CARGO_BIN_EXE_callgate"));
                // What hangs libseccomp is told by processor time, which a busy machine gives slowly.
                let limits = Limits {
                    wall_seconds: 300,
                    ..Limits::default()
                };
                let server = ForkServer::start_program(program, limits).unwrap();
                Prover::new(Client::new(server), prefixes).for_here()
            };
            Self {
                bed: Bed::new().unwrap_or_else(|error| panic!("{error:#}")),
                runtimes: runtimes.unwrap_or_else(|error| panic!("{error:#}")),
                prover,
                async_runtime,
                folder,
            }
        })
    }

    /// The file with the listener's path where it asks for one.
    pub(crate) fn file(&self, file: &str) -> String {
        file.replace(LISTENER, self.folder.path().join("listener").to_str().unwrap())
    }

    /// The profile and what there is to say of it, if Callgate calls it valid; or why not.
    pub(crate) fn verdict(&self, file: &str) -> Result<Proven, String> {
        let source = match read(file.as_bytes()).into_iter().next() {
            Some(SourceDocument::Profile(profile)) => *profile,
            Some(SourceDocument::Other { .. }) | None => return Err("no profile".to_owned()),
        };
        let said = |refused: callgate::proof::Refused| match refused.cause() {
            Some(finding) => format!("{}: {}", finding.code, finding.message),
            None => "refused without a cause".to_owned(),
        };
        let read = self.prover.read_source(&source).map_err(said)?;
        let handle: &Handle = self.async_runtime.handle();
        match handle.block_on(self.prover.prove("tests", read)) {
            Verdict::Valid(proven) => Ok(proven),
            Verdict::Invalid(refused) => Err(said(refused)),
            Verdict::Unknown(reason) => panic!("no verdict: {reason}"),
        }
    }

    /// Starts a container that asks all this, and panics where the machine is to blame.
    pub(crate) fn start(
        &self,
        runtime: &Runtime,
        user: User,
        seccomp: Option<&str>,
        asks: &[Ask],
        deadline: Duration,
    ) -> Outcome {
        let calls: Vec<_> = asks.iter().map(Ask::call).collect();
        let container = Container {
            uid: user.uid(),
            no_new_privs: user.no_new_privs(),
            seccomp,
            calls: &calls,
            deadline,
        };
        self.bed
            .start(runtime, &container)
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// What these calls return without a filter.
    pub(crate) fn unconfined(&self, user: User, asks: &[Ask]) -> BTreeMap<Ask, Answer> {
        let mut answers = BTreeMap::new();
        // So few at once that those which open a descriptor do not exhaust them.
        for some in asks.chunks(400) {
            let outcome = self.start(&self.runtimes[0], user, None, some, DEADLINE);
            assert_eq!(outcome.answers.len(), some.len(), "without a filter: {outcome:?}");
            answers.extend(some.iter().copied().zip(outcome.answers));
        }
        answers
    }
}

/// The version of libseccomp that makes this runtime's filters.
pub(crate) fn libseccomp_of(runtime: &Runtime) -> String {
    runtime.own_libseccomp().unwrap_or_else(libseccomp_version)
}

/// The listener of the profiles that have one: takes each notification descriptor, and closes it, so that the calls
/// that it is about fail with ENOSYS.
fn close_what_comes(listener: &UnixListener) {
    for stream in listener.incoming() {
        let mut message = Vec::new();
        // What the stream carries beside its bytes is closed by the kernel when nobody takes it.
        stream
            .and_then(|mut stream| stream.read_to_end(&mut message))
            .unwrap();
    }
}

/// Does the work on two threads, in any order, and returns the results in theirs.
pub(crate) fn on_two_threads<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    done.lock().unwrap().insert(index, result);
                }
            });
        }
    });
    done.into_inner().unwrap().into_values().collect()
}
