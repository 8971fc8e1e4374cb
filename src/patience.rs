//! What requests do where the API server has too much to do: they wait, and are made again.
//!
//! For what is the same whenever it is asked: lists, watches. Who writes has something newer to say by then.

use std::time::Duration;

use kube::Client;
use kube::client::retry::RetryPolicy;
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder, service_fn};

/// How soon an answer that says so is followed by the next request; up to three times as long, at random, and twice as
/// long after the next one. The time that the answer names is not waited for: it grows to 32 s while many requests are
/// refused, and a watch that waits as long shows a change as late.
/// Source: `dropped_requests_tracker.go` of `k8s.io/apiserver`, `pkg/util/flowcontrol`
const FIRST: Duration = Duration::from_millis(250);
/// At the latest. Not less: where a thousand nodes start at once, it is refusals that most of the time goes to.
const LAST: Duration = Duration::from_secs(4);
/// How often, before the answer counts.
const RETRIES: u32 = 6;

/// The same client, which makes a request again that was answered with 429, 503 or 504. A list of many pages then goes on
/// with the page that was refused, where a watch that sees the answer begins with the first one. The client that it is
/// given must not do so itself ([`kube::Config::default_retry`]): kube's own retries wait for the time that the answer names.
///
/// client-go does so as well, after the time that is named: <https://github.com/kubernetes/client-go/blob/master/rest/with_retry.go>
pub(crate) fn patient(client: Client) -> Client {
    let (namespace, until) = (client.default_namespace().to_owned(), *client.valid_until());
    let Ok(policy) = RetryPolicy::new(FIRST, LAST, RETRIES, false) else {
        // Waits that are above zero and in this order are not refused.
        return client;
    };
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(policy))
        .map_err(BoxError::from)
        .service(service_fn(move |request| {
            let client = client.clone();
            async move { client.send(request).await }
        }));
    Client::new(service, namespace).with_valid_until(until)
}

/// Whether an answer with this code says that the API server has too much to do.
pub(crate) const fn is_busy(code: u16) -> bool {
    matches!(code, 429 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use hyper::{Request, Response};
    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use kube::api::{Patch, PatchParams};
    use kube::client::Body;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    /// An API server that answers this often with a code, and then with what it was sent; and how often it was asked.
    fn busy(times: u32, code: u16) -> (Client, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let service = service_fn(move |request: Request<Body>| {
            let is_busy = count.fetch_add(1, Ordering::Relaxed) < times;
            async move {
                let body = request.into_body().collect_bytes().await.unwrap();
                let answer = Response::builder().header("Retry-After", "32");
                let answer = if is_busy {
                    let status = json!({"kind": "Status", "code": code, "message": "busy"});
                    answer
                        .status(code)
                        .body(Body::from(status.to_string().into_bytes()))
                } else {
                    answer.body(Body::from(body))
                };
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        (patient(Client::new(service, "default")), asked)
    }

    async fn write(client: Client) -> kube::Result<Pod> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "sent"}})).unwrap();
        let pods = Api::<Pod>::default_namespaced(client);
        pods.patch("sent", &PatchParams::default(), &Patch::Merge(pod))
            .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_the_api_server_has_no_time_for_is_made_again_whole_within_seconds() {
        for code in [429, 503, 504] {
            let (client, asked) = busy(2, code);
            let began = Instant::now();
            let pod = write(client).await.unwrap();
            assert_eq!(pod.metadata.name.as_deref(), Some("sent"));
            assert_eq!(asked.load(Ordering::Relaxed), 3);
            assert!(began.elapsed() >= 3 * FIRST && began.elapsed() <= 3 * 3 * FIRST);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_other_answers_count_at_once() {
        for (code, requests) in [(429, 1 + RETRIES), (403, 1), (404, 1), (409, 1), (500, 1)] {
            let (client, asked) = busy(u32::MAX, code);
            let began = Instant::now();
            let error = write(client).await.unwrap_err();
            assert!(matches!(error, kube::Error::Api(status) if status.code == code));
            assert_eq!(asked.load(Ordering::Relaxed), requests, "{code}");
            assert!(began.elapsed() <= RETRIES * LAST, "{code}");
        }
    }
}
