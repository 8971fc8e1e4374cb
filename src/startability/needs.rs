//! The measured needs. `make measure` measures them anew and shows where a machine's runtimes differ.
//!
//! Measured on x86-64, Linux 6.18, with libseccomp 2.5.4, by starting containers with `create` and `start` as containerd
//! does: as uid 0 and as uid 1000, under filters that allow all calls but one, or but two where one stands in for the
//! other. runc since 1.2 was built by Go 1.26 without libpathrs, runc 1.1.5 and crun 1.8.1 are those of Debian 12, crun
//! 1.21 is that of Debian 13 with its libseccomp 2.6.0, youki 0.7.0 is the crate's, with the features `v2` and `seccomp`.
//!
//! runc 1.2.8 and 1.3.3 brought the mend of CVE-2025-52881, since which runc writes to `/proc` by handles of a mount of
//! its own, and the start of every later version needs more.
//!
//! Measured once in the same way, and no other: runc 1.2.0 is like 1.2.6, 1.3.0 like 1.3.2, 1.3.7 like 1.3.4; crun 1.28
//! with libseccomp 2.6.1 is like 1.21. Tests start every version of [`START_NEEDS`]. All others are taken to be like those
//! next to them, which findings say.
//!
//! Of the needs "now and then", runc's `futex` failed about two starts of three, `rt_sigreturn` (Go's runtime interrupts
//! its own threads) 2 to 9 of 60, and `mmap` 1 of
//! 60, or with `no_new_privs` 2 of 210.

use super::{Denials, Need, Start, StartNeeds, sites};
use crate::profile::{Affected, Software, Version};

const ANY: Denials = Denials::ANY;
const ERRNO: Denials = Denials::ERRNO;
const KILL: Denials = Denials::KILL;
const ZERO: Denials = Denials::ZERO;
/// The kernel's way to say that it does not have the call, and that of an older sandbox.
const UNKNOWN: Denials = Denials::EPERM.union(Denials::ENOSYS);
const ERRNO_OR_KILL: Denials = ERRNO.union(KILL);

/// Versions of runc from one to before another.
const fn runc(from: Version, before: Version) -> Affected {
    Affected {
        software: Software::Runc,
        from: Some(from),
        before: Some(before),
    }
}

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

/// Of every runc.
const RUNC: &[Need] = &[
    need!("close": ANY),
    need!("execve": ANY),
    need!("fstatfs": ANY),
    need!("futex": ERRNO_OR_KILL).now_and_then(),
    need!("getdents64": ERRNO_OR_KILL),
    need!("openat": ANY),
    need!("rt_sigreturn": ERRNO_OR_KILL).now_and_then(),
    need!("write": ANY),
];

/// Of every runc, without `no_new_privs`.
const RUNC_PRIVILEGED: &[Need] = &[
    need!("capget": ERRNO_OR_KILL),
    need!("capset": ERRNO_OR_KILL),
    need!("chdir": ERRNO_OR_KILL),
    need!("faccessat2": Denials::OTHER.union(KILL)),
    need!("fchown": Denials::ENOSYS.union(Denials::OTHER).union(KILL)).unless_root(),
    need!("getcwd": ANY),
    need!("getpid": KILL),
    need!("getppid": ERRNO_OR_KILL),
    need!("prctl": ERRNO_OR_KILL),
    need!("prctl": ZERO).unless_root(),
    need!("read": ERRNO_OR_KILL),
    need!("setgid": ERRNO_OR_KILL),
    need!("setgroups": ERRNO_OR_KILL),
    need!("setuid": ERRNO_OR_KILL),
];

/// Of runc 1.1.5 without `no_new_privs`.
const RUNC_1_1_PRIVILEGED: &[Need] = &[
    need!("faccessat2": UNKNOWN, "faccessat": ERRNO_OR_KILL),
    need!("faccessat2": UNKNOWN, "getegid": KILL),
    need!("faccessat2": UNKNOWN, "geteuid": KILL),
    need!("faccessat2": UNKNOWN, "getgid": KILL),
    need!("faccessat2": UNKNOWN, "getuid": KILL),
    need!("fcntl": KILL),
    need!("fstat": ERRNO_OR_KILL),
    need!("newfstatat": ANY),
];

/// Of each runc since 1.2.
const SINCE_RUNC_1_2: &[Need] = &[need!("fcntl": KILL)];

/// Of each runc since 1.2, without `no_new_privs`.
const SINCE_RUNC_1_2_PRIVILEGED: &[Need] = &[
    need!("close_range": KILL),
    need!("faccessat2": UNKNOWN, "geteuid": KILL),
    need!("fcntl": ZERO),
    need!("newfstatat": ERRNO_OR_KILL),
    need!("tgkill": ZERO.union(KILL)),
];

