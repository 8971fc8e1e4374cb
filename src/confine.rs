//! The process shuts itself in, for good: no privilege, no file but those that it was started for, no port but its own.
//!
//! Knows nothing of ours. It holds for the calling thread and those that this one makes, so it is called while there
//! is no other; a process that was started before stays outside.
//!
//! | what | by | holds on |
//! |---|---|---|
//! | no new privileges, no capability in any set | `prctl(2)`, `capset(2)` | every kernel |
//! | files and directories | Landlock | Linux 5.13; truncation 6.2, ioctl on devices 6.10 |
//! | the TCP port that it listens on | Landlock | Linux 6.7 |
//! | abstract sockets of others | Landlock | Linux 6.12 |
//!
//! Nothing is said about modes, owners and times of files (Landlock knows none of these), nor about connections to
//! others. Signals are free: the fork server was started before, and must be ended.

mod privileges;
mod walls;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

pub use privileges::{give_up_capabilities, protect_memory};

/// Something that stays open.
#[derive(Debug, Clone)]
pub enum Opening<'a> {
    /// Files and directories in this directory, at any depth: to be read, made, written, replaced and removed.
    Write(BorrowedFd<'a>),
    /// The names in this directory, at any depth.
    List(BorrowedFd<'a>),
    /// Directories in this directory, at any depth: to be made.
    MakeDirectories(BorrowedFd<'a>),
    /// This file, or those in this directory at any depth: to be read. Where nothing is there now, it stays closed.
    Read(PathBuf),
    /// This TCP port: to listen on.
    Listen(u16),
}

/// How far a process is shut in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// The error, where privileges could not be given up.
    privileges: Result<(), String>,
    walls: Walls,
}

/// What Landlock holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Walls {
    /// All that this version of it knows.
    Up(u8),
    /// Nothing: the kernel has none, or something keeps it from us.
    Missing,
    /// Nothing, because of an error.
    Failed(String),
    /// Nothing, and that was wanted so, because.
    Unwanted(String),
}

/// Keeps to what is opened here, and gives up everything else. Nothing in it is an error: what cannot be done is told.
///
/// Beside the openings there are those that any process of this program needs: the program itself with its libraries
/// (to start a fork server again), `/proc` (of other processes only what everybody may read), and the files that
/// names of hosts are looked up in.
#[must_use]
pub fn confine(openings: &[Opening<'_>]) -> Confinement {
    Confinement {
        privileges: give_up_privileges(),
        walls: match walls::build(openings) {
            Ok(0) => Walls::Missing,
            Ok(version) => Walls::Up(version),
            Err(error) => Walls::Failed(error.to_string()),
        },
    }
}

/// Gives up privileges, and leaves files and ports open, because.
#[must_use]
pub fn confine_privileges(because: &str) -> Confinement {
    Confinement {
        privileges: give_up_privileges(),
        walls: Walls::Unwanted(because.to_owned()),
    }
}

fn give_up_privileges() -> Result<(), String> {
    privileges::forbid_new().map_err(|errno| format!("no_new_privs: {errno}"))?;
    give_up_capabilities().map_err(|errno| format!("capabilities: {errno}"))
}

/// Versions of Landlock: the last one that lacks something, what it lacks, and the kernel that has it.
const LACKING: [(u8, &str, &str); 4] = [
    (2, "the length of files", "6.2"),
    (3, "TCP ports", "6.7"),
    (4, "ioctl on devices", "6.10"),
    (5, "abstract sockets", "6.12"),
];
/// From this version on, nothing is written elsewhere.
const HOLDS_WRITES: u8 = 3;

impl Confinement {
    /// Whether files that are not open stay closed, also those that come to lie where open ones were.
    #[must_use]
    pub fn holds_files(&self) -> bool {
        matches!(self.walls, Walls::Up(_))
    }

    /// Whether there is no privilege left and no file elsewhere can be written.
    #[must_use]
    pub fn is_confined(&self) -> bool {
        self.privileges.is_ok() && matches!(self.walls, Walls::Up(HOLDS_WRITES..))
    }

    /// How it is, as one word for programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match (&self.privileges, &self.walls) {
            (Err(_), _) => "Privileged",
            (Ok(()), Walls::Up(version)) if lacking(*version).next().is_none() => "Confined",
            (Ok(()), Walls::Up(HOLDS_WRITES..)) => "MostlyConfined",
            (Ok(()), Walls::Up(_)) => "OldLandlock",
            (Ok(()), Walls::Missing) => "NoLandlock",
            (Ok(()), Walls::Failed(_)) => "LandlockFailed",
            (Ok(()), Walls::Unwanted(_)) => "LandlockUnwanted",
        }
    }

    /// How it is, and what would make it better, for people.
    #[must_use]
    pub fn message(&self) -> String {
        let privileges = match &self.privileges {
            Ok(()) => "The process has no capability and gains no privilege".to_owned(),
            Err(error) => format!("The process could not give up its privileges ({error})"),
        };
        let walls = match &self.walls {
            Walls::Up(version) => {
                let lacking: Vec<_> = lacking(*version)
                    .map(|(what, kernel)| format!("{what} (Linux {kernel})"))
                    .collect();
                if lacking.is_empty() {
                    "Landlock closes every file and port to it that it does not need.".to_owned()
                } else {
                    format!(
                        "Landlock closes every file to it that it does not need. This kernel's Landlock does not know: {}.",
                        lacking.join(", ")
                    )
                }
            }
            Walls::Missing => {
                "there is no Landlock for it and its fork server: the kernel is older than 5.13 or built without it, \
                 its command line (lsm=) leaves it out, or the seccomp profile of this container denies it."
                    .to_owned()
            }
            Walls::Failed(error) => format!("Landlock failed, and closes no file to it: {error}."),
            Walls::Unwanted(because) => format!("Landlock closes no file to it: {because}."),
        };
        format!("{privileges}; {walls}")
    }
}

