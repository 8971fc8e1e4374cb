//! The codes: one name for each thing that can be wrong.

use std::fmt;
use std::str::FromStr;

use super::super::similar::{did_you_mean, similar};
use super::{Class, QUOTED, quoted};

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
    /// Architectures of the byte order alone that this machine does not have: no container starts on nodes like it.
    OtherByteOrder = "other-byte-order", NotPortable, Author;
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
    /// An entry that denies calls of which the architectures of the profile have none: it denies nothing.
    AbsentSyscalls = "absent-syscalls", Lint, Author;
    /// A `nodeSelector` for a processor that runs no program of the architectures that are listed, or that no node has.
    NodeSelectorArchitecture = "node-selector-architecture", Lint, Author;
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
    /// `clone3` is denied, and not with ENOSYS: programs that use glibc cannot start threads.
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
    /// An empty list of `flags`: it means the same as none, and not that no flag is set.
    EmptyFlags = "empty-flags", Lint, Author;
    /// A listener: where no agent listens, no container starts.
    ListenerNeeded = "listener-needed", Lint, Author;
    /// A `valueTwo` that the comparison does not read.
    UnusedValueTwo = "unused-value-two", Lint, Author;
    /// A condition on a pointer, or on what may be one: a filter sees the address, never what lies there.
    PointerArgument = "pointer-argument", Lint, Author;
    /// A comparison of 64 bits of an argument of which the kernel reads 32: a caller gets around it with the others.
    UpperHalf = "upper-half", Lint, Author;
    /// Conditions on a call that 32-bit programs can also make through `socketcall` or `ipc`, where they cannot be
    /// checked.
    MultiplexedCall = "multiplexed-call", Lint, Author;
    /// `socketcall` or `ipc` is allowed, and through it 32-bit programs make calls that the profile denies.
    OpenMultiplexer = "open-multiplexer", Lint, Author;
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
    /// What runc adds to the filter may make it too large.
    NearlyTooLarge = "nearly-too-large", NotPortable, Author;
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
    fn a_meaning_is_the_sentence_of_its_code() {
        assert_eq!(Code::Syntax.meaning(), "The text is no JSON or YAML.");
        assert!(Code::ALL.iter().all(|code| code.meaning().ends_with('.')));
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
