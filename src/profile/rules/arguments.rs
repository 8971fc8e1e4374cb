//! What the kernel makes of arguments: the ones of which it reads 32 bits, the ones that are addresses, and the calls
//! that 32-bit programs make through another.
//!
//! Of calls that profiles put conditions on, not of all. Source: the `SYSCALL_DEFINE` of each call in Linux 6.18, and
//! section 2 of the manual pages.

use super::super::model::Architecture;
use super::super::syscalls;

/// Arguments of a 32-bit type, such as `int`, and descriptors, which are cut to one: the kernel does not look at the upper
/// half of the register.
const NARROW: [(&str, &[u8]); 86] = [
    ("accept4", &[0, 3]),
    ("arch_prctl", &[0]),
    ("bind", &[0, 2]),
    ("bpf", &[0, 2]),
    ("clock_adjtime", &[0]),
    ("clock_gettime", &[0]),
    ("clock_settime", &[0]),
    ("close", &[0]),
    ("close_range", &[0, 1, 2]),
    ("connect", &[0, 2]),
    ("dup", &[0]),
    ("dup2", &[0, 1]),
    ("dup3", &[0, 1, 2]),
    ("epoll_ctl", &[0, 1, 2]),
    ("execveat", &[0, 4]),
    ("fallocate", &[0, 1]),
    ("fanotify_init", &[0, 1]),
    ("fchdir", &[0]),
    ("fchmod", &[0, 1]),
    ("fchown", &[0, 1, 2]),
    ("fcntl", &[0, 1]),
    ("fcntl64", &[0, 1]),
    ("fdatasync", &[0]),
    ("flock", &[0, 1]),
    ("fsopen", &[1]),
    ("fstat", &[0]),
    ("fstatfs", &[0]),
    ("fsync", &[0]),
    ("ftruncate", &[0]),
    ("futex", &[1, 2, 5]),
    ("getdents64", &[0]),
    ("getpriority", &[0, 1]),
    ("getsockopt", &[0, 1, 2]),
    ("ioctl", &[0, 1]),
    ("io_uring_enter", &[0, 1, 2, 3]),
    ("io_uring_register", &[0, 1, 3]),
    ("io_uring_setup", &[0]),
    ("keyctl", &[0]),
    ("kill", &[0, 1]),
    ("landlock_restrict_self", &[0, 1]),
    ("listen", &[0, 1]),
    ("lseek", &[0, 2]),
    ("madvise", &[2]),
    ("memfd_create", &[1]),
    ("mlock2", &[2]),
    ("modify_ldt", &[0]),
    ("mount_setattr", &[0, 2]),
    ("open", &[1]),
    ("openat", &[0, 2]),
    ("perf_event_open", &[1, 2, 3]),
    ("personality", &[0]),
    ("pidfd_getfd", &[0, 1, 2]),
    ("pidfd_open", &[0, 1]),
    ("pidfd_send_signal", &[0, 1, 3]),
    ("prctl", &[0]),
    ("pread64", &[0]),
    ("preadv", &[0]),
    ("pwrite64", &[0]),
    ("pwritev", &[0]),
    ("quotactl", &[0]),
    ("read", &[0]),
    ("readv", &[0]),
    ("reboot", &[0, 1, 2]),
    ("recvfrom", &[0, 3]),
    ("recvmsg", &[0, 2]),
    ("renameat2", &[0, 2, 4]),
    ("rt_sigqueueinfo", &[0, 1]),
    ("seccomp", &[0, 1]),
    ("sendfile", &[0, 1]),
    ("sendmsg", &[0, 2]),
    ("sendto", &[0, 3, 5]),
    ("setns", &[0, 1]),
    ("setpriority", &[0, 1, 2]),
    ("setsockopt", &[0, 1, 2, 4]),
    ("shutdown", &[0, 1]),
    ("socket", &[0, 1, 2]),
    ("socketpair", &[0, 1, 2]),
    ("statx", &[0, 2, 3]),
    ("syslog", &[0, 2]),
    ("tgkill", &[0, 1, 2]),
    ("timer_create", &[0]),
    ("tkill", &[0, 1]),
    ("unlinkat", &[0, 2]),
    ("userfaultfd", &[0]),
    ("write", &[0]),
    ("writev", &[0]),
];