fn lacking(version: u8) -> impl Iterator<Item = (&'static str, &'static str)> {
    LACKING
        .into_iter()
        .filter(move |(last, ..)| version <= *last)
        .map(|(_, what, kernel)| (what, kernel))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(walls: Walls) -> Confinement {
        Confinement {
            privileges: Ok(()),
            walls,
        }
    }

    #[test]
    fn each_version_of_landlock_is_told_with_what_it_lacks_and_which_kernel_has_it() {
        for (version, is_confined, reason, lacks) in [
            (1, false, "OldLandlock", 4),
            (2, false, "OldLandlock", 4),
            (3, true, "MostlyConfined", 3),
            (4, true, "MostlyConfined", 2),
            (5, true, "MostlyConfined", 1),
            (6, true, "Confined", 0),
            (7, true, "Confined", 0),
        ] {
            let confinement = with(Walls::Up(version));
            assert!(confinement.holds_files());
            assert_eq!(confinement.is_confined(), is_confined, "{version}");
            assert_eq!(confinement.reason(), reason, "{version}");
            let message = confinement.message();
            assert_eq!(message.matches("(Linux 6.").count(), lacks, "{message}");
        }
    }

    #[test]
    fn without_landlock_nothing_is_held_and_the_message_says_why() {
        for (walls, reason, word) in [
            (Walls::Missing, "NoLandlock", "5.13"),
            (Walls::Failed("on fire".to_owned()), "LandlockFailed", "on fire"),
            (
                Walls::Unwanted("of a plugin".to_owned()),
                "LandlockUnwanted",
                "of a plugin",
            ),
        ] {
            let confinement = with(walls);
            assert!(!confinement.holds_files() && !confinement.is_confined());
            assert_eq!(confinement.reason(), reason);
            let message = confinement.message();
            assert!(message.contains(word) && message.len() <= 512, "{message}");
        }
    }

    #[test]
    fn who_kept_a_privilege_is_not_confined_whatever_landlock_holds() {
        let confinement = Confinement {
            privileges: Err("capabilities: EPERM".to_owned()),
            walls: Walls::Up(7),
        };
        assert!(confinement.holds_files() && !confinement.is_confined());
        assert_eq!(confinement.reason(), "Privileged");
        assert!(confinement.message().contains("EPERM"));
    }
}
