//! What a crash, a lost record or somebody in between leaves behind.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn after_a_crash_before_the_rename_the_old_file_is_live() {
    let node = Node::new();
    let mut store = node.with_two();
    write(&mut store, "a/x", "two");
    drop(store);
    // The record speaks of "two" already.
    fs::write(node.path("a/x.json"), "one").unwrap();
    fs::write(node.path("a/.callgate-tmp-00"), "tw").unwrap();
    let mut store = node.open();
    assert!(is_live(&store, "a/x", "one"));
    let repaired = store.repair().unwrap();
    assert_eq!(repaired.strays, [Path::new("a/.callgate-tmp-00")]);
    assert!(repaired.restored.is_empty() && repaired.lost.is_empty());
    assert_eq!(node.read("a/x.json"), "one");
}

#[test]
fn what_a_crash_kept_from_being_written_is_vouched_for_no_longer_after_the_next_repair() {
    let node = Node::new();
    let mut store = node.with_two();
    write(&mut store, "a/x", "two");
    drop(store);
    // The record speaks of "two" already.
    fs::write(node.path("a/x.json"), "one").unwrap();
    node.open().repair().unwrap();
    assert!(is_live(&node.open(), "a/x", "one"));
    fs::write(node.path("a/x.json"), "two").unwrap();
    assert!(!node.open().live().contains_key(&name("a/x")));
}

#[test]
fn after_a_crash_in_the_first_write_of_a_profile_it_is_not_live() {
    let node = Node::new();
    drop(node.with_two());
    fs::remove_file(node.path("a/x.json")).unwrap();
    let mut store = node.open();
    assert!(!store.live().contains_key(&name("a/x")));
    assert!(is_live(&store, "a/y", "other"));
    assert_eq!(store.repair().unwrap().lost, [name("a/x")]);
    assert!(store.repair().unwrap().is_clean());
    drop(store);
    assert!(node.open().repair().unwrap().is_clean(), "told once");
}

#[test]
fn what_was_lost_leaves_the_record_with_the_next_write_even_of_what_is_there() {
    let node = Node::new();
    drop(node.with_two());
    fs::remove_file(node.path("a/x.json")).unwrap();
    write(&mut node.open(), "a/y", "other");
    assert!(node.open().repair().unwrap().lost.is_empty());
}

#[test]
fn after_a_crash_while_the_directory_was_made_it_is_made() {
    for made in [
        &[][..],
        &[".callgate"],
        &[".callgate", ".callgate/.callgate-tmp-0123456789abcdef"],
    ] {
        let node = Node::new();
        fs::create_dir(node.path("")).unwrap();
        for path in made {
            if path.contains("tmp") {
                fs::write(node.path(path), "{\"ver").unwrap();
            } else {
                fs::create_dir(node.path(path)).unwrap();
            }
        }
        let mut store = node.open();
        store.repair().unwrap();
        write(&mut store, "a/x", "one");
        assert_eq!(store.owner(), &cluster());
        assert!(store.repair().unwrap().is_clean());
    }
}

#[test]
fn a_marker_without_a_record_is_an_empty_directory() {
    let node = Node::new();
    drop(node.open());
    let mut store = node.open();
    assert!(store.live().is_empty() && store.unproven().is_empty());
    assert!(store.repair().unwrap().is_clean());
}

#[test]
fn a_file_altered_while_nobody_looked_is_removed_and_told() {
    let node = Node::new();
    drop(node.with_two());
    fs::write(node.path("a/x.json"), "bad").unwrap();
    let mut store = node.open();
    assert!(!store.live().contains_key(&name("a/x")));
    assert!(!store.unproven().contains_key(&name("a/x")));
    let repaired = store.repair().unwrap();
    assert_eq!(repaired.lost, [name("a/x")]);
    assert_eq!(repaired.strays, [Path::new("a/x.json")]);
    assert!(!node.path("a/x.json").exists());
    write(&mut store, "a/x", "one");
    assert_eq!(node.read("a/x.json"), "one");
}

#[test]
fn another_profile_s_proven_file_does_not_count_under_this_name() {
    let node = Node::new();
    drop(node.with_two());
    fs::copy(node.path("a/y.json"), node.path("a/x.json")).unwrap();
    assert!(!node.open().live().contains_key(&name("a/x")));
}

#[test]
fn a_file_that_kept_its_bytes_and_lost_its_mode_is_live_and_mended() {
    let node = Node::new();
    drop(node.with_two());
    let path = node.path("a/x.json");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let mut store = node.open();
    assert!(is_live(&store, "a/x", "one"));
    assert_eq!(store.repair().unwrap().restored, [name("a/x")]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
}

type Ruin<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// Ways to lose a record.
fn ruin(record: &Path) -> Vec<Ruin<'_>> {
    let good = fs::read_to_string(record).unwrap();
    let text = |bytes: String| -> Box<dyn Fn() + '_> { Box::new(move || fs::write(record, &bytes).unwrap()) };
    vec![
        ("empty", text(String::new())),
        ("truncated", text(good[..good.len() / 2].to_owned())),
        ("garbage", text("\0\u{7f}".repeat(50))),
        (
            "of a later version",
            text(good.replace("\"version\":1", "\"version\":2")),
        ),
        ("a wrong digest", text(good.replace("sha256:", "sha256:0"))),
        ("a path for a name", text(good.replace("a/x", "../x"))),
        ("an unknown key", text(good.replacen('{', "{\"else\":1,", 1))),
        ("deep", text("[".repeat(100_000))),
        (
            "a directory",
            Box::new(move || {
                fs::remove_file(record).unwrap();
                fs::create_dir_all(record.join("x")).unwrap();
            }),
        ),
        (
            "a symlink",
            Box::new(move || {
                fs::remove_file(record).unwrap();
                symlink("/etc/passwd", record).unwrap();
            }),
        ),
        (
            "a FIFO",
            Box::new(move || {
                fs::remove_file(record).unwrap();
                run("mkfifo", &[record.to_str().unwrap()]);
            }),
        ),
        (
            "huge",
            Box::new(move || fs::File::create(record).unwrap().set_len(1 << 40).unwrap()),
        ),
        ("gone", Box::new(move || fs::remove_file(record).unwrap())),
    ]
}

