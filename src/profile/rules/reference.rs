//! The reference of all codes: what each means, why it matters, who does what, and what to write.

use std::fmt::Write as _;

use super::super::finding::{Class, Code, Finding};
use super::{Doc, Example, RULES, is_informational, risk};

/// Of codes that are found by no rule: while reading, by the installation, or by a proof.
const OTHERS: &[(Code, Doc)] = &[
    (
        Code::Syntax,
        Doc {
            why: "Container managers read one JSON value and nothing else: no comment, no second value, no trailing \
                  comma, no byte order mark.",
            evidence: "containerd and CRI-O use Go's encoding/json, and fail with \"decoding seccomp profile failed\".",
            cure: "Mend the text at the place that is named.",
            example: Some(Example {
                accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#,
                refused: r#"{"defaultAction": "SCMP_ACT_ALLOW",}"#,
            }),
        },
    ),
    (
        Code::UnknownKey,
        Doc {
            why: "containerd and CRI-O drop a key that they do not know, without a word: with arg in place of args an \
                  entry holds for every call. Case counts: they take Syscalls for syscalls, and runtimes do not.",
            evidence: "Go's encoding/json ignores unknown keys and compares without case; crun and youki compare \
                       exactly.",
            cure: "Write the key that the message suggests.",
            example: Some(Example {
                accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}"#,
                refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "Syscalls": []}"#,
            }),
        },
    ),
    (
        Code::DockerFormat,
        Doc {
            why: "Docker and Podman resolve these keys before a runtime sees the profile. containerd does not: it \
                  ignores includes, excludes and archMap, so that an entry for privileged containers holds for all of \
                  them. Docker's own default profile, used so, lets every container mount and make user namespaces.",
            evidence: "containerd reads the profile into the specification's type. CRI-O resolves all of them but \
                       minKernel. runc ignores an entry that has name in place of names.",
            cure: "Let `callgate resolve` write what the keys come to for your containers.",
            example: Some(Example {
                accepted: r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}]}"#,
                refused: r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [], "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}]}"#,
            }),
        },
    ),
    (
        Code::DuplicateKey,
        Doc {
            why: "Which of the two counts differs between readers.",
            evidence: "Go's encoding/json takes the last, other readers the first or none.",
            cure: "Remove one.",
            example: Some(Example {
                accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#,
                refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultAction": "SCMP_ACT_ERRNO"}"#,
            }),
        },
    ),
    (
        Code::MissingKey,
        Doc {
            why: "Without defaultAction runc starts the container with no filter at all, and says nothing. Without an \
                  index or a value a condition is about 0.",
            evidence: "runc runs {} unconfined, and so does CRI-O with any runtime; crun and youki fail.",
            cure: "Write the key.",
            example: Some(Example {
                accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#,
                refused: "{}",
            }),
        },
    ),
    (
        Code::WrongType,
        Doc {
            why: "A number in quotes, a number with a point, a list that is none: some runtimes fail, and crun \
                  reads another number than the one that is written.",
            evidence: "crun 1.27.1 takes \"errnoRet\": \"5\" and gets it wrong; runc and youki fail.",
            cure: "Write the type that the message names. In the spec of a SeccompProfile a value above \
                   9223372036854775807 goes in quotes, because the API server takes no larger number.",
            example: Some(Example {
                accepted: r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}]}"#,
                refused: r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": "38", "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}]}"#,
            }),
        },
    ),
    (
        Code::BadValue,
        Doc {
            why: "No runtime does what is written: it fails, skips the entry, or takes something else for it.",
            evidence: "An action, architecture, flag or comparison that the specification does not have (also in lower \
                       case, and SCMP_ARCH_NATIVE) fails on runc and crun. Go cuts an errno to 16 bits, and libseccomp \
                       takes none above 4094. runc fails at an empty name, cuts one at a NUL character, and skips an \
                       entry without names.",
            cure: "Write a value that the message names.",
            example: Some(Example {
                accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}"#,
                refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NATIVE"]}"#,
            }),
        },
    ),
    (
        Code::TooLarge,
        Doc {
            why: "The time that libseccomp takes grows with the square of the number of rules, and the kernel takes \
                  4,096 instructions.",
            evidence: "66,000 rules take libseccomp minutes, and crash its versions before 2.6.1. crun up to 1.29.1 \
                       drops the seventh condition of an entry.",
            cure: "Give calls that share their conditions one entry, and list only the architectures in use.",
            example: Some(Example {
                accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}"#,
                refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["a", "b", "c", "d", "e", "f", "g", "h", "i"]}"#,
            }),
        },
    ),
    (
        Code::BadName,
        Doc {
            why: "The file of a profile has its name, and a name with a slash or of more than 250 bytes is none.",
            evidence: "Linux takes file names of at most 255 bytes; .json takes five.",
            cure: "Create the profile under another name.",
            example: None,
        },
    ),
    (
        Code::DuplicateName,
        Doc {
            why: "Nobody knows which of them is meant. callgate install takes none of them; with kubectl apply the one \
                  that is read last replaces the others, without a word.",
            evidence: "Told by callgate check and install of documents in one file or one folder; other folders may be \
                       for other clusters.",
            cure: "Keep one, or give them different names.",
            example: None,
        },
    ),
    (
        Code::BadAcceptance,
        Doc {
            why: "What is accepted under a wrong name is not accepted.",
            evidence: "Codes that can be accepted say so on this page.",
            cure: "Write the code as the finding shows it, or remove it and mend what it is about.",
            example: None,
        },
    ),
    (
        Code::ListenerNotAllowed,
        Doc {
            why: "The container runtime connects to the socket as root on the node, and sends it the author's \
                  listenerMetadata. Whoever may write profiles could speak to any socket of the host.",
            evidence: "runc 1.5.2 connects as uid 0 in the host's mount namespace, also to a socket with mode 0600.",
            cure: "Allow the directory: controller, agent, install and check take --listener-prefix DIR. In a cluster, \
                   ask who runs Callgate.",
            example: None,
        },
    ),
    (
        Code::NodeSelectorArchitecture,
        Doc {
            why: "The profile is installed on nodes whose programs it was not written for, where libseccomp adds their own \
                  architecture, or on none.",
            evidence: "A kubelet labels its node with GOARCH, the name that Go has for the processor: amd64, and not \
                       x86_64. Example: `kubernetes.io/arch: arm64` beside SCMP_ARCH_X86_64.",
            cure: "Write the value of the nodes that the profile is for: 386, amd64, arm, arm64, loong64, ppc64le, riscv64 or \
                   s390x. Or list their architecture.",
            example: None,
        },
    ),
    (
        Code::EmptyFlags,
        Doc {
            why: "Who writes an empty list may want no flag to be set. Container managers under Kubernetes do not hand an \
                  empty list on, so that the runtime sees none, and sets SECCOMP_FILTER_FLAG_SPEC_ALLOW, which takes a \
                  protection against Spectre away.",
            evidence: "containerd and CRI-O write the profile with Go's omitempty. runc since 1.2 and crun set the flag \
                       where no list is, youki does not.",
            cure: "Remove the list. To have the protection, name another flag, such as SECCOMP_FILTER_FLAG_LOG.",
            example: Some(Example {
                accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}"#,
                refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": []}"#,
            }),
        },
    ),
    (
        Code::CannotStart,
        Doc {
            why: "A runtime loads the filter into its own process, and then still has to close descriptors and to \
                  call execve. The pod stays in creation or fails with an error that does not name seccomp.",
            evidence: "Measured by starting containers under filters that deny one call or two, with runc 1.1.5 to \
                       1.5.2 in eight versions, crun 1.8.1 and 1.21, and youki 0.7.0, with and without no_new_privs; \
                       docs/runtimes.md has the tables. Only a call that is denied for all that runtimes pass to it counts. Another runtime may need less: if \
                       yours does, accept the finding.",
            cure: "Allow the call. The portable start set lets containers start with allowPrivilegeEscalation: false \
                   on all of these runtimes, whatever the profile does with other calls: \
                   accept4, close, close_range, connect, epoll_ctl, epoll_pwait, execve, exit_group, fcntl, fstat, \
                   fstatfs, futex, getdents64, getpid, gettid, madvise, mmap, munmap, nanosleep, newfstatat, openat, \
                   openat2, read, recvfrom, rt_sigprocmask, rt_sigreturn, sched_yield, sendmsg, sigaltstack, socket, \
                   statx, tgkill, write.",
            example: None,
        },
    ),
    (
        Code::StartFails,
        Doc {
            why: "Pods that name the profile stay in creation on nodes with this runtime. With SCMP_ACT_KILL or \
                  SCMP_ACT_KILL_THREAD, or without exit_group, runc does not even fail: it hangs.",
            evidence: "Measured like cannot-start. The finding names the versions that were tried; it concerns those \
                       next to them, too, which are taken to need the same. What fails now and then are calls that Go's runtime makes at moments of its own. Where it is \
                       not known that each runtime passes what is denied, the finding says that it may be unable to \
                       start.",
            cure: "Allow the calls; cannot-start has the portable start set.",
            example: None,
        },
    ),
    (
        Code::NeedsNoNewPrivs,
        Doc {
            why: "Without no_new_privs only a privileged process may load a filter, so runtimes load it before they \
                  change the user and drop capabilities, and the filter must let them. Kubernetes sets no_new_privs \
                  for allowPrivilegeEscalation: false, which is not the default.",
            evidence: "Measured like cannot-start.",
            cure: "Set allowPrivilegeEscalation: false in all pods that use the profile, and accept the finding. Or \
                   allow these calls beside the portable start set: \
                   capget, capset, chdir, faccessat2, fchown, getcwd, getppid, prctl, pselect6, rt_sigaction, setgid, \
                   setgroups, setresgid, setresuid, setuid.",
            example: None,
        },
    ),
    (
        Code::NotifyAtStart,
        Doc {
            why: "The runtime itself makes these calls under the filter, and waits for the listener.",
            evidence: "With getcwd, prctl or openat on the listener and without no_new_privs, runc 1.5 waits during \
                       the start and fails if the listener closes the descriptor, crun starts, and youki fails.",
            cure: "Let the listener answer at once with SECCOMP_USER_NOTIF_FLAG_CONTINUE, or ask it of other calls.",
            example: None,
        },
    ),
    (
        Code::Contradiction,
        Doc {
            why: "Entries have no order. Where two of them answer one call differently, libseccomp keeps one answer, whichever \
                  it sorts first, or fails, and the container does not start. An entry with the default action that \
                  was to be an exception from a wider one is left out by runtimes, and the exception is lost.",
            evidence: "The proof compares the entries for every call, exactly, and names one that gets two answers. Seen with \
                       libseccomp 2.5.4 and 2.6.1: allowing socket and denying socket(AF_ALG) leaves AF_ALG allowed in \
                       either order; equal conditions with two actions fail with EEXIST.",
            cure: "Give each call one answer: remove the name from one of the entries, or write conditions that exclude each other, such as SCMP_CMP_NE beside SCMP_CMP_EQ.",
            example: None,
        },
    ),
    (
        Code::Miscompiled,
        Doc {
            why: "libseccomp makes another filter than the profile says: it allows or denies calls that nobody meant, on \
                  every runtime.",
            evidence: "The proof compares the compiled filter with the profile for every call, exactly, and names one that differs. \
                       libseccomp 2.5.4 and 2.6.1 get some sets of ranges and inequalities wrong: kill with a0 >= 2^63 \
                       or a0 <= 2 also covers kill(0x80000000). No filter of theirs has an instruction that the proof \
                       cannot read; one that had would be refused as well.",
            cure: "Use SCMP_CMP_EQ and SCMP_CMP_MASKED_EQ alone in the entries about this call, or let all of them look at \
                   one argument and write no value above 0xffffffff. Where an instruction cannot be read, no other profile helps, but a newer Callgate.",
            example: None,
        },
    ),
    (
        Code::TooComplex,
        Doc {
            why: "What cannot be proven is not installed. Such conditions depend on how bits of several arguments go together.",
            evidence: "The proof stops at 1,500,000 branches. A real profile needs some thousands.",
            cure: "Use fewer conditions on the call that has most, or let them look at one argument.",
            example: None,
        },
    ),
    (
        Code::NeverMatches,
        Doc {
            why: "The entry does nothing: no value is below 0, or above the highest.",
            evidence: "The proof looks at all values of all arguments.",
            cure: "Correct the condition, or remove the entry.",
            example: None,
        },
    ),
    (
        Code::AlwaysHolds,
        Doc {
            why: "The condition does nothing, and the entry holds for more calls than it seems to.",
            evidence: "The proof looks at all values of the argument.",
            cure: "Correct the condition, or remove it.",
            example: None,
        },
    ),
    (
        Code::RedundantEntry,
        Doc {
            why: "Other entries give the same answer to the same calls, so a change of this one would change nothing.",
            evidence: "The proof compares the entries for every call.",
            cure: "Remove the name, or the entry.",
            example: None,
        },
    ),
    (
        Code::DefaultEntry,
        Doc {
            why: "Runtimes leave out an entry whose action and errno are those of the default.",
            evidence: "Seen on runc, crun (which logs it) and youki; libseccomp would refuse it with EACCES.",
            cure: "Remove the entry, or give it the action that is meant.",
            example: None,
        },
    ),
    (
        Code::OtherByteOrder,
        Doc {
            why: "libseccomp adds the architecture of the node to every filter, and one filter holds one byte order: on a node \
                  of the other no container starts. On nodes of the profile's own it is right.",
            evidence: "The profile was compiled as on a node of its own, and the program was proven. This machine's kernel \
                       cannot load it: the agents of its nodes do. An agent of a node of the other byte order refuses it \
                       (compile-failed).",
            cure: "Give the profile to its own nodes alone: nodeSelector kubernetes.io/arch: s390x. Or accept the finding if no \
                   other node gets it.",
            example: None,
        },
    ),
    (
        Code::CompileFailed,
        Doc {
            why: "Runtimes use libseccomp in the same way, and no container would start.",
            evidence: "libseccomp's own error is in the message.",
            cure: "Change what the message names, as it says.",
            example: None,
        },
    ),
    (
        Code::CompileExhausted,
        Doc {
            why: "A runtime that compiles the profile would hang or crash as well. Two entries suffice for that.",
            evidence: "Tried twice, in a process with limits on time and memory. libseccomp up to 2.6.1 loops for ever \
                       over some pairs of conditions on two arguments.",
            cure: "Name fewer calls, or write their conditions in another way: equal values rather than ranges, one argument rather than two.",
            example: None,
        },
    ),
    (
        Code::FilterTooLarge,
        Doc {
            why: "The kernel takes 4,096 instructions in one filter, and no container would start.",
            evidence: "BPF_MAXINSNS; the size is that of the compiled program.",
            cure: "Name fewer calls, values or architectures. Values that differ in their upper half cost most.",
            example: None,
        },
    ),
    (
        Code::NearlyTooLarge,
        Doc {
            why: "Before the filter runc puts instructions of its own, which answer calls newer than all that the profile \
                  names, and since 1.5 it has libseccomp sort the calls into a tree, which takes some more. The kernel \
                  takes 4,096 in all, and then no container starts on runc.",
            evidence: "Of filters with 4,068, 4,080 and 4,092 instructions, made for one architecture, runc 1.5.2 starts \
                       the first and runc 1.1.5 the first two; crun and youki start all.",
            cure: "Name fewer calls, values or architectures, as for filter-too-large; or accept it where no node has runc.",
            example: None,
        },
    ),
    (
        Code::LoadRefused,
        Doc {
            why: "No container would start on this kernel.",
            evidence: "seccomp(2) answered EINVAL.",
            cure: "Do without the flag or the action that the message is about, or use a newer kernel.",
            example: None,
        },
    ),
];

