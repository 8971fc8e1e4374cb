//! What requests do where the API server has too much to do: they wait, and are made again.
//!
//! For what is the same whenever it is asked: lists, watches, Events. Who writes a report, a status or a Lease has something
//! newer to say by then, and tries again by itself.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::sync::Mutex;
use tower::service_fn;

/// How soon an answer that says so is followed by the next request; up to twice as long, at random, and twice as long
/// after the next one. The time that the answer names is not waited for: it grows to 32 s while many requests are refused,
/// and a watch that waits as long shows a change as late.
/// Source: `dropped_requests_tracker.go` of `k8s.io/apiserver`, `pkg/util/flowcontrol`
const FIRST: Duration = Duration::from_millis(250);
/// At the latest. Not less: where a thousand nodes start at once, it is refusals that most of the time goes to.
const LAST: Duration = Duration::from_secs(8);
/// How often, before the answer counts.
const RETRIES: usize = 6;

/// The same client, which makes a request again that was answered with 429, 503 or 504, one at a time of all its requests that
/// were: what is refused to one is refused to all, and five watches that ask each for themselves are four too many. A list of many
/// pages then goes on with the page that was refused, where a watch that sees the answer begins with the first one. The
/// client that it is given must not do so itself ([`kube::Config::default_retry`]): kube's own retries wait for the time that
/// the answer names.
///
/// client-go does so as well, after the time that is named: <https://github.com/kubernetes/client-go/blob/master/rest/with_retry.go>
pub(crate) fn patient(client: Client) -> Client {
    let (namespace, until) = (client.default_namespace().to_owned(), *client.valid_until());
    let turn = Arc::new(Mutex::new(()));
    let service = service_fn(move |request| {
        let (client, turn) = (client.clone(), Arc::clone(&turn));
        async move { ask(&client, &turn, request).await }
    });
    Client::new(service, namespace).with_valid_until(until)
}

async fn ask(client: &Client, turn: &Mutex<()>, request: Request<Body>) -> kube::Result<Response<Body>> {
    let again = copy(&request);
    let mut answer = client.send(request).await?;
    // What cannot be sent twice is not.
    let Some(again) = again.filter(|_| is_busy(answer.status().as_u16())) else {
        return Ok(answer);
    };
    let pauses = ExponentialBuilder::new()
        .with_min_delay(FIRST)
        .with_max_delay(LAST)
        .with_max_times(RETRIES)
        .with_jitter();
    let _turn = turn.lock().await;
    for pause in pauses.build() {
        let Some(request) = copy(&again) else { break };
        tokio::time::sleep(pause).await;
        answer = client.send(request).await?;
        if !is_busy(answer.status().as_u16()) {
            break;
        }
    }
    Ok(answer)
}

fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    Some(copy)
}

/// Whether an answer with this code says that the API server has too much to do.
pub(crate) const fn is_busy(code: u16) -> bool {
    matches!(code, 429 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use kube::api::{Patch, PatchParams};
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    /// An API server that answers this often with a code, and then with what it was sent; and how often it was asked.
    fn busy(times: usize, code: u16) -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
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
            assert!(began.elapsed() >= 3 * FIRST && began.elapsed() <= 2 * 3 * FIRST);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_other_answers_count_at_once() {
        for (code, requests) in [(429, 1 + RETRIES), (403, 1), (404, 1), (409, 1), (500, 1)] {
            let (client, asked) = busy(usize::MAX, code);
            let began = Instant::now();
            let error = write(client).await.unwrap_err();
            assert!(matches!(error, kube::Error::Api(status) if status.code == code));
            assert_eq!(asked.load(Ordering::Relaxed), requests, "{code}");
            assert!(began.elapsed() <= 2 * 63 * FIRST, "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_requests_that_are_refused_one_at_a_time_is_made_again() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let service = service_fn(move |_: Request<Body>| {
            let log = Arc::clone(&log);
            async move {
                log.lock().await.push(Instant::now());
                let status = json!({"kind": "Status", "code": 429, "message": "busy"});
                let answer = Response::builder().status(429);
                let answer = answer.body(Body::from(status.to_string().into_bytes()));
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        let client = patient(Client::new(service, "default"));
        let began = Instant::now();
        let all: [_; 5] = std::array::from_fn(|_| tokio::spawn(write(client.clone())));
        for one in all {
            one.await.unwrap().unwrap_err();
        }
        let asked = asked.lock().await;
        assert_eq!(asked.len(), 5 * (1 + RETRIES));
        let again: Vec<Instant> = asked[5..].to_vec();
        assert!(asked[..5].iter().all(|at| *at == began));
        assert!(again.is_sorted_by(|one, next| *next >= *one + FIRST), "{again:?}");
    }
}
