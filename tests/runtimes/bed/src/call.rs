//! The system calls that the probe makes, and what it reports of them.

use std::fmt;

use anyhow::{Context as _, Result};

/// The bit in the number of every x32 call (`__X32_SYSCALL_BIT`).
const X32_BIT: u32 = 0x4000_0000;

/// By which door a call enters the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Abi {
    /// The machine's own.
    Native,
    /// i386, by `int 0x80`: numbers and arguments of 32 bits. On x86-64 only.
    I386,
    /// x32: native, with a bit set in the number. On x86-64 only.
    X32,
}

/// One system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// The door.
    pub abi: Abi,
    /// The number there, for x32 without the bit.
    pub number: u32,
    /// The arguments.
    pub args: [u64; 6],
}

impl Call {
    /// A call by the machine's own door. Missing arguments are 0.
    #[must_use]
    pub fn native(number: u32, args: &[u64]) -> Self {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        Self {
            abi: Abi::Native,
            number,
            args: all,
        }
    }

    /// The same call by another door.
    #[must_use]
    pub const fn by(self, abi: Abi) -> Self {
        Self { abi, ..self }
    }

    /// The number as the kernel sees it.
    #[must_use]
    pub const fn raw_number(&self) -> u32 {
        match self.abi {
            Abi::X32 => self.number | X32_BIT,
            Abi::Native | Abi::I386 => self.number,
        }
    }

    /// The probe's argument.
    #[must_use]
    pub fn argument(&self) -> String {
        let door = match self.abi {
            Abi::I386 => 'i',
            Abi::Native | Abi::X32 => 'x',
        };
        let args: Vec<String> = self.args.iter().map(|arg| format!("{arg:x}")).collect();
        format!("{door}:{:x}:{}", self.raw_number(), args.join(","))
    }
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// It returned: a value, or a negated errno.
    Returned(i64),
    /// It ended its process, by this signal.
    Killed(i32),
}

impl Answer {
    /// The answer of a call that fails with this errno.
    #[must_use]
    pub const fn errno(errno: u16) -> Self {
        Self::Returned(-(errno as i64))
    }

    /// Reads a line of the probe.
    pub fn parse(line: &str) -> Result<Self> {
        let number = u64::from_str_radix(line, 16).with_context(|| format!("the probe wrote {line:?}"))?;
        Ok(Self::Returned(number.cast_signed()))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned(value @ -4095..0) => write!(f, "errno {}", -value),
            Self::Returned(value) => write!(f, "{value}"),
            Self::Killed(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}
