//! The async side: asks the fork server, in fair order, and starts it again when it dies.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::registry::Registry;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{info, warn};

use super::launch::{Connection, ForkServer, Launch};
use super::message::{MAX_REPLY, Reply, Request};
use super::metrics::{Metrics, Waiting};
use super::packet::{not_taken, receive, send};
use super::queue::FairQueue;
use super::{Limits, Verdict};
use crate::profile::{Canonical, Code, FieldPath, Finding};

/// Requests that may be on their way to the queue. Who finds it full waits.
const MAILBOX: usize = 64;
/// What is said of a server that lets a request run out of time.
const SILENT: &str = "it does not answer";

/// The async side of the fork server. Cheap to clone; the server ends with the last clone.
#[derive(Debug, Clone)]
pub struct Client {
    requests: mpsc::Sender<Job>,
    alive: Arc<AtomicBool>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Job {
    tenant: String,
    profile: Canonical,
    answer: oneshot::Sender<Verdict>,
    waiting: Waiting,
}

impl Client {
    /// Takes over a server. Within a tokio runtime.
    #[must_use]
    pub fn new(server: ForkServer) -> Self {
        let (requests, mailbox) = mpsc::channel(MAILBOX);
        let alive = Arc::new(AtomicBool::new(true));
        let metrics = Metrics::new();
        let ForkServer { launch, connection } = server;
        let actor = Actor::new(launch, Arc::clone(&alive), metrics.clone());
        tokio::spawn(actor.run(connection, mailbox));
        Self {
            requests,
            alive,
            metrics,
        }
    }

    /// Registers what is counted of test-loads since there is this client.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Asks for one profile. Not cached: `proof` does that. Whoever no longer waits for the answer is passed over.
    ///
    /// Requests wait for [`Limits::children`] slots. What is guaranteed between tenants (namespaces):
    ///
    /// - Tenants take turns. Before the request that a tenant has waited with longest, at most one of each other
    ///   tenant starts. Those of one tenant start in the order in which they came.
    /// - With more than one slot no tenant ever has all of them, so one tenant alone, whatever it sends, never
    ///   keeps another waiting.
    /// - Several together can have them all. A tenant that has no slot then waits for at most
    ///   `(1 + others / children) × longest`, where `others` is how many tenants wait before it, and `longest`
    ///   the time of the longest request: a profile that hangs libseccomp takes `2 × cpu_seconds` of processor
    ///   time, and none more than `3 × wall_seconds`.
    pub async fn test_load(&self, tenant: &str, profile: &Canonical) -> Verdict {
        if profile.bytes.len() > Canonical::MAX_BYTES {
            let message = format!(
                "{} bytes: at most {} are read",
                profile.bytes.len(),
                Canonical::MAX_BYTES
            );
            return Verdict::Refused(Finding::new(Code::TooLarge, FieldPath::root(), message).into());
        }
        let (answer, verdict) = oneshot::channel();
        let job = Job {
            tenant: tenant.to_owned(),
            profile: profile.clone(),
            answer,
            waiting: self.metrics.waits(),
        };
        let gone = || Verdict::Unknown("the fork server is shut down".to_owned());
        if self.requests.send(job).await.is_err() {
            return gone();
        }
        verdict.await.unwrap_or_else(|_| gone())
    }

    /// Whether a fork server is there to answer.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }
}

/// How long to wait between the death of a server and the next start.
#[derive(Debug)]
struct Pauses(Duration);

impl Pauses {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(30);
    /// A server that ran so long died by chance.
    const LONG_RUN: Duration = Duration::from_secs(60);

    /// Each is twice the one before.
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        pause
    }

