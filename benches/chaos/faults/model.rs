//! What must be so once nothing disturbs any more: from objects to files, statuses and reports. Pure, but for reading disks.
//!
//! Of a broken profile a node keeps the last good version that it has seen, and of a deleted one in use whatever it has:
//! which that is depends on what came when. There the model allows every good version that the name ever had, and none;
//! what statuses and reports say must fit what is found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use callgate::api::{LiveSet, RawSeccompProfile, SeccompNode, SeccompProfileStatus};
use callgate::profile::{Digest, ProfileName};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::tree::Tree;
use crate::versions;

/// The annotation that says what a profile is.
pub(super) const KIND: &str = "chaos/kind";

/// A profile, by what must become of it. The number makes its bytes its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Good(u32),
    /// Its listener is where this installation allows none.
    Listening(u32),
    /// Its filter is larger than any kernel takes.
    Enormous(u32),
}

impl Kind {
    pub(super) fn spec(self) -> Result<Value> {
        Ok(match self {
            Self::Good(number) => versions::spec(number)?,
            Self::Listening(number) => json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": format!("/run/{number}.sock"),
                "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}],
            }),
            Self::Enormous(number) => {
                let entry = |value: u32| {
                    json!({
                        "names": ["socket"],
                        "action": "SCMP_ACT_ERRNO",
                        "args": [
                            {"index": 0, "value": 2 * value, "op": "SCMP_CMP_EQ"},
                            {"index": 1, "value": number + value, "op": "SCMP_CMP_EQ"},
                        ],
                    })
                };
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": (0..800).map(entry).collect::<Vec<_>>()})
            }
        })
    }

    /// Why it is refused, if it is.
    const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Good(_) => None,
            Self::Listening(_) => Some("ListenerNotAllowed"),
            Self::Enormous(_) => Some("FilterTooLarge"),
        }
    }

    fn of(profile: &RawSeccompProfile) -> Result<Self> {
        let text = profile
            .annotations()
            .get(KIND)
            .context("a profile of somebody else")?;
        let (kind, number) = text.split_once(' ').context("no kind")?;
        let number = number.parse()?;
        Ok(match kind {
            "good" => Self::Good(number),
            "listening" => Self::Listening(number),
            "enormous" => Self::Enormous(number),
            kind => bail!("no kind: {kind}"),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(number) => write!(f, "good {number}"),
            Self::Listening(number) => write!(f, "listening {number}"),
            Self::Enormous(number) => write!(f, "enormous {number}"),
        }
    }
}

/// Of the file.
pub(super) fn digest(kind: Kind) -> Result<Digest> {
    Ok(versions::canonical(&kind.spec()?)?.digest)
}

/// What the API server holds.
pub(super) struct Objects {
    pub(super) labels: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) profiles: BTreeMap<String, RawSeccompProfile>,
    /// By node: what its running pods use.
    pub(super) used: BTreeMap<String, BTreeSet<String>>,
    pub(super) reports: BTreeMap<String, SeccompNode>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) wrong: Vec<String>,
    /// How many files, statuses and reports were compared with the only right one.
    pub(super) fixed: u64,
    /// How many files may be one of several.
    pub(super) free: u64,
}

pub(super) type History = BTreeMap<String, BTreeSet<Digest>>;
type Files = BTreeMap<String, Digest>;

/// What no moment may show: a file that is no good version that its name ever had.
pub(super) fn whole(root: &Path, history: &History) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (name, digest) in files(root)? {
        if !history.get(&name).is_some_and(|good| good.contains(&digest)) {
            wrong.push(format!(
                "{name} holds {digest}, which is none of its good versions"
            ));
        }
    }
    Ok(wrong)
}

fn files(root: &Path) -> Result<Files> {
    let files = Tree::read(root)?.files;
    Ok(files
        .into_iter()
        .map(|(name, bytes)| (name, Digest::of(&bytes)))
        .collect())
}

