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

    /// Starts to write. [`Outbox::sent`] tells the end.
    pub(super) fn send(&mut self, object: SeccompNode) {
        let (api, node) = (self.api.clone(), self.node.clone());
        self.sending.spawn(async move {
            let written = write(&api, &node, &object);
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

/// Writes the report, and makes it where there is none. A definition that is older than this agent drops what it does not
/// know. As a merge, which takes the API server a fourth less than the same by server-side apply: no one else writes a
/// report, so that nothing is to be kept apart by owners.
async fn write(api: &Api<SeccompNode>, node: &str, object: &SeccompNode) -> kube::Result<SeccompNode> {
    let field_manager = Some(MANAGER.to_owned());
    let merge = PatchParams {
        field_manager: field_manager.clone(),
        ..PatchParams::default()
    };
    match api.patch(node, &merge, &Patch::Merge(object)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            let create = PostParams {
                field_manager,
                ..PostParams::default()
            };
            api.create(&create, object).await
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hyper::{Request, Response};
    use kube::client::Body;
    use prometheus_client::registry::Registry;
    use serde_json::json;
    use tower::service_fn;

    use super::*;
    use crate::api::SeccompNodeReport;

    #[tokio::test(start_paused = true)]
    async fn a_report_that_is_refused_is_sent_once_and_the_reason_is_the_api_server_s() {
        for (code, is_busy) in [(429, true), (503, true), (504, true), (403, false), (500, false)] {
            let asked = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&asked);
            let service = service_fn(move |_: Request<Body>| {
                count.fetch_add(1, Ordering::Relaxed);
                let status = json!({"kind": "Status", "code": code, "message": "come again"});
                let body = Body::from(status.to_string().into_bytes());
                let answer = Response::builder().status(code).body(body).unwrap();
                async move { Ok::<_, Infallible>(answer) }
            });
            let client = kube::Client::new(service, "default");
            let metrics = Metrics::register(&mut Registry::default());
            let mut outbox = Outbox::new(client, "node".to_owned(), metrics);
            outbox.send(SeccompNode::new("node", SeccompNodeReport::default()));
            match outbox.sent().await.unwrap_err() {
                Unsent::Busy(message) if is_busy => assert_eq!(message, "come again"),
                Unsent::Refused(message) if !is_busy => assert_eq!(message, "come again"),
                other => panic!("{code}: {other:?}"),
            }
            assert_eq!(asked.load(Ordering::Relaxed), 1, "{code}");
        }
    }
}
