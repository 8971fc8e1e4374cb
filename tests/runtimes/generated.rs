//! Profiles made by chance, always the same ones: valid by their construction, so that each answer can be compared.

use bed::RuntimeName;
use callgate::profile::Architecture;
use callgate::startability::{Argument, PORTABLE_START, PORTABLE_START_PRIVILEGED, start_calls};
use serde_json::{Value, json};

use crate::ask::{Ask, ask};
use crate::cases::{Case, Expected, User, arg, denying, masked};

/// Calls that change nothing that matters, whatever their arguments, and that i386 has, too.
const CALLS: [&str; 6] = [
    "getpgid",
    "getsid",
    "getpriority",
    "umask",
    "sched_get_priority_max",
    "sched_get_priority_min",
];
const OPERATORS: [&str; 7] = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"];

/// That many profiles.
pub(crate) fn cases(count: u64) -> Vec<Case> {
    (0..count)
        .map(|number| generate(&mut Chance(number + 1), number))
        .collect()
}

/// The generator `xorshift64*` (Vigna, 2016).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        let index = self.next() % items.len() as u64;
        items[usize::try_from(index).expect("an index")]
    }
}

fn generate(chance: &mut Chance, number: u64) -> Case {
    let architectures = chance.one_of(&[
        &[Architecture::X86_64][..],
        &[Architecture::X86_64, Architecture::X86],
        &[Architecture::X86_64, Architecture::X86, Architecture::X32],
    ]);
    let denies = chance.next().is_multiple_of(2);
    let (mut entries, mut asks) = (Vec::new(), Vec::new());
    for name in CALLS {
        let conditions = chance.next() % 4;
        // Of many conditions libseccomp gets those right that are all about one argument and small values, and any
        // that stands alone. Values of more than 32 bits have a meaning for native calls only.
        let wide = conditions == 1 && architectures.len() == 1;
        for _ in 0..conditions {
            let index = if conditions == 1 { chance.next() % 2 } else { 0 };
            let value = chance.one_of(&[0, 1, 2, 8, 38, 255, 0x7fff_ffff, 0xffff_fffe])
                + if wide {
                    chance.one_of(&[0, 1 << 32, 1 << 63])
                } else {
                    0
                };
            entries.push(entry(chance, name, index, value, denies));
            for near in [value.wrapping_sub(1), value, value.wrapping_add(1)] {
                let mut args = [0; 2];
                args[usize::from(index == 1)] = near;
                asks.extend(architectures.iter().map(|&door| ask(name, &args).on(door)));
            }
        }
    }
    asks.truncate(48);
    let profile = if denies {
        let mut profile = denying("SCMP_ACT_ERRNO", &Value::Array(entries));
        profile["defaultErrnoRet"] = json!(77);
        profile
    } else {
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries })
    };
    finish(number, profile, architectures, asks)
}

fn entry(chance: &mut Chance, name: &str, index: u64, value: u64, allow: bool) -> Value {
    let index = u32::try_from(index).expect("an index");
    let condition = match chance.one_of(&OPERATORS) {
        "MASKED_EQ" => masked(index, value | 8, value),
        operator => arg(index, operator, value),
    };
    if allow {
        json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition] })
    } else {
        json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 78, "args": [condition] })
    }
}

fn finish(number: u64, mut profile: Value, architectures: &[Architecture], asks: Vec<Ask>) -> Case {
    let names: Vec<&str> = architectures
        .iter()
        .map(|architecture| architecture.as_str())
        .collect();
    profile["architectures"] = json!(names);
    Case {
        name: format!("made by chance, number {number}"),
        file: profile.to_string(),
        user: User::Restricted,
        expected: Expected::Valid {
            asks,
            refused_by: Vec::<RuntimeName>::new(),
        },
    }
}

/// That many lists with which containers start, but for one of their calls: it is denied, or allowed or denied for some
/// arguments alone.
pub(crate) fn nearly_portable(count: u64) -> Vec<(User, Value)> {
    (0..count)
        .map(|number| nearly_portable_one(&mut Chance(number + 1_000), number))
        .collect()
}

fn nearly_portable_one(chance: &mut Chance, number: u64) -> (User, Value) {
    let user = if number.is_multiple_of(2) {
        User::Restricted
    } else {
        User::Root
    };
    let more = if user == User::Root {
        PORTABLE_START_PRIVILEGED
    } else {
        &[]
    };
    let names = [PORTABLE_START, more].concat();
    let name = chance.one_of(&names);
    let others: Vec<&str> = names.into_iter().filter(|other| *other != name).collect();
    let mut entries = vec![json!({ "names": others, "action": "SCMP_ACT_ALLOW" })];
    let denied =
        json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": chance.one_of(&[0, 1, 13, 38]) });
    let args = json!([near_what_runtimes_pass(chance, name)]);
    match chance.next() % 4 {
        0 => entries.push(denied),
        1 => {
            // What it does not deny has to be allowed, for all that it may not contradict.
            let mut conditional = denied;
            conditional["args"] = args.clone();
            let mut allowed = json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": args });
            let opposite = match allowed["args"][0]["op"].as_str() {
                Some("SCMP_CMP_EQ") => "SCMP_CMP_NE",
                Some("SCMP_CMP_NE") => "SCMP_CMP_EQ",
                Some("SCMP_CMP_LT") => "SCMP_CMP_GE",
                Some("SCMP_CMP_GE") => "SCMP_CMP_LT",
                Some("SCMP_CMP_LE") => "SCMP_CMP_GT",
                _ => "SCMP_CMP_LE",
            };
            allowed["args"][0]["op"] = json!(opposite);
            entries.extend([conditional, allowed]);
        }
        _ => entries.push(json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": args })),
    }
    let mut profile = json!({
        "defaultAction": chance.one_of(&["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"]),
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": entries,
    });
    if profile["defaultAction"] == "SCMP_ACT_ERRNO" {
        profile["defaultErrnoRet"] = json!(chance.one_of(&[1, 13, 38]));
    }
    (user, profile)
}

/// A condition on an argument of which something is known, if there is one, that is true or false near that.
fn near_what_runtimes_pass(chance: &mut Chance, name: &str) -> Value {
    let known: Vec<(u32, Argument)> = start_calls()
        .filter(|call| call.name == name)
        .flat_map(|call| (0..).zip(call.arguments.iter().copied()))
        .collect();
    let (index, argument) = if known.is_empty() {
        (0, Argument::Any)
    } else {
        chance.one_of(&known)
    };
    let value = match argument {
        // libseccomp compares such values wrongly.
        Argument::Is(value) if value >> 63 == 1 => return arg(index, chance.one_of(&["EQ", "NE"]), value),
        Argument::Is(value) => chance.one_of(&[value, value + 1, value.saturating_sub(1)]),
        Argument::Standard | Argument::Descriptor => chance.one_of(&[2, 3, 5, 1 << 20]),
        Argument::Address => chance.one_of(&[0, 1 << 40, 1 << 47]),
        Argument::Any => chance.one_of(&[0, 1, 1000]),
    };
    arg(index, chance.one_of(&OPERATORS[..6]), value)
}
