//! The measured needs. `make measure` measures them anew and shows where a machine's runtimes differ.
//!
//! Measured on x86-64, Linux 6.18, with libseccomp 2.5.4, by starting containers with `create` and `start` as containerd
//! does: as uid 0 and as uid 1000, under filters that allow all calls but one, or but two where one stands in for the
//! other. runc 1.5.2 was built by Go 1.26 without libpathrs, runc 1.1.5 and crun 1.8.1 are Debian's, youki 0.7.0 is the
//! crate's, with the features `v2` and `seccomp`.
//!
//! No crun since 1.9 was measured: a trace of crun 1.27.1 by strace(1) shows the calls of 1.8.1 and `close_range(2)`, and
//! that it goes on after an errno from that. It is taken to need the rest as 1.8.1 does.
//!
//! Of the needs "now and then", runc's `futex` failed about two starts of three, `rt_sigreturn` (Go's runtime interrupts
//! its own threads) 2 to 9 of 60, and `mmap` 1 of
//! 60, or with `no_new_privs` 2 of 210.

use super::{Denials, Evidence, Need, Start, StartNeeds, sites};
use crate::profile::{Affected, Software, Version};

const ANY: Denials = Denials::ANY;
const ERRNO: Denials = Denials::ERRNO;
const KILL: Denials = Denials::KILL;
const ZERO: Denials = Denials::ZERO;
/// The kernel's way to say that it does not have the call, and that of an older sandbox.
const UNKNOWN: Denials = Denials::EPERM.union(Denials::ENOSYS);
const ERRNO_OR_KILL: Denials = ERRNO.union(KILL);

const OLD_RUNC: Affected = Affected::before(Software::Runc, Version::new(1, 5, 0));
const OLD_CRUN: Affected = Affected::before(Software::Crun, Version::new(1, 9, 0));
const NEW_CRUN: Affected = Affected::since(Software::Crun, Version::new(1, 9, 0));
const NEW_RUNC: Affected = Affected::since(Software::Runc, Version::new(1, 2, 0));

/// A start fails if all of these calls are denied, each in one of the ways beside it.
macro_rules! need {
    ($($call:literal: $fatal:expr),+) => {
        Need::new(&[$(($call, $fatal)),+])
    };
}

/// Calls that let a container start on every runtime of [`START_NEEDS`] with `no_new_privs`, whatever the profile does
/// with all others: what they need, and what Go's runtime may do at any moment (take and return from its own signals,
/// sleep, collect garbage, end itself). `close_range` is for crun since 1.9, which closes descriptors with it.
pub const PORTABLE_START: &[&str] = &[
    "accept4",
    "close",
    "close_range",
    "connect",
    "epoll_ctl",
    "epoll_pwait",
    "execve",
    "exit_group",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getdents64",
    "getpid",
    "gettid",
    "madvise",
    "mmap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "openat",
    "openat2",
    "read",
    "recvfrom",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "sendmsg",
    "sigaltstack",
    "socket",
    "statx",
    "tgkill",
    "write",
];

/// Without `no_new_privs`: these as well.
pub const PORTABLE_START_PRIVILEGED: &[&str] = &[
    "capget",
    "capset",
    "chdir",
    "faccessat2",
    "fchown",
    "getcwd",
    "getppid",
    "prctl",
    "pselect6",
    "rt_sigaction",
    "setgid",
    "setgroups",
    "setresgid",
    "setresuid",
    "setuid",
];

/// Of runc 1.5.2 with `no_new_privs`.
const RUNC_1_5_RESTRICTED: &[Need] = &[
    need!("close": ANY),
    need!("execve": ANY),
    need!("fcntl": KILL),
    need!("fcntl": ERRNO, "openat2": ERRNO),
    need!("fstat": ANY),
    need!("fstatfs": ANY),
    need!("futex": ERRNO_OR_KILL).now_and_then(),
    need!("getdents64": ERRNO_OR_KILL),
    need!("mmap": KILL).now_and_then(),
    need!("openat": ANY),
    need!("openat2": ZERO.union(KILL)),
    need!("openat2": ERRNO, "readlinkat": ANY),
    need!("rt_sigreturn": ERRNO_OR_KILL).now_and_then(),
    need!("statx": ANY),
    need!("write": ANY),
];

