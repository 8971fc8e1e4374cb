//! That changes are noticed, and that looking is no change.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::time::Duration;

use callgate::store::{Changes, DriftWatch, StoreError};

use super::*;

/// Only a bound for a broken watch.
const SOON: Duration = Duration::from_secs(20);

async fn changed(watch: &mut DriftWatch) -> Result<Changes, StoreError> {
    tokio::time::timeout(SOON, watch.changed())
        .await
        .expect("a change was not noticed")
}

/// What has happened, if anything has.
async fn happened(watch: &mut DriftWatch) -> Option<Changes> {
    // The kernel queues an event before the call that caused it returns: one turn of the runtime would do.
    let changed = tokio::time::timeout(Duration::from_millis(50), watch.changed()).await;
    changed.ok().map(Result::unwrap)
}

async fn is_quiet(watch: &mut DriftWatch) -> bool {
    happened(watch).await.is_none()
}

/// A watch, once nothing is on its way any more: a process that another test starts has copies of our handles
/// until it runs its program, and their end is an event.
async fn quiet(store: &Store) -> DriftWatch {
    let mut watch = store.watch().unwrap();
    while !is_quiet(&mut watch).await {}
    watch
}

/// Repairs until nothing is left to do and nothing more happens; an endless loop fails.
async fn settle(store: &mut Store, watch: &mut DriftWatch) {
    for _ in 0..5 {
        store.repair().unwrap();
        if is_quiet(watch).await {
            return;
        }
    }
    panic!("a repair causes the next one without end");
}

