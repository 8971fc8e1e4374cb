//! What there is to say of starts.

use std::collections::{BTreeMap, BTreeSet};

use super::{Denials, Need, START_NEEDS, StartAnswers, StartNeeds};
use crate::filter::native;
use crate::profile::{Affected, Code, FieldPath, Finding, Profile, Software};

/// What there is to tell of a version of a runtime, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// No container starts.
    Never,
    /// Some starts fail.
    NowAndThen,
    /// With `no_new_privs` alone; for ordinary users alone or for root, too.
    WithNoNewPrivs { root: bool },
}

/// That of one version, for want of these calls; `None` where all is well.
type Starts = Option<(Kind, Vec<&'static Need>)>;

/// What a profile's answers mean for the start of containers. Field paths are relative to the profile.
///
/// Invalid if neither runc nor crun can start any; otherwise a finding for each runtime that cannot, or only with
/// `no_new_privs`.
#[must_use]
pub fn findings(profile: &Profile, answers: &StartAnswers) -> Vec<Finding> {
    let judge = Judge { profile, answers };
    let rows: Vec<(&StartNeeds, Starts)> = START_NEEDS
        .chunks(2)
        .filter_map(|pair| match pair {
            [with, without] => Some((with, judge.starts(with, without))),
            _ => None,
        })
        .collect();
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
    fn starts(&self, with: &'static StartNeeds, without: &'static StartNeeds) -> Starts {
        let missing = |needs: &'static StartNeeds, uid| -> Vec<&'static Need> {
            needs.missing(uid, |name| self.denials(needs, name)).collect()
        };
        let badly = missing(with, 0);
        let always: Vec<_> = badly.iter().copied().filter(|need| need.always).collect();
        if !always.is_empty() {
            return Some((Kind::Never, always));
        }
        if !badly.is_empty() {
            return Some((Kind::NowAndThen, badly));
        }
        let [root, ordinary] = [0, 1000].map(|uid| missing(without, uid));
        let root = !root.is_empty();
        (!ordinary.is_empty()).then_some((Kind::WithNoNewPrivs { root }, ordinary))
    }

    /// How a call is denied on this runtime.
    fn denials(&self, needs: &StartNeeds, name: &str) -> Denials {
        let answer = self.answers.get(name);
        if answer.is_unknown_to_runc && needs.runtime == Software::Runc && self.has_stub(needs) {
            Denials::ENOSYS
        } else {
            answer.denials
        }
    }

    /// Before 1.1.15, runc answered unknown calls for the listed architectures alone.
    fn has_stub(&self, needs: &StartNeeds) -> bool {
        let is_old = needs.versions.before.is_some();
        !is_old || native().is_some_and(|native| self.profile.architectures.contains(&native))
    }

    /// Of a profile under which no container starts.
    fn nowhere(&self, rows: &[(&StartNeeds, Starts)]) -> Option<Finding> {
        let mut fewest: Option<&[&'static Need]> = None;
        for (needs, starts) in rows {
            match starts {
                Some((Kind::Never, missing)) => {
                    fewest = fewest
                        .into_iter()
                        .chain([&missing[..]])
                        .min_by_key(|missing| missing.len());
                }
                // Theirs is the last word.
                _ if needs.runtime != Software::Youki => return None,
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

    fn somewhere(&self, rows: &[(&'static StartNeeds, Starts)]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for runtime in [Software::Runc, Software::Crun, Software::Youki] {
            let rows: Vec<_> = rows
                .iter()
                .filter(|(needs, _)| needs.runtime == runtime)
                .collect();
            let mut groups: BTreeMap<Kind, Vec<(&'static StartNeeds, &[&'static Need])>> = BTreeMap::new();
            for (needs, starts) in &rows {
                let Some((kind, missing)) = starts else {
                    continue;
                };
                groups.entry(*kind).or_default().push((*needs, missing));
            }
            for (kind, group) in groups {
                let affects = match group[..] {
                    [(one, _)] if rows.len() > 1 => std::slice::from_ref(&one.versions),
                    _ => always(runtime),
                };
                let mut missing: Vec<_> = group.iter().flat_map(|(_, missing)| *missing).copied().collect();
                missing.sort_unstable();
                missing.dedup();
                findings.push(self.tell(kind, affects, &missing));
            }
        }
        findings.sort_by_key(|finding| finding.code);
        findings
    }

    fn tell(&self, kind: Kind, affects: &'static [Affected], missing: &[&'static Need]) -> Finding {
        let who = affects.first().map(ToString::to_string).unwrap_or_default();
        let (list, them) = (list(missing), them(missing));
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
                     start of the program it needs {list}{hang}. Allow {them}"
                ),
            ),
            Kind::NowAndThen => (
                Code::StartFails,
                format!(
                    "{who} fails now and then to start a container under this profile: at moments of its own it needs \
                     {list}{hang}. Allow {them}"
                ),
            ),
            Kind::WithNoNewPrivs { root } => (
                Code::NeedsNoNewPrivs,
                format!(
                    "{who} can start a container under this profile only with allowPrivilegeEscalation: false{}; \
                     otherwise it also needs {list}{hang}. Allow {them}, or have all pods set that",
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
            let answer = self.answers.get(name);
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
        let asked: Vec<&str> = self
            .answers
            .iter()
            .filter(|(_, answer)| answer.asks_listener)
            .map(|(name, _)| name)
            .collect();
        let first = asked.first()?;
        let message = format!(
            "runtimes themselves may call {} before the program starts, and then wait for the listener: containers \
             start only if it lets {} through at once",
            asked.join(", "),
            if asked.len() == 1 { "that" } else { "those" },
        );
        Some(Finding::new(Code::NotifyAtStart, self.place(first), message))
    }

    fn finding(&self, code: Code, missing: &[&'static Need], message: String) -> Finding {
        let first = missing.first().and_then(|need| need.calls.first());
        let name = first.map_or("", |(name, _)| *name);
        Finding::new(code, self.place(name), message).shown_by(format!("{name}()"))
    }

    /// Where a call gets its answer.
    fn place(&self, name: &str) -> FieldPath {
        let lets_through = |action| crate::filter::Answer::new(action, None).lets_through();
        for (entry, rule) in self.profile.syscalls.iter().enumerate() {
            if lets_through(rule.action) {
                continue;
            }
            if let Some(index) = rule.names.iter().position(|one| one == name) {
                return FieldPath::root()
                    .key("syscalls")
                    .index(entry)
                    .key("names")
                    .index(index);
            }
        }
        FieldPath::root().key("defaultAction")
    }
}

/// `close, execve, which the profile denies`. Where the runtime has a second way, the first is enough.
fn list(missing: &[&'static Need]) -> String {
    let names: Vec<&str> = first_ways(missing).into_iter().collect();
    format!("{}, which the profile denies", names.join(", "))
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

const fn always(runtime: Software) -> &'static [Affected] {
    match runtime {
        Software::Runc => const { &[Affected::always(Software::Runc)] },
        Software::Crun => const { &[Affected::always(Software::Crun)] },
        _ => const { &[Affected::always(Software::Youki)] },
    }
}

#[cfg(test)]
mod tests;
