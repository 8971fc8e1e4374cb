//! What a profile says about each call, and what is wrong with that before anything is compiled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::call::{Call, elsewhere};
use super::condition::{Width, condition, conditions};
use super::diagram::{Arguments, Diagrams, Node, TooComplex};
use crate::filter::{Answer, ArchitectureCalls, Mention, Selector};
use crate::profile::{Architecture, Code, FieldPath, Finding, Profile, Rule};

/// The calls of one architecture, by number, as a profile means them.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) architecture: Architecture,
    pub(super) width: Width,
    pub(super) calls: BTreeMap<u32, Node>,
}

/// What the entries about one call are, without the names they use for it. Hundreds of calls share one.
type Entries = Vec<(usize, Option<Selector>)>;

/// Which of them: the entry, and the multiplexer's argument.
type Which = (usize, Option<u32>);

/// What they come to.
#[derive(Debug)]
struct Together {
    node: Node,
    /// Those for which the others say the same.
    redundant: BTreeSet<Which>,
}

/// Reads a profile, architecture by architecture.
pub(super) struct Reader<'a> {
    profile: &'a Profile,
    diagrams: &'a mut Diagrams,
    answers: Vec<Answer>,
    default: Answer,
    native: Option<Architecture>,
    read: HashMap<(Width, Entries), Rc<Together>>,
    /// What was found, by code and entry: the same on the next call or architecture is not told again.
    found: BTreeMap<(Code, usize), Finding>,
    /// Entries with the indices of their names: true if others say the same of every call that the name stands for. A
    /// name stands for a call of its own and one of a multiplexer, and for others on other architectures.
    redundant: BTreeMap<(usize, usize), bool>,
}

/// The entries about one call on one architecture.
#[derive(Debug, Clone, Copy)]
struct Site<'a> {
    mentions: &'a [Mention],
    architecture: Architecture,
}

impl<'a> Reader<'a> {
    /// `native` is the architecture that witnesses need not name.
    pub(super) fn new(
        profile: &'a Profile,
        diagrams: &'a mut Diagrams,
        native: Option<Architecture>,
    ) -> Self {
        let answer = |rule: &Rule| Answer::new(rule.action, rule.errno_ret);
        Self {
            profile,
            diagrams,
            answers: profile.syscalls.iter().map(answer).collect(),
            default: Answer::new(profile.default_action, profile.default_errno_ret),
            native,
            read: HashMap::new(),
            found: BTreeMap::new(),
            redundant: BTreeMap::new(),
        }
    }

    /// What was found so far: the worst first, then in the order of the entries.
    pub(super) fn into_findings(mut self) -> Vec<Finding> {
        let mut redundant: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for ((entry, name), _) in std::mem::take(&mut self.redundant)
            .into_iter()
            .filter(|(_, all)| *all)
        {
            redundant.entry(entry).or_default().push(name);
        }
        for (entry, names) in redundant {
            let name = |index: &usize| self.profile.syscalls[entry].names[*index].as_str();
            let first = names.first().map_or("", name);
            let what = match names.len() {
                1 => first.to_owned(),
                count => format!("{first} and {} more", count - 1),
            };
            let field = names
                .first()
                .map_or_else(|| path(entry), |index| path(entry).key("names").index(*index));
            let message = format!("other entries already answer {what} like this");
            self.find(Code::RedundantEntry, entry, field, message, None);
        }
        let mut findings: Vec<_> = self.found.into_iter().collect();
        findings.sort_by_key(|((code, entry), _)| (code.class(), *entry, *code));
        findings.into_iter().map(|(_, finding)| finding).collect()
    }

    /// Reads the calls of an architecture.
    pub(super) fn read(&mut self, calls: &ArchitectureCalls) -> Result<Reading, TooComplex> {
        let width = Width::of(calls.architecture);
        let mut read = BTreeMap::new();
        for (&number, mentions) in &calls.calls {
            let entries = entries(mentions);
            let key = (width, entries);
            let together = if let Some(together) = self.read.get(&key) {
                Rc::clone(together)
            } else {
                let site = Site {
                    mentions,
                    architecture: calls.architecture,
                };
                let together = self.call(site, &key.1, width);
                let together = Rc::new(together.map_err(|error| match mentions.first() {
                    Some(mention) => {
                        let (name, field) = named(self.profile, mention);
                        error.about(name, field)
                    }
                    None => error,
                })?);
                self.read.insert(key, Rc::clone(&together));
                together
            };
            for mention in mentions {
                let is_redundant = together
                    .redundant
                    .contains(&which(mention.entry, mention.selector));
                let all = self
                    .redundant
                    .entry((mention.entry, mention.name))
                    .or_insert(true);
                *all &= is_redundant;
            }
            read.insert(number, together.node);
        }
        Ok(Reading {
            architecture: calls.architecture,
            width,
            calls: read,
        })
    }