/// Compares everything.
pub(super) fn differences(
    objects: &Objects,
    history: &History,
    kept: &BTreeMap<(String, String), Digest>,
    roots: &BTreeMap<&str, &Path>,
) -> Result<Difference> {
    let mut found = Difference::default();
    let mut disks: BTreeMap<&str, Files> = BTreeMap::new();
    for (node, root) in roots {
        disks.insert(node, files(root)?);
    }
    let names: BTreeSet<&String> = history.keys().chain(objects.profiles.keys()).collect();
    for (node, disk) in &disks {
        for name in &names {
            disk_of(objects, history, kept, (*node, disk), name, &mut found)?;
        }
        let strange = disk.keys().filter(|name| !names.contains(name));
        found
            .wrong
            .extend(strange.map(|name| format!("{node} has {name}, which never was")));
        report(objects, node, disk, &mut found)?;
    }
    for (name, profile) in &objects.profiles {
        status(objects, name, profile, &disks, &mut found)?;
    }
    Ok(found)
}

impl Objects {
    fn selects(&self, profile: &RawSeccompProfile, node: &str) -> bool {
        let selector = profile.spec["nodeSelector"].as_object();
        let labels = self.labels.get(node);
        selector.into_iter().flatten().all(|(key, value)| {
            labels.and_then(|labels| labels.get(key)).map(String::as_str) == value.as_str()
        })
    }
}

/// The file of one profile on one node.
fn disk_of(
    objects: &Objects,
    history: &History,
    kept: &BTreeMap<(String, String), Digest>,
    (node, disk): (&str, &Files),
    name: &str,
    found: &mut Difference,
) -> Result<()> {
    let profile = objects
        .profiles
        .get(name)
        .filter(|profile| objects.selects(profile, node));
    let kind = profile.map(Kind::of).transpose()?;
    let is_used = objects.used.get(node).is_some_and(|used| used.contains(name));
    let must_be = match kind {
        Some(kind @ Kind::Good(_)) => Some(Some(digest(kind)?)),
        None if !is_used => Some(None),
        // The only version that it ever had, held by a pod that the agent saw before anything went wrong.
        None | Some(_) => kept.get(&(node.to_owned(), name.to_owned())).copied().map(Some),
    };
    let is = disk.get(name);
    if let Some(must_be) = must_be {
        found.fixed += 1;
        if is != must_be.as_ref() {
            found.wrong.push(format!(
                "{node}: {name} is {is:?} on disk, and must be {must_be:?} ({kind:?}, in use: {is_used})"
            ));
        }
    } else {
        found.free += 1;
        let is_good = |digest: &Digest| history.get(name).is_some_and(|good| good.contains(digest));
        if is.is_some_and(|is| !is_good(is)) {
            found
                .wrong
                .push(format!("{node}: {name} is {is:?}, none of its good versions"));
        }
    }
    Ok(())
}

/// What a node says of itself.
fn report(objects: &Objects, node: &str, disk: &Files, found: &mut Difference) -> Result<()> {
    found.fixed += 1;
    let Some(report) = objects.reports.get(node).map(|report| &report.spec) else {
        found.wrong.push(format!("{node} has no SeccompNode"));
        return Ok(());
    };
    let mut live = Vec::new();
    for (name, digest) in disk {
        live.push((name.parse::<ProfileName>()?, *digest));
    }
    let live: LiveSet = live.iter().map(|(name, digest)| (name, digest)).collect();
    if report.profiles != live {
        let (says, has) = (report.profiles.len(), live.len());
        found.wrong.push(format!(
            "{node}: SeccompNode says {says} profiles are live, and these are: {has}: {disk:?}"
        ));
    }
    let used: Vec<&String> = objects.used.get(node).into_iter().flatten().collect();
    if !report.in_use.iter().eq(used.iter().copied()) {
        found.wrong.push(format!(
            "{node}: SeccompNode says {:?} are in use, and these are: {used:?}",
            report.in_use
        ));
    }
    let mut failures = BTreeSet::new();
    for (name, profile) in objects
        .profiles
        .iter()
        .filter(|(_, profile)| objects.selects(profile, node))
    {
        if let Some(reason) = Kind::of(profile)?.reason() {
            let live = disk.get(name).map(ToString::to_string);
            failures.insert((reason.to_owned(), name.clone(), profile.metadata.generation, live));
        }
    }
    let said: BTreeSet<_> = report
        .failures
        .iter()
        .flat_map(|group| group.profiles.iter().map(move |failure| (group, failure)))
        .map(|(group, failure)| {
            let live = failure.live_digest.clone();
            (
                group.reason.clone(),
                failure.profile.clone(),
                Some(failure.generation),
                live,
            )
        })
        .collect();
    if said != failures {
        found.wrong.push(format!(
            "{node}: SeccompNode says failures {said:?}, and there must be {failures:?}"
        ));
    }
    for condition in ["Synced", "StoreWritable", "TestLoad"] {
        let is_true = |found: &&callgate::api::Condition| {
            found.type_ == condition && found.status == callgate::api::ConditionStatus::True
        };
        if !report.conditions.iter().any(|found| is_true(&found)) {
            found.wrong.push(format!(
                "{node}: SeccompNode does not say {condition}: {:?}",
                report.conditions
            ));
        }
    }
    Ok(())
}

