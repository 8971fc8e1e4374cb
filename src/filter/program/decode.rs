//! From bytes to instructions, with the checks of the kernel: `bpf_check_classic` in `net/core/filter.c` and
//! `seccomp_check_filter` in `kernel/seccomp.c` of Linux.

use super::{Alu, ByteOrder, DATA_BYTES, Instruction, MEMORY_WORDS, Operand, Test, Value};

/// The most instructions that the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// The bytes of one instruction (`struct sock_filter`).
pub(super) const INSTRUCTION_BYTES: usize = 8;

/// Why bytes are no seccomp filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProgram {
    /// Not a whole number of instructions, or none.
    #[error("{0} bytes are no BPF program: expected a multiple of 8, at least 8")]
    Length(usize),
    /// More than [`MAX_INSTRUCTIONS`].
    #[error("the filter has {0} instructions, the kernel takes at most {MAX_INSTRUCTIONS}")]
    TooLarge(usize),
    /// The kernel would not take this instruction.
    #[error("instruction {at} (code {code:#06x}, k {k:#x}): {reason}")]
    Instruction {
        /// Its index.
        at: usize,
        /// Its operation.
        code: u16,
        /// Its constant.
        k: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
}

pub(super) fn instructions(bytes: &[u8], order: ByteOrder) -> Result<Vec<Instruction>, InvalidProgram> {
    match bytes.len() / INSTRUCTION_BYTES {
        count if count > MAX_INSTRUCTIONS => Err(InvalidProgram::TooLarge(count)),
        _ => of_any_size(bytes, order),
    }
}

/// Also more than the kernel takes.
pub(super) fn of_any_size(bytes: &[u8], order: ByteOrder) -> Result<Vec<Instruction>, InvalidProgram> {
    let (raw, rest) = bytes.as_chunks::<INSTRUCTION_BYTES>();
    if raw.is_empty() || !rest.is_empty() {
        return Err(InvalidProgram::Length(bytes.len()));
    }
    let raw: Vec<Raw> = raw.iter().map(|bytes| Raw::read(*bytes, order)).collect();
    let instructions = raw
        .iter()
        .enumerate()
        .map(|(at, one)| one.decode(at, raw.len()).map_err(|reason| one.refuse(at, reason)))
        .collect::<Result<Vec<_>, _>>()?;
    check_flow(&instructions).map_err(|(at, reason)| raw[at].refuse(at, reason))?;
    Ok(instructions)
}

/// The constants of the instructions that return one, as they stand there.
pub(in crate::filter) fn returns(bytes: &mut [u8], order: ByteOrder) -> impl Iterator<Item = &mut [u8; 4]> {
    let (raw, _) = bytes.as_chunks_mut::<INSTRUCTION_BYTES>();
    let returns = raw
        .iter_mut()
        .filter(move |bytes| Raw::read(**bytes, order).code == RETURN);
    returns.filter_map(|bytes| bytes.last_chunk_mut())
}

/// RET K.
const RETURN: u16 = 0x06;

/// `struct sock_filter`.
#[derive(Clone, Copy)]
struct Raw {
    code: u16,
    yes: u8,
    no: u8,
    k: u32,
}

impl Raw {
    fn read([c0, c1, yes, no, k0, k1, k2, k3]: [u8; INSTRUCTION_BYTES], order: ByteOrder) -> Self {
        let (code, k) = ([c0, c1], [k0, k1, k2, k3]);
        let (code, k) = match order {
            ByteOrder::Little => (u16::from_le_bytes(code), u32::from_le_bytes(k)),
            ByteOrder::Big => (u16::from_be_bytes(code), u32::from_be_bytes(k)),
        };
        Self { code, yes, no, k }
    }

    const fn refuse(self, at: usize, reason: &'static str) -> InvalidProgram {
        InvalidProgram::Instruction {
            at,
            code: self.code,
            k: self.k,
            reason,
        }
    }