#[test]
fn without_its_record_a_file_is_kept_and_not_vouched_for_until_it_is_proven_anew() {
    let reference = Node::new();
    drop(reference.with_two());
    let ways = ruin(&reference.path(".callgate/record.json")).len();
    for way in 0..ways {
        let node = Node::new();
        drop(node.with_two());
        let record = node.path(".callgate/record.json");
        let (what, ruin) = ruin(&record).swap_remove(way);
        ruin();

        let mut store = node.open();
        assert!(store.live().is_empty(), "{what}");
        assert_eq!(store.unproven().len(), 2, "{what}");
        assert_eq!(store.unproven()[&name("a/x")].file, canonical("one"), "{what}");
        assert!(store.proven(&canonical("one").digest).is_none(), "{what}");
        assert!(store.repair().unwrap().is_clean(), "{what}");
        write(&mut store, "a/x", "one");
        drop(store);

        let mut store = node.open();
        assert!(is_live(&store, "a/x", "one"), "{what}");
        let still_unproven = &store.unproven()[&name("a/y")];
        assert_eq!(
            still_unproven.origin,
            Origin::Install,
            "{what}: of unknown origin"
        );
        assert_eq!(
            store.unproven().len(),
            1,
            "{what}: the other still waits for its proof"
        );
        assert!(store.repair().unwrap().is_clean(), "{what}");
        write(&mut store, "a/y", "other");
        assert!(store.unproven().is_empty(), "{what}");
        store.remove(&name("a/x")).unwrap();
        assert_eq!(node.read("a/y.json"), "other", "{what}");
    }
}

#[test]
fn without_a_record_only_regular_files_with_a_profile_s_name_are_kept() {
    let node = Node::new();
    drop(node.with_two());
    fs::remove_file(node.path(".callgate/record.json")).unwrap();
    fs::create_dir(node.path("Not-A-Namespace")).unwrap();
    fs::write(node.path("Not-A-Namespace/x.json"), "").unwrap();
    fs::write(node.path("a/Not-A-Name.json"), "").unwrap();
    fs::write(node.path("a/z.txt"), "").unwrap();
    fs::write(node.path("a/huge.json"), vec![0; Canonical::MAX_BYTES + 1]).unwrap();
    symlink("/etc/passwd", node.path("a/link.json")).unwrap();
    symlink("a", node.path("b")).unwrap();
    run("mkfifo", &[node.path("a/fifo.json").to_str().unwrap()]);
    let mut store = node.open();
    assert_eq!(store.unproven().len(), 2);
    assert_eq!(store.repair().unwrap().strays_total, 7);
    assert_eq!(node.tree(), TREE_OF_TWO);
}

#[test]
fn an_unproven_file_that_is_altered_is_removed() {
    let node = Node::new();
    drop(node.with_two());
    fs::remove_file(node.path(".callgate/record.json")).unwrap();
    let mut store = node.open();
    fs::write(node.path("a/x.json"), "bad").unwrap();
    let repaired = store.repair().unwrap();
    assert_eq!(repaired.lost, [name("a/x")]);
    assert!(!node.path("a/x.json").exists());
    assert_eq!(store.unproven().len(), 1);
}

const CHILD_ROOT: &str = "CALLGATE_TEST_WRITER_ROOT";

#[test]
#[ignore = "it writes until another test kills it"]
fn writer_process() {
    let root = std::env::var_os(CHILD_ROOT).unwrap();
    let mut store = Store::open(Path::new(&root), Some(&cluster())).unwrap();
    for version in 0.. {
        write(&mut store, "a/x", &format!("{version:06}").repeat(1000));
        store.remove(&name("a/y")).unwrap();
        write(&mut store, "a/y", &format!("{version:06}"));
    }
}

#[test]
fn a_process_killed_at_any_point_leaves_whole_files_that_the_next_one_knows() {
    let node = Node::new();
    drop(node.with_two());
    let record = node.path(".callgate/record.json");
    for round in 0..20_u64 {
        let before = fs::metadata(&record).unwrap().ino();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--ignored", "--exact", "crash::writer_process"])
            .env(CHILD_ROOT, node.root())
            .stdout(std::process::Stdio::null());
        let mut writer = start(&mut command);
        // Once it writes, at a moment that differs from round to round.
        let deadline = Instant::now() + Duration::from_secs(60);
        while fs::metadata(&record).unwrap().ino() == before {
            assert!(Instant::now() < deadline, "the writer does not write");
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(round * 397));
        writer.kill().unwrap();
        writer.wait().unwrap();

        let mut store = node.open(); // the lock ended with the process
        let live = store.live()[&name("a/x")].file.clone();
        let text = node.read("a/x.json");
        assert_eq!(live, canonical(&text));
        assert!(text == "one" || text == text[..6].repeat(1000), "half a file");
        assert!(store.proven(&live.digest).is_some());
        assert!(store.unproven().is_empty());
        let repaired = store.repair().unwrap();
        assert!(
            repaired.failed.is_empty() && repaired.restored.is_empty(),
            "{repaired:?}"
        );
        assert!(!repaired.lost.contains(&name("a/x")), "{repaired:?}");
        assert!(store.repair().unwrap().is_clean());
    }
}
