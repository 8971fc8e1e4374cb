//! What processes can and cannot do once confined or filtered: tried by children that try it.
#![expect(unsafe_code, reason = "misbehaviour needs raw system calls")]

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

use super::process::{self, Forked, exit_now, fork, load_filter};
use super::region::Region;
use super::sandbox::{confine_server, landlock, limit_child};
use super::{Limits, worker};
use crate::confine::{give_up_capabilities, protect_memory};
use crate::filter::{self, Program};
use crate::profile::{Action, Errno, Profile, Rule};

/// Runs this in a child. What it returns comes back, or how it ended without.
fn in_child(act: impl FnOnce() -> String) -> String {
    let region = Region::new().unwrap();
    match fork().unwrap() {
        Forked::Child => {
            // A failed assertion must not unwind into the test harness that this process is a copy of.
            let said = catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| "panicked".to_owned());
            region.write(said.as_bytes());
            exit_now(0)
        }
        Forked::Parent(child) => {
            let status = wait_for(child);
            region
                .read()
                .map_or_else(|| format!("{status:?}"), |said| String::from_utf8(said).unwrap())
        }
    }
}

fn wait_for(child: Pid) -> WaitStatus {
    waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap().1
}

/// The outcome of a raw system call: 0 for success, or its errno.
fn outcome(result: i64) -> i32 {
    if result >= 0 {
        0
    } else {
        io::Error::last_os_error().raw_os_error().unwrap()
    }
}

/// An argument as syscall(2) takes it: a whole register.
trait Word {
    fn word(self) -> i64;
}

impl Word for i32 {
    fn word(self) -> i64 {
        self.into()
    }
}

impl Word for u32 {
    fn word(self) -> i64 {
        self.into()
    }
}

impl Word for usize {
    fn word(self) -> i64 {
        self.cast_signed() as i64
    }
}

impl<T> Word for *const T {
    fn word(self) -> i64 {
        self.expose_provenance().word()
    }
}

impl<T> Word for *mut T {
    fn word(self) -> i64 {
        self.expose_provenance().word()
    }
}

macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: the arguments are numbers, null, or pointers to live values of this function.
        outcome(unsafe { libc::syscall(libc::$number $(, $argument.word())*) })
    };
}

/// What a process that was broken into might do to others: each attempt, and whether it went through.
fn misdeeds(victim: i32) -> Vec<(&'static str, i32)> {
    let mut buffer = [0_u8; 8];
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: 8,
    };
    let remote = libc::iovec {
        iov_base: (&raw const local).cast_mut().cast(),
        iov_len: 8,
    };
    let path = c"/etc/passwd".as_ptr();
    let none = ptr::null::<u8>();
    vec![
        ("openat", call!(SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY)),
        ("newfstatat", call!(SYS_statx, libc::AT_FDCWD, path, 0, 0, none)),
        (
            "unlinkat",
            call!(SYS_unlinkat, libc::AT_FDCWD, c"/tmp/no such file".as_ptr(), 0),
        ),
        ("socket", call!(SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0)),
        (
            "socketpair",
            call!(
                SYS_socketpair,
                libc::AF_UNIX,
                libc::SOCK_STREAM,
                0,
                buffer.as_mut_ptr()
            ),
        ),
        ("connect", call!(SYS_connect, 0, none, 0)),
        ("ptrace", call!(SYS_ptrace, libc::PTRACE_SEIZE, victim, 0, 0)),
        (
            "process_vm_readv",
            call!(
                SYS_process_vm_readv,
                victim,
                &raw const local,
                1,
                &raw const remote,
                1,
                0
            ),
        ),
        (
            "process_vm_writev",
            call!(
                SYS_process_vm_writev,
                victim,
                &raw const local,
                1,
                &raw const remote,
                1,
                0
            ),
        ),
        ("kill", call!(SYS_kill, victim, 0)),
        ("tgkill", call!(SYS_tgkill, victim, victim, 0)),
        ("pidfd_open", call!(SYS_pidfd_open, victim, 0)),
        ("execve", call!(SYS_execve, path, none, none)),
        ("unshare", call!(SYS_unshare, libc::CLONE_NEWUSER)),
        ("mount", call!(SYS_mount, none, c"/".as_ptr(), none, 0, none)),
        ("bpf", call!(SYS_bpf, 0, none, 0)),
        (
            "io_uring_setup",
            call!(SYS_io_uring_setup, 1, buffer.as_mut_ptr()),
        ),
        ("userfaultfd", call!(SYS_userfaultfd, 0)),
        (
            "dumpable again",
            call!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0),
        ),
        (
            "limits of others",
            call!(SYS_prlimit64, victim, libc::RLIMIT_CPU, none, none),
        ),
        (
            "executable memory",
            call!(
                SYS_mmap,
                0,
                4096,
                libc::PROT_READ | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0
            ),
        ),
        (
            "a thread",
            call!(
                SYS_clone,
                libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD,
                0,
                0,
                0,
                0
            ),
        ),
    ]
}

