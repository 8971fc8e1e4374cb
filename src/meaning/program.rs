//! What a compiled filter answers, as diagrams: its instructions followed for every call at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::condition::Width;
use super::diagram::{Bit, Diagrams, Node, Outcome, TooComplex};
use crate::filter::{Alu, Answer, Instruction, Operand, Program, Test, Value};
use crate::profile::{Code, FieldPath, Finding};

/// Why a program cannot be read as diagrams.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The profile's doing.
    #[error(transparent)]
    TooComplex(#[from] TooComplex),
    /// The place of an instruction that libseccomp is not known to write. So it will be the next time.
    #[error(
        "nobody can say what the compiled filter does: its instruction {0} is one that libseccomp is not known to \
         write. Prove it with the libseccomp of a release of Callgate, or with a newer Callgate"
    )]
    Instruction(usize),
}

impl Unreadable {
    /// What to tell the author. What cannot be proven is not installed, whoever is to blame.
    #[must_use]
    pub fn finding(&self) -> Finding {
        match self {
            Self::TooComplex(error) => error.finding(),
            Self::Instruction(_) => Finding::new(Code::Miscompiled, FieldPath::root(), self.to_string()),
        }
    }
}

/// What is known of the accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Accumulator {
    Constant(u32),
    /// Half of an argument, and which of its bits are left.
    Half {
        argument: u8,
        upper: bool,
        mask: u32,
    },
}

impl Accumulator {
    const fn masked(self, with: u32) -> Self {
        match self {
            Self::Constant(constant) => Self::Constant(constant & with),
            Self::Half {
                argument,
                upper,
                mask,
            } => Self::Half {
                argument,
                upper,
                mask: mask & with,
            },
        }
    }
}

/// Where a call is: the next instruction, and what the accumulator holds.
type Place = (usize, Accumulator);

/// What one instruction does to a call.
enum Step {
    /// On to there.
    Go(Place),
    /// To one place where a condition on an argument holds, to another elsewhere.
    Fork { yes: Place, no: Place, holds: Node },
    /// Answered.
    Answer(Answer),
}

/// The calls of one architecture, as a program answers them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    program: &'a Program,
    token: u32,
    width: Width,
    /// Whether what is at or behind this instruction loads the number of the call.
    asks_number: Vec<bool>,
    /// What was found from places that do not ask the number.
    found: HashMap<Place, Node>,
}

impl<'a> Reader<'a> {
    /// `token` is the architecture's `AUDIT_ARCH_*` word.
    pub(super) fn new(program: &'a Program, token: u32, width: Width) -> Self {
        Self {
            program,
            token,
            width,
            asks_number: asks_number(program),
            found: HashMap::new(),
        }
    }

    /// The diagram of the call with this number.
    pub(super) fn call(&mut self, diagrams: &mut Diagrams, number: u32) -> Result<Node, Unreadable> {
        // Most of the way depends on the number alone.
        let mut place = (0, Accumulator::Constant(0));
        loop {
            match self.step(diagrams, number, place)? {
                Step::Go(next) => place = next,
                Step::Answer(answer) => return Ok(diagrams.answer(answer)),
                Step::Fork { .. } => break,
            }
        }
        if let Some(node) = self.found.get(&place) {
            return Ok(*node);
        }
        let node = self.spread(diagrams, number, place)?;
        if !self.asks_number[place.0] {
            self.found.insert(place, node);
        }
        Ok(node)
    }

    /// Follows all calls at once from here: for each place, in the order of the program, which of them come there.
    /// Jumps lead forward only, so all have arrived at a place when its turn comes.
    fn spread(&self, diagrams: &mut Diagrams, number: u32, start: Place) -> Result<Node, Unreadable> {
        let mut answers = Node::NEVER;
        let mut arrived = BTreeMap::from([(start, Node::ALWAYS)]);
        while let Some((place, calls)) = arrived.pop_first() {
            let mut arrive = |diagrams: &mut Diagrams, place, calls| -> Result<(), TooComplex> {
                if calls != Node::NEVER {
                    let there = arrived.entry(place).or_insert(Node::NEVER);
                    *there = diagrams.choose(calls, Node::ALWAYS, *there)?;
                }
                Ok(())
            };
            match self.step(diagrams, number, place)? {
                Step::Go(next) => arrive(diagrams, next, calls)?,
                Step::Fork { yes, no, holds } => {
                    let taken = diagrams.and(calls, holds)?;
                    let left = diagrams.choose(holds, Node::NEVER, calls)?;
                    arrive(diagrams, yes, taken)?;
                    arrive(diagrams, no, left)?;
                }
                Step::Answer(answer) => {
                    let answer = diagrams.answer(answer);
                    answers = diagrams.choose(calls, answer, answers)?;
                }
            }
        }
        Ok(answers)
    }