/// Of these the message says what is wrong and why, and the cure is what the reference says. All others say in their
/// message what to do about the very value, and the cure would be that again, in general.
const CURED_BY_REFERENCE: &[Code] = &[
    Code::TooLarge,
    Code::ListenerNotAllowed,
    Code::UnknownSyscall,
    Code::MultiplexedCall,
    Code::OpenMultiplexer,
    Code::RiskySyscall,
    Code::NotifyAtStart,
    Code::Contradiction,
    Code::Miscompiled,
    Code::TooComplex,
    Code::NeverMatches,
    Code::AlwaysHolds,
    Code::RedundantEntry,
    Code::DefaultEntry,
    Code::CompileExhausted,
    Code::FilterTooLarge,
    Code::NearlyTooLarge,
];

impl Code {
    /// What to do about such a finding, in whole sentences.
    #[must_use]
    pub fn cure(self) -> &'static str {
        doc(self).map_or("", |doc| doc.cure)
    }
}

impl Finding {
    /// The cure, where the message does not say it and nobody has accepted the finding.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        let is_wanted = self.accepted.is_none() && CURED_BY_REFERENCE.contains(&self.code);
        is_wanted.then(|| self.code.cure())
    }

    /// The value, the reason and the cure, for where there is one place for all.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self.help() {
            None => self.message.clone(),
            Some(help) if self.message.ends_with(['.', '?', ')']) => format!("{} {help}", self.message),
            Some(help) => format!("{}. {help}", self.message),
        }
    }
}

