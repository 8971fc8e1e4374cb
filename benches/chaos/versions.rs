//! Profiles in as many versions as are needed: each has bytes of its own, and says by them which it is.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use callgate::profile::{Canonical, parse_spec};
use serde_json::Value;

use crate::profiles::Size;

/// How many small versions come before a long one: files that shrink and grow by pages.
const SMALL: u32 = 4;

/// What profiles there are, by NAMESPACE/NAME, each in one version.
pub(crate) type Versions = BTreeMap<String, u32>;

/// Version `number` of any profile.
pub(crate) fn spec(number: u32) -> Result<Value> {
    let size = if number.is_multiple_of(SMALL + 1) {
        Size::Docker
    } else {
        Size::Small
    };
    size.spec(usize::try_from(number)?)
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
