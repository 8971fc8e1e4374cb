//! From inside of a thread that shut itself in as an agent does.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::{self, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use callgate::confine::{Confinement, Opening, confine, confine_privileges};
use callgate::profile::{Canonical, Digest, ProfileName};
use callgate::store::{Ground, Owner, ProvenWith, Store};
use callgate::testload::{ForkServer, Limits};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::{assert_has_no_privilege, assert_is_expected, landlock_version};

/// A node's seccomp directory, and a place beside it for the files of others.
struct Node {
    files: TempDir,
}

impl Node {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        fs::create_dir(files.path().join("seccomp")).unwrap();
        Self { files }
    }

    fn root(&self) -> PathBuf {
        self.files.path().join("seccomp")
    }

    fn home(&self) -> PathBuf {
        self.root().join("callgate")
    }

    fn ground(&self) -> Ground {
        Ground::prepare(&self.root()).unwrap()
    }

    fn store(&self, ground: &Ground) -> Store {
        Store::open_within(&self.root(), Some(&owner()), Some(ground.bounds())).unwrap()
    }
}

/// Shuts in the thread that calls it as `callgate agent` does, which listens on this port.
fn shut_in(ground: &Ground, port: u16) -> Confinement {
    let root = ground.root();
    confine(&[
        Opening::List(root),
        ground
            .home()
            .map_or(Opening::MakeDirectories(root), Opening::Write),
        Opening::Listen(port),
    ])
}

/// Runs this on a thread of its own, which may shut itself in.
fn in_a_thread<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(act).join()).unwrap()
}

fn owner() -> Owner {
    Owner::Cluster("uid-1".to_owned())
}

fn proof() -> ProvenWith {
    ProvenWith::here(String::new())
}

fn small() -> Canonical {
    let bytes = &br#"{"defaultAction":"SCMP_ACT_ALLOW"}"#[..];
    Canonical {
        digest: Digest::of(bytes),
        bytes: bytes.into(),
    }
}

fn name(text: &str) -> ProfileName {
    text.parse().unwrap()
}

fn free_port() -> u16 {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    free.local_addr().unwrap().port()
}

fn listen(port: u16) -> io::Result<()> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map(drop)
}

/// What somebody who took the process over would do with a directory of others, which has `file` and `empty` in it, or
/// from a directory of our own, which has `file`.
type Misdeed = fn(theirs: &Path, own: &Path) -> io::Result<()>;

const MISDEEDS: &[(&str, Misdeed)] = &[
    ("read a file", |theirs, _| fs::read(theirs.join("file")).map(drop)),
    ("write a file", |theirs, _| {
        File::options().write(true).open(theirs.join("file")).map(drop)
    }),
    ("truncate a file", |theirs, _| {
        File::create(theirs.join("file")).map(drop)
    }),
    ("make a file", |theirs, _| {
        File::create_new(theirs.join("new")).map(drop)
    }),
    ("make a directory", |theirs, _| fs::create_dir(theirs.join("new"))),
    ("make a symlink", |theirs, _| symlink("/", theirs.join("new"))),
    ("make a FIFO", |theirs, _| {
        let made = mknodat(CWD, theirs.join("new"), FileType::Fifo, Mode::RUSR, 0);
        made.map_err(Into::into)
    }),
    ("make a socket", |theirs, _| {
        UnixListener::bind(theirs.join("new")).map(drop)
    }),
    ("rename a file", |theirs, _| {
        fs::rename(theirs.join("file"), theirs.join("new"))
    }),
    ("remove a file", |theirs, _| fs::remove_file(theirs.join("file"))),
    ("remove a directory", |theirs, _| {
        fs::remove_dir(theirs.join("empty"))
    }),
    ("name a file of theirs in ours", |theirs, own| {
        fs::hard_link(theirs.join("file"), own.join("new"))
    }),
    ("name a file of ours in theirs", |theirs, own| {
        fs::hard_link(own.join("file"), theirs.join("new"))
    }),
    ("move a file of theirs into ours", |theirs, own| {
        fs::rename(theirs.join("file"), own.join("new"))
    }),
    ("move a file of ours into theirs", |theirs, own| {
        fs::rename(own.join("file"), theirs.join("new"))
    }),
    ("make a symlink in ours", |_, own| symlink("/", own.join("new"))),
    ("run a program", |_, _| {
        Command::new("/bin/true").status().map(drop)
    }),
];

