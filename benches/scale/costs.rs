//! What something cost: requests, watch events, bytes, processor time.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result};
use harness::{Cluster, Counters, Requests};
use serde::Serialize;

use crate::usage::{Usage, float};

/// Everything that is counted, at one moment.
pub(crate) struct Sample {
    counters: Counters,
    apiserver: Usage,
    etcd: Usage,
    controller: Usage,
    agents: Usage,
    at: Instant,
}

/// What happened between two moments.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Costs {
    pub(crate) seconds: f64,
    /// By verb and resource, of all clients, this program's own included.
    pub(crate) requests: BTreeMap<String, u64>,
    /// Those of them that were answered with success.
    accepted: BTreeMap<String, u64>,
    /// By status code, of all clients.
    pub(crate) answers: BTreeMap<String, u64>,
    pub(crate) watch_events: u64,
    pub(crate) etcd_bytes: u64,
    /// Seconds of processor time.
    pub(crate) apiserver: f64,
    pub(crate) etcd: f64,
    pub(crate) controller: f64,
    pub(crate) agents: f64,
    /// The most memory that the controller held meanwhile, its fork server included; in bytes.
    pub(crate) controller_peak: u64,
}

impl Sample {
    /// Asks what the control plane has counted, and reads processor times right before that (`is_last`) or right after,
    /// so that the question itself does not count.
    pub(crate) async fn take(cluster: &Cluster, controller: Option<u32>, is_last: bool) -> Result<Self> {
        let early = is_last.then(|| Times::take(cluster, controller)).transpose()?;
        let counters = cluster.counters().await?;
        let times = match early {
            Some(times) => times,
            None => Times::take(cluster, controller)?,
        };
        Ok(Self {
            counters,
            apiserver: times.apiserver,
            etcd: times.etcd,
            controller: times.controller,
            agents: times.agents,
            at: times.at,
        })
    }
}

struct Times {
    apiserver: Usage,
    etcd: Usage,
    controller: Usage,
    agents: Usage,
    at: Instant,
}

impl Times {
    fn take(cluster: &Cluster, controller: Option<u32>) -> Result<Self> {
        let [etcd, apiserver] = cluster.processes()[..] else {
            anyhow::bail!("etcd or the API server does not run");
        };
        Ok(Self {
            apiserver: Usage::of(apiserver).context("the API server")?,
            etcd: Usage::of(etcd).context("etcd")?,
            controller: controller
                .map(Usage::of)
                .transpose()
                .context("the controller")?
                .unwrap_or_default(),
            agents: Usage::of_agents()?,
            at: Instant::now(),
        })
    }
}

impl Costs {
    pub(crate) fn between(before: &Sample, after: &Sample) -> Self {
        let zero = Counters::default();
        // A new API server counts from zero, in requests and in processor time.
        let is_new = (before.counters.apiserver_started - after.counters.apiserver_started).abs() > 0.5;
        let counted = if is_new { &zero } else { &before.counters };
        let more = |after: &Requests, before: &Requests| {
            let counts = after.iter().filter_map(|(request, count)| {
                let more = count - before.get(request).copied().unwrap_or_default();
                (more > 0).then(|| (format!("{} {}", request.verb, request.resource), more))
            });
            counts.collect()
        };
        let answers = after.counters.answers.iter().filter_map(|(code, count)| {
            let more = count - counted.answers.get(code).copied().unwrap_or_default();
            (more > 0).then(|| (code.clone(), more))
        });
        let events = |counters: &Counters| counters.watch_events.values().sum::<u64>();
        let apiserver = if is_new { 0.0 } else { before.apiserver.cpu };
        Self {
            seconds: (after.at - before.at).as_secs_f64(),
            requests: more(&after.counters.requests, &counted.requests),
            accepted: more(&after.counters.accepted, &counted.accepted),
            answers: answers.collect(),
            watch_events: events(&after.counters) - events(counted),
            etcd_bytes: after.counters.etcd_bytes - before.counters.etcd_bytes,
            apiserver: after.apiserver.cpu - apiserver,
            etcd: after.etcd.cpu - before.etcd.cpu,
            // It may be another process than before.
            controller: (after.controller.cpu - before.controller.cpu).max(0.0),
            agents: after.agents.cpu - before.agents.cpu,
            controller_peak: after.controller.peak,
        }
    }

