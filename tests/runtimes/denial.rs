//! Filters that allow everything but a few calls, and deny those in given ways.

use callgate::startability::{Argument, Call, Denials};
use serde_json::{Value, json};

/// Denies each call in the one way beside it.
pub(crate) fn profile(denied: &[(&str, Denials)]) -> String {
    let entry = |(name, denial): &(&str, Denials)| entry(name, *denial, &[]);
    allowing_but(denied.iter().map(entry))
}

/// Denies calls with these arguments alone, in one way.
pub(crate) fn profile_of_one(call: Call, denial: Denials) -> String {
    // An entry cannot hold a range: of the first argument there is an entry for each value that it may have.
    let (first, others) = call
        .arguments
        .split_first()
        .map_or((Argument::Any, &[][..]), |(first, others)| (*first, others));
    let others: Vec<Value> = (1..)
        .zip(others)
        .filter_map(|(index, argument)| condition(index, *argument))
        .collect();
    let firsts: Vec<Option<Value>> = match first {
        Argument::Descriptor => (3..64)
            .map(|descriptor| Some(compare(0, "EQ", descriptor)))
            .collect(),
        other => vec![condition(0, other)],
    };
    let entries = firsts.into_iter().map(|first| {
        let args: Vec<Value> = first.into_iter().chain(others.iter().cloned()).collect();
        entry(call.name, denial, &args)
    });
    allowing_but(entries)
}

fn condition(index: u8, argument: Argument) -> Option<Value> {
    match argument {
        Argument::Any => None,
        Argument::Is(value) => Some(compare(index, "EQ", value)),
        Argument::Standard => Some(compare(index, "LE", 2)),
        Argument::Descriptor => Some(compare(index, "GT", 2)),
        Argument::Address => Some(compare(index, "NE", 0)),
    }
}

fn compare(index: u8, op: &str, value: u64) -> Value {
    json!({ "index": index, "value": value, "op": format!("SCMP_CMP_{op}") })
}

fn entry(name: &str, denial: Denials, args: &[Value]) -> Value {
    match errno(denial) {
        Some(errno) => {
            json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": args })
        }
        None => json!({ "names": [name], "action": "SCMP_ACT_KILL_PROCESS", "args": args }),
    }
}

fn allowing_but(entries: impl Iterator<Item = Value>) -> String {
    let entries: Vec<Value> = entries.collect();
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries }).to_string()
}

/// An errno of this kind; `None` for death.
fn errno(denial: Denials) -> Option<u16> {
    const EACCES: u16 = 13;
    [0, 1, 38, EACCES]
        .into_iter()
        .find(|errno| Denials::of_errno(*errno) == denial)
}
