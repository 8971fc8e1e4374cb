//! In which order the calls come that make a change last, and what holds when one of them fails.
//!
//! A filter with `SCMP_ACT_NOTIFY` holds a thread at each of these calls, until the test lets it go on or answers
//! in the kernel's place.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError, mpsc};

use callgate::store::StoreError;
use libseccomp::{
    ScmpAction, ScmpFilterContext, ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags, ScmpSyscall,
};
use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;

use super::*;

const HELD: [&str; 5] = ["fsync", "mkdirat", "renameat", "renameat2", "unlinkat"];
/// The call by which a thread says that it has done its work.
const END: &str = "callgate-test-end";

/// Does some work on a thread of its own. Each call of [`HELD`] is told before it happens, as in
/// `fsync /dir/file` or `renameat /dir/new /dir/old`, and fails if the test gives an errno for it.
fn held<T: Send>(work: impl FnOnce() -> T + Send, mut judge: impl FnMut(&str) -> Option<Errno>) -> T {
    /// libseccomp knows one listener per process.
    static ONE: Mutex<()> = Mutex::new(());
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            _ = mkdirat(CWD, END, Mode::empty());
        }
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    libseccomp::reset_global_state().unwrap();
    std::thread::scope(|scope| {
        let (listener, listening) = mpsc::channel();
        let worker = scope.spawn(move || {
            let mut filter = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
            for call in HELD {
                let number = ScmpSyscall::from_name(call).unwrap();
                filter.add_rule(ScmpAction::Notify, number).unwrap();
            }
            filter.load().unwrap();
            listener.send(filter.get_notify_fd().unwrap()).unwrap();
            let _end = End;
            work()
        });
        let listener = listening.recv().unwrap();
        loop {
            let held = ScmpNotifReq::receive(listener).unwrap();
            let call = describe(&held);
            let is_end = call.ends_with(END);
            let failure = if is_end {
                Some(Errno::CANCELED)
            } else {
                judge(&call)
            };
            let answer = match failure {
                Some(errno) => {
                    ScmpNotifResp::new_error(held.id, -errno.raw_os_error(), ScmpNotifRespFlags::empty())
                }
                None => ScmpNotifResp::new_continue(held.id, ScmpNotifRespFlags::empty()),
            };
            answer.respond(listener).unwrap();
            if is_end {
                break;
            }
        }
        worker.join().unwrap()
    })
}

fn describe(held: &ScmpNotifReq) -> String {
    let call = held.data.syscall.get_name().unwrap();
    let [first, second, third, fourth, ..] = held.data.args;
    match call.as_str() {
        "fsync" => format!("{call} {}", handle(first)),
        "mkdirat" | "unlinkat" => format!("{call} {}", named(first, second)),
        _ => format!("renameat {} {}", named(first, second), named(third, fourth)),
    }
}

fn handle(fd: u64) -> String {
    let link = format!("/proc/self/fd/{}", fd & u64::from(u32::MAX));
    fs::read_link(link).map_or_else(|_| String::new(), |path| path.display().to_string())
}

/// A name that the held thread passes, in this process's memory, beneath a handle.
fn named(directory: u64, name: u64) -> String {
    let mut bytes = [0; 512];
    let memory = fs::File::open("/proc/self/mem").unwrap();
    let read = memory.read_at(&mut bytes, name).unwrap();
    let end = bytes[..read].iter().position(|byte| *byte == 0).unwrap();
    format!("{}/{}", handle(directory), String::from_utf8_lossy(&bytes[..end]))
}

/// What the store calls, with paths below the root, and `TMP` for each temporary name.
fn calls_of<T: Send>(node: &Node, work: impl FnOnce() -> T + Send) -> (T, Vec<String>) {
    let root = node.root().canonicalize().unwrap();
    let mut calls = Vec::new();
    let done = held(work, |call| {
        let words = call.split(' ').map(|word| {
            let path = Path::new(word);
            let path = path.strip_prefix(&root).unwrap_or(path).display().to_string();
            match path.rsplit_once('/') {
                Some((parent, name)) if name.starts_with(".callgate-tmp-") => format!("{parent}/TMP"),
                _ => path,
            }
        });
        calls.push(words.collect::<Vec<_>>().join(" ").trim_end().to_owned());
        None
    });
    (done, calls)
}

