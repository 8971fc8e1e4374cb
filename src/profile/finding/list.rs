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
        self.map(|finding| finding.under(path))
    }

    /// What becomes of each.
    #[must_use]
    pub fn map(self, change: impl FnMut(Finding) -> Finding) -> Self {
        Self {
            listed: self.listed.into_iter().map(change).collect(),
            ..self
        }
    }

    /// How many there are beside the listed ones. What a child says it found may be any number.
    #[must_use]
    pub fn unlisted(&self) -> usize {
        self.unlisted_of(|_| true)
    }

    /// The same, without those that only findings stand for which are not among these.
    #[must_use]
    pub fn unlisted_of(&self, is_kept: impl Fn(&Finding) -> bool) -> usize {
        let kept = self.listed.iter().filter(|finding| is_kept(finding));
        kept.fold(self.unlisted, |count, finding| {
            count.saturating_add(finding.more as usize)
        })
    }

    /// How many there are in all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.listed.len().saturating_add(self.unlisted())
    }

    /// These, behind others.
    #[must_use]
    pub fn after(self, mut first: Vec<Finding>) -> Self {
        first.extend(self.listed);
        Self {
            listed: first,
            ..self
        }
    }

    /// These, and others behind them.
    #[must_use]
    pub fn and(mut self, last: Vec<Finding>) -> Self {
        self.listed.extend(last);
        self
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
        let cut = self.listed.drain(most.min(self.listed.len())..);
        self.unlisted = cut.fold(self.unlisted, |count, finding| {
            count.saturating_add(finding.more as usize).saturating_add(1)
        });
    }

    /// Adds a finding before the one that is listed there.
    pub(in crate::profile) fn insert(&mut self, index: usize, finding: Finding) {
        self.listed.insert(index.min(self.listed.len()), finding);
        self.shorten(Self::MAX);
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

    #[test]
    fn those_that_a_listed_finding_stands_for_are_counted_wherever_it_goes() {
        let standing = |more| Finding {
            more,
            ..Finding::new(Code::UnknownSyscall, FieldPath::root(), "bad")
        };
        let findings = Findings::new(vec![standing(0), standing(5)], 3);
        assert_eq!((findings.unlisted(), findings.total()), (8, 10));
        assert_eq!(findings.unlisted_of(|finding| finding.more == 0), 3);
        assert_eq!(Finding::cause(&findings).unwrap().1, 6);
        let more = findings.after(vec![standing(1)]).and(vec![standing(2)]);
        assert_eq!((more.len(), more.total()), (4, 15));
        let mut shorter = more.clone();
        shorter.shorten(1);
        assert_eq!((shorter.len(), shorter.total()), (1, more.total()));
    }
}
