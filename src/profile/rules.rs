//! What a profile that can be read says: the table of rules, one function each.
//!
//! Pure; knows the model and the table of system calls alone. Field paths are relative to the profile. A rule
//! stands beside what the reference says of it, with a profile that it finds nothing in and one that it does.
//! What is said about runtimes was seen on runc 1.1.5 to 1.5, crun 1.8.1 to 1.27.1, youki 0.7.0, with libseccomp
//! 2.5.4 and 2.6.1; "the specification" is
//! <https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config-linux.md#seccomp>.

mod actions;
mod architectures;
mod arguments;
mod conditions;
mod errnos;
mod flags;
mod listener;
mod machine;
mod multiplexers;
mod names;
mod reference;
mod risk;
mod selector;
mod shape;

use super::finding::{AcceptedBy, Affected, Class, Code, FieldPath, Finding};
use super::model::{Action, Errno, Profile, ProfileSpec, Rule as Entry};
pub use architectures::{native_of, unproven_architecture};
#[cfg(test)]
pub(crate) use arguments::multiplexer;
pub use listener::listener_allowed;
pub use machine::{on_machine, unloadable};
pub use reference::{explain, reference};

/// What runtimes take for an errno that is not written: EPERM.
const DEFAULT_ERRNO: u16 = 1;

/// One rule.
struct Rule {
    /// What its findings are called.
    code: Code,
    check: fn(&Profile, &mut Found),
    doc: Doc,
}

/// What the reference says of a code, beside its name, its class and its meaning.
struct Doc {
    /// What happens to a container under such a profile.
    why: &'static str,
    /// Who does what, and how that is known.
    evidence: &'static str,
    /// What to write.
    cure: &'static str,
    /// Of what can be told by reading alone.
    example: Option<Example>,
}

/// Two profiles in JSON.
struct Example {
    /// Valid, and the code is not found in it.
    accepted: &'static str,
    /// It is found in this one.
    refused: &'static str,
}

/// Every rule. Those that say what runs at all come first.
const RULES: &[Rule] = &[
    names::UNKNOWN,
    actions::NOTHING_ALLOWED,
    errnos::MISPLACED,
    architectures::MIXED_ENDIANNESS,
    conditions::REPEATED_ARGUMENT,
    conditions::BITS_OUTSIDE_MASK,
    conditions::VALUE_CUT,
    actions::NOTIFY_BY_DEFAULT,
    listener::NOTIFY_ON_WRITE,
    listener::NOTIFY_WITHOUT_LISTENER,
    listener::LISTENER_WITHOUT_NOTIFY,
    listener::METADATA_WITHOUT_LISTENER,
    flags::TSYNC_WITH_NOTIFY,
    flags::WAIT_KILLABLE_WITHOUT_NOTIFY,
    names::NEWER,
    architectures::NEWER,
    flags::NEWER,
    listener::NEWER_ACTION,
    conditions::MASKED_EQ_YOUKI,
    conditions::SEVERAL_ON_OLD_YOUKI,
    listener::NOTIFY_NEWER_SYSCALL,
    actions::NO_EFFECT,
    names::ABSENT,
    names::REPEATED_VALUE,
    errnos::ZERO,
    errnos::UNNAMED,
    errnos::CRUN_CACHE,
    actions::TRACE_WITHOUT_TRACER,
    actions::KILL_THREAD,
    actions::KILL_THREAD_BY_DEFAULT,
    names::NO_CLONE3_ANSWER,
    architectures::NATIVE_ONLY,
    architectures::NATIVE_NOT_LISTED,
    architectures::FOREIGN,
    flags::TSYNC_USELESS,
    flags::SPEC_ALLOW,
    listener::LISTENER_NEEDED,
    conditions::UNUSED_VALUE_TWO,
    conditions::POINTER_ARGUMENT,
    conditions::UPPER_HALF,
    multiplexers::MULTIPLEXED_CALL,
    multiplexers::OPEN_MULTIPLEXER,
    risk::RISKY_SYSCALL,
    risk::RISKY_BY_DEFAULT,
];

impl ProfileSpec {
    /// What the rules find, those first that make the profile Invalid; what the author accepted is among it. Field
    /// paths are relative to the profile. At most a thousand are listed, whatever the profile holds: of each code about
    /// twenty, and the last says how many more there are.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = shape::check(&self.profile);
        if findings.is_empty() {
            for rule in RULES {
                findings.extend(rule.findings(&self.profile));
            }
        }
        let mut findings: Vec<_> = findings
            .into_iter()
            .map(|finding| self.judge(finding))
            .chain(selector::check(self).map(|finding| self.judge(finding)))
            .chain(flags::empty(self).map(|finding| self.judge(finding)))
            .chain(acceptance(&self.accept_findings))
            .collect();
        findings.sort_by_key(Finding::class);
        findings
    }

    /// A finding of a rule or a proof, accepted if it can be and the author has done so.
    #[must_use]
    pub fn judge(&self, finding: Finding) -> Finding {
        let code = finding.code;
        if code.is_acceptable() && self.accept_findings.iter().any(|text| text == code.as_str()) {
            finding.accept(AcceptedBy::Profile)
        } else {
            finding
        }
    }
}

