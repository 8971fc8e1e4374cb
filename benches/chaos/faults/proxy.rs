//! A proxy before the API server that does what API servers, and what lies between, do on bad days.
//!
//! Plain HTTP on the loopback interface in front, TLS behind. What it does to requests: 429 with `Retry-After`, 500, an
//! answer that is lost after the request was carried out, an answer that breaks off, a slow one. To watches: 410 at the
//! start and as an event, an end without a word, a connection that breaks within a line, slow events, the same event
//! twice, and two neighbouring events of two objects in the other order, at once.
//!
//! Real clients see all of this but for the last: one watch tells in the order of resource versions. Events of different
//! watches, whose order nobody promises, are late by different times here. Never does an event go missing while its watch
//! goes on, never are two events of one object swapped, and never does a watch break between two that are: who had seen
//! only the newer one would go on from there, and never hear of the older one. Clients may rely on all that.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How late things come at most.
const SLOW: Duration = Duration::from_secs(2);
/// How long an event waits for another one to change places with.
const SWAP: Duration = Duration::from_millis(300);

type Sender = mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>;
type Answer = Response<
    StreamBody<std::pin::Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send>>>,
>;

/// It serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    mood: Arc<Mood>,
    task: JoinHandle<()>,
}

/// What it does, and what it has done.
#[derive(Debug)]
struct Mood {
    is_bad: AtomicBool,
    random: Mutex<fastrand::Rng>,
    done: Mutex<BTreeMap<&'static str, u64>>,
}

impl Proxy {
    /// Before the API server of this kubeconfig, whose own credentials are not used. It begins without faults.
    pub(crate) async fn start(kubeconfig: &std::path::Path, random: fastrand::Rng) -> Result<Self> {
        let mut kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        for user in &mut kubeconfig.auth_infos {
            user.auth_info = None;
        }
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        // What the API server refuses is for who asks.
        config.default_retry = false;
        let server: Client = ClientBuilder::try_from(config)?.build();
        let mood = Arc::new(Mood {
            is_bad: AtomicBool::new(false),
            random: Mutex::new(random),
            done: Mutex::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, server, mood.clone()));
        Ok(Self { address, mood, task })
    }

    /// A kubeconfig with this token that leads here, at this path.
    pub(crate) fn kubeconfig(&self, token: &str, path: &std::path::Path) -> Result<()> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "chaos", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": "chaos", "user": { "token": token } }],
            "contexts": [{ "name": "chaos", "context": { "cluster": "chaos", "user": "chaos" } }],
            "current-context": "chaos",
        });
        std::fs::write(path, config.to_string()).with_context(|| path.display().to_string())
    }

    /// Whether there are faults from now on.
    pub(crate) fn set_bad(&self, is_bad: bool) {
        self.mood.is_bad.store(is_bad, Ordering::SeqCst);
    }

    /// How often what was done.
    pub(crate) fn done(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.mood.done).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mood {
    /// Whether to do this now, so many times out of a hundred; counted if so.
    fn does(&self, percent: u8, what: &'static str) -> bool {
        let does = self.is_bad.load(Ordering::SeqCst) && lock(&self.random).u8(..100) < percent;
        if does {
            self.did(what);
        }
        does
    }

    fn did(&self, what: &'static str) {
        *lock(&self.done).entry(what).or_default() += 1;
    }

    fn time(&self) -> Duration {
        SLOW.mul_f64(lock(&self.random).f64())
    }

    fn part(&self, length: usize) -> usize {
        lock(&self.random).usize(..length.max(1))
    }
}

