//! Packets, in and out.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};

use super::message::MAX_REQUEST;

/// Receives one packet: what was kept of it, and its length. `None` at the end.
pub(super) fn receive(socket: BorrowedFd<'_>, most: usize) -> rustix::io::Result<Option<(Vec<u8>, usize)>> {
    let mut kept = Vec::with_capacity(most);
    let (_, length) = rustix::net::recv(
        socket,
        rustix::buffer::spare_capacity(&mut kept),
        RecvFlags::TRUNC | RecvFlags::DONTWAIT,
    )?;
    Ok(if length == 0 { None } else { Some((kept, length)) })
}

/// Sends one packet. Never waits: EAGAIN where the socket holds too much already.
pub(super) fn send(socket: BorrowedFd<'_>, packet: &[u8]) -> rustix::io::Result<()> {
    rustix::net::send(socket, packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).map(drop)
}

/// Gives a socket room for one packet of so many bytes, as far as this process may: beyond `net.core.wmem_max`
/// only with `CAP_NET_ADMIN` (socket(7)).
pub(super) fn make_room(socket: BorrowedFd<'_>, most: usize) -> rustix::io::Result<()> {
    // What has room already is left alone: setting could lower it, to a `wmem_max` below the default. Half of
    // the buffer is for the kernel's own records.
    if sockopt::socket_send_buffer_size(socket)? >= 2 * most {
        return Ok(());
    }
    sockopt::set_socket_send_buffer_size_force(socket, most)
        .or_else(|_| sockopt::set_socket_send_buffer_size(socket, most))
}

/// Why the kernel did not take a packet of so many bytes, where that says nothing about the socket and the next
/// one may go through (`unix_dgram_sendmsg` in Linux' `net/unix/af_unix.c`). `None` is any other error.
pub(super) fn not_taken(errno: Errno, bytes: usize) -> Option<String> {
    match errno {
        Errno::MSGSIZE => Some(format!(
            "{bytes} bytes do not fit into the buffer of a socket; raise the sysctl net.core.wmem_max to {} or \
             more, and start callgate again",
            2 * MAX_REQUEST
        )),
        Errno::NOBUFS | Errno::NOMEM => Some(format!("the kernel has no memory for {bytes} bytes now")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd as _, OwnedFd};

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    /// A pair whose first socket has the smallest buffer there is.
    fn narrow() -> (OwnedFd, OwnedFd) {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        sockopt::set_socket_send_buffer_size(&ours, 0).unwrap();
        (ours, theirs)
    }

    #[test]
    fn a_packet_beyond_the_buffer_is_not_taken_and_the_next_one_is() {
        let (ours, theirs) = narrow();
        let errno = send(ours.as_fd(), &vec![0; MAX_REQUEST]).unwrap_err();
        let reason = not_taken(errno, MAX_REQUEST).unwrap();
        assert!(reason.contains("net.core.wmem_max"), "{reason}");
        send(ours.as_fd(), b"small").unwrap();
        assert_eq!(receive(theirs.as_fd(), 64).unwrap(), Some((b"small".to_vec(), 5)));
    }

    #[test]
    fn the_loss_of_the_other_end_is_no_matter_of_one_packet() {
        let (ours, theirs) = narrow();
        drop(theirs);
        assert_eq!(not_taken(send(ours.as_fd(), b"small").unwrap_err(), 5), None);
    }

    #[test]
    fn room_is_made_for_the_largest_packet_and_never_taken_away() {
        let (ours, _theirs) = narrow();
        make_room(ours.as_fd(), 64 * 1024).unwrap();
        let room = sockopt::socket_send_buffer_size(&ours).unwrap();
        send(ours.as_fd(), &vec![0; 64 * 1024]).unwrap();
        make_room(ours.as_fd(), 1).unwrap();
        assert_eq!(sockopt::socket_send_buffer_size(&ours).unwrap(), room);
    }
}