/// Of runc 1.5.2 without.
const RUNC_1_5_PRIVILEGED: &[Need] = &[
    need!("capget": ERRNO_OR_KILL),
    need!("capset": ERRNO_OR_KILL),
    need!("chdir": ERRNO_OR_KILL),
    need!("close": ANY),
    need!("close_range": KILL),
    need!("epoll_ctl": KILL),
    need!("execve": ANY),
    need!("faccessat2": Denials::OTHER.union(KILL)),
    need!("faccessat2": UNKNOWN, "geteuid": KILL),
    need!("fchown": Denials::ENOSYS.union(Denials::OTHER).union(KILL)).unless_root(),
    need!("fcntl": ZERO.union(KILL)),
    need!("fcntl": ERRNO, "openat2": ERRNO),
    need!("fstat": ANY),
    need!("fstatfs": ANY),
    need!("futex": ERRNO_OR_KILL).now_and_then(),
    need!("getcwd": ANY),
    need!("getdents64": ERRNO_OR_KILL),
    need!("getpid": KILL),
    need!("getppid": ERRNO_OR_KILL),
    need!("mmap": KILL).now_and_then(),
    need!("newfstatat": ERRNO_OR_KILL),
    need!("openat": ANY),
    need!("openat2": ZERO.union(KILL)),
    need!("openat2": ERRNO, "readlinkat": ANY),
    need!("prctl": ERRNO_OR_KILL),
    need!("prctl": ZERO).unless_root(),
    need!("read": ANY),
    need!("rt_sigreturn": ERRNO_OR_KILL).now_and_then(),
    need!("setgid": ERRNO_OR_KILL),
    need!("setgroups": ERRNO_OR_KILL),
    need!("setuid": ERRNO_OR_KILL),
    need!("statx": ANY),
    need!("tgkill": ZERO.union(KILL)),
    need!("write": ANY),
];

/// Of runc 1.1.5 with `no_new_privs`.
const RUNC_1_1_RESTRICTED: &[Need] = &[
    need!("close": ANY),
    need!("epoll_ctl": KILL),
    need!("execve": ANY),
    need!("fstatfs": ANY),
    need!("futex": ERRNO_OR_KILL).now_and_then(),
    need!("getdents64": ERRNO_OR_KILL),
    need!("getpid": KILL),
    need!("openat": ANY),
    need!("rt_sigreturn": ERRNO_OR_KILL).now_and_then(),
    need!("write": ANY),
];

/// Of runc 1.1.5 without.
const RUNC_1_1_PRIVILEGED: &[Need] = &[
    need!("capget": ERRNO_OR_KILL),
    need!("capset": ERRNO_OR_KILL),
    need!("chdir": ERRNO_OR_KILL),
    need!("close": ANY),
    need!("epoll_ctl": KILL),
    need!("execve": ANY),
    need!("faccessat2": Denials::OTHER.union(KILL)),
    need!("faccessat2": UNKNOWN, "faccessat": ERRNO_OR_KILL),
    need!("faccessat2": UNKNOWN, "getegid": KILL),
    need!("faccessat2": UNKNOWN, "geteuid": KILL),
    need!("faccessat2": UNKNOWN, "getgid": KILL),
    need!("faccessat2": UNKNOWN, "getuid": KILL),
    need!("fchown": Denials::ENOSYS.union(Denials::OTHER).union(KILL)).unless_root(),
    need!("fcntl": KILL),
    need!("fstat": ERRNO_OR_KILL),
    need!("fstatfs": ANY),
    need!("futex": ERRNO_OR_KILL).now_and_then(),
    need!("getcwd": ANY),
    need!("getdents64": ERRNO_OR_KILL),
    need!("getpid": KILL),
    need!("getppid": ERRNO_OR_KILL),
    need!("newfstatat": ANY),
    need!("openat": ANY),
    need!("prctl": ERRNO_OR_KILL),
    need!("prctl": ZERO).unless_root(),
    need!("read": ERRNO_OR_KILL),
    need!("rt_sigreturn": ERRNO_OR_KILL).now_and_then(),
    need!("setgid": ERRNO_OR_KILL),
    need!("setgroups": ERRNO_OR_KILL),
    need!("setuid": ERRNO_OR_KILL),
    need!("write": ANY),
];

/// Of crun 1.8.1 with `no_new_privs`.
const CRUN_RESTRICTED: &[Need] = &[need!("close": KILL), need!("execve": ANY)];

/// Of crun 1.8.1 without.
const CRUN_PRIVILEGED: &[Need] = &[
    need!("capset": ERRNO_OR_KILL),
    need!("close": KILL),
    need!("execve": ANY),
    need!("prctl": ERRNO_OR_KILL),
    need!("prctl": ZERO).unless_root(),
    need!("pselect6": ERRNO_OR_KILL),
    need!("pselect6": ZERO).now_and_then(),
    need!("read": ANY),
    need!("rt_sigaction": ERRNO_OR_KILL),
    need!("rt_sigprocmask": ERRNO_OR_KILL),
    need!("setresgid": ERRNO_OR_KILL),
    need!("setresuid": ERRNO_OR_KILL),
    need!("write": ANY),
];

