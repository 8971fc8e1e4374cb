//! All proofs of a profile as one verdict, cheapest first; the same code for controller, agent and command line.
//!
//! Two steps: [`Prover::read`] needs no kernel and costs microseconds, [`Prover::prove`] asks the fork server.
//! Knows `profile`, `filter`, `startability` and `testload`.

mod cache;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use crate::filter::{ByteOrder, Costliest, costliest, libseccomp_version, native, node_architecture};
use crate::profile::{
    AcceptedBy, Affected, Architecture, Canonical, Code, Digest, FieldPath, Finding, Findings, Profile,
    ProfileSpec, Software, SourceProfile, listener_allowed, on_machine, parse_spec, quoted, syscalls,
    unloadable, unproven_architecture,
};
use crate::{startability, testload};
use cache::Cache;

/// How many verdicts are remembered: the profiles of a large cluster several times over. As a rule in about a
/// megabyte; at worst, if each has findings of 8 KiB and names 64 unknown calls of 64 bytes, in 32 MiB.
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
    /// What the rules find in it, none of it fatal.
    findings: Vec<Finding>,
    /// Where the profile lies in its document; findings are named from there.
    root: FieldPath,
}

impl Read {
    /// One that no rule says anything about.
    #[cfg(test)]
    pub(crate) fn without_findings(spec: ProfileSpec, canonical: Canonical) -> Self {
        Self {
            spec,
            canonical,
            findings: Vec::new(),
            root: FieldPath::root(),
        }
    }

    /// What the rules find in it, as a verdict names it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
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
    /// Whether this machine's kernel took the filter. It cannot take one of the other byte order.
    pub is_loaded: bool,
    /// What is not portable, or probably not meant.
    pub findings: Findings,
}

/// A profile that did not pass.
#[derive(Debug, Clone)]
pub struct Refused {
    /// What it did not pass.
    pub by: RefusedBy,
    /// Its digest, where it could be read.
    pub digest: Option<Digest>,
    /// Which nodes it is for, where that could be read.
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Why, at least one of them invalid.
    pub findings: Findings,
}

/// What a profile did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// A rule, or the proof of its meaning or of its start: all may be stricter than when the same bytes passed.
    Rule,
    /// What the installation allows.
    Installation,
    /// libseccomp or the kernel, asked here and now.
    TestLoad,
}

