//! How often: the pause after a failure, and the budget of writes. Pure.

use std::time::{Duration, Instant};

/// The pause after this many failures in a row: a second, doubled each time, a minute at most.
pub(super) fn pause(failures: u32) -> Duration {
    const LONGEST: Duration = Duration::from_secs(60);
    let doublings = failures.saturating_sub(1).min(6);
    LONGEST.min(Duration::from_secs(1 << doublings))
}

/// Writes of one status: a few at once, then one now and then. A thousand nodes that fail one after the other
/// become a handful of writes, each of which all agents receive.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: u32,
    refilled: Instant,
}

impl Budget {
    /// Writes at once: judged, ready or failed, and one more.
    const AT_ONCE: u32 = 3;
    /// Time until one more.
    const REFILL: Duration = Duration::from_secs(10);

    pub(super) const fn full(now: Instant) -> Self {
        Self {
            left: Self::AT_ONCE,
            refilled: now,
        }
    }

    /// Takes one, or says when there will be one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        while self.left < Self::AT_ONCE && now >= self.refilled + Self::REFILL {
            self.left += 1;
            self.refilled += Self::REFILL;
        }
        if self.left == Self::AT_ONCE {
            self.refilled = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.refilled + Self::REFILL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seconds: Vec<_> = [1, 2, 3, 6, 7, 8, u32::MAX]
            .into_iter()
            .map(|failures| pause(failures).as_secs())
            .collect();
        assert_eq!(seconds, [1, 2, 4, 32, 60, 60, 60]);
    }

    #[test]
    fn a_budget_gives_a_few_at_once_and_then_one_at_a_time() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut budget = Budget::full(start);
        for _ in 0..Budget::AT_ONCE {
            assert_eq!(budget.take(after(100)), Ok(()));
        }
        assert_eq!(budget.take(after(101)), Err(after(110)));
        assert_eq!(budget.take(after(110)), Ok(()));
        assert_eq!(budget.take(after(111)), Err(after(120)));
        for _ in 0..Budget::AT_ONCE {
            assert_eq!(budget.take(after(1000)), Ok(()));
        }
        assert!(budget.take(after(1000)).is_err());
    }

    #[test]
    fn an_hour_of_failures_costs_a_bounded_number_of_writes() {
        let start = Instant::now();
        let mut budget = Budget::full(start);
        let writes = (0..3600)
            .filter(|second| budget.take(start + Duration::from_secs(*second)).is_ok())
            .count();
        assert!(writes <= 363, "{writes}");
    }
}
