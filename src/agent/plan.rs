//! What is to be done on this node, from what is wanted, what is live and what is in use. Pure.
//!
//! The rules, in the order of their weight:
//! 1. A file that a pod on this node uses is never removed, and no file is before everything was seen once.
//! 2. What does not pass, or is not known to, never replaces a file and never removes one.
//! 3. What is selected and proven is written, in the place of an older digest at once.
//! 4. What is deleted or deselected goes after a grace, so that a mistake that is put back changes nothing.
//! 5. Files of `callgate install` are left alone until an object of their name is written over them.
//! 6. A file whose record was lost is nobody's: one that no object asks for goes as if its object had been deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::profile::{Digest, ProfileName};

/// Labels of a node, or those that a profile asks for.
pub(super) type Labels = BTreeMap<String, String>;

/// One profile, as the API server holds it and as far as it has been judged here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Desired<'a> {
    pub(super) generation: i64,
    /// Which nodes it is for; `None` where that could not be read.
    pub(super) selector: Option<&'a Labels>,
    pub(super) state: State<'a>,
}

/// What is known about a generation of a profile.
#[derive(Debug, Clone, Copy)]
pub(super) enum State<'a> {
    /// It reads well, and the kernel has not answered.
    Unproven { digest: Digest, attempt: Attempt<'a> },
    /// The kernel took it.
    Proven(Digest),
    /// It does not pass.
    Refused {
        digest: Option<Digest>,
        by: Refusal,
        reason: &'a str,
        message: &'a str,
    },
}

/// How far the question to the kernel is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attempt<'a> {
    /// Not asked yet.
    None,
    /// Asked.
    Running,
    /// Asked so many times without an answer about the profile, and to be asked again then.
    Unanswered {
        times: u32,
        again: Instant,
        message: &'a str,
    },
}

/// Who refused a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A rule, which may be newer than the proof of a file on disk.
    Rule,
    /// What this node or installation is: its kernel, its libseccomp, the listener paths it allows.
    Here,
}

/// A file on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) digest: Digest,
    /// The cluster's, as opposed to one that `callgate install` put there.
    pub(super) ours: bool,
    /// Proven with this kernel, libseccomp and version.
    pub(super) current: bool,
}

/// Why a file could not be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// A trouble of the whole directory, which a condition of the node tells once for all profiles.
    ByNode,
    /// A trouble of this file.
    ByFile { reason: &'static str, message: String },
}

/// Everything that a plan is made from.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// In the order of their names, which is that of the map that they are kept in.
    pub(super) desired: Vec<(&'a ProfileName, Desired<'a>)>,
    /// Of this node; `None` while its Node object has not been seen.
    pub(super) labels: Option<&'a Labels>,
    pub(super) live: &'a BTreeMap<ProfileName, Live>,
    /// Files on disk that lost their record. They count as not there: nothing says that they were ever proven.
    pub(super) unproven: &'a BTreeSet<&'a ProfileName>,
    pub(super) in_use: &'a BTreeSet<ProfileName>,
    /// What the disk did not take: tried again from time to time, and no reason to wait for.
    pub(super) held: &'a BTreeMap<&'a ProfileName, &'a Held>,
    /// Every profile has been seen once.
    pub(super) profiles_synced: bool,
    /// Every pod of this node has been seen once.
    pub(super) pods_synced: bool,
    /// Since when files are unwanted, as the plan before this one said.
    pub(super) unwanted: &'a BTreeMap<ProfileName, Instant>,
    pub(super) grace: Duration,
    pub(super) now: Instant,
}

/// What to do, and what is so.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Ask the kernel.
    pub(super) prove: Vec<ProfileName>,
    /// Put on disk.
    pub(super) write: Vec<ProfileName>,
    /// Take off the disk.
    pub(super) remove: Vec<ProfileName>,
    /// Since when files are unwanted.
    pub(super) unwanted: BTreeMap<ProfileName, Instant>,
    /// Profiles that are for this node and that it does not have.
    pub(super) failures: Vec<Failed>,
    /// Live profiles that a newer rule would refuse, and why.
    pub(super) tolerated: BTreeMap<ProfileName, String>,
    /// How many profiles have no outcome yet.
    pub(super) pending: usize,
    /// When to plan again if nothing else happens.
    pub(super) wake: Option<Instant>,
}

