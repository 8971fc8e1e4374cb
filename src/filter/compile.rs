//! What container runtimes do with a profile: hand it to libseccomp, entry by entry, and export the program.
//!
//! The model is runc's `libcontainer/seccomp/seccomp_linux.go`; crun and youki do the same. One difference is
//! left out: since 1.2 runc asks for a binary tree (`SCMP_FLTATR_CTL_OPTIMIZE` 2) above 32 rules. It changes
//! the order of comparisons, not the answers.

mod foreign;

use std::fs::File;
use std::io::{Read as _, Seek as _};

use libseccomp::error::{SeccompErrno, SeccompError};
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use rustix::fs::{MemfdFlags, memfd_create};

use super::answer::DEFAULT_ERRNO;
use super::arch::{ByteOrder, is_known, native, node_architecture, to_libseccomp};
use super::cost::{MAX_COST, cost};
use super::program::{InvalidProgram, MAX_INSTRUCTIONS, Program};
use super::resolve::architectures;
use crate::profile::{
    Action, Architecture, Code, Condition, Errno, FieldPath, Finding, Flag, Operator, Profile, Rule,
};

/// A profile, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What the kernel runs.
    pub program: Program,
    /// The architectures it answers for: the node's, and of those that the profile lists the ones that this
    /// libseccomp knows.
    pub architectures: Vec<Architecture>,
    /// Names that this libseccomp does not know, in the order of the profile, each once. Runtimes leave them
    /// out without an error, so such a call gets the default action.
    pub unknown_names: Vec<String>,
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Not even tried.
    #[error(
        "the profile asks for {0} comparisons (names × conditions × architectures); at most {MAX_COST} are \
         tried"
    )]
    TooCostly(u64),
    /// Of what the profile is for, nothing can be compiled. A newer libseccomp may know it.
    #[error(
        "libseccomp {version} knows none of the architectures that the profile lists ({listed}), so what it means \
         there cannot be proven here: prove it with a newer libseccomp, or list another architecture as well",
        version = libseccomp_version(),
        listed = .0.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", "),
    )]
    NoKnownArchitecture(Vec<Architecture>),
    /// The profile's own doing.
    #[error("{message}")]
    Refused {
        /// Where in the OCI object.
        field: FieldPath,
        /// The value, libseccomp's error, what it means and what to do.
        message: String,
    },
    /// The kernel would not take so large a program.
    #[error("{}", too_large(*instructions, parts))]
    TooLarge {
        /// How many it has.
        instructions: usize,
        /// Of these, how many a call of each architecture can meet.
        parts: Vec<(Architecture, u32)>,
    },
    /// The kernel would not take the program.
    #[error("the compiled filter is not one that the kernel takes: {0}")]
    Program(#[from] InvalidProgram),
    /// Memory ran out, whoever took it.
    #[error("libseccomp ran out of memory")]
    OutOfMemory,
    /// A failure that libseccomp has no name for; lack of memory looks like this, too.
    #[error("libseccomp failed within itself (EFAULT)")]
    Fault,
    /// The program could not be got out of libseccomp.
    #[error("cannot export the filter: {0}")]
    Export(#[from] std::io::Error),
}

impl CompileError {
    /// What to tell the author; `None` where it is not certain that the profile is to blame.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        let (code, field) = match self {
            Self::TooCostly(_) => (Code::TooLarge, FieldPath::root().key("syscalls")),
            Self::Refused { field, .. } => (Code::CompileFailed, field.clone()),
            Self::TooLarge { .. } => (Code::FilterTooLarge, FieldPath::root().key("syscalls")),
            Self::Program(_) => (Code::CompileFailed, FieldPath::root()),
            Self::NoKnownArchitecture(_) | Self::OutOfMemory | Self::Fault | Self::Export(_) => return None,
        };
        Some(Finding::new(code, field, self.to_string()))
    }
}

fn too_large(instructions: usize, parts: &[(Architecture, u32)]) -> String {
    let parts: Vec<_> = parts
        .iter()
        .map(|(architecture, number)| format!("{number} for {architecture}"))
        .collect();
    let parts = match parts.join(", ") {
        none if none.is_empty() => none,
        parts => format!(" ({parts})"),
    };
    format!("the filter has {instructions} instructions{parts}, the kernel takes at most {MAX_INSTRUCTIONS}")
}

/// The libseccomp that this process runs with, as `major.minor.micro`.
#[must_use]
pub fn libseccomp_version() -> String {
    libseccomp::ScmpVersion::current().map_or_else(|_| "unknown".to_owned(), |version| version.to_string())
}

/// Lets libseccomp ask the kernel which actions and flags it has. It does so once per process, by seccomp(2), so
/// this comes before a sandbox that denies that call. Returns the API level (`seccomp_api_get(3)`).
#[expect(
    clippy::must_use_candidate,
    reason = "the level is only the lesser half of the effect"
)]
pub fn detect_features() -> u32 {
    libseccomp::get_api()
}

