//! Between the model and the types of the `oci-spec` crate.
//!
//! Those types are what other programs in Rust read a profile into; a profile is written through them, so that
//! its file is theirs by construction.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};

use super::model::{Action, Architecture, Condition, Flag, Operator, Profile, Rule};

impl From<&Profile> for LinuxSeccomp {
    /// Loses nothing. Empty lists become absent ones.
    fn from(profile: &Profile) -> Self {
        let mut seccomp = Self::default();
        seccomp
            .set_default_action(profile.default_action.into())
            .set_default_errno_ret(profile.default_errno_ret.map(|errno| errno.get().into()))
            .set_architectures(list(&profile.architectures, |architecture| {
                (*architecture).into()
            }))
            .set_flags(list(&profile.flags, |flag| (*flag).into()))
            .set_listener_path(profile.listener_path.as_ref().map(Into::into))
            .set_listener_metadata(profile.listener_metadata.clone())
            .set_syscalls(list(&profile.syscalls, |rule| rule.into()));
        seccomp
    }
}

impl From<&Rule> for LinuxSyscall {
    fn from(rule: &Rule) -> Self {
        let mut syscall = Self::default();
        syscall
            .set_names(rule.names.clone())
            .set_action(rule.action.into())
            .set_errno_ret(rule.errno_ret.map(|errno| errno.get().into()))
            .set_args(list(&rule.args, |condition| condition.into()));
        syscall
    }
}

impl From<&Condition> for LinuxSeccompArg {
    fn from(condition: &Condition) -> Self {
        let builder = LinuxSeccompArgBuilder::default()
            .index(condition.index)
            .value(condition.value)
            .op(LinuxSeccompOperator::from(condition.op));
        let builder = match condition.value_two {
            Some(value_two) => builder.value_two(value_two),
            None => builder,
        };
        builder
            .build()
            .expect("the builder fails for a missing field alone, and each has a default")
    }
}

/// Container managers under Kubernetes drop empty lists, so that a runtime sees them as absent: written that way
/// from the start, a file means the same to all. (youki before 0.7 makes no rule of an entry whose `args` are `[]`.)
fn list<T, U>(items: &[T], convert: impl Fn(&T) -> U) -> Option<Vec<U>> {
    (!items.is_empty()).then(|| items.iter().map(convert).collect())
}

/// Declares the way from an enum of the model to one of `oci-spec`; the compiler sees that none is left out.
macro_rules! same_names {
    ($from:ident => $to:ident { $($variant:ident = $other:ident,)+ }) => {
        impl From<$from> for $to {
            fn from(value: $from) -> Self {
                match value { $($from::$variant => Self::$other),+ }
            }
        }
    };
}

same_names!(Action => LinuxSeccompAction {
    Kill = ScmpActKill,
    KillProcess = ScmpActKillProcess,
    KillThread = ScmpActKillThread,
    Trap = ScmpActTrap,
    Errno = ScmpActErrno,
    Trace = ScmpActTrace,
    Allow = ScmpActAllow,
    Log = ScmpActLog,
    Notify = ScmpActNotify,
});

same_names!(Architecture => Arch {
    X86 = ScmpArchX86,
    X86_64 = ScmpArchX86_64,
    X32 = ScmpArchX32,
    Arm = ScmpArchArm,
    Aarch64 = ScmpArchAarch64,
    Mips = ScmpArchMips,
    Mips64 = ScmpArchMips64,
    Mips64N32 = ScmpArchMips64n32,
    Mipsel = ScmpArchMipsel,
    Mipsel64 = ScmpArchMipsel64,
    Mipsel64N32 = ScmpArchMipsel64n32,
    Ppc = ScmpArchPpc,
    Ppc64 = ScmpArchPpc64,
    Ppc64Le = ScmpArchPpc64le,
    S390 = ScmpArchS390,
    S390X = ScmpArchS390x,
    Parisc = ScmpArchParisc,
    Parisc64 = ScmpArchParisc64,
    Riscv64 = ScmpArchRiscv64,
    Loongarch64 = ScmpArchLoongarch64,
    M68k = ScmpArchM68k,
    Sh = ScmpArchSh,
    Sheb = ScmpArchSheb,
});

same_names!(Flag => LinuxSeccompFilterFlag {
    Tsync = SeccompFilterFlagTsync,
    Log = SeccompFilterFlagLog,
    SpecAllow = SeccompFilterFlagSpecAllow,
    WaitKillableRecv = SeccompFilterFlagWaitKillableRecv,
});

same_names!(Operator => LinuxSeccompOperator {
    NotEqual = ScmpCmpNe,
    Less = ScmpCmpLt,
    LessOrEqual = ScmpCmpLe,
    Equal = ScmpCmpEq,
    GreaterOrEqual = ScmpCmpGe,
    Greater = ScmpCmpGt,
    MaskedEqual = ScmpCmpMaskedEq,
});
