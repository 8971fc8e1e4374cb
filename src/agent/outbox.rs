//! The report on its way to the API server. A thin shell; what to write, and when, [`Draft`](super::draft::Draft) says.

use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::task::JoinSet;

use super::Metrics;
use super::draft::Unsent;
use super::report;
use crate::api::SeccompNode;
use crate::patience;
use crate::text::chain;

/// Who writes, as `metadata.managedFields` has it.
const MANAGER: &str = "callgate-agent";
/// How long a write may take. Not less: given up while it waits for its turn, it is to be made anew, and waits again.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Which write in a row that a busy API server does not take is worth a line in the log: with many nodes the first ones
/// are in the order of things.
const BUSY_TOLD: u32 = 3;

/// Writes of the report, one at a time.
#[derive(Debug)]
pub(super) struct Outbox {
    api: Api<SeccompNode>,
    node: String,
    metrics: Metrics,
    /// Whether what was written last was all of the report.
    is_whole: bool,
    /// How many writes in a row have failed.
    failed: u32,
    /// Which failure is in the log.
    told: Option<String>,
    /// At most one.
    sending: JoinSet<Sent>,
}

/// What was written, and what the API server holds after that.
type Sent = (SeccompNode, Result<SeccompNode, Unsent>);

impl Outbox {
    pub(super) fn new(client: kube::Client, node: String, metrics: Metrics) -> Self {
        Self {
            api: Api::all(client),
            node,
            metrics,
            is_whole: true,
            failed: 0,
            told: None,
            sending: JoinSet::new(),
        }
    }

    /// Starts to write; `has_one` is whether the API server has a report of this node, as far as is known.
    /// [`Outbox::sent`] tells the end.
    pub(super) fn send(&mut self, object: SeccompNode, has_one: bool) {
        let (api, node) = (self.api.clone(), self.node.clone());
        self.sending.spawn(async move {
            let written = write(&api, &node, &object, has_one);
            let outcome = match tokio::time::timeout(TIMEOUT, written).await {
                Ok(Ok(held)) => Ok(held),
                Ok(Err(kube::Error::Api(status))) if patience::is_busy(status.code) => {
                    Err(Unsent::Busy(status.message))
                }
                Ok(Err(kube::Error::Api(status))) => Err(Unsent::Refused(status.message)),
                Ok(Err(error)) => Err(Unsent::Unreached(chain(&error))),
                Err(_) => Err(Unsent::Busy(format!("no answer within {} s", TIMEOUT.as_secs()))),
            };
            (object, outcome)
        });
    }

    /// Returns when a write has ended: what was written, and what the API server holds now. Cancel safe.
    pub(super) async fn sent(&mut self) -> Result<(SeccompNode, SeccompNode), Unsent> {
        let Some(ended) = self.sending.join_next().await else {
            return std::future::pending().await;
        };
        let error = match ended {
            Ok((object, Ok(held))) => {
                self.metrics.reported(true);
                self.failed = 0;
                let is_whole = report::is_held(&held, &object);
                if std::mem::replace(&mut self.is_whole, is_whole) && !is_whole {
                    tracing::warn!(
                        node = self.node,
                        "the definition of SeccompNodes is older than this agent: what it does not know of the report is \
                         left out; apply the CustomResourceDefinitions of this version"
                    );
                }
                if self.told.take().is_some() {
                    tracing::info!(node = self.node, "the report is written again");
                }
                return Ok((object, held));
            }
            Ok((_, Err(error))) => error,
            Err(error) => Unsent::Refused(error.to_string()),
        };
        self.metrics.reported(false);
        self.failed += 1;
        let (Unsent::Refused(message) | Unsent::Busy(message) | Unsent::Unreached(message)) = &error;
        let is_worth_it = self.failed >= BUSY_TOLD || !matches!(error, Unsent::Busy(_));
        if is_worth_it && self.told.as_ref() != Some(message) {
            tracing::error!(
                node = self.node,
                "cannot write the SeccompNode: {message}; trying again"
            );
            self.told = Some(message.clone());
        }
        Err(error)
    }
}

