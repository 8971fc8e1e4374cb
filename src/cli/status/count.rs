//! What the reports of all nodes say about a profile. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use serde::Serialize;

use crate::api::{
    Condition, ConditionStatus, Finding, LiveSet, RawSeccompProfile, SeccompNode, SeccompProfileStatus, Tried,
};
use crate::profile::{Digest, ProfileName, parse_spec};

/// What is asked of the nodes.
#[derive(Debug)]
pub(super) struct ProfileView {
    name: String,
    generation: i64,
    digest: Option<Digest>,
    selector: BTreeMap<String, String>,
    /// What status says, if it speaks of this generation.
    status: SeccompProfileStatus,
}

/// One node that has a report or a Node object.
#[derive(Debug, Default)]
pub(super) struct NodeView {
    /// `None` where they may not be read.
    labels: Option<BTreeMap<String, String>>,
    report: Option<ReportView>,
}

#[derive(Debug, Default)]
struct ReportView {
    live: LiveSet,
    failures: HashMap<String, ReportedFailure>,
    in_use: HashSet<String>,
    trouble: Option<(&'static str, String)>,
}

#[derive(Debug)]
struct ReportedFailure {
    tried: Tried,
    reason: String,
    message: String,
    live_digest: Option<String>,
}

/// The answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counted {
    /// NAMESPACE/NAME.
    pub(super) profile: String,
    /// Whether there is such an object: pods may name a profile that was deleted, or that never was.
    pub(super) exists: bool,
    pub(super) generation: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<String>,
    /// What a pod writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) localhost_profile: Option<String>,
    pub(super) valid: Judged,
    pub(super) ready: Judged,
    /// Names of nodes, sorted. The selected ones are those of the first four together.
    pub(super) installed: Vec<String>,
    pub(super) pending: Vec<String>,
    pub(super) failed: Vec<Failed>,
    /// Selected nodes whose agent has not reported.
    pub(super) no_report: Vec<String>,
    /// Nodes on which running pods use it.
    pub(super) in_use: Vec<String>,
    /// Those of them that the profile does not select.
    #[serde(skip)]
    pub(super) in_use_unselected: Vec<String>,
    /// What the proofs found in this generation, as far as status lists it.
    pub(super) findings: Vec<Finding>,
    pub(super) findings_total: usize,
    #[serde(skip)]
    pub(super) has_selector: bool,
    /// Whether there is a selector, and a node whose labels may not be read.
    #[serde(skip)]
    pub(super) selection_unknown: bool,
}

/// A condition of the profile, for its generation.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Judged {
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) message: String,
}

/// Why one node does not have it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failed {
    pub(super) node: String,
    pub(super) reason: String,
    pub(super) message: String,
    /// What it has instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) live_digest: Option<String>,
}

impl ProfileView {
    /// The digest and the selector are those of the object as it is, also where no controller has judged it yet.
    pub(super) fn of(object: &RawSeccompProfile) -> Self {
        let generation = object.metadata.generation.unwrap_or_default();
        let status: SeccompProfileStatus = serde_json::from_value(object.status.clone()).unwrap_or_default();
        let status = if status.observed_generation == Some(generation) {
            status
        } else {
            SeccompProfileStatus::default()
        };
        let spec = parse_spec(&object.spec).ok();
        let judged = status.digest.as_ref().and_then(|digest| digest.parse().ok());
        let computed = || {
            spec.as_ref()?
                .profile
                .canonical()
                .ok()
                .map(|canonical| canonical.digest)
        };
        Self {
            name: format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any()),
            generation,
            digest: judged.or_else(computed),
            selector: spec.map(|spec| spec.node_selector).unwrap_or_default(),
            status,
        }
    }

    fn condition(&self, type_: &str) -> Option<&Condition> {
        self.status
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_)
    }

    fn findings_total(&self) -> usize {
        let total = self.status.findings_total.unwrap_or_default();
        usize::try_from(total)
            .unwrap_or(usize::MAX)
            .max(self.status.findings.len())
    }

    fn is_invalid(&self) -> bool {
        self.condition("Valid")
            .is_some_and(|valid| valid.status == ConditionStatus::False)
    }

    fn judged(&self, type_: &str) -> Judged {
        let condition = self.condition(type_);
        Judged {
            status: match condition.map(|condition| condition.status) {
                Some(ConditionStatus::True) => "True",
                Some(ConditionStatus::False) => "False",
                Some(ConditionStatus::Unknown) | None => "Unknown",
            },
            reason: condition
                .map(|condition| condition.reason.clone())
                .unwrap_or_default(),
            message: condition
                .map(|condition| condition.message.clone())
                .unwrap_or_default(),
        }
    }
}

