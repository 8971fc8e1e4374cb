use proptest::prelude::*;

use super::decode::INSTRUCTION_BYTES;
use super::*;

fn raw(code: u16, yes: u8, no: u8, k: u32) -> [u8; INSTRUCTION_BYTES] {
    let [c0, c1] = code.to_ne_bytes();
    let [k0, k1, k2, k3] = k.to_ne_bytes();
    [c0, c1, yes, no, k0, k1, k2, k3]
}

fn program(instructions: &[(u16, u8, u8, u32)]) -> Result<Program, InvalidProgram> {
    let bytes: Vec<u8> = instructions
        .iter()
        .flat_map(|&(code, yes, no, k)| raw(code, yes, no, k))
        .collect();
    Program::decode(&bytes)
}

fn run(instructions: &[(u16, u8, u8, u32)], data: &SeccompData) -> u32 {
    program(instructions).unwrap().run(data)
}

const RETURN_A: (u16, u8, u8, u32) = (0x16, 0, 0, 0);

fn reason(instructions: &[(u16, u8, u8, u32)]) -> &'static str {
    match program(instructions).unwrap_err() {
        InvalidProgram::Instruction { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn bytes_that_are_no_instructions_are_refused() {
    assert_eq!(Program::decode(&[]), Err(InvalidProgram::Length(0)));
    assert_eq!(Program::decode(&[0; 12]), Err(InvalidProgram::Length(12)));
}

#[test]
fn as_many_instructions_as_the_kernel_takes_are_taken_and_no_more() {
    let bytes = |count| raw(0x06, 0, 0, 0).repeat(count);
    assert_eq!(Program::decode(&bytes(4096)).unwrap().len(), 4096);
    assert_eq!(Program::decode(&bytes(4097)), Err(InvalidProgram::TooLarge(4097)));
}

#[test]
fn what_the_kernel_refuses_is_refused() {
    assert_eq!(
        reason(&[(0x06, 0, 0, 0), (0x00, 0, 0, 0)]),
        "the last instruction is no return"
    );
    assert_eq!(reason(&[(0x05, 0, 0, 1), RETURN_A]), "a jump past the end");
    assert_eq!(reason(&[(0x05, 0, 0, u32::MAX), RETURN_A]), "a jump past the end");
    assert_eq!(reason(&[(0x15, 0, 1, 0), RETURN_A]), "a jump past the end");
    assert_eq!(reason(&[(0x34, 0, 0, 0), RETURN_A]), "a division by zero");
    assert_eq!(
        reason(&[(0x64, 0, 0, 32), RETURN_A]),
        "a shift by 32 bits or more"
    );
    assert_eq!(
        reason(&[(0x60, 0, 0, 16), RETURN_A]),
        "no such word of scratch memory"
    );
    for offset in [2, 64, 68] {
        assert!(reason(&[(0x20, 0, 0, offset), RETURN_A]).starts_with("a load from outside"));
    }
    // Packet loads, modulo, an unknown class bit.
    for code in [0x28, 0x30, 0x94, 0x55, 0x26, 0x0107] {
        assert!(
            reason(&[(code, 0, 0, 4), RETURN_A]).starts_with("an operation"),
            "{code:#x}"
        );
    }
}

#[test]
fn scratch_memory_is_written_before_it_is_read_on_every_way() {
    assert_eq!(
        reason(&[(0x60, 0, 0, 3), RETURN_A]),
        "scratch memory is read before it is written"
    );
    // One branch writes, the other does not.
    let one_way = [(0x15, 0, 1, 0), (0x02, 0, 0, 3), (0x60, 0, 0, 3), RETURN_A];
    assert_eq!(reason(&one_way), "scratch memory is read before it is written");
    assert!(program(&[(0x02, 0, 0, 3), (0x60, 0, 0, 3), RETURN_A]).is_ok());
}

#[test]
fn every_word_of_a_call_can_be_loaded() {
    let data = SeccompData {
        nr: 1,
        arch: 2,
        instruction_pointer: 0x0000_0004_0000_0003,
        args: [
            0x15_0000_0005,
            0x16_0000_0006,
            0x17_0000_0007,
            0x18_0000_0008,
            0x19_0000_0009,
            0x1a_0000_000a,
        ],
    };
    let little = vec![1, 2, 3, 4, 5, 0x15, 6, 0x16, 7, 0x17, 8, 0x18, 9, 0x19, 10, 0x1a];
    let mut big = little.clone();
    big[2..].chunks_mut(2).for_each(<[u32]>::reverse);
    for (order, expected) in [(ByteOrder::Little, little), (ByteOrder::Big, big)] {
        let words = (0..16_u8).map(|word| {
            // The code and the constant of LD W ABS and of RET A.
            let mut load = [0x20, 0, 0, 0, word * 4, 0, 0, 0];
            let mut answer = [0x16, 0, 0, 0, 0, 0, 0, 0];
            if order == ByteOrder::Big {
                for one in [&mut load, &mut answer] {
                    one[..2].reverse();
                    one[4..].reverse();
                }
            }
            let program = Program::decode_in(order, &[load, answer].concat()).unwrap();
            assert_eq!(program.byte_order(), order);
            program.run(&data)
        });
        assert_eq!(words.collect::<Vec<_>>(), expected, "{order:?}");
    }
}

#[test]
fn arithmetic_is_that_of_the_kernel() {
    // A = 7, then by 3: from the instruction, and from X.
    let table = [
        (0x04, 10),
        (0x14, 4),
        (0x24, 21),
        (0x34, 2),
        (0x44, 7),
        (0x54, 3),
        (0x64, 56),
        (0x74, 0),
        (0xa4, 4),
    ];
    for (code, expected) in table {
        let constant = [(0x00, 0, 0, 7), (code, 0, 0, 3), RETURN_A];
        let index = [(0x00, 0, 0, 7), (0x01, 0, 0, 3), (code | 0x08, 0, 0, 0), RETURN_A];
        assert_eq!(run(&constant, &SeccompData::default()), expected, "{code:#x}");
        assert_eq!(run(&index, &SeccompData::default()), expected, "{code:#x}");
    }
    assert_eq!(
        run(
            &[(0x00, 0, 0, 1), (0x84, 0, 0, 0), RETURN_A],
            &SeccompData::default()
        ),
        u32::MAX
    );
}

#[test]
fn a_division_by_an_index_register_of_zero_answers_zero() {
    let program = [(0x00, 0, 0, 7), (0x3c, 0, 0, 0), (0x06, 0, 0, 9)];
    assert_eq!(run(&program, &SeccompData::default()), 0);
}

#[test]
fn comparisons_are_unsigned_and_go_both_ways() {
    let branch = |code: u16, a: u32, k: u32| {
        let program = [(0x00, 0, 0, a), (code, 0, 1, k), (0x06, 0, 0, 1), (0x06, 0, 0, 0)];
        run(&program, &SeccompData::default()) == 1
    };
    for (a, k) in [
        (0, 0),
        (1, 0),
        (0, 1),
        (u32::MAX, 1),
        (1, u32::MAX),
        (6, 3),
        (4, 3),
    ] {
        assert_eq!(branch(0x15, a, k), a == k);
        assert_eq!(branch(0x25, a, k), a > k);
        assert_eq!(branch(0x35, a, k), a >= k);
        assert_eq!(branch(0x45, a, k), a & k != 0);
    }
}

#[test]
fn registers_memory_and_the_length_can_be_moved() {
    let through_memory = [
        (0x00, 0, 0, 5),
        (0x02, 0, 0, 15),
        (0x61, 0, 0, 15),
        (0x03, 0, 0, 0),
        (0x00, 0, 0, 0),
        (0x60, 0, 0, 0),
        (0x07, 0, 0, 0),
        (0x00, 0, 0, 1),
        (0x0c, 0, 0, 0),
        RETURN_A,
    ];
    assert_eq!(run(&through_memory, &SeccompData::default()), 6);
    assert_eq!(run(&[(0x80, 0, 0, 0), RETURN_A], &SeccompData::default()), 64);
    assert_eq!(
        run(
            &[(0x81, 0, 0, 0), (0x87, 0, 0, 0), RETURN_A],
            &SeccompData::default()
        ),
        64
    );
}

proptest! {
    /// Small numbers make programs that are sometimes valid.
    #[test]
    fn whatever_is_decoded_ends_with_an_answer(
        instructions in prop::collection::vec((0_u16..0xb8, 0_u8..4, 0_u8..4, 0_u32..40), 1..40),
        nr: u32,
        args: [u64; 6],
    ) {
        let mut instructions = instructions;
        instructions.push(RETURN_A);
        if let Ok(program) = program(&instructions) {
            let data = SeccompData { nr, arch: audit_token(Architecture::X86_64), args, ..SeccompData::default() };
            _ = program.run(&data);
            prop_assert!(program.reachable(Architecture::X86_64) as usize <= program.len());
        }
    }

    #[test]
    fn any_bytes_are_a_program_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(program) = Program::decode(&bytes) {
            prop_assert_eq!(program.as_bytes(), &bytes[..]);
            _ = program.run(&SeccompData::default());
        }
    }
}
