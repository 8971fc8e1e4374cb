//! The two children of a request.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::message::{CompileReport, Compiled, Found};
use super::process;
use super::region::Region;
use super::sandbox;
use crate::filter::{self, ByteOrder, Filter, Program};
use crate::meaning::Meaning;
use crate::profile::{Action, Class, Finding, Flag, Profile};
use crate::startability::StartAnswers;

/// Exit code of a child that could not be confined, and so did nothing.
pub(super) const NOT_CONFINED: i32 = 2;

/// Of the child that meets the hostile text. `limit` and `stricter` take its rights away.
pub(super) fn compile(
    region: &Region,
    canonical: &[u8],
    stricter: &Program,
    limit: impl FnOnce() -> Result<(), sandbox::ConfineError>,
) -> ! {
    if process::die_of_faults().is_err() || limit().is_err() || process::load_filter(stricter, 0).is_err() {
        process::exit_now(NOT_CONFINED);
    }
    // A panic must not unwind into the loop of the server that this process is a copy of.
    match catch_unwind(AssertUnwindSafe(|| region.write(&report(canonical)))) {
        Ok(()) => process::exit_now(0),
        Err(_) => process::exit_now(1),
    }
}

/// Of the child that gives the program to the kernel. It makes one system call and says what that returned.
pub(super) fn load(
    region: &Region,
    program: &Program,
    flags: u64,
    limit: impl FnOnce() -> Result<(), sandbox::ConfineError>,
) -> ! {
    if process::die_of_faults().is_err() || limit().is_err() {
        process::exit_now(NOT_CONFINED);
    }
    let result = match process::load_filter(program, flags) {
        Ok(_) => 0,
        Err(errno) => errno,
    };
    region.write(&result.to_ne_bytes());
    region.touch_forbidden_page()
}

/// The errno that [`load`] said, 0 for success.
pub(super) fn loaded(said: &[u8]) -> Option<i32> {
    said.try_into().ok().map(i32::from_ne_bytes)
}

fn report(canonical: &[u8]) -> Vec<u8> {
    let profile = match Profile::from_canonical(canonical) {
        Ok(profile) => profile,
        Err(findings) => return unreadable(&findings).encode(&[]),
    };
    match compile_and_prove(&profile) {
        Ok((filter, findings, start)) => {
            let compiled = Compiled::new(&filter, &findings, &start);
            if filter.program.byte_order() == ByteOrder::HERE {
                let flags = load_flags(&profile);
                CompileReport::Compiled { compiled, flags }.encode(filter.program.as_bytes())
            } else {
                CompileReport::Foreign(compiled).encode(&[])
            }
        }
        Err(report) => report.encode(&[]),
    }
}

/// Asks what the profile means before libseccomp sees it, then whether the filter means the same, and what it means for
/// the start of a container.
fn compile_and_prove(profile: &Profile) -> Result<(Filter, Vec<Finding>, StartAnswers), CompileReport> {
    let refused = |findings: &[Finding]| CompileReport::Refused(Found::new(findings));
    let is_invalid = |finding: &Finding| finding.class() == Class::Invalid;

    let calls = filter::resolve(profile).map_err(|error| CompileReport::from(&error))?;
    let mut meaning = Meaning::of(profile, &calls).map_err(|error| refused(&[error.finding()]))?;
    if meaning.findings().iter().any(is_invalid) {
        return Err(refused(meaning.findings()));
    }
    let filter = filter::compile(profile).map_err(|error| CompileReport::from(&error))?;
    let differences = meaning
        .compare(&filter.program)
        .map_err(|error| refused(&[error.finding()]))?;
    let findings = [&differences, meaning.findings()].concat();
    if findings.iter().any(is_invalid) {
        return Err(refused(&findings));
    }
    let start = calls
        .first()
        .map(|native| StartAnswers::of(profile, native, &mut meaning))
        .unwrap_or_default();
    Ok((filter, findings, start))
}

/// What runtimes pass to seccomp(2): the flags of the profile, and a listener where an entry asks one. Like
/// runc they load into one thread, so `SECCOMP_FILTER_FLAG_TSYNC` is left out.
fn load_flags(profile: &Profile) -> u64 {
    let listener = profile.syscalls.iter().any(|rule| rule.action == Action::Notify);
    let flags = profile.flags.iter().map(|flag| match flag {
        Flag::Tsync => 0,
        Flag::Log => libc::SECCOMP_FILTER_FLAG_LOG,
        Flag::SpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        Flag::WaitKillableRecv => libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
    });
    let listener = if listener {
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
    } else {
        0
    };
    flags.fold(listener, |all, flag| all | flag)
}

/// Canonical bytes were read once before, so this is for whoever made them by hand.
fn unreadable(findings: &[Finding]) -> CompileReport {
    match findings.first() {
        Some(finding) => CompileReport::Refused(Found::new(std::slice::from_ref(finding))),
        None => CompileReport::Failed("the profile cannot be read".to_owned()),
    }
}
