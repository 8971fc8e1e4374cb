//! What there is to say of starts.

use std::collections::{BTreeMap, BTreeSet};

use super::{Call, CallAnswer, Denials, End, Need, START_NEEDS, Start, StartAnswers, StartNeeds};
use crate::filter::node_architecture;
use crate::profile::{Affected, Code, FieldPath, Finding, Profile, Software};

/// Of versions that a finding concerns and does not name.
const UNTRIED: &str = "Other versions were not tried, and are taken to be like those next to them";

/// What there is to tell of a version of a runtime, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// No container starts.
    Never,
    /// Some starts fail.
    NowAndThen,
    /// It is not known whether any fails.
    Perhaps,
    /// Without `no_new_privs` none starts, of ordinary users alone or of root, too.
    WithNoNewPrivs { root: bool },
    /// Without `no_new_privs` it is not known whether any fails.
    PerhapsWithNoNewPrivs,
}

/// That of one version, and for want of which calls.
struct Row {
    needs: &'static StartNeeds,
    starts: Vec<(Kind, Vec<&'static Need>)>,
}

/// What a profile's answers mean for the start of containers. Field paths are relative to the profile.
///
/// Invalid if neither runc nor crun can start any; otherwise a finding for each runtime that cannot or perhaps cannot,
/// or only with `no_new_privs`.
#[must_use]
pub fn findings(profile: &Profile, answers: &StartAnswers) -> Vec<Finding> {
    let judge = Judge { profile, answers };
    let rows: Vec<Row> = START_NEEDS.iter().map(|needs| judge.row(needs)).collect();
    let mut findings = match judge.nowhere(&rows) {
        Some(finding) => vec![finding],
        None => judge.somewhere(&rows),
    };
    findings.extend(judge.listener());
    findings
}

struct Judge<'a> {
    profile: &'a Profile,
    answers: &'a StartAnswers,
}

