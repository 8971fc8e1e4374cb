//! What the fork server and its children may still do. Written as profiles, and compiled as any other.

use std::io;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope,
};
use rustix::process::{Resource, Rlimit, Signal};

use super::{Limits, process};
use crate::confine::{give_up_capabilities, protect_memory};
use crate::filter::{self, CompileError, Program};
use crate::profile::{Action, Condition, Operator, Profile, Rule};

/// Why a process could not be confined.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfineError {
    #[error("{0}: {1}")]
    Call(&'static str, #[source] io::Error),
    #[error("Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    #[error("its own seccomp filter: {0}")]
    Compile(#[from] CompileError),
    #[error("seccomp(2): {}", io::Error::from_raw_os_error(*.0))]
    Load(i32),
}

/// Confines the fork server for good. What a child needs before its own, stricter filter is among what is
/// left. Returns that stricter filter.
pub(super) fn confine_server() -> Result<Program, ConfineError> {
    let step = |what| move |errno: rustix::io::Errno| ConfineError::Call(what, errno.into());
    protect_memory().map_err(|error| ConfineError::Call("PR_SET_DUMPABLE", error))?;

    // Asks the kernel by seccomp(2), which children may not.
    filter::detect_features();
    filter::prepare();
    let for_server = filter::compile(&allow_list(SERVER))?.program;
    let for_children = filter::compile(&allow_list(CHILD))?.program;

    for (resource, limit) in [
        (Resource::Core, 0),
        (Resource::Nofile, 16),
        (Resource::Fsize, 1024 * 1024),
    ] {
        set_limit(resource, limit, limit).map_err(step("setrlimit"))?;
    }
    give_up_capabilities().map_err(step("capset"))?;
    rustix::thread::set_no_new_privs(true).map_err(step("PR_SET_NO_NEW_PRIVS"))?;
    landlock()?;
    process::load_filter(&for_server, 0).map_err(ConfineError::Load)?;
    Ok(for_children)
}

/// Limits a child that was just forked from the server `parent`, and ties it to it.
pub(super) fn limit_child(
    parent: rustix::process::Pid,
    address_space: u64,
    limits: &Limits,
) -> Result<(), ConfineError> {
    let step = |what| move |errno: rustix::io::Errno| ConfineError::Call(what, errno.into());
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(step("PR_SET_PDEATHSIG"))?;
    if rustix::process::getppid() != Some(parent) {
        // It ended before the signal was set.
        process::exit_now(1);
    }
    process::close_from(0).map_err(|error| ConfineError::Call("close_range", error))?;
    process::alarm(limits.wall_seconds);
    let cpu = u64::from(limits.cpu_seconds);
    // SIGXCPU at the first, SIGKILL at the second.
    set_limit(Resource::Cpu, cpu, cpu + 1).map_err(step("setrlimit"))?;
    let memory = address_space.saturating_add(limits.memory_bytes);
    set_limit(Resource::As, memory, memory).map_err(step("setrlimit"))?;
    Ok(())
}

fn set_limit(resource: Resource, current: u64, maximum: u64) -> rustix::io::Result<()> {
    rustix::process::setrlimit(
        resource,
        Rlimit {
            current: Some(current),
            maximum: Some(maximum),
        },
    )
}

/// The second layer: no file, no TCP port, no abstract socket, no signal to the outside, as far as this kernel
/// knows Landlock.
pub(super) fn landlock() -> Result<(), ConfineError> {
    // The newest version that was read for this; an older kernel does what it can.
    let abi = ABI::V7;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(())
}

/// One entry of an allow-list.
enum Allowed {
    /// Whatever the arguments.
    Always(&'static str),
    /// With this value as that argument.
    With(&'static str, u8, u64),
    /// With none of these bits in that argument.
    Without(&'static str, u8, u64),
}

use Allowed::{Always, With, Without};

const PROT_EXEC: u64 = libc::PROT_EXEC as u64;
/// What a fork does not need: threads, shared memory, namespaces.
const NO_FORK: u64 = (libc::CLONE_VM
    | libc::CLONE_FILES
    | libc::CLONE_THREAD
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Memory, one anonymous file to export a filter to, and the end.
const CHILD: &[Allowed] = &[
    Always("brk"),
    Without("mmap", 2, PROT_EXEC),
    Without("mmap2", 2, PROT_EXEC),
    Always("munmap"),
    Always("mremap"),
    Always("madvise"),
    Always("memfd_create"),
    Always("write"),
    Always("read"),
    Always("lseek"),
    Always("_llseek"),
    Always("close"),
    With("fcntl", 1, libc::F_GETFD as u64),
    With("fcntl64", 1, libc::F_GETFD as u64),
    Always("getrandom"),
    Always("clock_gettime"),
    Always("clock_gettime64"),
    Always("futex"),
    Always("sched_yield"),
    Always("getpid"),
    Always("gettid"),
    Always("rt_sigreturn"),
    Always("restart_syscall"),
    Always("exit"),
    Always("exit_group"),
];

/// Beside [`CHILD`]'s: talk on the socket, fork and reap, and what a child does before its own filter.
const SERVER: &[Allowed] = &[
    Always("poll"),
    Always("ppoll"),
    Always("recvfrom"),
    Always("sendto"),
    Always("fork"),
    Without("clone", 0, NO_FORK),
    Always("wait4"),
    Without("mprotect", 2, PROT_EXEC),
    Always("set_robust_list"),
    Always("rseq"),
    Always("rt_sigprocmask"),
    Always("getppid"),
    With("prctl", 0, libc::PR_SET_PDEATHSIG as u64),
    Always("close_range"),
    Always("alarm"),
    Always("setitimer"),
    With("prlimit64", 0, 0),
    Always("setrlimit"),
    With("seccomp", 0, libc::SECCOMP_SET_MODE_FILTER as u64),
];

/// Everything else fails with EPERM, so that what a newer C library would rather use is refused, not fatal.
fn allow_list(list: &'static [Allowed]) -> Profile {
    let common: &[Allowed] = if std::ptr::eq(list, CHILD) { &[] } else { CHILD };
    let rule = |allowed: &Allowed| {
        let condition = |index, value, value_two, op| {
            vec![Condition {
                index,
                value,
                value_two,
                op,
            }]
        };
        let (name, args) = match *allowed {
            Always(name) => (name, vec![]),
            With(name, index, value) => (name, condition(index, value, None, Operator::Equal)),
            Without(name, index, mask) => (name, condition(index, mask, Some(0), Operator::MaskedEqual)),
        };
        Rule {
            names: vec![name.to_owned()],
            action: Action::Allow,
            errno_ret: None,
            args,
        }
    };
    Profile {
        default_action: Action::Errno,
        default_errno_ret: None,
        architectures: vec![],
        flags: vec![],
        listener_path: None,
        listener_metadata: None,
        syscalls: common.iter().chain(list).map(rule).collect(),
    }
}
