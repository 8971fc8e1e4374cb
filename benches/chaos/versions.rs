//! Profiles in as many versions as are needed: each has bytes of its own, and says by them which it is.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use callgate::profile::{Canonical, parse_spec};
use serde_json::{Value, json};

/// An allow-list as long as Docker's default, with the same kinds of conditions.
const DOCKER_SIZE: &str = include_str!("../../tests/data/default.json");

/// How many small versions come before a long one: files that shrink and grow by pages.
const SMALL: u32 = 4;

/// What profiles there are, by NAMESPACE/NAME, each in one version.
pub(crate) type Versions = BTreeMap<String, u32>;

/// Version `number` of any profile.
pub(crate) fn spec(number: u32) -> Result<Value> {
    let is_long = number.is_multiple_of(SMALL + 1);
    let mut spec = if is_long {
        serde_json::from_str(DOCKER_SIZE)?
    } else {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["ptrace", "keyctl", "add_key"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }],
        })
    };
    let fields = spec.as_object_mut().context("a profile is an object")?;
    fields.remove("architectures");
    // One persona more that has an answer of its own. None of these exists.
    let action = if is_long {
        "SCMP_ACT_ALLOW"
    } else {
        "SCMP_ACT_ERRNO"
    };
    fields
        .get_mut("syscalls")
        .and_then(Value::as_array_mut)
        .context("a profile without entries")?
        .push(json!({
            "names": ["personality"],
            "action": action,
            "args": [{ "index": 0, "value": 0x0100_0000 + number, "op": "SCMP_CMP_EQ" }],
        }));
    Ok(spec)
}

/// As the bytes of a file.
pub(crate) fn canonical(spec: &Value) -> Result<Canonical> {
    let spec = parse_spec(spec).map_err(|findings| anyhow!("the profile is invalid: {findings:?}"))?;
    spec.profile
        .canonical()
        .map_err(|finding| anyhow!("the profile is too large: {finding:?}"))
}

/// The bytes of a version's file.
pub(crate) fn bytes(number: u32) -> Result<Vec<u8>> {
    Ok(canonical(&spec(number)?)?.bytes.to_vec())
}
