//! Packets, in and out.

use std::os::fd::BorrowedFd;

use rustix::net::{RecvFlags, SendFlags};

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