type Change = (&'static str, fn(&Node));

#[tokio::test]
async fn every_kind_of_change_is_noticed_and_mended() {
    let changes: [Change; 26] = [
        ("altered", |node| fs::write(node.path("a/x.json"), "bad").unwrap()),
        ("removed", |node| fs::remove_file(node.path("a/x.json")).unwrap()),
        ("closed", |node| {
            fs::set_permissions(node.path("a/x.json"), fs::Permissions::from_mode(0o000)).unwrap();
        }),
        ("open to all", |node| {
            fs::set_permissions(node.path("a/x.json"), fs::Permissions::from_mode(0o666)).unwrap();
        }),
        ("another name of it beside it", |node| {
            fs::hard_link(node.path("a/x.json"), node.path("a/other")).unwrap();
        }),
        ("replaced by a directory", |node| {
            fs::remove_file(node.path("a/x.json")).unwrap();
            fs::create_dir(node.path("a/x.json")).unwrap();
        }),
        ("replaced by a symlink", |node| {
            symlink("/etc/passwd", node.path("a/new")).unwrap();
            fs::rename(node.path("a/new"), node.path("a/x.json")).unwrap();
        }),
        ("moved away", |node| {
            fs::rename(node.path("a/x.json"), node.outside().join("x")).unwrap();
        }),
        ("replaced by another file", |node| {
            fs::write(node.outside().join("x"), "bad").unwrap();
            fs::rename(node.outside().join("x"), node.path("a/x.json")).unwrap();
        }),
        ("a stray file", |node| {
            fs::write(node.path("a/stray"), "").unwrap();
        }),
        ("a stray profile", |node| {
            fs::write(node.path("a/z.json"), "{}").unwrap();
        }),
        ("a stray beside the record", |node| {
            fs::write(node.path(".callgate/stray"), "").unwrap();
        }),
        ("a stray beside the namespaces", |node| {
            fs::write(node.path("stray"), "").unwrap();
        }),
        ("a stray directory", |node| {
            fs::create_dir(node.path("stray")).unwrap();
        }),
        ("a stray symlink", |node| {
            symlink("x", node.path("a/stray")).unwrap();
        }),
        ("a namespace removed", |node| {
            fs::remove_dir_all(node.path("a")).unwrap();
        }),
        ("a namespace renamed", |node| {
            fs::rename(node.path("a"), node.path("b")).unwrap();
        }),
        ("a namespace replaced by a symlink", |node| {
            fs::remove_dir_all(node.path("a")).unwrap();
            symlink("/etc", node.path("a")).unwrap();
        }),
        ("our own directory removed", |node| {
            fs::remove_dir_all(node.path(".callgate")).unwrap();
        }),
        ("all closed", |node| {
            fs::set_permissions(node.path(""), fs::Permissions::from_mode(0o000)).unwrap();
        }),
        ("a namespace closed", |node| {
            fs::set_permissions(node.path("a"), fs::Permissions::from_mode(0o000)).unwrap();
        }),
        ("the record altered", |node| {
            fs::write(node.path(".callgate/record.json"), "{}").unwrap();
        }),
        ("the record removed", |node| {
            fs::remove_file(node.path(".callgate/record.json")).unwrap();
        }),
        ("the marker removed", |node| {
            fs::remove_file(node.path(".callgate/owner.json")).unwrap();
        }),
        ("all moved away", |node| {
            fs::rename(node.root().join("callgate"), node.outside().join("moved")).unwrap();
        }),
        ("all removed", |node| {
            fs::remove_dir_all(node.root().join("callgate")).unwrap();
        }),
    ];
    for (what, change) in changes {
        let node = Node::new();
        let mut store = node.with_two();
        let mut watch = quiet(&store).await;
        // Twice: the second time on what the first repair made.
        for round in ["first", "second"] {
            assert!(is_quiet(&mut watch).await, "{what}, {round}");
            change(&node);
            let changes = changed(&mut watch).await.unwrap();
            assert!(store.has_drifted(&changes), "{what}, {round}: {changes:?}");
            settle(&mut store, &mut watch).await;
            assert_eq!(node.tree(), TREE_OF_TWO, "{what}, {round}");
            assert_eq!(node.read("a/x.json"), "one", "{what}, {round}");
            if what == "all moved away" {
                fs::remove_dir_all(node.outside().join("moved")).unwrap();
            }
        }
    }
}

/// What happens until nothing more does.
async fn all_changes(watch: &mut DriftWatch) -> Changes {
    let mut changes = changed(watch).await.unwrap();
    while let Some(more) = happened(watch).await {
        changes.add(more);
    }
    changes
}

#[tokio::test]
async fn what_the_store_writes_and_removes_itself_is_no_drift_and_names_what_to_look_at() {
    let node = Node::new();
    let mut store = node.with_two();
    let mut watch = quiet(&store).await;
    write(&mut store, "a/x", "other");
    write(&mut store, "a/new", "new");
    store.remove(&name("a/y")).unwrap();
    let changes = all_changes(&mut watch).await;
    let Changes::Entries(entries) = &changes else {
        panic!("everything is to be looked at");
    };
    let profiles: Vec<_> = entries
        .iter()
        .filter(|(_, entry)| entry.as_bytes().ends_with(b".json"))
        .map(|(dir, entry)| format!("{}/{}", dir.display(), entry.display()))
        .collect();
    assert_eq!(
        profiles,
        [".callgate/record.json", "a/new.json", "a/x.json", "a/y.json"]
    );
    assert!(!store.has_drifted(&changes), "{changes:?}");
}

#[tokio::test]
async fn a_stranger_between_our_own_changes_is_drift() {
    let node = Node::new();
    let mut store = node.with_two();
    let mut watch = quiet(&store).await;
    write(&mut store, "a/x", "other");
    fs::write(node.path("a/y.json"), "bad").unwrap();
    write(&mut store, "a/x", "one");
    let changes = all_changes(&mut watch).await;
    assert!(matches!(changes, Changes::Entries(_)), "{changes:?}");
    assert!(store.has_drifted(&changes));
    assert_eq!(store.repair().unwrap().restored, [name("a/y")]);
}

#[tokio::test]
async fn what_a_write_mended_on_its_way_is_still_told() {
    let node = Node::new();
    let mut store = node.with_two();
    let mut watch = quiet(&store).await;
    fs::remove_dir_all(node.root().join("callgate")).unwrap();
    write(&mut store, "a/x", "other");
    all_changes(&mut watch).await;
    assert!(store.has_drifted(&Changes::default()));
    assert!(store.repair().unwrap().restored.contains(&name("a/y")));
    assert!(!store.has_drifted(&Changes::default()));
}

#[test]
fn more_entries_than_are_told_apart_are_anything() {
    let entry = |number: usize| ("a".into(), number.to_string().into());
    let mut changes = Changes::default();
    for number in 0..Changes::MAX_ENTRIES {
        changes.add(Changes::Entries([entry(number)].into()));
    }
    assert!(matches!(changes, Changes::Entries(_)));
    changes.add(Changes::Entries([entry(0)].into()));
    assert!(matches!(changes, Changes::Entries(_)), "it was known");
    changes.add(Changes::Entries([entry(Changes::MAX_ENTRIES)].into()));
    assert_eq!(changes, Changes::Anything);
    changes.add(Changes::Entries([entry(0)].into()));
    assert_eq!(changes, Changes::Anything);
}

#[tokio::test]
async fn a_namespace_that_was_written_later_is_watched_too() {
    let node = Node::new();
    let mut store = node.open();
    let mut watch = store.watch().unwrap();
    write(&mut store, "later/x", "one");
    changed(&mut watch).await.unwrap();
    settle(&mut store, &mut watch).await;
    fs::write(node.path("later/x.json"), "bad").unwrap();
    changed(&mut watch).await.unwrap();
    assert_eq!(store.repair().unwrap().restored, [name("later/x")]);
}

#[tokio::test]
async fn a_burst_of_changes_is_one() {
    let node = Node::new();
    let store = node.with_two();
    let mut watch = quiet(&store).await;
    for stray in 0..100 {
        fs::write(node.path(&format!("stray-{stray}")), "").unwrap();
    }
    changed(&mut watch).await.unwrap();
    assert!(is_quiet(&mut watch).await);
}

#[tokio::test]
async fn more_changes_than_the_kernel_remembers_are_a_change() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let node = Node::new();
    let mut store = node.with_two();
    let mut watch = store.watch().unwrap();
    for event in 0..=limit {
        // Alternating names, or the kernel would make one event of them.
        let path = node.path(["a/x.json", "a/y.json"][event % 2]);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    changed(&mut watch).await.unwrap();
    settle(&mut store, &mut watch).await;
    fs::remove_file(node.path("a/x.json")).unwrap();
    changed(&mut watch).await.unwrap();
}

#[tokio::test]
async fn reading_and_repairing_what_is_well_is_no_change() {
    let node = Node::new();
    let mut store = node.with_two();
    let mut watch = quiet(&store).await;
    assert!(store.repair().unwrap().is_clean());
    write(&mut store, "a/x", "one");
    node.read("a/x.json");
    node.tree();
    assert!(is_quiet(&mut watch).await);
}

#[tokio::test]
async fn a_file_that_was_open_for_writing_is_looked_at_again() {
    let node = Node::new();
    let store = node.with_two();
    let mut watch = quiet(&store).await;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(node.path("a/x.json"))
        .unwrap();
    file.write_all(b"bad").unwrap();
    changed(&mut watch).await.expect("before it is closed");
    assert!(is_quiet(&mut watch).await);
    // A change through a mapping of the file is no event; its end is.
    drop(file);
    changed(&mut watch).await.unwrap();
}

#[tokio::test]
async fn files_of_others_in_the_root_are_none_of_our_business() {
    let node = Node::new();
    let store = node.with_two();
    let mut watch = quiet(&store).await;
    fs::create_dir(node.root().join("operator")).unwrap();
    fs::write(node.root().join("audit.json"), "").unwrap();
    assert!(is_quiet(&mut watch).await);
}

#[tokio::test]
async fn what_was_moved_away_is_watched_no_longer() {
    let node = Node::new();
    let mut store = node.with_two();
    let mut watch = store.watch().unwrap();
    let moved = node.outside().join("moved");
    fs::rename(node.root().join("callgate"), &moved).unwrap();
    changed(&mut watch).await.unwrap();
    settle(&mut store, &mut watch).await;
    fs::write(moved.join("a/x.json"), "whatever").unwrap();
    assert!(is_quiet(&mut watch).await);
}

#[tokio::test]
async fn a_change_behind_more_changes_of_others_than_the_kernel_remembers_is_noticed() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let node = Node::new();
    let store = node.with_two();
    let others = ["one", "two"].map(|name| node.root().join(name));
    for path in &others {
        fs::write(path, "").unwrap();
    }
    let mut watch = quiet(&store).await;
    for event in 0..=limit {
        fs::set_permissions(&others[event % 2], fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::remove_file(node.path("a/x.json")).unwrap();
    changed(&mut watch).await.unwrap();
}

#[tokio::test]
async fn a_root_that_is_moved_is_noticed() {
    let node = Node::new();
    let mut store = node.with_two();
    let mut watch = quiet(&store).await;
    fs::rename(node.root(), node.outside().join("moved")).unwrap();
    changed(&mut watch).await.unwrap();
    assert!(matches!(store.repair().unwrap_err(), StoreError::RootGone { .. }));
}

#[tokio::test]
async fn a_root_that_is_deleted_is_noticed() {
    let node = Node::new();
    let mut store = node.with_two();
    let mut watch = store.watch().unwrap();
    fs::remove_dir_all(node.root()).unwrap();
    changed(&mut watch).await.unwrap();
    assert!(matches!(store.repair().unwrap_err(), StoreError::RootGone { .. }));
}

const LIMITED: &str = "CALLGATE_TEST_INOTIFY_LIMIT";

#[tokio::test]
#[ignore = "it runs in a user namespace with the limits that another test sets"]
async fn limited_process() {
    let limit = std::env::var(LIMITED).unwrap();
    let node = Node::new();
    let mut store = node.with_two();
    let error = if limit == "user.max_inotify_watches at refresh" {
        let mut watch = store.watch().unwrap();
        write(&mut store, "later/x", "one");
        changed(&mut watch).await.unwrap_err()
    } else {
        store.watch().unwrap_err()
    };
    assert!(matches!(error, StoreError::WatchLimit(_)), "{error}");
    assert!(error.to_string().contains("fs.inotify.max_user_"), "{error}");
}

#[test]
fn exhausted_limits_of_inotify_are_told_apart() {
    for (limit, settings) in [
        ("no instance", "echo 0 > /proc/sys/user/max_inotify_instances"),
        ("no watch", "echo 2 > /proc/sys/user/max_inotify_watches"),
        (
            "user.max_inotify_watches at refresh",
            "echo 4 > /proc/sys/user/max_inotify_watches",
        ),
    ] {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "sh", "-c"])
            .arg(format!(
                "{settings} && exec \"$0\" --ignored --exact watch::limited_process"
            ))
            .arg(std::env::current_exe().unwrap())
            .env(LIMITED, limit)
            .stdout(std::process::Stdio::piped());
        let output = start(&mut command).wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{limit}: {said}"
        );
    }
}