    /// Looks at each entry by itself: conditions that decide nothing. As on 64-bit architectures, which have every
    /// value.
    pub(super) fn conditions(&mut self) -> Result<(), TooComplex> {
        let profile = self.profile;
        for (entry, rule) in profile.syscalls.iter().enumerate() {
            let args = path(entry).key("args");
            if conditions(self.diagrams, rule, None, Width::Bits64)? == Node::NEVER {
                let message = "no call meets the conditions of this entry, so it does nothing";
                self.find(Code::NeverMatches, entry, args, message, None);
                continue;
            }
            for (index, one) in rule.args.iter().enumerate() {
                if condition(self.diagrams, one, Width::Bits64)? == Node::ALWAYS {
                    let message = "every value meets this condition, so it does nothing";
                    self.find(Code::AlwaysHolds, entry, args.index(index), message, None);
                }
            }
        }
        Ok(())
    }

    /// The entries about one call, taken together.
    fn call(&mut self, site: Site<'_>, entries: &Entries, width: Width) -> Result<Together, TooComplex> {
        let mut saying = Vec::new();
        let mut restating = Vec::new();
        for &(entry, selector) in entries {
            let rule = &self.profile.syscalls[entry];
            let holds = conditions(self.diagrams, rule, selector, width)?;
            if self.answers[entry] == self.default {
                restating.push((entry, holds));
            } else {
                saying.push((which(entry, selector), holds));
            }
        }
        // What entries answer; NEVER where none does.
        let mut said = Node::NEVER;
        let mut kept: Vec<(Which, Node)> = Vec::new();
        let mut redundant = BTreeSet::new();
        for (which, holds) in saying {
            let (entry, _) = which;
            let answer = self.diagrams.answer(self.answers[entry]);
            let clash = self
                .diagrams
                .find_where(holds, said, |leaf| leaf != Node::NEVER && leaf != answer)?;
            if let Some(arguments) = clash {
                let other = kept.iter().find(|((other, _), holds)| {
                    self.answers[*other] != self.answers[entry]
                        && self.diagrams.at(*holds, &arguments) == Node::ALWAYS
                });
                let other = other.map_or(entry, |((other, _), _)| *other);
                self.contradiction(site, entry, other, arguments);
            } else if holds == Node::NEVER {
                // Told once for all calls.
            } else if self
                .diagrams
                .find_where(holds, said, |leaf| leaf == Node::NEVER)?
                .is_none()
            {
                redundant.insert(which);
            } else {
                said = self.diagrams.choose(holds, answer, said)?;
                kept.push((which, holds));
            }
        }
        redundant.extend(self.covered_by_later(&kept)?);
        for (entry, holds) in restating {
            let alone = self
                .diagrams
                .find_where(holds, said, |leaf| leaf != Node::NEVER)?
                .is_none();
            let others = if alone { &[] } else { &kept[..] };
            self.restated(site, (entry, holds), others)?;
        }
        let default = self.diagrams.answer(self.default);
        Ok(Together {
            node: self.diagrams.replace(said, Node::NEVER, default)?,
            redundant,
        })
    }

    /// Entries that those behind them make superfluous.
    fn covered_by_later(&mut self, kept: &[(Which, Node)]) -> Result<Vec<Which>, TooComplex> {
        let mut covered_by_later = Vec::new();
        let mut later: BTreeMap<Answer, Node> = BTreeMap::new();
        for &(which, holds) in kept.iter().rev() {
            let covered = later.entry(self.answers[which.0]).or_insert(Node::NEVER);
            let alone = self
                .diagrams
                .find_where(holds, *covered, |leaf| leaf == Node::NEVER)?;
            if alone.is_none() {
                covered_by_later.push(which);
            } else {
                *covered = self.diagrams.choose(holds, Node::ALWAYS, *covered)?;
            }
        }
        Ok(covered_by_later)
    }