/// Writes the report, or makes it, whichever `has_one` suggests. A definition that is older than this agent drops what it
/// does not know. As a merge, which takes the API server a fourth less than the same by server-side apply: no one else
/// writes a report, so that nothing is to be kept apart by owners.
async fn write(
    api: &Api<SeccompNode>,
    node: &str,
    object: &SeccompNode,
    has_one: bool,
) -> kube::Result<SeccompNode> {
    let field_manager = Some(MANAGER.to_owned());
    let create = PostParams {
        field_manager: field_manager.clone(),
        ..PostParams::default()
    };
    let merge = PatchParams {
        field_manager,
        ..PatchParams::default()
    };
    if !has_one {
        match api.create(&create, object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            outcome => return outcome,
        }
    }
    match api.patch(node, &merge, &Patch::Merge(object)).await {
        Err(kube::Error::Api(status)) if has_one && status.is_not_found() => {
            api.create(&create, object).await
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use hyper::{Request, Response};
    use kube::client::Body;
    use prometheus_client::registry::Registry;
    use serde_json::json;
    use tower::service_fn;

    use super::*;
    use crate::api::SeccompNodeReport;

    /// What comes of a report for which these are the answers, by method, and what was asked.
    async fn ended(answers: &'static [(&str, u16)], has_one: bool) -> (Result<(), Unsent>, Vec<String>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let asks = Arc::clone(&asked);
        let service = service_fn(move |request: Request<Body>| {
            let method = request.method().to_string();
            let (_, code) = *answers.iter().find(|(one, _)| *one == method).unwrap();
            asks.lock().unwrap().push(method);
            let reason = match code {
                404 => "NotFound",
                409 => "AlreadyExists",
                _ => "Other",
            };
            let answer = match code {
                200 => serde_json::to_value(SeccompNode::new("node", SeccompNodeReport::default())).unwrap(),
                _ => json!({"kind": "Status", "code": code, "reason": reason, "message": "come again"}),
            };
            let body = Body::from(answer.to_string().into_bytes());
            let answer = Response::builder().status(code).body(body).unwrap();
            async move { Ok::<_, Infallible>(answer) }
        });
        let client = kube::Client::new(service, "default");
        let metrics = Metrics::register(&mut Registry::default());
        let mut outbox = Outbox::new(client, "node".to_owned(), metrics);
        outbox.send(SeccompNode::new("node", SeccompNodeReport::default()), has_one);
        let ended = outbox.sent().await.map(drop);
        let asked = asked.lock().unwrap().clone();
        (ended, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_that_is_refused_is_sent_once_and_the_reason_is_the_api_server_s() {
        const REFUSALS: [(&[(&str, u16)], bool); 5] = [
            (&[("PATCH", 429)], true),
            (&[("PATCH", 503)], true),
            (&[("PATCH", 504)], true),
            (&[("PATCH", 403)], false),
            (&[("PATCH", 500)], false),
        ];
        for (answers, is_busy) in REFUSALS {
            let (ended, asked) = ended(answers, true).await;
            match ended.unwrap_err() {
                Unsent::Busy(message) if is_busy => assert_eq!(message, "come again"),
                Unsent::Refused(message) if !is_busy => assert_eq!(message, "come again"),
                other => panic!("{answers:?}: {other:?}"),
            }
            assert_eq!(asked, ["PATCH"], "{answers:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_is_made_or_changed_as_is_needed_and_what_is_known_says_which_comes_first() {
        const THERE: &[(&str, u16)] = &[("PATCH", 200), ("POST", 409)];
        const NOT_THERE: &[(&str, u16)] = &[("PATCH", 404), ("POST", 200)];
        for (answers, has_one, requests) in [
            (THERE, true, &["PATCH"][..]),
            (THERE, false, &["POST", "PATCH"]),
            (NOT_THERE, true, &["PATCH", "POST"]),
            (NOT_THERE, false, &["POST"]),
        ] {
            let (ended, asked) = ended(answers, has_one).await;
            assert!(ended.is_ok(), "{answers:?}: {ended:?}");
            assert_eq!(asked, requests);
        }
        // Nobody is asked in turns for ever.
        let (ended, asked) = ended(&[("PATCH", 404), ("POST", 409)], false).await;
        assert!(matches!(ended, Err(Unsent::Refused(_))), "{ended:?}");
        assert_eq!(asked, ["POST", "PATCH"]);
    }
}
