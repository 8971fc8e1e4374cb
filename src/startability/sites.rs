//! What runtimes pass to the calls that they need. Of calls that are not here nothing is known.
//!
//! Source: the registers of every call between the loading of the filter and execve(2), as `strace -f -e raw=all` shows
//! them of `create` and `start`, on x86-64, Linux 6.18: three starts each as uid 0 and as uid 1000, with and without
//! `no_new_privs`, and two each of the versions between the oldest and the newest. They are of the same origin as those of
//! the needs. Go passes `AT_FDCWD` with 64 bits.

use super::Site;
use super::call::Argument::{self, Address, Any, Descriptor, Is, Standard};

/// `AT_FDCWD`, -100, as Go passes it: signed, in a whole register.
const HERE: Argument = Is(0xffff_ffff_ffff_ff9c);

/// A call with what is passed to it.
macro_rules! site {
    ($name:literal: $($argument:expr),+) => {
        Site::new($name, &[$($argument),+])
    };
}

/// Of each runc since 1.2.8 but 1.3.0 to 1.3.2, with `no_new_privs` and without.
pub(super) const RUNC_BY_HANDLES: &[Site] = &[
    site!("close": Descriptor).decides(),
    site!("execve": Address, Address, Address).decides(),
    site!("fcntl": Descriptor, Is(3), Is(0)),
    site!("fstat": Descriptor, Address).decides(),
    site!("fstatfs": Descriptor, Address).decides(),
    site!("futex": Address, Is(0x80)),
    site!("futex": Address, Is(0x81), Is(1)),
    site!("getdents64": Descriptor, Address, Is(0x2000)).decides(),
    site!("openat": Descriptor, Address, Is(0x80001), Is(0)).decides(),
    site!("openat": Descriptor, Address, Is(0x90000), Is(0)).decides(),
    site!("openat2": HERE, Address, Address, Is(0x18)),
    site!("openat2": Descriptor, Address, Address, Is(0x18)),
    site!("statx": Descriptor, Address, Is(0x1100), Is(0x5000), Address).decides(),
    site!("write": Descriptor, Address, Is(1)).decides(),
];

/// Of the same, without `no_new_privs` alone.
pub(super) const RUNC_BY_HANDLES_PRIVILEGED: &[Site] = &[
    site!("capget": Address, Address).decides(),
    site!("capset": Address, Address).decides(),
    site!("chdir": Address).decides(),
    site!("close_range": Descriptor, Any, Is(4)),
    site!("faccessat2": HERE, Address, Is(1), Is(0x200)).decides(),
    site!("fchown": Standard).decides(),
    site!("fcntl": Standard, Is(0x406), Is(0)),
    site!("fstat": Standard, Address).decides(),
    site!("getcwd": Address, Is(0x1000)).decides(),
    site!("newfstatat": HERE, Address, Address, Is(0)).decides(),
    site!("openat": Descriptor, Address, Is(0x80000), Is(0)).decides(),
    site!("prctl": Is(8), Is(0)).decides(),
    site!("prctl": Is(8), Is(1)).decides(),
    site!("prctl": Is(0x18)).decides(),
    site!("read": Descriptor, Address).decides(),
    site!("setgroups": Any, Address).decides(),
    site!("tgkill": Any, Any, Is(0x21)),
];

/// Of each runc since 1.3, without `no_new_privs`: the version of capabilities that the kernel has.
pub(super) const CAPABILITY_VERSION: &[Site] = &[site!("capget": Address, Is(0)).decides()];

/// Of each runc since 1.3.4, without `no_new_privs`.
pub(super) const AMBIENT_SET: &[Site] = &[site!("prctl": Is(0x2f)).decides()];

/// Of some runc since 1.3.4, without `no_new_privs`: a file that it reads with Go's poller.
pub(super) const LAST_CAPABILITY: &[Site] = &[
    site!("epoll_ctl": Descriptor, Is(1), Descriptor, Address),
    site!("epoll_ctl": Descriptor, Is(2), Descriptor, Address),
    site!("fcntl": Descriptor, Is(4), Is(0x8800)),
    site!("openat": HERE, Address, Is(0x80000), Is(0)).decides(),
];

/// Of runc 1.4.4, without `no_new_privs`.
pub(super) const RUNC_1_4_4: &[Site] = &[
    site!("openat": HERE, Address, Is(0x80000), Is(0)),
    site!("prctl": Is(0x17)),
];

/// Of runc 1.2.9, without `no_new_privs`.
pub(super) const RUNC_1_2_9: &[Site] = &[
    site!("openat": HERE, Address, Is(0x80000), Is(0)),
    site!("prctl": Is(0x2f)),
];

