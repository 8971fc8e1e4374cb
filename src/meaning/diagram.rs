//! Decision diagrams over the bits of a call's arguments: one node for each meaning.
//!
//! A diagram is what a call gets, as a function of its six 64-bit arguments. It is read from the top: a branch
//! looks at one bit, argument 0 first and in each the highest bit first; a leaf is the outcome. Branches that
//! would not decide anything are left out and equal ones are the same node, so two diagrams of one [`Diagrams`]
//! mean the same exactly if they are the same node (a multi-terminal binary decision diagram, after Bryant 1986,
//! "Graph-Based Algorithms for Boolean Function Manipulation").

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::filter::Answer;
use crate::profile::{Code, FieldPath, Finding};

/// The arguments of a call.
pub(super) type Arguments = [u64; 6];

/// How many branches there may be, and how many steps are taken: hostile conditions make diagrams that grow with
/// the product of their sizes. The largest of a real profile has some thousands. What libseccomp can compile of
/// conditions that go side by side stays below. Memory is bounded with them, to some 50 MiB: a branch takes about 24
/// bytes, and what one operation remembers about as much.
const MAX_BRANCHES: usize = 1_500_000;
const MAX_REMEMBERED: usize = 250_000;
const MAX_STEPS: usize = 8_000_000;

/// The diagrams would take more memory or time than a profile is worth.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("the conditions on {}, taken together, are too complex to prove", self.call())]
pub struct TooComplex {
    /// The call, and where an entry names it.
    about: Option<Box<(String, FieldPath)>>,
}

impl TooComplex {
    /// The same, of this call, which is named at this place of the profile.
    pub(super) fn about(self, call: &str, field: FieldPath) -> Self {
        Self {
            about: self.about.or_else(|| Some(Box::new((call.to_owned(), field)))),
        }
    }

    fn call(&self) -> &str {
        self.about.as_ref().map_or("one call", |about| &about.0)
    }

    /// What to tell the author.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let field = match &self.about {
            Some(about) => about.1.clone(),
            None => FieldPath::root().key("syscalls"),
        };
        Finding::new(Code::TooComplex, field, self.to_string())
    }
}

/// A diagram. Two that mean the same are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Node(u32);

impl Node {
    const LEAF: u32 = 1 << 31;
    /// Holds for no call.
    pub(super) const NEVER: Self = Self(Self::LEAF);
    /// Holds for every call.
    pub(super) const ALWAYS: Self = Self(Self::LEAF | 1);
    /// The answers come after these two.
    const FIRST_ANSWER: u32 = Self::LEAF | 2;
}

/// A bit of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bit(u32);

impl Bit {
    /// Bit `bit` (0 is the lowest) of argument `argument`.
    pub(super) const fn new(argument: u8, bit: u32) -> Self {
        Self(argument as u32 * 64 + (63 - bit))
    }

    const fn set_in(self, arguments: &mut Arguments) {
        arguments[self.0 as usize / 64] |= 1 << (63 - self.0 % 64);
    }