fn doc(code: Code) -> Option<&'static Doc> {
    let of_rule = RULES.iter().find(|rule| rule.code == code).map(|rule| &rule.doc);
    let of_other = || {
        OTHERS
            .iter()
            .find(|(other, _)| *other == code)
            .map(|(_, doc)| doc)
    };
    of_rule.or_else(of_other)
}

/// What there is to say of one code, in Markdown that also reads well as plain text.
#[must_use]
pub fn explain(code: Code) -> String {
    let mut text = format!("## {code}\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{} {}\n", code.meaning(), consequence(code));
    if let Some(doc) = doc(code) {
        for (title, part) in [("Why", doc.why), ("Evidence", doc.evidence), ("Cure", doc.cure)] {
            let _ = writeln!(text, "**{title}:** {part}\n");
        }
        if matches!(code, Code::RiskySyscall | Code::RiskyByDefault) {
            let _ = writeln!(
                text,
                "**List:** the calls, and what they give to a container:\n\n{}",
                risk::list()
            );
        }
        if let Some(example) = &doc.example {
            let _ = writeln!(text, "Not found in:\n\n```json\n{}\n```\n", example.accepted);
            let _ = writeln!(text, "Found in:\n\n```json\n{}\n```\n", example.refused);
        }
    }
    text
}