    /// Writes of these resources, each with its subresource, that were not refused.
    fn writes(&self, resources: &[&str]) -> u64 {
        let counts = self.accepted.iter().filter(|(request, _)| {
            let (verb, resource) = request.split_once(' ').unwrap_or_default();
            matches!(verb, "POST" | "PUT" | "PATCH" | "APPLY" | "DELETE") && resources.contains(&resource)
        });
        counts.map(|(_, count)| count).sum()
    }

    /// Of the status of profiles: only the controller does that, and each is sent to every agent.
    pub(crate) fn profile_writes(&self) -> u64 {
        self.writes(&["seccompprofiles/status"])
    }

    /// Of node reports.
    pub(crate) fn report_writes(&self) -> u64 {
        self.writes(&["seccompnodes", "seccompnodes/status"])
    }

    pub(crate) fn event_writes(&self) -> u64 {
        self.writes(&["events"])
    }

    /// All that Callgate writes.
    pub(crate) fn callgate_writes(&self) -> u64 {
        self.profile_writes() + self.report_writes() + self.event_writes()
    }

    /// Requests with this verb for what Callgate reads.
    pub(crate) fn verb(&self, verb: &str) -> u64 {
        self.watched(|found| found == verb)
    }

    /// Requests for what Callgate reads. A watch is one when it ends, or is refused.
    pub(crate) fn of_watched(&self) -> u64 {
        self.watched(|_| true)
    }

    fn watched(&self, is_counted: impl Fn(&str) -> bool) -> u64 {
        let counts = self.requests.iter();
        let counted = counts.filter(|(request, _)| {
            let (verb, resource) = request.split_once(' ').unwrap_or_default();
            is_counted(verb) && WATCHED.contains(&resource)
        });
        counted.map(|(_, count)| count).sum()
    }

    /// Both together, and the higher of the two peaks.
    pub(crate) fn plus(mut self, other: Self) -> Self {
        for (request, count) in other.requests {
            *self.requests.entry(request).or_default() += count;
        }
        self.seconds += other.seconds;
        for (request, count) in other.accepted {
            *self.accepted.entry(request).or_default() += count;
        }
        for (code, count) in other.answers {
            *self.answers.entry(code).or_default() += count;
        }
        self.watch_events += other.watch_events;
        self.etcd_bytes += other.etcd_bytes;
        self.apiserver += other.apiserver;
        self.etcd += other.etcd;
        self.controller += other.controller;
        self.agents += other.agents;
        self.controller_peak = self.controller_peak.max(other.controller_peak);
        self
    }

    /// The share of `parts` equal ones.
    pub(crate) fn divided(mut self, parts: u32) -> Self {
        for counts in [&mut self.requests, &mut self.accepted, &mut self.answers] {
            for count in counts.values_mut() {
                *count /= u64::from(parts);
            }
        }
        self.watch_events /= u64::from(parts);
        self.etcd_bytes /= u64::from(parts);
        let times = [
            &mut self.seconds,
            &mut self.apiserver,
            &mut self.etcd,
            &mut self.controller,
            &mut self.agents,
        ];
        for time in times {
            *time /= f64::from(parts);
        }
        self
    }

    /// Requests that were answered 429: too many of them.
    pub(crate) fn refused(&self) -> u64 {
        self.answers.get("429").copied().unwrap_or_default()
    }

    pub(crate) fn etcd_kib(&self) -> f64 {
        float(self.etcd_bytes) / 1024.0
    }
}

/// What Callgate reads.
const WATCHED: [&str; 5] = ["seccompprofiles", "seccompnodes", "nodes", "pods", "namespaces"];