    const fn is_set_in(self, arguments: &Arguments) -> bool {
        arguments[self.0 as usize / 64] >> (63 - self.0 % 64) & 1 == 1
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Branch {
    bit: Bit,
    clear: Node,
    set: Node,
}

/// The nodes of all diagrams.
#[derive(Debug, Default)]
pub(super) struct Diagrams {
    branches: Vec<Branch>,
    /// Every branch once, by what it is. Keys are numbers of our own making, and the bounds hold whatever their
    /// hashes are.
    known: HashTable<u32>,
    hasher: FixedState,
    answers: Vec<Answer>,
    steps: usize,
}

/// What one operation has found so far.
type Chosen = HashMap<(Node, Node, Node), Node, FixedState>;

impl Diagrams {
    /// The diagram of one answer to every call.
    pub(super) fn answer(&mut self, answer: Answer) -> Node {
        let at = self.answers.iter().position(|known| *known == answer);
        let at = at.unwrap_or_else(|| {
            self.answers.push(answer);
            self.answers.len() - 1
        });
        Node(Node::FIRST_ANSWER + small(at))
    }

    /// The answer that a leaf is; `None` for a branch, and for the leaves of conditions.
    pub(super) fn as_answer(&self, node: Node) -> Option<Answer> {
        let at = node.0.checked_sub(Node::FIRST_ANSWER)?;
        self.answers.get(at as usize).copied()
    }

    /// One bit decides between two diagrams that do not look at it or at one before it.
    pub(super) fn branch(&mut self, bit: Bit, clear: Node, set: Node) -> Result<Node, TooComplex> {
        if clear == set {
            return Ok(clear);
        }
        let branch = Branch { bit, clear, set };
        let hash = self.hasher.hash_one(branch);
        if let Some(at) = self.known.find(hash, |at| self.branches[*at as usize] == branch) {
            return Ok(Node(*at));
        }
        if self.branches.len() == MAX_BRANCHES {
            return Err(TooComplex::default());
        }
        let at = small(self.branches.len());
        self.branches.push(branch);
        let (branches, hasher) = (&self.branches, &self.hasher);
        self.known
            .insert_unique(hash, at, |at| hasher.hash_one(branches[*at as usize]));
        Ok(Node(at))
    }

    /// `then` where `condition` holds, `otherwise` elsewhere.
    pub(super) fn choose(
        &mut self,
        condition: Node,
        then: Node,
        otherwise: Node,
    ) -> Result<Node, TooComplex> {
        self.choose_below(condition, then, otherwise, &mut Chosen::default())
    }

    fn choose_below(
        &mut self,
        condition: Node,
        then: Node,
        otherwise: Node,
        chosen: &mut Chosen,
    ) -> Result<Node, TooComplex> {
        if condition == Node::ALWAYS || then == otherwise {
            return Ok(then);
        }
        if condition == Node::NEVER {
            return Ok(otherwise);
        }
        if (then, otherwise) == (Node::ALWAYS, Node::NEVER) {
            return Ok(condition);
        }
        let key = (condition, then, otherwise);
        if let Some(node) = chosen.get(&key) {
            return Ok(*node);
        }
        self.step(chosen.len())?;
        let nodes = [condition, then, otherwise];
        // The condition is no leaf here.
        let bit = nodes.into_iter().filter_map(|node| self.top(node)).min();
        let Some(bit) = bit else { return Ok(otherwise) };
        let [condition, then, otherwise] = nodes.map(|node| self.halves(node, bit));
        let clear = self.choose_below(condition.0, then.0, otherwise.0, chosen)?;
        let set = self.choose_below(condition.1, then.1, otherwise.1, chosen)?;
        let node = self.branch(bit, clear, set)?;
        chosen.insert(key, node);
        Ok(node)
    }

    /// Counts a step of an operation that remembers so much.
    fn step(&mut self, remembered: usize) -> Result<(), TooComplex> {
        self.steps += 1;
        if self.steps > MAX_STEPS || remembered > MAX_REMEMBERED {
            return Err(TooComplex::default());
        }
        Ok(())
    }

    /// Arguments for which the condition holds and the other diagram has such a leaf; `None` if there are none.
    pub(super) fn find_where(
        &mut self,
        condition: Node,
        node: Node,
        wanted: impl Fn(Node) -> bool,
    ) -> Result<Option<Arguments>, TooComplex> {
        let mut seen = HashSet::with_hasher(FixedState::default());
        let mut ahead = vec![(condition, node, Arguments::default())];
        while let Some((condition, node, arguments)) = ahead.pop() {
            if condition == Node::NEVER || !seen.insert((condition, node)) {
                continue;
            }
            self.step(seen.len())?;
            let Some(bit) = self.top(condition).into_iter().chain(self.top(node)).min() else {
                if wanted(node) {
                    return Ok(Some(arguments));
                }
                continue;
            };
            let (condition, node) = (self.halves(condition, bit), self.halves(node, bit));
            let mut set = arguments;
            bit.set_in(&mut set);
            ahead.push((condition.1, node.1, set));
            ahead.push((condition.0, node.0, arguments));
        }
        Ok(None)
    }

    /// The same with another leaf in place of one.
    pub(super) fn replace(&mut self, node: Node, leaf: Node, by: Node) -> Result<Node, TooComplex> {
        let mut known = HashMap::new();
        self.replace_below(node, leaf, by, &mut known)
    }

    fn replace_below(
        &mut self,
        node: Node,
        leaf: Node,
        by: Node,
        known: &mut HashMap<Node, Node>,
    ) -> Result<Node, TooComplex> {
        let Some(branch) = self.get(node) else {
            return Ok(if node == leaf { by } else { node });
        };
        if let Some(node) = known.get(&node) {
            return Ok(*node);
        }
        let clear = self.replace_below(branch.clear, leaf, by, known)?;
        let set = self.replace_below(branch.set, leaf, by, known)?;
        let replaced = self.branch(branch.bit, clear, set)?;
        known.insert(node, replaced);
        Ok(replaced)
    }

    /// Where both hold.
    pub(super) fn and(&mut self, one: Node, other: Node) -> Result<Node, TooComplex> {
        self.choose(one, other, Node::NEVER)
    }

    /// A number of bits compared with a value of as many. `bit` says which bit of an argument each is, from bit 0;
    /// `None` for one that is always clear.
    pub(super) fn compare(
        &mut self,
        width: u32,
        value: u64,
        bit: impl Fn(u32) -> Option<Bit>,
        outcome: Outcome,
    ) -> Result<Node, TooComplex> {
        let node = |holds| if holds { Node::ALWAYS } else { Node::NEVER };
        let (less, greater) = (node(outcome.less), node(outcome.greater));
        (0..width).try_fold(node(outcome.equal), |below, at| {
            match (bit(at), value >> at & 1 == 1) {
                (Some(bit), true) => self.branch(bit, less, below),
                (Some(bit), false) => self.branch(bit, below, greater),
                (None, true) => Ok(less),
                (None, false) => Ok(below),
            }
        })
    }

    /// Whether any of these bits is set.
    pub(super) fn any_set(&mut self, bits: impl Iterator<Item = Bit>) -> Result<Node, TooComplex> {
        let mut bits: Vec<Bit> = bits.collect();
        bits.sort_unstable();
        bits.into_iter()
            .rev()
            .try_fold(Node::NEVER, |below, bit| self.branch(bit, below, Node::ALWAYS))
    }

    /// Arguments to which two diagrams answer differently; `None` if they are the same.
    pub(super) fn difference(&self, one: Node, other: Node) -> Option<Arguments> {
        if one == other {
            return None;
        }
        let mut arguments = Arguments::default();
        let mut pair = (one, other);
        while let Some(bit) = self.top(pair.0).into_iter().chain(self.top(pair.1)).min() {
            let (one, other) = (self.halves(pair.0, bit), self.halves(pair.1, bit));
            // Different nodes differ on one side at least.
            pair = if one.0 == other.0 {
                bit.set_in(&mut arguments);
                (one.1, other.1)
            } else {
                (one.0, other.0)
            };
        }
        Some(arguments)
    }

    /// The leaf for these arguments.
    pub(super) fn at(&self, node: Node, arguments: &Arguments) -> Node {
        let mut node = node;
        while let Some(branch) = self.get(node) {
            node = if branch.bit.is_set_in(arguments) {
                branch.set
            } else {
                branch.clear
            };
        }
        node
    }

    /// All answers in a diagram.
    pub(super) fn answers(&self, node: Node) -> BTreeSet<Answer> {
        let mut seen = HashSet::with_hasher(FixedState::default());
        let mut answers = BTreeSet::new();
        let mut waiting = vec![node];
        while let Some(node) = waiting.pop() {
            if !seen.insert(node) {
                continue;
            }
            match self.get(node) {
                Some(branch) => waiting.extend([branch.clear, branch.set]),
                None => answers.extend(self.as_answer(node)),
            }
        }
        answers
    }

    fn get(&self, node: Node) -> Option<Branch> {
        self.branches.get(node.0 as usize).copied()
    }

    fn top(&self, node: Node) -> Option<Bit> {
        self.get(node).map(|branch| branch.bit)
    }

    /// What is left of a diagram once this bit is known. It looks at none before it.
    fn halves(&self, node: Node, bit: Bit) -> (Node, Node) {
        match self.get(node) {
            Some(branch) if branch.bit == bit => (branch.clear, branch.set),
            _ => (node, node),
        }
    }
}

/// A count of nodes: branches have a bound, and answers are as few as entries and instructions.
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(Node::LEAF - 1)
}

/// For which results a comparison holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) less: bool,
    pub(super) equal: bool,
    pub(super) greater: bool,
}

