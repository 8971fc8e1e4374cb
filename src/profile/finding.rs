//! What is wrong with a profile, where, and what to do about it.

mod affected;

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use super::similar::{did_you_mean, similar};
pub use affected::{Affected, InvalidSoftware, InvalidVersion, Software, Version};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The profile is never written to disk.
    Invalid,
    /// Named runtimes or versions do something else.
    NotPortable,
    /// Allowed, and probably not meant.
    Lint,
    /// Whatever its rule says of it, somebody has taken responsibility: it refuses nothing and fails nothing. A class of
    /// findings, never of a [`Code`].
    Accepted,
}

impl Class {
    /// The name in status, JSON output and docs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotPortable => "not-portable",
            Self::Lint => "lint",
            Self::Accepted => "accepted",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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

/// A place in a text file. Both count from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule found it.
    pub code: Code,
    /// Where in the object.
    pub field: FieldPath,
    /// Where in the file; `None` for what came from the API server.
    pub location: Option<Location>,
    /// The value and the reason, for a person; and the cure, unless [`Finding::help`] says it.
    pub message: String,
    /// A call that shows it, where there is one: `socket(0x26, 0x0)`.
    pub witness: Option<String>,
    /// For whom it holds, where that is not everyone: what [`Class::NotPortable`] names.
    pub affects: &'static [Affected],
    /// Who has taken responsibility for it, if anybody has.
    pub accepted: Option<AcceptedBy>,
}

/// Who takes responsibility for a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AcceptedBy {
    /// The author of the profile, in its `acceptFindings`.
    Profile,
    /// Who had it proven.
    Caller,
}

impl Finding {
    /// A finding whose place in a file is not known (yet).
    #[must_use]
    pub fn new(code: Code, field: FieldPath, message: impl Into<String>) -> Self {
        Self {
            code,
            field,
            location: None,
            message: message.into(),
            witness: None,
            affects: &[],
            accepted: None,
        }
    }

    /// The same finding, with a call that shows it.
    #[must_use]
    pub fn shown_by(self, witness: impl Into<String>) -> Self {
        Self {
            witness: Some(witness.into()),
            ..self
        }
    }

    /// The same finding, for these alone.
    #[must_use]
    pub fn affecting(self, affects: &'static [Affected]) -> Self {
        Self { affects, ..self }
    }

    /// Whether it concerns who runs these: it makes the profile Invalid, holds for everyone, or for one of them.
    #[must_use]
    pub fn concerns(&self, present: &[Affected]) -> bool {
        let is_for_all = self.affects.is_empty() || self.is_fatal();
        is_for_all || self.affects.iter().any(|affected| affected.concerns(present))
    }

    /// The same finding, as one that somebody has taken responsibility for.
    #[must_use]
    pub fn accept(self, by: AcceptedBy) -> Self {
        Self {
            accepted: Some(by),
            ..self
        }
    }

    /// The finding to name first, the first that makes a profile Invalid, and how many more do.
    #[must_use]
    pub fn cause(findings: &[Self]) -> Option<(&Self, usize)> {
        let mut fatal = findings.iter().filter(|finding| finding.is_fatal());
        let first = fatal.next()?;
        Some((first, fatal.count()))
    }

    /// Whether it alone makes a profile Invalid.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.class() == Class::Invalid
    }

    /// How much it matters: as much as its rule says, until it is accepted.
    #[must_use]
    pub const fn class(&self) -> Class {
        if self.accepted.is_some() {
            Class::Accepted
        } else {
            self.code.class()
        }
    }

    /// The same finding, seen from a document that holds its object at `path`.
    #[must_use]
    pub fn under(self, path: &FieldPath) -> Self {
        Self {
            field: path.join(&self.field),
            ..self
        }
    }
}

/// All that is wrong with a document: the first findings in its order, and how many more there are. A hostile
/// document has a mistake in each byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    listed: Vec<Finding>,
    unlisted: usize,
}

impl Findings {
    /// How many of what a reader finds are listed.
    pub const MAX: usize = 100;

    /// These, and so many that are not listed.
    #[must_use]
    pub const fn new(listed: Vec<Finding>, unlisted: usize) -> Self {
        Self { listed, unlisted }
    }

    /// The same findings, seen from a document that holds their object at `path`.
    #[must_use]
    pub fn under(self, path: &FieldPath) -> Self {
        Self {
            listed: self
                .listed
                .into_iter()
                .map(|finding| finding.under(path))
                .collect(),
            ..self
        }
    }

    /// How many there are beside the listed ones.
    #[must_use]
    pub const fn unlisted(&self) -> usize {
        self.unlisted
    }