async fn accept(listener: TcpListener, server: Client, mood: Arc<Mood>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // Of a client that is gone already there is nothing to say.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let (server, mood) = (server.clone(), mood.clone());
        connections.spawn(async move {
            let service =
                service_fn(async |request| Ok::<_, Infallible>(answer(request, &server, &mood).await));
            // That it breaks off is what is wanted at times.
            _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>, server: &Client, mood: &Arc<Mood>) -> Answer {
    mood.did("requests");
    let query = request.uri().query().unwrap_or_default();
    let is_watch = query
        .split('&')
        .any(|part| matches!(part, "watch=true" | "watch=1"));
    if mood.does(8, "slow answers") {
        tokio::time::sleep(mood.time()).await;
    }
    if mood.does(8, "answers 429") {
        return status(
            429,
            "TooManyRequests",
            "too many requests, please try again later",
        );
    }
    if mood.does(8, "answers 500") {
        return status(
            500,
            "InternalError",
            "an error on the server has prevented the request from succeeding",
        );
    }
    if is_watch && mood.does(8, "answers 410 to watches") {
        return status(410, "Expired", "too old resource version");
    }
    let forwarded = match forward(request, server).await {
        Ok(forwarded) => forwarded,
        Err(error) => return status(502, "BadGateway", &format!("{error:#}")),
    };
    let (head, body) = forwarded.into_parts();
    let (sender, mut receiver) = mpsc::channel(1);
    if is_watch && head.status == StatusCode::OK {
        tokio::spawn(watch(body, sender, mood.clone()));
    } else {
        let body = body.collect_bytes().await.unwrap_or_default();
        if mood.does(5, "answers lost after the request was carried out") {
            return status(500, "InternalError", "the answer was lost");
        }
        let is_cut = mood.does(4, "answers that break off");
        let length = if is_cut { mood.part(body.len()) } else { body.len() };
        tokio::spawn(async move {
            _ = sender.send(Ok(Frame::data(body.slice(..length)))).await;
            if is_cut {
                _ = sender.send(Err(broken())).await;
            }
        });
    }
    let stream = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
    let mut answer = Response::from_parts(head, StreamBody::new(stream.boxed()));
    // The length is another one where it breaks off.
    answer.headers_mut().remove("content-length");
    answer.headers_mut().remove("transfer-encoding");
    answer
}

async fn forward(request: Request<Incoming>, server: &Client) -> Result<Response<Body>> {
    let (mut head, body) = request.into_parts();
    for header in ["host", "connection", "content-length", "transfer-encoding"] {
        head.headers.remove(header);
    }
    // To whichever version of HTTP is spoken behind.
    head.version = hyper::Version::default();
    let body = body.collect().await?.to_bytes().to_vec();
    Ok(server.send(Request::from_parts(head, Body::from(body))).await?)
}

/// Passes a watch on, line by line.
async fn watch(body: Body, sender: Sender, mood: Arc<Mood>) {
    let mut lines = Lines {
        body,
        rest: Vec::new(),
    };
    let mut held: Option<Vec<u8>> = None;
    loop {
        let next = async {
            match held {
                None => Ok(lines.next().await),
                Some(_) => tokio::time::timeout(SWAP, lines.next()).await,
            }
        };
        let next = tokio::select! {
            next = next => next,
            () = sender.closed() => return,
        };
        let Ok(line) = next else {
            let alone = held.take().unwrap_or_default();
            if sender.send(Ok(Frame::data(alone.into()))).await.is_err() {
                return;
            }
            continue;
        };
        let Some(mut line) = line else {
            if let Some(first) = held {
                _ = sender.send(Ok(Frame::data(first.into()))).await;
            }
            return;
        };
        let mut is_swapped = false;
        if let Some(first) = held.take() {
            is_swapped = may_swap(&first, &line);
            let both = if is_swapped { [line, first] } else { [first, line] };
            if is_swapped {
                mood.did("events of two objects swapped");
            }
            line = both.concat();
        } else if mood.does(10, "events held back to be swapped") {
            held = Some(line);
            continue;
        }
        if mood.does(10, "late events") {
            tokio::time::sleep(mood.time()).await;
        }
        if mood.does(3, "watches cut within a line") {
            // Of two that are swapped nothing, see above.
            line.truncate(if is_swapped { 0 } else { mood.part(line.len()) });
            _ = sender.send(Ok(Frame::data(line.into()))).await;
            _ = sender.send(Err(broken())).await;
            return;
        }
        if mood.does(3, "watches ended with 410 as an event") {
            let gone =
                json!({"type": "ERROR", "object": failure(410, "Expired", "too old resource version")});
            _ = sender.send(Ok(Frame::data(format!("{gone}\n").into()))).await;
            return;
        }
        if mood.does(2, "watches ended without a word") {
            return;
        }
        if mood.does(10, "events told twice") {
            line = line.repeat(2);
        }
        if sender.send(Ok(Frame::data(line.into()))).await.is_err() {
            return;
        }
    }
}

/// A body as lines, each with its line feed.
struct Lines {
    body: Body,
    rest: Vec<u8>,
}

impl Lines {
    /// May be dropped while it waits, and asked again.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let rest = self.rest.split_off(end + 1);
                return Some(std::mem::replace(&mut self.rest, rest));
            }
            let frame = self.body.frame().await?.ok()?;
            self.rest.extend(frame.into_data().ok()?);
        }
    }
}

/// Whether both are news of objects, and of two.
fn may_swap(first: &[u8], second: &[u8]) -> bool {
    let object = |line: &[u8]| -> Option<String> {
        let event: Value = serde_json::from_slice(line).ok()?;
        let is_news = matches!(event["type"].as_str()?, "ADDED" | "MODIFIED" | "DELETED");
        is_news.then(|| event["object"]["metadata"]["uid"].as_str().map(str::to_owned))?
    };
    matches!((object(first), object(second)), (Some(first), Some(second)) if first != second)
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    })
}

fn status(code: u16, reason: &str, message: &str) -> Answer {
    let body = failure(code, reason, message).to_string();
    let stream = futures::stream::once(async move { Ok(Frame::data(Bytes::from(body))) });
    let mut answer = Response::new(StreamBody::new(stream.boxed()));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    let headers = answer.headers_mut();
    headers.insert(
        "content-type",
        hyper::header::HeaderValue::from_static("application/json"),
    );
    if code == 429 {
        headers.insert("retry-after", hyper::header::HeaderValue::from_static("1"));
    }
    answer
}

fn broken() -> std::io::Error {
    std::io::ErrorKind::ConnectionReset.into()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
