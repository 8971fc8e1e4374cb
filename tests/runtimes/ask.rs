//! Questions to the probe, by the names of system calls.

use std::fmt;

use bed::{Abi, Call};
use callgate::profile::Architecture;
use libseccomp::{ScmpArch, ScmpSyscall};

/// The bit in the number of every x32 call (`__X32_SYSCALL_BIT`).
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// One call to make in the container, harmless whatever the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ask {
    pub(crate) architecture: Architecture,
    /// A name, or a number in decimal.
    pub(crate) name: &'static str,
    pub(crate) args: [u64; 6],
}

/// Asks the machine's own architecture. Missing arguments are 0.
pub(crate) fn ask(name: &'static str, args: &[u64]) -> Ask {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    Ask {
        architecture: Architecture::X86_64,
        name,
        args: all,
    }
}

impl Ask {
    /// The same question by another door.
    pub(crate) const fn on(self, architecture: Architecture) -> Self {
        Self { architecture, ..self }
    }

    pub(crate) fn call(&self) -> Call {
        let (abi, scmp) = match self.architecture {
            Architecture::X86 => (Abi::I386, ScmpArch::X86),
            Architecture::X32 => (Abi::X32, ScmpArch::X8664),
            _ => (Abi::Native, ScmpArch::X8664),
        };
        let number = self.name.parse().unwrap_or_else(|_| {
            let number = ScmpSyscall::from_name_by_arch(self.name, scmp).map(i32::from);
            number
                .ok()
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or_else(|| panic!("{} has no system call {}", self.architecture, self.name))
        });
        Call::native(number, &self.args).by(abi)
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args: Vec<String> = self.args.iter().map(|arg| format!("{arg:#x}")).collect();
        let end = self
            .args
            .iter()
            .rposition(|arg| *arg != 0)
            .map_or(0, |last| last + 1);
        write!(f, "{}({})", self.name, args[..end].join(", "))?;
        match self.architecture {
            Architecture::X86_64 => Ok(()),
            other => write!(f, " on {other}"),
        }
    }
}