impl Outcome {
    pub(super) const EQUAL: Self = Self {
        less: false,
        equal: true,
        greater: false,
    };

    /// Where this one does not hold.
    pub(super) const fn negated(self) -> Self {
        Self {
            less: !self.less,
            equal: !self.equal,
            greater: !self.greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LESS: Outcome = Outcome {
        less: true,
        equal: false,
        greater: false,
    };

    fn word(argument: u8) -> impl Fn(u32) -> Option<Bit> {
        move |bit| Some(Bit::new(argument, bit))
    }

    #[test]
    fn equal_meanings_are_equal_nodes_however_they_were_made() {
        let diagrams = &mut Diagrams::default();
        let below_8 = diagrams.compare(64, 8, word(2), LESS).unwrap();
        let high = diagrams.any_set((3..64).map(|bit| Bit::new(2, bit))).unwrap();
        let not_high = diagrams.choose(high, Node::NEVER, Node::ALWAYS).unwrap();
        assert_eq!(below_8, not_high);

        let [one, other] = [1, 7].map(|value| diagrams.compare(64, value, word(0), Outcome::EQUAL).unwrap());
        let both = diagrams.and(one, other).unwrap();
        assert_eq!(both, Node::NEVER);
    }

    #[test]
    fn a_comparison_holds_exactly_where_its_outcome_says() {
        let values = [
            0,
            1,
            2,
            7,
            8,
            9,
            1 << 31,
            u64::from(u32::MAX),
            1 << 32,
            1 << 63,
            u64::MAX - 1,
            u64::MAX,
        ];
        for value in values {
            for bits in 0..8_u8 {
                let diagrams = &mut Diagrams::default();
                let outcome = Outcome {
                    less: bits & 1 != 0,
                    equal: bits & 2 != 0,
                    greater: bits & 4 != 0,
                };
                let node = diagrams.compare(64, value, word(5), outcome).unwrap();
                for given in values {
                    let expected = match given.cmp(&value) {
                        std::cmp::Ordering::Less => outcome.less,
                        std::cmp::Ordering::Equal => outcome.equal,
                        std::cmp::Ordering::Greater => outcome.greater,
                    };
                    let leaf = diagrams.at(node, &[9, 9, 9, 9, 9, given]);
                    assert_eq!(leaf == Node::ALWAYS, expected, "{given} against {value}");
                }
            }
        }
    }

    #[test]
    fn bits_that_are_always_clear_make_a_smaller_number() {
        let diagrams = &mut Diagrams::default();
        let low = |bit| (bit < 32).then(|| Bit::new(0, bit));
        let equal = diagrams.compare(64, 1 << 32 | 5, low, Outcome::EQUAL).unwrap();
        assert_eq!(equal, Node::NEVER);
        let less = diagrams.compare(64, 1 << 32 | 5, low, LESS).unwrap();
        assert_eq!(less, Node::ALWAYS);
    }

    #[test]
    fn a_leaf_is_found_wherever_it_is_and_only_if_it_is_there() {
        let diagrams = &mut Diagrams::default();
        let [one, other] = [(0, 38), (1, 7)].map(|(argument, value)| {
            diagrams
                .compare(64, value, word(argument), Outcome::EQUAL)
                .unwrap()
        });
        let both = diagrams.and(one, other).unwrap();
        let found = diagrams.find_where(both, Node::ALWAYS, |_| true);
        assert_eq!(found, Ok(Some([38, 7, 0, 0, 0, 0])));
        let answer = diagrams.answer(Answer::KILL_THREAD);
        let said = diagrams.choose(other, answer, Node::NEVER).unwrap();
        let found = diagrams.find_where(one, said, |leaf| leaf == answer);
        assert_eq!(found, Ok(Some([38, 7, 0, 0, 0, 0])));
        assert_eq!(
            diagrams.find_where(both, said, |leaf| leaf == Node::NEVER),
            Ok(None)
        );
        assert_eq!(diagrams.find_where(Node::NEVER, answer, |_| true), Ok(None));
    }

    #[test]
    fn a_difference_is_a_call_that_shows_it() {
        let diagrams = &mut Diagrams::default();
        let below = |diagrams: &mut Diagrams, value| diagrams.compare(64, value, word(3), LESS).unwrap();
        let (one, other) = (below(diagrams, 100), below(diagrams, 101));
        assert_eq!(diagrams.difference(one, one), None);
        assert_eq!(diagrams.difference(one, other), Some([0, 0, 0, 100, 0, 0]));
    }

    #[test]
    fn what_grows_beyond_the_bounds_is_given_up() {
        let diagrams = &mut Diagrams::default();
        // Whether argument 1 is argument 0: a branch for each value of the bits seen so far.
        let same = (0..64).try_fold(Node::ALWAYS, |all, bit| {
            let one = diagrams.any_set([Bit::new(0, bit)].into_iter())?;
            let other = diagrams.any_set([Bit::new(1, bit)].into_iter())?;
            let not_other = diagrams.choose(other, Node::NEVER, Node::ALWAYS)?;
            let same = diagrams.choose(one, other, not_other)?;
            diagrams.and(all, same)
        });
        assert_eq!(same, Err(TooComplex::default()));
    }
}
