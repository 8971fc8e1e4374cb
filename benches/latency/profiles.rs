//! Profiles of three sizes, each in as many versions as a run needs.

use anyhow::{Context as _, Result};
use callgate::api::SeccompProfile;
use callgate::profile::{Canonical, parse_spec};
use serde_json::{Value, json};

/// An allow-list as long as Docker's default, with the same kinds of conditions.
const DOCKER_SIZE: &str = include_str!("../../tests/data/default.json");

/// How much there is to compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Three names denied, everything else allowed.
    Small,
    /// [`DOCKER_SIZE`] for the native architecture.
    Docker,
    /// [`DOCKER_SIZE`] for the native architecture and those whose calls the kernel answers, too.
    DockerAllArchitectures,
}

impl Size {
    pub(crate) const ALL: [Self; 3] = [Self::Small, Self::Docker, Self::DockerAllArchitectures];

    pub(crate) fn describe(self) -> String {
        match self {
            Self::Small => "small".to_owned(),
            Self::Docker => "Docker-size, one architecture".to_owned(),
            Self::DockerAllArchitectures => format!("Docker-size, {} architectures", architectures().len()),
        }
    }

    /// An object name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Docker => "docker",
            Self::DockerAllArchitectures => "docker-all",
        }
    }

    /// Version `number` of this profile; no two versions have one digest, and all cost the same.
    pub(crate) fn spec(self, number: usize) -> Result<Value> {
        let mut spec = match self {
            Self::Small => json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["ptrace", "keyctl", "add_key"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }],
            }),
            Self::Docker | Self::DockerAllArchitectures => serde_json::from_str(DOCKER_SIZE)?,
        };
        let fields = spec.as_object_mut().context("a profile is an object")?;
        fields.remove("architectures");
        if self == Self::DockerAllArchitectures {
            fields.insert("architectures".to_owned(), json!(architectures()));
        }
        // One persona more that has an answer of its own. None of these exists.
        let action = if self == Self::Small {
            "SCMP_ACT_ERRNO"
        } else {
            "SCMP_ACT_ALLOW"
        };
        let entries = fields
            .get_mut("syscalls")
            .and_then(Value::as_array_mut)
            .context("a profile without entries")?;
        entries.push(json!({
            "names": ["personality"],
            "action": action,
            "args": [{ "index": 0, "value": 0x0100_0000 + number, "op": "SCMP_CMP_EQ" }],
        }));
        Ok(spec)
    }

    /// As an object.
    pub(crate) fn profile(self, name: &str, number: usize) -> Result<SeccompProfile> {
        let spec =
            serde_json::from_value(self.spec(number)?).context("the profile does not fit the API's types")?;
        Ok(SeccompProfile::new(name, spec))
    }

    /// As the bytes of a file.
    pub(crate) fn canonical(self, number: usize) -> Result<Canonical> {
        let read = parse_spec(&self.spec(number)?);
        let spec = read.map_err(|findings| anyhow::anyhow!("the profile is invalid: {findings:?}"))?;
        spec.profile
            .canonical()
            .map_err(|finding| anyhow::anyhow!("the profile is too large: {finding:?}"))
    }
}

/// As Docker's default lists them.
/// Source: <https://github.com/moby/profiles/blob/main/seccomp/default.json>, `archMap`.
fn architectures() -> &'static [&'static str] {
    if cfg!(target_arch = "aarch64") {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    } else {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    }
}
