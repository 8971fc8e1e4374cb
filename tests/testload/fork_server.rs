//! A fork server of the real program, for the tests of what is built on it.

use std::path::Path;
use std::time::Duration;

use callgate::testload::{Client, ForkServer, Limits};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_callgate");
/// Long enough for anything that should happen at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A client, and the process of its first fork server.
pub(crate) fn start_program(program: &Path, limits: Limits) -> (Client, u32) {
    let server = ForkServer::start_program(program, limits).unwrap();
    let pid = server.pid();
    (Client::new(server), pid)
}

/// Ends a server, or a child of one.
pub(crate) fn kill(pid: u32) {
    // It may be gone by now.
    _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
}