fn consequence(code: Code) -> &'static str {
    match (code.class(), code.is_acceptable()) {
        (Class::NotPortable, _) if is_informational(code) => {
            "*Not portable: such a profile is installed. Where it concerns none of your nodes, accept it.*"
        }
        (Class::Lint, _) if is_informational(code) => {
            "*Lint: such a profile is installed. There may be nothing to mend in it: accept it then.*"
        }
        (Class::Invalid, false) => {
            "*Invalid: such a profile is not installed, and nobody can accept the finding.*"
        }
        (Class::Invalid, true) => {
            "*Invalid: such a profile is not installed, unless its acceptFindings names the code.*"
        }
        (Class::NotPortable, _) => "*Not portable: such a profile is installed.*",
        (Class::Lint | Class::Accepted, _) => "*Lint: such a profile is installed.*",
    }
}

/// The page `docs/findings.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("| code | class | meaning |\n| --- | --- | --- |\n");
    for code in Code::ALL {
        let _ = writeln!(
            text,
            "| [{code}](#{code}) | {} | {} |",
            code.class(),
            code.meaning()
        );
    }
    for code in Code::ALL {
        text.push('\n');
        text.push_str(explain(*code).trim_end());
        text.push('\n');
    }
    text
}

const INTRODUCTION: &str = "\
<!-- Written by `make findings` from src/profile/rules; do not edit. -->
# Findings

