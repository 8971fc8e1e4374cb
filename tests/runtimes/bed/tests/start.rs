//! The bed itself, on a real runtime: what it reports, and that it leaves nothing behind.
#![cfg(target_arch = "x86_64")]
#![expect(clippy::unwrap_used, reason = "so do tests fail, in helpers as elsewhere")]

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bed::{Abi, Answer, Bed, Call, Container, End, Outcome, Runtime, RuntimeName};

const GETPID: u32 = 39;
const GETPID_I386: u32 = 20;
const SIGILL: i32 = 4;
const SIGSYS: i32 = 31;

/// One test at a time, so that what is left behind is not that of another.
static ALONE: Mutex<()> = Mutex::new(());

fn start(runtime: RuntimeName, seccomp: Option<&str>, calls: &[Call], seconds: u64) -> Outcome {
    let container = Container {
        uid: 1000,
        no_new_privs: true,
        seccomp,
        calls,
        deadline: Duration::from_secs(seconds),
    };
    let runtime = Runtime::find(runtime).unwrap();
    Bed::new().unwrap().start(&runtime, &container).unwrap()
}

/// Denies getpid by this action, for native and 32-bit calls.
fn deny_getpid(action: &str) -> String {
    format!(
        r#"{{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],
            "syscalls":[{{"names":["getpid"],"action":"{action}"}}]}}"#
    )
}

#[test]
fn the_probe_reports_what_calls_return_by_each_door() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let calls = [
        Call::native(GETPID, &[]),
        Call::native(GETPID_I386, &[]).by(Abi::I386),
    ];
    let free = start(RuntimeName::Crun, None, &calls, 30);
    assert_eq!(free.answers, [Answer::Returned(1); 2], "{free:?}");
    let denied = start(
        RuntimeName::Crun,
        Some(&deny_getpid("SCMP_ACT_ERRNO")),
        &calls,
        30,
    );
    assert_eq!(denied.answers, [Answer::errno(1); 2], "{denied:?}");
    // A number of x32 is none that this filter has rules for.
    let foreign = [Call::native(GETPID, &[]).by(Abi::X32)];
    let killed = start(
        RuntimeName::Crun,
        Some(&deny_getpid("SCMP_ACT_ERRNO")),
        &foreign,
        30,
    );
    assert_eq!(killed.answers, [Answer::Killed(SIGSYS)], "{killed:?}");
}

#[test]
fn a_deadly_call_is_told_from_a_start_that_fails() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let calls = [Call::native(GETPID, &[])];
    let deadly = start(
        RuntimeName::Crun,
        Some(&deny_getpid("SCMP_ACT_KILL_PROCESS")),
        &calls,
        30,
    );
    assert!(deadly.ran);
    assert_eq!(
        (deadly.end, &deadly.answers[..]),
        (End::Signalled(SIGSYS), &[Answer::Killed(SIGSYS)][..])
    );

    let silent = start(
        RuntimeName::Crun,
        Some(&deny_getpid("SCMP_ACT_KILL_PROCESS")),
        &[],
        30,
    );
    assert!(silent.ran, "{silent:?}");
    assert_eq!(silent.end, End::Signalled(SIGILL));

    let failed = start(
        RuntimeName::Crun,
        Some(r#"{"defaultAction":"SCMP_ACT_KILL_PROCESS"}"#),
        &[],
        30,
    );
    assert!(!failed.ran, "{failed:?}");

    let refused = start(
        RuntimeName::Crun,
        Some(r#"{"defaultAction":"SCMP_ACT_DENY"}"#),
        &calls,
        30,
    );
    assert!(
        !refused.ran && matches!(refused.end, End::CreateFailed(_)),
        "{refused:?}"
    );
    assert!(refused.log.contains("SCMP_ACT_DENY"), "{refused:?}");
}

#[test]
fn a_runtime_that_hangs_is_ended_and_leaves_nothing_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let hung = start(
        RuntimeName::Runc,
        Some(r#"{"defaultAction":"SCMP_ACT_KILL"}"#),
        &[],
        2,
    );
    assert_eq!((hung.end, hung.ran), (End::Hung, false), "{hung:?}");

    let ours = format!("callgate-test-{}-", std::process::id());
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let groups = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        assert!(!groups.contains(&ours), "{}: {groups}", path.display());
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    for mount in mounts
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some("cgroup2"))
    {
        let place = mount.split(' ').nth(1).unwrap();
        let groups = fs::read_dir(place).unwrap().filter_map(Result::ok);
        let left: Vec<_> = groups
            .filter(|group| group.file_name().to_string_lossy().starts_with(&ours))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