    fn ran_for(&mut self, life: Duration) {
        if life >= Self::LONG_RUN {
            *self = Self::default();
        }
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

/// A request that the server has.
struct InFlight {
    tenant: String,
    answer: oneshot::Sender<Verdict>,
    since: Instant,
    /// After this the server is no longer believed in.
    until: Instant,
}

struct Actor {
    launch: Launch,
    alive: Arc<AtomicBool>,
    metrics: Metrics,
    queue: FairQueue<Job>,
    in_flight: HashMap<u64, InFlight>,
    next_id: u64,
}

impl Drop for Actor {
    /// Also where a panic ends it: nobody answers from here on.
    fn drop(&mut self) {
        self.set_alive(false);
    }
}

/// Why the loop over one connection ended.
enum Left {
    /// Nobody asks any more.
    ByClient,
    /// The reason, for logs and verdicts.
    ByServer(String),
}

impl Actor {
    fn new(launch: Launch, alive: Arc<AtomicBool>, metrics: Metrics) -> Self {
        let queue = FairQueue::new(launch.limits.children as usize);
        Self {
            launch,
            alive,
            metrics,
            queue,
            in_flight: HashMap::new(),
            next_id: 0,
        }
    }

    async fn run(mut self, connection: Connection, mut mailbox: mpsc::Receiver<Job>) {
        let mut connection = Some(connection);
        let mut pauses = Pauses::default();
        loop {
            if let Some(connected) = connection.take() {
                let since = Instant::now();
                self.set_alive(true);
                let left = self.talk(connected, &mut mailbox).await;
                self.set_alive(false);
                let Left::ByServer(reason) = left else { return };
                warn!(reason, "the fork server is gone; starting another");
                for (_, InFlight { tenant, answer, .. }) in self.in_flight.drain() {
                    self.queue.done(&tenant);
                    self.metrics.unanswered();
                    _ = answer.send(Verdict::Unknown(format!("the fork server was lost: {reason}")));
                }
                pauses.ran_for(since.elapsed());
            }
            if !self.rest(Instant::now() + pauses.next(), &mut mailbox).await {
                return;
            }
            match self.restart().await {
                Ok(started) => {
                    info!("the fork server is back");
                    self.metrics.restarted();
                    connection = Some(started);
                }
                Err(reason) => {
                    warn!(reason, "cannot start the fork server");
                    for job in self.queue.drain() {
                        self.metrics.unanswered();
                        _ = job.answer.send(Verdict::Unknown(reason.clone()));
                    }
                }
            }
        }
    }

    /// Fills the queue until the moment comes. False when nobody asks any more.
    async fn rest(&mut self, until: Instant, mailbox: &mut mpsc::Receiver<Job>) -> bool {
        loop {
            tokio::select! {
                job = mailbox.recv() => match job {
                    Some(job) => self.enqueue(job),
                    None => return false,
                },
                () = sleep_until(until) => return true,
            }
        }
    }

    async fn restart(&self) -> Result<Connection, String> {
        let launch = self.launch.clone();
        match tokio::task::spawn_blocking(move || launch.start()).await {
            Ok(started) => started.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn enqueue(&mut self, job: Job) {
        let tenant = job.tenant.clone();
        self.queue.push(&tenant, job);
    }

    async fn talk(&mut self, connection: Connection, mailbox: &mut mpsc::Receiver<Job>) -> Left {
        let socket = match register(connection.socket.as_fd()) {
            Ok(socket) => socket,
            Err(error) => return Left::ByServer(error.to_string()),
        };
        loop {
            while let Some((tenant, job)) = self.queue.next() {
                if job.answer.is_closed() {
                    self.queue.done(&tenant);
                    continue;
                }
                let id = self.next_id;
                self.next_id += 1;
                let packet = Request::encode(id, &job.profile.bytes);
                let since = Instant::now();
                let until = since + patience(&self.launch.limits);
                let request = InFlight {
                    tenant,
                    answer: job.answer,
                    since,
                    until,
                };
                drop(job.waiting);
                self.in_flight.insert(id, request);
                let sent = socket.async_io(Interest::WRITABLE, |socket| Ok(send(*socket, &packet)?));
                match timeout_at(until, sent).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => match only_this(&error, packet.len()) {
                        Some(reason) => {
                            self.metrics.unanswered();
                            self.answer(id, Verdict::Unknown(reason));
                        }
                        None => return Left::ByServer(error.to_string()),
                    },
                    Err(_) => return Left::ByServer(SILENT.to_owned()),
                }
            }
            let first_end = self.in_flight.values().map(|request| request.until).min();
            tokio::select! {
                job = mailbox.recv() => match job {
                    Some(job) => self.enqueue(job),
                    None => return Left::ByClient,
                },
                packet = socket.async_io(Interest::READABLE, |socket| {
                    Ok(receive(*socket, MAX_REPLY)?)
                }) => match packet {
                    Ok(Some((packet, _))) => if let Err(reason) = self.hear(&packet) {
                        return Left::ByServer(reason);
                    },
                    Ok(None) => return Left::ByServer("it ended".to_owned()),
                    Err(error) => return Left::ByServer(error.to_string()),
                },
                () = sleep_until(first_end.unwrap_or_else(Instant::now)), if first_end.is_some() => {
                    return Left::ByServer(SILENT.to_owned());
                }
            }
        }
    }

    fn hear(&mut self, packet: &[u8]) -> Result<(), String> {
        let Some(Reply::Done { id, outcome }) = Reply::decode(packet) else {
            return Err(format!("it says {:?}", String::from_utf8_lossy(packet)));
        };
        let Some(request) = self.in_flight.get(&id) else {
            return Err(format!("it answers a request {id} that nobody made"));
        };
        let took = request.since.elapsed();
        let verdict = outcome
            .into_verdict()
            .unwrap_or_else(|| Verdict::Unknown("the child's answer makes no sense".to_owned()));
        self.metrics.answered(&verdict, took);
        self.answer(id, verdict);
        Ok(())
    }

    fn set_alive(&self, alive: bool) {
        self.alive.store(alive, Ordering::Relaxed);
        self.metrics.server_is_up(alive);
    }

    fn answer(&mut self, id: u64, verdict: Verdict) {
        if let Some(InFlight { tenant, answer, .. }) = self.in_flight.remove(&id) {
            self.queue.done(&tenant);
            _ = answer.send(verdict);
        }
    }
}

/// Why a request could not be sent, where others still can: the server is not to blame, and another one would
/// not help.
fn only_this(error: &io::Error, bytes: usize) -> Option<String> {
    let errno = Errno::from_io_error(error)?;
    not_taken(errno, bytes).map(|reason| format!("cannot hand the profile to the fork server: {reason}"))
}

#[expect(unsafe_code, reason = "the only way to register a descriptor with tokio")]
fn register(socket: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: a `BorrowedFd` stays the same descriptor, and open, as long as it lives.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

/// How long a request may take at most: two compilations and a load, each to its limit, and then some.
fn patience(limits: &Limits) -> Duration {
    Duration::from_secs(u64::from(limits.wall_seconds) * 3 + 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_too_big_for_the_socket_is_unknown_for_itself_and_names_the_cure() {
        let reason = only_this(&Errno::MSGSIZE.into(), 70_000).unwrap();
        assert!(reason.contains("70000 bytes"), "{reason}");
        assert!(reason.contains("net.core.wmem_max"), "{reason}");
        for short in [Errno::NOBUFS, Errno::NOMEM] {
            assert!(only_this(&short.into(), 1).is_some(), "{short}");
        }
    }

    #[test]
    fn a_server_that_is_gone_is_not_taken_for_a_request_too_big() {
        for gone in [Errno::PIPE, Errno::CONNRESET, Errno::NOTCONN, Errno::BADF] {
            assert_eq!(only_this(&gone.into(), 1), None, "{gone}");
        }
        assert_eq!(only_this(&io::Error::other("no errno"), 1), None);
    }

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew_after_a_long_run() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.next(), Duration::from_millis(100));
        pauses.ran_for(Duration::from_secs(1));
        assert_eq!(pauses.next(), Duration::from_millis(200));
        for _ in 0..20 {
            pauses.next();
        }
        assert_eq!(pauses.next(), Duration::from_secs(30));
        pauses.ran_for(Duration::from_secs(60));
        assert_eq!(pauses.next(), Duration::from_millis(100));
    }
}
