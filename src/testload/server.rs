//! The fork server itself: one thread that reads requests, forks children, and reaps and judges them.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SocketType, sockopt};
use rustix::process::Pid;

use super::judge::{self, Next};
use super::message::{Compiled, MAX_REQUEST, Outcome, Reply, Request};
use super::packet::{not_taken, receive, send};
use super::process::{self, Ended, Forked};
use super::region::Region;
use super::{Limits, sandbox, worker};
use crate::filter::Program;

/// The server. Standard input is its socket; it ends with the other end of it.
///
/// Nothing but this may run in the process. Where standard input is no such socket, it says so and ends with 2.
pub fn serve() -> ! {
    let stdin = io::stdin();
    let socket = stdin.as_fd();
    if sockopt::socket_type(socket) != Ok(SocketType::SEQPACKET) {
        // There may be nobody to read it.
        _ = writeln!(
            io::stderr(),
            "callgate fork-server is not to be run by hand: the other subcommands start it, with a socket as its \
             standard input"
        );
        process::exit_now(2);
    }
    let code = match Server::new(socket) {
        Ok(mut server) => match server.say(&Reply::Ready).and_then(|()| server.run()) {
            Ok(()) => 0,
            Err(_) => 1,
        },
        Err(reason) => {
            _ = say(socket, &Reply::Broken(reason));
            1
        }
    };
    process::exit_now(code)
}

struct Server<'a> {
    socket: BorrowedFd<'a>,
    /// Readable when a child has ended.
    ended: OwnedFd,
    limits: Limits,
    pid: Pid,
    /// Its own, in bytes; children may have the limit on top.
    address_space: u64,
    for_children: Program,
    /// As many as there are children.
    jobs: Vec<Job>,
}

/// A child at work.
struct Job {
    pid: Pid,
    id: u64,
    region: Region,
    stage: Stage,
}

enum Stage {
    Compile { profile: Vec<u8>, again: bool },
    Load { compiled: Compiled, flags: u64 },
}

impl<'a> Server<'a> {
    fn new(socket: BorrowedFd<'a>) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        process::close_from(1)
            .map_err(|error| format!("close_range(2), which Linux 5.9 brought: {error}"))?;
        wait(&mut [PollFd::new(&socket, PollFlags::IN)]).map_err(|errno| text(&errno))?;
        let (limits, _) = receive(socket, 1024)
            .map_err(|errno| text(&errno))?
            .ok_or("nobody is there")?;
        let limits: Limits = serde_json::from_slice(&limits).map_err(|error| format!("limits: {error}"))?;
        let address_space = address_space().map_err(|error| format!("/proc/self/statm: {error}"))?;
        let ended = process::child_signals().map_err(|error| format!("signalfd(2): {error}"))?;
        let for_children = sandbox::confine_server().map_err(|error| text(&error))?;
        Ok(Self {
            socket,
            ended,
            limits,
            pid: rustix::process::getpid(),
            address_space,
            for_children,
            jobs: Vec::new(),
        })
    }

    /// Until the client is gone.
    fn run(&mut self) -> rustix::io::Result<()> {
        loop {
            let free = self.jobs.len() < self.limits.children as usize;
            let requests = if free { PollFlags::IN } else { PollFlags::empty() };
            let mut ready = [
                PollFd::new(&self.socket, requests),
                PollFd::new(&self.ended, PollFlags::IN),
            ];
            wait(&mut ready)?;
            let [asked, ended] = ready.map(|fd| fd.revents());
            if !ended.is_empty() {
                self.reap()?;
            }
            if asked.contains(PollFlags::IN) {
                let Some((kept, length)) = receive(self.socket, MAX_REQUEST)? else {
                    return Ok(());
                };
                self.accept(&kept, length)?;
            } else if !asked.is_empty() {
                return Ok(());
            }
        }
    }

    fn accept(&mut self, kept: &[u8], length: usize) -> rustix::io::Result<()> {
        match Request::decode(kept, length) {
            Ok(Request { id, profile }) => self.start(
                id,
                Start::Compile {
                    profile,
                    again: false,
                },
            ),
            Err(reason) => self.say(&Reply::Malformed(reason)),
        }
    }