/// One profile that could not be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    /// NAMESPACE/NAME.
    pub(super) profile: String,
    pub(super) generation: i64,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) digest: Option<Digest>,
    pub(super) live: Option<Digest>,
}

/// From how many questions without an answer on a profile is reported as failed. A starved moment is over
/// before that, and is nobody's business.
const REPORTED_AFTER: u32 = 3;

/// Why a profile failed that nothing is known about.
const UNPROVEN: &str = "Unproven";

/// Decides.
pub(super) fn plan(facts: &Facts<'_>) -> Plan {
    debug_assert!(facts.desired.is_sorted_by_key(|(name, _)| name));
    let mut plan = Plan::default();
    // Both are in order, and most of one is in the other: side by side, no name is looked for.
    let mut files = facts.live.iter().peekable();
    let mut undesired = Vec::new();
    for (name, desired) in &facts.desired {
        while let Some(file) = files.next_if(|(file, _)| *file < *name) {
            undesired.push(file);
        }
        let live = files.next_if(|(file, _)| file == name).map(|(_, live)| live);
        match desired.selector {
            Some(selector) if !selector.is_empty() => match facts.labels {
                Some(labels) if selects(selector, labels) => install(&mut plan, facts, name, live, desired),
                Some(_) => leave(&mut plan, facts, name, live),
                None => plan.pending += 1,
            },
            _ => install(&mut plan, facts, name, live, desired),
        }
    }
    undesired.extend(files);
    if facts.profiles_synced {
        for (name, live) in undesired {
            leave(&mut plan, facts, name, Some(live));
        }
        let is_desired = |name: &ProfileName| {
            facts
                .desired
                .binary_search_by_key(&name, |(name, _)| name)
                .is_ok()
        };
        for name in facts.unproven.iter().filter(|name| !is_desired(name)) {
            leave(&mut plan, facts, name, None);
        }
    }
    plan
}

/// Whether a node with these labels is meant. A selector without labels means every node.
fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The profile is for this node.
fn install(
    plan: &mut Plan,
    facts: &Facts<'_>,
    name: &ProfileName,
    live: Option<&Live>,
    desired: &Desired<'_>,
) {
    let is_live = |digest: Digest| live.is_some_and(|live| live.digest == digest);
    let is_recorded = |digest| is_live(digest) && live.is_some_and(|live| live.current);
    let failed = |digest, reason: &str, message: &str| Failed {
        profile: name.to_string(),
        generation: desired.generation,
        reason: reason.to_owned(),
        message: message.to_owned(),
        digest,
        live: live.map(|live| live.digest),
    };
    match desired.state {
        State::Unproven { digest, .. } | State::Proven(digest)
            if is_recorded(digest) && live.is_some_and(|live| live.ours) => {}
        State::Proven(digest) => {
            write(plan, facts, name, |reason, message| {
                failed(Some(digest), reason, message)
            });
        }
        // The proof of a live file is in the store's record: to adopt it takes no other.
        State::Unproven { digest, .. } if is_recorded(digest) => {
            write(plan, facts, name, |reason, message| {
                failed(Some(digest), reason, message)
            });
        }
        State::Unproven { digest, attempt } => {
            match attempt {
                Attempt::None => plan.prove.push(name.clone()),
                Attempt::Running => {}
                Attempt::Unanswered { again, .. } if again <= facts.now => plan.prove.push(name.clone()),
                Attempt::Unanswered { again, .. } => plan.wake_at(again),
            }
            match attempt {
                // The node has what it should have, whoever proved it.
                _ if is_live(digest) => {}
                Attempt::None | Attempt::Running => plan.pending += 1,
                Attempt::Unanswered { times, message, .. } if times >= REPORTED_AFTER => {
                    plan.failures.push(failed(Some(digest), UNPROVEN, message));
                }
                Attempt::Unanswered { .. } => {}
            }
        }
        State::Refused {
            digest: Some(digest),
            by: Refusal::Rule,
            message,
            ..
        } if is_live(digest) => {
            plan.tolerated.insert(name.clone(), message.to_owned());
        }
        State::Refused {
            digest,
            reason,
            message,
            ..
        } => plan.failures.push(failed(digest, reason, message)),
    }
}

/// The profile is to be put on disk. One that the disk did not take is tried again, and nobody waits for it.
fn write(plan: &mut Plan, facts: &Facts<'_>, name: &ProfileName, failed: impl FnOnce(&str, &str) -> Failed) {
    plan.write.push(name.clone());
    match facts.held.get(name) {
        None => plan.pending += 1,
        Some(Held::ByNode) => {}
        Some(Held::ByFile { reason, message }) => plan.failures.push(failed(reason, message)),
    }
}

