//! What the end of a child means for the profile. Pure.
//!
//! The rule: a profile is refused for what it did, and only for that. Limits that are its own doing (CPU time,
//! address space) and crashes must happen twice; whatever else ends a child (somebody's signal, the kernel's
//! memory killer, a starved machine) says nothing about the profile.

use std::io;

use super::message::{CompileReport, Compiled, Outcome};
use super::process::{End, Ended};
use super::{Limits, worker};
use crate::filter::Program;
use crate::profile::{Code, FieldPath};

/// What to do after a compiling child has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Tell the client.
    Answer(Outcome),
    /// The same once more, to see whether it was chance.
    Again,
    /// Give it to the kernel.
    Load {
        program: Program,
        flags: u64,
        compiled: Compiled,
    },
}

/// Of a compiling child. `again` is whether this was the second attempt.
pub(super) fn compiled(ended: &Ended, said: Option<&[u8]>, again: bool, limits: &Limits) -> Next {
    let unknown = |reason: String| Next::Answer(Outcome::Unknown(reason));
    let exhausted = |what: String| {
        if !again {
            return Next::Again;
        }
        let message = format!(
            "libseccomp {what}, twice: container runtimes would, too. Some sets of conditions on one call do that"
        );
        let field = FieldPath::root().key("syscalls");
        Next::Answer(Outcome::refused(Code::CompileExhausted, field, message))
    };
    // A limit of its own shows in what it has used; a machine without memory fails it long before.
    let took_its_memory = ended.peak_memory >= limits.memory_bytes / 2;
    let out_of_memory = || format!("needs more than {} MiB of memory", limits.memory_bytes >> 20);

    match ended.end {
        End::Exited(0) => match said.and_then(CompileReport::decode) {
            Some((CompileReport::Compiled { compiled, flags }, program)) => match Program::decode(program) {
                Ok(program) => Next::Load {
                    program,
                    flags,
                    compiled,
                },
                Err(_) => exhausted("left a broken program".to_owned()),
            },
            Some((CompileReport::Foreign(compiled), _)) => Next::Answer(Outcome::Compiled(compiled)),
            Some((CompileReport::Refused(found), _)) => Next::Answer(Outcome::Refused(found)),
            Some((CompileReport::Failed(reason), _)) => unknown(reason),
            Some((CompileReport::OutOfMemory | CompileReport::Fault, _)) if took_its_memory => {
                exhausted(out_of_memory())
            }
            Some((CompileReport::OutOfMemory, _)) => unknown("no memory for libseccomp".to_owned()),
            Some((CompileReport::Fault, _)) => exhausted("fails within itself (EFAULT)".to_owned()),
            None => exhausted("left no answer".to_owned()),
        },
        End::Exited(worker::NOT_CONFINED) => unknown("a child could not be confined".to_owned()),
        End::Exited(code) => exhausted(format!("ended its process with code {code}")),
        End::Killed(libc::SIGXCPU) => exhausted(format!("takes more than {} s", limits.cpu_seconds)),
        // What an allocation that fails (abort(3)) and a page that cannot be had end by.
        End::Killed(libc::SIGABRT | libc::SIGBUS) if took_its_memory => exhausted(out_of_memory()),
        End::Killed(signal @ (libc::SIGABRT | libc::SIGBUS)) => unknown(format!(
            "libseccomp's process ended by {}, with {} MiB of memory taken: the machine may have none left",
            name(signal),
            ended.peak_memory >> 20
        )),
        End::Killed(
            signal @ (libc::SIGSEGV
            | libc::SIGILL
            | libc::SIGFPE
            | libc::SIGSYS
            | libc::SIGTRAP
            | libc::SIGXFSZ),
        ) => exhausted(format!(
            "crashes ({}, with {} MiB of memory taken)",
            name(signal),
            ended.peak_memory >> 20
        )),
        End::Killed(libc::SIGALRM) => unknown(format!(
            "not compiled within {} s, of which it had the processor for less than {} s",
            limits.wall_seconds, limits.cpu_seconds
        )),
        End::Killed(signal) => unknown(format!(
            "the compiling child was ended from outside ({})",
            name(signal)
        )),
    }
}

