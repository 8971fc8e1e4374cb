//! Fork, wait, limits, descriptors, seccomp(2): each system call that has no safe form, wrapped once.
#![expect(
    unsafe_code,
    reason = "the standard library and rustix have no safe form of these system calls"
)]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::ptr;

use rustix::process::Pid;

use crate::filter::Program;

/// Where one process became two.
#[derive(Debug)]
pub(super) enum Forked {
    Parent(Pid),
    Child,
}

/// Forks.
pub(super) fn fork() -> io::Result<Forked> {
    // SAFETY: the fork server, and each test that forks, does so on the only thread that holds locks or heap
    // state the child goes on to use; glibc keeps its allocator usable across fork().
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child),
        pid => Pid::from_raw(pid)
            .filter(|_| pid > 0)
            .map(Forked::Parent)
            .ok_or_else(io::Error::last_os_error),
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Exited(i32),
    Killed(i32),
}

/// A child that is no more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) pid: Pid,
    pub(super) end: End,
    /// The most memory it had resident, in bytes.
    pub(super) peak_memory: u64,
}

/// Takes the next child that has ended, if one has.
pub(super) fn reap() -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: all-zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals of the right type.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
    match pid {
        -1 => {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::ECHILD) {
                Ok(None)
            } else {
                Err(error)
            }
        }
        pid => Ok(Pid::from_raw(pid).map(|pid| Ended {
            pid,
            end: if libc::WIFEXITED(status) {
                End::Exited(libc::WEXITSTATUS(status))
            } else {
                End::Killed(libc::WTERMSIG(status))
            },
            // In KiB (getrusage(2)).
            peak_memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        })),
    }
}

/// Ends this process at once: no destructors, no buffers, no exit handlers of the parent it was forked from.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: always sound; it does not return.
    unsafe { libc::_exit(code) }
}

/// Has the kernel send SIGALRM to this process in so many seconds.
pub(super) fn alarm(seconds: u32) {
    // SAFETY: takes and returns a number.
    unsafe { libc::alarm(seconds) };
}

/// Closes every descriptor from `first` on. Linux 5.9.
pub(super) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: called where no owner of such a descriptor is used again: at the beginning of the server, which
    // owns nothing yet, and in children, which leave by `exit_now`.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A descriptor that becomes readable when a child has ended. SIGCHLD is blocked from here on, in children too.
pub(super) fn child_signals() -> io::Result<OwnedFd> {
    let set = block(&[libc::SIGCHLD])?;
    // SAFETY: `set` is initialised and outlives the call.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// From here on a fault ends the process, without asking a handler and without a line in the kernel's log.
///
/// A forced signal that is blocked does that. The standard library's own handler of SIGSEGV would instead reset
/// itself by `rt_sigaction(2)` and return, for ever where a filter denies that.
pub(super) fn die_of_faults() -> io::Result<()> {
    block(&[libc::SIGSEGV, libc::SIGBUS]).map(drop)
}

/// Blocks these, and returns them as a set.
fn block(signals: &[i32]) -> io::Result<libc::sigset_t> {
    // SAFETY: all-zero is a valid `sigset_t`, and `sigemptyset` makes it an empty one.
    let mut set = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        set
    };
    for signal in signals {
        // SAFETY: `set` is initialised and outlives the call.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    // SAFETY: `set` is initialised and outlives the call; the old mask is not asked for.
    match unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) } {
        0 => Ok(set),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives a program to the kernel, as the filter of this thread (seccomp(2), `SECCOMP_SET_MODE_FILTER`). Returns
/// what the call returned: a descriptor with `SECCOMP_FILTER_FLAG_NEW_LISTENER`, otherwise 0. The thread needs
/// `no_new_privs`. Allocates nothing after the call.
pub(super) fn load_filter(program: &Program, flags: u64) -> Result<i32, i32> {
    let bytes = program.as_bytes();
    // The kernel copies the program from any address; the type of the pointer is of no account.
    let description = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(u16::MAX),
        filter: bytes.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `description` and the bytes it points to outlive the call, which reads `len` instructions of 8
    // bytes; a `Program` has at most 4,096, and that many bytes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const description,
        )
    };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)),
    }
}
