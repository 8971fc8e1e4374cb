//! What others do to the directory while it is open.

use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;

use callgate::store::{Repaired, StoreError};
use rustix::fs::{FileType, Mode, OFlags, fchmod, mkdirat, mknodat, openat};

use super::*;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn remove(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

/// Ways to harm the file `a/x.json`, or the way to it.
type Harm = (&'static str, fn(&Node, &Path));

const HARMS: &[Harm] = &[
    ("altered", |_, file| fs::write(file, "bad").unwrap()),
    ("truncated", |_, file| fs::write(file, "").unwrap()),
    ("made longer", |_, file| fs::write(file, "one\n").unwrap()),
    ("made huge", |_, file| {
        fs::File::create(file).unwrap().set_len(1 << 40).unwrap();
    }),
    ("removed", |_, file| remove(file)),
    ("closed", |_, file| mode(file, 0)),
    ("writable by all", |_, file| mode(file, 0o666)),
    ("set-uid", |_, file| mode(file, 0o4644)),
    ("given away", |_, file| chown(file, Some(65534), None).unwrap()),
    ("given a second name", |node, file| {
        fs::hard_link(file, node.outside().join("second")).unwrap();
    }),
    ("a symlink to the same bytes", |node, file| {
        fs::rename(file, node.outside().join("moved")).unwrap();
        symlink(node.outside().join("moved"), file).unwrap();
    }),
    ("a dangling symlink", |_, file| {
        remove(file);
        symlink("nowhere", file).unwrap();
    }),
    ("a symlink to itself", |_, file| {
        remove(file);
        symlink("x.json", file).unwrap();
    }),
    ("an empty directory", |_, file| {
        remove(file);
        fs::create_dir(file).unwrap();
    }),
    ("a full directory", |_, file| {
        remove(file);
        fs::create_dir_all(file.join("b/c")).unwrap();
        fs::write(file.join("b/c/d"), "").unwrap();
    }),
    ("a FIFO", |_, file| {
        remove(file);
        run("mkfifo", &[file.to_str().unwrap()]);
    }),
    ("a device", |_, file| {
        remove(file);
        run("mknod", &[file.to_str().unwrap(), "c", "1", "3"]);
    }),
    ("a socket", |_, file| {
        remove(file);
        drop(UnixListener::bind(file).unwrap());
    }),
    ("its namespace removed", |node, _| remove(&node.path("a"))),
    ("its namespace a file", |node, _| {
        remove(&node.path("a"));
        fs::write(node.path("a"), "").unwrap();
    }),
    ("its namespace a symlink elsewhere", |node, _| {
        fs::rename(node.path("a"), node.outside().join("moved")).unwrap();
        symlink(node.outside().join("moved"), node.path("a")).unwrap();
    }),
    ("its namespace another one", |node, _| {
        fs::rename(node.path("a"), node.outside().join("moved")).unwrap();
        fs::create_dir(node.path("a")).unwrap();
    }),
    ("its namespace closed", |node, _| mode(&node.path("a"), 0)),
    ("its namespace writable by all", |node, _| {
        mode(&node.path("a"), 0o777);
    }),
    ("the directory closed", |node, _| mode(&node.path(""), 0)),
    ("the directory writable by all", |node, _| {
        mode(&node.path(""), 0o777);
    }),
    ("the directory moved away", |node, _| {
        fs::rename(node.root().join("callgate"), node.outside().join("moved")).unwrap();
    }),
    ("the directory emptied", |node, _| {
        for path in ["a", ".callgate"] {
            remove(&node.path(path));
        }
    }),
    ("the directory removed", |node, _| {
        remove(&node.root().join("callgate"));
    }),
    ("the directory another, empty one", |node, _| {
        remove(&node.root().join("callgate"));
        fs::create_dir(node.root().join("callgate")).unwrap();
    }),
    ("the directory a copy with an older file", |node, file| {
        let (place, moved) = (node.root().join("callgate"), node.outside().join("moved"));
        fs::rename(&place, &moved).unwrap();
        run("cp", &["-a", moved.to_str().unwrap(), place.to_str().unwrap()]);
        fs::write(file, "older").unwrap();
    }),
];

#[test]
fn a_file_that_was_harmed_in_any_way_comes_back() {
    for (what, harm) in HARMS {
        let node = Node::new();
        let mut store = node.with_two();
        harm(&node, &node.path("a/x.json"));
        assert_mended(&node, &mut store, what);
        drop(store);
        assert!(is_live(&node.open(), "a/x", "one"), "{what}");
    }
}

#[test]
fn a_file_that_was_harmed_in_any_way_comes_back_without_capabilities() {
    for (what, harm) in HARMS {
        let node = Node::new();
        let store = node.with_two();
        harm(&node, &node.path("a/x.json"));
        without_capabilities(|| {
            let mut store = store;
            assert_mended(&node, &mut store, what);
        });
    }
}

/// Directories whose owner may do as they please with the file, and may not yet have.
const GIVEN_AWAY: [&str; 3] = ["", "a", ".callgate"];

#[test]
fn a_directory_that_was_given_away_is_ours_again() {
    for path in GIVEN_AWAY {
        let node = Node::new();
        let mut store = node.with_two();
        chown(node.path(path), Some(65534), None).unwrap();
        let repaired = store.repair().unwrap();
        assert!(repaired.failed.is_empty(), "{path}: {repaired:?}");
        assert_eq!(fs::metadata(node.path(path)).unwrap().uid(), 0, "{path}");
        assert!(store.repair().unwrap().is_clean(), "{path}");
    }
}

#[test]
fn a_directory_that_was_given_away_is_told_where_it_cannot_be_taken_back() {
    for path in GIVEN_AWAY {
        let node = Node::new();
        let mut store = node.with_two();
        chown(node.path(path), Some(65534), None).unwrap();
        let told = without_capabilities(|| match store.repair() {
            Ok(repaired) => repaired.failed.into_iter().next().unwrap(),
            Err(error) => error,
        });
        let message = told.to_string();
        assert!(matches!(told, StoreError::Denied(_)), "{path}: {message}");
        assert!(message.contains("chown"), "{path}: {message}");
        chown(node.path(path), Some(0), None).unwrap();
        assert!(store.repair().unwrap().is_clean(), "{path}");
    }
}

#[test]
fn a_file_of_others_that_got_a_name_in_our_directory_keeps_its_mode() {
    let node = Node::new();
    drop(node.with_two());
    let secret = node.outside().join("secret");
    fs::write(&secret, "one").unwrap();
    mode(&secret, 0);
    for path in ["a/x.json", "a", ".callgate/record.json"] {
        let mut store = node.open();
        write(&mut store, "a/x", "one");
        drop(store);
        remove(&node.path(path));
        fs::hard_link(&secret, node.path(path)).unwrap();
        // Without capabilities a mode of nothing denies the reading of it, and invites to change it.
        without_capabilities(|| {
            // Closed files of ours are opened to us; this one is not, and so the record cannot be read.
            if let Ok(mut store) = Store::open(&node.root(), Some(&cluster())) {
                store.repair().unwrap();
            }
        });
        let after = fs::metadata(&secret).unwrap().permissions().mode();
        assert_eq!(after & 0o7777, 0, "{path}");
        if node.path(path).is_file() {
            remove(&node.path(path));
        }
    }
}

fn assert_mended(node: &Node, store: &mut Store, what: &str) {
    let repaired = store.repair().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(repaired.restored.contains(&name("a/x")), "{what}: {repaired:?}");
    assert!(
        repaired.failed.is_empty() && repaired.lost.is_empty(),
        "{what}: {repaired:?}"
    );
    assert_eq!(node.tree(), TREE_OF_TWO, "{what}");
    let file = fs::symlink_metadata(node.path("a/x.json")).unwrap();
    assert!(
        file.is_file() && file.nlink() == 1 && file.uid() == 0,
        "{what}: {file:?}"
    );
    assert_eq!(file.permissions().mode() & 0o7777, 0o644, "{what}");
    assert_eq!(node.read("a/x.json"), "one", "{what}");
    let again = store.repair().unwrap();
    assert!(again.is_clean(), "{what}: {again:?}");
}

#[test]
fn nothing_outside_is_harmed_where_a_symlink_leads_there() {
    let node = Node::new();
    let mut store = node.with_two();
    let precious = node.outside().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("x.json"), "precious").unwrap();
    for path in ["a", "stray"] {
        if node.path(path).exists() {
            remove(&node.path(path));
        }
        symlink(&precious, node.path(path)).unwrap();
    }
    symlink(precious.join("x.json"), node.path(".callgate/link")).unwrap();
    write(&mut store, "a/x", "two");
    store.remove(&name("a/y")).unwrap();
    store.repair().unwrap();
    assert_eq!(fs::read_to_string(precious.join("x.json")).unwrap(), "precious");
    assert_eq!(fs::read_dir(&precious).unwrap().count(), 1);
    assert_eq!(node.read("a/x.json"), "two");
}

#[test]
fn a_symlink_for_a_namespace_does_not_lead_a_removal_astray() {
    let node = Node::new();
    let mut store = node.with_two();
    fs::rename(node.path("a"), node.outside().join("moved")).unwrap();
    symlink(node.outside().join("moved"), node.path("a")).unwrap();
    store.remove(&name("a/x")).unwrap();
    assert!(node.outside().join("moved/x.json").exists());
}

#[test]
fn our_own_files_come_back() {
    for harm in [
        |node: &Node| remove(&node.path(".callgate/owner.json")),
        |node: &Node| fs::write(node.path(".callgate/owner.json"), "{}").unwrap(),
        |node: &Node| {
            fs::write(
                node.path(".callgate/owner.json"),
                r#"{"version":1,"owner":"install"}"#,
            )
            .unwrap();
        },
        |node: &Node| {
            remove(&node.path(".callgate/owner.json"));
            fs::create_dir_all(node.path(".callgate/owner.json/x")).unwrap();
        },
        |node: &Node| remove(&node.path(".callgate/record.json")),
        |node: &Node| fs::write(node.path(".callgate/record.json"), "{}").unwrap(),
        |node: &Node| mode(&node.path(".callgate/owner.json"), 0),
        |node: &Node| mode(&node.path(".callgate/record.json"), 0),
        |node: &Node| remove(&node.path(".callgate")),
        |node: &Node| mode(&node.path(".callgate"), 0),
        |node: &Node| mode(&node.path(".callgate"), 0o777),
        |node: &Node| {
            fs::rename(node.path(".callgate"), node.outside().join("moved")).unwrap();
            symlink(node.outside().join("moved"), node.path(".callgate")).unwrap();
        },
    ] {
        let node = Node::new();
        let store = node.with_two();
        harm(&node);
        without_capabilities(|| {
            let mut store = store;
            assert!(store.repair().unwrap().failed.is_empty());
        });
        assert_eq!(node.tree(), TREE_OF_TWO);
        let mode = fs::metadata(node.path(".callgate")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let store = node.open();
        assert_eq!(store.owner(), &cluster());
        assert_eq!(store.live().len(), 2);
    }
}

#[test]
fn whatever_is_not_ours_in_our_directory_goes_and_is_listed() {
    let node = Node::new();
    let store = node.with_two();
    fs::write(node.path("file"), "").unwrap();
    fs::write(node.path("a/.x.json.swp"), "").unwrap();
    fs::write(node.path("a/X.json"), "").unwrap();
    fs::write(node.path(".callgate/else"), "").unwrap();
    fs::write(node.path(".callgate-tmp-0123456789abcdef"), "half").unwrap();
    fs::create_dir_all(node.path("b/c/d")).unwrap();
    fs::write(node.path("b/c/d/e"), "").unwrap();
    fs::create_dir(node.path("closed")).unwrap();
    fs::write(node.path("closed/file"), "").unwrap();
    mode(&node.path("closed"), 0);
    symlink("/", node.path("link")).unwrap();
    run("mkfifo", &[node.path("fifo").to_str().unwrap()]);
    run("mknod", &[node.path("device").to_str().unwrap(), "b", "7", "200"]);
    drop(UnixListener::bind(node.path("socket")).unwrap());
    let latin1: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(b"caf\xe9".to_vec());
    fs::write(node.path("").join(&latin1), "").unwrap();

    let (mut repaired, mut store) = without_capabilities(move || {
        let mut store = store;
        (store.repair().unwrap(), store)
    });
    repaired.strays.sort();
    let mut expected: Vec<PathBuf> = [
        "file",
        "a/.x.json.swp",
        "a/X.json",
        ".callgate/else",
        ".callgate-tmp-0123456789abcdef",
        "b",
        "closed",
        "link",
        "fifo",
        "device",
        "socket",
    ]
    .map(PathBuf::from)
    .into();
    expected.push(latin1.into());
    expected.sort();
    assert_eq!(repaired.strays, expected);
    assert_eq!(repaired.strays_total, expected.len());
    assert!(
        repaired.failed.is_empty() && repaired.restored.is_empty(),
        "{repaired:?}"
    );
    assert_eq!(node.tree(), TREE_OF_TWO);
    assert!(store.repair().unwrap().is_clean());
}

#[test]
fn a_tree_of_any_depth_goes_though_all_of_it_is_closed() {
    let node = Node::new();
    let store = node.with_two();
    let open = |dir: &fs::File, name: &str| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        fs::File::from(openat(dir, name, flags, Mode::empty()).unwrap())
    };
    let mut dirs = vec![fs::File::open(node.path("a")).unwrap()];
    for depth in 0..500 {
        for name in ["deep-directory-name", "wide"] {
            mkdirat(&dirs[depth], name, Mode::RWXU).unwrap();
        }
        mknodat(&dirs[depth], "fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
        dirs.push(open(&dirs[depth], "deep-directory-name"));
    }
    for dir in &dirs[1..] {
        fchmod(dir, Mode::empty()).unwrap();
    }
    drop(dirs);
    let (repaired, mut store) = without_capabilities(|| {
        let mut store = store;
        (store.repair().unwrap(), store)
    });
    assert!(repaired.failed.is_empty(), "{repaired:?}");
    assert_eq!(node.tree(), TREE_OF_TWO);
    assert!(store.repair().unwrap().is_clean());
}

#[test]
fn of_very_many_strays_the_first_are_listed_and_all_are_counted_and_gone() {
    let node = Node::new();
    let mut store = node.with_two();
    for stray in 0..3000 {
        fs::write(node.path(&format!("stray-{stray}")), "").unwrap();
    }
    let repaired = store.repair().unwrap();
    assert_eq!(repaired.strays.len(), Repaired::MAX_STRAYS);
    assert_eq!(repaired.strays_total, 3000);
    assert_eq!(node.tree(), TREE_OF_TWO);
}

#[test]
fn another_file_system_is_never_entered() {
    let node = Node::new();
    let mut store = node.with_two();
    let inner = node.path("stray/inner");
    fs::create_dir_all(&inner).unwrap();
    // Many, so that some are found behind the one that cannot go.
    let loose: Vec<PathBuf> = (0..40)
        .map(|number| format!("loose-{number:02}").into())
        .collect();
    for path in &loose {
        fs::write(node.path("").join(path), "").unwrap();
    }
    {
        let _mount = Mount::tmpfs(&inner, "size=1m");
        fs::write(inner.join("precious"), "").unwrap();
        let mut repaired = store.repair().unwrap();
        repaired.strays.sort();
        assert_eq!(repaired.strays, loose, "the rest is mended nevertheless");
        let message = repaired.failed[0].to_string();
        assert!(
            message.contains("stray") && message.contains("mounts"),
            "{message}"
        );
        assert!(inner.join("precious").exists());
    }
    assert_eq!(store.repair().unwrap().strays, [Path::new("stray")]);
}

#[test]
fn a_mount_over_a_file_or_its_namespace_is_told_and_harms_no_other() {
    let node = Node::new();
    let mut store = node.with_two();
    write(&mut store, "b/z", "third");
    let bad = node.outside().join("bad");
    fs::write(&bad, "bad").unwrap();
    let mounts: [&dyn Fn() -> Mount; 2] = [&|| Mount::bind(&bad, &node.path("a/x.json")), &|| {
        Mount::tmpfs(&node.path("a"), "size=1m")
    }];
    for mount in mounts {
        let mount = mount();
        fs::write(node.path("b/z.json"), "bad").unwrap();
        let repaired = store.repair().unwrap();
        assert_eq!(repaired.restored, [name("b/z")]);
        let told: Vec<String> = repaired.failed.iter().map(ToString::to_string).collect();
        assert!(!told.is_empty());
        assert!(
            told.iter().all(|message| message.contains("/callgate/a")),
            "{told:?}"
        );
        drop(mount);
    }
    assert!(store.repair().unwrap().is_clean());
    assert_eq!(fs::read_to_string(bad).unwrap(), "bad");
}

#[test]
fn a_mount_over_a_namespace_is_no_reason_not_to_start() {
    let node = Node::new();
    let mut store = node.with_two();
    write(&mut store, "b/z", "third");
    drop(store);
    let _mount = Mount::tmpfs(&node.path("a"), "size=1m");
    let mut store = node.open();
    assert!(is_live(&store, "b/z", "third"));
    assert_eq!(store.repair().unwrap().lost, [name("a/x"), name("a/y")]);
}

#[test]
fn a_directory_that_was_replaced_by_one_that_is_not_ours_is_left_alone() {
    let node = Node::new();
    let mut store = node.with_two();
    let (place, moved) = (node.root().join("callgate"), node.outside().join("moved"));
    fs::rename(&place, &moved).unwrap();

    fs::create_dir(&place).unwrap();
    fs::write(place.join("precious"), "").unwrap();
    assert!(matches!(store.repair().unwrap_err(), StoreError::NotOurs { .. }));
    let error = store
        .write(&name("a/x"), &canonical("two"), &proof())
        .unwrap_err();
    assert!(matches!(error, StoreError::NotOurs { .. }));
    assert!(matches!(
        store.remove(&name("a/x")).unwrap_err(),
        StoreError::NotOurs { .. }
    ));
    assert_eq!(node.tree(), ["precious"]);

    remove(&place);
    symlink(&moved, &place).unwrap();
    assert!(matches!(store.repair().unwrap_err(), StoreError::NotOurs { .. }));
    assert_eq!(fs::read_to_string(moved.join("a/x.json")).unwrap(), "one");

    remove(&place);
    drop(Store::open(&node.root(), Some(&Owner::Cluster("uid-2".into()))).unwrap());
    assert!(matches!(
        store.repair().unwrap_err(),
        StoreError::OtherOwner { .. }
    ));

    remove(&place);
    assert_eq!(store.repair().unwrap().restored.len(), 2);
    assert_eq!(node.tree(), TREE_OF_TWO);
}

#[test]
fn a_write_into_a_directory_that_was_taken_away_brings_back_all() {
    let node = Node::new();
    let mut store = node.with_two();
    fs::rename(node.root().join("callgate"), node.outside().join("moved")).unwrap();
    write(&mut store, "a/x", "two");
    assert_eq!(node.read("a/x.json"), "two");
    assert_eq!(node.read("a/y.json"), "other");
    remove(&node.root().join("callgate"));
    write(&mut store, "a/x", "two");
    assert_eq!(
        node.read("a/y.json"),
        "other",
        "a write of what was there finds it gone as well"
    );
    let repaired = store.repair().unwrap();
    assert_eq!(
        repaired.restored,
        [name("a/x"), name("a/y")],
        "told by the next repair"
    );
    assert!(store.repair().unwrap().is_clean());
}

#[test]
fn a_root_that_is_gone_or_another_is_told_apart_from_everything_else() {
    let node = Node::new();
    let mut store = node.with_two();
    let moved = node.outside().join("moved");
    fs::rename(node.root(), &moved).unwrap();
    assert!(matches!(store.repair().unwrap_err(), StoreError::RootGone { .. }));
    fs::create_dir(node.root()).unwrap();
    assert!(matches!(store.repair().unwrap_err(), StoreError::RootGone { .. }));
    let error = store
        .write(&name("a/x"), &canonical("two"), &proof())
        .unwrap_err();
    assert!(matches!(error, StoreError::RootGone { .. }), "{error}");
    assert_eq!(fs::read_dir(node.root()).unwrap().count(), 0);
    fs::remove_dir(node.root()).unwrap();
    fs::rename(&moved, node.root()).unwrap();
    assert!(store.repair().unwrap().is_clean());
}

#[test]
fn a_root_that_was_deleted_beneath_its_mount_is_gone() {
    let node = Node::new();
    let mounted = node.outside().join("mounted");
    fs::create_dir(&mounted).unwrap();
    let _mount = Mount::bind(&node.root(), &mounted);
    let mut store = Store::open(&mounted, Some(&cluster())).unwrap();
    write(&mut store, "a/x", "one");
    fs::remove_dir_all(node.root()).unwrap();
    let error = store.repair().unwrap_err();
    assert!(
        matches!(&error, StoreError::RootGone { path, .. } if *path == mounted),
        "{error}"
    );
}
