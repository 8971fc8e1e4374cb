//! Every system call by name: on which architectures it exists, and since which kernel and libseccomp.
//!
//! The table is part of the program, because the libseccomp at hand cannot tell a typo from a name that is newer
//! than itself. Knows architectures and versions alone; where the facts come from is said in the table.

use std::collections::HashMap;
use std::sync::LazyLock;

use foldhash::fast::FixedState;

use super::finding::Version;
use super::model::Architecture;
use super::similar::similar;

const TABLE: &str = include_str!("syscalls/table.txt");

/// The architectures that have a column of their own, in the order of the table.
const COLUMNS: [Architecture; 18] = [
    Architecture::X86,
    Architecture::X86_64,
    Architecture::X32,
    Architecture::Arm,
    Architecture::Aarch64,
    Architecture::Mips,
    Architecture::Mips64,
    Architecture::Mips64N32,
    Architecture::Ppc,
    Architecture::Ppc64,
    Architecture::S390,
    Architecture::S390X,
    Architecture::Parisc,
    Architecture::Parisc64,
    Architecture::Riscv64,
    Architecture::Loongarch64,
    Architecture::M68k,
    Architecture::Sh,
];

/// The libseccomp that everyone can be expected to have: of the releases in use (Red Hat's Linux 8 and 9), the
/// oldest. Names that it knows need no word.
pub const COMMON_LIBSECCOMP: Version = Version::new(2, 5, 2);

/// What is looked for among the nearest names: misspelt names are short.
const MAX_MISSPELT: usize = 64;
/// How many names are suggested.
const MAX_NEAREST: usize = 3;

/// One system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemCall {
    /// Its name, as profiles write it.
    pub name: &'static str,
    /// The first libseccomp that knows it; `None` is 2.5.1 or older.
    pub libseccomp: Option<Version>,
    /// The first kernel that has it on any architecture; `None` is older than 3.0, or not known.
    pub kernel: Option<Version>,
    numbers: [Option<u32>; COLUMNS.len()],
}

impl SystemCall {
    /// Its number on an architecture, as a filter finds it in `seccomp_data.nr`: with bit 30 for x32, and from
    /// 4000, 5000 or 6000 for the ABIs of MIPS. `None` where the architecture does not have it.
    #[must_use]
    pub fn number(&self, architecture: Architecture) -> Option<u32> {
        let (column, base) = match architecture {
            Architecture::X32 => (architecture, 0x4000_0000),
            Architecture::Mips | Architecture::Mipsel => (Architecture::Mips, 4000),
            Architecture::Mips64 | Architecture::Mipsel64 => (Architecture::Mips64, 5000),
            Architecture::Mips64N32 | Architecture::Mipsel64N32 => (Architecture::Mips64N32, 6000),
            Architecture::Ppc64Le => (Architecture::Ppc64, 0),
            Architecture::Sheb => (Architecture::Sh, 0),
            other => (other, 0),
        };
        let column = COLUMNS.iter().position(|one| *one == column)?;
        self.numbers[column].map(|number| number + base)
    }

    /// The architectures that have it.
    pub fn architectures(&self) -> impl Iterator<Item = Architecture> {
        let has = |architecture: &Architecture| self.number(*architecture).is_some();
        Architecture::ALL.iter().copied().filter(has)
    }

    /// Whether a libseccomp knows the name.
    #[must_use]
    pub fn is_known_to(&self, libseccomp: Version) -> bool {
        self.libseccomp.is_none_or(|since| since <= libseccomp)
    }
}

/// The system call of this name, exactly.
#[must_use]
pub fn lookup(name: &str) -> Option<&'static SystemCall> {
    BY_NAME.get(name)
}

/// By a hash that is quick and not secret: the table is our own, and a name that is looked for is not kept.
static BY_NAME: LazyLock<HashMap<&'static str, SystemCall, FixedState>> =
    LazyLock::new(|| parse(TABLE).map(|call| (call.name, call)).collect());

/// Reads the table, which the first look into it does otherwise: for a process that is going to fork.
pub fn prepare() {
    LazyLock::force(&BY_NAME);
}

/// Every system call, by name.
pub fn all() -> impl Iterator<Item = &'static SystemCall> {
    names().filter_map(lookup)
}

/// The names that were probably meant, the nearest first, at most three: the same but for case, blanks or a prefix
/// such as `SYS_`; a part of one (`pread` of `pread64`); or a few edits away. Takes some 100 µs.
#[must_use]
pub fn nearest(text: &str) -> Vec<&'static str> {
    let lower = text.trim().to_ascii_lowercase();
    // As prose and manual pages have it: `fork()`, `fork(2)`.
    let lower = lower
        .split_once('(')
        .map_or(lower.as_str(), |(name, _)| name.trim_end());
    let prefixes = ["__nr_", "__x64_sys_", "sys_"];
    let bare = prefixes.iter().find_map(|prefix| lower.strip_prefix(prefix));
    let meant = bare.unwrap_or(lower);
    if meant.is_empty() || meant.len() > MAX_MISSPELT {
        return Vec::new();
    }
    if let Some(call) = lookup(meant) {
        return vec![call.name];
    }
    let mut near = similar(meant, names());
    near.truncate(MAX_NEAREST);
    near
}

