//! What must hold of every profile's meaning, and of every program that is compared with it. See [`crate::fuzz`].

use super::condition::Width;
use super::reference::{EDGES, arguments_of, evaluate, seen};
use super::*;
use crate::filter::{ByteOrder, Operand, SeccompData, Test, compile, resolve};
use crate::profile::{Action, Condition, Errno, Operator, Rule};

/// Choices made by bytes. When there are none left, each is the first.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Where operators, halves and signs change what they say, or any number.
    fn value(&mut self) -> u64 {
        match self.byte() {
            edge if usize::from(edge) < EDGES.len() => EDGES[usize::from(edge)],
            0x80.. => u64::from_be_bytes(std::array::from_fn(|_| self.byte())),
            bit => 1 << (bit % 64),
        }
    }

    fn arguments(&mut self) -> [u64; 6] {
        std::array::from_fn(|_| self.value())
    }
}

/// What goes into libseccomp, which hangs on some sets of conditions: those kinds that it is known to end on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Any operator, on one argument of calls that no multiplexer has.
    OneArgument,
    /// Equality and masks, on two arguments.
    Equality,
    /// Anything; never compiled.
    Any,
}

const ORDINARY: [&str; 4] = ["kill", "personality", "read", "clone"];
const CALLS: [&str; 8] = [
    "kill",
    "socket",
    "personality",
    "socketcall",
    "read",
    "shmget",
    "ipc",
    "breakpoint",
];
const ANSWERS: [(Action, Option<u16>); 8] = [
    (Action::Allow, None),
    (Action::Errno, None),
    (Action::Errno, Some(0)),
    (Action::Errno, Some(38)),
    (Action::KillProcess, None),
    (Action::Log, None),
    (Action::Trap, None),
    (Action::Trace, Some(1)),
];
/// Of one byte order, so that one filter can hold them.
const ARCHITECTURES: [&[Architecture]; 8] = [
    &[],
    &[Architecture::X86],
    &[Architecture::X86_64, Architecture::X32],
    &[Architecture::Aarch64, Architecture::Arm],
    &[Architecture::Riscv64, Architecture::Mipsel, Architecture::X86],
    &[Architecture::S390X, Architecture::S390],
    &[Architecture::Mips64N32, Architecture::Mips64, Architecture::Mips],
    &[Architecture::Ppc64, Architecture::Parisc64],
];

fn a_profile(choices: &mut Choices<'_>) -> (Kind, Profile) {
    let kind = choices.of(&[Kind::OneArgument, Kind::Equality, Kind::Any]);
    let (default_action, default_errno) = choices.of(&ANSWERS);
    let architectures = choices.of(&ARCHITECTURES).to_vec();
    let argument = choices.of(&[0, 1, 2, 3, 4, 5]);
    let rules = 1 + choices.below(if kind == Kind::Any { 32 } else { 8 });
    let mut rule = || {
        let names: &[&str] = if kind == Kind::OneArgument {
            &ORDINARY
        } else {
            &CALLS
        };
        let names = (0..=choices.below(2)).map(|_| choices.of(names).to_owned());
        let names = names.collect();
        let (action, errno) = choices.of(&ANSWERS);
        let arguments: &[u8] = match kind {
            Kind::OneArgument => &[argument],
            Kind::Equality => &[0, 1],
            Kind::Any => &[0, 1, 2, 3, 4, 5],
        };
        let mut args = Vec::new();
        for &index in arguments {
            if choices.below(2) == 0 {
                args.push(a_condition(choices, kind, index));
            }
        }
        Rule {
            names,
            action,
            errno_ret: errno.and_then(Errno::new),
            args,
        }
    };
    let syscalls = (0..rules).map(|_| rule()).collect();
    let profile = Profile {
        default_action,
        default_errno_ret: default_errno.and_then(Errno::new),
        architectures,
        flags: Vec::new(),
        listener_path: None,
        listener_metadata: None,
        syscalls,
    };
    (kind, profile)
}