/// Compiles a profile as container runtimes do; one that lists architectures of the other byte order alone as they do it
/// on nodes of that order, so that the program is for their kernels.
///
/// Added beside the node's architecture: those of the profile. Left out: entries whose answer is the default
/// one, and names and architectures that libseccomp does not know.
pub fn compile(profile: &Profile) -> Result<Filter, CompileError> {
    feasible(profile)?;

    let mut context = new_context(profile)?;
    add_architectures(&mut context, profile)?;
    set_flags(&mut context, profile)?;
    let unknown_names = add_rules(&mut context, profile)?;
    let program = export(&context, profile)?;

    Ok(Filter {
        program,
        architectures: architectures(profile),
        unknown_names,
    })
}

/// Refuses what is too much work to try, and what is for architectures that libseccomp does not know alone: a filter
/// of the native one would say nothing of them.
pub(super) fn feasible(profile: &Profile) -> Result<(), CompileError> {
    let listed = &profile.architectures;
    if !listed.is_empty() && !listed.iter().copied().any(is_known) {
        return Err(CompileError::NoKnownArchitecture(listed.clone()));
    }
    match cost(profile, node_architecture(profile)) {
        cost if cost > MAX_COST => Err(CompileError::TooCostly(cost)),
        _ => Ok(()),
    }
}

fn new_context(profile: &Profile) -> Result<ScmpFilterContext, CompileError> {
    let action = profile.default_action;
    let mut context = ScmpFilterContext::new(to_action(action, profile.default_errno_ret)).map_err(
        |error| match action {
            // It gives no reason. These are the ones that depend on the kernel.
            Action::Notify | Action::Log | Action::KillProcess => refused(
                &FieldPath::root().key("defaultAction"),
                format_args!("{action} as the default action"),
                &error,
                "this kernel or libseccomp does not have it, or does not take it as the default. Use another",
            ),
            _ => CompileError::OutOfMemory,
        },
    )?;
    // Real errnos, so that a failure can be told from another; and no_new_privs is the loader's business.
    let attribute = |error: SeccompError| {
        let meaning = "it lacks an attribute that runtimes use. Use libseccomp 2.5 or newer";
        refused(
            &FieldPath::root(),
            format_args!("the whole profile"),
            &error,
            meaning,
        )
    };
    context.set_api_sysrawrc(true).map_err(attribute)?;
    context.set_ctl_nnp(false).map_err(attribute)?;
    Ok(context)
}

fn add_architectures(context: &mut ScmpFilterContext, profile: &Profile) -> Result<(), CompileError> {
    let list = FieldPath::root().key("architectures");
    let node = node_architecture(profile);
    if let Some(node) = node.filter(|node| Some(*node) != native()) {
        foreign::replace_native(context, node)
            .map_err(|error| refused(&list, format_args!("{node}"), &error, NOT_TAKEN))?;
    }
    let listed = profile.architectures.iter().copied().enumerate();
    for (index, architecture) in listed.filter(|(_, architecture)| is_known(*architecture)) {
        context.add_arch(to_libseccomp(architecture)).map_err(|error| {
            let meaning = match error.errno() {
                Some(SeccompErrno::EDOM) => {
                    "one filter cannot hold both byte orders. List only architectures of one"
                }
                _ => NOT_TAKEN,
            };
            refused(
                &list.index(index),
                format_args!("{architecture}"),
                &error,
                meaning,
            )
        })?;
    }
    Ok(())
}

const NOT_TAKEN: &str = "it does not take the architecture. Leave it out";

/// The flags that libseccomp has attributes for, as runc sets them; the loader passes them to the kernel.
fn set_flags(context: &mut ScmpFilterContext, profile: &Profile) -> Result<(), CompileError> {
    let list = FieldPath::root().key("flags");
    for (index, &flag) in profile.flags.iter().enumerate() {
        let set = match flag {
            Flag::Log => context.set_ctl_log(true),
            Flag::SpecAllow => context.set_ctl_ssb(true),
            Flag::Tsync | Flag::WaitKillableRecv => continue,
        };
        set.map_err(|error| {
            let meaning = "this kernel or libseccomp has no such flag. Leave it out";
            refused(&list.index(index), format_args!("{flag}"), &error, meaning)
        })?;
    }
    Ok(())
}

/// Returns the names that libseccomp does not know.
fn add_rules(context: &mut ScmpFilterContext, profile: &Profile) -> Result<Vec<String>, CompileError> {
    let default = to_action(profile.default_action, profile.default_errno_ret);
    let list = FieldPath::root().key("syscalls");
    let mut unknown = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (index, rule) in profile.syscalls.iter().enumerate() {
        let action = to_action(rule.action, rule.errno_ret);
        if action == default {
            continue;
        }
        let conditions: Vec<ScmpArgCompare> = rule.args.iter().map(to_comparison).collect();
        for name in &rule.names {
            let Ok(call) = ScmpSyscall::from_name(name) else {
                if seen.insert(name) {
                    unknown.push(name.clone());
                }
                continue;
            };
            context
                .add_rule_conditional(action, call, &conditions)
                .map_err(|error| {
                    let what = format_args!("{} for {name:?}{}", rule.action, under(rule));
                    refused(&list.index(index), what, &error, meaning_of_rule(rule, &error))
                })?;
        }
    }
    Ok(unknown)
}

