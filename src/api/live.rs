//! What is live on a node, in eight bytes per profile.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::SeccompNodeReport;
use crate::profile::{Digest, ProfileName};

/// Of one entry.
pub(super) const BYTES: usize = 8;

/// A set of (profile, digest) that answers "is this one live there", and nothing else.
///
/// It holds, and serialises as the base64 of, the sorted 8-byte prefixes of
/// `sha256(namespace "/" name "\0" digest)`, with the 32 bytes of the digest. Two of a thousand entries share a
/// prefix with probability 3e-14.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveSet(BTreeSet<LiveKey>);

/// What a [`LiveSet`] holds of one digest of one profile: made once to look into many sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiveKey([u8; BYTES]);

impl LiveSet {
    /// What stands for this digest of this profile.
    #[must_use]
    pub fn key(name: &ProfileName, digest: &Digest) -> LiveKey {
        let hash = Sha256::new()
            .chain_update(name.to_string())
            .chain_update([0])
            .chain_update(digest.as_bytes())
            .finalize();
        LiveKey(std::array::from_fn(|i| hash[i]))
    }

    /// Whether this digest of this profile is live.
    #[must_use]
    pub fn contains(&self, name: &ProfileName, digest: &Digest) -> bool {
        self.contains_key(&Self::key(name, digest))
    }

    /// Whether what this key was made of is live.
    #[must_use]
    pub fn contains_key(&self, key: &LiveKey) -> bool {
        self.0.contains(key)
    }

    /// How many of these are not among those.
    #[must_use]
    pub fn beyond(&self, those: &Self) -> usize {
        self.0.difference(&those.0).count()
    }

    /// How many profiles are live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no profile is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<(&'a ProfileName, &'a Digest)> for LiveSet {
    fn from_iter<I: IntoIterator<Item = (&'a ProfileName, &'a Digest)>>(live: I) -> Self {
        Self(
            live.into_iter()
                .map(|(name, digest)| Self::key(name, digest))
                .collect(),
        )
    }
}

impl Serialize for LiveSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0.iter().flat_map(|key| key.0).collect::<Vec<u8>>()))
    }
}

impl<'de> Deserialize<'de> for LiveSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(&text).map_err(D::Error::custom)?;
        let (keys, []) = bytes.as_chunks::<BYTES>() else {
            return Err(D::Error::custom(format!(
                "{} bytes are not a whole number of {BYTES}-byte entries",
                bytes.len()
            )));
        };
        if keys.len() > SeccompNodeReport::MAX_PROFILES {
            return Err(D::Error::custom(format!(
                "{} entries are more than {}",
                keys.len(),
                SeccompNodeReport::MAX_PROFILES
            )));
        }
        Ok(Self(keys.iter().copied().map(LiveKey).collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, from_value, json, to_value};

    use super::*;

    fn name(index: usize) -> ProfileName {
        ProfileName::new("team", format!("profile-{index}")).unwrap()
    }

    fn live(profiles: &[(ProfileName, Digest)]) -> LiveSet {
        profiles.iter().map(|(name, digest)| (name, digest)).collect()
    }

    #[test]
    fn more_entries_than_a_report_may_hold_are_refused() {
        let packed = |entries: usize| json!(STANDARD.encode(vec![0; entries * BYTES]));
        assert!(from_value::<LiveSet>(packed(SeccompNodeReport::MAX_PROFILES)).is_ok());
        let error = from_value::<LiveSet>(packed(SeccompNodeReport::MAX_PROFILES + 1)).unwrap_err();
        assert!(
            error.to_string().contains("65537 entries are more than 65536"),
            "{error}"
        );
    }

    #[test]
    fn it_holds_a_profile_with_its_digest_and_no_other_pair() {
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let live = live(&[(name(1), new), (name(2), old)]);
        assert_eq!(live.len(), 2);
        assert!(live.contains(&name(1), &new));
        assert!(live.contains(&name(2), &old));
        assert!(!live.contains(&name(1), &old));
        assert!(!live.contains(&name(2), &new));
        assert!(!live.contains(&name(3), &new));
        assert!(live.contains_key(&LiveSet::key(&name(1), &new)));
        assert!(!live.contains_key(&LiveSet::key(&name(1), &old)));
    }

    /// Agents and controllers of different versions read each other's reports: the form never changes.
    #[test]
    fn the_packed_form_is_fixed() {
        let profiles = live(&[(ProfileName::new("team", "web").unwrap(), Digest::of(b"{}"))]);
        assert_eq!(to_value(&profiles).unwrap(), json!("PgDWNVfJbGM="));
        assert_eq!(to_value(LiveSet::default()).unwrap(), json!(""));
    }

    #[test]
    fn text_that_is_no_packed_set_is_an_error() {
        for hostile in [
            "AAAA",
            "AAAAAAAAAA",
            "AAAAAAAAAAA",
            "!!!!",
            "AAAAAAAAAAB=",
            "AAAAAAAAAAA=\n",
            "\u{0}",
            "é",
        ] {
            assert!(from_value::<LiveSet>(json!(hostile)).is_err(), "{hostile:?}");
        }
        for hostile in [json!(null), json!(7), json!(["AAAAAAAAAAA="]), json!({})] {
            assert!(from_value::<LiveSet>(hostile.clone()).is_err(), "{hostile}");
        }
        assert_eq!(from_value::<LiveSet>(json!("AAAAAAAAAAA=")).unwrap().len(), 1);
    }

    #[test]
    fn order_and_repetition_do_not_matter_in_what_is_read() {
        let sorted: Vec<u8> = [[1; BYTES], [2; BYTES]].concat();
        let shuffled: Vec<u8> = [[2; BYTES], [1; BYTES], [2; BYTES]].concat();
        let read = |bytes: &[u8]| from_value::<LiveSet>(json!(STANDARD.encode(bytes))).unwrap();
        assert_eq!(read(&sorted), read(&shuffled));
        assert_eq!(
            to_value(read(&shuffled)).unwrap(),
            json!(STANDARD.encode(&sorted))
        );
    }

    proptest! {
        #[test]
        fn the_packed_form_reads_back(contents in prop::collection::vec(any::<u64>(), 0..40)) {
            let profiles: Vec<_> = contents
                .iter()
                .enumerate()
                .map(|(index, content)| (name(index), Digest::of(&content.to_le_bytes())))
                .collect();
            let set = live(&profiles);
            prop_assert_eq!(set.len(), profiles.len());
            prop_assert_eq!(set.is_empty(), profiles.is_empty());
            let packed = to_value(&set).unwrap();
            prop_assert_eq!(&from_value::<LiveSet>(packed.clone()).unwrap(), &set);
            let reversed: LiveSet = profiles.iter().rev().map(|(name, digest)| (name, digest)).collect();
            prop_assert_eq!(to_value(&reversed).unwrap(), packed);
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            if let Ok(set) = from_value::<LiveSet>(Value::String(text)) {
                prop_assert_eq!(from_value::<LiveSet>(to_value(&set).unwrap()).unwrap(), set);
            }
        }
    }
}