impl NodeView {
    /// By name; `nodes` is `None` where they may not be listed. A report that cannot be read says nothing.
    pub(super) fn join(
        reports: Vec<DeserializeGuard<SeccompNode>>,
        nodes: Option<Vec<PartialObjectMeta<Node>>>,
    ) -> BTreeMap<String, Self> {
        let all_labels = nodes.is_some();
        let mut joined: BTreeMap<String, Self> = BTreeMap::new();
        for node in nodes.unwrap_or_default() {
            let name = node.name_any();
            joined.entry(name).or_default().labels = Some(node.metadata.labels.unwrap_or_default());
        }
        for report in reports.into_iter().filter_map(|guarded| guarded.0.ok()) {
            let name = report.name_any();
            // A report outlives its Node for a moment.
            if all_labels && !joined.contains_key(&name) {
                continue;
            }
            joined.entry(name).or_default().report = Some(ReportView::of(report));
        }
        joined
    }

    fn is_selected(&self, selector: &BTreeMap<String, String>) -> Option<bool> {
        if selector.is_empty() {
            return Some(true);
        }
        let labels = self.labels.as_ref()?;
        Some(selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
    }
}

impl ReportView {
    fn of(node: SeccompNode) -> Self {
        let report = node.spec;
        let trouble = report
            .trouble()
            .map(|(reason, message)| (reason, message.to_owned()));
        let failures = report.failures.into_iter().flat_map(|group| {
            let reason = group.reason;
            group.profiles.into_iter().map(move |failure| {
                let reported = ReportedFailure {
                    tried: Tried {
                        generation: failure.generation,
                        digest: failure.digest.and_then(|digest| digest.parse().ok()),
                    },
                    reason: reason.clone(),
                    message: failure.message,
                    live_digest: failure.live_digest,
                };
                (failure.profile, reported)
            })
        });
        Self {
            live: report.profiles,
            failures: failures.collect(),
            in_use: report.in_use.into_iter().collect(),
            trouble,
        }
    }

    /// Why a profile that is not live here is not.
    fn why_not(&self, profile: &ProfileView) -> Option<(String, String, Option<String>)> {
        let asked = Tried {
            generation: profile.generation,
            digest: profile.digest,
        };
        let failure = self
            .failures
            .get(&profile.name)
            .filter(|failure| failure.tried.concerns(&asked));
        match (failure, &self.trouble) {
            (Some(failure), _) => Some((
                failure.reason.clone(),
                failure.message.clone(),
                failure.live_digest.clone(),
            )),
            // It keeps away what could be written, and an invalid profile never is.
            (None, Some((reason, message))) if !profile.is_invalid() => {
                Some(((*reason).to_owned(), message.clone(), None))
            }
            (None, _) => None,
        }
    }
}

/// Asks every node.
pub(super) fn count(profile: &ProfileView, nodes: &BTreeMap<String, NodeView>) -> Counted {
    let name = profile.name.parse::<ProfileName>().ok();
    let mut counted = Counted {
        profile: profile.name.clone(),
        exists: true,
        generation: profile.generation,
        digest: profile.digest.map(|digest| digest.to_string()),
        localhost_profile: name.as_ref().map(ProfileName::localhost_profile),
        valid: profile.judged("Valid"),
        ready: profile.judged("Ready"),
        installed: Vec::new(),
        pending: Vec::new(),
        failed: Vec::new(),
        no_report: Vec::new(),
        in_use: Vec::new(),
        in_use_unselected: Vec::new(),
        findings: profile.status.findings.clone(),
        findings_total: profile.findings_total(),
        has_selector: !profile.selector.is_empty(),
        selection_unknown: false,
    };
    for (node_name, node) in nodes {
        let selected = node.is_selected(&profile.selector);
        counted.selection_unknown |= selected.is_none();
        let Some(report) = &node.report else {
            if selected == Some(true) {
                counted.no_report.push(node_name.clone());
            }
            continue;
        };
        if report.in_use.contains(&profile.name) {
            counted.in_use.push(node_name.clone());
            if selected == Some(false) {
                counted.in_use_unselected.push(node_name.clone());
            }
        }
        let is_live = name
            .as_ref()
            .zip(profile.digest.as_ref())
            .is_some_and(|(name, digest)| report.live.contains(name, digest));
        match (selected, is_live, report.why_not(profile)) {
            (Some(false), ..) | (None, false, None) => {}
            (_, true, _) => counted.installed.push(node_name.clone()),
            (_, false, Some((reason, message, live_digest))) => counted.failed.push(Failed {
                node: node_name.clone(),
                reason,
                message,
                live_digest,
            }),
            (Some(true), false, None) => counted.pending.push(node_name.clone()),
        }
    }
    counted
}

/// The profiles that pods name and that are not among those that there are.
pub(super) fn missing(there: &[Counted], nodes: &BTreeMap<String, NodeView>) -> Vec<Counted> {
    let there: BTreeSet<&str> = there.iter().map(|one| one.profile.as_str()).collect();
    let mut users: BTreeMap<ProfileName, Vec<String>> = BTreeMap::new();
    for (node_name, node) in nodes {
        let named = node.report.iter().flat_map(|report| &report.in_use);
        for name in named.filter(|name| !there.contains(name.as_str())) {
            // What is no name comes from no agent.
            if let Ok(name) = name.parse() {
                users.entry(name).or_default().push(node_name.clone());
            }
        }
    }
    users
        .into_iter()
        .map(|(name, in_use)| Counted::missing(&name, in_use))
        .collect()
}

impl Counted {
    fn missing(name: &ProfileName, in_use: Vec<String>) -> Self {
        let judged = || Judged {
            status: "Unknown",
            reason: "NotFound".to_owned(),
            message: "pods name it, and there is no such SeccompProfile".to_owned(),
        };
        Self {
            profile: name.to_string(),
            exists: false,
            generation: 0,
            digest: None,
            localhost_profile: Some(name.localhost_profile()),
            valid: judged(),
            ready: judged(),
            installed: Vec::new(),
            pending: Vec::new(),
            failed: Vec::new(),
            no_report: Vec::new(),
            in_use,
            in_use_unselected: Vec::new(),
            findings: Vec::new(),
            findings_total: 0,
            has_selector: false,
            selection_unknown: false,
        }
    }

