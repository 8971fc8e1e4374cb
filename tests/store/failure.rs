//! Full, read-only and forbidden file systems.

use std::os::unix::fs::chown;

use callgate::store::StoreError;

use super::*;

/// A node whose seccomp root is a small file system.
fn small(options: &str) -> (Node, Mount) {
    let node = Node::new();
    let mount = Mount::tmpfs(&node.root(), options);
    (node, mount)
}

fn assert_old_or_new(node: &Node, new: &str) -> bool {
    let text = node.read("a/x.json");
    assert!(
        text == "one" || text == new,
        "half a file of {} bytes",
        text.len()
    );
    assert!(
        !node.tree().iter().any(|path| path.contains("tmp")),
        "{:?}",
        node.tree()
    );
    text == new
}

#[test]
fn a_full_disk_keeps_the_old_file_at_whatever_point_it_is_full() {
    const PAGE: usize = 4096;
    let (node, _mount) = small("size=200k");
    let new = "x".repeat(5 * PAGE);
    let filler = node.root().join("filler");
    let _calm = without_forks();
    let (mut failed, mut written) = (0, 0);
    for pages in 0..12 {
        let mut store = node.open();
        write(&mut store, "a/x", "one");
        write(&mut store, "a/y", "other");
        // All is full but this many pages.
        fs::write(&filler, vec![1; PAGE * pages]).unwrap();
        let rest = node.root().join("rest");
        _ = fs::write(&rest, vec![1; 400 * 1024]);
        fs::remove_file(&filler).unwrap();
        let result = store.write(&name("a/x"), &canonical(&new), &proof());
        let is_new = assert_old_or_new(&node, &new);
        match result {
            Ok(()) => {
                assert!(is_new);
                written += 1;
            }
            Err(error) => {
                assert!(!is_new);
                assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
                assert!(error.to_string().contains("free space"), "{error}");
                assert!(is_live(&store, "a/x", "one"));
                failed += 1;
                store.repair().unwrap();
                assert!(!assert_old_or_new(&node, &new));
                drop(store);
                assert!(is_live(&node.open(), "a/x", "one"), "after a restart");
                store = node.open();
            }
        }
        fs::remove_file(&rest).unwrap();
        store.write(&name("a/x"), &canonical(&new), &proof()).unwrap();
        assert!(assert_old_or_new(&node, &new));
        assert!(store.repair().unwrap().is_clean());
    }
    assert!(failed > 0 && written > 0, "{failed} failed, {written} written");
}

#[test]
fn on_a_full_disk_a_profile_can_still_be_removed() {
    let (node, _mount) = small("size=64k");
    let _calm = without_forks();
    let mut store = node.with_two();
    let filler = node.root().join("filler");
    _ = fs::write(&filler, vec![1; 100 * 1024]);
    // The file makes room for the record.
    store.remove(&name("a/x")).unwrap();
    assert!(!node.path("a/x.json").exists());
    drop(store);
    assert_eq!(node.open().live().len(), 1);
}

#[test]
fn a_file_system_without_free_inodes_is_full() {
    let (node, _mount) = small("nr_inodes=16");
    let _calm = without_forks();
    let mut store = node.with_two();
    for filler in 0.. {
        if fs::write(node.root().join(format!("filler-{filler}")), "").is_err() {
            break;
        }
    }
    let error = store
        .write(&name("a/x"), &canonical("two"), &proof())
        .unwrap_err();
    assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
    assert!(!assert_old_or_new(&node, "two"));
    fs::remove_file(node.root().join("filler-0")).unwrap();
    write(&mut store, "a/x", "two");
    assert!(assert_old_or_new(&node, "two"));
}

#[test]
fn what_a_full_disk_forbids_to_mend_is_told_and_mended_later() {
    let (node, _mount) = small("size=64k");
    let _calm = without_forks();
    let mut store = node.with_two();
    fs::remove_file(node.path("a/x.json")).unwrap();
    fs::write(node.path("stray"), "").unwrap();
    let filler = node.root().join("filler");
    _ = fs::write(&filler, vec![1; 100 * 1024]);
    let repaired = store.repair().unwrap();
    assert!(
        matches!(repaired.failed[..], [StoreError::NoSpace(_)]),
        "{repaired:?}"
    );
    assert_eq!(repaired.strays, [Path::new("stray")]);
    fs::remove_file(filler).unwrap();
    assert_eq!(store.repair().unwrap().restored, [name("a/x")]);
}