    /// How many there are in all. What a child says it found may be any number.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.listed.len().saturating_add(self.unlisted)
    }

    /// Adds a finding, which is made only if it is listed.
    pub(super) fn push(&mut self, finding: impl FnOnce() -> Finding) {
        if self.listed.len() < Self::MAX {
            self.listed.push(finding());
        } else {
            self.unlisted += 1;
        }
    }

    /// Lists the first `most` alone.
    pub(super) fn shorten(&mut self, most: usize) {
        self.unlisted = self.total() - self.listed.len().min(most);
        self.listed.truncate(most);
    }

    /// Adds a finding before the one that is listed there.
    pub(super) fn insert(&mut self, index: usize, finding: Finding) {
        self.listed.insert(index.min(self.listed.len()), finding);
        if self.listed.len() > Self::MAX {
            self.listed.truncate(Self::MAX);
            self.unlisted += 1;
        }
    }
}

impl Deref for Findings {
    type Target = [Finding];

    /// Those that are listed.
    fn deref(&self) -> &[Finding] {
        &self.listed
    }
}

impl From<Vec<Finding>> for Findings {
    fn from(listed: Vec<Finding>) -> Self {
        Self { listed, unlisted: 0 }
    }
}

impl From<Finding> for Findings {
    fn from(finding: Finding) -> Self {
        vec![finding].into()
    }
}

impl IntoIterator for Findings {
    type Item = Finding;
    type IntoIter = std::vec::IntoIter<Finding>;

    /// Those that are listed.
    fn into_iter(self) -> Self::IntoIter {
        self.listed.into_iter()
    }
}

/// The longest part of a foreign text, in characters, that a message or a path repeats.
const QUOTED: usize = 64;

/// A foreign text as a message may repeat it: in quotes, on one line, cut when it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((cut, _)) => format!("\"{}…\"", text[..cut].escape_debug()),
        None => format!("\"{}\"", text.escape_debug()),
    }
}

fn is_word(key: &str) -> bool {
    (1..=QUOTED).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Declares the codes: what each means, its name, its class, and whether an author may take responsibility for it.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $class:ident, $accept:ident;)+) => {
        /// The stable name of a rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in status, JSON output and docs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// How much a finding of this rule matters that nobody accepted.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class),+ }
            }

            /// Whether anybody may take responsibility for it, such as the author (`spec.acceptFindings`): for what the
            /// rules say of a profile that can be read, compiled and loaded all the same.
            #[must_use]
            pub const fn is_acceptable(self) -> bool {
                match self { $(Self::$variant => matches!(Accept::$accept, Accept::Author)),+ }
            }

            /// What it means, in one or two sentences.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

/// Who may accept a finding.
enum Accept {
    Author,
    Nobody,
}