/// The profile is not for this node, or no more.
fn leave(plan: &mut Plan, facts: &Facts<'_>, name: &ProfileName, live: Option<&Live>) {
    let is_ours = live.is_some_and(|live| live.ours);
    if !is_ours && !facts.unproven.contains(name) {
        return;
    }
    let since = facts.unwanted.get(name).copied().unwrap_or(facts.now);
    plan.unwanted.insert(name.clone(), since);
    if facts.in_use.contains(name) || !(facts.profiles_synced && facts.pods_synced && facts.labels.is_some())
    {
        // The end of its use, or of the sync, makes the next plan.
        return;
    }
    let due = since + facts.grace;
    if due <= facts.now {
        plan.remove.push(name.clone());
    } else {
        plan.wake_at(due);
    }
}

impl Plan {
    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(300);
    const SECOND: Duration = Duration::from_secs(1);

    /// A node on which everything has been seen, with what the tests put on it.
    struct Node {
        desired: BTreeMap<ProfileName, (Option<Labels>, State<'static>)>,
        labels: Option<Labels>,
        live: BTreeMap<ProfileName, Live>,
        unproven: BTreeSet<ProfileName>,
        in_use: BTreeSet<ProfileName>,
        held: BTreeMap<ProfileName, Held>,
        profiles_synced: bool,
        pods_synced: bool,
        unwanted: BTreeMap<ProfileName, Instant>,
        now: Instant,
    }

    impl Node {
        fn new() -> Self {
            Self {
                desired: BTreeMap::new(),
                labels: Some(labels(&[("kind", "worker")])),
                live: BTreeMap::new(),
                unproven: BTreeSet::new(),
                in_use: BTreeSet::new(),
                held: BTreeMap::new(),
                profiles_synced: true,
                pods_synced: true,
                unwanted: BTreeMap::new(),
                now: Instant::now(),
            }
        }

        fn wants(mut self, profile: &str, state: State<'static>) -> Self {
            self.desired.insert(name(profile), (Some(Labels::new()), state));
            self
        }

        fn selecting(mut self, profile: &str, selector: &[(&str, &str)], state: State<'static>) -> Self {
            self.desired
                .insert(name(profile), (Some(labels(selector)), state));
            self
        }

        fn has(mut self, profile: &str, digest: Digest) -> Self {
            self.live.insert(
                name(profile),
                Live {
                    digest,
                    ours: true,
                    current: true,
                },
            );
            self
        }

        /// Has a file whose record was lost.
        fn found(mut self, profile: &str) -> Self {
            self.unproven.insert(name(profile));
            self
        }

        fn uses(mut self, profile: &str) -> Self {
            self.in_use.insert(name(profile));
            self
        }

        fn plan(&self) -> Plan {
            plan(&Facts {
                desired: self
                    .desired
                    .iter()
                    .map(|(name, (selector, state))| {
                        (
                            name,
                            Desired {
                                generation: 7,
                                selector: selector.as_ref(),
                                state: *state,
                            },
                        )
                    })
                    .collect(),
                labels: self.labels.as_ref(),
                live: &self.live,
                unproven: &self.unproven.iter().collect(),
                in_use: &self.in_use,
                held: &self.held.iter().collect(),
                profiles_synced: self.profiles_synced,
                pods_synced: self.pods_synced,
                unwanted: &self.unwanted,
                grace: GRACE,
                now: self.now,
            })
        }

        /// Plans, and goes on from there after a while.
        fn later(&mut self, by: Duration) -> Plan {
            self.unwanted = self.plan().unwanted;
            self.now += by;
            self.plan()
        }
    }

    fn name(text: &str) -> ProfileName {
        text.parse().unwrap()
    }

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn unproven(text: &str) -> State<'static> {
        State::Unproven {
            digest: digest(text),
            attempt: Attempt::None,
        }
    }

