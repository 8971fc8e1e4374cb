//! Where in a document something is.

use std::fmt;

use super::{QUOTED, quoted};

/// The place of a value within a document, as kubectl writes it: `spec.syscalls[3].args[0].index`.
/// Empty for the document itself.
///
/// A key that is no plain word stands in brackets and quotes, `spec.nodeSelector["kubernetes.io/os"]`, and is
/// cut when it is long: whatever a document holds, its paths are short and fit on one line.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(String);

impl FieldPath {
    /// The document itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// The value under this key.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        if !is_word(key) {
            Self(format!("{}[{}]", self.0, quoted(key)))
        } else if self.0.is_empty() {
            Self(key.to_owned())
        } else {
            Self(format!("{}.{key}", self.0))
        }
    }

    /// The element at this index.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The place of `inner`, a path that begins at the value this path leads to.
    #[must_use]
    pub fn join(&self, inner: &Self) -> Self {
        if self.0.is_empty() || inner.0.is_empty() || inner.0.starts_with('[') {
            Self(format!("{}{}", self.0, inner.0))
        } else {
            Self(format!("{}.{}", self.0, inner.0))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place on a reader's way through a document. It costs nothing; a path is made of it for a finding alone.
#[derive(Debug, Clone, Copy)]
pub(in crate::profile) enum Place<'a> {
    /// Where the reader began.
    Start(&'a FieldPath),
    Key(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl<'a> Place<'a> {
    /// The value under this key.
    pub(in crate::profile) const fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }

    /// The element at this index.
    pub(in crate::profile) const fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }
}

impl From<&Place<'_>> for FieldPath {
    fn from(place: &Place<'_>) -> Self {
        match place {
            Place::Start(path) => (*path).clone(),
            Place::Key(object, key) => Self::from(*object).key(key),
            Place::Index(list, index) => Self::from(*list).index(*index),
        }
    }
}

impl From<&Self> for FieldPath {
    fn from(path: &Self) -> Self {
        path.clone()
    }
}

fn is_word(key: &str) -> bool {
    (1..=QUOTED).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_kubectl_writes_it() {
        let path = FieldPath::root()
            .key("spec")
            .key("syscalls")
            .index(3)
            .key("args")
            .index(0);
        assert_eq!(path.as_str(), "spec.syscalls[3].args[0]");
    }

    #[test]
    fn a_key_that_is_no_word_cannot_be_taken_for_another_path() {
        let selector = FieldPath::root().key("nodeSelector");
        assert_eq!(
            selector.key("kubernetes.io/os").as_str(),
            r#"nodeSelector["kubernetes.io/os"]"#
        );
        assert_eq!(selector.key("a\"]\n").as_str(), r#"nodeSelector["a\"]\n"]"#);
        assert_eq!(selector.key("").as_str(), r#"nodeSelector[""]"#);
    }

    #[test]
    fn a_place_reads_as_the_path_to_it() {
        let start = FieldPath::root().key("spec");
        let start = Place::Start(&start);
        let (entries, key) = (start.key("syscalls"), start.key("a key"));
        let entry = entries.index(3);
        for (place, path) in [
            (&start, "spec"),
            (&entry.key("args"), "spec.syscalls[3].args"),
            (&key, "spec[\"a key\"]"),
        ] {
            assert_eq!(FieldPath::from(place).as_str(), path);
        }
    }

    #[test]
    fn a_long_key_is_cut_between_characters() {
        let path = FieldPath::root().key(&"é".repeat(10_000));
        assert_eq!(path.as_str(), format!("[\"{}…\"]", "é".repeat(QUOTED)));
    }

    #[test]
    fn joined_paths_read_as_one() {
        let spec = FieldPath::root().key("spec");
        let inner = FieldPath::root().key("syscalls").index(1);
        assert_eq!(spec.join(&inner).as_str(), "spec.syscalls[1]");
        assert_eq!(FieldPath::root().join(&inner), inner);
        assert_eq!(spec.join(&FieldPath::root()), spec);
        assert_eq!(spec.join(&FieldPath::root().index(2)).as_str(), "spec[2]");
    }
}