What Callgate says of a profile, by the code of the finding. `callgate check --explain CODE` prints one entry.

Each code is of one class:

- **invalid**: the specification forbids it, or no supported runtime does what is written, or no container can start
  under it. The profile is not installed. Where an entry says so, the author can take responsibility:
  `acceptFindings: [CODE]` in the spec keeps the finding visible, and the profile valid. `--accept CODE` of `check` and
  `install` does so for files that have no spec.
- **not-portable**: the profile is right here, and named runtimes or versions do something else. It is installed.
- **lint**: allowed, and probably not meant. It is installed.

Findings of the last two classes can be accepted in the same way. To follow a cure leads to no other finding of the
rules, or to one that says when to accept it.

Runtimes were tried in these versions: runc 1.1.5 to 1.5, crun 1.8.1 to 1.27.1, youki 0.7.0, with libseccomp 2.5.4
and 2.6.1. runc and crun decide what is invalid; of youki is told where it differs.

";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{AcceptedBy, FieldPath, SourceDocument, read};

    #[test]
    fn every_code_is_explained_once() {
        for code in Code::ALL {
            let rules = RULES.iter().filter(|rule| rule.code == *code).count();
            let others = OTHERS.iter().filter(|(other, _)| other == code).count();
            assert_eq!(rules + others, 1, "{code}");
            let text = explain(*code);
            for part in ["**Why:** ", "**Evidence:** ", "**Cure:** "] {
                assert!(text.contains(part), "{code}: {text}");
            }
            let cure = code.cure();
            assert!(cure.ends_with(['.', ')']), "{code}: {cure}");
        }
    }

    #[test]
    fn the_cure_is_told_once() {
        let finding = |code, message: &str| Finding::new(code, FieldPath::root(), message);
        let cure = Code::Contradiction.cure();
        let two = finding(Code::Contradiction, "two answers");
        assert_eq!(two.help(), Some(cure));
        assert_eq!(two.sentence(), format!("two answers. {cure}"));
        assert_eq!(two.accept(AcceptedBy::Profile).sentence(), "two answers");
        let typo = finding(Code::UnknownSyscall, "did you mean open?");
        assert_eq!(
            typo.sentence(),
            format!("did you mean open? {}", Code::UnknownSyscall.cure())
        );
        let twice = finding(Code::DuplicateKey, "twice: remove one");
        assert_eq!(twice.help(), None);
        assert_eq!(twice.sentence(), "twice: remove one");
    }

    #[test]
    fn examples_of_what_reading_finds_are_found_by_reading() {
        let codes = |text: &str| match read(text.as_bytes()).remove(0) {
            SourceDocument::Profile(profile) => match profile.spec {
                Ok(spec) => spec.findings().iter().map(|finding| finding.code).collect(),
                Err(findings) => findings.iter().map(|finding| finding.code).collect::<Vec<_>>(),
            },
            SourceDocument::Other { .. } => panic!("no profile: {text}"),
        };
        for (code, doc) in OTHERS {
            let Some(example) = &doc.example else { continue };
            assert!(!codes(example.accepted).contains(code), "{code}");
            assert!(codes(example.refused).contains(code), "{code}");
        }
    }

    #[test]
    fn the_page_of_findings_is_the_one_that_is_checked_in() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/findings.md");
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page == reference(),
            "docs/findings.md is out of date: run `make findings`"
        );
    }
}
