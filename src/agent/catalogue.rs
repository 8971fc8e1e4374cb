//! The profiles that the API server holds, each read and judged as far as it goes.
//!
//! Objects are not kept: of each there is its selector, and its file or the reason why it has none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use serde_json::value::RawValue;

use super::plan::{Attempt, Desired, Failed, Labels, Refusal, State};
use crate::profile::{Canonical, Code, Digest, Finding, InvalidName, ProfileName};
use crate::proof::{Read, Refused, RefusedBy, Verdict};

/// How long to wait after the first verdict Unknown; doubled after each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long at most.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// One object, as it arrived.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) spec: Box<RawValue>,
}

/// Which object, and which state of its spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) uid: String,
    pub(super) generation: i64,
}

/// Every profile by name.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    profiles: BTreeMap<ProfileName, Profile>,
    /// Objects whose name is no safe file name, by NAMESPACE/NAME.
    misnamed: BTreeMap<String, (Version, InvalidName)>,
    /// Those whose proof is under way, for this version or for one before it.
    proving: BTreeSet<ProfileName>,
}

#[derive(Debug)]
struct Profile {
    version: Version,
    selector: Option<Labels>,
    judged: Judged,
}

#[derive(Debug)]
enum Judged {
    Unproven {
        read: Box<Read>,
        unanswered: Option<Unanswered>,
    },
    Proven(Canonical),
    Refused {
        digest: Option<Digest>,
        by: Refusal,
        reason: String,
        message: String,
    },
}

#[derive(Debug)]
struct Unanswered {
    times: u32,
    again: Instant,
    message: String,
}

/// A question for the kernel.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) name: ProfileName,
    pub(super) version: Version,
    pub(super) read: Read,
}

/// NAMESPACE/NAME of an object, safe or not.
pub(super) fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

impl Catalogue {
    /// Takes an object in. Whether that changes anything: not if it was here before in this version.
    pub(super) fn set(&mut self, object: Object, read: impl FnOnce(&Value) -> Result<Read, Refused>) -> bool {
        let Object {
            namespace,
            name,
            version,
            spec,
        } = object;
        let key = key(&namespace, &name);
        let name = match ProfileName::new(namespace, name) {
            Ok(name) => name,
            Err(invalid) => {
                let before = self.misnamed.insert(key, (version.clone(), invalid));
                return before.is_none_or(|(before, _)| before != version);
            }
        };
        if self
            .profiles
            .get(&name)
            .is_some_and(|known| known.version == version)
        {
            return false;
        }
        // What nests too deeply for it to be read counts as none, and is refused as such.
        let spec = serde_json::from_str(spec.get()).unwrap_or_default();
        let profile = match read(&spec) {
            Ok(read) => Profile {
                version,
                selector: Some(read.spec.node_selector.clone()),
                judged: Judged::Unproven {
                    read: Box::new(read),
                    unanswered: None,
                },
            },
            Err(refused) => Profile {
                version,
                selector: refused.node_selector.clone(),
                judged: refused.into(),
            },
        };
        self.profiles.insert(name, profile);
        true
    }

    /// An object is gone.
    pub(super) fn unset(&mut self, key: &str) {
        self.misnamed.remove(key);
        if let Ok(name) = key.parse() {
            self.profiles.remove::<ProfileName>(&name);
        }
    }

    /// Only these are left; the others went while nobody looked.
    pub(super) fn retain(&mut self, keys: &BTreeSet<String>) {
        self.misnamed.retain(|key, _| keys.contains(key));
        self.profiles.retain(|name, _| keys.contains(&name.to_string()));
    }

    /// What a plan needs to know.
    pub(super) fn desired(&self) -> Vec<(&ProfileName, Desired<'_>)> {
        self.profiles
            .iter()
            .map(|(name, profile)| {
                let state = profile.judged.state(self.proving.contains(name));
                let selector = profile.selector.as_ref();
                (
                    name,
                    Desired {
                        generation: profile.version.generation,
                        selector,
                        state,
                    },
                )
            })
            .collect()
    }

    /// Objects whose name is no safe file name.
    pub(super) fn misnamed(&self) -> impl Iterator<Item = Failed> {
        self.misnamed.iter().map(|(key, (version, invalid))| Failed {
            profile: key.clone(),
            generation: version.generation,
            reason: Code::BadName.reason(),
            message: invalid.to_string(),
            digest: None,
            live: None,
        })
    }

    /// What to ask the kernel about this profile. One question at a time: an author who changes a profile faster
    /// than it can be proven delays that profile and nothing else.
    pub(super) fn question(&mut self, name: &ProfileName) -> Option<Question> {
        let profile = self.profiles.get(name)?;
        let Judged::Unproven { read, .. } = &profile.judged else {
            return None;
        };
        if !self.proving.insert(name.clone()) {
            return None;
        }
        Some(Question {
            name: name.clone(),
            version: profile.version.clone(),
            read: Read::clone(read),
        })
    }

    /// What the kernel answered. Of a version that is no longer the latest it says nothing.
    pub(super) fn answer(&mut self, name: &ProfileName, version: &Version, verdict: Verdict, now: Instant) {
        self.proving.remove(name);
        let Some(profile) = self
            .profiles
            .get_mut(name)
            .filter(|profile| profile.version == *version)
        else {
            return;
        };
        match verdict {
            Verdict::Valid(proven) => profile.judged = Judged::Proven(proven.canonical),
            Verdict::Invalid(refused) => profile.judged = refused.into(),
            Verdict::Unknown(message) => {
                if let Judged::Unproven { unanswered, .. } = &mut profile.judged {
                    let before = unanswered.as_ref().map_or(0, |unanswered| unanswered.times);
                    let wait = FIRST_RETRY.saturating_mul(1 << before.min(16)).min(LAST_RETRY);
                    *unanswered = Some(Unanswered {
                        times: before.saturating_add(1),
                        again: now + wait,
                        message,
                    });
                }
            }
        }
    }