impl Rule {
    fn findings(&self, profile: &Profile) -> Vec<Finding> {
        let mut found = Found::new(self.code);
        (self.check)(profile, &mut found);
        found.finish()
    }
}

/// What one rule finds: [`Found::MAX`] findings, and how many more there would be.
struct Found {
    code: Code,
    findings: Vec<Finding>,
}

impl Found {
    const MAX: usize = 20;

    const fn new(code: Code) -> Self {
        Self {
            code,
            findings: Vec::new(),
        }
    }

    /// The place and the message are asked for only if there is room for them.
    fn add(&mut self, finding: impl FnOnce() -> (FieldPath, String)) {
        self.add_for(&[], finding);
    }

    /// A finding that holds for some programs alone. For each of them one is listed, to stand for those that are not.
    fn add_for(&mut self, affects: &'static [Affected], finding: impl FnOnce() -> (FieldPath, String)) {
        if self.findings.len() >= Self::MAX {
            let mut listed = self.findings.iter_mut().rev();
            if let Some(last) = listed.find(|listed| *listed.affects == *affects) {
                last.more = last.more.saturating_add(1);
                return;
            }
        }
        let (field, message) = finding();
        self.findings
            .push(Finding::new(self.code, field, message).affecting(affects));
    }

    fn finish(self) -> Vec<Finding> {
        self.findings
    }
}

/// Codes that are none, or that nobody can accept.
fn acceptance(codes: &[String]) -> Vec<Finding> {
    let mut found = Found::new(Code::BadAcceptance);
    for (index, text) in codes.iter().enumerate() {
        let message = match text.parse::<Code>() {
            Ok(code) if code.is_acceptable() => continue,
            Ok(code) => format!(
                "\"{code}\" is what nobody can accept: such a profile cannot be read, compiled, loaded or allowed here; \
                 remove it and change the profile"
            ),
            Err(error) if error.near().is_empty() => {
                format!("{error}: remove it, or write one as the finding shows it")
            }
            Err(error) => error.to_string(),
        };
        found.add(|| (field("acceptFindings").index(index), message));
    }
    found.finish()
}

/// Whether a profile in which nothing is to be mended can have it, because it is about the nodes or about what comes
/// later. Its message says when to accept it; a cure may lead to such a finding, and to no other.
const fn is_informational(code: Code) -> bool {
    match code.class() {
        Class::Invalid | Class::Accepted => false,
        Class::NotPortable => true,
        Class::Lint => matches!(
            code,
            Code::CrunErrnoCache | Code::ForeignArchitecture | Code::ListenerNeeded
        ),
    }
}

fn field(key: &str) -> FieldPath {
    FieldPath::root().key(key)
}

/// Each value of a list once, at its first place. That it stands there twice is another rule's.
fn distinct<T: PartialEq>(list: &[T]) -> impl Iterator<Item = (usize, &T)> {
    let values = list.iter().enumerate();
    values.filter(|(index, value)| !list[..*index].contains(value))
}

/// Every entry with its path.
fn entries(profile: &Profile) -> impl Iterator<Item = (FieldPath, &Entry)> {
    profile
        .syscalls
        .iter()
        .enumerate()
        .map(|(index, entry)| (field("syscalls").index(index), entry))
}

/// Every entry that runtimes do not leave out: those whose answer is not the default one.
fn effective(profile: &Profile) -> impl Iterator<Item = (FieldPath, &Entry)> {
    let answer = |action: Action, errno: Option<Errno>| {
        let errno = action
            .takes_errno()
            .then(|| errno.map_or(DEFAULT_ERRNO, Errno::get));
        let action = match action {
            Action::Kill => Action::KillThread,
            other => other,
        };
        (action, errno)
    };
    let default = answer(profile.default_action, profile.default_errno_ret);
    entries(profile).filter(move |(_, entry)| answer(entry.action, entry.errno_ret) != default)
}

fn notifies(profile: &Profile) -> bool {
    profile
        .syscalls
        .iter()
        .any(|entry| entry.action == Action::Notify)
}

/// Whether a call that gets this action is not made. What a listener answers is not known.
const fn denies(action: Action) -> bool {
    !matches!(action, Action::Allow | Action::Log | Action::Notify)
}

/// Whether a call that gets this action is made.
const fn allows(action: Action) -> bool {
    matches!(action, Action::Allow | Action::Log)
}

/// Some names for a message: the first few, and how many more there are.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

#[cfg(test)]
mod tests;
