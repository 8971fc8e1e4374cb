//! What must hold of every file in `.callgate/`. See [`crate::fuzz`].

use super::record::{Record, marker, parse_marker};

/// A marker or a record that is read comes back from what is written of it.
pub(crate) fn files(bytes: &[u8]) {
    if let Some(owner) = parse_marker(bytes) {
        assert_eq!(parse_marker(&marker(&owner)), Some(owner));
    }
    if let Some(record) = Record::parse(bytes) {
        let written = Record::to_bytes(&record.files, &record.proofs);
        let read = Record::parse(&written);
        let again = read.map(|read| Record::to_bytes(&read.files, &read.proofs));
        assert_eq!(again, Some(written));
    }
}
