//! Whose turn it is. Pure.

use std::collections::{HashMap, VecDeque};

/// Requests of several tenants that wait for a few slots.
///
/// Tenants take turns, so that a burst of one delays another by one request. And while there is more than one
/// slot, one is never given to a tenant that has all the others: what it costs to end a profile that hangs is
/// then paid by its own tenant.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    slots: usize,
    /// In the order of their turns; none is empty.
    waiting: VecDeque<(String, VecDeque<T>)>,
    running: HashMap<String, usize>,
}

impl<T> FairQueue<T> {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots,
            waiting: VecDeque::new(),
            running: HashMap::new(),
        }
    }

    pub(super) fn push(&mut self, tenant: &str, item: T) {
        match self.waiting.iter_mut().find(|(name, _)| name == tenant) {
            Some((_, items)) => items.push_back(item),
            None => self
                .waiting
                .push_back((tenant.to_owned(), VecDeque::from([item]))),
        }
    }

    /// Takes a slot for the next request, if there is one for it. [`FairQueue::done`] gives it back.
    pub(super) fn next(&mut self) -> Option<(String, T)> {
        if self.running.values().sum::<usize>() >= self.slots {
            return None;
        }
        let share = self.slots.saturating_sub(1).max(1);
        let running = &self.running;
        let at = self
            .waiting
            .iter()
            .position(|(tenant, _)| running.get(tenant).is_none_or(|count| *count < share))?;
        let (tenant, mut items) = self.waiting.remove(at)?;
        let item = items.pop_front()?;
        if !items.is_empty() {
            self.waiting.push_back((tenant.clone(), items));
        }
        *self.running.entry(tenant.clone()).or_default() += 1;
        Some((tenant, item))
    }

    pub(super) fn done(&mut self, tenant: &str) {
        if let Some(count) = self.running.get_mut(tenant) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(tenant);
            }
        }
    }

    /// Everything that waits, in no particular order; it waits no longer.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.waiting.drain(..).flat_map(|(_, items)| items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &mut FairQueue<u32>) -> Option<u32> {
        queue.next().map(|(_, item)| item)
    }

    #[test]
    fn tenants_take_turns() {
        let mut queue = FairQueue::new(10);
        for item in 0..3 {
            queue.push("a", item);
        }
        queue.push("b", 10);
        queue.push("c", 20);
        let order: Vec<_> = std::iter::from_fn(|| queue.next())
            .map(|(_, item)| item)
            .collect();
        assert_eq!(order, [0, 10, 20, 1, 2]);
    }

    #[test]
    fn the_last_slot_is_kept_from_a_tenant_that_has_the_others() {
        let mut queue = FairQueue::new(3);
        for item in 0..4 {
            queue.push("greedy", item);
        }
        assert_eq!(take(&mut queue), Some(0));
        assert_eq!(take(&mut queue), Some(1));
        assert_eq!(take(&mut queue), None);
        queue.push("other", 9);
        assert_eq!(take(&mut queue), Some(9));
        queue.done("greedy");
        assert_eq!(take(&mut queue), Some(2));
    }

    #[test]
    fn a_single_slot_is_shared_in_turns() {
        let mut queue = FairQueue::new(1);
        queue.push("a", 0);
        queue.push("a", 1);
        queue.push("b", 2);
        assert_eq!(take(&mut queue), Some(0));
        assert_eq!(take(&mut queue), None);
        queue.done("a");
        assert_eq!(take(&mut queue), Some(2));
        queue.done("b");
        assert_eq!(take(&mut queue), Some(1));
    }

    #[test]
    fn what_is_drained_waits_no_longer() {
        let mut queue = FairQueue::new(1);
        queue.push("a", 0);
        queue.push("b", 1);
        assert_eq!(queue.drain().count(), 2);
        assert_eq!(take(&mut queue), None);
    }
}
