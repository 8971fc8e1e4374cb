//! What profiles say in the model, and what becomes of it: made-up bytes, each with a verdict that is known beforehand.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::profile::{Action, Canonical, Code, Digest, FieldPath, Finding, Findings, Profile, ProfileSpec};
use crate::proof::{Proven, Read, Refused, RefusedBy, Verdict};

/// What a spec says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Content {
    /// Passes everywhere; there are several.
    Good(u8),
    /// Passes where the kernel is new.
    ForNewKernels,
    /// Passes where the rules are old.
    ForOldRules,
    /// No kernel takes it.
    NotLoadable,
    /// Is no profile.
    Unreadable,
}

/// What decides about contents on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) new_kernel: bool,
    pub(crate) new_rules: bool,
}

/// The selector of a spec asks for a zone, or for nothing.
pub(crate) fn spec(content: Content, zone: Option<u8>) -> Value {
    let tag = match content {
        Content::Good(number) => u64::from(number),
        Content::ForNewKernels => 100,
        Content::ForOldRules => 101,
        Content::NotLoadable => 102,
        Content::Unreadable => 103,
    };
    json!({ "content": tag, "zone": zone })
}

pub(crate) fn content(spec: &Value) -> Content {
    match spec["content"].as_u64() {
        Some(100) => Content::ForNewKernels,
        Some(101) => Content::ForOldRules,
        Some(102) => Content::NotLoadable,
        Some(number @ 0..100) => Content::Good(u8::try_from(number).unwrap()),
        _ => Content::Unreadable,
    }
}

/// The labels of a node in a zone, and the selector of a profile for it.
pub(crate) fn labels(zone: Option<u8>) -> BTreeMap<String, String> {
    zone.map(|zone| ("zone".to_owned(), zone.to_string()))
        .into_iter()
        .collect()
}

/// The selector of a spec; `None` where it cannot be read.
pub(crate) fn selector(spec: &Value) -> Option<BTreeMap<String, String>> {
    let zone = spec["zone"].as_u64().map(|zone| u8::try_from(zone).unwrap());
    (content(spec) != Content::Unreadable).then(|| labels(zone))
}

impl Content {
    /// The file of a profile that says this; `None` where it is none.
    pub(crate) fn file(self) -> Option<Canonical> {
        if self == Self::Unreadable {
            return None;
        }
        let bytes = format!("{self:?}").into_bytes();
        Some(Canonical {
            digest: Digest::of(&bytes),
            bytes: bytes.into(),
        })
    }

    pub(crate) fn digest(self) -> Option<Digest> {
        self.file().map(|file| file.digest)
    }

    /// What a machine says about it: why not, if it does not pass.
    pub(crate) fn refusal(self, machine: Machine) -> Option<(RefusedBy, Code)> {
        match self {
            Self::Good(_) => None,
            Self::ForNewKernels if machine.new_kernel => None,
            Self::ForOldRules if !machine.new_rules => None,
            Self::ForNewKernels | Self::NotLoadable => Some((RefusedBy::TestLoad, Code::LoadRefused)),
            Self::ForOldRules => Some((RefusedBy::Rule, Code::BadValue)),
            Self::Unreadable => Some((RefusedBy::Rule, Code::Syntax)),
        }
    }
}

/// As [`Prover::read`](crate::proof::Prover::read) does on this machine.
pub(crate) fn read(spec: &Value, machine: Machine) -> Result<Read, Refused> {
    let content = content(spec);
    match (content.refusal(machine), content.file()) {
        (None | Some((RefusedBy::TestLoad, _)), Some(file)) => {
            let profile = Profile {
                default_action: Action::Allow,
                default_errno_ret: None,
                architectures: Vec::new(),
                flags: Vec::new(),
                listener_path: None,
                listener_metadata: None,
                syscalls: Vec::new(),
            };
            let spec = ProfileSpec {
                profile,
                node_selector: selector(spec).unwrap_or_default(),
                accept_findings: Vec::new(),
                has_empty_flags: false,
            };
            Ok(Read::without_findings(spec, file))
        }
        (refusal, file) => {
            let (by, code) = refusal.unwrap_or((RefusedBy::Rule, Code::Syntax));
            Err(Refused {
                by,
                digest: file.map(|file| file.digest),
                node_selector: selector(spec),
                findings: refused(code),
            })
        }
    }
}

/// As [`Prover::prove`](crate::proof::Prover::prove) does on this machine, with a kernel that answers.
pub(crate) fn prove(read: Read, content: Content, machine: Machine) -> Verdict {
    match content.refusal(machine) {
        None => Verdict::Valid(Proven {
            spec: read.spec,
            canonical: read.canonical,
            filters: Vec::new(),
            is_loaded: true,
            findings: Findings::default(),
        }),
        Some((by, code)) => Verdict::Invalid(Refused {
            by,
            digest: Some(read.canonical.digest),
            node_selector: Some(read.spec.node_selector),
            findings: refused(code),
        }),
    }
}

fn refused(code: Code) -> Findings {
    Finding::new(code, FieldPath::root(), "no").into()
}

/// What a file says.
pub(crate) fn of_file(bytes: &[u8]) -> Option<Content> {
    let others = [Content::ForNewKernels, Content::ForOldRules, Content::NotLoadable];
    let all = (0..100).map(Content::Good).chain(others);
    all.into_iter()
        .find(|content| content.file().is_some_and(|file| *file.bytes == *bytes))
}