#[test]
fn files_of_others_ports_and_sockets_are_closed_and_the_store_is_open() {
    let node = Node::new();
    // Beneath the seccomp root and elsewhere; each misdeed has its own, and each is possible before.
    let places = |pass: &str| -> Vec<(PathBuf, PathBuf)> {
        let places = ["seccomp/others", "elsewhere"]
            .into_iter()
            .flat_map(|place| (0..MISDEEDS.len()).map(move |number| format!("{place}/{number}")));
        let places = places.map(|place| {
            let theirs = node.files.path().join(format!("{place}-{pass}"));
            let own = node.home().join(format!("{}-{pass}", place.replace('/', "-")));
            for directory in [&theirs.join("empty"), &own] {
                fs::create_dir_all(directory).unwrap();
            }
            for directory in [&theirs, &own] {
                fs::write(directory.join("file"), "precious").unwrap();
            }
            (theirs, own)
        });
        places.collect()
    };
    let misdeeds = || MISDEEDS.iter().chain(MISDEEDS);
    for ((what, misdeed), (theirs, own)) in misdeeds().zip(places("before")) {
        misdeed(&theirs, &own).unwrap_or_else(|error| panic!("{what} in {}: {error}", theirs.display()));
    }
    fs::remove_dir_all(node.home()).unwrap();

    let ground = node.ground();
    let places = places("after");
    let address =
        net::SocketAddr::from_abstract_name(node.files.path().as_os_str().as_encoded_bytes()).unwrap();
    let _others = UnixListener::bind_addr(&address).unwrap();
    let (own_port, other_port) = (free_port(), free_port());
    let version = landlock_version();
    in_a_thread(|| {
        assert_is_expected(&shut_in(&ground, own_port));
        let tried = misdeeds().zip(&places).map(|((what, misdeed), (theirs, own))| {
            let what = format!("{what} in {}", theirs.display());
            (what, 1, misdeed(theirs, own))
        });
        let others = [
            ("list a directory", 1, fs::read_dir(node.files.path()).map(drop)),
            ("listen on another port", 4, listen(other_port)),
            (
                "connect to an abstract socket",
                6,
                UnixStream::connect_addr(&address).map(drop),
            ),
        ];
        let others = others.map(|(what, denied_by, outcome)| (what.to_owned(), denied_by, outcome));
        for (what, denied_by, outcome) in tried.chain(others) {
            match outcome {
                Ok(()) => assert!(version < denied_by, "{what}: possible"),
                Err(error) => {
                    // EXDEV where a name would give a file rights that it does not have where it is.
                    let denied = [io::ErrorKind::PermissionDenied, io::ErrorKind::CrossesDevices];
                    assert!(
                        version >= denied_by && denied.contains(&error.kind()),
                        "{what}: {error}"
                    );
                }
            }
        }
        listen(own_port).unwrap();
        let mut names = ("localhost", 80).to_socket_addrs().unwrap();
        assert!(names.next().is_some(), "no name is found any more");
    });
    if version > 0 {
        for (theirs, _) in &places {
            assert_eq!(fs::read_to_string(theirs.join("file")).unwrap(), "precious");
            assert_eq!(fs::read_dir(theirs).unwrap().count(), 2, "{}", theirs.display());
        }
    }
}

#[test]
fn no_capability_is_left_in_any_set() {
    let node = Node::new();
    let ground = node.ground();
    in_a_thread(|| {
        shut_in(&ground, 0);
        assert_has_no_privilege("thread-self");
    });
}

#[test]
fn who_keeps_its_files_open_has_no_capability_all_the_same_nor_has_what_it_runs() {
    in_a_thread(|| {
        let confinement = confine_privileges("this is a test");
        assert!(!confinement.is_confined() && !confinement.holds_files());
        assert_has_no_privilege("thread-self");
        // A program of root's has every capability that nothing forbids.
        let output = Command::new("cat").arg("/proc/self/status").output().unwrap();
        let status = String::from_utf8(output.stdout).unwrap();
        assert!(status.contains("CapEff:\t0000000000000000\n"), "{status}");
    });
}

#[test]
fn a_store_within_its_bounds_writes_mends_and_removes_whatever_others_leave_there() {
    let node = Node::new();
    let ground = node.ground();
    let deep = (0..40).fold(node.home().join("deep"), |path, _| path.join("d"));
    let left_by_others = || {
        fs::create_dir_all(&deep).unwrap();
        fs::write(node.home().join("a/p.json"), "altered").unwrap();
        fs::remove_file(node.home().join("a/q.json")).unwrap();
        symlink("/", node.home().join("a/symlink")).unwrap();
        drop(UnixListener::bind(node.home().join("a/socket")).unwrap());
        mknodat(CWD, node.home().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        fs::create_dir(node.home().join("a/r.json")).unwrap();
    };
    let store = in_a_thread(|| {
        shut_in(&ground, 0);
        let mut store = node.store(&ground);
        for profile in ["a/p", "a/q"] {
            store.write(&name(profile), &small(), &proof()).unwrap();
        }
        store
    });
    left_by_others();
    in_a_thread(move || {
        shut_in(&ground, 0);
        let mut store = store;
        let repaired = store.repair().unwrap();
        // Before Linux 5.19, Landlock let nobody move anything from one directory into another.
        let unmovable = usize::from(landlock_version() == 1);
        assert_eq!(repaired.failed.len(), unmovable, "{repaired:?}");
        assert_eq!(repaired.restored, [name("a/p"), name("a/q")]);
        assert_eq!(repaired.strays_total, 5 - unmovable, "{repaired:?}");
        store.write(&name("a/r"), &small(), &proof()).unwrap();
        store.remove(&name("a/p")).unwrap();
        let names: Vec<_> = store.live().keys().cloned().collect();
        assert_eq!(names, [name("a/q"), name("a/r")]);
    });
    for (profile, is_there) in [("p", false), ("q", true), ("r", true)] {
        assert_eq!(
            node.home().join(format!("a/{profile}.json")).is_file(),
            is_there,
            "{profile}"
        );
    }
}

#[test]
fn a_fork_server_that_was_started_before_is_ended_by_a_parent_that_shut_itself_in() {
    let node = Node::new();
    let ground = node.ground();
    in_a_thread(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_callgate"));
        let server = ForkServer::start_program(program, Limits::default()).unwrap();
        let process = format!("/proc/{}", server.pid());
        assert!(Path::new(&process).exists());
        shut_in(&ground, 0);
        drop(server);
        assert!(!Path::new(&process).exists());
    });
}