#[test]
fn every_change_is_synchronised_before_the_next_one_relies_on_it() {
    let node = Node::new();
    let (mut store, calls) = calls_of(&node, || node.open());
    let marker = [
        "fsync callgate/.callgate/TMP",
        "renameat callgate/.callgate/TMP callgate/.callgate/owner.json",
        "fsync callgate/.callgate",
    ];
    let directories = [
        "mkdirat callgate",
        "fsync",
        "mkdirat callgate/.callgate",
        "fsync callgate",
    ];
    assert_eq!(calls, [&directories[..], &marker].concat(), "made");

    let record = [
        "fsync callgate/.callgate/TMP",
        "renameat callgate/.callgate/TMP callgate/.callgate/record.json",
        "fsync callgate/.callgate",
    ];
    let file = [
        "fsync callgate/a/TMP",
        "renameat callgate/a/TMP callgate/a/x.json",
        "fsync callgate/a",
    ];
    let namespace = ["mkdirat callgate/a", "fsync callgate"];
    let ((), calls) = calls_of(&node, || write(&mut store, "a/x", "one"));
    assert_eq!(
        calls,
        [&record[..], &namespace, &file].concat(),
        "the first write"
    );

    let ((), calls) = calls_of(&node, || write(&mut store, "a/x", "two"));
    let again = ["mkdirat callgate/a"]; // it is there
    assert_eq!(calls, [&record[..], &again, &file].concat(), "an update");

    let ((), calls) = calls_of(&node, || store.remove(&name("a/x")).unwrap());
    let removed = ["unlinkat callgate/a/x.json", "fsync callgate/a"];
    let emptied = ["unlinkat callgate/a", "fsync callgate"];
    assert_eq!(calls, [&removed[..], &emptied, &record].concat(), "the removal");

    let many = files(&[("a/x", "three"), ("b/z", "new")]);
    let (failed, calls) = calls_of(&node, || store.write_all(&many, &proof()));
    let other_namespace = ["mkdirat callgate/b", "fsync callgate"];
    let other = [
        "fsync callgate/b/TMP",
        "renameat callgate/b/TMP callgate/b/z.json",
        "fsync callgate/b",
    ];
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(
        calls,
        [&record[..], &namespace, &file, &other_namespace, &other].concat(),
        "two at once"
    );

    let (failed, calls) = calls_of(&node, || store.remove_all(&many.keys().cloned().collect()));
    let other = [
        "unlinkat callgate/b/z.json",
        "fsync callgate/b",
        "unlinkat callgate/b",
        "fsync callgate",
    ];
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(
        calls,
        [&removed[..], &emptied, &other, &record].concat(),
        "the removal of two at once"
    );

    fs::write(node.path("stray"), "").unwrap();
    let (_, calls) = calls_of(&node, || store.repair().unwrap());
    assert_eq!(calls, ["unlinkat callgate/stray", "fsync callgate"], "a stray");

    let (_, calls) = calls_of(&node, || store.repair().unwrap());
    assert!(calls.is_empty(), "nothing to mend: {calls:?}");
}

fn files(files: &[(&str, &str)]) -> BTreeMap<ProfileName, Canonical> {
    let file = |(profile, text): &(&str, &str)| (name(profile), canonical(text));
    files.iter().map(file).collect()
}

/// Does it on a fresh node each time, and has its first call fail, then its second, and so on, until it has fewer.
fn with_each_call_failing(errno: Errno, attempt: impl Fn(&Node, &mut dyn FnMut(&str) -> Option<Errno>)) {
    for failing in 0.. {
        let mut calls = 0;
        attempt(&Node::new(), &mut |_| {
            calls += 1;
            (calls == failing + 1).then_some(errno)
        });
        if calls <= failing {
            assert!(failing > 3, "{failing} calls only");
            return;
        }
    }
}

