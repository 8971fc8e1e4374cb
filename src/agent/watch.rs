//! The watches: four streams of what the API server holds, each cut down to what is kept of it.
//!
//! Each watch is a task of its own, with its own backoff, and goes on for ever. What went while a watch was
//! interrupted is noticed by the list that follows: [`Change::Begin`] to [`Change::End`] names all there is.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tower::service_fn;

use super::Metrics;
use super::backoff::Backoff;
use super::catalogue::{Object, Version, key};
use super::plan::Labels;
use super::usage::profiles_of;
use crate::api::{RawSeccompProfile, SeccompNode};
use crate::patience::patient;
use crate::profile::ProfileName;
use crate::text::chain;

/// How long the API server keeps a watch open, in seconds. A connection that died without a word is noticed
/// seconds after.
const WATCH_TIMEOUT: u32 = 120;
/// Objects per page of a first list. A profile may have a megabyte, and is held twice while a page is read; the more pages,
/// the longer a list takes where a thousand agents read one, until what it began with is no longer known.
const PAGE: u32 = 50;
/// How soon after an error a watch is tried again; it follows the API server's return within that.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(2);
/// And at the latest, where it was reached and said no: every agent of a cluster asks while a definition is missing.
const LAST_WAIT_REFUSED: Duration = Duration::from_secs(10);
/// A watch that was answered, and has not failed for this long since, works.
const WORKS_AFTER: Duration = Duration::from_secs(5);
/// What may wait for the loop. Watches pause while it is full.
const QUEUE: usize = 64;

/// What the watches tell.
#[derive(Debug)]
pub(super) enum Seen {
    /// By NAMESPACE/NAME.
    Profile(Change<String, Object>),
    /// The node's own Node object.
    Node(Change<(), NodeFacts>),
    /// By uid: the profiles that a pod of this node uses.
    Pod(Change<String, BTreeSet<ProfileName>>),
    /// The node's own report; `None` where it is one that no agent would write.
    Report(Change<(), Option<Box<SeccompNode>>>),
    /// Which cluster this is: the uid of its namespace kube-system.
    Cluster(String),
    /// What a watch cannot do, or that it can again.
    Trouble(Watched, Option<Trouble>),
}

/// Why a watch does not show what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What is wrong and what to do.
    pub(super) message: String,
    /// Whether the API server said so itself: then it takes a person to mend it.
    pub(super) is_refusal: bool,
}

/// One step of a watch.
#[derive(Debug)]
pub(super) enum Change<K, V> {
    /// All there is follows.
    Begin,
    Set(K, V),
    Unset(K),
    /// That was all there is.
    End,
}

/// What is known of a Node object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeFacts {
    pub(super) uid: String,
    pub(super) labels: Labels,
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Watched {
    Profiles,
    Node,
    Pods,
    Report,
    Cluster,
}

impl Watched {
    pub(super) const ALL: [Self; 5] = [
        Self::Profiles,
        Self::Node,
        Self::Pods,
        Self::Report,
        Self::Cluster,
    ];

    /// The resource, in the plural.
    pub(super) const fn plural(self) -> &'static str {
        match self {
            Self::Profiles => "seccompprofiles",
            Self::Node => "nodes",
            Self::Pods => "pods",
            Self::Report => "seccompnodes",
            Self::Cluster => "namespaces",
        }
    }

    /// The same, with its group where it has one.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Profiles => "seccompprofiles.callgate.dev",
            Self::Node => "nodes",
            Self::Pods => "pods",
            Self::Report => "seccompnodes.callgate.dev",
            Self::Cluster => "namespaces",
        }
    }
}