fn a_condition(choices: &mut Choices<'_>, kind: Kind, index: u8) -> Condition {
    let op = match kind {
        Kind::Equality => choices.of(&[Operator::Equal, Operator::MaskedEqual]),
        Kind::OneArgument | Kind::Any => choices.of(Operator::ALL),
    };
    let value = choices.value();
    let value_two = (op == Operator::MaskedEqual).then(|| choices.value());
    Condition {
        index,
        value,
        // libseccomp cuts a datum to its mask, so that what can never hold as written does.
        value_two: value_two.map(|datum| if kind == Kind::Any { datum } else { datum & value }),
        op,
    }
}

/// A profile means what its rules say one by one, unless they contradict each other; and what is found in its filter
/// is there.
pub(crate) fn meaning(bytes: &[u8]) {
    let choices = &mut Choices(bytes);
    let (kind, profile) = a_profile(choices);
    let Ok(calls) = resolve(&profile) else {
        return;
    };
    let Ok(mut meaning) = Meaning::of(&profile, &calls) else {
        assert!(kind == Kind::Any, "too complex: {profile:?}");
        return;
    };
    let is_clear = !meaning
        .findings()
        .iter()
        .any(|finding| finding.code == Code::Contradiction);
    let samples: Vec<[u64; 6]> = (0..8).map(|_| choices.arguments()).collect();
    let cases: Vec<_> = calls
        .iter()
        .flat_map(|one| {
            one.calls
                .iter()
                .map(move |(number, mentions)| (one.architecture, *number, mentions))
        })
        .collect();
    let expected = |architecture, mentions: &[Mention], arguments: &[u64; 6]| {
        evaluate(&profile, mentions, Width::of(architecture), arguments)
    };
    if is_clear {
        for (architecture, number, mentions) in &cases {
            for arguments in &samples {
                let said = meaning.answer(*architecture, *number, &seen(Width::of(*architecture), arguments));
                assert_eq!(
                    said,
                    Some(expected(*architecture, mentions, arguments)),
                    "{architecture} {number} {arguments:x?} {profile:?}"
                );
            }
        }
    }
    if kind == Kind::Any {
        return;
    }
    let Ok(filter) = compile(&profile) else {
        return;
    };
    let findings = meaning.compare(&filter.program);
    assert!(findings.is_ok(), "{findings:?} {profile:?}");
    let findings = findings.unwrap_or_default();
    if !is_clear {
        return;
    }
    for finding in &findings {
        let witness = finding.witness.as_deref().unwrap_or_default();
        let arguments = arguments_of(witness);
        let shows = cases.iter().any(|(architecture, number, mentions)| {
            run(&filter.program, audit_token(*architecture), *number, arguments)
                != expected(*architecture, mentions, &arguments)
        });
        assert!(shows, "{finding:?} {profile:?}");
    }
    if findings.is_empty() {
        for (architecture, number, mentions) in &cases {
            for arguments in &samples {
                let arguments = seen(Width::of(*architecture), arguments);
                let answer = run(&filter.program, audit_token(*architecture), *number, arguments);
                assert_eq!(
                    answer,
                    expected(*architecture, mentions, &arguments),
                    "{architecture} {number} {arguments:x?} {profile:?}"
                );
            }
        }
    }
}

fn run(program: &Program, arch: u32, nr: u32, args: [u64; 6]) -> Answer {
    Answer::from_word(program.run(&SeccompData {
        nr,
        arch,
        instruction_pointer: 0,
        args,
    }))
}

