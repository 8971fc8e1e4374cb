//! The bytes of a profile: what its file holds, and what its digest is of.

use std::sync::Arc;

use oci_spec::runtime::LinuxSeccomp;

use super::document::read_json;
use super::finding::{Code, FieldPath, Finding, Findings};
use super::model::{Digest, Profile};
use super::parse::{Dialect, read_spec};

/// The canonical bytes of a profile, which are the bytes of its file, and their digest.
///
/// They are the JSON of the OCI object alone, without white space but for one line feed at the end; keys in the
/// order of the specification's Go type; what is absent or an empty list left out. Where order means nothing it
/// is fixed: names, architectures and flags are sorted and stand once, conditions go by argument. The order of
/// entries is kept, because of two entries that contradict each other libseccomp takes the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// JSON of the OCI object alone, at most [`Canonical::MAX_BYTES`].
    pub bytes: Arc<[u8]>,
    /// Of the bytes.
    pub digest: Digest,
}

impl Canonical {
    /// 128 KiB.
    pub const MAX_BYTES: usize = 128 * 1024;
}

impl Profile {
    /// Same profile, same bytes, everywhere. One finding (`too-large`) above [`Canonical::MAX_BYTES`].
    pub fn canonical(&self) -> Result<Canonical, Finding> {
        let failed = |reason: String| Finding::new(Code::TooLarge, FieldPath::root(), reason);
        // Maps with keys that are no text, and types that fail on purpose, are all that `serde_json` cannot
        // write; there are none, and a profile that cannot be written is refused all the same.
        let mut bytes = serde_json::to_vec(&LinuxSeccomp::from(&self.normalized()))
            .map_err(|error| failed(format!("cannot be written as JSON: {error}")))?;
        bytes.push(b'\n');
        if bytes.len() > Canonical::MAX_BYTES {
            let reason = format!(
                "its file would have {} bytes, and at most {} are allowed: split the profile, or name calls once",
                bytes.len(),
                Canonical::MAX_BYTES
            );
            return Err(failed(reason));
        }
        Ok(Canonical {
            digest: Digest::of(&bytes),
            bytes: bytes.into(),
        })
    }

    /// Reads what [`Profile::canonical`] wrote, or any other OCI JSON. The rules are not asked: what is written down
    /// was judged before, with what its author accepts. Field paths are relative to the profile.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, Findings> {
        let syntax = |message: String, location| {
            Findings::from(Finding {
                location,
                ..Finding::new(Code::Syntax, FieldPath::root(), message)
            })
        };
        let text = str::from_utf8(bytes).map_err(|error| syntax(format!("not UTF-8: {error}"), None))?;
        let node = read_json(text).map_err(|error| syntax(error.message, Some(error.at)))?;
        Ok(read_spec(&node, &FieldPath::root(), Dialect::Oci)?.profile)
    }

    /// The same profile with everything in order whose order means nothing.
    pub(super) fn normalized(&self) -> Self {
        let mut profile = self.clone();
        sort_once(&mut profile.architectures);
        sort_once(&mut profile.flags);
        for rule in &mut profile.syscalls {
            sort_once(&mut rule.names);
            rule.args.sort_by_key(|condition| condition.index);
        }
        profile
    }
}

fn sort_once<T: Ord>(values: &mut Vec<T>) {
    values.sort_unstable();
    values.dedup();
}

#[cfg(test)]
mod tests;
