//! All proofs of a profile as one verdict, cheapest first; the same code for controller, agent and command line.
//!
//! Two steps: [`Prover::read`] needs no kernel and costs microseconds, [`Prover::prove`] asks the fork server.
//! Knows `profile`, `filter` and `testload`.

mod cache;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::filter::libseccomp_version;
use crate::profile::{
    Architecture, Canonical, Class, Code, Digest, FieldPath, Finding, Findings, ProfileSpec, SourceProfile,
    listener_allowed, parse_spec,
};
use crate::testload;
use cache::Cache;

/// How many verdicts are remembered: the profiles of a large cluster several times over. As a rule in less than a
/// megabyte; at worst, if each names 64 unknown calls of 64 bytes, in 16 MiB.
const REMEMBERED: usize = 2_048;

/// What is known about a profile.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It may be installed.
    Valid(Proven),
    /// It must not be.
    Invalid(Refused),
    /// Nothing is known; to be tried again, and nothing on disk changes for it.
    Unknown(String),
}

/// A profile that could be read, and breaks no rule; what no kernel was asked about yet.
#[derive(Debug, Clone)]
pub struct Read {
    /// What was read.
    pub spec: ProfileSpec,
    /// Its file.
    pub canonical: Canonical,
    /// Where the profile lies in its document; findings are named from there.
    root: FieldPath,
}

/// A profile that passed.
#[derive(Debug, Clone)]
pub struct Proven {
    /// What was read.
    pub spec: ProfileSpec,
    /// Its file.
    pub canonical: Canonical,
    /// Per architecture: instructions that a call of it can meet.
    pub filters: Vec<(Architecture, u32)>,
    /// What is not portable, or probably not meant.
    pub findings: Findings,
}

/// A profile that did not pass.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Its digest, where it could be read.
    pub digest: Option<Digest>,
    /// Which nodes it is for, where that could be read.
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Why, at least one of them invalid.
    pub findings: Findings,
}

/// Proves profiles. Cheap to clone; clones share one cache.
#[derive(Debug, Clone)]
pub struct Prover {
    client: testload::Client,
    listener_prefixes: Arc<[String]>,
    cache: Arc<Mutex<Cache<Digest, testload::Verdict>>>,
}

impl Prover {
    /// With the directories that the installation lets a `listenerPath` lie in; none by default, because the
    /// container runtime connects to it as root on the host.
    #[must_use]
    pub fn new(client: testload::Client, listener_prefixes: Vec<String>) -> Self {
        let cache = Arc::new(Mutex::new(Cache::new(REMEMBERED)));
        Self {
            client,
            listener_prefixes: listener_prefixes.into(),
            cache,
        }
    }

    /// Reads the `spec` of an object as the API server gave it.
    pub fn read(&self, spec: &Value) -> Result<Read, Refused> {
        self.screen(parse_spec(spec), FieldPath::root().key("spec"))
    }

    /// Takes what was read from a file.
    pub fn read_source(&self, source: &SourceProfile) -> Result<Read, Refused> {
        self.screen(source.spec.clone(), source.prefix().clone())
    }

    fn screen(&self, parsed: Result<ProfileSpec, Findings>, root: FieldPath) -> Result<Read, Refused> {
        let spec = parsed.map_err(|findings| Refused {
            digest: None,
            node_selector: None,
            findings,
        })?;
        let refuse = |digest, finding: Finding| Refused {
            digest,
            node_selector: Some(spec.node_selector.clone()),
            findings: finding.under(&root).into(),
        };
        let canonical = spec
            .profile
            .canonical()
            .map_err(|finding| refuse(None, finding))?;
        if let Some(finding) = listener_allowed(&spec.profile, &self.listener_prefixes) {
            return Err(refuse(Some(canonical.digest), finding));
        }
        Ok(Read {
            spec,
            canonical,
            root,
        })
    }

    /// Compiles and loads it in a child of the fork server, unless this digest was before. `tenant` is the
    /// namespace that pays for the time.
    pub async fn prove(&self, tenant: &str, read: Read) -> Verdict {
        let Read {
            spec,
            canonical,
            root,
        } = read;
        let digest = canonical.digest;
        let verdict = if let Some(verdict) = self.remembered(&digest) {
            verdict
        } else {
            let verdict = self.client.test_load(tenant, &canonical).await;
            if !matches!(verdict, testload::Verdict::Unknown(_)) {
                self.remember(digest, verdict.clone());
            }
            verdict
        };
        match verdict {
            testload::Verdict::Loaded {
                filters,
                unknown_names,
                findings,
            } => {
                let unlisted = findings.unlisted();
                let listed = ignored(&unknown_names)
                    .into_iter()
                    .chain(findings.iter().cloned());
                let findings = Findings::new(listed.collect(), unlisted).under(&root);
                Verdict::Valid(Proven {
                    spec,
                    canonical,
                    filters,
                    findings,
                })
            }
            testload::Verdict::Refused(findings) => Verdict::Invalid(Refused {
                digest: Some(digest),
                node_selector: Some(spec.node_selector),
                findings: findings.under(&root),
            }),
            testload::Verdict::Unknown(reason) => Verdict::Unknown(reason),
        }
    }

    /// Whether proofs can be made at all (the fork server answers).
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.client.is_alive()
    }

    fn remembered(&self, digest: &Digest) -> Option<testload::Verdict> {
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)
            .cloned()
    }

    fn remember(&self, digest: Digest, verdict: testload::Verdict) {
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(digest, verdict);
    }
}

impl Refused {
    /// The finding to name first: the first that is Invalid.
    #[must_use]
    pub fn cause(&self) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|finding| finding.class() == Class::Invalid)
    }
}

/// What a runtime built with this libseccomp does with names that it does not know: it leaves them out, and says
/// nothing.
fn ignored(unknown_names: &[String]) -> Option<Finding> {
    (!unknown_names.is_empty()).then(|| {
        let message = format!(
            "libseccomp {} does not know {}, and runtimes built with it ignore such a name: the call gets the \
             default action; check the spelling, and whether your nodes' libseccomp is new enough",
            libseccomp_version(),
            unknown_names.join(", "),
        );
        Finding::new(Code::UnknownSyscall, FieldPath::root().key("syscalls"), message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_the_first_finding_that_makes_it_invalid() {
        let finding = |code| Finding::new(code, FieldPath::root(), "why");
        let codes = [Code::UnknownSyscall, Code::CompileFailed, Code::LoadRefused];
        let refused = Refused {
            digest: None,
            node_selector: None,
            findings: codes.map(finding).into(),
        };
        assert_eq!(refused.cause(), Some(&finding(Code::CompileFailed)));
    }

    #[test]
    fn names_that_libseccomp_does_not_know_are_told_and_do_not_refuse_the_profile() {
        assert_eq!(ignored(&[]), None);
        let finding = ignored(&["mseal".to_owned(), "opne".to_owned()]).unwrap();
        assert_eq!(finding.class(), Class::NotPortable);
        assert!(
            finding.message.contains("does not know mseal, opne"),
            "{}",
            finding.message
        );
    }
}
