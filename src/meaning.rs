//! What a profile means, call by call, and whether its filter means the same. Exact: every call, no samples.
//!
//! For one architecture and one call, both a profile and a compiled filter are a function from six 64-bit
//! arguments to an answer. Both are brought into one canonical form, a decision diagram, in which equal meaning
//! is an equal node and a difference is a path that spells the call out. `docs/semantics.md` says what profiles
//! mean; this room is that text as code.
//!
//! Pure; knows `profile`, and of `filter` what it exports: programs, answers and resolved names. Hostile
//! conditions make diagrams grow without end, so there are bounds on both memory and steps.

mod call;
mod condition;
mod diagram;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod program;
mod reading;
#[cfg(any(test, fuzzing))]
mod reference;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::filter::{Answer, ArchitectureCalls, Mention, Program, X32_BIT, audit_token};
use crate::profile::{Architecture, Code, Condition, FieldPath, Finding, Profile};
use call::Call;
use condition::Width;
use diagram::{Diagrams, Node};
use program::{Key, boundaries};
use reading::{Reading, named, show};

pub use diagram::TooComplex;
pub use program::Unreadable;

/// The kernel takes a number for a signed one.
const LAST_NUMBER: u32 = i32::MAX as u32;

/// Most findings about filters: one shows what is wrong.
const MAX_MISCOMPILED: usize = 8;

/// What a profile means.
#[derive(Debug)]
pub struct Meaning<'a> {
    profile: &'a Profile,
    calls: &'a [ArchitectureCalls],
    diagrams: Diagrams,
    readings: Vec<Reading>,
    findings: Vec<Finding>,
}

impl<'a> Meaning<'a> {
    /// Reads a profile. `calls` is what [`crate::filter::resolve`] says of it, the native architecture first.
    pub fn of(profile: &'a Profile, calls: &'a [ArchitectureCalls]) -> Result<Self, TooComplex> {
        let mut diagrams = Diagrams::default();
        let native = calls.first().map(|calls| calls.architecture);
        let mut reader = reading::Reader::new(profile, &mut diagrams, native);
        reader.conditions()?;
        let readings = calls
            .iter()
            .map(|calls| reader.read(calls))
            .collect::<Result<_, _>>()?;
        let findings = reader.into_findings();
        Ok(Self {
            profile,
            calls,
            diagrams,
            readings,
            findings,
        })
    }

    /// What is wrong with the profile, whatever it is compiled to; field paths are relative to it. Where an
    /// entry contradicts another, the meaning is without it.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The answer that the profile gives to a call of an architecture that its filter holds.
    #[must_use]
    pub fn answer(&self, architecture: Architecture, number: u32, arguments: &[u64; 6]) -> Option<Answer> {
        let reading = self.reading(architecture)?;
        match reading.calls.get(&number) {
            Some(node) => self.diagrams.as_answer(self.diagrams.at(*node, arguments)),
            None => Some(self.default()),
        }
    }

    /// All answers that the profile gives to a call of an architecture that its filter holds, whatever the arguments
    /// that meet these conditions; or, where that is too complex to tell, whatever the arguments.
    pub fn answers(
        &mut self,
        architecture: Architecture,
        number: u32,
        arguments: &[Condition],
    ) -> Option<BTreeSet<Answer>> {
        let reading = self.reading(architecture)?;
        let Some(&node) = reading.calls.get(&number) else {
            return Some(BTreeSet::from([self.default()]));
        };
        let width = reading.width;
        let within = arguments.iter().try_fold(Node::ALWAYS, |all, one| {
            let one = condition::condition(&mut self.diagrams, one, width)?;
            self.diagrams.and(all, one)
        });
        let node = within
            .and_then(|within| self.diagrams.choose(within, node, Node::NEVER))
            .unwrap_or(node);
        Some(self.diagrams.answers(node))
    }

    fn reading(&self, architecture: Architecture) -> Option<&Reading> {
        self.readings
            .iter()
            .find(|reading| reading.architecture == architecture)
    }

