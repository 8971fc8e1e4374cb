//! A store whose process has shut itself in to write in one directory alone. Landlock itself is not at work here.

use std::fs;

use callgate::store::{Bounds, Ground, Store, StoreError};

use crate::{Node, canonical, cluster, name, proof};

fn bounds(node: &Node) -> Bounds {
    Ground::prepare(&node.root()).unwrap().bounds()
}

fn open(node: &Node, bounds: Bounds) -> Result<Store, StoreError> {
    Store::open_within(&node.root(), Some(&cluster()), Some(bounds))
}

#[test]
fn the_ground_is_made_where_nothing_lies_and_belongs_to_whom_claims_it() {
    let node = Node::new();
    let ground = Ground::prepare(&node.root()).unwrap();
    assert!(ground.home().is_some());
    assert_eq!(fs::read_dir(node.root().join("callgate")).unwrap().count(), 0);
    assert_eq!(
        Ground::prepare(&node.root()).unwrap().bounds(),
        ground.bounds(),
        "made anew"
    );
    // An agent that does not know its cluster yet.
    let error = Store::open_within(&node.root(), None, Some(ground.bounds())).unwrap_err();
    assert!(matches!(error, StoreError::NoOwner { .. }), "{error}");
    let mut store = open(&node, ground.bounds()).unwrap();
    store.write(&name("a/p"), &canonical("{}"), &proof()).unwrap();
    assert!(store.repair().unwrap().is_clean());
}

#[test]
fn a_directory_that_is_taken_away_or_replaced_is_out_of_bounds_and_what_lies_there_untouched() {
    for replaced in [false, true] {
        let node = Node::new();
        let mut store = open(&node, bounds(&node)).unwrap();
        store.write(&name("a/p"), &canonical("{}"), &proof()).unwrap();
        let (home, aside) = (node.root().join("callgate"), node.root().join("aside"));
        fs::rename(&home, &aside).unwrap();
        if replaced {
            fs::create_dir(&home).unwrap();
        }
        for error in [
            store.repair().unwrap_err(),
            store.write(&name("a/q"), &canonical("{}"), &proof()).unwrap_err(),
            store.remove(&name("a/p")).unwrap_err(),
        ] {
            assert!(
                matches!(&error, StoreError::OutOfBounds { path } if *path == home),
                "{error}"
            );
            assert!(error.needs_a_new_process());
        }
        assert_eq!(home.exists(), replaced);
        if replaced {
            assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
            fs::remove_dir(&home).unwrap();
        }
        // It is the one that it was, and nothing is missing.
        fs::rename(&aside, &home).unwrap();
        assert!(store.repair().unwrap().is_clean(), "replaced: {replaced}");
    }
}

#[test]
fn a_new_process_takes_what_lies_there_now() {
    let node = Node::new();
    let mut store = open(&node, bounds(&node)).unwrap();
    fs::remove_dir_all(node.root().join("callgate")).unwrap();
    assert!(store.repair().unwrap_err().needs_a_new_process());
    drop(store);
    let mut next = open(&node, bounds(&node)).unwrap();
    next.write(&name("a/p"), &canonical("{}"), &proof()).unwrap();
}

#[test]
fn where_no_directory_can_be_made_the_store_says_why_and_once_it_can_that_it_takes_a_new_process() {
    let node = Node::new();
    let home = node.root().join("callgate");
    fs::write(&home, "a file of others").unwrap();
    let ground = Ground::prepare(&node.root()).unwrap();
    assert!(ground.home().is_none());
    let error = open(&node, ground.bounds()).unwrap_err();
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
    assert!(!error.needs_a_new_process());
    fs::remove_file(&home).unwrap();
    for _ in ["it is made", "it is there"] {
        let error = open(&node, ground.bounds()).unwrap_err();
        assert!(matches!(error, StoreError::OutOfBounds { .. }), "{error}");
    }
    open(&node, bounds(&node)).unwrap();
}

#[test]
fn a_seccomp_root_that_is_missing_or_another_one_is_gone() {
    let node = Node::new();
    let bounds = bounds(&node);
    let (root, aside) = (node.root(), node.root().with_extension("aside"));
    fs::rename(&root, &aside).unwrap();
    let prepared = Ground::prepare(&root).unwrap_err();
    assert!(
        matches!(&prepared, StoreError::RootGone { path, .. } if *path == root),
        "{prepared}"
    );
    fs::create_dir(&root).unwrap();
    let opened = open(&node, bounds).unwrap_err();
    assert!(
        matches!(&opened, StoreError::RootGone { path, .. } if *path == root),
        "{opened}"
    );
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}
