//! Landlock: what a thread may do with files, ports and abstract sockets, from now on.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, NetPort,
    PathBeneath, RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope,
    make_bitflags, path_beneath_rules,
};

use super::Opening;

/// The newest version that was read for this; an older kernel does what it can.
const KNOWN: ABI = ABI::V7;

/// What is done to a directory that is written in. A rename between directories is `Refer`; nothing but files and
/// directories is ever made.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
});

/// What the C library reads to look up the name of a host, and the loader to find libraries.
const SYSTEM_FILES: [&str; 6] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/ld.so.cache",
];

/// Closes everything but the openings and what the program itself needs. The version of Landlock that does; 0 for none.
pub(super) fn build(openings: &[Opening<'_>]) -> Result<u8, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        // Not connections: to whom is the kubeconfig's business, and a port says little about that.
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket)?
        .create()?;
    for opening in openings {
        ruleset = match opening {
            Opening::Write(directory) => ruleset.add_rule(PathBeneath::new(directory, WRITE))?,
            Opening::List(directory) => ruleset.add_rule(PathBeneath::new(directory, AccessFs::ReadDir))?,
            Opening::MakeDirectories(directory) => {
                ruleset.add_rule(PathBeneath::new(directory, AccessFs::MakeDir))?
            }
            Opening::Read(path) => ruleset.add_rules(path_beneath_rules([path], AccessFs::ReadFile))?,
            Opening::Listen(port) => ruleset.add_rule(NetPort::new(*port, AccessNet::BindTcp))?,
        };
    }
    let Program { files, libraries } = Program::of_this_process();
    let status = ruleset
        .add_rules(path_beneath_rules(files, AccessFs::Execute | AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(libraries, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(system_files(), AccessFs::ReadFile))?
        .restrict_self()?;
    Ok(version(&status))
}

fn version(status: &RestrictionStatus) -> u8 {
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u8,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    }
}

/// What it takes to run this program again.
struct Program {
    /// It, its loader and its libraries.
    files: BTreeSet<PathBuf>,
    /// Where these libraries lie: the C library loads some only when it looks up a name.
    libraries: BTreeSet<PathBuf>,
}

impl Program {
    fn of_this_process() -> Self {
        const SELF: &str = "/proc/self/exe";
        let own_path = fs::read_link(SELF).unwrap_or_default();
        // Where /proc is missing there is no fork server either.
        let maps = fs::read("/proc/self/maps").unwrap_or_default();
        let mut files = mapped_files(&maps);
        files.remove(&own_path);
        let libraries = files.iter().filter_map(|file| file.parent()).map(Path::to_owned);
        Self {
            libraries: libraries.collect(),
            // Not by its path, where another version may lie by now.
            files: files.into_iter().chain([PathBuf::from(SELF)]).collect(),
        }
    }
}

/// The files in a table of mappings (`proc_pid_maps(5)`): the path is the last column, and no other has a slash.
fn mapped_files(maps: &[u8]) -> BTreeSet<PathBuf> {
    maps.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let start = line.iter().position(|byte| *byte == b'/')?;
            Some(PathBuf::from(OsStr::from_bytes(&line[start..])))
        })
        .collect()
}

/// `/proc` as a whole: what lies in it for one process is not the same from one look to the next, and a fork server
/// that is started later is another process. Landlock itself keeps the memory and environment of processes outside
/// closed.
fn system_files() -> Vec<PathBuf> {
    let mut files: Vec<_> = SYSTEM_FILES.iter().chain(&["/proc"]).map(PathBuf::from).collect();
    // Where it is a link, a network manager puts one new file after the other at its end.
    let resolver = Path::new(SYSTEM_FILES[0]);
    if resolver.is_symlink()
        && let Ok(target) = fs::canonicalize(resolver)
    {
        files.extend(target.parent().map(Path::to_owned));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_table_of_mappings_are_found_once_each_with_spaces_and_without_what_is_no_file() {
        let maps = b"\
55d0-55d1 r--p 00000000 fe:00 131 /usr/bin/call gate
55d1-55d2 r-xp 00001000 fe:00 131 /usr/bin/call gate
55d3-55d4 rw-p 00000000 00:00 0 [heap]
7f00-7f01 rw-p 00000000 00:00 0
7f02-7f03 r--p 00000000 fe:00 140 /lib/x/libc.so.6
7ffc-7ffd r-xp 00000000 00:00 0 [vdso]
";
        let files = mapped_files(maps);
        let expected = ["/lib/x/libc.so.6", "/usr/bin/call gate"].map(PathBuf::from);
        assert_eq!(files, expected.into());
    }
}
