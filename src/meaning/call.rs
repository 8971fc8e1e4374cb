//! One concrete call, for people: the witness of a finding.

use std::fmt;

use super::diagram::Arguments;
use crate::profile::Architecture;

/// A call that shows what a finding says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: Arguments,
    /// How many arguments matter.
    pub(super) shown: usize,
    /// Where, if not on the node's own architecture.
    pub(super) on: Option<Architecture>,
}

/// The architecture as a call names it: the node's own goes without saying.
pub(super) fn elsewhere(architecture: Architecture, native: Option<Architecture>) -> Option<Architecture> {
    Some(architecture).filter(|_| Some(architecture) != native)
}

impl fmt::Display for Call<'_> {
    /// `socket(0x26, 0x0)` or `socketcall(0x1) on SCMP_ARCH_X86`; arguments that no condition looks at are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (index, argument) in self.arguments.iter().take(self.shown).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{argument:#x}")?;
        }
        f.write_str(")")?;
        match self.on {
            Some(architecture) => write!(f, " on {architecture}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reads_as_one_would_write_it() {
        let call = |shown, on| Call {
            name: "socket",
            arguments: [38, 0, u64::MAX, 4, 5, 6],
            shown,
            on,
        };
        assert_eq!(call(0, None).to_string(), "socket()");
        assert_eq!(call(3, None).to_string(), "socket(0x26, 0x0, 0xffffffffffffffff)");
        let x86 = Some(Architecture::X86);
        assert_eq!(call(1, x86).to_string(), "socket(0x26) on SCMP_ARCH_X86");
    }
}
