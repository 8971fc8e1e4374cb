//! What a reader finds, as a list with a bound.

use std::ops::Deref;

use super::{FieldPath, Finding};

/// All that is wrong with a document: the first findings in its order, and how many more there are. A hostile
/// document has a mistake in each byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    listed: Vec<Finding>,
    unlisted: usize,
}

impl Findings {
    /// How many of what a reader finds are listed.
    pub const MAX: usize = 100;

    /// These, and so many that are not listed.
    #[must_use]
    pub const fn new(listed: Vec<Finding>, unlisted: usize) -> Self {
        Self { listed, unlisted }
    }

    /// The same findings, seen from a document that holds their object at `path`.
    #[must_use]
    pub fn under(self, path: &FieldPath) -> Self {
        Self {
            listed: self
                .listed
                .into_iter()
                .map(|finding| finding.under(path))
                .collect(),
            ..self
        }
    }

    /// How many there are beside the listed ones.
    #[must_use]
    pub const fn unlisted(&self) -> usize {
        self.unlisted
    }

    /// How many there are in all. What a child says it found may be any number.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.listed.len().saturating_add(self.unlisted)
    }

    /// Adds a finding, which is made only if it is listed.
    pub(in crate::profile) fn push(&mut self, finding: impl FnOnce() -> Finding) {
        if self.listed.len() < Self::MAX {
            self.listed.push(finding());
        } else {
            self.unlisted += 1;
        }
    }

    /// Lists the first `most` alone.
    pub(in crate::profile) fn shorten(&mut self, most: usize) {
        self.unlisted = self.total() - self.listed.len().min(most);
        self.listed.truncate(most);
    }

    /// Adds a finding before the one that is listed there.
    pub(in crate::profile) fn insert(&mut self, index: usize, finding: Finding) {
        self.listed.insert(index.min(self.listed.len()), finding);
        if self.listed.len() > Self::MAX {
            self.listed.truncate(Self::MAX);
            self.unlisted += 1;
        }
    }
}

impl Deref for Findings {
    type Target = [Finding];

    /// Those that are listed.
    fn deref(&self) -> &[Finding] {
        &self.listed
    }
}

impl From<Vec<Finding>> for Findings {
    fn from(listed: Vec<Finding>) -> Self {
        Self { listed, unlisted: 0 }
    }
}

impl From<Finding> for Findings {
    fn from(finding: Finding) -> Self {
        vec![finding].into()
    }
}

impl IntoIterator for Findings {
    type Item = Finding;
    type IntoIter = std::vec::IntoIter<Finding>;

    /// Those that are listed.
    fn into_iter(self) -> Self::IntoIter {
        self.listed.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;

    #[test]
    fn findings_beyond_the_limit_are_counted_and_not_made() {
        let bad = || Finding::new(Code::BadValue, FieldPath::root(), "bad");
        let (mut findings, mut made) = (Findings::default(), 0);
        for _ in 0..Findings::MAX + 5 {
            findings.push(|| {
                made += 1;
                bad()
            });
        }
        assert_eq!(made, Findings::MAX);
        assert_eq!(
            (findings.len(), findings.unlisted(), findings.total()),
            (Findings::MAX, 5, Findings::MAX + 5)
        );
        let first = Finding::new(Code::DockerFormat, FieldPath::root(), "first");
        findings.insert(0, first.clone());
        assert_eq!((findings.len(), findings.unlisted()), (Findings::MAX, 6));
        assert_eq!(findings[0], first);
        findings.insert(usize::MAX, bad());
        assert_eq!((findings.len(), findings.unlisted()), (Findings::MAX, 7));
    }
}