/// What a child of the server may not do either.
fn childish_misdeeds() -> Vec<(&'static str, i32)> {
    vec![
        ("fork", call!(SYS_clone, libc::SIGCHLD, 0, 0, 0, 0)),
        (
            "sendto",
            call!(SYS_sendto, 0, c"".as_ptr(), 0, 0, ptr::null::<u8>(), 0),
        ),
        ("recvfrom", call!(SYS_recvfrom, 0, ptr::null::<u8>(), 0, 0, 0, 0)),
        (
            "a later end",
            call!(
                SYS_setitimer,
                libc::ITIMER_REAL,
                ptr::null::<u8>(),
                ptr::null::<u8>()
            ),
        ),
        (
            "a higher limit",
            call!(
                SYS_prlimit64,
                0,
                libc::RLIMIT_CPU,
                ptr::null::<u8>(),
                ptr::null::<u8>()
            ),
        ),
        (
            "a life without parent",
            call!(SYS_prctl, libc::PR_SET_PDEATHSIG, 0, 0, 0, 0),
        ),
        (
            "a mask",
            call!(SYS_rt_sigprocmask, 0, ptr::null::<u8>(), ptr::null::<u8>(), 8),
        ),
        (
            "another filter",
            call!(SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, ptr::null::<u8>()),
        ),
    ]
}