/// Starts all watches. They end when the tasks are dropped; one that ends by itself has panicked, but for the
/// question which cluster this is.
pub(super) fn start(client: &Client, node: &str, metrics: &Metrics) -> (mpsc::Receiver<Seen>, JoinSet<()>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let mut tasks = JoinSet::new();
    let client = patient(client.clone());
    let tell = |what| {
        let (client, answers) = overheard(client.clone());
        let teller = Teller {
            what,
            sender: sender.clone(),
            metrics: metrics.clone(),
            answers,
            told: None,
        };
        (client, teller)
    };
    let config = || watcher::Config::default().timeout(WATCH_TIMEOUT).page_size(PAGE);
    let named = || config().fields(&format!("metadata.name={node}"));

    let (client, teller) = tell(Watched::Profiles);
    tasks.spawn(follow(
        Api::<RawSeccompProfile<Box<RawValue>>>::all(client),
        config(),
        teller,
        profile,
        Seen::Profile,
    ));
    let (client, teller) = tell(Watched::Node);
    tasks.spawn(follow(
        Api::<PartialObjectMeta<Node>>::all(client),
        named(),
        teller,
        node_facts,
        Seen::Node,
    ));
    let (client, teller) = tell(Watched::Pods);
    tasks.spawn(follow(
        Api::<Pod>::all(client),
        config().fields(&format!("spec.nodeName={node}")),
        teller,
        |one| pod(&one),
        Seen::Pod,
    ));
    // Guarded: a report that somebody made unreadable is written anew.
    let (client, teller) = tell(Watched::Report);
    tasks.spawn(follow(
        Api::<DeserializeGuard<SeccompNode>>::all(client),
        named(),
        teller,
        |report| ((), report.0.ok().map(Box::new)),
        Seen::Report,
    ));
    let (client, teller) = tell(Watched::Cluster);
    tasks.spawn(identify(Api::all(client), teller));
    (receiver, tasks)
}

/// The same client, and word of each request that is answered with what it asked for. The watch itself tells of none
/// where nothing has changed.
fn overheard(client: Client) -> (Client, watch::Receiver<()>) {
    let (namespace, until) = (client.default_namespace().to_owned(), *client.valid_until());
    let (answered, answers) = watch::channel(());
    let service = service_fn(move |request| {
        let (client, answered) = (client.clone(), answered.clone());
        async move {
            let answer = client.send(request).await?;
            if answer.status().is_success() {
                answered.send_replace(());
            }
            Ok::<_, kube::Error>(answer)
        }
    });
    (Client::new(service, namespace).with_valid_until(until), answers)
}

/// What is kept of a profile. Its spec is read where it is a new one: most events tell of a new status.
pub(super) fn profile(profile: RawSeccompProfile<Box<RawValue>>) -> (String, Object) {
    let RawSeccompProfile { metadata, spec, .. } = profile;
    let namespace = metadata.namespace.unwrap_or_default();
    let name = metadata.name.unwrap_or_default();
    let version = Version {
        uid: metadata.uid.unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
    };
    let object = Object {
        namespace,
        name,
        version,
        spec,
    };
    (key(&object.namespace, &object.name), object)
}

/// What is kept of the Node.
pub(super) fn node_facts(node: PartialObjectMeta<Node>) -> ((), NodeFacts) {
    let uid = node.metadata.uid.unwrap_or_default();
    let labels = node.metadata.labels.unwrap_or_default();
    ((), NodeFacts { uid, labels })
}

/// What is kept of a pod.
pub(super) fn pod(pod: &Pod) -> (String, BTreeSet<ProfileName>) {
    (pod.uid().unwrap_or_default(), profiles_of(pod))
}

/// One step of a watch, of which only what `keep` keeps goes on.
pub(super) fn change<T, K, V>(event: Event<T>, keep: impl Fn(T) -> (K, V)) -> Change<K, V> {
    match event {
        Event::Init => Change::Begin,
        Event::Apply(object) | Event::InitApply(object) => {
            let (key, value) = keep(object);
            Change::Set(key, value)
        }
        Event::Delete(object) => Change::Unset(keep(object).0),
        Event::InitDone => Change::End,
    }
}

/// Follows one watch for ever. A closed channel ends it: nobody listens any more.
async fn follow<T, K, V>(
    api: Api<T>,
    config: watcher::Config,
    mut tell: Teller,
    keep: impl Fn(T) -> (K, V),
    seen: impl Fn(Change<K, V>) -> Seen,
) where
    T: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut stream = std::pin::pin!(watcher(api, config));
    let mut pauses = Pauses::new();
    loop {
        let next = tokio::select! {
            biased;
            next = stream.next() => next,
            () = tell.recovered() => {
                pauses = Pauses::new();
                if tell.works().await {
                    continue;
                }
                return;
            }
        };
        let told = match next {
            // The stream of a watcher has no end.
            None => return,
            Some(Err(error)) => {
                let told = tell.trouble(&error).await;
                tokio::time::sleep(pauses.next(tell.told.as_ref())).await;
                told
            }
            Some(Ok(Event::Init)) => tell.send(seen(Change::Begin)).await,
            Some(Ok(event)) => {
                pauses = Pauses::new();
                tell.works().await && tell.send(seen(change(event, &keep))).await
            }
        };
        if !told {
            return;
        }
    }
}