    /// Compares a filter with the profile, for every call of every architecture. A finding for each group of
    /// entries that it answers differently, with a call that shows it; none is the proof that it means the same.
    ///
    /// Left out are numbers of 2^31 and more: the kernel takes them for negative ones, which are no calls, and
    /// libseccomp writes those it uses as placeholders into the filter.
    pub fn compare(&mut self, program: &Program) -> Result<Vec<Finding>, Unreadable> {
        let boundaries = boundaries(program, Key::Number)?;
        let mut findings = Vec::new();
        let mut told = BTreeSet::new();
        for (reading, calls) in self.readings.iter().zip(self.calls) {
            let mut reader = program::Reader::new(program, audit_token(reading.architecture), reading.width);
            let default = self.diagrams.answer(self.default());
            for number in representatives(&boundaries, calls, numbers_of(reading.architecture)) {
                let expected = reading.calls.get(&number).copied().unwrap_or(default);
                let mentions = calls.calls.get(&number).map_or(&[][..], Vec::as_slice);
                let actual = reader.call(&mut self.diagrams, number).map_err(|error| {
                    match (error, mentions.first()) {
                        (Unreadable::TooComplex(error), Some(mention)) => {
                            let (name, field) = named(self.profile, mention);
                            Unreadable::TooComplex(error.about(name, field))
                        }
                        (error, _) => error,
                    }
                })?;
                let Some(arguments) = self.diagrams.difference(expected, actual) else {
                    continue;
                };
                let entries: Vec<_> = mentions.iter().map(|mention| mention.entry).collect();
                if findings.len() < MAX_MISCOMPILED && told.insert(entries) {
                    let answers = [expected, actual].map(|node| {
                        let leaf = self.diagrams.at(node, &arguments);
                        self.diagrams.as_answer(leaf).unwrap_or_else(|| self.default())
                    });
                    let native = self.calls.first().map(|calls| calls.architecture);
                    let on = call::elsewhere(reading.architecture, native);
                    findings.push(self.miscompiled(mentions, number, arguments, on, answers));
                }
            }
        }
        findings.extend(self.stranger(program, &boundaries)?);
        Ok(findings)
    }

    fn default(&self) -> Answer {
        Answer::new(self.profile.default_action, self.profile.default_errno_ret)
    }

    /// Calls of architectures that the filter does not hold kill the thread: no profile can say otherwise. X86-64
    /// and X32 share a token, and have numbers of their own.
    fn stranger(
        &mut self,
        program: &Program,
        numbers: &BTreeSet<u32>,
    ) -> Result<Option<Finding>, Unreadable> {
        let held: Vec<_> = self.readings.iter().map(|reading| reading.architecture).collect();
        let killed = self.diagrams.answer(Answer::KILL_THREAD);
        let x86_64 = audit_token(Architecture::X86_64);
        for token in boundaries(program, Key::Architecture)? {
            let range = if !held.iter().any(|held| audit_token(*held) == token) {
                0..=LAST_NUMBER
            } else if token == x86_64 && !held.contains(&Architecture::X32) {
                numbers_of(Architecture::X32)
            } else if token == x86_64 && !held.contains(&Architecture::X86_64) {
                numbers_of(Architecture::X86_64)
            } else {
                continue;
            };
            let mut reader = program::Reader::new(program, token, Width::Bits64);
            let first = *range.start();
            for number in numbers.range(range).copied().chain([first]) {
                let actual = reader.call(&mut self.diagrams, number)?;
                if let Some(arguments) = self.diagrams.difference(killed, actual) {
                    let leaf = self.diagrams.at(actual, &arguments);
                    let message = format!(
                        "call number {number} of architecture {token:#010x}, which the filter does not hold, gets {} \
                         from it instead of SCMP_ACT_KILL_THREAD",
                        self.diagrams.as_answer(leaf).unwrap_or(Answer::KILL_THREAD)
                    );
                    let field = FieldPath::root().key("architectures");
                    return Ok(Some(Finding::new(Code::Miscompiled, field, message)));
                }
            }
        }
        Ok(None)
    }

    fn miscompiled(
        &self,
        mentions: &[Mention],
        number: u32,
        arguments: [u64; 6],
        on: Option<Architecture>,
        [expected, actual]: [Answer; 2],
    ) -> Finding {
        let unnamed = format!("call number {number}");
        let call = match mentions {
            [] => Call {
                name: &unnamed,
                arguments,
                shown: 0,
                on,
            },
            mentions => {
                let call = show(self.profile, mentions, arguments, on);
                // The filter may look at an argument that no entry does.
                let last = arguments.iter().rposition(|argument| *argument != 0);
                Call {
                    shown: call.shown.max(last.map_or(0, |last| last + 1)),
                    ..call
                }
            }
        };
        let message = format!(
            "{call} gets {actual} from the compiled filter, and the profile says {expected}: libseccomp does not \
             compile this combination of conditions right"
        );
        let syscalls = FieldPath::root().key("syscalls");
        let field = match mentions.first() {
            Some(mention) => syscalls.index(mention.entry),
            None => syscalls,
        };
        Finding::new(Code::Miscompiled, field, message).shown_by(call.to_string())
    }
}

/// The numbers of an architecture's calls.
fn numbers_of(architecture: Architecture) -> RangeInclusive<u32> {
    match architecture {
        Architecture::X86_64 => 0..=X32_BIT - 1,
        Architecture::X32 => X32_BIT..=LAST_NUMBER,
        _ => 0..=LAST_NUMBER,
    }
}

/// Numbers within a range, one at least of each kind that a program or a profile tells apart.
fn representatives(
    boundaries: &BTreeSet<u32>,
    calls: &ArchitectureCalls,
    range: RangeInclusive<u32>,
) -> BTreeSet<u32> {
    let mut numbers: BTreeSet<u32> = boundaries.range(range.clone()).copied().collect();
    numbers.insert(*range.start());
    for &number in calls.calls.keys() {
        numbers.extend([number, number + 1]);
    }
    numbers.retain(|number| range.contains(number));
    numbers
}

#[cfg(test)]
mod tests;
