//! Whose a directory is, and that nothing of another is touched.

use std::os::unix::fs::symlink;

use callgate::store::StoreError;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::*;

fn refused(node: &Node, owner: &Owner) -> StoreError {
    let before = node.tree();
    let error = Store::open(&node.root(), Some(owner)).unwrap_err();
    assert_eq!(node.tree(), before, "something was touched");
    error
}

fn is_not_ours(error: &StoreError, node: &Node) -> bool {
    matches!(error, StoreError::NotOurs { path, .. } if *path == node.root().join("callgate"))
}

#[test]
fn a_directory_that_holds_anything_and_no_marker_is_never_touched() {
    for put in [
        |node: &Node| fs::write(node.path("notes"), "precious").unwrap(),
        |node: &Node| fs::write(node.path(".hidden"), "precious").unwrap(),
        |node: &Node| fs::create_dir_all(node.path("a/b")).unwrap(),
        |node: &Node| fs::create_dir_all(node.path(".callgate/else")).unwrap(),
        |node: &Node| {
            fs::create_dir(node.path(".callgate")).unwrap();
            fs::write(node.path("notes"), "precious").unwrap();
        },
        |node: &Node| fs::write(node.path(".callgate"), "").unwrap(),
        |node: &Node| symlink(node.outside(), node.path(".callgate")).unwrap(),
        |node: &Node| fs::create_dir_all(node.path(".callgate/owner.json")).unwrap(),
    ] {
        let node = Node::new();
        fs::create_dir(node.path("")).unwrap();
        put(&node);
        let error = refused(&node, &cluster());
        assert!(is_not_ours(&error, &node), "{error}");
        let message = error.to_string();
        assert!(
            message.contains("nothing there was touched; move it away"),
            "{message}"
        );
    }
}

#[test]
fn a_marker_that_cannot_be_read_is_none_of_ours() {
    for marker in [
        "",
        "{",
        r#"{"version":2,"owner":"install"}"#,
        r#"{"version":1,"owner":"somebody"}"#,
        r#"{"version":1,"owner":"install","more":1}"#,
    ] {
        let node = Node::new();
        drop(node.with_two());
        fs::write(node.path(".callgate/owner.json"), marker).unwrap();
        let error = refused(&node, &cluster());
        assert!(is_not_ours(&error, &node), "{marker}: {error}");
    }
}

#[test]
fn whatever_is_no_directory_in_its_place_is_left_alone() {
    let node = Node::new();
    let place = node.root().join("callgate");
    let refused = |what: &str| {
        let error = Store::open(&node.root(), Some(&cluster())).unwrap_err();
        assert!(is_not_ours(&error, &node), "{what}: {error}");
        fs::symlink_metadata(&place).expect(what);
        fs::remove_file(&place).unwrap();
    };
    fs::create_dir(node.outside().join("elsewhere")).unwrap();
    symlink(node.outside().join("elsewhere"), &place).unwrap();
    refused("symlink");
    symlink("nowhere", &place).unwrap();
    refused("dangling symlink");
    fs::write(&place, "").unwrap();
    refused("file");
    run("mkfifo", &[place.to_str().unwrap()]);
    refused("FIFO");
    assert_eq!(fs::read_dir(node.outside().join("elsewhere")).unwrap().count(), 0);
}

#[test]
fn a_file_system_mounted_in_its_place_is_left_alone() {
    let node = Node::new();
    fs::create_dir(node.path("")).unwrap();
    let _mount = Mount::tmpfs(&node.path(""), "size=1m");
    let error = refused(&node, &cluster());
    assert!(
        is_not_ours(&error, &node) && error.to_string().contains("mounted"),
        "{error}"
    );
}

#[test]
fn an_empty_directory_is_taken() {
    let node = Node::new();
    fs::create_dir(node.path("")).unwrap();
    write(&mut node.open(), "a/x", "one");
    assert!(is_live(&node.open(), "a/x", "one"));
}

#[test]
fn a_directory_of_another_cluster_is_refused_and_both_are_named() {
    let node = Node::new();
    drop(node.with_two());
    let error = refused(&node, &Owner::Cluster("uid-2".into()));
    assert!(matches!(error, StoreError::OtherOwner { .. }));
    let message = error.to_string();
    assert!(
        message.contains("uid-1") && message.contains("uid-2"),
        "{message}"
    );
}