codes! {
    /// The text is no JSON or YAML.
    Syntax = "syntax", Invalid, Nobody;
    /// A key that the object does not have; it would be lost, and the profile mean something else.
    UnknownKey = "unknown-key", Invalid, Nobody;
    /// A key of Docker's profile format, which runtimes under Kubernetes ignore.
    DockerFormat = "docker-format", Invalid, Nobody;
    /// A key stands twice in one object.
    DuplicateKey = "duplicate-key", Invalid, Nobody;
    /// A key that must be there is not.
    MissingKey = "missing-key", Invalid, Nobody;
    /// A value of another type than the field's.
    WrongType = "wrong-type", Invalid, Nobody;
    /// A value that the field does not take.
    BadValue = "bad-value", Invalid, Nobody;
    /// More than a bound allows.
    TooLarge = "too-large", Invalid, Nobody;
    /// The name of the object is no safe file name.
    BadName = "bad-name", Invalid, Nobody;
    /// Another document beside it has the same namespace and name.
    DuplicateName = "duplicate-name", Invalid, Nobody;
    /// `acceptFindings` names a code that does not exist, or one that nobody can accept.
    BadAcceptance = "bad-acceptance", Invalid, Nobody;
    /// A listener path outside the prefixes that the installation allows.
    ListenerNotAllowed = "listener-not-allowed", Invalid, Nobody;

    /// A name that no system call has: a typo. Runtimes ignore it without a word, and the call that was meant gets
    /// the default action.
    UnknownSyscall = "unknown-syscall", Invalid, Author;
    /// Every system call is denied.
    NothingAllowed = "nothing-allowed", Invalid, Nobody;
    /// An errno beside an action that carries none.
    ErrnoMisplaced = "errno-misplaced", Invalid, Author;
    /// Architectures of both byte orders, which cannot share a filter.
    MixedEndianness = "mixed-endianness", Invalid, Nobody;
    /// Two conditions on one argument in one entry, which runtimes apply as alternatives.
    RepeatedArgument = "repeated-argument", Invalid, Nobody;
    /// A masked comparison with bits outside its mask: it can never hold, and libseccomp compares something else.
    BitsOutsideMask = "bits-outside-mask", Invalid, Nobody;
    /// A value of more than 32 bits, and an architecture on which libseccomp compares 32.
    ValueCut = "value-cut", Invalid, Nobody;
    /// `SCMP_ACT_NOTIFY` as the default action.
    NotifyByDefault = "notify-by-default", Invalid, Nobody;
    /// `SCMP_ACT_NOTIFY` on `write`, which runtimes need to hand the listener over.
    NotifyOnWrite = "notify-on-write", Invalid, Author;
    /// An entry with `SCMP_ACT_NOTIFY`, and no `listenerPath`.
    NotifyWithoutListener = "notify-without-listener", Invalid, Author;
    /// A `listenerPath`, and no entry with `SCMP_ACT_NOTIFY`.
    ListenerWithoutNotify = "listener-without-notify", Invalid, Author;
    /// `listenerMetadata`, and no `listenerPath`.
    MetadataWithoutListener = "metadata-without-listener", Invalid, Author;
    /// `SECCOMP_FILTER_FLAG_TSYNC` beside `SCMP_ACT_NOTIFY`.
    TsyncWithNotify = "tsync-with-notify", Invalid, Author;
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` without `SCMP_ACT_NOTIFY`.
    WaitKillableWithoutNotify = "wait-killable-without-notify", Invalid, Nobody;

    /// A name that only newer versions of libseccomp know; runtimes built with an older one ignore it.
    NewerSyscall = "newer-syscall", NotPortable, Author;
    /// An architecture that some runtimes or versions of libseccomp do not know.
    NewerArchitecture = "newer-architecture", NotPortable, Author;
    /// A flag that some runtimes, versions of libseccomp or kernels do not know.
    NewerFlag = "newer-flag", NotPortable, Author;
    /// An action that some versions of libseccomp or kernels do not know.
    NewerAction = "newer-action", NotPortable, Author;
    /// `SCMP_CMP_MASKED_EQ`, whose two values youki swaps.
    MaskedEqYouki = "masked-eq-youki", NotPortable, Author;
    /// Several conditions in one entry, which older versions of youki apply as alternatives.
    ConditionsOldYouki = "conditions-old-youki", NotPortable, Author;
    /// `SCMP_ACT_NOTIFY` for newer system calls alone, so that with an older libseccomp nothing is left to notify.
    NotifyNewerSyscall = "notify-newer-syscall", NotPortable, Author;

    /// The profile changes nothing: all that it says is the default, and that is to let calls through.
    NoEffect = "no-effect", Lint, Author;
    /// A name, an architecture or a flag is listed twice.
    RepeatedValue = "repeated-value", Lint, Author;
    /// The errno 0: calls that are denied look as if they had succeeded.
    ErrnoZero = "errno-zero", Lint, Author;
    /// An errno that has no name, which programs do not expect.
    ErrnoUnnamed = "errno-unnamed", Lint, Author;
    /// An `errnoRet`: crun can go on with the filter of an earlier version of the profile when it alone is changed.
    CrunErrnoCache = "crun-errno-cache", Lint, Author;
    /// `SCMP_ACT_TRACE`: containers have no tracer, and without one calls fail with ENOSYS.
    TraceWithoutTracer = "trace-without-tracer", Lint, Author;
    /// An entry that kills a thread and leaves the rest of the process running.
    KillThread = "kill-thread", Lint, Author;
    /// A default that kills a thread: a container that needs one call more can hang while it starts.
    KillThreadByDefault = "kill-thread-by-default", Lint, Author;
    /// `clone3` gets the default action: programs that use glibc cannot start threads.
    NoClone3Answer = "no-clone3-answer", Lint, Author;
    /// Calls are allowed by default, and yet 32-bit programs are killed, because no architecture is listed.
    NativeOnly = "native-only", Lint, Author;
    /// The architecture of the nodes is not listed; it is in the filter all the same.
    NativeNotListed = "native-not-listed", Lint, Author;
    /// Architectures of several processor families: on each node all but one are dead weight.
    ForeignArchitecture = "foreign-architecture", Lint, Author;
    /// `SECCOMP_FILTER_FLAG_TSYNC`, which does nothing in a container.
    TsyncUseless = "tsync-useless", Lint, Author;
    /// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`, which takes a protection against Spectre away.
    SpecAllow = "spec-allow", Lint, Author;
    /// A listener: where no agent listens, no container starts.
    ListenerNeeded = "listener-needed", Lint, Author;
    /// A `valueTwo` that the comparison does not read.
    UnusedValueTwo = "unused-value-two", Lint, Author;
    /// A condition on a pointer: a filter sees the address, never what lies there.
    PointerArgument = "pointer-argument", Lint, Author;
    /// A comparison of 64 bits of an argument of which the kernel reads 32: a caller gets around it with the others.
    UpperHalf = "upper-half", Lint, Author;
    /// Conditions on a call that 32-bit programs can also make through `socketcall` or `ipc`, where they cannot be
    /// checked.
    MultiplexedCall = "multiplexed-call", Lint, Author;
    /// A system call that container engines allow to privileged containers alone, or to none.
    RiskySyscall = "risky-syscall", Lint, Author;
    /// A default that allows, and with it system calls that container engines allow to privileged containers alone,
    /// or to none.
    RiskyByDefault = "risky-by-default", Lint, Author;

    /// No container can start under it: the filter denies what every runtime does between the loading of the filter
    /// and the start of the program.
    CannotStart = "cannot-start", Invalid, Author;
    /// Some runtimes cannot start a container under it, or fail now and then.
    StartFails = "start-fails", NotPortable, Author;
    /// Containers can start under it only with `no_new_privs`, which is `allowPrivilegeEscalation: false`.
    NeedsNoNewPrivs = "needs-no-new-privs", NotPortable, Author;
    /// `SCMP_ACT_NOTIFY` on calls that runtimes make before the program starts.
    NotifyAtStart = "notify-at-start", Lint, Author;

    /// Two entries answer one call differently.
    Contradiction = "contradiction", Invalid, Nobody;
    /// The compiled filter does not answer a call as the profile says.
    Miscompiled = "miscompiled", Invalid, Nobody;
    /// Conditions that take more work to prove than is done.
    TooComplex = "too-complex", Invalid, Nobody;
    /// No call meets the conditions of an entry.
    NeverMatches = "never-matches", Lint, Author;
    /// Every call meets a condition.
    AlwaysHolds = "always-holds", Lint, Author;
    /// Other entries say the same.
    RedundantEntry = "redundant-entry", Lint, Author;
    /// An entry that answers what the default does; runtimes leave it out.
    DefaultEntry = "default-entry", Lint, Author;

    /// libseccomp does not compile it.
    CompileFailed = "compile-failed", Invalid, Nobody;
    /// libseccomp crashed over it, or exceeded its limits.
    CompileExhausted = "compile-exhausted", Invalid, Nobody;
    /// The filter has more instructions than the kernel takes.
    FilterTooLarge = "filter-too-large", Invalid, Nobody;
    /// The kernel does not take the filter.
    LoadRefused = "load-refused", Invalid, Nobody;
}