fn lines(table: &'static str) -> impl Iterator<Item = &'static str> {
    table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn names() -> impl Iterator<Item = &'static str> {
    lines(TABLE).filter_map(|line| line.split(' ').next())
}

/// Lines that are none are left out; a test says that there are none.
fn parse(table: &'static str) -> impl Iterator<Item = SystemCall> {
    let version = |field: &str| match field {
        "-" => Some(None),
        text => text.parse().ok().map(Some),
    };
    lines(table).filter_map(move |line| {
        let mut fields = line.split(' ');
        let mut call = SystemCall {
            name: fields.next()?,
            libseccomp: version(fields.next()?)?,
            kernel: version(fields.next()?)?,
            numbers: [None; COLUMNS.len()],
        };
        for number in &mut call.numbers {
            *number = match fields.next()? {
                "-" => None,
                digits => Some(digits.parse().ok()?),
            };
        }
        fields.next().is_none().then_some(call)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_one_system_call_in_order() {
        let names: Vec<_> = names().collect();
        assert_eq!(names.len(), 508);
        assert!(names.is_sorted());
        assert_eq!(parse(TABLE).count(), names.len());
        assert_eq!(all().count(), names.len());
        let columns = TABLE.lines().rfind(|line| line.starts_with("# name ")).unwrap();
        let columns: Vec<_> = columns.split(' ').skip(4).collect();
        let expected: Vec<_> = COLUMNS
            .iter()
            .map(|column| {
                column
                    .as_str()
                    .strip_prefix("SCMP_ARCH_")
                    .unwrap()
                    .to_ascii_lowercase()
            })
            .collect();
        assert_eq!(columns, expected);
    }

    #[test]
    fn a_name_is_known_by_its_numbers_and_versions() {
        let open = lookup("open").unwrap();
        assert_eq!(open.number(Architecture::X86_64), Some(2));
        assert_eq!(open.number(Architecture::X32), Some(0x4000_0002));
        assert_eq!(open.number(Architecture::Aarch64), None);
        assert_eq!((open.libseccomp, open.kernel), (None, None));
        assert!(open.is_known_to(Version::new(2, 5, 0)));

        let mseal = lookup("mseal").unwrap();
        assert_eq!(mseal.libseccomp, Some(Version::new(2, 5, 6)));
        assert_eq!(mseal.kernel, Some(Version::new(6, 10, 0)));
        assert!(!mseal.is_known_to(Version::new(2, 5, 5)));
        assert!(mseal.is_known_to(Version::new(2, 5, 6)));
        assert!(mseal.is_known_to(Version::new(2, 6, 0)));
        assert_eq!(mseal.architectures().count(), Architecture::ALL.len());

        assert_eq!(lookup("Open"), None);
        assert_eq!(lookup("open "), None);
        assert_eq!(lookup(""), None);
    }

    #[test]
    fn both_byte_orders_of_an_abi_have_the_same_numbers() {
        use Architecture::{
            Mips, Mips64, Mips64N32, Mipsel, Mipsel64, Mipsel64N32, Ppc64, Ppc64Le, Sh, Sheb,
        };
        let pairs = [
            (Mips, Mipsel, 4003),
            (Mips64, Mipsel64, 5000),
            (Mips64N32, Mipsel64N32, 6000),
            (Ppc64, Ppc64Le, 3),
            (Sh, Sheb, 3),
        ];
        let read = lookup("read").unwrap();
        for (big, little, number) in pairs {
            assert_eq!(read.number(big), Some(number), "{big}");
            assert_eq!(read.number(little), Some(number), "{little}");
        }
    }

    #[test]
    fn what_exists_on_one_architecture_alone_says_so() {
        let only = |name| lookup(name).unwrap().architectures().collect::<Vec<_>>();
        assert_eq!(only("breakpoint"), [Architecture::Arm]);
        assert_eq!(only("riscv_hwprobe"), [Architecture::Riscv64]);
        assert!(!only("socketcall").contains(&Architecture::X86_64));
        assert!(only("socketcall").contains(&Architecture::X86));
    }

    #[test]
    fn a_misspelt_name_finds_what_was_meant() {
        for (text, expected) in [
            ("Read", &["read"][..]),
            ("open ", &["open"]),
            ("SYS_openat", &["openat"]),
            ("__NR_mmap", &["mmap"]),
            ("opne", &["open"]),
            ("bpf()", &["bpf"]),
            ("fork(2)", &["fork"]),
            ("Opne (2)", &["open"]),
            ("(2)", &[]),
            ("excve", &["execve"]),
            ("pread", &["pread64", "preadv", "preadv2"]),
            ("sigqueueinfo", &["rt_sigqueueinfo"]),
            ("getpgrp\0x", &["getpgrp"]),
            ("frobnicate", &[]),
            ("x", &[]),
            ("", &[]),
            ("é", &[]),
        ] {
            assert_eq!(nearest(text), expected, "{text:?}");
        }
        assert!(nearest("mount_attr").contains(&"mount_setattr"));
        assert_eq!(nearest("stat6"), ["stat64"]);
        assert!(nearest("clock_gettme").len() <= MAX_NEAREST);
        assert!(nearest(&"a".repeat(1_000_000)).is_empty());
    }
}
