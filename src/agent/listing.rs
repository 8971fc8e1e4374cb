//! Whether a watch has shown all there is, and what went while it was interrupted. Pure.

use std::collections::BTreeSet;

/// Tells what a list that was interrupted or repeated no longer names.
#[derive(Debug)]
pub(super) struct Listing<K> {
    /// Whether there was a whole list ever.
    pub(super) complete: bool,
    named: Option<BTreeSet<K>>,
}

impl<K> Default for Listing<K> {
    fn default() -> Self {
        Self {
            complete: false,
            named: None,
        }
    }
}

impl<K: Clone + Ord> Listing<K> {
    pub(super) fn begin(&mut self) {
        self.named = Some(BTreeSet::new());
    }

    pub(super) fn saw(&mut self, key: &K) {
        if let Some(named) = &mut self.named {
            named.insert(key.clone());
        }
    }

    /// Whether what is known is all there is: a whole list was seen, and none is under way.
    pub(super) fn is_whole(&self) -> bool {
        self.complete && self.named.is_none()
    }

    /// All that the list named, if there was one.
    pub(super) fn end(&mut self) -> Option<BTreeSet<K>> {
        self.complete |= self.named.is_some();
        self.named.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_all_there_is_once_it_is_whole() {
        let mut listing = Listing::default();
        listing.begin();
        listing.saw(&"a");
        assert!(!listing.complete);
        // Interrupted, and begun again.
        listing.begin();
        listing.saw(&"b");
        listing.saw(&"c");
        assert!(!listing.is_whole());
        assert_eq!(listing.end(), Some(BTreeSet::from(["b", "c"])));
        assert!(listing.complete && listing.is_whole());
        listing.begin();
        assert!(listing.complete && !listing.is_whole());
        listing.end();
        // Changes between lists name nothing.
        listing.saw(&"d");
        assert_eq!(listing.end(), None);
        assert!(listing.complete);
    }
}
