//! What `callgate/.callgate/` holds: whose the directory is, and what was written there and proven. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Origin, Owner, ProvenWith};
use crate::profile::{Digest, ProfileName};

/// Of the two files below. A version that this program does not know counts as unreadable.
const VERSION: u32 = 1;

/// How many digests are remembered as proven beyond those on disk, so that going back to an earlier version of
/// a profile needs no new proof.
const RETIRED: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    version: u32,
    owner: Owner,
}

/// The bytes of a marker.
pub(super) fn marker(owner: &Owner) -> Vec<u8> {
    to_json(&Marker {
        version: VERSION,
        owner: owner.clone(),
    })
}

/// Whom a marker names, or `None` if it is unreadable.
pub(super) fn parse_marker(bytes: &[u8]) -> Option<Owner> {
    let marker: Marker = serde_json::from_slice(bytes).ok()?;
    (marker.version == VERSION).then_some(marker.owner)
}

/// What the record says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) files: BTreeMap<ProfileName, Entry>,
    pub(super) proofs: Proofs,
}

/// What the record says of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    /// The record is written before the file. So after a crash the file may still be this one.
    pub(super) previous: Option<Digest>,
    pub(super) origin: Origin,
}

/// The digests that were proven, and with what; the longest unused are forgotten first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Proofs {
    /// With the time of each proof, as a count.
    by_digest: BTreeMap<Digest, (u64, ProvenWith)>,
    count: u64,
}

impl Proofs {
    pub(super) fn get(&self, digest: &Digest) -> Option<&ProvenWith> {
        self.by_digest.get(digest).map(|(_, proof)| proof)
    }

    pub(super) fn remember(&mut self, digest: Digest, proof: ProvenWith) {
        self.by_digest.insert(digest, (self.count, proof));
        self.count += 1;
    }

    /// Forgets all but those that are in use, and the [`RETIRED`] latest others.
    pub(super) fn prune(&mut self, used: &BTreeSet<Digest>) {
        let mut retired: Vec<(u64, Digest)> = self
            .by_digest
            .iter()
            .filter(|(digest, _)| !used.contains(digest))
            .map(|(digest, (count, _))| (*count, *digest))
            .collect();
        retired.sort_unstable();
        let excess = retired.len().saturating_sub(RETIRED);
        for (_, digest) in &retired[..excess] {
            self.by_digest.remove(digest);
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecord<'a> {
    version: u32,
    files: BTreeMap<String, RawEntry>,
    /// The latest last.
    proven: Vec<RawProof<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    origin: Origin,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProof<'a> {
    digest: String,
    with: Cow<'a, ProvenWith>,
}

impl Record {
    /// The largest record that is read: far above that of 10,000 profiles.
    pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

    /// `None` if it is unreadable, in whole or in part: a record that is not as we wrote it vouches for nothing.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let raw: RawRecord<'_> = serde_json::from_slice(bytes).ok()?;
        if raw.version != VERSION {
            return None;
        }
        let mut record = Self::default();
        for (name, entry) in raw.files {
            let entry = Entry {
                digest: entry.digest.parse().ok()?,
                previous: entry.previous.map(|digest| digest.parse()).transpose().ok()?,
                origin: entry.origin,
            };
            record.files.insert(name.parse().ok()?, entry);
        }
        for proof in raw.proven {
            record
                .proofs
                .remember(proof.digest.parse().ok()?, proof.with.into_owned());
        }
        Some(record)
    }

    /// The bytes of a record.
    pub(super) fn to_bytes(files: &BTreeMap<ProfileName, Entry>, proofs: &Proofs) -> Vec<u8> {
        let mut proven: Vec<_> = proofs.by_digest.iter().collect();
        proven.sort_unstable_by_key(|(_, (count, _))| *count);
        to_json(&RawRecord {
            version: VERSION,
            files: files
                .iter()
                .map(|(name, entry)| {
                    let entry = RawEntry {
                        digest: entry.digest.to_string(),
                        previous: entry.previous.map(|digest| digest.to_string()),
                        origin: entry.origin,
                    };
                    (name.to_string(), entry)
                })
                .collect(),
            proven: proven
                .into_iter()
                .map(|(digest, (_, proof))| RawProof {
                    digest: digest.to_string(),
                    with: Cow::Borrowed(proof),
                })
                .collect(),
        })
    }
}

#[expect(
    clippy::expect_used,
    reason = "maps with text keys, lists and texts always serialise"
)]
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data serialises")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        Digest::of(&number.to_ne_bytes())
    }

    fn proof(kernel: &str) -> ProvenWith {
        ProvenWith {
            kernel: kernel.into(),
            libseccomp: "2.5.4".into(),
            callgate: "0.1.0".into(),
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let mut record = Record::default();
        for (name, previous, origin) in [
            ("a/x", None, Origin::Install),
            ("b/y.z", Some(digest(2)), Origin::Cluster),
        ] {
            let entry = Entry {
                digest: digest(1),
                previous,
                origin,
            };
            record.files.insert(name.parse().unwrap(), entry);
        }
        record
            .proofs
            .remember(digest(2), proof("later \"quoted\" \u{1f980}"));
        record.proofs.remember(digest(1), proof("6.1"));
        let bytes = Record::to_bytes(&record.files, &record.proofs);
        assert_eq!(Record::parse(&bytes), Some(record));
    }

    #[test]
    fn a_marker_reads_back_as_it_was_written() {
        for owner in [
            Owner::Install,
            Owner::Cluster("install".into()),
            Owner::Cluster(String::new()),
        ] {
            assert_eq!(parse_marker(&marker(&owner)), Some(owner));
        }
    }

    #[test]
    fn the_longest_unused_proofs_are_forgotten_and_those_in_use_never() {
        let mut proofs = Proofs::default();
        for number in 0..RETIRED + 10 {
            proofs.remember(digest(number), proof("6.1"));
        }
        proofs.remember(digest(1), proof("6.2"));
        proofs.prune(&BTreeSet::from([digest(0)]));
        assert_eq!(proofs.by_digest.len(), RETIRED + 1);
        assert!(proofs.get(&digest(0)).is_some(), "in use");
        assert_eq!(proofs.get(&digest(1)), Some(&proof("6.2")), "proven anew");
        assert!(proofs.get(&digest(2)).is_none() && proofs.get(&digest(9)).is_none());
        assert!(proofs.get(&digest(11)).is_some());
    }
}
