//! Tells of news as Events on the profile: one after the other, so that however much happens at once, the API server
//! is asked for one at a time. An Event that cannot be recorded is let go of; the status says what is so.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Metrics;
use super::event::ObjectVersion;
use super::news::News;
use crate::api::{SeccompProfile, cut};
use crate::text::chain;

/// Who reports.
const CONTROLLER: &str = "callgate-controller";
/// How long one Event may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// News that may wait: some seconds' worth. What is more than that is a storm, and let go of.
const QUEUE: usize = 256;
/// What the API server takes of a reporting instance.
const MAX_INSTANCE: usize = 128;

/// The way to the API server. It ends with this value.
#[derive(Debug)]
pub(super) struct Events {
    queue: mpsc::Sender<(ObjectReference, News)>,
    metrics: Metrics,
    _task: AbortOnDropHandle<()>,
}

impl Events {
    pub(super) fn start(client: Client, identity: &str, metrics: Metrics) -> Self {
        let reporter = Reporter {
            controller: CONTROLLER.to_owned(),
            instance: Some(cut(identity, MAX_INSTANCE)),
        };
        let recorder = Recorder::new(client, reporter);
        let (queue, news) = mpsc::channel(QUEUE);
        let task = tokio::spawn(record(recorder, news, metrics.clone()));
        Self {
            queue,
            metrics,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Never waits. The same news of one generation within minutes become a series, which is one Event; those of
    /// different generations do not, because `seen_as` tells them apart.
    pub(super) fn tell(&self, version: &ObjectVersion, seen_as: u64, news: Vec<News>) {
        for news in news {
            let regarding = ObjectReference {
                api_version: Some(SeccompProfile::api_version(&()).into_owned()),
                kind: Some(SeccompProfile::kind(&()).into_owned()),
                namespace: Some(version.namespace().to_owned()),
                name: Some(version.name().to_owned()),
                uid: Some(version.uid.clone()),
                resource_version: Some(seen_as.to_string()),
                ..ObjectReference::default()
            };
            if self.queue.try_send((regarding, news)).is_err() {
                self.metrics.told("dropped");
            }
        }
    }
}

async fn record(recorder: Recorder, mut news: mpsc::Receiver<(ObjectReference, News)>, metrics: Metrics) {
    while let Some((regarding, news)) = news.recv().await {
        let event = Event {
            type_: if news.is_warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: news.reason.to_owned(),
            note: Some(news.note),
            action: news.action.to_owned(),
            secondary: None,
        };
        let error = match timeout(TIMEOUT, recorder.publish(&event, &regarding)).await {
            Ok(Ok(())) => {
                metrics.told("ok");
                continue;
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer in {} s", TIMEOUT.as_secs()),
        };
        metrics.told("error");
        tracing::warn!(
            profile = format!(
                "{}/{}",
                regarding.namespace.unwrap_or_default(),
                regarding.name.unwrap_or_default()
            ),
            reason = news.reason,
            error,
            "the Event could not be recorded and is let go of; the status says the same"
        );
    }
}