/// Of runc 1.2.6 and 1.3.2, without `no_new_privs`.
const RUNC_BY_PATHS_PRIVILEGED: &[Need] = &[need!("fstat": ERRNO_OR_KILL)];

/// Of each runc since 1.2.8 but 1.3.0 to 1.3.2.
const RUNC_BY_HANDLES: &[Need] = &[
    need!("fcntl": ERRNO, "openat2": ERRNO),
    need!("fstat": ANY),
    need!("openat2": ZERO.union(KILL)),
    need!("openat2": ERRNO, "readlinkat": ANY),
    need!("statx": ANY),
];

/// Of runc 1.5.2.
const RUNC_1_5: &[Need] = &[need!("mmap": KILL).now_and_then()];

// What some versions of runc need and others next to them do not.
const EPOLL: &[Need] = &[need!("epoll_ctl": KILL)];
const GETPID: &[Need] = &[need!("getpid": KILL)];
const READ_TO_SUCCEED: &[Need] = &[need!("read": ZERO)];

/// Of each crun with `no_new_privs`.
const CRUN_RESTRICTED: &[Need] = &[need!("close": KILL), need!("execve": ANY)];

/// Of each crun without.
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

/// Of crun 1.21, beside those of 1.8.1. Where the kernel seems not to have `close_range(2)` it looks for what to close.
const CLOSE_RANGE: &[Need] = &[
    need!("close_range": KILL),
    need!("close_range": UNKNOWN, "fcntl": KILL),
    need!("close_range": UNKNOWN, "fstat": KILL),
    need!("close_range": UNKNOWN, "fstatfs": KILL),
    need!("close_range": UNKNOWN, "getdents64": KILL),
    need!("close_range": UNKNOWN, "openat": KILL),
];

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
        versions: Affected::since(Software::Runc, Version::new(1, 5, 0)),
        with_no_new_privs: Start {
            needs: &[RUNC, SINCE_RUNC_1_2, RUNC_BY_HANDLES, RUNC_1_5],
            sites: &[sites::RUNC_BY_HANDLES],
        },
        without_no_new_privs: Start {
            needs: &[
                RUNC,
                SINCE_RUNC_1_2,
                RUNC_BY_HANDLES,
                RUNC_1_5,
                RUNC_PRIVILEGED,
                SINCE_RUNC_1_2_PRIVILEGED,
                EPOLL,
                READ_TO_SUCCEED,
            ],
            sites: &[
                sites::RUNC_BY_HANDLES,
                sites::RUNC_BY_HANDLES_PRIVILEGED,
                sites::CAPABILITY_VERSION,
                sites::AMBIENT_SET,
                sites::LAST_CAPABILITY,
            ],
        },
    },
    StartNeeds {
        runtime: Software::Runc,
        version: "1.4.4",
        versions: runc(Version::new(1, 4, 1), Version::new(1, 5, 0)),
        with_no_new_privs: Start {
            needs: &[RUNC, SINCE_RUNC_1_2, RUNC_BY_HANDLES],
            sites: &[sites::RUNC_BY_HANDLES],
        },
        without_no_new_privs: Start {
            needs: &[
                RUNC,
                SINCE_RUNC_1_2,
                RUNC_BY_HANDLES,
                RUNC_PRIVILEGED,
                SINCE_RUNC_1_2_PRIVILEGED,
            ],
            sites: &[
                sites::RUNC_BY_HANDLES,
                sites::RUNC_BY_HANDLES_PRIVILEGED,
                sites::CAPABILITY_VERSION,
                sites::AMBIENT_SET,
                sites::RUNC_1_4_4,
            ],
        },
    },
    StartNeeds {
        runtime: Software::Runc,
        version: "1.4.0",
        versions: runc(Version::new(1, 4, 0), Version::new(1, 4, 4)),
        with_no_new_privs: Start {
            needs: &[RUNC, SINCE_RUNC_1_2, RUNC_BY_HANDLES],
            sites: &[sites::RUNC_BY_HANDLES],
        },
        without_no_new_privs: Start {
            needs: &[
                RUNC,
                SINCE_RUNC_1_2,
                RUNC_BY_HANDLES,
                RUNC_PRIVILEGED,
                SINCE_RUNC_1_2_PRIVILEGED,
                EPOLL,
                READ_TO_SUCCEED,
            ],
            sites: &[
                sites::RUNC_BY_HANDLES,
                sites::RUNC_BY_HANDLES_PRIVILEGED,
                sites::CAPABILITY_VERSION,
                sites::AMBIENT_SET,
                sites::LAST_CAPABILITY,
            ],
        },
    },
    StartNeeds {
        runtime: Software::Runc,
        version: "1.3.4",
        versions: runc(Version::new(1, 3, 3), Version::new(1, 4, 0)),
        with_no_new_privs: Start {
            needs: &[RUNC, SINCE_RUNC_1_2, RUNC_BY_HANDLES],
            sites: &[sites::RUNC_BY_HANDLES],
        },
        without_no_new_privs: Start {
            needs: &[
                RUNC,
                SINCE_RUNC_1_2,
                RUNC_BY_HANDLES,
                RUNC_PRIVILEGED,
                SINCE_RUNC_1_2_PRIVILEGED,
                EPOLL,
                READ_TO_SUCCEED,
            ],
            sites: &[
                sites::RUNC_BY_HANDLES,
                sites::RUNC_BY_HANDLES_PRIVILEGED,
                sites::CAPABILITY_VERSION,
                sites::AMBIENT_SET,
                sites::LAST_CAPABILITY,
            ],
        },
    },
    StartNeeds {
        runtime: Software::Runc,
        version: "1.3.2",
        versions: runc(Version::new(1, 3, 0), Version::new(1, 3, 3)),
        with_no_new_privs: Start {
            needs: &[RUNC, SINCE_RUNC_1_2, EPOLL],
            sites: &[sites::RUNC_1_1, sites::RUNC_BY_PATHS],
        },
        without_no_new_privs: Start {
            needs: &[
                RUNC,
                SINCE_RUNC_1_2,
                EPOLL,
                RUNC_PRIVILEGED,
                SINCE_RUNC_1_2_PRIVILEGED,
                RUNC_BY_PATHS_PRIVILEGED,
                READ_TO_SUCCEED,
            ],
            sites: &[
                sites::RUNC_1_1,
                sites::RUNC_BY_PATHS,
                sites::RUNC_1_1_PRIVILEGED,
                sites::RUNC_BY_PATHS_PRIVILEGED,
                sites::CAPABILITY_VERSION,
            ],
        },
    },
    StartNeeds {
        runtime: Software::Runc,
        version: "1.2.9",
        versions: runc(Version::new(1, 2, 8), Version::new(1, 3, 0)),
        with_no_new_privs: Start {
            needs: &[RUNC, SINCE_RUNC_1_2, RUNC_BY_HANDLES, GETPID],
            sites: &[sites::RUNC_BY_HANDLES],
        },
        without_no_new_privs: Start {
            needs: &[
                RUNC,
                SINCE_RUNC_1_2,
                RUNC_BY_HANDLES,
                RUNC_PRIVILEGED,
                SINCE_RUNC_1_2_PRIVILEGED,
            ],
            sites: &[
                sites::RUNC_BY_HANDLES,
                sites::RUNC_BY_HANDLES_PRIVILEGED,
                sites::RUNC_1_2_9,
            ],
        },
    },
    StartNeeds {
        runtime: Software::Runc,
        version: "1.2.6",
        versions: runc(Version::new(1, 2, 0), Version::new(1, 2, 8)),
        with_no_new_privs: Start {
            needs: &[RUNC, SINCE_RUNC_1_2, EPOLL, GETPID],
            sites: &[sites::RUNC_1_1, sites::RUNC_BY_PATHS],
        },
        without_no_new_privs: Start {
            needs: &[
                RUNC,
                SINCE_RUNC_1_2,
                EPOLL,
                RUNC_PRIVILEGED,
                SINCE_RUNC_1_2_PRIVILEGED,
                RUNC_BY_PATHS_PRIVILEGED,
            ],
            sites: &[
                sites::RUNC_1_1,
                sites::RUNC_BY_PATHS,
                sites::RUNC_1_1_PRIVILEGED,
                sites::RUNC_BY_PATHS_PRIVILEGED,
            ],
        },
    },
    StartNeeds {
        runtime: Software::Runc,
        version: "1.1.5",
        versions: Affected::before(Software::Runc, Version::new(1, 2, 0)),
        with_no_new_privs: Start {
            needs: &[RUNC, EPOLL, GETPID],
            sites: &[sites::RUNC_1_1],
        },
        without_no_new_privs: Start {
            needs: &[RUNC, EPOLL, RUNC_PRIVILEGED, RUNC_1_1_PRIVILEGED],
            sites: &[sites::RUNC_1_1, sites::RUNC_1_1_PRIVILEGED, sites::FCNTL_1_1],
        },
    },
    StartNeeds {
        runtime: Software::Crun,
        version: "1.21",
        versions: Affected::since(Software::Crun, Version::new(1, 9, 0)),
        with_no_new_privs: Start {
            needs: &[CRUN_RESTRICTED, CLOSE_RANGE],
            sites: &[sites::CRUN_RESTRICTED, sites::CLOSE_RANGE],
        },
        without_no_new_privs: Start {
            needs: &[CRUN_PRIVILEGED, CLOSE_RANGE],
            sites: &[sites::CRUN_RESTRICTED, sites::CLOSE_RANGE, sites::CRUN_PRIVILEGED],
        },
    },
    StartNeeds {
        runtime: Software::Crun,
        version: "1.8.1",
        versions: Affected::before(Software::Crun, Version::new(1, 9, 0)),
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
