//! What is counted of test-loads.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::Verdict;
use crate::profile::{Code, Finding};

/// Seconds: a Docker-size profile takes milliseconds, one at its limits two compilations and a load
/// ([`Limits::wall_seconds`](super::Limits::wall_seconds) each).
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 100.0,
];

/// Why a profile is refused by what compiles, proves and loads it.
const REFUSALS: [Code; 8] = [
    Code::CompileFailed,
    Code::CompileExhausted,
    Code::Contradiction,
    Code::FilterTooLarge,
    Code::LoadRefused,
    Code::Miscompiled,
    Code::TooComplex,
    Code::TooLarge,
];

/// Counted since the client exists. Cheap to clone; clones share one count.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    duration: Histogram,
    ended: Family<Ended, Counter>,
    waiting: Gauge,
    server_up: Gauge,
    server_restarts: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
    reason: String,
}

impl Ended {
    fn new(outcome: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { outcome, reason }
    }

    /// Of the other byte order: this machine's kernel cannot be asked.
    fn foreign() -> Self {
        Self::new("compiled", "OtherByteOrder")
    }

    /// The fork server said that the machine is short of something.
    fn undecided() -> Self {
        Self::new("unknown", "NotDecided")
    }

    /// The fork server said nothing.
    fn unanswered() -> Self {
        Self::new("unknown", "NoAnswer")
    }
}

/// A request that waits, as long as this value lives.
#[derive(Debug)]
pub(super) struct Waiting(Gauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(super) fn new() -> Self {
        let metrics = Self {
            duration: Histogram::new(BUCKETS),
            ended: Family::default(),
            waiting: Gauge::default(),
            server_up: Gauge::default(),
            server_restarts: Counter::default(),
        };
        // A series that is absent until its first error cannot be alerted on.
        let refusals = REFUSALS.map(|code| Ended::new("refused", code.reason()));
        let others = [
            Ended::new("loaded", "Loaded"),
            Ended::foreign(),
            Ended::undecided(),
            Ended::unanswered(),
        ];
        for labels in refusals.into_iter().chain(others) {
            drop(metrics.ended.get_or_create(&labels));
        }
        metrics
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let Self {
            duration,
            ended,
            waiting,
            server_up,
            server_restarts,
        } = self;
        registry.register_with_unit(
            "testload_duration",
            "Time that the fork server took to compile, prove and load a profile",
            Unit::Seconds,
            duration.clone(),
        );
        registry.register(
            "testloads",
            "Test-loads that ended, by outcome, and by the first reason against the profile or for knowing nothing",
            ended.clone(),
        );
        registry.register(
            "testload_queue_length",
            "Profiles that wait for the fork server",
            waiting.clone(),
        );
        registry.register(
            "testload_server_up",
            "Whether a fork server is there to answer",
            server_up.clone(),
        );
        registry.register(
            "testload_server_restarts",
            "Times that the fork server was lost and another one started",
            server_restarts.clone(),
        );
    }

    /// One more waits.
    pub(super) fn waits(&self) -> Waiting {
        self.waiting.inc();
        Waiting(self.waiting.clone())
    }

    /// The fork server answered.
    pub(super) fn answered(&self, verdict: &Verdict, took: Duration) {
        self.duration.observe(took.as_secs_f64());
        let ended = match verdict {
            Verdict::Passed { is_loaded: true, .. } => Ended::new("loaded", "Loaded"),
            Verdict::Passed { .. } => Ended::foreign(),
            Verdict::Refused(findings) => {
                let reason =
                    Finding::cause(findings).map_or_else(String::new, |(cause, _)| cause.code.reason());
                Ended::new("refused", reason)
            }
            Verdict::Unknown(_) => Ended::undecided(),
        };
        self.ended.get_or_create(&ended).inc();
    }

    /// The fork server did not.
    pub(super) fn unanswered(&self) {
        self.ended.get_or_create(&Ended::unanswered()).inc();
    }

    pub(super) fn server_is_up(&self, up: bool) {
        self.server_up.set(i64::from(up));
    }

    pub(super) fn restarted(&self) {
        self.server_restarts.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::FieldPath;

    fn encoded(metrics: &Metrics) -> String {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn outcomes_are_counted_by_the_first_reason_and_are_there_before() {
        let metrics = Metrics::new();
        let series = |outcome: &str, reason: &str, count: u32| {
            format!("testloads_total{{outcome=\"{outcome}\",reason=\"{reason}\"}} {count}\n")
        };
        let text = encoded(&metrics);
        for (outcome, reason) in [
            ("loaded", "Loaded"),
            ("compiled", "OtherByteOrder"),
            ("refused", "LoadRefused"),
            ("unknown", "NotDecided"),
            ("unknown", "NoAnswer"),
        ] {
            assert!(text.contains(&series(outcome, reason, 0)), "{text}");
        }
        let found = |code| Finding::new(code, FieldPath::root(), "why");
        let findings = vec![
            found(Code::RedundantEntry),
            found(Code::Contradiction),
            found(Code::LoadRefused),
        ];
        metrics.answered(&Verdict::Refused(findings.into()), Duration::from_millis(3));
        metrics.answered(&Verdict::Unknown("starved".to_owned()), Duration::from_secs(90));
        metrics.unanswered();
        let text = encoded(&metrics);
        for (outcome, reason) in [
            ("refused", "Contradiction"),
            ("unknown", "NotDecided"),
            ("unknown", "NoAnswer"),
        ] {
            assert!(text.contains(&series(outcome, reason, 1)), "{text}");
        }
        assert!(text.contains("testload_duration_seconds_count 2\n"), "{text}");
        assert!(
            text.contains("testload_duration_seconds_bucket{le=\"0.005\"} 1\n"),
            "{text}"
        );
    }

    #[test]
    fn a_request_waits_until_it_is_let_go_of() {
        let metrics = Metrics::new();
        let both = [metrics.waits(), metrics.waits()];
        assert!(encoded(&metrics).contains("testload_queue_length 2\n"));
        drop(both);
        assert!(encoded(&metrics).contains("testload_queue_length 0\n"));
    }
}