/// How long a watch that fails waits before it is tried again.
#[derive(Debug)]
struct Pauses {
    unreached: Backoff,
    refused: Backoff,
}

impl Pauses {
    const fn new() -> Self {
        Self {
            unreached: Backoff::new(FIRST_WAIT, LAST_WAIT),
            refused: Backoff::new(FIRST_WAIT, LAST_WAIT_REFUSED),
        }
    }

    fn next(&mut self, trouble: Option<&Trouble>) -> Duration {
        match trouble {
            Some(trouble) if trouble.is_refusal => self.refused.wait(),
            Some(_) | None => self.unreached.wait(),
        }
    }
}

/// Asks which cluster this is, until there is an answer.
async fn identify(namespaces: Api<Namespace>, mut tell: Teller) {
    let mut pauses = Pauses::new();
    loop {
        match namespaces.get("kube-system").await {
            Ok(namespace) => {
                tell.works().await;
                tell.send(Seen::Cluster(namespace.uid().unwrap_or_default()))
                    .await;
                return;
            }
            Err(error) => {
                tell.trouble(&watcher::Error::InitialListFailed(error)).await;
                tokio::time::sleep(pauses.next(tell.told.as_ref())).await;
            }
        }
    }
}

/// Tells the loop, and the log once for each change.
struct Teller {
    what: Watched,
    sender: mpsc::Sender<Seen>,
    metrics: Metrics,
    /// Of the requests of this watch.
    answers: watch::Receiver<()>,
    told: Option<Trouble>,
}

impl Teller {
    /// Returns where there was trouble, once a request has been answered since, and nothing came of it for a while.
    async fn recovered(&mut self) {
        if self.told.is_none() || self.answers.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(WORKS_AFTER).await;
    }

    /// Whether anybody listens.
    async fn send(&self, seen: Seen) -> bool {
        self.sender.send(seen).await.is_ok()
    }

    async fn works(&mut self) -> bool {
        if self.told.take().is_none() {
            return true;
        }
        tracing::info!(resource = self.what.as_str(), "works again");
        self.send(Seen::Trouble(self.what, None)).await
    }

    async fn trouble(&mut self, error: &watcher::Error) -> bool {
        self.metrics.watch_failed(self.what);
        self.answers.mark_unchanged();
        let Some(trouble) = explain(self.what, error) else {
            return true;
        };
        if self.told.as_ref() == Some(&trouble) {
            return true;
        }
        tracing::error!(resource = self.what.as_str(), "{}; trying again", trouble.message);
        self.told = Some(trouble.clone());
        self.send(Seen::Trouble(self.what, Some(trouble))).await
    }
}

