//! A seccomp filter program: classic BPF as the kernel takes it from seccomp(2).

mod decode;

use std::fmt;

pub(super) use decode::returns;
pub use decode::{InvalidProgram, MAX_INSTRUCTIONS};

use super::arch::{ByteOrder, X32_BIT, audit_token};
use crate::profile::Architecture;

/// Scratch memory, in words (`BPF_MEMWORDS`).
const MEMORY_WORDS: usize = 16;
/// The bytes of [`SeccompData`] as the kernel lays it out (`struct seccomp_data`).
const DATA_BYTES: u32 = 64;

/// What a filter is asked about: one system call (`struct seccomp_data`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeccompData {
    /// The number of the call.
    pub nr: u32,
    /// The `AUDIT_ARCH_*` word.
    pub arch: u32,
    /// Where the call was made.
    pub instruction_pointer: u64,
    /// The arguments.
    pub args: [u64; 6],
}

impl SeccompData {
    /// The 32-bit word at this offset, on a machine of this byte order.
    fn word(&self, offset: u32, order: ByteOrder) -> u32 {
        let half = |value: u64| {
            if order.has_upper_half_at(offset) {
                (value >> 32) as u32
            } else {
                (value & 0xffff_ffff) as u32
            }
        };
        match offset {
            0 => self.nr,
            4 => self.arch,
            8 | 12 => half(self.instruction_pointer),
            _ => half(self.args[(offset as usize - 16) / 8]),
        }
    }
}

/// What an operation takes beside the accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// A number in the instruction.
    Constant(u32),
    /// The index register.
    X,
}

/// What is loaded into a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// The word of [`SeccompData`] at this offset: a multiple of 4 below 64. Into the accumulator only.
    Data(u32),
    /// A number.
    Constant(u32),
    /// A word of scratch memory, below 16.
    Memory(usize),
}

/// An operation on the accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alu {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `&`
    And,
    /// `|`
    Or,
    /// `^`
    Xor,
    /// `<<`
    Lsh,
    /// `>>`
    Rsh,
}

/// A comparison of the accumulator, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// `==`
    Equal,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `& … != 0`
    AnySet,
}

/// One instruction. Targets are indices into the program, always behind the instruction and within the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instruction {
    /// Into the accumulator.
    Load(Value),
    /// Into the index register.
    LoadX(Value),
    /// The accumulator into a word of scratch memory.
    Store(usize),
    /// The index register into a word of scratch memory.
    StoreX(usize),
    /// Arithmetic.
    Alu(Alu, Operand),
    /// Two's complement of the accumulator.
    Negate,
    /// Accumulator to index register.
    Tax,
    /// Index register to accumulator.
    Txa,
    /// Always.
    Jump(usize),
    /// By a comparison.
    Branch {
        /// Which.
        test: Test,
        /// With what.
        operand: Operand,
        /// Where it holds.
        yes: usize,
        /// Where it does not.
        no: usize,
    },
    /// A constant is the answer.
    Return(u32),
    /// The accumulator is the answer.
    ReturnA,
}

/// A program that the kernel's checks accept, so that it always ends and always answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    bytes: Vec<u8>,
    order: ByteOrder,
    instructions: Vec<Instruction>,
}

