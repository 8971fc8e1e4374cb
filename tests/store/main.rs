//! The node's directory, on real file systems. Some tests mount: run them as root.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says where"
)]

mod bounds;
mod calls;
mod crash;
mod drift;
mod failure;
mod owner;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use callgate::profile::{Canonical, Digest, ProfileName};
use callgate::store::{Origin, Owner, ProvenWith, Store};

fn cluster() -> Owner {
    Owner::Cluster("uid-1".into())
}

fn proof() -> ProvenWith {
    ProvenWith {
        kernel: "6.1".into(),
        libseccomp: "2.5.4".into(),
        callgate: "0.1.0".into(),
    }
}

fn canonical(bytes: impl AsRef<[u8]>) -> Canonical {
    let bytes = bytes.as_ref();
    Canonical {
        bytes: bytes.into(),
        digest: Digest::of(bytes),
    }
}

fn name(text: &str) -> ProfileName {
    text.parse().unwrap()
}

/// A seccomp root in a temporary directory.
struct Node {
    temporary: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self {
            temporary: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(node.root()).unwrap();
        node
    }

    /// A directory that the seccomp root lies in, for what lies outside of it.
    fn outside(&self) -> &Path {
        self.temporary.path()
    }

    fn root(&self) -> PathBuf {
        self.outside().join("seccomp")
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root().join("callgate").join(below)
    }

    fn open(&self) -> Store {
        Store::open(&self.root(), Some(&cluster())).unwrap()
    }

    /// An open store with `a/x` = "one" and `a/y` = "other", looked at once.
    fn with_two(&self) -> Store {
        let mut store = self.open();
        write(&mut store, "a/x", "one");
        write(&mut store, "a/y", "other");
        assert!(store.repair().unwrap().is_clean());
        store
    }

    fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap()
    }

    /// Everything below `callgate`, sorted.
    fn tree(&self) -> Vec<String> {
        fn walk(dir: &Path, prefix: &str, into: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), &format!("{path}/"), into);
                }
                into.push(path);
            }
        }
        let mut tree = Vec::new();
        walk(&self.path(""), "", &mut tree);
        tree.sort();
        tree
    }
}

const TREE_OF_TWO: [&str; 6] = [
    ".callgate",
    ".callgate/owner.json",
    ".callgate/record.json",
    "a",
    "a/x.json",
    "a/y.json",
];

fn write(store: &mut Store, profile: &str, bytes: &str) {
    store.write(&name(profile), &canonical(bytes), &proof()).unwrap();
}

fn is_live(store: &Store, profile: &str, bytes: &str) -> bool {
    let live = store.live().get(&name(profile));
    live.is_some_and(|live| live.file == canonical(bytes))
}

/// Held while a process is made: until it runs its program it has copies of all our handles, and so keeps a
/// removed file's space, and a file open for writing.
static FORKS: RwLock<()> = RwLock::new(());

/// Starts a program.
fn start(command: &mut Command) -> Child {
    let _alone = FORKS.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

/// While this is held, nobody but the caller has its handles.
fn without_forks() -> RwLockReadGuard<'static, ()> {
    FORKS.read().unwrap_or_else(PoisonError::into_inner)
}

fn run(program: &str, arguments: &[&str]) {
    let status = start(Command::new(program).args(arguments)).wait().unwrap();
    assert!(
        status.success(),
        "{program} {arguments:?}: {status}; are you root?"
    );
}

/// A mounted file system, until dropped.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(on: &Path, options: &str) -> Self {
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                options,
                "callgate-test",
                on.to_str().unwrap(),
            ],
        );
        Self(on.to_owned())
    }

    fn bind(from: &Path, on: &Path) -> Self {
        run("mount", &["--bind", from.to_str().unwrap(), on.to_str().unwrap()]);
        Self(on.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &["--lazy", self.0.to_str().unwrap()]);
    }
}

/// Runs on a thread without any capability, as agents do.
fn without_capabilities<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    std::thread::scope(|scope| {
        let work = move || {
            set_capabilities(None, none).unwrap();
            work()
        };
        scope.spawn(work).join().unwrap()
    })
}

#[test]
fn a_written_profile_is_on_disk_live_and_known_after_a_restart() {
    let node = Node::new();
    drop(node.with_two());
    assert_eq!(node.read("a/x.json"), "one");
    assert_eq!(node.tree(), TREE_OF_TWO);
    let mut store = node.open();
    assert!(is_live(&store, "a/x", "one"));
    assert_eq!(store.live()[&name("a/x")].origin, Origin::Cluster);
    assert_eq!(store.proven(&canonical("one").digest), Some(&proof()));
    assert!(store.unproven().is_empty());
    assert_eq!(store.owner(), &cluster());
    assert!(store.repair().unwrap().is_clean());
}

#[test]
fn a_file_may_be_read_by_all_and_written_by_its_owner_only() {
    let node = Node::new();
    let _store = node.with_two();
    let mode = |below| fs::metadata(node.path(below)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("a/x.json"), 0o644);
    assert_eq!(mode("a"), 0o755);
    assert_eq!(mode(""), 0o755);
    assert_eq!(mode(".callgate"), 0o700);
}

const UMASK_ROOT: &str = "CALLGATE_TEST_UMASK_ROOT";