/// What is wrong and what to do; `None` where nothing is: the API server has forgotten where the watch stood, and
/// a list follows.
fn explain(what: Watched, error: &watcher::Error) -> Option<Trouble> {
    let resource = what.as_str();
    let status = match error {
        watcher::Error::WatchError(status)
        | watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status,
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => {
            return Some(Trouble {
                message: format!(
                    "cannot read {resource}: the API server cannot be reached: {}",
                    chain(source)
                ),
                is_refusal: false,
            });
        }
        watcher::Error::NoResourceVersion => {
            return Some(Trouble {
                message: format!("cannot watch {resource}: the API server gave no resourceVersion"),
                is_refusal: true,
            });
        }
    };
    let message = match status.code {
        410 => return None,
        401 => format!(
            "cannot read {resource}: the API server does not know this token ({})",
            status.message
        ),
        403 => format!(
            "may not read {resource}: bind ClusterRole callgate-agent to its ServiceAccount ({})",
            status.message
        ),
        404 if matches!(what, Watched::Profiles | Watched::Report) => format!(
            "the API server does not know {resource}: install the CustomResourceDefinitions in crds/ ({})",
            status.message
        ),
        code => format!(
            "cannot read {resource}: the API server answers {code}: {}",
            status.message
        ),
    };
    Some(Trouble {
        message,
        is_refusal: true,
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;
    use std::sync::{Arc, Mutex};

    use futures::stream;
    use http_body_util::combinators::BoxBody;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use hyper::body::{Bytes, Frame};
    use hyper::{Request, Response};
    use kube::client::Body;
    use kube::core::Status;
    use prometheus_client::registry::Registry;
    use serde_json::json;
    use tokio::time::{Instant, timeout_at};

    use super::*;

    type Answer = Response<BoxBody<Bytes, Infallible>>;

    fn reply(code: u16, body: impl Into<Bytes>) -> Answer {
        let body = Full::new(body.into()).boxed();
        Response::builder().status(code).body(body).unwrap()
    }

    fn refusal(code: u16) -> Answer {
        let status = json!({"kind": "Status", "code": code, "message": "said so"});
        reply(code, status.to_string().into_bytes())
    }

    fn empty_list() -> Answer {
        let list =
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
        reply(200, list.to_string().into_bytes())
    }

    /// A watch that goes on, and tells of nothing.
    fn open_watch() -> Answer {
        let nothing = stream::pending::<Result<Frame<Bytes>, Infallible>>();
        Response::new(BoxBody::new(StreamBody::new(nothing)))
    }

    /// What is told of trouble with the Node within ten minutes, where these answer what is asked about that, and then
    /// nothing any more.
    async fn told(answers: impl Iterator<Item = Answer> + Send + 'static) -> Vec<bool> {
        let answers = Arc::new(Mutex::new(answers));
        let service = service_fn(move |request: Request<Body>| {
            let is_of_node = request.uri().path().ends_with("/nodes");
            let answer = is_of_node.then(|| answers.lock().unwrap().next()).flatten();
            async move {
                match answer {
                    Some(answer) => Ok::<_, Infallible>(answer),
                    None => pending().await,
                }
            }
        });
        let metrics = Metrics::register(&mut Registry::default());
        let (mut seen, _watches) = start(&Client::new(service, "default"), "node", &metrics);
        let end = Instant::now() + Duration::from_secs(600);
        let mut told = Vec::new();
        while let Ok(Some(seen)) = timeout_at(end, seen.recv()).await {
            if let Seen::Trouble(Watched::Node, trouble) = seen {
                told.push(trouble.is_some());
            }
        }
        told
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_refused_or_gets_no_answer_never_works_again_whatever_time_passes() {
        assert_eq!(told([refusal(500)].into_iter()).await, [true]);
        for code in [403, 429, 500, 503] {
            let first = told(std::iter::repeat_with(move || refusal(code))).await;
            assert_eq!(first, [true], "{code}");
            let then = [empty_list(), reply(200, "")].into_iter();
            let later = told(then.chain(std::iter::repeat_with(move || refusal(code)))).await;
            assert_eq!(later, [true], "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_goes_on_after_trouble_works_again_though_nothing_changes() {
        let answers = [empty_list(), refusal(500), open_watch()];
        assert_eq!(told(answers.into_iter()).await, [true, false]);
    }

    fn answer(code: u16) -> watcher::Error {
        let status = Status {
            message: "said so".to_owned(),
            code,
            ..Status::default()
        };
        watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn a_missing_definition_and_a_missing_right_name_the_resource_and_the_cure() {
        for (what, code, words) in [
            (Watched::Profiles, 404, ["seccompprofiles.callgate.dev", "crds/"]),
            (Watched::Report, 404, ["seccompnodes.callgate.dev", "crds/"]),
            (Watched::Pods, 403, ["may not read pods", "ClusterRole"]),
            (Watched::Node, 401, ["nodes", "token"]),
            (Watched::Cluster, 500, ["namespaces", "answers 500: said so"]),
        ] {
            let Trouble {
                message: text,
                is_refusal,
            } = explain(what, &answer(code)).unwrap();
            assert!(is_refusal);
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert!(text.contains("said so"), "{text}");
        }
    }

    #[test]
    fn an_api_server_that_says_no_is_asked_less_often_than_one_that_is_away() {
        let trouble = |is_refusal| Trouble {
            message: String::new(),
            is_refusal,
        };
        let mut pauses = Pauses::new();
        let mut longest = |is_refusal| {
            let pauses = (0..20).map(|_| pauses.next(Some(&trouble(is_refusal))));
            pauses.max().unwrap()
        };
        assert!(longest(true) >= LAST_WAIT_REFUSED / 2);
        assert!(longest(false) <= LAST_WAIT);
    }

    #[test]
    fn an_expired_watch_is_no_trouble() {
        assert_eq!(explain(Watched::Profiles, &answer(410)), None);
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let error = kube::Error::Service("connection refused".into());
        let Trouble {
            message: text,
            is_refusal,
        } = explain(Watched::Pods, &watcher::Error::WatchStartFailed(error)).unwrap();
        assert!(!is_refusal);
        assert!(
            text.contains("cannot be reached") && text.contains("connection refused"),
            "{text}"
        );
        assert_eq!(text.matches("connection refused").count(), 1);
    }
}