#[test]
fn an_update_that_fails_at_any_call_keeps_the_old_file_and_its_proof() {
    for errno in [Errno::IO, Errno::DQUOT, Errno::NOSPC] {
        with_each_call_failing(errno, |node, judge| {
            let mut store = node.with_two();
            let two = canonical("two");
            let mut call = String::new();
            let result = held(
                || store.write(&name("a/x"), &two, &proof()),
                |held| {
                    let failure = judge(held);
                    if failure.is_some() {
                        held.clone_into(&mut call);
                    }
                    failure
                },
            );
            if let Err(error) = result {
                match errno {
                    Errno::IO => assert!(matches!(error, StoreError::Io(_)), "{error}"),
                    _ => assert!(matches!(error, StoreError::NoSpace(_)), "{error}"),
                }
                assert_eq!(node.read("a/x.json"), "one", "{call}");
                assert!(is_live(&store, "a/x", "one"), "{call}");
                // The next record is of what is there, and so is what a restart finds.
                write(&mut store, "a/y", "later");
                drop(store);
                let mut store = node.open();
                assert!(is_live(&store, "a/x", "one"), "{call}");
                assert!(is_live(&store, "a/y", "later"), "{call}");
                assert!(store.repair().unwrap().is_clean(), "{call}");
            } else {
                assert!(call.is_empty(), "{call} failed, and nobody was told");
                assert_eq!(node.read("a/x.json"), "two");
            }
        });
    }
}

#[test]
fn of_several_updates_those_that_fail_keep_the_old_file_and_the_others_are_there() {
    with_each_call_failing(Errno::IO, |node, judge| {
        let mut store = node.with_two();
        let many = files(&[("a/x", "two"), ("a/y", "more")]);
        let failed = held(|| store.write_all(&many, &proof()), judge);
        drop(store);
        let mut store = node.open();
        for (profile, before) in [("a/x", "one"), ("a/y", "other")] {
            let is_failed = failed.contains_key(&name(profile));
            let file = if is_failed {
                canonical(before)
            } else {
                many[&name(profile)].clone()
            };
            assert_eq!(store.live()[&name(profile)].file, file, "{failed:?}");
        }
        assert!(store.repair().unwrap().restored.is_empty());
    });
}

#[test]
fn of_several_new_files_those_that_fail_are_not_live_and_come_when_they_are_tried_again() {
    with_each_call_failing(Errno::IO, |node, judge| {
        let mut store = node.with_two();
        let many = files(&[("a/new", "three"), ("b/new", "four")]);
        let failed = held(|| store.write_all(&many, &proof()), judge);
        for profile in many.keys() {
            assert_eq!(store.live().contains_key(profile), !failed.contains_key(profile));
        }
        let again = store.write_all(&many, &proof());
        assert!(again.is_empty(), "{again:?}");
        drop(store);
        let mut store = node.open();
        for (profile, file) in &many {
            assert_eq!(store.live()[profile].file, *file);
        }
        let repaired = store.repair().unwrap();
        assert!(
            repaired.lost.is_empty() && repaired.restored.is_empty(),
            "{repaired:?}"
        );
    });
}

#[test]
fn of_several_removals_those_that_fail_are_told_and_the_others_are_gone() {
    with_each_call_failing(Errno::IO, |node, judge| {
        let mut store = node.with_two();
        write(&mut store, "b/z", "third");
        let many: BTreeSet<_> = ["a/x", "b/z"].map(name).into();
        let mut has_failed = false;
        let failed = held(
            || store.remove_all(&many),
            |call| {
                let failure = judge(call);
                has_failed |= failure.is_some();
                failure
            },
        );
        assert_eq!(!failed.is_empty(), has_failed);
        for profile in many.iter().filter(|profile| !failed.contains_key(profile)) {
            assert!(!node.path(&format!("{profile}.json")).exists(), "{failed:?}");
            assert!(!store.live().contains_key(profile));
        }
        assert!(is_live(&store, "a/y", "other"), "it was not to go");

        let again = store.remove_all(&many);
        assert!(again.is_empty(), "{again:?}");
        store.repair().unwrap();
        drop(store);
        let mut store = node.open();
        assert!(store.repair().unwrap().is_clean());
        let left: Vec<String> = store.live().keys().map(ToString::to_string).collect();
        assert_eq!(left, ["a/y"]);
    });
}

#[test]
fn a_disk_that_fails_for_good_during_several_updates_leaves_files_that_a_restart_knows() {
    with_each_call_failing(Errno::IO, |node, judge| {
        let mut store = node.with_two();
        let many = files(&[("a/x", "two"), ("a/y", "more")]);
        let mut is_dead = false;
        let failed = held(
            || store.write_all(&many, &proof()),
            |call| {
                is_dead |= judge(call).is_some();
                is_dead.then_some(Errno::IO)
            },
        );
        assert_eq!(!failed.is_empty(), is_dead);
        drop(store);
        let mut store = node.open();
        for (profile, before) in [("a/x", "one"), ("a/y", "other")] {
            let text = node.read(&format!("{profile}.json"));
            let next = &many[&name(profile)];
            assert!(text == before || canonical(&text) == *next, "{text}");
            assert!(is_live(&store, profile, &text));
        }
        let repaired = store.repair().unwrap();
        assert!(
            repaired.lost.is_empty() && repaired.restored.is_empty(),
            "{repaired:?}"
        );
        assert_eq!(node.tree(), TREE_OF_TWO);
    });
}

