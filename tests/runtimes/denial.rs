//! Filters that allow everything but a few calls, and deny those in given ways.

use callgate::startability::Denials;
use serde_json::{Value, json};

/// Denies each call in the one way beside it.
pub(crate) fn profile(denied: &[(&str, Denials)]) -> String {
    let entry = |(name, denial): &(&str, Denials)| -> Value {
        match errno(*denial) {
            Some(errno) => json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }),
            None => json!({ "names": [name], "action": "SCMP_ACT_KILL_PROCESS" }),
        }
    };
    let entries: Vec<Value> = denied.iter().map(entry).collect();
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries }).to_string()
}

/// An errno of this kind; `None` for death.
fn errno(denial: Denials) -> Option<u16> {
    const EACCES: u16 = 13;
    [0, 1, 38, EACCES]
        .into_iter()
        .find(|errno| Denials::of_errno(*errno) == denial)
}