/// Of crun since 1.9, beside those of 1.8.1.
const CLOSE_RANGE: &[Need] = &[need!("close_range": KILL)];

/// Of youki 0.7.0 with `no_new_privs`.
const YOUKI_RESTRICTED: &[Need] = &[
    need!("accept4": ANY),
    need!("close": ERRNO_OR_KILL),
    need!("connect": KILL),
    need!("execve": ANY),
    need!("newfstatat": KILL),
    need!("newfstatat": ERRNO, "statx": Denials::ENOSYS),
    need!("openat": KILL),
    need!("recvfrom": ERRNO_OR_KILL),
    need!("recvfrom": ZERO).now_and_then(),
    need!("sendmsg": ANY),
    need!("socket": KILL),
    need!("statx": ZERO.union(Denials::EPERM).union(Denials::OTHER).union(KILL)),
];

/// Of youki 0.7.0 without.
const YOUKI_PRIVILEGED: &[Need] = &[
    need!("accept4": ANY),
    need!("capget": ANY),
    need!("capset": ERRNO_OR_KILL),
    need!("close": ERRNO_OR_KILL),
    need!("connect": KILL),
    need!("execve": ANY),
    need!("getcwd": ERRNO_OR_KILL),
    need!("newfstatat": KILL),
    need!("newfstatat": ERRNO, "statx": Denials::ENOSYS),
    need!("openat": KILL),
    need!("prctl": KILL),
    need!("recvfrom": ERRNO_OR_KILL),
    need!("recvfrom": ZERO).now_and_then(),
    need!("sendmsg": ANY),
    need!("socket": KILL),
    need!("statx": ZERO.union(Denials::EPERM).union(Denials::OTHER).union(KILL)),
];

/// What each runtime needs, newest version first.
pub const START_NEEDS: &[StartNeeds] = &[
    StartNeeds {
        runtime: Software::Runc,
        version: "1.5.2",
        versions: NEW_RUNC,
        evidence: Evidence::Started,
        with_no_new_privs: Start {
            needs: &[RUNC_1_5_RESTRICTED],
            sites: &[sites::RUNC_1_5_RESTRICTED],
        },
        without_no_new_privs: Start {
            needs: &[RUNC_1_5_PRIVILEGED],
            sites: &[sites::RUNC_1_5_RESTRICTED, sites::RUNC_1_5_PRIVILEGED],
        },
    },
    StartNeeds {
        runtime: Software::Runc,
        version: "1.1.5",
        versions: OLD_RUNC,
        evidence: Evidence::Started,
        with_no_new_privs: Start {
            needs: &[RUNC_1_1_RESTRICTED],
            sites: &[sites::RUNC_1_1_RESTRICTED],
        },
        without_no_new_privs: Start {
            needs: &[RUNC_1_1_PRIVILEGED],
            sites: &[sites::RUNC_1_1_RESTRICTED, sites::RUNC_1_1_PRIVILEGED],
        },
    },
    StartNeeds {
        runtime: Software::Crun,
        version: "1.27.1",
        versions: NEW_CRUN,
        evidence: Evidence::Traced,
        with_no_new_privs: Start {
            needs: &[CRUN_RESTRICTED, CLOSE_RANGE],
            sites: &[sites::CRUN_RESTRICTED],
        },
        without_no_new_privs: Start {
            needs: &[CRUN_PRIVILEGED, CLOSE_RANGE],
            sites: &[sites::CRUN_RESTRICTED, sites::CRUN_PRIVILEGED],
        },
    },
    StartNeeds {
        runtime: Software::Crun,
        version: "1.8.1",
        versions: OLD_CRUN,
        evidence: Evidence::Started,
        with_no_new_privs: Start {
            needs: &[CRUN_RESTRICTED],
            sites: &[sites::CRUN_RESTRICTED],
        },
        without_no_new_privs: Start {
            needs: &[CRUN_PRIVILEGED],
            sites: &[sites::CRUN_RESTRICTED, sites::CRUN_PRIVILEGED],
        },
    },
    StartNeeds {
        runtime: Software::Youki,
        version: "0.7.0",
        versions: Affected::always(Software::Youki),
        evidence: Evidence::Started,
        with_no_new_privs: Start {
            needs: &[YOUKI_RESTRICTED],
            sites: &[sites::YOUKI_RESTRICTED],
        },
        without_no_new_privs: Start {
            needs: &[YOUKI_PRIVILEGED],
            sites: &[sites::YOUKI_RESTRICTED, sites::YOUKI_PRIVILEGED],
        },
    },
];