/// Of a loading child, which ends by a fault when all is well.
pub(super) fn loaded(ended: &Ended, said: Option<&[u8]>, compiled: Compiled, flags: u64) -> Outcome {
    match said.and_then(worker::loaded) {
        Some(0) => Outcome::Loaded(compiled),
        Some(libc::EINVAL) => {
            let listener = flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0;
            let killable = flags & libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0;
            let why = if killable && !listener {
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs an entry with SCMP_ACT_NOTIFY. Take out the flag"
            } else {
                "it does not have an action or a flag of this profile. Use another, or a newer kernel"
            };
            Outcome::refused(
                Code::LoadRefused,
                FieldPath::root(),
                format!("this kernel does not take the filter (EINVAL): {why}"),
            )
        }
        Some(errno) => Outcome::Unknown(format!(
            "the kernel could not take the filter now: {}",
            io::Error::from_raw_os_error(errno)
        )),
        None => Outcome::Unknown(match ended.end {
            End::Exited(_) => "a child could not be confined".to_owned(),
            End::Killed(signal) => format!("the loading child was ended from outside ({})", name(signal)),
        }),
    }
}

fn name(signal: i32) -> String {
    match signal {
        libc::SIGSEGV => "SIGSEGV".to_owned(),
        libc::SIGBUS => "SIGBUS".to_owned(),
        libc::SIGABRT => "SIGABRT".to_owned(),
        libc::SIGKILL => "SIGKILL".to_owned(),
        libc::SIGTERM => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Finding;
    use crate::testload::Verdict;
    use crate::testload::message::Found;

    const LIMITS: Limits = Limits {
        children: 2,
        cpu_seconds: 10,
        wall_seconds: 30,
        memory_bytes: 64 << 20,
    };

    fn ended(end: End) -> Ended {
        Ended {
            pid: rustix::process::getpid(),
            end,
            peak_memory: 8 << 20,
        }
    }

    fn verdict(next: Next) -> Verdict {
        match next {
            Next::Answer(outcome) => outcome.into_verdict().unwrap(),
            other => panic!("no answer: {other:?}"),
        }
    }

    fn is_unknown(next: Next) -> bool {
        matches!(verdict(next), Verdict::Unknown(_))
    }

    fn is_exhausted(next: Next) -> bool {
        matches!(
            verdict(next),
            Verdict::Refused(findings) if findings[0].code == Code::CompileExhausted
        )
    }

    #[test]
    fn what_the_profile_did_itself_is_tried_twice_and_then_held_against_it() {
        let ends = [
            End::Killed(libc::SIGXCPU),
            End::Killed(libc::SIGSEGV),
            End::Exited(1),
            End::Exited(0),
        ];
        for end in ends {
            assert_eq!(
                compiled(&ended(end), None, false, &LIMITS),
                Next::Again,
                "{end:?}"
            );
            assert!(
                is_exhausted(compiled(&ended(end), None, true, &LIMITS)),
                "{end:?}"
            );
        }
    }

    #[test]
    fn what_others_did_says_nothing_about_the_profile() {
        let ends = [
            End::Killed(libc::SIGKILL),
            End::Killed(libc::SIGTERM),
            End::Killed(libc::SIGALRM),
            End::Exited(worker::NOT_CONFINED),
        ];
        for end in ends {
            for again in [false, true] {
                assert!(is_unknown(compiled(&ended(end), None, again, &LIMITS)), "{end:?}");
            }
        }
    }

    #[test]
    fn memory_that_ran_out_counts_only_if_the_child_took_it() {
        let said = CompileReport::OutOfMemory.encode(&[]);
        let starved = ended(End::Exited(0));
        assert!(is_unknown(compiled(&starved, Some(&said), true, &LIMITS)));
        let fault = CompileReport::Fault.encode(&[]);
        assert_eq!(compiled(&starved, Some(&fault), false, &LIMITS), Next::Again);
        assert!(is_exhausted(compiled(&starved, Some(&fault), true, &LIMITS)));
        let greedy = Ended {
            peak_memory: 60 << 20,
            ..starved
        };
        assert_eq!(compiled(&greedy, Some(&said), false, &LIMITS), Next::Again);
        assert!(is_exhausted(compiled(&greedy, Some(&said), true, &LIMITS)));
    }

    #[test]
    fn an_allocation_that_failed_is_held_against_who_took_the_memory_twice_and_nobody_else() {
        for signal in [libc::SIGABRT, libc::SIGBUS] {
            let starved = ended(End::Killed(signal));
            for again in [false, true] {
                assert!(is_unknown(compiled(&starved, None, again, &LIMITS)), "{signal}");
            }
            let greedy = Ended {
                peak_memory: LIMITS.memory_bytes / 2,
                ..starved
            };
            assert_eq!(compiled(&greedy, None, false, &LIMITS), Next::Again, "{signal}");
            let Verdict::Refused(findings) = verdict(compiled(&greedy, None, true, &LIMITS)) else {
                panic!("not refused: {signal}");
            };
            let finding = &findings[0];
            assert_eq!(
                (finding.code, finding.field.as_str()),
                (Code::CompileExhausted, "syscalls")
            );
            assert!(
                finding.message.contains("64 MiB of memory"),
                "{}",
                finding.message
            );
        }
    }

    #[test]
    fn a_refusal_needs_no_second_attempt() {
        let finding = Finding::new(Code::CompileFailed, FieldPath::root().key("flags"), "why");
        let said = CompileReport::Refused(Found::new(std::slice::from_ref(&finding))).encode(&[]);
        let next = compiled(&ended(End::Exited(0)), Some(&said), false, &LIMITS);
        assert_eq!(verdict(next), Verdict::Refused(finding.into()));
    }

    #[test]
    fn a_report_in_which_the_program_is_none_is_a_crash() {
        let compiled_report = r#"{"Compiled":{"compiled":{"filters":[],"unknown_names":[],"found":{"listed":[],"unlisted":0},"start":[]},"flags":0}}"#;
        let broken = [compiled_report.as_bytes(), b"\0seven by"].concat();
        assert_eq!(
            compiled(&ended(End::Exited(0)), Some(&broken), false, &LIMITS),
            Next::Again
        );
    }

    #[test]
    fn the_kernel_refuses_by_einval_only() {
        let answer = |errno: i32, flags: u64| {
            let compiled: Compiled =
                serde_json::from_str(r#"{"filters":[["SCMP_ARCH_X86_64",7]],"unknown_names":[],"found":{"listed":[],"unlisted":0},"start":[]}"#).unwrap();
            let end = ended(End::Killed(libc::SIGSEGV));
            loaded(&end, Some(&errno.to_ne_bytes()), compiled, flags)
                .into_verdict()
                .unwrap()
        };
        assert!(matches!(answer(0, 0), Verdict::Passed { is_loaded: true, .. }));
        let Verdict::Refused(findings) = answer(libc::EINVAL, libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
        else {
            panic!("not refused");
        };
        let finding = &findings[0];
        assert_eq!(finding.code, Code::LoadRefused);
        assert!(finding.message.contains("SCMP_ACT_NOTIFY"), "{}", finding.message);
        for errno in [libc::ENOMEM, libc::EBUSY, libc::EPERM, libc::EACCES] {
            assert!(matches!(answer(errno, 0), Verdict::Unknown(_)), "{errno}");
        }
    }

    #[test]
    fn a_loading_child_that_said_nothing_is_unknown() {
        let compiled: Compiled = serde_json::from_str(
            r#"{"filters":[],"unknown_names":[],"found":{"listed":[],"unlisted":0},"start":[]}"#,
        )
        .unwrap();
        for end in [
            End::Killed(libc::SIGKILL),
            End::Killed(libc::SIGSEGV),
            End::Exited(2),
        ] {
            let outcome = loaded(&ended(end), None, compiled.clone(), 0);
            assert!(matches!(outcome, Outcome::Unknown(_)), "{end:?}");
        }
    }
}