    /// An entry with the answer of the default. Runtimes leave it out. That is what it says if other entries make
    /// exceptions from it, and not if it was to be an exception from them.
    fn restated(
        &mut self,
        site: Site<'_>,
        (entry, holds): (usize, Node),
        kept: &[(Which, Node)],
    ) -> Result<(), TooComplex> {
        for &((other, _), elsewhere) in kept {
            let outside = self
                .diagrams
                .find_where(elsewhere, holds, |leaf| leaf == Node::NEVER)?;
            if outside.is_none() && elsewhere != holds {
                continue;
            }
            let overlap = self
                .diagrams
                .find_where(holds, elsewhere, |leaf| leaf == Node::ALWAYS)?;
            if let Some(arguments) = overlap {
                self.contradiction(site, entry, other, arguments);
                return Ok(());
            }
        }
        let message = format!(
            "{} is the default action, so this entry does nothing",
            self.default
        );
        self.find(Code::DefaultEntry, entry, path(entry), message, None);
        Ok(())
    }

    fn contradiction(&mut self, site: Site<'_>, entry: usize, other: usize, arguments: Arguments) {
        let call = self.show(site, arguments);
        let mut message = format!(
            "{call} gets {} here and {} from syscalls[{other}]: entries have no order, and libseccomp keeps one answer \
             or fails",
            self.answers[entry], self.answers[other]
        );
        if let Some(way) = self.dropped(site, [entry, other]) {
            message = format!("{message}; {way}");
        }
        self.find(
            Code::Contradiction,
            entry,
            site.named(entry),
            message,
            Some(&call),
        );
    }

    /// Why entries that seem to exclude each other do not, where the call is made through a multiplexer.
    fn dropped(&self, site: Site<'_>, entries: [usize; 2]) -> Option<String> {
        let mention = site.mentions.iter().find(|mention| mention.entry == entries[0])?;
        let through = mention.selector?.multiplexer;
        let rules = entries.map(|entry| &self.profile.syscalls[entry]);
        let mut conditions = rules.iter().flat_map(|rule| &rule.args);
        conditions.any(|condition| condition.index == 0).then(|| {
            let (name, _) = named(self.profile, mention);
            format!(
                "programs of {} make {name} through {through} as well, where libseccomp drops conditions on argument 0: \
                 leave that architecture out, or give both entries one answer",
                site.architecture
            )
        })
    }

    /// Notes a finding, unless the entry has one of that code.
    fn find(
        &mut self,
        code: Code,
        entry: usize,
        field: FieldPath,
        message: impl Into<String>,
        witness: Option<&Call<'_>>,
    ) {
        self.found.entry((code, entry)).or_insert_with(|| Finding {
            witness: witness.map(ToString::to_string),
            ..Finding::new(code, field, message)
        });
    }

    fn show(&self, site: Site<'_>, arguments: Arguments) -> Call<'a> {
        let on = elsewhere(site.architecture, self.native);
        show(self.profile, site.mentions, arguments, on)
    }
}

impl Site<'_> {
    /// Where an entry names the call.
    fn named(self, entry: usize) -> FieldPath {
        match self.mentions.iter().find(|mention| mention.entry == entry) {
            Some(mention) => path(entry).key("names").index(mention.name),
            None => path(entry),
        }
    }
}

/// A call that these entries are about.
pub(super) fn show<'a>(
    profile: &'a Profile,
    mentions: &[Mention],
    arguments: Arguments,
    on: Option<Architecture>,
) -> Call<'a> {
    let looked_at = mentions.iter().flat_map(|mention| {
        let own = profile.syscalls[mention.entry].args.iter();
        own.map(|condition| usize::from(condition.index) + 1)
            .chain(mention.selector.map(|_| 1))
    });
    let name = mentions.first().map_or("", |mention| match mention.selector {
        Some(selector) => selector.multiplexer,
        None => profile.syscalls[mention.entry].names[mention.name].as_str(),
    });
    Call {
        name,
        arguments,
        shown: looked_at.max().unwrap_or(0),
        on,
    }
}

/// A call as an entry names it, and where.
pub(super) fn named<'a>(profile: &'a Profile, mention: &Mention) -> (&'a str, FieldPath) {
    let name = profile.syscalls[mention.entry].names[mention.name].as_str();
    (name, path(mention.entry).key("names").index(mention.name))
}

fn which(entry: usize, selector: Option<Selector>) -> Which {
    (entry, selector.map(|selector| selector.value))
}

/// Each entry once.
fn entries(mentions: &[Mention]) -> Entries {
    let mut seen = BTreeSet::new();
    mentions
        .iter()
        .filter(|mention| seen.insert(which(mention.entry, mention.selector)))
        .map(|mention| (mention.entry, mention.selector))
        .collect()
}

fn path(entry: usize) -> FieldPath {
    FieldPath::root().key("syscalls").index(entry)
}
