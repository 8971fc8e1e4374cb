//! What the kernel makes of arguments: the ones of which it does not read all bits, the ones that are addresses, and the calls
//! that 32-bit programs make through another.
//!
//! Sources: the prototypes of each call in Linux, which the tables name, and section 2 of the manual pages.

mod narrow;
mod pointer;

use super::super::model::Architecture;
use super::super::syscalls;

pub(super) use narrow::{bits_read, cut_to_16_bits};
pub(super) use pointer::{depends_on_request, is_pointer};

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

/// The calls that can be made through a multiplexer; of another name none.
pub(super) fn calls_through(multiplexer: &str) -> &'static [&'static str] {
    match multiplexer {
        "socketcall" => &SOCKET_CALLS,
        "ipc" => &IPC_CALLS,
        _ => &[],
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
    fn what_is_made_through_a_multiplexer_are_system_calls_of_their_own() {
        for through in ["socketcall", "ipc"] {
            assert!(!calls_through(through).is_empty());
            for name in calls_through(through) {
                assert!(syscalls::lookup(name).is_some(), "{name}");
                assert_eq!(multiplexer(name), Some(through));
            }
        }
        assert_eq!(calls_through("socket"), [""; 0]);
    }
}