#[test]
fn a_read_only_file_system_is_told_and_retried() {
    let (node, _mount) = small("size=1m");
    let calm = without_forks(); // what is open for writing cannot be made read-only
    let mut store = node.with_two();
    fs::write(node.path("stray"), "").unwrap();
    for stray in 0..150 {
        fs::write(node.path(&format!("stray-{stray}")), "").unwrap();
    }
    drop(calm);
    let root = node.root();
    let remount = |mode: &str| {
        run(
            "mount",
            &["-o", &format!("remount,{mode}"), root.to_str().unwrap()],
        );
    };
    remount("ro");
    let error = store
        .write(&name("a/x"), &canonical("two"), &proof())
        .unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
    let error = store.remove(&name("a/x")).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
    assert!(is_live(&store, "a/x", "one"), "it is still there");
    let repaired = store.repair().unwrap();
    let is_read_only = |error: &StoreError| matches!(error, StoreError::ReadOnly(_));
    assert!(
        repaired.failed.len() == 100 && repaired.failed.iter().all(is_read_only),
        "as many as are of use: {repaired:?}"
    );
    assert_eq!(node.read("a/x.json"), "one");
    drop(store);
    let mut store = node.open();
    assert!(is_live(&store, "a/x", "one"), "what is there can be read");
    remount("rw");
    write(&mut store, "a/x", "two");
    assert_eq!(store.repair().unwrap().strays_total, 151);
}

#[test]
fn on_a_read_only_file_system_a_new_directory_is_refused_with_the_reason() {
    let (node, _mount) = small("ro,size=1m");
    let error = Store::open(&node.root(), Some(&cluster())).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
    assert!(error.to_string().contains("callgate"), "{error}");
}

#[test]
fn without_the_right_to_write_the_path_and_the_cure_are_named() {
    let node = Node::new();
    let mut store = node.with_two();
    chown(node.path("a"), Some(65534), None).unwrap();
    without_capabilities(|| {
        let error = store
            .write(&name("a/x"), &canonical("two"), &proof())
            .unwrap_err();
        assert!(matches!(error, StoreError::Denied(_)), "{error}");
        let message = error.to_string();
        assert!(
            message.contains("callgate/a/") && message.contains("chown"),
            "{message}"
        );
    });
    assert!(!assert_old_or_new(&node, "two"));
    chown(node.path("a"), Some(0), None).unwrap();
    without_capabilities(|| {
        let mut store = store;
        write(&mut store, "a/x", "two");
    });
}

#[test]
fn without_the_right_to_read_a_file_it_is_lost_and_the_rest_is_live() {
    let node = Node::new();
    drop(node.with_two());
    let (own, foreign) = (node.path("a/x.json"), node.path("a/y.json"));
    for path in [&own, &foreign] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    chown(&foreign, Some(65534), None).unwrap();
    without_capabilities(|| {
        let mut store = node.open();
        assert!(is_live(&store, "a/x", "one"), "its mode is ours to change");
        assert!(!store.live().contains_key(&name("a/y")));
        assert_eq!(store.repair().unwrap().lost, [name("a/y")]);
        write(&mut store, "a/y", "other");
        assert!(store.repair().unwrap().is_clean());
    });
}

#[test]
fn a_record_that_was_closed_while_nobody_looked_is_read_nevertheless() {
    let node = Node::new();
    drop(node.with_two());
    let record = node.path(".callgate/record.json");
    fs::set_permissions(record, fs::Permissions::from_mode(0o000)).unwrap();
    without_capabilities(|| {
        let mut store = node.open();
        assert!(is_live(&store, "a/x", "one") && is_live(&store, "a/y", "other"));
        assert!(store.repair().unwrap().is_clean());
    });
}

#[test]
fn without_its_record_a_closed_namespace_is_kept_too() {
    let node = Node::new();
    drop(node.with_two());
    fs::remove_file(node.path(".callgate/record.json")).unwrap();
    fs::set_permissions(node.path("a"), fs::Permissions::from_mode(0o000)).unwrap();
    without_capabilities(|| {
        assert_eq!(node.open().unproven().len(), 2);
    });
}

#[test]
fn a_root_that_may_not_be_written_is_refused() {
    let node = Node::new();
    fs::set_permissions(node.root(), fs::Permissions::from_mode(0o555)).unwrap();
    without_capabilities(|| {
        let error = Store::open(&node.root(), Some(&cluster())).unwrap_err();
        assert!(matches!(error, StoreError::Denied(_)), "{error}");
    });
}