    fn step(&self, diagrams: &mut Diagrams, number: u32, (at, value): Place) -> Result<Step, Unreadable> {
        Ok(match self.program.instructions()[at] {
            Instruction::Load(from) => {
                let value = self.load(number, from).ok_or(Unreadable::Instruction(at))?;
                Step::Go((at + 1, value))
            }
            Instruction::Alu(Alu::And, Operand::Constant(with)) => Step::Go((at + 1, value.masked(with))),
            Instruction::Jump(to) => Step::Go((to, value)),
            Instruction::Return(word) => Step::Answer(Answer::from_word(word)),
            Instruction::Branch {
                test,
                operand: Operand::Constant(with),
                yes,
                no,
            } => match value {
                Accumulator::Constant(constant) if test.holds(constant, with) => Step::Go((yes, value)),
                Accumulator::Constant(_) => Step::Go((no, value)),
                Accumulator::Half {
                    argument,
                    upper,
                    mask,
                } => Step::Fork {
                    yes: (yes, value),
                    no: (no, value),
                    holds: half(diagrams, test, with, |bit| {
                        (mask >> bit & 1 == 1).then(|| Bit::new(argument, if upper { bit + 32 } else { bit }))
                    })?,
                },
            },
            _ => return Err(Unreadable::Instruction(at)),
        })
    }

    fn load(&self, number: u32, from: Value) -> Option<Accumulator> {
        let offset = match from {
            Value::Constant(constant) => return Some(Accumulator::Constant(constant)),
            Value::Data(0) => return Some(Accumulator::Constant(number)),
            Value::Data(4) => return Some(Accumulator::Constant(self.token)),
            // Behind number, architecture and instruction pointer: the arguments.
            Value::Data(offset @ 16..) => offset - 16,
            Value::Data(_) | Value::Memory(_) => return None,
        };
        let upper = self.program.byte_order().has_upper_half_at(offset);
        Some(match (upper, self.width) {
            (true, Width::Bits32) => Accumulator::Constant(0),
            _ => Accumulator::Half {
                argument: u8::try_from(offset / 8).ok()?,
                upper,
                mask: u32::MAX,
            },
        })
    }
}

/// Where a test of half an argument holds. `bit` says which bit of which argument each is, `None` for one that is
/// masked out.
fn half(
    diagrams: &mut Diagrams,
    test: Test,
    with: u32,
    bit: impl Fn(u32) -> Option<Bit>,
) -> Result<Node, TooComplex> {
    let outcome = match test {
        Test::Equal => Outcome::EQUAL,
        Test::Greater => Outcome {
            less: false,
            equal: false,
            greater: true,
        },
        Test::GreaterOrEqual => Outcome {
            less: false,
            equal: true,
            greater: true,
        },
        Test::AnySet => {
            let tested = (0..32).filter(|at| with >> at & 1 == 1);
            return diagrams.any_set(tested.filter_map(bit));
        }
    };
    diagrams.compare(32, with.into(), bit, outcome)
}

/// For each instruction whether it, or one that can come after it, loads the number of the call.
fn asks_number(program: &Program) -> Vec<bool> {
    let instructions = program.instructions();
    let mut asks = vec![false; instructions.len()];
    for (at, instruction) in instructions.iter().enumerate().rev() {
        asks[at] = match *instruction {
            Instruction::Load(Value::Data(0)) => true,
            Instruction::Return(_) | Instruction::ReturnA => false,
            Instruction::Jump(to) => asks[to],
            Instruction::Branch { yes, no, .. } => asks[yes] || asks[no],
            _ => asks[at + 1],
        };
    }
    asks
}

/// Which word of a call a filter chooses its instructions by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// The number of the call.
    Number,
    /// The `AUDIT_ARCH_*` word.
    Architecture,
}

impl Key {
    /// In `struct seccomp_data`.
    const fn offset(self) -> u32 {
        match self {
            Self::Number => 0,
            Self::Architecture => 4,
        }
    }
}

/// Values of a key that the program may tell from their neighbours: from one to the next it answers alike. Holds
/// for programs that do nothing with the key but compare it; `Err` for others.
pub(super) fn boundaries(program: &Program, key: Key) -> Result<BTreeSet<u32>, Unreadable> {
    let instructions = program.instructions();
    // Whether the accumulator may hold the key there.
    let mut holds = vec![false; instructions.len()];
    let mut boundaries = BTreeSet::from([0]);
    for (at, instruction) in instructions.iter().enumerate() {
        match *instruction {
            Instruction::Load(Value::Data(offset)) if offset == key.offset() => holds[at + 1] = true,
            Instruction::Load(_) | Instruction::Return(_) => {}
            Instruction::Jump(to) => holds[to] |= holds[at],
            Instruction::Branch {
                test,
                operand,
                yes,
                no,
            } => {
                holds[yes] |= holds[at];
                holds[no] |= holds[at];
                if holds[at] {
                    let (Operand::Constant(with), Test::Equal | Test::Greater | Test::GreaterOrEqual) =
                        (operand, test)
                    else {
                        return Err(Unreadable::Instruction(at));
                    };
                    boundaries.insert(with);
                    boundaries.extend(with.checked_add(1));
                }
            }
            _ if holds[at] => return Err(Unreadable::Instruction(at)),
            _ => {}
        }
    }
    Ok(boundaries)
}