#[test]
fn install_may_not_take_what_is_a_cluster_s() {
    let node = Node::new();
    drop(node.with_two());
    let error = refused(&node, &Owner::Install);
    assert!(
        matches!(
            error,
            StoreError::OtherOwner {
                wanted: Owner::Install,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_cluster_adopts_what_install_left() {
    let node = Node::new();
    let mut store = Store::open(&node.root(), Some(&Owner::Install)).unwrap();
    write(&mut store, "a/x", "one");
    write(&mut store, "a/y", "other");
    drop(store);

    let mut store = node.open();
    assert_eq!(store.owner(), &cluster());
    assert!(store.repair().unwrap().is_clean());
    write(&mut store, "a/x", "one");
    drop(store);

    let store = node.open();
    assert_eq!(
        store.live()[&name("a/x")].origin,
        Origin::Cluster,
        "an object names it now"
    );
    assert_eq!(
        store.live()[&name("a/y")].origin,
        Origin::Install,
        "no object ever named it"
    );
    drop(store);
    refused(&node, &Owner::Install);
}

#[test]
fn without_an_owner_only_a_marked_directory_opens() {
    let node = Node::new();
    let unmarked = || Store::open(&node.root(), None).unwrap_err();
    assert!(matches!(unmarked(), StoreError::NoOwner { .. }));
    assert!(!node.path("").exists());
    fs::create_dir(node.path("")).unwrap();
    assert!(matches!(unmarked(), StoreError::NoOwner { .. }));
    assert!(node.tree().is_empty());
    drop(node.with_two());
    let mut store = Store::open(&node.root(), None).unwrap();
    assert!(is_live(&store, "a/x", "one"));
    assert_eq!(store.owner(), &cluster());
    store.claim(&cluster()).unwrap();
    let error = store.claim(&Owner::Cluster("uid-2".into())).unwrap_err();
    assert!(matches!(error, StoreError::OtherOwner { .. }), "{error}");
}

#[test]
fn a_claim_lasts() {
    let node = Node::new();
    drop(Store::open(&node.root(), Some(&Owner::Install)).unwrap());
    let mut store = Store::open(&node.root(), None).unwrap();
    assert_eq!(store.owner(), &Owner::Install);
    store.claim(&cluster()).unwrap();
    drop(store);
    assert_eq!(Store::open(&node.root(), None).unwrap().owner(), &cluster());
}

#[test]
fn a_directory_that_was_taken_over_is_so_from_the_beginning() {
    let node = Node::new();
    drop(Store::open(&node.root(), Some(&Owner::Install)).unwrap());
    drop(node.open());
    refused(&node, &Owner::Install);
}

#[test]
fn two_at_a_time_are_refused() {
    let node = Node::new();
    let store = node.with_two();
    let error = refused(&node, &cluster());
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    drop(store);
    node.open();
}

#[test]
fn what_another_process_works_with_is_not_taken_from_it() {
    let node = Node::new();
    let mut store = node.with_two();
    fs::rename(node.path(".callgate"), node.outside().join("moved")).unwrap();
    fs::create_dir(node.path(".callgate")).unwrap();
    let other = fs::File::open(node.path(".callgate")).unwrap();
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    let error = store.repair().unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    flock(&other, FlockOperation::Unlock).unwrap();
    assert!(store.repair().unwrap().failed.is_empty());
    assert_eq!(node.tree(), TREE_OF_TWO);
    refused(&node, &cluster()); // the new one is locked as the old one was
}

#[test]
fn a_store_that_is_closed_is_free_though_a_copy_of_its_handles_lives_on() {
    let node = Node::new();
    let store = node.with_two();
    let meta = node.path(".callgate").canonicalize().unwrap();
    // What a process has that was forked and did not run its program yet.
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let handles: Vec<_> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|link| fs::read_link(link).is_ok_and(|path| path == meta))
        .collect();
    let copies: Vec<_> = handles
        .iter()
        .map(|link| link.file_name().unwrap().to_str().unwrap().parse().unwrap())
        .map(|fd| pidfd_getfd(&this, fd, PidfdGetfdFlags::empty()).unwrap())
        .collect();
    assert_eq!(copies.len(), 1);
    drop(store);
    node.open();
}

#[test]
fn no_handle_goes_on_to_other_programs() {
    let node = Node::new();
    let store = node.with_two();
    let _watch = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap()
        .block_on(async { store.watch().unwrap() });
    let root = node.root().canonicalize().unwrap();
    let mut seen = 0;
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let link = entry.unwrap().path();
        let Ok(path) = fs::read_link(&link) else { continue };
        if !path.starts_with(&root) && path != Path::new("anon_inode:inotify") {
            continue;
        }
        let info = link.to_str().unwrap().replace("/fd/", "/fdinfo/");
        let Ok(info) = fs::read_to_string(info) else {
            continue;
        };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
        assert!(flags & OFlags::CLOEXEC.bits() != 0, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 4, "root, callgate, .callgate, inotify: {seen}");
}

#[test]
fn a_root_that_is_no_directory_is_named() {
    let node = Node::new();
    let root = node.outside().join("file");
    fs::write(&root, "").unwrap();
    let error = Store::open(&root, Some(&cluster())).unwrap_err();
    assert!(
        matches!(&error, StoreError::RootGone { path, .. } if *path == root),
        "{error}"
    );
}

#[test]
fn a_missing_root_is_named() {
    let node = Node::new();
    let root = node.outside().join("nowhere");
    let error = Store::open(&root, Some(&cluster())).unwrap_err();
    assert!(
        matches!(&error, StoreError::RootGone { path, .. } if *path == root),
        "{error}"
    );
}