/// Of each runc before those, with `no_new_privs` and without.
pub(super) const RUNC_1_1: &[Site] = &[
    site!("close": Descriptor).decides(),
    site!("epoll_ctl": Descriptor, Is(1), Descriptor, Address),
    site!("execve": Address, Address, Address).decides(),
    site!("fstatfs": Descriptor, Address).decides(),
    site!("futex": Address, Is(0x80)),
    site!("futex": Address, Is(0x81), Is(1)),
    site!("getdents64": Descriptor, Address, Is(0x2000)).decides(),
    site!("openat": HERE, Address, Is(0x80000), Is(0)).decides(),
    site!("openat": HERE, Address, Is(0x80001), Is(0)).decides(),
    site!("write": Descriptor, Address, Is(1)).decides(),
];

/// Of the same, without `no_new_privs` alone.
pub(super) const RUNC_1_1_PRIVILEGED: &[Site] = &[
    site!("capget": Address, Address).decides(),
    site!("capset": Address, Address).decides(),
    site!("chdir": Address).decides(),
    site!("faccessat2": HERE, Address, Is(1), Is(0x200)).decides(),
    site!("fchown": Standard).decides(),
    site!("fstat": Standard, Address).decides(),
    site!("fstat": Descriptor, Address),
    site!("getcwd": Address, Is(0x1000)).decides(),
    site!("newfstatat": HERE, Address, Address, Is(0)).decides(),
    site!("prctl": Is(8), Is(0)).decides(),
    site!("prctl": Is(8), Is(1)).decides(),
    site!("prctl": Is(0x18)).decides(),
    site!("prctl": Is(0x2f)),
    site!("read": Descriptor, Address).decides(),
    site!("setgroups": Any, Address).decides(),
];

/// Of runc 1.1.5, without `no_new_privs`.
pub(super) const FCNTL_1_1: &[Site] = &[site!("fcntl": Descriptor, Is(2), Is(1))];

/// Of runc 1.2.6 and 1.3.2, with `no_new_privs` and without.
pub(super) const RUNC_BY_PATHS: &[Site] = &[
    site!("fcntl": Descriptor, Is(3), Is(0)),
    site!("fcntl": Descriptor, Is(4), Is(0x8000)),
    site!("fcntl": Descriptor, Is(4), Is(0x8800)),
];

/// Of the same, without `no_new_privs` alone.
pub(super) const RUNC_BY_PATHS_PRIVILEGED: &[Site] = &[
    site!("close_range": Descriptor, Any, Is(4)),
    site!("fcntl": Standard, Is(0x406), Is(0)),
    site!("tgkill": Any, Any, Is(0x21)),
];

/// Of each crun, with `no_new_privs` and without.
pub(super) const CRUN_RESTRICTED: &[Site] = &[
    site!("close": Descriptor),
    site!("execve": Address, Address, Address).decides(),
];

/// Of crun 1.21, with `no_new_privs` and without.
pub(super) const CLOSE_RANGE: &[Site] = &[site!("close_range": Descriptor, Any, Is(0))];

/// Of each crun, without `no_new_privs` alone.
pub(super) const CRUN_PRIVILEGED: &[Site] = &[
    site!("capset": Address, Address).decides(),
    site!("prctl": Is(8), Is(1)).decides(),
    site!("prctl": Is(0x18)).decides(),
    site!("prctl": Is(0x2f), Is(4)),
    site!("pselect6": Any, Address, Is(0), Is(0), Is(0)).decides(),
    site!("read": Descriptor, Address, Is(1)).decides(),
    site!("rt_sigaction": Any, Address, Is(0), Is(8)).decides(),
    site!("rt_sigprocmask": Is(1), Address, Is(0), Is(8)).decides(),
    site!("write": Descriptor, Address, Is(8)).decides(),
];

/// Of youki 0.7.0, with `no_new_privs` and without. Whether it passes `AT_FDCWD` with 32 bits or 64 depends on its C
/// library.
pub(super) const YOUKI_RESTRICTED: &[Site] = &[
    site!("accept4": Descriptor, Address, Address, Is(0x80000)).decides(),
    site!("close": Descriptor).decides(),
    site!("connect": Descriptor, Address, Is(0x6e)),
    site!("execve": Address, Address, Address).decides(),
    site!("newfstatat": Any, Address, Address, Is(0)),
    site!("openat": Any, Address, Is(0x80000), Is(0)),
    site!("recvfrom": Descriptor, Address, Is(0x20), Is(0)).decides(),
    site!("sendmsg": Descriptor, Address, Is(0)).decides(),
    site!("socket": Is(1), Is(0x80801), Is(0)),
    site!("statx": Any, Address, Is(0), Is(0xfff), Address).decides(),
];

/// Of youki 0.7.0, without `no_new_privs` alone.
pub(super) const YOUKI_PRIVILEGED: &[Site] = &[
    site!("capget": Address, Address).decides(),
    site!("capset": Address, Address).decides(),
    site!("getcwd": Address, Is(0x200)).decides(),
    site!("prctl": Is(0x17)),
    site!("prctl": Is(0x18)),
];