fn not_refused(attempts: Vec<(&'static str, i32)>) -> String {
    let through: Vec<_> = attempts
        .into_iter()
        .filter(|(_, errno)| *errno != libc::EPERM)
        .collect();
    format!("not refused: {through:?}")
}

const ALL_REFUSED: &str = "not refused: []";

#[test]
fn the_server_can_reach_no_file_no_network_and_no_other_process() {
    let victim = rustix::process::getpid().as_raw_pid();
    let said = in_child(|| match confine_server() {
        Ok(_) => not_refused(misdeeds(victim)),
        Err(error) => error.to_string(),
    });
    assert_eq!(said, ALL_REFUSED);
}

#[test]
fn a_child_can_not_even_fork_talk_or_extend_its_life() {
    let victim = rustix::process::getpid().as_raw_pid();
    let said = in_child(|| {
        let confined = confine_server().and_then(|stricter| {
            limit_child(Pid::from_raw(victim).unwrap(), 1 << 40, &Limits::default())?;
            Ok(load_filter(&stricter, 0))
        });
        match confined {
            Ok(Ok(_)) => not_refused([misdeeds(victim), childish_misdeeds()].concat()),
            other => format!("{other:?}"),
        }
    });
    assert_eq!(said, ALL_REFUSED);
}

/// The version of Landlock that this kernel answers to; 0 for none.
fn landlock_version() -> u8 {
    use ::landlock::{AccessFs, LandlockStatus, Ruleset, RulesetAttr as _};
    let asked = std::thread::spawn(|| {
        let ruleset = Ruleset::default().handle_access(AccessFs::Execute).unwrap();
        ruleset.create().unwrap().restrict_self().unwrap().landlock
    });
    match asked.join().unwrap() {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u8,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    }
}

#[test]
fn a_child_that_lost_its_filters_gets_nowhere_as_far_as_the_kernel_has_landlock() {
    let version = landlock_version();
    let parent = rustix::process::getpid();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let said = in_child(|| {
        give_up_capabilities().unwrap();
        rustix::thread::set_no_new_privs(true).unwrap();
        landlock().unwrap();
        let attempts: [(&str, u8, io::Result<()>); 6] = [
            ("read", 1, std::fs::read(&file).map(drop)),
            ("write", 1, std::fs::write(&file, "gone")),
            ("remove", 1, std::fs::remove_file(&file)),
            (
                "run",
                1,
                std::process::Command::new("/bin/true").status().map(drop),
            ),
            ("listen", 4, std::net::TcpListener::bind("127.0.0.1:0").map(drop)),
            (
                "signal",
                6,
                rustix::process::test_kill_process(parent).map_err(Into::into),
            ),
        ];
        let wrong: Vec<_> = attempts
            .into_iter()
            .filter(|(_, denied_by, outcome)| {
                let is_denied =
                    matches!(outcome, Err(error) if error.kind() == io::ErrorKind::PermissionDenied);
                is_denied != (version >= *denied_by)
            })
            .collect();
        format!("{wrong:?}")
    });
    assert_eq!(said, "[]");
    if version > 0 {
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    }
}

#[test]
fn a_child_that_lost_its_filters_still_cannot_read_a_protected_parent() {
    // An address that is the same in both, as they are forks of one process.
    static SECRET: [u8; 8] = *b"secret!!";
    let read_by_child = |protect: bool| {
        in_child(|| {
            // As on a node: uid 0 and no capability, on both sides.
            give_up_capabilities().unwrap();
            if protect {
                protect_memory().unwrap();
            }
            let parent = rustix::process::getpid().as_raw_pid();
            in_child(|| {
                let mut buffer = [0_u8; 8];
                let local = libc::iovec {
                    iov_base: buffer.as_mut_ptr().cast(),
                    iov_len: 8,
                };
                let remote = libc::iovec {
                    iov_base: SECRET.as_ptr().cast_mut().cast(),
                    iov_len: 8,
                };
                let errno = call!(
                    SYS_process_vm_readv,
                    parent,
                    &raw const local,
                    1,
                    &raw const remote,
                    1,
                    0
                );
                format!("{errno} {}", String::from_utf8_lossy(&buffer).trim_matches('\0'))
            })
        })
    };
    assert_eq!(read_by_child(true), format!("{} ", libc::EPERM));
    // Else the line above would hold for another reason.
    assert_eq!(read_by_child(false), "0 secret!!");
}

#[test]
fn a_child_that_computes_for_ever_is_ended_by_its_limit_on_cpu_time() {
    let limits = Limits {
        cpu_seconds: 1,
        ..Limits::default()
    };
    let parent = rustix::process::getpid();
    let said = in_child(|| {
        limit_child(parent, 1 << 40, &limits).unwrap();
        loop {
            std::hint::spin_loop();
        }
    });
    assert!(said.contains(&libc::SIGXCPU.to_string()), "{said}");
}

#[test]
fn a_child_that_sleeps_for_ever_is_ended_by_its_alarm() {
    let limits = Limits {
        wall_seconds: 1,
        ..Limits::default()
    };
    let parent = rustix::process::getpid();
    let said = in_child(|| {
        limit_child(parent, 1 << 40, &limits).unwrap();
        loop {
            std::thread::park();
        }
    });
    assert!(said.contains(&libc::SIGALRM.to_string()), "{said}");
}

#[test]
fn a_confined_child_that_crashes_ends() {
    let limits = Limits::default();
    let parent = rustix::process::getpid();
    let said = in_child(|| {
        let stricter = confine_server().unwrap();
        process::die_of_faults().unwrap();
        limit_child(parent, 1 << 40, &limits).unwrap();
        load_filter(&stricter, 0).unwrap();
        // SAFETY: none: this is the crash. Nothing is mapped there, so nothing is read.
        let nothing = unsafe { ptr::without_provenance::<u8>(8).read_volatile() };
        format!("read {nothing}")
    });
    assert!(said.contains(&format!("{}", libc::SIGSEGV)), "{said}");
}

#[test]
fn a_child_whose_parent_is_gone_ends_at_once() {
    // Process 1 is the parent of neither.
    let said = in_child(|| {
        limit_child(Pid::INIT, 1 << 40, &Limits::default()).unwrap();
        "still here".to_owned()
    });
    assert_ne!(said, "still here");
}

fn deny(name: &str, action: Action, errno: u16) -> Program {
    let rule = Rule {
        names: vec![name.to_owned()],
        action,
        errno_ret: Errno::new(errno),
        args: vec![],
    };
    let profile = Profile {
        default_action: Action::Allow,
        default_errno_ret: None,
        architectures: vec![],
        flags: vec![],
        listener_path: None,
        listener_metadata: None,
        syscalls: vec![rule],
    };
    filter::compile(&profile).unwrap().program
}

fn getcwd() -> i32 {
    let mut buffer = [0_u8; 4096];
    call!(SYS_getcwd, buffer.as_mut_ptr(), buffer.len())
}

#[test]
fn a_filter_that_denies_getcwd_makes_exactly_getcwd_fail_with_its_errno() {
    let program = deny("getcwd", Action::Errno, 77);
    let said = in_child(|| {
        let before = getcwd();
        rustix::thread::set_no_new_privs(true).unwrap();
        let loaded = load_filter(&program, 0);
        let mut buffer = [0_u8; 4096];
        let others = [
            call!(SYS_getpid),
            call!(SYS_getuid),
            call!(SYS_uname, buffer.as_mut_ptr()),
            call!(
                SYS_readlinkat,
                libc::AT_FDCWD,
                c"/proc/self/cwd".as_ptr(),
                buffer.as_mut_ptr(),
                4096
            ),
            call!(SYS_fchdir, -1),
        ];
        format!("{before} {loaded:?} {} {others:?}", getcwd())
    });
    assert_eq!(said, format!("0 Ok(0) 77 [0, 0, 0, 0, {}]", libc::EBADF));
}

#[test]
fn a_notify_profile_yields_a_listener_that_answers_one_call() {
    let program = deny("getcwd", Action::Notify, 0);
    let said = in_child(|| {
        rustix::thread::set_no_new_privs(true).unwrap();
        let listener = load_filter(&program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER).unwrap();
        let asking = match fork().unwrap() {
            Forked::Child => exit_now(getcwd()),
            Forked::Parent(asking) => asking,
        };
        // SAFETY: all-zero is what the kernel asks for in both, and they live through the calls.
        let (number, answered) = unsafe {
            let mut asked: libc::seccomp_notif = std::mem::zeroed();
            assert_eq!(
                libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked),
                0
            );
            let mut answer: libc::seccomp_notif_resp = std::mem::zeroed();
            answer.id = asked.id;
            answer.error = -42;
            (
                asked.data.nr,
                libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer),
            )
        };
        let status = wait_for(asking).exit_status();
        format!("{} {answered} {status:?}", i64::from(number) == libc::SYS_getcwd)
    });
    assert_eq!(said, "true 0 Some(42)");
}

