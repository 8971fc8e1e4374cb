//! What the API server counted.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::Cluster;

/// What the API server tells requests apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// `GET`, `LIST`, `WATCH`, `POST`, `PUT`, `PATCH`, `APPLY`, `DELETE` …
    pub verb: String,
    /// The resource, plural; with `/status` behind it where a subresource was meant.
    pub resource: String,
}

/// Counts of requests, whatever their outcome.
pub type Requests = BTreeMap<Request, u64>;

/// What the control plane has counted since the API server started; etcd's, since etcd did.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// When the API server started, in seconds since 1970: another value means that its counts began anew.
    pub apiserver_started: f64,
    /// Whatever their outcome.
    pub requests: Requests,
    /// Those of them that were answered with success.
    pub accepted: Requests,
    /// All by the status code of the answer.
    pub answers: BTreeMap<String, u64>,
    /// What watchers were sent, by the resource, plural.
    pub watch_events: BTreeMap<String, u64>,
    /// What etcd wrote to its write-ahead log, in bytes.
    pub etcd_bytes: u64,
}

impl Cluster {
    /// The API server's `apiserver_request_total`, by verb and resource. It starts at zero with the API server.
    pub async fn requests(&self) -> Result<Requests> {
        let text = self.kubectl(&["get", "--raw", "/metrics"], "").await?.ok()?;
        Ok(requests(&text))
    }

    /// What the API server and etcd have counted so far. Only of a local cluster: etcd is asked through its socket.
    pub async fn counters(&self) -> Result<Counters> {
        let apiserver = self.kubectl(&["get", "--raw", "/metrics"], "").await?.ok()?;
        let etcd = self.directory().join("etcd.sock");
        let etcd = tokio::task::spawn_blocking(move || scrape(&etcd)).await??;
        Ok(counters(&apiserver, &etcd))
    }
}

/// What a program that listens on this socket answers to a GET of `/metrics`.
fn scrape(socket: &Path) -> Result<String> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("cannot ask {}", socket.display()))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn counters(apiserver: &str, etcd: &str) -> Counters {
    let mut watch_events = BTreeMap::new();
    for (labels, value) in series(apiserver, "apiserver_watch_events_total") {
        if let Some(resource) = label(labels, "resource") {
            *watch_events.entry(resource.to_owned()).or_default() += whole(value);
        }
    }
    let mut answers = BTreeMap::new();
    for (labels, value) in series(apiserver, "apiserver_request_total") {
        let code = label(labels, "code").unwrap_or_default();
        *answers.entry(code.to_owned()).or_default() += whole(value);
    }
    let first = |text, name| series(text, name).next().map_or(0.0, |(_, value)| value);
    Counters {
        apiserver_started: first(apiserver, "process_start_time_seconds"),
        requests: requests(apiserver),
        accepted: requests_where(apiserver, |labels| {
            label(labels, "code").is_some_and(|code| code.starts_with('2'))
        }),
        answers,
        watch_events,
        etcd_bytes: whole(first(etcd, "etcd_disk_wal_write_bytes_total")),
    }
}

fn requests(text: &str) -> Requests {
    requests_where(text, |_| true)
}

fn requests_where(text: &str, counts: impl Fn(&str) -> bool) -> Requests {
    let mut requests = Requests::new();
    for (labels, value) in series(text, "apiserver_request_total").filter(|(labels, _)| counts(labels)) {
        let (Some(verb), Some(resource)) = (label(labels, "verb"), label(labels, "resource")) else {
            continue;
        };
        let resource = match label(labels, "subresource") {
            Some(subresource) => format!("{resource}/{subresource}"),
            None => resource.to_owned(),
        };
        let verb = verb.to_owned();
        *requests.entry(Request { verb, resource }).or_default() += whole(value);
    }
    requests
}

/// The labels and the value of every series of this name.
fn series<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels, value.trim().parse().ok()?))
    })
}

/// The value of one label, unless it is empty.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|label| {
        let value = label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"')?;
        (!value.is_empty()).then_some(value)
    })
}

/// Prometheus writes every number as a float; these are counts.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole, not negative, and far below 2^53"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_the_labels_nobody_asks_for() {
        let text = concat!(
            "# TYPE apiserver_request_total counter\n",
            "apiserver_request_total{code=\"200\",resource=\"pods\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 2\n",
            "apiserver_request_total{code=\"404\",resource=\"pods\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1\n",
            "apiserver_request_total{code=\"200\",resource=\"pods\",subresource=\"status\",verb=\"PATCH\"} 5\n",
            "apiserver_request_total{code=\"200\",resource=\"\",subresource=\"/readyz\",verb=\"GET\"} 9\n",
            "other_total 1\n",
        );
        let request = |verb: &str, resource: &str| Request {
            verb: verb.into(),
            resource: resource.into(),
        };
        let expected = Requests::from([(request("LIST", "pods"), 3), (request("PATCH", "pods/status"), 5)]);
        assert_eq!(requests(text), expected);
    }

    #[test]
    fn a_million_is_read_as_go_prints_it() {
        let text = "apiserver_request_total{resource=\"pods\",subresource=\"\",verb=\"GET\"} 1.234567e+06\n";
        assert_eq!(requests(text).into_values().collect::<Vec<_>>(), [1_234_567]);
    }

    #[test]
    fn counters_are_those_of_the_api_server_and_of_etcd() {
        let apiserver = concat!(
            "process_start_time_seconds 1.7e+09\n",
            "apiserver_request_total{code=\"429\",resource=\"pods\",subresource=\"\",verb=\"LIST\"} 3\n",
            "apiserver_request_total{code=\"200\",resource=\"pods\",subresource=\"\",verb=\"LIST\"} 4\n",
            "apiserver_watch_events_total{group=\"\",resource=\"pods\",version=\"v1\"} 5\n",
            "apiserver_watch_events_total{group=\"\",resource=\"nodes\",version=\"v1\"} 6\n",
        );
        let counted = counters(apiserver, "etcd_disk_wal_write_bytes_total 2.5e+06\n");
        assert_eq!(counted.requests.into_values().collect::<Vec<_>>(), [7]);
        assert_eq!(counted.accepted.into_values().collect::<Vec<_>>(), [4]);
        let answers = [("200".to_owned(), 4), ("429".to_owned(), 3)];
        assert_eq!(counted.answers, BTreeMap::from(answers));
        assert_eq!(counted.etcd_bytes, 2_500_000);
        let events = [("nodes".to_owned(), 6), ("pods".to_owned(), 5)];
        assert_eq!(counted.watch_events, BTreeMap::from(events));
        assert!(counted.apiserver_started > 1.6e9);
    }
}
