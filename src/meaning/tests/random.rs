//! Filters of any conditions, made by libseccomp in a process that can be lost: over some of them it runs without end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use proptest::strategy::{BoxedStrategy, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::*;
use crate::meaning::program::Reader;

/// Of all that is made here by chance. A failure names the number of the profile, which is made of this and the number.
const SEED: u64 = 0x5ec_c0de;
const PROFILES: u64 = 1_000;
const CALLS: usize = 256;
/// Processor time that libseccomp may take for one profile, in ticks of a hundredth of a second.
const TICKS: u64 = 10;
const MEMORY: u64 = 2 << 30;
/// Says to a copy of this test with which profile to begin, and that it is one.
const FIRST: &str = "CALLGATE_TEST_FIRST_PROFILE";

/// This machine's own architecture, and some of the other byte order; on each of them one number is what a profile is about.
const LISTS: [&[Architecture]; 4] = [
    &[],
    &[Architecture::S390X],
    &[Architecture::Ppc64],
    &[Architecture::Mips64],
];

/// What is made by chance, the same for the same number.
fn runner(number: u64) -> TestRunner {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&SEED.to_le_bytes());
    seed[8..16].copy_from_slice(&number.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    TestRunner::new_with_rng(Config::default(), random)
}

fn profile_of(runner: &mut TestRunner, number: u64) -> Profile {
    let list = LISTS[usize::try_from(number).unwrap() % LISTS.len()];
    let profile = a_profile(8, 3, Operator::ALL, list).prop_map(within_masks);
    profile.new_tree(runner).unwrap().current()
}

/// Arguments at the borders of the conditions, and others.
fn calls_of(runner: &mut TestRunner, profile: &Profile) -> Vec<[u64; 6]> {
    let conditions = profile.syscalls.iter().flat_map(|rule| &rule.args);
    let values = conditions.flat_map(|one| [one.value, one.value_two.unwrap_or(0)]);
    let borders = values.flat_map(|value| [value.wrapping_sub(1), value, value.wrapping_add(1)]);
    let borders: Vec<u64> = borders.chain(EDGES).collect();
    let value: BoxedStrategy<u64> =
        prop_oneof![4 => prop::sample::select(borders), 1 => any::<u64>()].boxed();
    let calls = prop::collection::vec([value.clone(), value.clone(), value], CALLS);
    let calls = calls.new_tree(runner).unwrap().current();
    calls.iter().map(|&[a, b, c]| [a, b, c, 0, 0, 0]).collect()
}

/// Of the copy: compiles one profile after the other, and says what came of each.
fn compile_from(first: u64) {
    let most = Rlimit {
        current: Some(MEMORY),
        maximum: Some(MEMORY),
    };
    setrlimit(Resource::As, most).unwrap();
    for number in first..PROFILES {
        let mut line = format!("profile {number}:");
        match compile(&profile_of(&mut runner(number), number)) {
            Ok(filter) => {
                for byte in filter.program.as_bytes() {
                    write!(line, "{byte:02x}").unwrap();
                }
            }
            Err(error) => write!(line, "refused, {error}").unwrap(),
        }
        println!("{line}");
        std::io::stdout().flush().unwrap();
    }
}

/// A copy of this test that compiles.
struct Compiler {
    child: Child,
    lines: Receiver<String>,
}

impl Compiler {
    fn start(first: u64) -> Self {
        let test = concat!(
            module_path!(),
            "::",
            "a_filter_of_any_conditions_is_what_its_diagram_says"
        );
        let (_, test) = test.split_once("::").unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (say, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The test harness has words of its own.
                if let Some((_, said)) = line.split_once("profile ")
                    && say.send(said.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The processor time that it has had, in ticks: `proc_pid_stat(5)`, fields 14 and 15.
    fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let times = fields.split(' ').skip(11).take(2);
        times.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// What came of the next profile; `None` if it took too much, and this process with it.
    fn next(&mut self) -> Option<String> {
        let before = self.ticks();
        loop {
            match self.lines.recv_timeout(Duration::from_millis(20)) {
                Ok(line) => return Some(line),
                Err(RecvTimeoutError::Timeout) if self.ticks() <= before + TICKS => {}
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The programs of all profiles, by number; those that libseccomp makes none of are missing.
fn programs() -> BTreeMap<u64, Vec<u8>> {
    let mut programs = BTreeMap::new();
    let mut compiler = Compiler::start(0);
    for number in 0..PROFILES {
        let Some(said) = compiler.next() else {
            compiler = Compiler::start(number + 1);
            continue;
        };
        let (of, program) = said.split_once(':').unwrap();
        assert_eq!(of, number.to_string());
        assert!(!program.starts_with("refused"), "profile {number}: {program}");
        let digits = program.as_bytes().chunks(2);
        let bytes = digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap());
        programs.insert(number, bytes.collect());
    }
    programs
}

#[test]
fn a_filter_of_any_conditions_is_what_its_diagram_says() {
    if let Ok(first) = std::env::var(FIRST) {
        return compile_from(first.parse().unwrap());
    }
    let programs = programs();
    let (mut asked, mut miscompiled, mut too_complex) = (0, 0, 0);
    for (&number, bytes) in &programs {
        let mut runner = runner(number);
        let profile = profile_of(&mut runner, number);
        let calls = resolve(&profile).unwrap();
        let architecture = calls[0].architecture;
        let kill = *calls[0].calls.keys().next().unwrap();
        let program = Program::decode_in(ByteOrder::of(architecture), bytes).unwrap();
        let answer = |arguments| run(&program, architecture, kill, arguments);

        let mut diagrams = Diagrams::default();
        let mut reader = Reader::new(&program, audit_token(architecture), Width::of(architecture));
        let filter = reader.call(&mut diagrams, kill);
        let meaning = Meaning::of(&profile, &calls);
        let (Ok(filter), Ok(mut meaning)) = (filter, meaning) else {
            too_complex += 1;
            continue;
        };
        let findings = meaning.compare(&program).unwrap();
        let seen = format!("profile {number} of seed {SEED:#x}");
        if let Some(finding) = findings.first() {
            miscompiled += 1;
            let shown = arguments_of(finding.witness.as_deref().unwrap());
            assert_ne!(answer(shown), evaluate(&profile, &shown), "{seen}: {finding:?}");
        }
        for arguments in calls_of(&mut runner, &profile) {
            let said = diagrams.as_answer(diagrams.at(filter, &arguments));
            assert_eq!(said, Some(answer(arguments)), "{seen}: {arguments:x?}");
            let meant = evaluate(&profile, &arguments);
            assert_eq!(
                meaning.answer(architecture, kill, &arguments),
                Some(meant),
                "{seen}"
            );
            if findings.is_empty() {
                assert_eq!(answer(arguments), meant, "{seen}: {arguments:x?}");
            }
            asked += 1;
        }
    }
    let numbers = format!(
        "of {PROFILES} profiles {} were compiled, {too_complex} too complex, {miscompiled} compiled wrong; {asked} calls",
        programs.len()
    );
    // Measured with libseccomp 2.5.4: 993, 0 and 238.
    assert!(programs.len() >= 950 && too_complex <= 10, "{numbers}");
    assert!((100..500).contains(&miscompiled), "{numbers}");
    assert!(asked >= 100_000, "{numbers}");
}