    /// The file of a profile that could be read.
    pub(super) fn file(&self, name: &ProfileName) -> Option<&Canonical> {
        match &self.profiles.get(name)?.judged {
            Judged::Unproven { read, .. } => Some(&read.canonical),
            Judged::Proven(file) => Some(file),
            Judged::Refused { .. } => None,
        }
    }

    /// `current` is the file of a profile that is on disk, and proven as well as it can be. Shares its bytes with the
    /// store's and forgets what only a proof needs.
    pub(super) fn settle<'a>(&mut self, current: impl Fn(&ProfileName) -> Option<&'a Canonical>) {
        for (name, profile) in &mut self.profiles {
            if let Judged::Unproven { read, .. } = &profile.judged
                && let Some(file) = current(name)
                && read.canonical.digest == file.digest
            {
                profile.judged = Judged::Proven(file.clone());
            }
        }
    }
}

impl Judged {
    fn state(&self, proving: bool) -> State<'_> {
        match self {
            Self::Unproven { read, unanswered } => State::Unproven {
                digest: read.canonical.digest,
                attempt: match unanswered {
                    _ if proving => Attempt::Running,
                    None => Attempt::None,
                    Some(Unanswered {
                        times,
                        again,
                        message,
                    }) => Attempt::Unanswered {
                        times: *times,
                        again: *again,
                        message,
                    },
                },
            },
            Self::Proven(file) => State::Proven(file.digest),
            Self::Refused {
                digest,
                by,
                reason,
                message,
            } => State::Refused {
                digest: *digest,
                by: *by,
                reason,
                message,
            },
        }
    }
}

impl From<Refused> for Judged {
    fn from(refused: Refused) -> Self {
        let by = match refused.by {
            RefusedBy::Rule => Refusal::Rule,
            RefusedBy::Installation | RefusedBy::TestLoad => Refusal::Here,
        };
        let (why, message) = match Finding::cause(&refused.findings) {
            None => ("Invalid".to_owned(), String::new()),
            Some((cause, more)) => {
                let mut message = match cause.field.as_str() {
                    "" => cause.sentence(),
                    field => format!("{field}: {}", cause.sentence()),
                };
                if more > 0 {
                    message = format!("{message} ({more} more in the profile's status.findings)");
                }
                (cause.code.reason(), message)
            }
        };
        Self::Refused {
            digest: refused.digest,
            by,
            reason: why,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::FieldPath;

    fn refused(by: RefusedBy, findings: Vec<Finding>) -> (Refusal, String, String) {
        match Judged::from(Refused {
            by,
            digest: None,
            node_selector: None,
            findings: findings.into(),
        }) {
            Judged::Refused {
                by, reason, message, ..
            } => (by, reason, message),
            other => panic!("{other:?}"),
        }
    }

    fn finding(code: Code, field: &str, message: &str) -> Finding {
        Finding::new(code, FieldPath::root().key(field), message)
    }

    #[test]
    fn a_refusal_names_rule_field_and_how_many_more_there_are() {
        let first = finding(Code::UnknownKey, "spec", "no such key");
        let second = finding(Code::BadValue, "spec", "no such value");
        assert_eq!(
            refused(RefusedBy::Rule, vec![first.clone()]),
            (
                Refusal::Rule,
                "UnknownKey".to_owned(),
                "spec: no such key".to_owned()
            )
        );
        assert_eq!(
            refused(RefusedBy::Rule, vec![first, second]).2,
            "spec: no such key (1 more in the profile's status.findings)"
        );
        let whole = Finding::new(Code::Syntax, FieldPath::root(), "no profile");
        assert_eq!(refused(RefusedBy::Rule, vec![whole]).2, "no profile");
    }

    #[test]
    fn what_is_here_in_this_version_is_not_read_again_and_changes_nothing() {
        let mut catalogue = Catalogue::default();
        for (name, generation, uid, is_news) in [
            ("web", 1, "a", true),
            ("web", 1, "a", false),
            ("web", 2, "a", true),
            ("web", 2, "b", true),
            ("web", 2, "b", false),
            ("Bad_Name", 1, "c", true),
            ("Bad_Name", 1, "c", false),
            ("Bad_Name", 2, "c", true),
        ] {
            let object = Object {
                namespace: "shop".to_owned(),
                name: name.to_owned(),
                version: Version {
                    uid: uid.to_owned(),
                    generation,
                },
                spec: serde_json::value::to_raw_value(&generation).unwrap(),
            };
            let mut is_read = false;
            let is_changed = catalogue.set(object, |spec| {
                assert_eq!(*spec, generation);
                is_read = true;
                Err(Refused {
                    by: RefusedBy::Rule,
                    digest: None,
                    node_selector: None,
                    findings: vec![finding(Code::BadValue, "spec", "a number")].into(),
                })
            });
            assert_eq!(is_changed, is_news, "{name} {generation} {uid}");
            assert_eq!(is_read, is_news && name == "web", "{name} {generation} {uid}");
        }
    }

    #[test]
    fn what_the_installation_or_the_kernel_does_not_take_is_no_newer_rule() {
        for by in [RefusedBy::Installation, RefusedBy::TestLoad] {
            let finding = finding(Code::ListenerNotAllowed, "spec", "not here");
            assert_eq!(refused(by, vec![finding]).0, Refusal::Here);
        }
    }
}
