//! What the kernel makes of arguments: the ones of which it does not read all bits, the ones that are addresses, and the calls
//! that 32-bit programs make through another.
//!
//! Of calls that profiles put conditions on, not of all. Source: the `SYSCALL_DEFINE` of each call in Linux 6.18, and
//! section 2 of the manual pages.

mod narrow;

use super::super::model::Architecture;
use super::super::syscalls;

pub(super) use narrow::bits_read;

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

/// Whether this argument is an address.
pub(super) fn is_pointer(name: &str, argument: u8) -> bool {
    let arguments = POINTERS.iter().find(|(call, _)| *call == name);
    arguments.is_some_and(|(_, arguments)| arguments.contains(&argument))
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
        let names: std::collections::BTreeSet<_> = POINTERS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), POINTERS.len());
        for (name, arguments) in POINTERS {
            assert!(syscalls::lookup(name).is_some(), "{name}");
            assert!(
                arguments.is_sorted() && arguments.iter().all(|argument| *argument < 6),
                "{name}"
            );
        }
        for name in SOCKET_CALLS.iter().chain(&IPC_CALLS) {
            assert!(syscalls::lookup(name).is_some(), "{name}");
        }
    }
}