#[test]
fn the_loading_child_reports_and_ends_whatever_its_filter_denies() {
    let everything = |action| {
        let profile = Profile {
            default_action: action,
            default_errno_ret: None,
            architectures: vec![],
            flags: vec![],
            listener_path: None,
            listener_metadata: None,
            syscalls: vec![],
        };
        filter::compile(&profile).unwrap().program
    };
    for action in [
        Action::Allow,
        Action::Errno,
        Action::Trap,
        Action::KillProcess,
        Action::KillThread,
    ] {
        let program = everything(action);
        let region = Region::new().unwrap();
        match fork().unwrap() {
            Forked::Child => {
                _ = rustix::thread::set_no_new_privs(true);
                worker::load(&region, &program, 0, || Ok(()))
            }
            Forked::Parent(child) => {
                assert_eq!(
                    wait_for(child).terminating_signal(),
                    Some(libc::SIGSEGV),
                    "{action}"
                );
                assert_eq!(
                    region.read().as_deref().and_then(worker::loaded),
                    Some(0),
                    "{action}"
                );
            }
        }
    }
}

#[test]
fn a_child_sees_its_own_pages_and_not_those_of_one_forked_before() {
    let earlier = Region::new().unwrap();
    earlier.write(b"of another tenant");
    earlier.close_to_others().unwrap();
    let said = in_child(|| format!("{:?}", earlier.read()));
    assert!(said.contains(&libc::SIGSEGV.to_string()), "{said}");
    assert_eq!(earlier.read().as_deref(), Some(&b"of another tenant"[..]));
}

#[test]
fn what_the_kernel_refuses_comes_back_as_its_errno() {
    let program = deny("getcwd", Action::Errno, 1);
    let said = in_child(|| {
        rustix::thread::set_no_new_privs(true).unwrap();
        format!(
            "{:?}",
            load_filter(&program, libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
        )
    });
    assert_eq!(said, format!("Err({})", libc::EINVAL));
}

#[test]
fn every_child_that_has_ended_is_reaped_once() {
    let said = in_child(|| {
        for code in 0..3 {
            if let Forked::Child = fork().unwrap() {
                exit_now(code);
            }
        }
        let mut ends = Vec::new();
        while ends.len() < 3 {
            ends.extend(process::reap().unwrap().map(|ended| ended.end));
            std::thread::yield_now();
        }
        ends.sort_by_key(|end| format!("{end:?}"));
        format!("{ends:?} {:?}", process::reap().unwrap().is_none())
    });
    assert_eq!(said, "[Exited(0), Exited(1), Exited(2)] true");
}