    fn reap(&mut self) -> rustix::io::Result<()> {
        // One record says that there is something to reap, and several ends may share one.
        let mut records = [0; 1024];
        match rustix::io::read(&self.ended, &mut records) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
            Err(errno) => return Err(errno),
        }
        while let Ok(Some(ended)) = process::reap() {
            if let Some(at) = self.jobs.iter().position(|job| job.pid == ended.pid) {
                let job = self.jobs.swap_remove(at);
                self.advance(job, &ended)?;
            }
        }
        Ok(())
    }

    fn advance(
        &mut self,
        Job {
            id, region, stage, ..
        }: Job,
        ended: &Ended,
    ) -> rustix::io::Result<()> {
        let said = region.read();
        drop(region);
        match stage {
            Stage::Compile { profile, again } => {
                match judge::compiled(ended, said.as_deref(), again, &self.limits) {
                    Next::Answer(outcome) => self.say(&Reply::Done { id, outcome }),
                    Next::Again => self.start(id, Start::Compile { profile, again: true }),
                    Next::Load {
                        program,
                        flags,
                        compiled,
                    } => self.start(
                        id,
                        Start::Load {
                            program,
                            flags,
                            compiled,
                        },
                    ),
                }
            }
            Stage::Load { compiled, flags } => {
                let outcome = judge::loaded(ended, said.as_deref(), compiled, flags);
                self.say(&Reply::Done { id, outcome })
            }
        }
    }

    /// Forks a child for a request, or answers it.
    fn start(&mut self, id: u64, start: Start) -> rustix::io::Result<()> {
        match self.fork(start) {
            Ok((pid, region, stage)) => {
                self.jobs.push(Job {
                    pid,
                    id,
                    region,
                    stage,
                });
                Ok(())
            }
            Err(error) => {
                let outcome = Outcome::Unknown(format!("cannot fork a child: {error}"));
                self.say(&Reply::Done { id, outcome })
            }
        }
    }

    fn fork(&self, start: Start) -> io::Result<(Pid, Region, Stage)> {
        let region = Region::new()?;
        let limit = || sandbox::limit_child(self.pid, self.address_space, &self.limits);
        let pid = match process::fork()? {
            Forked::Parent(pid) => pid,
            Forked::Child => match start {
                Start::Compile { profile, .. } => {
                    worker::compile(&region, &profile, &self.for_children, limit)
                }
                Start::Load { program, flags, .. } => worker::load(&region, &program, flags, limit),
            },
        };
        region.close_to_others()?;
        Ok((
            pid,
            region,
            match start {
                Start::Compile { profile, again } => Stage::Compile { profile, again },
                Start::Load { compiled, flags, .. } => Stage::Load { compiled, flags },
            },
        ))
    }

    fn say(&self, reply: &Reply) -> rustix::io::Result<()> {
        say(self.socket, reply)
    }
}

/// What a child is to do.
enum Start {
    Compile {
        profile: Vec<u8>,
        again: bool,
    },
    Load {
        program: Program,
        flags: u64,
        compiled: Compiled,
    },
}

/// A client that does not listen has more to read than it has asked for, and loses its server.
fn say(socket: BorrowedFd<'_>, reply: &Reply) -> rustix::io::Result<()> {
    let packet = reply.encode();
    match (send(socket, &packet), reply) {
        (Err(errno), Reply::Done { id, .. }) => {
            let reason = not_taken(errno, packet.len()).ok_or(errno)?;
            let outcome = Outcome::Unknown(format!("cannot hand the answer back: {reason}"));
            send(socket, &Reply::Done { id: *id, outcome }.encode())
        }
        (sent, _) => sent,
    }
}

fn wait(fds: &mut [PollFd<'_>]) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| poll(fds, None))?;
    Ok(())
}

/// Of this process, in bytes (`proc_pid_statm(5)`: the first number, in pages).
fn address_space() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm
        .split(' ')
        .next()
        .and_then(|pages| pages.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * rustix::param::page_size() as u64)
}