impl Judge<'_> {
    fn row(&self, needs: &'static StartNeeds) -> Row {
        let mut row = Row {
            needs,
            starts: Vec::new(),
        };
        let denied = |no_new_privs, uid, end| -> Vec<&'static Need> {
            let start = needs.start(no_new_privs);
            let denied = start
                .needs()
                .filter(|need| self.end(needs, start, need, uid) == end);
            denied.collect()
        };
        let badly = denied(true, 0, End::Fails);
        let always: Vec<_> = badly.iter().copied().filter(|need| need.always).collect();
        if !always.is_empty() {
            row.starts.push((Kind::Never, always));
            return row;
        }
        if !badly.is_empty() {
            row.starts.push((Kind::NowAndThen, badly));
            return row;
        }
        let mut perhaps = denied(true, 0, End::Perhaps);
        let ordinary = denied(false, 1000, End::Fails);
        if !perhaps.is_empty() {
            row.starts.push((Kind::Perhaps, perhaps.clone()));
        }
        if !ordinary.is_empty() {
            let root = !denied(false, 0, End::Fails).is_empty();
            row.starts.push((Kind::WithNoNewPrivs { root }, ordinary));
            return row;
        }
        let known = first_ways(&perhaps);
        perhaps = denied(false, 1000, End::Perhaps);
        perhaps.retain(|need| !need.calls.iter().any(|(name, _)| known.contains(name)));
        if !perhaps.is_empty() {
            row.starts.push((Kind::PerhapsWithNoNewPrivs, perhaps));
        }
        row
    }

    /// What becomes of a start on this runtime as far as it depends on this need.
    fn end(&self, needs: &StartNeeds, start: &Start, need: &Need, uid: u32) -> End {
        need.end(uid, |name, fatal| {
            if self.answers.let_through(name) {
                End::Starts
            } else {
                start.end(name, fatal, |call| self.answer(needs, call))
            }
        })
    }

    /// What becomes of a call on this runtime.
    fn answer(&self, needs: &StartNeeds, call: Call) -> CallAnswer {
        let answer = self.answers.get(call);
        if answer.is_unknown_to_runc && needs.runtime == Software::Runc && self.has_stub(needs) {
            CallAnswer {
                denials: Denials::ENOSYS,
                is_always_denied: true,
                ..answer
            }
        } else {
            answer
        }
    }

    /// Before 1.1.15, runc answered unknown calls for the listed architectures alone.
    fn has_stub(&self, needs: &StartNeeds) -> bool {
        let is_old = needs.versions.from.is_none();
        !is_old
            || node_architecture(self.profile).is_some_and(|node| self.profile.architectures.contains(&node))
    }

    /// Of a profile under which no container starts.
    fn nowhere(&self, rows: &[Row]) -> Option<Finding> {
        let mut fewest: Option<&[&'static Need]> = None;
        for row in rows {
            match row.starts.first() {
                Some((Kind::Never, missing)) => {
                    fewest = fewest
                        .into_iter()
                        .chain([&missing[..]])
                        .min_by_key(|missing| missing.len());
                }
                // Theirs is the last word.
                _ if row.needs.runtime != Software::Youki => return None,
                _ => {}
            }
        }
        let missing = fewest?;
        let message = format!(
            "no container can start under this profile: between the loading of the filter and the start of the \
             program every runtime needs {}{}. Allow {}",
            list(missing),
            self.hang(missing),
            them(missing),
        );
        Some(self.finding(Code::CannotStart, missing, message))
    }

    fn somewhere(&self, rows: &[Row]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for runtime in [Software::Runc, Software::Crun, Software::Youki] {
            let rows: Vec<_> = rows.iter().filter(|row| row.needs.runtime == runtime).collect();
            let mut groups: BTreeMap<Kind, Vec<(&'static StartNeeds, &[&'static Need])>> = BTreeMap::new();
            for row in &rows {
                for (kind, missing) in &row.starts {
                    groups.entry(*kind).or_default().push((row.needs, missing));
                }
            }
            for (kind, group) in groups {
                findings.push(self.tell(kind, &group));
            }
        }
        findings.sort_by_key(|finding| finding.code);
        findings
    }

    fn tell(&self, kind: Kind, group: &[(&'static StartNeeds, &[&'static Need])]) -> Finding {
        let mut missing: Vec<_> = group.iter().flat_map(|(_, missing)| *missing).copied().collect();
        missing.sort_unstable();
        missing.dedup();
        let missing = &missing[..];
        let affects = versions(group.iter().map(|(needs, _)| needs.versions));
        let who = tried(group.iter().map(|(needs, _)| *needs));
        let (list, names, them) = (list(missing), names(missing), them(missing));
        let (need, call, pass, own) = match group {
            [_] => ("it needs", "it calls", "it may pass", "its own"),
            [(_, first), others @ ..]
                if others
                    .iter()
                    .all(|(_, other)| first_ways(other) == first_ways(first)) =>
            {
                ("they need", "they call", "they may pass", "their own")
            }
            _ => (
                "they need one or another of",
                "they call one or another of",
                "they may pass",
                "their own",
            ),
        };
        let hang = if affects.iter().any(|one| one.software == Software::Runc) {
            self.hang(missing)
        } else {
            ""
        };
        let (code, message) = match kind {
            Kind::Never => (
                Code::StartFails,
                format!(
                    "{who} cannot start a container under this profile: between the loading of the filter and the \
                     start of the program {need} {list}{hang}. {UNTRIED}. Allow {them}"
                ),
            ),
            Kind::NowAndThen => (
                Code::StartFails,
                format!(
                    "now and then {who} cannot start a container under this profile: at moments of {own} {need} \
                     {list}{hang}. {UNTRIED}. Allow {them}"
                ),
            ),
            Kind::Perhaps => (
                Code::StartFails,
                format!(
                    "{who} may be unable to start a container under this profile: between the loading of the filter \
                     and the start of the program {call} {names}, and the profile denies that for some arguments, \
                     which {pass}{hang}. {UNTRIED}. Allow {them} whatever the arguments"
                ),
            ),
            Kind::PerhapsWithNoNewPrivs => (
                Code::NeedsNoNewPrivs,
                format!(
                    "{who} may be unable to start a container under this profile without allowPrivilegeEscalation: \
                     false: then {call} {names} as well, and the profile denies that for some arguments, which \
                     {pass}{hang}. {UNTRIED}. Allow {them} whatever the arguments, or have all pods set that"
                ),
            ),
            Kind::WithNoNewPrivs { root } => (
                Code::NeedsNoNewPrivs,
                format!(
                    "{who} can start a container under this profile only with allowPrivilegeEscalation: false{}; \
                     otherwise {need} {list}, as well{hang}. {UNTRIED}. Allow {them}, or have all pods set that",
                    if root { "" } else { " or as root" },
                ),
            ),
        };
        self.finding(code, missing, message).affecting(affects)
    }

    /// Go's runtime cannot end a process whose thread was killed, or that may not end itself.
    fn hang(&self, missing: &[&'static Need]) -> &'static str {
        let mut calls = missing.iter().flat_map(|need| need.calls);
        let hangs = calls.any(|(name, _)| {
            let answer = self.answers.get(Call::any(name));
            let goes_on = !answer.denials.intersects(Denials::KILL);
            answer.kills_thread || (goes_on && self.answers.survives_exit())
        });
        if hangs {
            "; runc then hangs, and the pod stays in creation without a message"
        } else {
            ""
        }
    }

    /// Of runtimes that ask the listener before the program does.
    fn listener(&self) -> Option<Finding> {
        let asked_by = |runtime| -> Vec<&str> {
            let all = self.answers.iter();
            let asked = all.filter(|(call, answer)| call.arguments.is_empty() && answer.asks_listener);
            let names = asked.map(|(call, _)| call.name);
            names.filter(|name| is_called_by(runtime, name)).collect()
        };
        let (runc, youki) = (asked_by(Software::Runc), asked_by(Software::Youki));
        let first = runc.first().or_else(|| youki.first())?;
        let waits = || {
            let them = if runc.len() == 1 { "that" } else { "those" };
            format!(
                "runc then waits for the listener, and containers start only if that lets {them} through at once"
            )
        };
        let (runtimes, message) = if youki.is_empty() {
            let message = format!(
                "runc itself may call {} before the program starts: {}",
                runc.join(", "),
                waits()
            );
            (vec![Software::Runc], message)
        } else if runc.is_empty() {
            let message = format!(
                "youki itself may call {} before the program starts, and then none may start with it",
                youki.join(", ")
            );
            (vec![Software::Youki], message)
        } else {
            let who = if runc == youki {
                format!("runc and youki themselves may call {}", runc.join(", "))
            } else {
                let (runc, youki) = (runc.join(", "), youki.join(", "));
                format!("runc itself may call {runc}, and youki {youki},")
            };
            let message = format!(
                "{who} before the program starts: {}; with youki none may start",
                waits()
            );
            (vec![Software::Runc, Software::Youki], message)
        };
        let affects: Vec<Affected> = runtimes.into_iter().map(Affected::always).collect();
        Some(Finding::new(Code::NotifyAtStart, self.place(first), message).affecting(affects))
    }

    fn finding(&self, code: Code, missing: &[&'static Need], message: String) -> Finding {
        let first = missing.first().and_then(|need| need.calls.first());
        let name = first.map_or("", |(name, _)| *name);
        Finding::new(code, self.place(name), message).shown_by(format!("{name}()"))
    }

    /// Where a call is denied: by an entry, for want of one that allows it whatever its arguments, or by the default.
    fn place(&self, name: &str) -> FieldPath {
        let lets_through = |action| crate::filter::Answer::new(action, None).lets_through();
        let mut place = None;
        for (entry, rule) in self.profile.syscalls.iter().enumerate() {
            let Some(index) = rule.names.iter().position(|one| one == name) else {
                continue;
            };
            let here = FieldPath::root()
                .key("syscalls")
                .index(entry)
                .key("names")
                .index(index);
            if !lets_through(rule.action) {
                return here;
            }
            if !rule.args.is_empty() {
                place.get_or_insert(here);
            }
        }
        place.unwrap_or_else(|| FieldPath::root().key("defaultAction"))
    }
}

/// `close, execve, which the profile denies`. Where the runtime has a second way, the first is enough.
fn list(missing: &[&'static Need]) -> String {
    format!("{}, which the profile denies", names(missing))
}

fn names(missing: &[&'static Need]) -> String {
    let names: Vec<&str> = first_ways(missing).into_iter().collect();
    names.join(", ")
}

fn them(missing: &[&'static Need]) -> &'static str {
    if first_ways(missing).len() == 1 {
        "it"
    } else {
        "them"
    }
}

fn first_ways(missing: &[&'static Need]) -> BTreeSet<&'static str> {
    let first = |need: &&'static Need| need.calls.first().map(|(name, _)| *name);
    missing.iter().filter_map(first).collect()
}

/// Whether a version of a runtime makes the call before the program starts.
fn is_called_by(runtime: Software, name: &str) -> bool {
    let versions = START_NEEDS.iter().filter(|needs| needs.runtime == runtime);
    let mut starts = versions.flat_map(|needs| [true, false].map(|no_new_privs| needs.start(no_new_privs)));
    starts.any(|start| {
        let needed = start.needs().flat_map(|need| need.calls).map(|(name, _)| *name);
        let mut made = needed.chain(start.sites().map(|site| site.call.name));
        made.any(|one| one == name)
    })
}

/// `runc 1.5.2, 1.4.4 and 1.1.5`: those that were started.
fn tried(rows: impl Iterator<Item = &'static StartNeeds>) -> String {
    let rows: Vec<_> = rows.collect();
    let runtime = rows.first().map_or("", |row| row.runtime.as_str());
    let versions: Vec<&str> = rows.iter().map(|row| row.version).collect();
    match versions.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{runtime} {} and {last}", others.join(", ")),
        _ => format!("{runtime} {}", versions.join("")),
    }
}

/// The versions of one program that are in any of these, oldest first, those that touch as one.
fn versions(ranges: impl Iterator<Item = Affected>) -> Vec<Affected> {
    let mut ranges: Vec<Affected> = ranges.collect();
    ranges.sort_by_key(|range| range.from);
    let mut all: Vec<Affected> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last)
                if last
                    .before
                    .is_none_or(|before| range.from.is_none_or(|from| from <= before)) =>
            {
                last.before = last.before.zip(range.before).map(|(one, other)| one.max(other));
            }
            _ => all.push(range),
        }
    }
    all
}

#[cfg(test)]
mod tests;