/// Proves profiles. Cheap to clone; clones share one cache.
#[derive(Debug, Clone)]
pub struct Prover {
    client: testload::Client,
    listener_prefixes: Arc<[String]>,
    accepted: Arc<[Code]>,
    is_for_here: bool,
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
            accepted: Arc::default(),
            is_for_here: false,
            cache,
        }
    }

    /// The same prover, which accepts findings of these codes in every profile, where anybody can.
    #[must_use]
    pub fn accepting(self, codes: Vec<Code>) -> Self {
        Self {
            accepted: codes.into(),
            ..self
        }
    }

    /// The same prover, for profiles that this very machine is to have: what its kernel cannot load is Invalid, although
    /// it may be right on nodes of the other byte order.
    #[must_use]
    pub fn for_here(self) -> Self {
        Self {
            is_for_here: true,
            ..self
        }
    }

    fn accept(&self, finding: Finding) -> Finding {
        let code = finding.code;
        if finding.accepted.is_none() && code.is_acceptable() && self.accepted.contains(&code) {
            finding.accept(AcceptedBy::Caller)
        } else {
            finding
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
            by: RefusedBy::Rule,
            digest: None,
            node_selector: None,
            findings,
        })?;
        let refuse = |by, digest, findings: Findings| Refused::new(by, digest, &spec, findings.under(&root));
        let findings: Vec<_> = spec.findings().into_iter().map(|one| self.accept(one)).collect();
        let canonical = spec.profile.canonical();
        if findings.iter().any(Finding::is_fatal) {
            let digest = canonical.ok().map(|canonical| canonical.digest);
            return Err(refuse(RefusedBy::Rule, digest, findings.into()));
        }
        let canonical = canonical.map_err(|finding| refuse(RefusedBy::Rule, None, finding.into()))?;
        if let Some(finding) = listener_allowed(&spec.profile, &self.listener_prefixes) {
            return Err(refuse(
                RefusedBy::Installation,
                Some(canonical.digest),
                finding.into(),
            ));
        }
        Ok(Read {
            findings: findings.into_iter().map(|finding| finding.under(&root)).collect(),
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
            mut findings,
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
            testload::Verdict::Passed {
                is_loaded,
                filters,
                unknown_names,
                findings: found,
                start,
            } => {
                let native = native();
                if !is_loaded && is_loadable(&spec.profile) {
                    return Verdict::Unknown("the kernel was not asked, which is a bug".to_owned());
                }
                if !is_loaded
                    && self.is_for_here
                    && let Some(finding) = native.and_then(|native| unloadable(native, &spec.profile))
                {
                    let all = Findings::from(finding).under(&root).and(findings);
                    return Verdict::Invalid(Refused::new(RefusedBy::TestLoad, Some(digest), &spec, all));
                }
                let starts = startability::findings(&spec.profile, &start);
                let proofs = starts
                    .into_iter()
                    .chain(ignored(&unknown_names))
                    .chain(unproven(&spec.profile, &filters))
                    .chain(startability::nearly_too_large(&spec.profile, &filters))
                    .chain(native.map_or_else(Vec::new, |native| on_machine(native, &spec)));
                let judged = |finding| self.accept(spec.judge(finding));
                findings.extend(proofs.map(|finding| judged(finding).under(&root)));
                let findings = found.map(judged).under(&root).after(findings);
                if findings.iter().any(Finding::is_fatal) {
                    return Verdict::Invalid(Refused::new(RefusedBy::Rule, Some(digest), &spec, findings));
                }
                Verdict::Valid(Proven {
                    spec,
                    canonical,
                    filters,
                    is_loaded,
                    findings,
                })
            }
            testload::Verdict::Refused(found) => {
                let by = RefusedBy::of(&found);
                let found = found.map(|finding| at_the_costliest(&spec.profile, finding));
                let all = found.under(&root).and(findings);
                Verdict::Invalid(Refused::new(by, Some(digest), &spec, all))
            }
            testload::Verdict::Unknown(reason) => Verdict::Unknown(reason),
        }
    }

    /// Registers what is counted of test-loads.
    pub fn register(&self, registry: &mut Registry) {
        self.client.register(registry);
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

/// Makes a proof in a task of its own: a bug that one profile wakes ends that proof and nothing else.
pub async fn apart(proof: impl Future<Output = Verdict> + Send + 'static) -> Verdict {
    let proof = AbortOnDropHandle::new(tokio::spawn(proof));
    proof
        .await
        .unwrap_or_else(|error| Verdict::Unknown(format!("the proof itself failed, which is a bug: {error}")))
}

impl Verdict {
    /// The same, but that what surrounds the profile makes it invalid as well. What is unknown stays so.
    #[must_use]
    pub fn refused_for(self, finding: Finding) -> Self {
        let with = |findings: Findings| findings.after(vec![finding]);
        match self {
            Self::Valid(proven) => Self::Invalid(Refused {
                by: RefusedBy::Installation,
                digest: Some(proven.canonical.digest),
                node_selector: Some(proven.spec.node_selector),
                findings: with(proven.findings),
            }),
            Self::Invalid(refused) => Self::Invalid(Refused {
                findings: with(refused.findings),
                ..refused
            }),
            Self::Unknown(reason) => Self::Unknown(reason),
        }
    }
}

impl Refused {
    /// Of a profile that could be read.
    fn new(by: RefusedBy, digest: Option<Digest>, spec: &ProfileSpec, findings: Findings) -> Self {
        Self {
            by,
            digest,
            node_selector: Some(spec.node_selector.clone()),
            findings,
        }
    }

    /// Whether the proofs that need a child (compile, load, meaning) were left out, because what comes before them
    /// did not pass.
    #[must_use]
    pub fn is_half_proven(&self) -> bool {
        let is_first = |finding: &Finding| {
            finding.is_fatal() && !finding.code.is_about_meaning() && finding.code != Code::DuplicateName
        };
        self.by != RefusedBy::TestLoad && self.findings.iter().any(is_first)
    }

    /// The finding to name first: the first that is Invalid.
    #[must_use]
    pub fn cause(&self) -> Option<&Finding> {
        Finding::cause(&self.findings).map(|(cause, _)| cause)
    }
}

impl RefusedBy {
    /// By what a child found.
    fn of(findings: &[Finding]) -> Self {
        match Finding::cause(findings) {
            Some((cause, _)) if cause.code.is_about_meaning() => Self::Rule,
            _ => Self::TestLoad,
        }
    }
}

/// Names that every libseccomp in use is expected to know, and the one at hand does not. The rules tell of newer
/// names and of those that no system call has.
fn ignored(unknown_names: &[String]) -> Option<Finding> {
    const OLD: &[Affected] = &[Affected::before(
        Software::Libseccomp,
        syscalls::COMMON_LIBSECCOMP,
    )];
    let is_common = |name: &&String| {
        syscalls::lookup(name).is_some_and(|call| call.is_known_to(syscalls::COMMON_LIBSECCOMP))
    };
    let names: Vec<_> = unknown_names.iter().filter(is_common).cloned().collect();
    (!names.is_empty()).then(|| {
        let message = format!(
            "libseccomp {}, with which this was proven, is too old to know {}: runtimes built with it ignore such a \
             name, and the call gets the default action",
            libseccomp_version(),
            names.join(", "),
        );
        Finding::new(Code::NewerSyscall, FieldPath::root().key("syscalls"), message).affecting(OLD)
    })
}

/// Whether this machine's kernel can be asked about the filter. A child that met a hostile profile may deny it.
fn is_loadable(profile: &Profile) -> bool {
    node_architecture(profile).is_none_or(|node| ByteOrder::of(node) == ByteOrder::HERE)
}

/// Who compiles the profile in a child, and loses the child, does not learn what it was about.
fn at_the_costliest(profile: &Profile, finding: Finding) -> Finding {
    match costliest(profile) {
        Some(Costliest {
            call,
            conditions,
            entries,
            entry,
        }) if finding.code == Code::CompileExhausted => Finding {
            field: finding.field.index(entry),
            message: format!(
                "{}: look first at those on {}, {conditions} in {entries} of {} entries",
                finding.message,
                quoted(call),
                profile.syscalls.len(),
            ),
            ..finding
        },
        _ => finding,
    }
}

/// The architectures that were left out, each once.
fn unproven(profile: &Profile, filters: &[(Architecture, u32)]) -> Vec<Finding> {
    let listed = &profile.architectures;
    let is_left_out = |(index, one): &(usize, &Architecture)| {
        !filters.iter().any(|(proven, _)| proven == *one) && !listed[..*index].contains(one)
    };
    let left_out = listed.iter().enumerate().filter(is_left_out);
    left_out
        .map(|(index, one)| unproven_architecture(index, *one, &libseccomp_version()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_proof_that_panics_is_no_verdict_on_the_profile_and_the_next_one_is_made() {
        let verdict = apart(async { panic!("an index out of bounds") }).await;
        let Verdict::Unknown(why) = verdict else {
            panic!("{verdict:?}");
        };
        assert!(
            why.contains("bug") && why.contains("an index out of bounds"),
            "{why}"
        );
        let verdict = apart(async { Verdict::Unknown("starved".to_owned()) }).await;
        assert!(matches!(verdict, Verdict::Unknown(why) if why == "starved"));
    }

    #[test]
    fn the_cause_is_the_first_finding_that_makes_it_invalid() {
        let finding = |code| Finding::new(code, FieldPath::root(), "why");
        let codes = [Code::NewerSyscall, Code::CompileFailed, Code::LoadRefused];
        let refused = Refused {
            by: RefusedBy::TestLoad,
            digest: None,
            node_selector: None,
            findings: codes.map(finding).to_vec().into(),
        };
        assert_eq!(refused.cause(), Some(&finding(Code::CompileFailed)));
    }

    #[test]
    fn what_libseccomp_gives_up_on_is_shown_at_the_call_with_most_conditions() {
        let exhausted = || {
            Finding::new(
                Code::CompileExhausted,
                FieldPath::root().key("syscalls"),
                "crashes",
            )
        };
        let text = br#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 7, "op": "SCMP_CMP_LT"}]}]}"#;
        let mut profile = Profile::from_canonical(text).unwrap();
        let finding = at_the_costliest(&profile, exhausted());
        assert_eq!(finding.field.as_str(), "syscalls[1]");
        assert_eq!(
            finding.message,
            "crashes: look first at those on \"ioctl\", 1 in 1 of 2 entries"
        );
        let other = Finding::new(Code::LoadRefused, FieldPath::root(), "why");
        assert_eq!(at_the_costliest(&profile, other.clone()), other);
        profile.syscalls.truncate(1);
        assert_eq!(at_the_costliest(&profile, exhausted()), exhausted());
    }

    #[test]
    fn what_an_old_libseccomp_does_not_know_is_told_unless_the_rules_tell_it() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(ignored(&[]), None);
        assert_eq!(ignored(&names(&["mseal", "opne"])), None);
        let finding = ignored(&names(&["mseal", "close_range", "epoll_pwait2"])).unwrap();
        assert_eq!(finding.code, Code::NewerSyscall);
        let affects: Vec<_> = finding.affects.iter().map(ToString::to_string).collect();
        assert_eq!(affects, ["libseccomp before 2.5.2"]);
        assert!(
            finding
                .message
                .contains("too old to know close_range, epoll_pwait2:"),
            "{}",
            finding.message
        );
    }
    #[test]
    fn what_was_left_out_of_the_proof_is_told_once_and_for_whom_it_matters() {
        use Architecture::{Loongarch64, X86_64};
        let text = br#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
        let mut profile = Profile::from_canonical(text).unwrap();
        profile.architectures = vec![X86_64, Loongarch64, Loongarch64];
        assert_eq!(unproven(&profile, &[(X86_64, 9), (Loongarch64, 9)]), []);
        let [finding] = &unproven(&profile, &[(X86_64, 9)])[..] else {
            panic!("not once")
        };
        assert_eq!(
            (finding.code, finding.field.as_str()),
            (Code::NewerArchitecture, "architectures[1]")
        );
        assert!(finding.message.contains("was not proven"), "{}", finding.message);
        let affects: Vec<_> = finding.affects.iter().map(ToString::to_string).collect();
        assert_eq!(affects, ["libseccomp before 2.6"]);
        // Without a list there is the native one alone.
        profile.architectures.clear();
        assert_eq!(unproven(&profile, &[(X86_64, 9)]), []);
    }
}