    /// How many nodes are selected and report.
    pub(super) fn selected(&self) -> usize {
        self.installed.len() + self.pending.len() + self.failed.len()
    }

    /// The nodes that failed, by what they share: reason and live digest. The largest group first; the message is
    /// that of its first node.
    pub(super) fn failures(&self) -> Vec<(&Failed, Vec<&str>)> {
        let mut groups = BTreeMap::new();
        for failed in &self.failed {
            let (_, nodes) = groups
                .entry((&failed.reason, failed.live_digest.as_deref()))
                .or_insert((failed, Vec::new()));
            nodes.push(failed.node.as_str());
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|(failed, nodes)| (std::cmp::Reverse(nodes.len()), failed.node.as_str()));
        groups
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::SeccompNodeReport;

    pub(crate) fn profile(spec: &Value, status: &Value) -> RawSeccompProfile {
        serde_json::from_value(json!({
            "metadata": {"namespace": "team", "name": "web", "generation": 3},
            "spec": spec,
            "status": status,
        }))
        .unwrap()
    }

    pub(crate) fn allow_all() -> Value {
        json!({"defaultAction": "SCMP_ACT_ALLOW"})
    }

    fn digest(profile: &RawSeccompProfile) -> Digest {
        parse_spec(&profile.spec)
            .unwrap()
            .profile
            .canonical()
            .unwrap()
            .digest
    }

    fn report(node: &str, live: Option<&RawSeccompProfile>, more: &Value) -> DeserializeGuard<SeccompNode> {
        let name: ProfileName = "team/web".parse().unwrap();
        let digest = live.map(digest);
        let profiles: LiveSet = digest.iter().map(|digest| (&name, digest)).collect();
        let packed = serde_json::to_value(SeccompNodeReport {
            profiles,
            ..SeccompNodeReport::default()
        })
        .unwrap();
        let mut object =
            json!({"apiVersion": "callgate.dev/v1alpha1", "kind": "SeccompNode", "metadata": {"name": node}});
        for part in [&packed, more] {
            object
                .as_object_mut()
                .unwrap()
                .extend(part.as_object().unwrap().clone());
        }
        serde_json::from_value(object).unwrap()
    }

    /// The report of a node on which pods use the profile, and which does not have it.
    pub(crate) fn used_on(node: &str) -> DeserializeGuard<SeccompNode> {
        report(node, None, &json!({"inUse": ["team/web"]}))
    }

    fn node(name: &str, zone: &str) -> PartialObjectMeta<Node> {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"zone": zone}}})).unwrap()
    }

    fn failure(generation: i64) -> Value {
        json!({"failures": [{"reason": "LoadRefused", "total": 1, "profiles": [
            {"profile": "team/web", "generation": generation, "message": "EINVAL"}]}]})
    }

    /// Nodes a (has it, uses it), b (nothing), c (failed), d (full), e (no report), f (another zone).
    pub(crate) fn cluster(profile: &RawSeccompProfile) -> BTreeMap<String, NodeView> {
        let full = json!({"conditions": [{"type": "StoreWritable", "status": "False", "reason": "Full",
            "message": "no space left", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        NodeView::join(
            vec![
                report("a", Some(profile), &json!({"inUse": ["team/web"]})),
                report("b", None, &failure(2)),
                report("c", None, &failure(3)),
                report("d", None, &full),
                report("f", None, &json!({})),
                report("gone", Some(profile), &json!({})),
                serde_json::from_value(json!({"metadata": {"name": "broken"}, "profiles": "%"})).unwrap(),
            ],
            Some(
                ["a", "b", "c", "d", "e"]
                    .map(|name| node(name, "1"))
                    .into_iter()
                    .chain([node("f", "2")])
                    .collect(),
            ),
        )
    }

    fn zone_one() -> Value {
        json!({"defaultAction": "SCMP_ACT_ALLOW", "nodeSelector": {"zone": "1"}})
    }

    #[test]
    fn every_selected_node_is_counted_once() {
        let profile = profile(&zone_one(), &Value::Null);
        let counted = count(&ProfileView::of(&profile), &cluster(&profile));
        assert_eq!(
            (&counted.installed[..], &counted.pending[..]),
            (&["a".to_owned()][..], &["b".to_owned()][..])
        );
        let failed: Vec<_> = counted
            .failed
            .iter()
            .map(|one| (one.node.as_str(), one.reason.as_str()))
            .collect();
        assert_eq!(failed, [("c", "LoadRefused"), ("d", "StoreNotWritable")]);
        assert_eq!(
            (&counted.no_report[..], &counted.in_use[..]),
            (&["e".to_owned()][..], &["a".to_owned()][..])
        );
        assert_eq!(counted.selected(), 4);
    }

    #[test]
    fn a_full_disk_keeps_no_invalid_profile_away() {
        let invalid = profile(
            &allow_all(),
            &json!({"observedGeneration": 3, "conditions": [{"type": "Valid", "status": "False",
                "reason": "LoadRefused", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        );
        let counted = count(&ProfileView::of(&invalid), &cluster(&invalid));
        let failed: Vec<_> = counted.failed.iter().map(|one| one.node.as_str()).collect();
        assert_eq!(failed, ["c"]);
    }

    #[test]
    fn the_digest_is_that_of_the_object_also_where_nobody_judged_it() {
        let unjudged = profile(
            &allow_all(),
            &json!({"observedGeneration": 2, "digest": Digest::of(b"old").to_string(),
            "conditions": [{"type": "Valid", "status": "True", "reason": "Proven", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        );
        let counted = count(&ProfileView::of(&unjudged), &cluster(&unjudged));
        assert_eq!(counted.digest, Some(digest(&unjudged).to_string()));
        assert_eq!(counted.valid.status, "Unknown", "an older generation was judged");
        assert_eq!(counted.installed, ["a"]);
    }

    #[test]
    fn an_object_that_is_no_profile_is_installed_nowhere() {
        let broken = profile(&json!({"defaultAction": 7}), &Value::Null);
        let good = profile(&allow_all(), &Value::Null);
        let counted = count(&ProfileView::of(&broken), &cluster(&good));
        assert_eq!((counted.digest, counted.installed.len()), (None, 0));
    }

    #[test]
    fn without_labels_only_what_nodes_say_of_a_selective_profile_counts() {
        let profile = profile(&zone_one(), &Value::Null);
        let nodes = NodeView::join(
            vec![
                report("a", Some(&profile), &json!({})),
                report("b", None, &json!({})),
                report("c", None, &failure(3)),
            ],
            None,
        );
        let counted = count(&ProfileView::of(&profile), &nodes);
        assert_eq!(
            (
                counted.installed.len(),
                counted.pending.len(),
                counted.failed.len()
            ),
            (1, 0, 1)
        );
        assert!(counted.has_selector && counted.selection_unknown);
    }

    #[test]
    fn what_pods_name_and_nobody_has_is_missing_and_nothing_else_is() {
        let profile = profile(&allow_all(), &Value::Null);
        let nodes = NodeView::join(
            vec![
                report("a", None, &json!({"inUse": ["team/old", "team/web"]})),
                report(
                    "b",
                    None,
                    &json!({"inUse": ["other/typo", "team/old", "no name"]}),
                ),
            ],
            None,
        );
        let there = [count(&ProfileView::of(&profile), &nodes)];
        let missing: Vec<_> = missing(&there, &nodes)
            .into_iter()
            .map(|one| (one.profile, one.exists, one.in_use.join(" ")))
            .collect();
        assert_eq!(
            missing,
            [
                ("other/typo".to_owned(), false, "b".to_owned()),
                ("team/old".to_owned(), false, "a b".to_owned())
            ]
        );
    }

    #[test]
    fn use_on_a_node_that_is_not_selected_is_told_apart() {
        let mut spec = zone_one();
        spec["nodeSelector"] = json!({"zone": "3"});
        let profile = profile(&spec, &Value::Null);
        let counted = count(&ProfileView::of(&profile), &cluster(&profile));
        assert_eq!((counted.selected(), counted.selection_unknown), (0, false));
        assert_eq!(counted.in_use, ["a"]);
        assert_eq!(counted.in_use_unselected, ["a"]);
    }
}
