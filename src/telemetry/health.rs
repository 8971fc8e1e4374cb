//! What the probes answer.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Readiness, once and for all, and the pulse of every loop. Cheap to clone; clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<State>);

#[derive(Debug, Default)]
struct State {
    ready: AtomicBool,
    pulses: Mutex<Vec<Pulse>>,
}

#[derive(Debug)]
struct Pulse {
    name: &'static str,
    limit: Duration,
    last: Instant,
}

/// The pulse of one loop.
#[derive(Debug)]
pub struct Heartbeat {
    health: Health,
    index: usize,
}

impl Health {
    /// Not ready, no loops.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ready from now on.
    pub fn set_ready(&self) {
        self.0.ready.store(true, Ordering::Release);
    }

    /// Whether it ever was ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }

    /// Watches over a loop that is to beat at least this often.
    #[must_use]
    pub fn heartbeat(&self, name: &'static str, limit: Duration) -> Heartbeat {
        let mut pulses = self.0.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.push(Pulse {
            name,
            limit,
            last: Instant::now(),
        });
        Heartbeat {
            health: self.clone(),
            index: pulses.len() - 1,
        }
    }

    /// The loops that have not beaten in time, one line each; empty while all is well.
    #[must_use]
    pub fn stuck(&self) -> String {
        let now = Instant::now();
        let mut report = String::new();
        for pulse in self
            .0
            .pulses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            let age = now.saturating_duration_since(pulse.last);
            if age > pulse.limit {
                // Writing to a String cannot fail.
                let _ = writeln!(report, "{} has not turned for {} s", pulse.name, age.as_secs());
            }
        }
        report
    }
}

impl Heartbeat {
    /// The loop turns.
    pub fn beat(&self) {
        let mut pulses = self
            .health
            .0
            .pulses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        pulses[self.index].last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_does_not_beat_in_time_is_named_until_it_beats_again() {
        let health = Health::new();
        let beat = health.heartbeat("sync", Duration::from_secs(30));
        assert_eq!(health.stuck(), "");
        health.0.pulses.lock().unwrap()[0].limit = Duration::ZERO;
        assert!(
            health.stuck().starts_with("sync has not turned"),
            "{}",
            health.stuck()
        );
        health.0.pulses.lock().unwrap()[0].limit = Duration::from_secs(30);
        beat.beat();
        assert_eq!(health.stuck(), "");
    }

    #[test]
    fn readiness_is_latched() {
        let health = Health::new();
        assert!(!health.is_ready());
        health.set_ready();
        assert!(health.is_ready());
    }
}