impl Code {
    /// Whether it tells of what a profile means, as opposed to what the libseccomp and the kernel at hand take.
    #[must_use]
    pub const fn is_about_meaning(self) -> bool {
        matches!(self, Self::Contradiction | Self::Miscompiled | Self::TooComplex)
    }

    /// The name as Kubernetes writes reasons: `load-refused` is `LoadRefused`.
    #[must_use]
    pub fn reason(self) -> String {
        let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
        self.as_str().split('-').map(capital).collect()
    }
}

/// A text that is no code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCode {
    text: String,
    near: Vec<&'static str>,
}

impl UnknownCode {
    /// Those that were probably meant.
    #[must_use]
    pub fn near(&self) -> &[&'static str] {
        &self.near
    }
}

impl std::error::Error for UnknownCode {}

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no code of a finding", quoted(&self.text))?;
        match did_you_mean(&self.near) {
            Some(question) => write!(f, "; {question}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    /// Exactly as [`Code::as_str`] writes it. What differs in case and hyphens alone is the nearest: `UnknownSyscall`
    /// stands as a reason in status.
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        if let Some(code) = Self::ALL.iter().find(|code| code.as_str() == text) {
            return Ok(*code);
        }
        let text: String = text.chars().take(QUOTED + 1).collect();
        let letters = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
        let names = || Self::ALL.iter().map(|code| code.as_str());
        let same = names().find(|name| letters(name) == letters(&text));
        let near = same.map_or_else(|| similar(&text, names()), |name| vec![name]);
        Err(UnknownCode { text, near })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_in_kebab_case_and_a_reason_in_camel_case() {
        assert_eq!(Code::LoadRefused.reason(), "LoadRefused");
        assert_eq!(Code::Syntax.reason(), "Syntax");
        for code in Code::ALL {
            assert_eq!(code.reason(), format!("{code:?}"));
        }
    }

    #[test]
    fn what_is_accepted_is_of_a_class_of_its_own_and_no_longer_fatal() {
        let finding = |code| Finding::new(code, FieldPath::root(), "why");
        assert!(finding(Code::UnknownSyscall).is_fatal());
        assert!(!finding(Code::NewerSyscall).is_fatal());
        for code in [Code::UnknownSyscall, Code::NewerSyscall, Code::NoEffect] {
            assert_eq!(finding(code).class(), code.class());
            let accepted = finding(code).accept(AcceptedBy::Profile);
            assert_eq!(accepted.class(), Class::Accepted);
            assert!(!accepted.is_fatal());
        }
    }

    #[test]
    fn only_what_holds_for_some_alone_does_not_concern_others() {
        const YOUKI: &[Affected] = &[Affected::always(Software::Youki)];
        let finding = |code| Finding::new(code, FieldPath::root(), "why");
        let runc = ["runc".parse().unwrap()];
        let youki = ["runc".parse().unwrap(), "youki".parse().unwrap()];
        for code in [Code::MaskedEqYouki, Code::CrunErrnoCache] {
            assert!(finding(code).concerns(&runc));
            assert!(!finding(code).affecting(YOUKI).concerns(&runc));
            assert!(
                !finding(code)
                    .affecting(YOUKI)
                    .accept(AcceptedBy::Profile)
                    .concerns(&runc)
            );
            assert!(finding(code).affecting(YOUKI).concerns(&youki));
            assert!(finding(code).affecting(YOUKI).concerns(&[]));
        }
        // Without it nobody would know why.
        assert!(finding(Code::UnknownSyscall).affecting(YOUKI).concerns(&runc));
    }

    #[test]
    fn what_matters_most_comes_first() {
        let classes = [Class::Invalid, Class::NotPortable, Class::Lint, Class::Accepted];
        assert!(classes.is_sorted());
        assert!(Code::ALL.iter().all(|code| code.class() != Class::Accepted));
    }

    #[test]
    fn a_meaning_is_the_sentence_of_its_code() {
        assert_eq!(Code::Syntax.meaning(), "The text is no JSON or YAML.");
        assert!(Code::ALL.iter().all(|code| code.meaning().ends_with('.')));
    }

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
    fn a_long_key_is_cut_between_characters() {
        let path = FieldPath::root().key(&"é".repeat(10_000));
        assert_eq!(path.as_str(), format!("[\"{}…\"]", "é".repeat(QUOTED)));
    }

    #[test]
    fn findings_beyond_the_limit_are_counted_and_not_made() {
        let bad = || Finding::new(Code::BadValue, FieldPath::root(), "bad");
        let (mut findings, mut made) = (Findings::default(), 0);
        for _ in 0..Findings::MAX + 5 {
            findings.push(|| {
                made += 1;
                bad()
            });
        }
        assert_eq!(made, Findings::MAX);
        assert_eq!(
            (findings.len(), findings.unlisted(), findings.total()),
            (Findings::MAX, 5, Findings::MAX + 5)
        );
        let first = Finding::new(Code::DockerFormat, FieldPath::root(), "first");
        findings.insert(0, first.clone());
        assert_eq!((findings.len(), findings.unlisted()), (Findings::MAX, 6));
        assert_eq!(findings[0], first);
        findings.insert(usize::MAX, bad());
        assert_eq!((findings.len(), findings.unlisted()), (Findings::MAX, 7));
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

    #[test]
    fn a_code_is_read_exactly_and_the_nearest_are_told_for_a_text_that_is_none() {
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            let error = code.reason().parse::<Code>().map_err(|error| error.near);
            let is_word = code.reason().to_lowercase() == code.as_str();
            assert!(is_word || error == Err(vec![code.as_str()]), "{code}");
        }
        let told = |text: &str| text.parse::<Code>().unwrap_err().to_string();
        assert_eq!(
            told("unknown-sycall"),
            "\"unknown-sycall\" is no code of a finding; did you mean unknown-syscall?"
        );
        assert_eq!(told("frobnicate"), "\"frobnicate\" is no code of a finding");
        assert_eq!(told(""), "\"\" is no code of a finding");
        assert!(told(&"\u{1b}".repeat(1_000_000)).len() < 1_000);
    }

    #[test]
    fn codes_are_unique_and_kebab_case() {
        let names: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for name in names {
            let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(name.bytes().all(word), "{name}");
        }
    }
}