#[test]
#[ignore = "it runs under the umask that another test sets"]
fn process_with_a_umask() {
    let root = std::env::var_os(UMASK_ROOT).unwrap();
    let mut store = Store::open(Path::new(&root), Some(&cluster())).unwrap();
    write(&mut store, "a/x", "one");
}

#[test]
fn whatever_the_umask_containers_can_read_what_is_written() {
    let node = Node::new();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "umask 0277 && exec \"$0\" --ignored --exact process_with_a_umask",
        ])
        .arg(std::env::current_exe().unwrap())
        .env(UMASK_ROOT, node.root())
        .stdout(std::process::Stdio::null());
    assert!(start(&mut command).wait().unwrap().success());
    let mode = |below| fs::metadata(node.path(below)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("a/x.json"), 0o644);
    assert_eq!(mode("a"), 0o755);
    assert_eq!(mode(""), 0o755);
    assert!(node.open().repair().unwrap().is_clean());
}

#[test]
fn the_longest_name_that_a_profile_may_have_can_be_written() {
    let node = Node::new();
    let profile = format!("{}/{}", "n".repeat(63), "p".repeat(ProfileName::MAX_NAME));
    write(&mut node.open(), &profile, "one");
    assert_eq!(node.read(&format!("{profile}.json")), "one");
    assert!(is_live(&node.open(), &profile, "one"));
}

#[test]
fn an_update_replaces_the_file_and_the_way_back_needs_no_new_proof() {
    let node = Node::new();
    let mut store = node.with_two();
    write(&mut store, "a/x", "two");
    assert_eq!(node.read("a/x.json"), "two");
    assert!(is_live(&store, "a/x", "two"));
    drop(store);
    assert_eq!(node.open().proven(&canonical("one").digest), Some(&proof()));
}

#[test]
fn writing_what_is_there_already_touches_no_file() {
    let node = Node::new();
    let mut store = node.with_two();
    let inodes =
        || [".callgate/record.json", "a/x.json"].map(|path| fs::metadata(node.path(path)).unwrap().ino());
    let before = inodes();
    write(&mut store, "a/x", "one");
    assert_eq!(inodes(), before);
}

#[test]
fn a_new_proof_of_the_same_file_is_remembered() {
    let node = Node::new();
    let mut store = node.with_two();
    let newer = ProvenWith {
        kernel: "6.2".into(),
        ..proof()
    };
    store.write(&name("a/x"), &canonical("one"), &newer).unwrap();
    drop(store);
    assert_eq!(node.open().proven(&canonical("one").digest), Some(&newer));
}

#[test]
fn writing_over_an_altered_file_mends_it() {
    let node = Node::new();
    let mut store = node.with_two();
    fs::write(node.path("a/x.json"), "bad").unwrap();
    write(&mut store, "a/x", "one");
    assert_eq!(node.read("a/x.json"), "one");
}

#[test]
fn a_removed_profile_is_gone_with_the_last_of_its_namespace() {
    let node = Node::new();
    let mut store = node.with_two();
    store.remove(&name("a/x")).unwrap();
    assert!(!node.path("a/x.json").exists());
    assert_eq!(node.read("a/y.json"), "other");
    store.remove(&name("a/y")).unwrap();
    assert!(!node.path("a").exists());
    assert!(store.live().is_empty());
    drop(store);
    let mut store = node.open();
    assert!(store.live().is_empty());
    assert!(store.repair().unwrap().is_clean());
}

#[test]
fn removing_what_is_not_there_is_no_error() {
    let node = Node::new();
    let mut store = node.with_two();
    fs::remove_file(node.path("a/x.json")).unwrap();
    store.remove(&name("a/x")).unwrap();
    store.remove(&name("a/x")).unwrap();
    store.remove(&name("nowhere/x")).unwrap();
    assert!(store.repair().unwrap().is_clean());
}

#[test]
fn proofs_of_what_is_on_disk_are_kept_and_of_the_rest_the_latest_only() {
    let node = Node::new();
    let mut store = node.with_two();
    for version in 0..200 {
        write(&mut store, "a/x", &version.to_string());
    }
    drop(store);
    let store = node.open();
    let known = |bytes: &str| store.proven(&canonical(bytes).digest).is_some();
    assert!(known("other") && known("199") && known("198") && known("140"));
    assert!(!known("one") && !known("0") && !known("100"));
}

#[test]
fn a_reader_sees_the_old_or_the_new_file_whole_through_a_thousand_updates() {
    let node = Node::new();
    let mut store = node.open();
    let version = |version: usize| format!("{version:04}").repeat(5000);
    write(&mut store, "a/x", &version(0));
    let (done, path) = (AtomicBool::new(false), node.path("a/x.json"));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let bytes = fs::read(&path).unwrap();
                assert_eq!(bytes.len(), 20_000);
                assert!(bytes.chunks(4).all(|chunk| chunk == &bytes[..4]), "a mixture");
                seen.insert(bytes[..4].to_vec());
            }
            seen.len()
        });
        for update in 1..=1000 {
            write(&mut store, "a/x", &version(update));
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 1, "the reader saw no update");
    });
}

#[test]
fn a_store_may_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Store>();
}