    /// Operation codes: `include/uapi/linux/bpf_common.h` of Linux.
    fn decode(self, at: usize, len: usize) -> Result<Instruction, &'static str> {
        let memory = || {
            let slot = self.k as usize;
            if slot < MEMORY_WORDS {
                Ok(slot)
            } else {
                Err("no such word of scratch memory")
            }
        };
        let operand = if self.code & 0x08 == 0 {
            Operand::Constant(self.k)
        } else {
            Operand::X
        };
        Ok(match self.code {
            // LD W ABS; LD, LDX W LEN (the kernel puts the constant 64 there); LD, LDX IMM; LD, LDX MEM
            0x20 if self.k.is_multiple_of(4) && self.k < DATA_BYTES => Instruction::Load(Value::Data(self.k)),
            0x20 => return Err("a load from outside seccomp_data, or not at a multiple of 4"),
            0x80 => Instruction::Load(Value::Constant(DATA_BYTES)),
            0x81 => Instruction::LoadX(Value::Constant(DATA_BYTES)),
            0x00 => Instruction::Load(Value::Constant(self.k)),
            0x01 => Instruction::LoadX(Value::Constant(self.k)),
            0x60 => Instruction::Load(Value::Memory(memory()?)),
            0x61 => Instruction::LoadX(Value::Memory(memory()?)),
            // ST, STX
            0x02 => Instruction::Store(memory()?),
            0x03 => Instruction::StoreX(memory()?),
            // MISC TAX, TXA
            0x07 => Instruction::Tax,
            0x87 => Instruction::Txa,
            // ALU … K, X
            0x84 => Instruction::Negate,
            code if code & 0x07 == 0x04 => {
                let alu = match code & !0x08 {
                    0x04 => Alu::Add,
                    0x14 => Alu::Sub,
                    0x24 => Alu::Mul,
                    0x34 => Alu::Div,
                    0x44 => Alu::Or,
                    0x54 => Alu::And,
                    0x64 => Alu::Lsh,
                    0x74 => Alu::Rsh,
                    0xa4 => Alu::Xor,
                    _ => return Err("an operation that seccomp does not take"),
                };
                match (alu, operand) {
                    (Alu::Div, Operand::Constant(0)) => return Err("a division by zero"),
                    (Alu::Lsh | Alu::Rsh, Operand::Constant(32..)) => {
                        return Err("a shift by 32 bits or more");
                    }
                    _ => Instruction::Alu(alu, operand),
                }
            }
            // JMP JA; J… K, X
            0x05 => Instruction::Jump(forward(at, self.k as usize, len)?),
            code if code & 0x07 == 0x05 => {
                let test = match code & !0x08 {
                    0x15 => Test::Equal,
                    0x25 => Test::Greater,
                    0x35 => Test::GreaterOrEqual,
                    0x45 => Test::AnySet,
                    _ => return Err("an operation that seccomp does not take"),
                };
                let yes = forward(at, self.yes.into(), len)?;
                Instruction::Branch {
                    test,
                    operand,
                    yes,
                    no: forward(at, self.no.into(), len)?,
                }
            }
            // RET K, A
            RETURN => Instruction::Return(self.k),
            0x16 => Instruction::ReturnA,
            _ => return Err("an operation that seccomp does not take"),
        })
    }
}

fn forward(at: usize, by: usize, len: usize) -> Result<usize, &'static str> {
    let to = at.saturating_add(1).saturating_add(by);
    if to < len {
        Ok(to)
    } else {
        Err("a jump past the end")
    }
}

/// The program ends in a return, and no word of scratch memory is read before it is written, on any way.
fn check_flow(instructions: &[Instruction]) -> Result<(), (usize, &'static str)> {
    let mut written_on_arrival = vec![u16::MAX; instructions.len()];
    let mut written = 0_u16;
    for (at, instruction) in instructions.iter().enumerate() {
        written &= written_on_arrival[at];
        match *instruction {
            Instruction::Store(slot) | Instruction::StoreX(slot) => written |= 1 << slot,
            Instruction::Load(Value::Memory(slot)) | Instruction::LoadX(Value::Memory(slot))
                if written & (1 << slot) == 0 =>
            {
                return Err((at, "scratch memory is read before it is written"));
            }
            Instruction::Jump(to) => {
                written_on_arrival[to] &= written;
                written = u16::MAX;
            }
            Instruction::Branch { yes, no, .. } => {
                written_on_arrival[yes] &= written;
                written_on_arrival[no] &= written;
                written = u16::MAX;
            }
            _ => {}
        }
    }
    match instructions.last() {
        Some(Instruction::Return(_) | Instruction::ReturnA) => Ok(()),
        _ => Err((
            instructions.len().saturating_sub(1),
            "the last instruction is no return",
        )),
    }
}
