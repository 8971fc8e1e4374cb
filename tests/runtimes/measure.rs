//! Measures what the runtimes on this machine need to start a container, and compares that with the table in
//! `src/startability/needs.rs`. Prints each table as it would stand there, and what differs; exit code 1 if anything
//! does. Needs root; with one start per question it took
//! eleven minutes on two cores that others used, too.
//!
//! ```sh
//! cargo run --example runtimes                # three starts per question
//! cargo run --example runtimes -- 20          # twenty, for what Go's runtime does now and then
//! ```
#![expect(clippy::print_stdout, reason = "this is a command")]

mod denial;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bed::{Bed, Container, Runtime, RuntimeName};
use callgate::startability::{Denials, START_NEEDS, Site, Start};
use libseccomp::{ScmpArch, ScmpSyscall};

/// Calls, and the denials of each that fail a start.
type Needs = BTreeMap<Vec<String>, Vec<Denials>>;

const ERRNOS: [Denials; 4] = [Denials::ZERO, Denials::EPERM, Denials::ENOSYS, Denials::OTHER];
/// What hangs, hangs for ever; a start takes a tenth of a second.
const DEADLINE: Duration = Duration::from_secs(10);

fn main() -> Result<ExitCode> {
    let starts = match std::env::args().nth(1) {
        Some(number) => number.parse().context("the number of starts per question")?,
        None => 3,
    };
    let bed = Bed::new()?;
    let calls = native_calls();
    let runtimes = RuntimeName::ALL
        .map(Runtime::find)
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let jobs: Vec<(&Runtime, bool)> = runtimes
        .iter()
        .flat_map(|runtime| [(runtime, true), (runtime, false)])
        .collect();
    let jobs = Mutex::new(jobs.into_iter());
    let same = Mutex::new(true);
    thread::scope(|scope| {
        let worker = || -> Result<()> {
            loop {
                let Some((runtime, no_new_privs)) = jobs.lock().ok().and_then(|mut jobs| jobs.next()) else {
                    return Ok(());
                };
                let measure = |uid| {
                    Subject {
                        bed: &bed,
                        runtime,
                        no_new_privs,
                        uid,
                        starts,
                    }
                    .measure(&calls)
                };
                let (root, user) = (measure(0)?, measure(1000)?);
                let mut report = report(runtime, no_new_privs, &root, &user);
                let subject = Subject {
                    bed: &bed,
                    runtime,
                    no_new_privs,
                    uid: 1000,
                    starts,
                };
                if let Some(start) = known(runtime, no_new_privs) {
                    let others = subject.decisions(start)?;
                    report.1 &= others.is_empty();
                    report.0 += &others;
                }
                println!("{}", report.0);
                if let Ok(mut same) = same.lock() {
                    *same &= report.1;
                }
            }
        };
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(if same.into_inner().unwrap_or(false) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Every call of this machine that libseccomp knows. Those that the table names come first, each in a group of its own.
fn native_calls() -> Vec<String> {
    let known: BTreeSet<&str> = START_NEEDS
        .iter()
        .flat_map(|needs| needs.without_no_new_privs.needs())
        .flat_map(|need| need.calls)
        .map(|(name, _)| *name)
        .collect();
    let mut all: Vec<String> = (0..1024)
        .filter_map(|number| {
            ScmpSyscall::from(number)
                .get_name_by_arch(ScmpArch::native())
                .ok()
        })
        .collect();
    all.sort_by_key(|name| !known.contains(name.as_str()));
    all
}

/// One runtime, started in one way.
struct Subject<'a> {
    bed: &'a Bed,
    runtime: &'a Runtime,
    no_new_privs: bool,
    uid: u32,
    starts: usize,
}

impl Subject<'_> {
    fn measure(&self, calls: &[String]) -> Result<Needs> {
        anyhow::ensure!(
            !self.fails(&[])?,
            "{} starts no container that may make all calls",
            self.runtime
        );
        let all: Vec<&str> = calls.iter().map(String::as_str).collect();
        let mut made = self.made(&[], &all)?;
        made.sort_unstable();
        let others: Vec<&str> = all.iter().copied().filter(|name| !made.contains(name)).collect();
        let mut needs = Needs::new();
        for name in &made {
            let mut fatal = Denials::KILL;
            for errno in ERRNOS {
                if self.fails(&[(name, errno)])? {
                    fatal = fatal | errno;
                }
            }
            needs.insert(vec![(*name).to_owned()], vec![fatal]);
        }
        // A start that fails now and then would be laid at the door of any second denial.
        let unsteady: BTreeSet<&str> = START_NEEDS
            .iter()
            .flat_map(|needs| needs.without_no_new_privs.needs())
            .filter(|need| !need.always)
            .map(|need| need.calls[0].0)
            .collect();
        let survived: Vec<(&str, Denials)> = made
            .iter()
            .flat_map(|name| ERRNOS.map(|errno| (*name, errno)))
            .filter(|(name, errno)| {
                !unsteady.contains(name)
                    && *errno != Denials::ZERO
                    && !needs[std::slice::from_ref(&(*name).to_owned())][0].intersects(*errno)
            })
            .collect();
        for first in &survived {
            // The second way, and which denials of it the runtime does not get over either.
            for second in self.made(&[*first], &others)? {
                note(&mut needs, *first, (second, Denials::KILL));
                for errno in ERRNOS {
                    if self.fails(&[*first, (second, errno)])? {
                        note(&mut needs, *first, (second, errno));
                    }
                }
            }
            for second in survived.iter().filter(|second| first.0 < second.0) {
                if self.fails(&[*first, *second])? {
                    note(&mut needs, *first, *second);
                }
            }
        }
        Ok(needs)
    }

    /// Of which of the calls that the table knows it says wrongly whether a start fails that is denied them alone.
    fn decisions(&self, start: &Start) -> Result<String> {
        let mut others = String::new();
        for site in start.sites() {
            let decides = self.decides(start, site)?;
            if decides != site.decides {
                let does = if decides { "decides" } else { "does not decide" };
                writeln!(others, "  Not in the table: {} {does}", site.call)?;
            }
        }
        Ok(others)
    }

    /// See [`Site::decides`].
    fn decides(&self, start: &Start, site: &Site) -> Result<bool> {
        let fatal = fatal_errnos(start, site);
        for errno in &fatal {
            let seccomp = denial::profile_of_one(site.call, *errno);
            if !self.fails_under(&seccomp)? {
                return Ok(false);
            }
        }
        Ok(!fatal.is_empty())
    }

    /// Which of these calls are made in a start: those whose death is its end.
    fn made<'n>(&self, base: &[(&str, Denials)], group: &[&'n str]) -> Result<Vec<&'n str>> {
        let mut denied = base.to_vec();
        denied.extend(group.iter().map(|name| (*name, Denials::KILL)));
        if group.is_empty() || !self.fails(&denied)? {
            return Ok(Vec::new());
        }
        if group.len() == 1 {
            return Ok(group.to_vec());
        }
        let (left, right) = group.split_at(group.len() / 2);
        let mut made = self.made(base, left)?;
        made.extend(self.made(base, right)?);
        Ok(made)
    }

    /// Whether at least one start fails.
    fn fails(&self, denied: &[(&str, Denials)]) -> Result<bool> {
        self.fails_under(&denial::profile(denied))
    }

    fn fails_under(&self, seccomp: &str) -> Result<bool> {
        for _ in 0..self.starts {
            let container = Container {
                uid: self.uid,
                no_new_privs: self.no_new_privs,
                seccomp: Some(seccomp),
                calls: &[],
                deadline: DEADLINE,
            };
            if !self.bed.start(self.runtime, &container)?.ran {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Adds that these two denials together fail a start.
fn note(needs: &mut Needs, first: (&str, Denials), second: (&str, Denials)) {
    let names = vec![first.0.to_owned(), second.0.to_owned()];
    let denials = needs.entry(names).or_insert_with(|| vec![Denials::NONE; 2]);
    denials[0] = denials[0] | first.1;
    denials[1] = denials[1] | second.1;
}

/// What the table says of these starts.
fn known(runtime: &Runtime, no_new_privs: bool) -> Option<&'static Start> {
    let here = (runtime.name.program(), runtime.version.as_str());
    START_NEEDS
        .iter()
        .find(|needs| (needs.runtime.as_str(), needs.version) == here)
        .map(|needs| needs.start(no_new_privs))
}

/// By which errnos but 0 a start fails if all calls of this name are denied.
fn fatal_errnos(start: &Start, site: &Site) -> Vec<Denials> {
    let needs = start.needs().filter(|need| need.always && need.calls.len() == 1);
    let fatal = needs
        .filter(|need| need.calls[0].0 == site.call.name)
        .fold(Denials::NONE, |all, need| all | need.calls[0].1);
    ERRNOS
        .into_iter()
        .filter(|errno| *errno != Denials::ZERO && fatal.intersects(*errno))
        .collect()
}

/// The measured table, what differs from the known one, and whether nothing does.
fn report(runtime: &Runtime, no_new_privs: bool, root: &Needs, user: &Needs) -> (String, bool) {
    let mut lines = vec![format!(
        "{runtime}, {} no_new_privs:",
        if no_new_privs { "with" } else { "without" }
    )];
    for (names, denials) in user {
        let unless_root = if root.contains_key(names) {
            ""
        } else {
            ", unless root"
        };
        let calls: Vec<String> = names
            .iter()
            .zip(denials)
            .map(|(name, denials)| format!("{name} by {denials}"))
            .collect();
        lines.push(format!("    {}{unless_root}", calls.join(" and ")));
    }
    let Some(known) = known(runtime, no_new_privs) else {
        lines.push("  The table does not know this version.".to_owned());
        return (lines.join("\n"), false);
    };
    let same = lines.len();
    for (who, uid, measured) in [("root", 0, root), ("others", 1000, user)] {
        let (mut always, mut ever) = (Needs::new(), Needs::new());
        for need in known.needs().filter(|need| need.root || uid != 0) {
            let names: Vec<String> = need.calls.iter().map(|(name, _)| (*name).to_owned()).collect();
            for table in [Some(&mut ever), need.always.then_some(&mut always)]
                .into_iter()
                .flatten()
            {
                let denials = table
                    .entry(names.clone())
                    .or_insert_with(|| vec![Denials::NONE; names.len()]);
                for (all, (_, one)) in denials.iter_mut().zip(need.calls) {
                    *all = *all | *one;
                }
            }
        }
        lines.extend(beyond(measured, &ever).map(|what| format!("  Not in the table, for {who}: {what}")));
        lines.extend(beyond(&always, measured).map(|what| format!("  Only in the table, for {who}: {what}")));
    }
    let same = lines.len() == same;
    (lines.join("\n"), same)
}

/// What the first has more than the second.
fn beyond(first: &Needs, second: &Needs) -> impl Iterator<Item = String> {
    first.iter().filter_map(|(names, denials)| {
        let none = vec![Denials::NONE; names.len()];
        let other = second.get(names).unwrap_or(&none);
        let more: Vec<Denials> = denials
            .iter()
            .zip(other)
            .map(|(one, other)| *one - *other)
            .collect();
        let calls = names
            .iter()
            .zip(&more)
            .map(|(name, more)| format!("{name} by {more}"));
        more.iter()
            .any(|more| !more.is_empty())
            .then(|| calls.collect::<Vec<_>>().join(" and "))
    })
}