fn export(context: &ScmpFilterContext, profile: &Profile) -> Result<Program, CompileError> {
    let mut file = File::from(memfd_create("filter", MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?);
    context.export_bpf(&file).map_err(|error| {
        let meaning = "it cannot make a program of it. Make it smaller";
        refused(
            &FieldPath::root(),
            format_args!("the whole profile"),
            &error,
            meaning,
        )
    })?;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let architectures = architectures(profile);
    let order = architectures
        .first()
        .map_or(ByteOrder::HERE, |node| ByteOrder::of(*node));
    if order != ByteOrder::HERE {
        foreign::mend_returns(&mut bytes, order, profile);
    }
    Program::decode_in(order, &bytes).map_err(|error| match error {
        InvalidProgram::TooLarge(instructions) => CompileError::TooLarge {
            instructions,
            parts: Program::measure(order, &bytes, &architectures),
        },
        error => error.into(),
    })
}

fn to_action(action: Action, errno: Option<Errno>) -> ScmpAction {
    let errno = errno.map_or(DEFAULT_ERRNO, Errno::get);
    match action {
        Action::Kill | Action::KillThread => ScmpAction::KillThread,
        Action::KillProcess => ScmpAction::KillProcess,
        Action::Trap => ScmpAction::Trap,
        Action::Errno => ScmpAction::Errno(errno.into()),
        Action::Trace => ScmpAction::Trace(errno),
        Action::Allow => ScmpAction::Allow,
        Action::Log => ScmpAction::Log,
        Action::Notify => ScmpAction::Notify,
    }
}

fn to_comparison(condition: &Condition) -> ScmpArgCompare {
    let index = condition.index.into();
    let compare = |op| ScmpArgCompare::new(index, op, condition.value);
    match condition.op {
        Operator::NotEqual => compare(ScmpCompareOp::NotEqual),
        Operator::Less => compare(ScmpCompareOp::Less),
        Operator::LessOrEqual => compare(ScmpCompareOp::LessOrEqual),
        Operator::Equal => compare(ScmpCompareOp::Equal),
        Operator::GreaterOrEqual => compare(ScmpCompareOp::GreaterEqual),
        Operator::Greater => compare(ScmpCompareOp::Greater),
        Operator::MaskedEqual => ScmpArgCompare::new(
            index,
            ScmpCompareOp::MaskedEqual(condition.value),
            condition.value_two.unwrap_or_default(),
        ),
    }
}

/// What an error of libseccomp is: a refusal with this meaning, unless it says that something else is short.
fn refused(
    field: &FieldPath,
    what: std::fmt::Arguments<'_>,
    error: &SeccompError,
    meaning: &str,
) -> CompileError {
    let name = match error.errno() {
        Some(SeccompErrno::ENOMEM) => return CompileError::OutOfMemory,
        Some(SeccompErrno::EFAULT) => return CompileError::Fault,
        Some(errno) => format!("answers {errno:?}"),
        None => match error.sysrawrc() {
            Some(code) => format!("answers error {}", -code),
            None => "refuses".to_owned(),
        },
    };
    CompileError::Refused {
        field: field.clone(),
        message: format!("{what}: libseccomp {} {name}: {meaning}", libseccomp_version()),
    }
}

fn meaning_of_rule(rule: &Rule, error: &SeccompError) -> &'static str {
    match error.errno() {
        Some(SeccompErrno::EEXIST) => {
            "another entry answers the same call, under the same or a wider condition, differently. Give each \
             call and condition one answer"
        }
        Some(SeccompErrno::EINVAL) if has_argument_twice(rule) => {
            "two conditions on one argument: runtimes do not take them together, any one of them would match. \
             Write one entry for each range"
        }
        Some(SeccompErrno::EINVAL | SeccompErrno::EOPNOTSUPP) => {
            "this kernel or libseccomp has no such action or comparison. Use another"
        }
        Some(SeccompErrno::EDOM) => {
            "an architecture of this profile cannot express the condition. Leave out the architecture or the \
             condition"
        }
        _ => "libseccomp failed within itself. Write the entry in another way",
    }
}

fn has_argument_twice(rule: &Rule) -> bool {
    rule.args
        .iter()
        .enumerate()
        .any(|(at, one)| rule.args[..at].iter().any(|other| other.index == one.index))
}

/// ` when args[0] …`, for messages.
fn under(rule: &Rule) -> String {
    let conditions: Vec<String> = rule
        .args
        .iter()
        .map(|condition| match (condition.op, condition.value_two) {
            (Operator::MaskedEqual, datum) => {
                format!(
                    "args[{}] & {:#x} == {:#x}",
                    condition.index,
                    condition.value,
                    datum.unwrap_or(0)
                )
            }
            (op, _) => format!("args[{}] {op} {:#x}", condition.index, condition.value),
        })
        .collect();
    if conditions.is_empty() {
        String::new()
    } else {
        format!(" when {}", conditions.join(" and "))
    }
}

#[cfg(test)]
mod tests;
