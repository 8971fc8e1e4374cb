//! The requests to the API server, counted, and how long ago each watch last heard something.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http_body_util::BodyExt as _;
use hyper::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// A kind of request: resource (with its subresource) and verb, in the words of RBAC.
pub type Asked = (&'static str, &'static str);

/// The label of what nobody said would be asked: a bug, and still no label that grows.
const OTHER: &str = "other";
/// The classes of answers; `none` is no answer at all.
const CODES: [&str; 4] = ["2xx", "4xx", "5xx", "none"];

/// What is counted of the requests to the API server. Cheap to clone; clones share one count.
#[derive(Debug, Clone)]
pub struct ApiMetrics {
    known: &'static [Asked],
    requests: Family<Labels, Counter>,
    watches: Watches,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    resource: &'static str,
    verb: &'static str,
    code: &'static str,
}

/// By resource: when a list or a watch of it last brought something.
#[derive(Debug, Clone)]
struct Watches(Arc<BTreeMap<&'static str, Mutex<Instant>>>);

impl ApiMetrics {
    /// Registers a series for each of these requests and each class of answers.
    #[must_use]
    pub fn register(registry: &mut Registry, known: &'static [Asked]) -> Self {
        let now = Instant::now();
        let watched = known.iter().filter(|(_, verb)| *verb == "watch");
        let metrics = Self {
            known,
            requests: Family::default(),
            watches: Watches(Arc::new(
                watched
                    .map(|(resource, _)| (*resource, Mutex::new(now)))
                    .collect(),
            )),
        };
        for &(resource, verb) in known {
            for code in CODES {
                let labels = Labels { resource, verb, code };
                drop(metrics.requests.get_or_create(&labels));
            }
        }
        registry.register(
            "api_requests",
            "Requests to the API server, by resource, verb and class of the answer; none is no answer",
            metrics.requests.clone(),
        );
        registry.register_collector(Box::new(metrics.watches.clone()));
        metrics
    }

    /// The same client, whose requests are counted.
    #[must_use]
    pub fn observe(&self, client: Client) -> Client {
        let (namespace, until) = (client.default_namespace().to_owned(), *client.valid_until());
        let metrics = self.clone();
        let observed = tower::service_fn(move |request: Request<Body>| {
            let (client, metrics) = (client.clone(), metrics.clone());
            async move {
                let (resource, verb) = metrics.asked(&request);
                let answer = client.send(request).await;
                let code = class(answer.as_ref().ok().map(Response::status));
                metrics
                    .requests
                    .get_or_create(&Labels { resource, verb, code })
                    .inc();
                let tells = code == "2xx" && matches!(verb, "list" | "watch");
                answer.map(|answer| {
                    answer.map(|body| {
                        body.map_frame(move |frame| {
                            if tells {
                                metrics.watches.hear(resource);
                            }
                            frame
                        })
                    })
                })
            }
        });
        Client::new(observed, namespace).with_valid_until(until)
    }

    fn asked(&self, request: &Request<Body>) -> Asked {
        // What kube calls the request, for traces.
        let verb = verb(request.extensions().get::<&'static str>().copied());
        let resource = resource(request.uri().path());
        let known = self.known.iter().find(|asked| **asked == (&*resource, verb));
        known.copied().unwrap_or((OTHER, OTHER))
    }
}

impl Watches {
    fn hear(&self, resource: &str) {
        if let Some(last) = self.0.get(resource) {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}

impl Collector for Watches {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "watch_age",
            "Time since the API server last sent something about the resource: an object, or that there is nothing \
             new, which it says every minute.",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (resource, last) in &*self.0 {
            let last = *last.lock().unwrap_or_else(PoisonError::into_inner);
            let age = ConstGauge::new(last.elapsed().as_secs_f64());
            age.encode(family.encode_family(&[("resource", *resource)])?)?;
        }
        Ok(())
    }
}

/// The resource that a path of the API names, with its subresource: `pods`, `seccompprofiles/status`.
fn resource(path: &str) -> String {
    let mut parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let group = if parts.first() == Some(&"api") { 2 } else { 3 };
    parts.drain(..group.min(parts.len()));
    if parts.len() > 2 && parts[0] == "namespaces" {
        parts.drain(..2);
    }
    match parts[..] {
        [resource] | [resource, _] => resource.to_owned(),
        [resource, _, subresource] => format!("{resource}/{subresource}"),
        _ => String::new(),
    }
}

/// The verb of RBAC for what kube calls a request.
fn verb(name: Option<&'static str>) -> &'static str {
    let name = name.unwrap_or_default();
    // `list_metadata`, `patch_status` and the like.
    match name.split_once('_').map_or(name, |(verb, _)| verb) {
        "replace" => "update",
        verb @ ("get" | "list" | "watch" | "create" | "patch" | "delete") => verb,
        _ => OTHER,
    }
}

fn class(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16() / 100) {
        None => "none",
        Some(2) => "2xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        Some(_) => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::TryStreamExt as _;
    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use kube::api::{ListParams, WatchParams};

    use super::*;

    const KNOWN: &[Asked] = &[("pods", "list"), ("pods", "watch"), ("pods", "get")];

    fn encoded(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    /// A client to which everything is answered with this status and text.
    fn answering(status: u16, text: &'static str) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| {
            let body = Body::from(text.as_bytes().to_vec());
            let answer = Response::builder().status(status).body(body).unwrap();
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        Client::new(service, "default")
    }

    #[test]
    fn a_path_names_its_resource_and_subresource() {
        for (path, named) in [
            ("/api/v1/pods", "pods"),
            ("/api/v1/namespaces/kube-system", "namespaces"),
            ("/api/v1/namespaces/a/pods", "pods"),
            ("/api/v1/nodes/worker-1", "nodes"),
            ("/apis/callgate.dev/v1alpha1/seccompprofiles", "seccompprofiles"),
            ("/apis/coordination.k8s.io/v1/namespaces/a/leases/b", "leases"),
            (
                "/apis/callgate.dev/v1alpha1/namespaces/a/seccompprofiles/b/status",
                "seccompprofiles/status",
            ),
            ("/version", ""),
            ("", ""),
        ] {
            assert_eq!(resource(path), named, "{path}");
        }
    }

    #[test]
    fn names_of_requests_are_verbs_of_rbac() {
        for (name, asked) in [
            ("list_metadata", "list"),
            ("watch", "watch"),
            ("patch_status", "patch"),
            ("replace", "update"),
            ("evict", OTHER),
        ] {
            assert_eq!(verb(Some(name)), asked, "{name}");
        }
        assert_eq!(verb(None), OTHER);
    }

    #[tokio::test]
    async fn every_series_is_there_from_the_start_and_requests_are_counted_by_class() {
        let mut registry = Registry::default();
        let metrics = ApiMetrics::register(&mut registry, KNOWN);
        let series = |verb: &str, code: &str, count: u32| {
            format!("api_requests_total{{resource=\"pods\",verb=\"{verb}\",code=\"{code}\"}} {count}\n")
        };
        for code in CODES {
            assert!(encoded(&registry).contains(&series("list", code, 0)));
        }
        let list = async |client| {
            let pods = Api::<Pod>::all(metrics.observe(client));
            pods.list(&ListParams::default()).await
        };
        list(answering(200, r#"{"metadata": {}, "items": []}"#))
            .await
            .unwrap();
        let error = list(answering(
            403,
            r#"{"kind": "Status", "code": 403, "message": "no"}"#,
        ))
        .await;
        assert!(matches!(error, Err(kube::Error::Api(status)) if status.code == 403));
        list(answering(500, "broken")).await.unwrap_err();
        let gone = tower::service_fn(async |_: Request<Body>| {
            Err::<Response<Body>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
        });
        list(Client::new(gone, "default")).await.unwrap_err();
        let text = encoded(&registry);
        for code in CODES {
            assert!(text.contains(&series("list", code, 1)), "{code}: {text}");
        }
        let unforeseen = Api::<Pod>::all(metrics.observe(answering(200, "{}")));
        unforeseen.get("x").await.unwrap();
        unforeseen
            .delete("x", &kube::api::DeleteParams::default())
            .await
            .unwrap();
        let text = encoded(&registry);
        assert!(text.contains(&series("get", "2xx", 1)), "{text}");
        assert!(
            text.contains("{resource=\"other\",verb=\"other\",code=\"2xx\"} 1"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_watch_is_young_again_with_each_bookmark_and_not_with_a_refusal() {
        let mut registry = Registry::default();
        let metrics = ApiMetrics::register(&mut registry, KNOWN);
        let last = |metrics: &ApiMetrics| *metrics.watches.0["pods"].lock().unwrap();
        let start = last(&metrics);
        let watch = async |client| {
            let pods = Api::<Pod>::all(metrics.observe(client));
            let events = pods.watch(&WatchParams::default(), "1").await?;
            events.try_collect::<Vec<_>>().await
        };
        watch(answering(403, r#"{"kind": "Status", "code": 403}"#))
            .await
            .unwrap_err();
        assert_eq!(last(&metrics), start);
        let bookmark = r#"{"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": "7"}}}
"#;
        assert_eq!(watch(answering(200, bookmark)).await.unwrap().len(), 1);
        assert!(last(&metrics) > start);
        let text = encoded(&registry);
        assert!(text.contains("# UNIT watch_age_seconds seconds\n"), "{text}");
        assert!(text.contains("watch_age_seconds{resource=\"pods\"} "), "{text}");
    }

    #[tokio::test]
    async fn a_client_keeps_its_namespace() {
        let metrics = ApiMetrics::register(&mut Registry::default(), KNOWN);
        assert_eq!(metrics.observe(answering(200, "")).default_namespace(), "default");
    }
}