#[test]
fn a_disk_that_fails_for_good_at_any_call_leaves_a_file_that_a_restart_knows() {
    with_each_call_failing(Errno::IO, |node, judge| {
        let mut store = node.with_two();
        let mut is_dead = false;
        let result = held(
            || store.write(&name("a/x"), &canonical("two"), &proof()),
            |call| {
                is_dead |= judge(call).is_some();
                is_dead.then_some(Errno::IO)
            },
        );
        assert_eq!(result.is_err(), is_dead);
        drop(store);
        let mut store = node.open();
        let text = node.read("a/x.json");
        assert!(text == "one" || text == "two", "{text}");
        assert!(is_live(&store, "a/x", &text));
        let repaired = store.repair().unwrap();
        assert!(
            repaired.lost.is_empty() && repaired.restored.is_empty() && repaired.failed.is_empty(),
            "{repaired:?}"
        );
        assert_eq!(node.tree(), TREE_OF_TWO);
    });
}

#[test]
fn a_removal_that_fails_at_any_call_is_told_and_works_when_it_is_tried_again() {
    with_each_call_failing(Errno::IO, |node, judge| {
        let mut store = node.open();
        write(&mut store, "a/x", "one");
        let mut has_failed = false;
        let result = held(
            || store.remove(&name("a/x")),
            |call| {
                let failure = judge(call);
                has_failed |= failure.is_some();
                failure
            },
        );
        assert_eq!(result.is_err(), has_failed);
        store.remove(&name("a/x")).unwrap();
        store.repair().unwrap();
        assert_eq!(node.tree(), TREE_OF_TWO[..3]);
        drop(store);
        assert!(node.open().repair().unwrap().is_clean());
    });
}

#[test]
fn a_directory_whose_making_fails_at_any_call_is_made_the_next_time() {
    with_each_call_failing(Errno::IO, |node, judge| {
        let mut has_failed = false;
        let result = held(
            || Store::open(&node.root(), Some(&cluster())).map(drop),
            |call| {
                let failure = judge(call);
                has_failed |= failure.is_some();
                failure
            },
        );
        assert_eq!(result.is_err(), has_failed);
        let mut store = node.open();
        write(&mut store, "a/x", "one");
        store.repair().unwrap();
        assert_eq!(store.owner(), &cluster());
        assert!(is_live(&store, "a/x", "one"));
    });
}

#[test]
fn a_repair_that_fails_at_any_call_says_so_and_the_next_one_mends() {
    with_each_call_failing(Errno::IO, |node, judge| {
        let mut store = node.with_two();
        fs::remove_file(node.path("a/x.json")).unwrap();
        fs::write(node.path("stray"), "").unwrap();
        fs::remove_file(node.path(".callgate/record.json")).unwrap();
        let mut has_failed = false;
        let repaired = held(
            || store.repair().unwrap(),
            |call| {
                let failure = judge(call);
                has_failed |= failure.is_some();
                failure
            },
        );
        assert_eq!(!repaired.failed.is_empty(), has_failed, "{repaired:?}");
        store.repair().unwrap();
        assert!(store.repair().unwrap().is_clean());
        assert_eq!(node.tree(), TREE_OF_TWO);
        assert_eq!(node.read("a/x.json"), "one");
    });
}

#[test]
fn what_failed_to_come_back_and_came_back_since_is_no_failure() {
    let node = Node::new();
    let mut store = node.with_two();
    fs::rename(node.root().join("callgate"), node.outside().join("moved")).unwrap();
    let mut has_failed = false;
    held(
        || write(&mut store, "a/x", "one"),
        |call| {
            let is_it = !has_failed && call.starts_with("renameat") && call.ends_with("a/y.json");
            has_failed |= is_it;
            is_it.then_some(Errno::IO)
        },
    );
    assert!(has_failed && !node.path("a/y.json").exists());
    let repaired = store.repair().unwrap();
    assert!(repaired.failed.is_empty(), "{repaired:?}");
    assert!(repaired.restored.contains(&name("a/y")), "{repaired:?}");
}
