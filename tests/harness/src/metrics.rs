//! What the API server counted.

use std::collections::BTreeMap;

use anyhow::Result;

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

impl Cluster {
    /// The API server's `apiserver_request_total`, by verb and resource. It starts at zero with the API server.
    pub async fn requests(&self) -> Result<Requests> {
        let text = self.kubectl(&["get", "--raw", "/metrics"], "").await?.ok()?;
        Ok(parse(&text))
    }
}

fn parse(text: &str) -> Requests {
    let mut requests = Requests::new();
    for line in text.lines() {
        let Some((labels, value)) = line
            .strip_prefix("apiserver_request_total{")
            .and_then(|rest| rest.rsplit_once("} "))
        else {
            continue;
        };
        let label = |name: &str| {
            labels.split(',').find_map(|label| {
                label
                    .strip_prefix(name)?
                    .strip_prefix("=\"")?
                    .strip_suffix('"')
                    .filter(|value| !value.is_empty())
            })
        };
        let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else {
            continue;
        };
        let resource = match label("subresource") {
            Some(subresource) => format!("{resource}/{subresource}"),
            None => resource.to_owned(),
        };
        // Prometheus writes every number as a float; these are whole.
        let Some(count) = value
            .split('.')
            .next()
            .and_then(|whole| whole.parse::<u64>().ok())
        else {
            continue;
        };
        *requests
            .entry(Request {
                verb: verb.to_owned(),
                resource,
            })
            .or_default() += count;
    }
    requests
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
        assert_eq!(parse(text), expected);
    }
}