/// Any program that the kernel's checks accept ends, and its diagrams answer as its instructions do.
pub(crate) fn program(bytes: &[u8]) {
    // As a child may leave it.
    for order in [ByteOrder::Little, ByteOrder::Big] {
        if let Ok(program) = Program::decode_in(order, bytes) {
            check_program(&program, &mut Choices(bytes));
        }
    }
    // And so that most are programs.
    let choices = &mut Choices(bytes);
    let order = choices.of(&[ByteOrder::Little, ByteOrder::Big]);
    let instructions = 1 + choices.below(64);
    let mut made = Vec::new();
    for at in 0..instructions {
        made.extend(an_instruction(choices, order, instructions - at - 1));
    }
    let program = Program::decode_in(order, &made);
    assert!(program.is_ok(), "{program:?}");
    if let Ok(program) = program {
        check_program(&program, choices);
    }
}

/// One of those that libseccomp writes, before so many others; the last is a return.
fn an_instruction(choices: &mut Choices<'_>, order: ByteOrder, behind: usize) -> [u8; 8] {
    const LOAD: u16 = 0x20;
    const AND: u16 = 0x54;
    const JUMP: u16 = 0x05;
    const BRANCHES: [u16; 4] = [0x15, 0x25, 0x35, 0x45];
    const RETURN: u16 = 0x06;

    let answers = ANSWERS.map(|(action, errno)| Answer::new(action, errno.and_then(Errno::new)).word());
    let kind = if behind == 0 { 3 } else { choices.below(16) };
    let (code, yes, no, k): (u16, u8, u8, u32) = match kind {
        0 | 4..=7 => (LOAD, 0, 0, choices.of(&[0, 4, 16, 20, 24, 28, 56, 60])),
        1 => (AND, 0, 0, low(choices.value())),
        // At most 63 are behind.
        2 => (JUMP, 0, 0, u32::from(below(choices, behind))),
        3 => (RETURN, 0, 0, choices.of(&answers)),
        _ => {
            let (yes, no) = (below(choices, behind), below(choices, behind));
            (choices.of(&BRANCHES), yes, no, low(choices.value()))
        }
    };
    let (code, k) = match order {
        ByteOrder::Little => (code.to_le_bytes(), k.to_le_bytes()),
        ByteOrder::Big => (code.to_be_bytes(), k.to_be_bytes()),
    };
    let ([c0, c1], [k0, k1, k2, k3]) = (code, k);
    [c0, c1, yes, no, k0, k1, k2, k3]
}

fn below(choices: &mut Choices<'_>, end: usize) -> u8 {
    u8::try_from(choices.below(end)).unwrap_or(0)
}

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn check_program(program: &Program, choices: &mut Choices<'_>) {
    assert!(program.reachable(Architecture::X86_64) as usize <= program.len());
    for (architecture, width) in [
        (Architecture::X86_64, Width::Bits64),
        (Architecture::X86, Width::Bits32),
    ] {
        let token = audit_token(architecture);
        let constants = program.instructions().iter().filter_map(|one| match one {
            crate::filter::Instruction::Branch {
                test: Test::Equal,
                operand: Operand::Constant(with),
                ..
            } => Some(*with),
            _ => None,
        });
        let numbers: Vec<u32> = constants.chain([0, 1, 62]).take(8).collect();
        let boundaries = boundaries(program, Key::Number);
        let mut diagrams = Diagrams::default();
        let mut reader = program::Reader::new(program, token, width);
        for number in numbers {
            let node = reader.call(&mut diagrams, number);
            for _ in 0..4 {
                let arguments = seen(width, &choices.arguments());
                let answer = run(program, token, number, arguments);
                if let Ok(node) = node {
                    let said = diagrams.as_answer(diagrams.at(node, &arguments));
                    assert_eq!(said, Some(answer), "{number} {arguments:x?} {program:?}");
                }
                if let Ok(boundaries) = &boundaries {
                    let like = boundaries.range(..=number).next_back().copied().unwrap_or(0);
                    assert_eq!(
                        run(program, token, like, arguments),
                        answer,
                        "{number} {arguments:x?} {program:?}"
                    );
                }
            }
        }
    }
}
