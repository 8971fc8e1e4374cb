//! What a profile should do on a runtime: [`answer`] is the one place that predicts.

use anyhow::{Context as _, Result};
use bed::{Answer, Runtime, RuntimeName};
use callgate::filter::{Filter, SeccompData, audit_token, compile};
use callgate::profile::{Action, Architecture, Operator, Profile};
use libseccomp::{ScmpArch, ScmpSyscall};
use rustix::process::Signal;

use crate::ask::{Ask, X32_BIT};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prediction {
    /// The kernel makes it.
    Made,
    /// It does not get that far.
    Stopped(Answer),
}

/// A profile as one runtime loads it.
pub(crate) struct Loaded {
    filter: Filter,
    stub: Option<Stub>,
}

impl Loaded {
    pub(crate) fn new(profile: &Profile, runtime: &Runtime) -> Result<Self> {
        let mut profile = profile.clone();
        if runtime.name == RuntimeName::Youki {
            swap_masks(&mut profile);
        }
        Ok(Self {
            filter: compile(&profile).with_context(|| format!("the profile as {runtime} reads it"))?,
            stub: Stub::new(&profile, runtime),
        })
    }

    /// The filter as libseccomp makes it of the profile, with nothing of a runtime's own.
    pub(crate) fn alone(profile: &Profile) -> Result<Self> {
        Ok(Self {
            filter: compile(profile)?,
            stub: None,
        })
    }

    /// What becomes of this call.
    pub(crate) fn answer(&self, ask: &Ask) -> Prediction {
        let call = ask.call();
        let data = SeccompData {
            nr: call.raw_number(),
            arch: audit_token(ask.architecture),
            instruction_pointer: 0,
            args: call.args.map(|arg| {
                if ask.architecture == Architecture::X86 {
                    arg & 0xffff_ffff
                } else {
                    arg
                }
            }),
        };
        if let Some(stub) = &self.stub
            && stub.answers(ask.architecture, data.nr)
        {
            return Prediction::Stopped(Answer::errno(ENOSYS));
        }
        of_return_value(self.filter.program.run(&data))
    }
}

const ENOSYS: u16 = 38;

/// Source: `include/uapi/linux/seccomp.h`. What asks somebody fails where nobody is there to answer.
fn of_return_value(value: u32) -> Prediction {
    let [action, datum] = [value & 0xffff_0000, value & 0xffff];
    match action {
        0x7fff_0000 | 0x7ffc_0000 => Prediction::Made,
        0x0005_0000 => Prediction::Stopped(Answer::errno(datum.try_into().unwrap_or(u16::MAX).min(4095))),
        0x7ff0_0000 | 0x7fc0_0000 => Prediction::Stopped(Answer::errno(ENOSYS)),
        _ => Prediction::Stopped(Answer::Killed(Signal::SYS.as_raw())),
    }
}

/// youki takes the two numbers of `SCMP_CMP_MASKED_EQ` the wrong way round.
///
/// Source: `translate_op` in youki 0.7.0, `crates/libcontainer/src/seccomp/mod.rs`.
fn swap_masks(profile: &mut Profile) {
    for condition in profile.syscalls.iter_mut().flat_map(|rule| &mut rule.args) {
        if condition.op == Operator::MaskedEqual {
            let mask = condition.value;
            condition.value = condition.value_two.unwrap_or(0);
            condition.value_two = Some(mask);
        }
    }
}

/// What runc puts before a filter that denies by default: calls with a number above all that the profile names fail
/// with ENOSYS, so that programs take them for calls that the kernel does not have yet.
///
/// Source: `libcontainer/seccomp/patchbpf/enosys_linux.go` of runc.
struct Stub(Vec<(Architecture, u32)>);

impl Stub {
    fn new(profile: &Profile, runtime: &Runtime) -> Option<Self> {
        let denies = !matches!(
            profile.default_action,
            Action::Allow | Action::Log | Action::Trace
        );
        if runtime.name.program() != "runc" || !denies {
            return None;
        }
        let mut architectures = profile.architectures.clone();
        if !architectures.contains(&Architecture::X86_64) && !older(&runtime.version, [1, 1, 15]) {
            architectures.push(Architecture::X86_64);
        }
        let highest = |(architecture, scmp): (Architecture, ScmpArch)| {
            let names = profile.syscalls.iter().flat_map(|rule| &rule.names);
            let numbers = names.filter_map(|name| ScmpSyscall::from_name_by_arch(name, scmp).ok());
            let highest = numbers
                .filter_map(|number| u32::try_from(i32::from(number)).ok())
                .max()?;
            Some((architecture, highest))
        };
        Some(Self(
            [
                (Architecture::X86, ScmpArch::X86),
                (Architecture::X86_64, ScmpArch::X8664),
                (Architecture::X32, ScmpArch::X32),
            ]
            .into_iter()
            .filter(|(architecture, _)| architectures.contains(architecture))
            .filter_map(highest)
            .collect(),
        ))
    }

    fn answers(&self, architecture: Architecture, number: u32) -> bool {
        self.0
            .iter()
            .any(|(one, highest)| *one == architecture && (number & !X32_BIT) > (highest & !X32_BIT))
    }
}

/// Whether a version comes before another.
fn older(version: &str, other: [u32; 3]) -> bool {
    let mut parts = version
        .split(['.', '-', '~'])
        .map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0)) < other
}
