//! A bounded map that forgets what was put in first.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// At most `capacity` entries.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    capacity: usize,
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Copy + Eq + Hash, V> Cache<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cache_forgets_the_oldest_entry_and_keeps_the_rest() {
        let mut cache = Cache::new(2);
        cache.insert(1, "one");
        cache.insert(2, "two");
        cache.insert(1, "one again");
        cache.insert(3, "three");
        assert_eq!(
            (cache.get(&1), cache.get(&2), cache.get(&3)),
            (None, Some(&"two"), Some(&"three"))
        );
    }
}