/// Arguments that are addresses.
const POINTERS: [(&str, &[u8]); 70] = [
    ("access", &[0]),
    ("acct", &[0]),
    ("bind", &[1]),
    ("bpf", &[1]),
    ("chdir", &[0]),
    ("chmod", &[0]),
    ("chown", &[0]),
    ("chroot", &[0]),
    ("clone3", &[0]),
    ("connect", &[1]),
    ("creat", &[0]),
    ("delete_module", &[0]),
    ("execve", &[0, 1, 2]),
    ("execveat", &[1, 2, 3]),
    ("faccessat", &[1]),
    ("faccessat2", &[1]),
    ("fchmodat", &[1]),
    ("fchmodat2", &[1]),
    ("fchownat", &[1]),
    ("finit_module", &[1]),
    ("fsopen", &[0]),
    ("getxattr", &[0, 1, 2]),
    ("init_module", &[0, 2]),
    ("lchown", &[0]),
    ("link", &[0, 1]),
    ("linkat", &[1, 3]),
    ("lstat", &[0, 1]),
    ("memfd_create", &[0]),
    ("mkdir", &[0]),
    ("mkdirat", &[1]),
    ("mknod", &[0]),
    ("mknodat", &[1]),
    ("mount", &[0, 1, 2, 4]),
    ("mount_setattr", &[1, 3]),
    ("move_mount", &[1, 3]),
    ("name_to_handle_at", &[1, 2, 3]),
    ("newfstatat", &[1, 2]),
    ("open", &[0]),
    ("openat", &[1]),
    ("openat2", &[1, 2]),
    ("open_by_handle_at", &[1]),
    ("open_tree", &[1]),
    ("perf_event_open", &[0]),
    ("pivot_root", &[0, 1]),
    ("read", &[1]),
    ("readlink", &[0, 1]),
    ("readlinkat", &[1, 2]),
    ("recvfrom", &[1, 4, 5]),
    ("recvmsg", &[1]),
    ("rename", &[0, 1]),
    ("renameat", &[1, 3]),
    ("renameat2", &[1, 3]),
    ("rmdir", &[0]),
    ("sendmsg", &[1]),
    ("sendto", &[1, 4]),
    ("sethostname", &[0]),
    ("setxattr", &[0, 1, 2]),
    ("socketcall", &[1]),
    ("stat", &[0, 1]),
    ("statfs", &[0, 1]),
    ("statx", &[1, 4]),
    ("swapon", &[0]),
    ("symlink", &[0, 1]),
    ("symlinkat", &[0, 2]),
    ("truncate", &[0]),
    ("umount", &[0]),
    ("umount2", &[0]),
    ("unlink", &[0]),
    ("unlinkat", &[1]),
    ("write", &[1]),
];

/// Calls that can also be made through `socketcall`. Source: socketcall(2).
const SOCKET_CALLS: [&str; 20] = [
    "accept",
    "accept4",
    "bind",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "recv",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "send",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socket",
    "socketpair",
];

/// Calls that can also be made through `ipc`. Source: ipc(2).
const IPC_CALLS: [&str; 12] = [
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
];

fn holds(table: &[(&str, &[u8])], name: &str, argument: u8) -> bool {
    let arguments = table.iter().find(|(call, _)| *call == name);
    arguments.is_some_and(|(_, arguments)| arguments.contains(&argument))
}

/// Whether the kernel reads 32 bits of this argument.
pub(super) fn is_narrow(name: &str, argument: u8) -> bool {
    holds(&NARROW, name, argument)
}

/// Whether this argument is an address.
pub(super) fn is_pointer(name: &str, argument: u8) -> bool {
    holds(&POINTERS, name, argument)
}

/// The call through which this one can be made as well, on architectures that have it.
pub(crate) fn multiplexer(name: &str) -> Option<&'static str> {
    if SOCKET_CALLS.contains(&name) {
        Some("socketcall")
    } else if IPC_CALLS.contains(&name) {
        Some("ipc")
    } else {
        None
    }
}

/// Whether an architecture has this call, with a number of its own.
pub(super) fn is_call(name: &str, architecture: Architecture) -> bool {
    syscalls::lookup(name).is_some_and(|call| call.number(architecture).is_some())
}

/// Whether programs of an architecture can make this call through a multiplexer.
pub(super) fn is_multiplexed(name: &str, architecture: Architecture) -> bool {
    multiplexer(name).is_some_and(|through| is_call(through, architecture))
}

/// Whether programs of an architecture can make this call in any way.
pub(super) fn is_made_on(name: &str, architecture: Architecture) -> bool {
    is_call(name, architecture) || is_multiplexed(name, architecture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_name_system_calls_once_and_arguments_that_exist() {
        for table in [&NARROW[..], &POINTERS[..]] {
            let names: std::collections::BTreeSet<_> = table.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), table.len());
            for (name, arguments) in table {
                assert!(syscalls::lookup(name).is_some(), "{name}");
                assert!(
                    arguments.is_sorted() && arguments.iter().all(|argument| *argument < 6),
                    "{name}"
                );
            }
        }
        for name in SOCKET_CALLS.iter().chain(&IPC_CALLS) {
            assert!(syscalls::lookup(name).is_some(), "{name}");
        }
    }

    #[test]
    fn no_argument_is_both_a_number_of_32_bits_and_an_address() {
        for (name, arguments) in NARROW {
            assert!(
                !arguments.iter().any(|argument| is_pointer(name, *argument)),
                "{name}"
            );
        }
    }
}
