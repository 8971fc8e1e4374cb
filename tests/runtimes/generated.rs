//! Profiles made by chance, always the same ones: valid by their construction, so that each answer can be compared.

use bed::RuntimeName;
use callgate::profile::Architecture;
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