/// What a profile's status says.
fn status(
    objects: &Objects,
    name: &str,
    profile: &RawSeccompProfile,
    disks: &BTreeMap<&str, Files>,
    found: &mut Difference,
) -> Result<()> {
    found.fixed += 1;
    let status: SeccompProfileStatus = serde_json::from_value(profile.status.clone())?;
    let kind = Kind::of(profile)?;
    let selected: Vec<_> = disks
        .iter()
        .filter(|(node, _)| objects.selects(profile, node))
        .collect();
    let says = |type_: &str| {
        let condition = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_)?;
        let generation = condition.observed_generation == profile.metadata.generation;
        Some(format!(
            "{:?} {}{}",
            condition.status,
            condition.reason,
            if generation { "" } else { " of another generation" }
        ))
    };
    let mut wrong = |what: &str, said: &dyn fmt::Debug, must: &dyn fmt::Debug| {
        found.wrong.push(format!(
            "status of {name}, {kind}: {what} is {said:?}, and must be {must:?}"
        ));
    };
    let mut failures: BTreeMap<Option<Digest>, Vec<&str>> = BTreeMap::new();
    let (valid, ready) = match kind.reason() {
        None => {
            let ready = if selected.is_empty() {
                vec!["True NoNodesSelected", "True Installed"]
            } else {
                vec!["True Installed"]
            };
            let digest = digest(kind)?.to_string();
            if status.digest.as_ref() != Some(&digest) {
                wrong("digest", &status.digest, &digest);
            }
            ("True Proven".to_owned(), ready)
        }
        Some(reason) => {
            for (node, disk) in &selected {
                failures.entry(disk.get(name).copied()).or_default().push(node);
            }
            (format!("False {reason}"), vec!["False Invalid"])
        }
    };
    if says("Valid").as_ref() != Some(&valid) {
        wrong("Valid", &says("Valid"), &valid);
    }
    if !says("Ready").is_some_and(|says| ready.contains(&says.as_str())) {
        wrong("Ready", &says("Ready"), &ready);
    }
    if says("Stalled").is_some() != kind.reason().is_some() {
        wrong("Stalled", &says("Stalled"), &kind.reason());
    }
    if status.observed_generation != profile.metadata.generation {
        wrong(
            "observedGeneration",
            &status.observed_generation,
            &profile.metadata.generation,
        );
    }
    let must: BTreeSet<_> = failures
        .iter()
        .map(|(live, nodes)| {
            let others = u32::try_from(nodes.len() - 1).ok().filter(|others| *others > 0);
            (
                nodes[0].to_owned(),
                others,
                kind.reason().unwrap_or_default().to_owned(),
                live.map(|live| live.to_string()),
            )
        })
        .collect();
    let said: BTreeSet<_> = status
        .failures
        .iter()
        .map(|failure| {
            (
                failure.node.clone(),
                failure.others,
                failure.reason.clone(),
                failure.live_digest.clone(),
            )
        })
        .collect();
    if said != must {
        wrong("failures", &said, &must);
    }
    Ok(())
}