impl Program {
    /// Reads an array of `struct sock_filter` as this machine's kernel does.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidProgram> {
        Self::decode_in(ByteOrder::HERE, bytes)
    }

    /// Reads an array of `struct sock_filter` in the byte order of the machines that it is for, as
    /// `seccomp_export_bpf(3)` writes it.
    pub fn decode_in(order: ByteOrder, bytes: &[u8]) -> Result<Self, InvalidProgram> {
        Ok(Self {
            instructions: decode::instructions(bytes, order)?,
            order,
            bytes: bytes.to_vec(),
        })
    }

    /// What [`Self::reachable`] is for these, also of a program that is too large for the kernel. Empty for what is none.
    pub(super) fn measure(
        order: ByteOrder,
        bytes: &[u8],
        architectures: &[Architecture],
    ) -> Vec<(Architecture, u32)> {
        let Ok(instructions) = decode::of_any_size(bytes, order) else {
            return Vec::new();
        };
        let program = Self {
            instructions,
            order,
            bytes: Vec::new(),
        };
        architectures
            .iter()
            .map(|architecture| (*architecture, program.reachable(*architecture)))
            .collect()
    }

    /// The bytes it was read from.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// That of the machines that it is for.
    #[must_use]
    pub const fn byte_order(&self) -> ByteOrder {
        self.order
    }

    /// Its instructions.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// How many instructions it has: 1 to [`MAX_INSTRUCTIONS`].
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a program is never empty")]
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// What the filter answers: a `SECCOMP_RET_*` action and its datum.
    #[must_use]
    pub fn run(&self, data: &SeccompData) -> u32 {
        let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; MEMORY_WORDS]);
        let mut at = 0;
        loop {
            let value = |value, memory: &[u32; MEMORY_WORDS]| match value {
                Value::Data(offset) => data.word(offset, self.order),
                Value::Constant(k) => k,
                Value::Memory(slot) => memory[slot],
            };
            let operand = |operand| match operand {
                Operand::Constant(k) => k,
                Operand::X => x,
            };
            let mut next = at + 1;
            match self.instructions[at] {
                Instruction::Load(from) => a = value(from, &memory),
                Instruction::LoadX(from) => x = value(from, &memory),
                Instruction::Store(slot) => memory[slot] = a,
                Instruction::StoreX(slot) => memory[slot] = x,
                Instruction::Alu(alu, by) => match alu.apply(a, operand(by)) {
                    Some(result) => a = result,
                    // A division by an index register of zero ends the program with 0.
                    None => return 0,
                },
                Instruction::Negate => a = a.wrapping_neg(),
                Instruction::Tax => x = a,
                Instruction::Txa => a = x,
                Instruction::Jump(to) => next = to,
                Instruction::Branch {
                    test,
                    operand: with,
                    yes,
                    no,
                } => {
                    next = if test.holds(a, operand(with)) { yes } else { no };
                }
                Instruction::Return(answer) => return answer,
                Instruction::ReturnA => return a,
            }
            at = next;
        }
    }

    /// How many instructions a call of this architecture can meet, whatever its number and arguments.
    #[must_use]
    pub fn reachable(&self, architecture: Architecture) -> u32 {
        let token = audit_token(architecture);
        let numbers = match architecture {
            Architecture::X32 => (X32_BIT, u32::MAX),
            _ => (0, X32_BIT - 1),
        };
        let mut seen = vec![[false; Known::COUNT]; self.len()];
        let mut ahead = vec![(0, Known::Nothing)];
        while let Some((at, known)) = ahead.pop() {
            if std::mem::replace(&mut seen[at][known as usize], true) {
                continue;
            }
            match self.instructions[at] {
                Instruction::Return(_) | Instruction::ReturnA => {}
                Instruction::Jump(to) => ahead.push((to, known)),
                Instruction::Branch {
                    test,
                    operand,
                    yes,
                    no,
                } => {
                    let range = match known {
                        Known::Nothing => (0, u32::MAX),
                        Known::Architecture => (token, token),
                        Known::Number => numbers,
                    };
                    let (can, can_fail) = test.possible(range, operand);
                    ahead.extend(can.then_some((yes, known)));
                    ahead.extend(can_fail.then_some((no, known)));
                }
                instruction => ahead.push((
                    at + 1,
                    match instruction {
                        Instruction::Load(Value::Data(0)) => Known::Number,
                        Instruction::Load(Value::Data(4)) => Known::Architecture,
                        Instruction::Load(_)
                        | Instruction::Alu(..)
                        | Instruction::Negate
                        | Instruction::Txa => Known::Nothing,
                        _ => known,
                    },
                )),
            }
        }
        seen.iter().map(|states| u32::from(states.contains(&true))).sum()
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.instructions).finish()
    }
}

/// What the accumulator is known to hold.
#[derive(Clone, Copy)]
enum Known {
    Nothing,
    Architecture,
    Number,
}

impl Known {
    const COUNT: usize = 3;
}

impl Alu {
    /// `None` for a division by zero. Shifts count modulo 32, as eBPF's do, into which the kernel translates.
    const fn apply(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Mul => a.wrapping_mul(b),
            Self::Div => return a.checked_div(b),
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
            Self::Lsh => a.wrapping_shl(b),
            Self::Rsh => a.wrapping_shr(b),
        })
    }
}

impl Test {
    pub(crate) const fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
            Self::AnySet => a & b != 0,
        }
    }

    /// Whether it can hold, and whether it can fail, for a value in this inclusive range.
    const fn possible(self, (low, high): (u32, u32), operand: Operand) -> (bool, bool) {
        let Operand::Constant(k) = operand else {
            return (true, true);
        };
        match self {
            Self::Equal => (low <= k && k <= high, low != high || low != k),
            Self::Greater => (high > k, low <= k),
            Self::GreaterOrEqual => (high >= k, low < k),
            Self::AnySet => (true, true),
        }
    }
}

#[cfg(test)]
mod tests;