    fn proven(text: &str) -> State<'static> {
        State::Proven(digest(text))
    }

    fn refused(text: Option<&str>, by: Refusal) -> State<'static> {
        State::Refused {
            digest: text.map(digest),
            by,
            reason: "LoadRefused",
            message: "no",
        }
    }

    fn unanswered(text: &str, times: u32, again: Instant) -> State<'static> {
        State::Unproven {
            digest: digest(text),
            attempt: Attempt::Unanswered {
                times,
                again,
                message: "out of memory",
            },
        }
    }

    fn quiet() -> Plan {
        Plan::default()
    }

    #[test]
    fn nothing_wanted_and_nothing_there_is_nothing_to_do() {
        assert_eq!(Node::new().plan(), quiet());
    }

    #[test]
    fn a_new_profile_is_proven_first_and_then_written() {
        let plan = Node::new().wants("a/b", unproven("v1")).plan();
        assert_eq!(
            plan,
            Plan {
                prove: vec![name("a/b")],
                pending: 1,
                ..quiet()
            }
        );

        let running = State::Unproven {
            digest: digest("v1"),
            attempt: Attempt::Running,
        };
        assert_eq!(
            Node::new().wants("a/b", running).plan(),
            Plan {
                pending: 1,
                ..quiet()
            }
        );

        let plan = Node::new().wants("a/b", proven("v1")).plan();
        assert_eq!(
            plan,
            Plan {
                write: vec![name("a/b")],
                pending: 1,
                ..quiet()
            }
        );

        assert_eq!(
            Node::new()
                .wants("a/b", proven("v1"))
                .has("a/b", digest("v1"))
                .plan(),
            quiet()
        );
    }

    #[test]
    fn a_file_proven_by_this_very_kernel_and_version_needs_no_second_proof() {
        let node = Node::new().wants("a/b", unproven("v1")).has("a/b", digest("v1"));
        assert_eq!(node.plan(), quiet());
    }

    #[test]
    fn a_file_proven_by_another_kernel_is_proven_again_and_counts_as_installed_meanwhile() {
        let stale = Live {
            digest: digest("v1"),
            ours: true,
            current: false,
        };
        let mut node = Node::new().wants("a/b", unproven("v1"));
        node.live.insert(name("a/b"), stale);
        assert_eq!(
            node.plan(),
            Plan {
                prove: vec![name("a/b")],
                ..quiet()
            }
        );

        let mut node = Node::new().wants("a/b", proven("v1"));
        node.live.insert(name("a/b"), stale);
        assert_eq!(node.plan().write, [name("a/b")], "the record takes the new proof");
    }

    #[test]
    fn a_superseded_file_is_replaced_at_once_even_in_use() {
        let node = Node::new()
            .wants("a/b", proven("v2"))
            .has("a/b", digest("v1"))
            .uses("a/b");
        assert_eq!(
            node.plan(),
            Plan {
                write: vec![name("a/b")],
                pending: 1,
                ..quiet()
            }
        );
    }

    #[test]
    fn a_broken_update_keeps_the_last_good_file_and_says_which() {
        for (state, tried) in [
            (refused(Some("v2"), Refusal::Here), Some(digest("v2"))),
            (refused(None, Refusal::Rule), None),
        ] {
            let plan = Node::new().wants("a/b", state).has("a/b", digest("v1")).plan();
            let failed = Failed {
                profile: "a/b".to_owned(),
                generation: 7,
                reason: "LoadRefused".to_owned(),
                message: "no".to_owned(),
                digest: tried,
                live: Some(digest("v1")),
            };
            assert_eq!(
                plan,
                Plan {
                    failures: vec![failed],
                    ..quiet()
                }
            );
        }
    }

    #[test]
    fn a_broken_new_profile_fails_with_no_live_digest_and_harms_no_other() {
        let plan = Node::new()
            .wants("a/bad", refused(None, Refusal::Rule))
            .wants("a/good", proven("v1"))
            .has("b/old", digest("v3"))
            .wants("b/old", proven("v3"))
            .plan();
        assert_eq!(plan.write, [name("a/good")]);
        assert_eq!(plan.failures.len(), 1);
        assert_eq!(plan.failures[0].live, None);
        assert_eq!(plan.pending, 1, "a failed profile is settled");
    }

    #[test]
    fn a_profile_that_is_not_selected_is_none_of_this_nodes_business() {
        for state in [unproven("v1"), proven("v1"), refused(Some("v1"), Refusal::Here)] {
            assert_eq!(
                Node::new().selecting("a/b", &[("kind", "gpu")], state).plan(),
                quiet()
            );
            assert_eq!(
                Node::new()
                    .selecting("a/b", &[("kind", "worker"), ("zone", "1")], state)
                    .plan(),
                quiet()
            );
        }
    }

    #[test]
    fn a_selected_profile_is_installed() {
        let node = Node::new().selecting("a/b", &[("kind", "worker")], proven("v1"));
        assert_eq!(node.plan().write, [name("a/b")]);
    }

    #[test]
    fn without_the_nodes_labels_a_selector_is_undecided_and_no_selector_is_every_node() {
        let mut node = Node::new()
            .selecting("a/some", &[("kind", "worker")], proven("v1"))
            .selecting("a/live", &[("kind", "worker")], proven("v2"))
            .has("a/live", digest("v1"))
            .wants("a/all", proven("v1"));
        node.labels = None;
        assert_eq!(
            node.plan(),
            Plan {
                write: vec![name("a/all")],
                pending: 3,
                ..quiet()
            }
        );
    }

    #[test]
    fn a_deleted_profile_goes_after_the_grace_and_not_before() {
        let mut node = Node::new().has("a/b", digest("v1"));
        let start = node.now;
        let first = node.plan();
        assert_eq!(
            first,
            Plan {
                unwanted: [(name("a/b"), start)].into(),
                wake: Some(start + GRACE),
                ..quiet()
            }
        );
        let almost = node.later(GRACE.saturating_sub(SECOND));
        assert_eq!((almost.remove, almost.wake), (vec![], Some(start + GRACE)));
        assert_eq!(node.later(SECOND).remove, [name("a/b")]);
    }

    #[test]
    fn files_that_nobody_wants_go_wherever_they_stand_among_wanted_ones_and_no_other_does() {
        let names = ["a/a", "a/b", "a/b.c", "a-a/a", "b/a", "b/b"];
        for wanted in 0..1_u32 << names.len() {
            let mut node = Node::new();
            let mut undesired = Vec::new();
            for (number, profile) in names.into_iter().enumerate() {
                node = node.has(profile, digest("v1"));
                if wanted & (1 << number) == 0 {
                    undesired.push(name(profile));
                } else {
                    node = node.wants(profile, proven("v1"));
                }
            }
            let plan = node.later(GRACE);
            assert_eq!((plan.remove, plan.write), (undesired, vec![]), "{wanted:b}");
        }
    }

    #[test]
    fn a_deselected_profile_goes_after_the_grace() {
        let mut node = Node::new()
            .selecting("a/b", &[("kind", "gpu")], proven("v1"))
            .has("a/b", digest("v1"));
        assert_eq!(node.plan().remove, []);
        assert_eq!(node.later(GRACE).remove, [name("a/b")]);
    }

    #[test]
    fn a_refused_profile_that_is_not_selected_goes_and_one_that_says_nothing_readable_stays() {
        let mut node = Node::new()
            .selecting("a/b", &[("kind", "gpu")], refused(None, Refusal::Rule))
            .has("a/b", digest("v1"));
        assert_eq!(node.later(GRACE).remove, [name("a/b")]);

        let mut node = Node::new().has("a/b", digest("v1"));
        node.desired
            .insert(name("a/b"), (None, refused(None, Refusal::Rule)));
        let plan = node.later(GRACE);
        assert_eq!((plan.remove.len(), plan.failures.len()), (0, 1));
    }

    #[test]
    fn a_file_in_use_is_never_removed_and_goes_when_its_use_ends() {
        let mut node = Node::new().has("a/b", digest("v1")).uses("a/b");
        let plan = node.later(10 * GRACE);
        assert_eq!((plan.remove, plan.wake), (vec![], None));
        node.in_use.clear();
        assert_eq!(node.later(SECOND).remove, [name("a/b")]);
    }

    #[test]
    fn a_mass_deletion_put_back_within_the_grace_changes_nothing() {
        let mut node = Node::new();
        for i in 0..100 {
            node = node.has(&format!("a/p{i}"), digest("v1"));
        }
        assert_eq!(node.later(GRACE.saturating_sub(SECOND)).unwanted.len(), 100);
        for i in 0..100 {
            node = node.wants(&format!("a/p{i}"), unproven("v1"));
        }
        assert_eq!(node.later(2 * SECOND), quiet());
        node.desired.clear();
        assert_eq!(node.later(SECOND).remove, [], "the grace begins anew");
    }

    #[test]
    fn nothing_is_removed_before_profiles_pods_and_node_were_all_seen() {
        for (profiles, pods, node_seen) in [
            (false, true, true),
            (true, false, true),
            (true, true, false),
            (false, false, false),
        ] {
            let mut node = Node::new()
                .has("a/deleted", digest("v1"))
                .has("a/deselected", digest("v1"))
                .selecting("a/deselected", &[("kind", "gpu")], proven("v1"));
            node.profiles_synced = profiles;
            node.pods_synced = pods;
            if !node_seen {
                node.labels = None;
            }
            assert_eq!(node.later(10 * GRACE).remove, [], "{profiles} {pods} {node_seen}");
        }
    }

    #[test]
    fn before_all_profiles_were_seen_an_unseen_one_is_not_yet_unwanted() {
        let mut node = Node::new().has("a/b", digest("v1"));
        node.profiles_synced = false;
        assert_eq!(node.plan(), quiet());
    }

    #[test]
    fn what_is_selected_is_written_before_everything_was_seen() {
        let mut node = Node::new().wants("a/b", proven("v1"));
        node.profiles_synced = false;
        node.pods_synced = false;
        assert_eq!(node.plan().write, [name("a/b")]);
    }

    #[test]
    fn an_unknown_verdict_changes_nothing_on_disk_is_asked_again_and_reported_when_it_stays() {
        let now = Instant::now();
        let again = now + SECOND;
        for (times, failures) in [(1, 0), (2, 0), (3, 1), (9, 1)] {
            let mut node = Node::new()
                .wants("a/b", unanswered("v2", times, again))
                .has("a/b", digest("v1"));
            node.now = now;
            let plan = node.plan();
            assert_eq!((plan.prove.len(), plan.write.len(), plan.remove.len()), (0, 0, 0));
            assert_eq!(plan.wake, Some(again));
            assert_eq!(plan.pending, 0, "settled after its first try");
            assert_eq!(plan.failures.len(), failures, "{times}");
            for failure in &plan.failures {
                assert_eq!(
                    (failure.reason.as_str(), failure.live),
                    ("Unproven", Some(digest("v1")))
                );
            }
            assert_eq!(node.later(SECOND).prove, [name("a/b")]);
        }
    }

    #[test]
    fn an_unknown_verdict_on_what_is_live_is_no_failure() {
        let mut node = Node::new().wants("a/b", unanswered("v1", 9, Instant::now() + GRACE));
        node.live.insert(
            name("a/b"),
            Live {
                digest: digest("v1"),
                ours: true,
                current: false,
            },
        );
        assert_eq!(node.plan().failures, []);
    }

    #[test]
    fn a_new_rule_against_an_unchanged_file_is_a_warning() {
        let plan = Node::new()
            .wants("a/b", refused(Some("v1"), Refusal::Rule))
            .has("a/b", digest("v1"))
            .plan();
        assert_eq!(
            plan,
            Plan {
                tolerated: [(name("a/b"), "no".to_owned())].into(),
                ..quiet()
            }
        );
    }

    #[test]
    fn a_kernel_that_no_longer_takes_an_unchanged_file_is_a_failure_and_the_file_stays() {
        let mut node = Node::new()
            .wants("a/b", refused(Some("v1"), Refusal::Here))
            .has("a/b", digest("v1"));
        let plan = node.later(GRACE);
        assert_eq!(plan.remove, []);
        assert_eq!(
            (plan.failures[0].digest, plan.failures[0].live),
            (Some(digest("v1")), Some(digest("v1")))
        );
    }

    #[test]
    fn files_of_install_are_left_alone_until_an_object_of_their_name_is_written_over_them() {
        let foreign = |current| Live {
            digest: digest("v1"),
            ours: false,
            current,
        };
        let mut node = Node::new();
        node.live.insert(name("a/b"), foreign(true));
        assert_eq!(node.later(GRACE), quiet());

        for state in [
            refused(Some("v2"), Refusal::Here),
            unanswered("v2", 1, node.now + GRACE),
        ] {
            let mut node = Node::new().wants("a/b", state);
            node.live.insert(name("a/b"), foreign(true));
            let plan = node.plan();
            assert_eq!((plan.write.len(), plan.remove.len()), (0, 0));
        }
        let mut node = Node::new().selecting("a/b", &[("kind", "gpu")], proven("v1"));
        node.live.insert(name("a/b"), foreign(true));
        assert_eq!(node.later(GRACE), quiet(), "not selected");

        for state in [proven("v1"), proven("v2")] {
            let mut node = Node::new().wants("a/b", state);
            node.live.insert(name("a/b"), foreign(true));
            assert_eq!(node.plan().write, [name("a/b")], "adopted");
        }
    }

    #[test]
    fn a_file_of_install_that_this_kernel_proved_is_adopted_without_a_second_proof() {
        let mut node = Node::new().wants("a/b", unproven("v1"));
        node.live.insert(
            name("a/b"),
            Live {
                digest: digest("v1"),
                ours: false,
                current: true,
            },
        );
        assert_eq!(
            node.plan(),
            Plan {
                write: vec![name("a/b")],
                pending: 1,
                ..quiet()
            }
        );
        node.live.insert(
            name("a/b"),
            Live {
                digest: digest("v1"),
                ours: false,
                current: false,
            },
        );
        assert_eq!(node.plan().prove, [name("a/b")]);
    }

    #[test]
    fn a_file_whose_record_was_lost_goes_as_if_its_object_had_been_deleted() {
        let mut node = Node::new()
            .found("a/forgotten")
            .found("a/used")
            .uses("a/used")
            .found("a/elsewhere")
            .selecting("a/elsewhere", &[("kind", "gpu")], proven("v1"));
        assert_eq!(node.later(GRACE.saturating_sub(SECOND)).remove, []);
        assert_eq!(
            node.later(SECOND).remove,
            [name("a/elsewhere"), name("a/forgotten")]
        );
        node.in_use.clear();
        assert!(node.later(SECOND).remove.contains(&name("a/used")));
    }

    #[test]
    fn a_file_whose_record_was_lost_is_proven_and_recorded_again_for_an_object_and_stays_until_then() {
        let mut node = Node::new().found("a/b").wants("a/b", unproven("v1"));
        let plan = node.later(GRACE);
        assert_eq!((plan.prove, plan.remove.len()), (vec![name("a/b")], 0));
        let node = Node::new().found("a/b").wants("a/b", proven("v1"));
        assert_eq!(node.plan().write, [name("a/b")]);
        let mut node = Node::new()
            .found("a/b")
            .wants("a/b", refused(Some("v1"), Refusal::Rule));
        let plan = node.later(GRACE);
        assert_eq!((plan.remove.len(), plan.failures.len()), (0, 1));
    }

    #[test]
    fn a_file_whose_record_was_lost_stays_while_not_everything_was_seen() {
        let mut node = Node::new().found("a/b");
        node.profiles_synced = false;
        assert_eq!(node.later(GRACE), quiet());
        node.profiles_synced = true;
        node.pods_synced = false;
        assert_eq!(node.later(2 * GRACE).remove, []);
    }

    #[test]
    fn the_next_plan_is_made_at_the_first_of_all_deadlines() {
        let start = Instant::now();
        let now = start + GRACE;
        let mut node = Node::new()
            .wants("a/retry", unanswered("v1", 1, now + 9 * SECOND))
            .has("a/old", digest("v1"))
            .has("a/older", digest("v1"));
        node.now = now;
        node.unwanted.insert(name("a/older"), start + 5 * SECOND);
        assert_eq!(node.plan().wake, Some(now + 5 * SECOND));
    }

    #[test]
    fn what_the_disk_does_not_take_is_tried_again_and_nobody_waits_for_it() {
        let adopted = Live {
            digest: digest("new"),
            ours: false,
            current: true,
        };
        for (state, live) in [(proven("new"), None), (unproven("new"), Some(adopted))] {
            let mut node = Node::new().wants("shop/web", state).wants("shop/full", state);
            for profile in ["shop/web", "shop/full"] {
                node.live.extend(live.map(|live| (name(profile), live)));
            }
            let refused = Held::ByFile {
                reason: "InputOutput",
                message: "a mount lies there".to_owned(),
            };
            node.held.insert(name("shop/web"), refused);
            node.held.insert(name("shop/full"), Held::ByNode);
            let plan = node.plan();
            assert_eq!(plan.write, [name("shop/full"), name("shop/web")]);
            assert_eq!(plan.pending, 0, "{live:?}");
            let told: Vec<_> = plan
                .failures
                .iter()
                .map(|failed| (failed.profile.as_str(), failed.reason.as_str()))
                .collect();
            assert_eq!(told, [("shop/web", "InputOutput")], "{live:?}");
        }
    }
}
