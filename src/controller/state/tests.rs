use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::*;
use crate::api::{SeccompNodeReport, SeccompProfileStatus};
use crate::controller::nodes::Report;
use crate::controller::status::STALLED;
use crate::controller::testing::{invalid_verdict, labels, name, valid_verdict};
use crate::profile::{Code, Digest, FieldPath, Finding};
use crate::proof::{Refused, RefusedBy};

/// A controller in a world of its own time.
struct World {
    state: State,
    now: Instant,
    /// What the API server holds.
    objects: BTreeMap<String, RawSeccompProfile>,
    version: u64,
    proofs: VecDeque<ObjectVersion>,
    untaints: Vec<Removal>,
    writes: VecDeque<(ObjectVersion, SeccompProfileStatus)>,
    /// The reasons of what is told.
    news: Vec<&'static str>,
}

impl World {
    /// A leader that has seen an empty cluster.
    fn new() -> Self {
        let mut world = Self::unsynced();
        for watched in Watched::ALL {
            world.event(Event::Synced(watched));
        }
        world.event(Event::Leading(true));
        world
    }

    fn unsynced() -> Self {
        Self {
            state: State::default(),
            now: Instant::now(),
            objects: BTreeMap::new(),
            version: 0,
            proofs: VecDeque::new(),
            untaints: Vec::new(),
            writes: VecDeque::new(),
            news: Vec::new(),
        }
    }

    fn event(&mut self, event: Event) {
        self.state.apply(event, self.now);
        for action in self
            .state
            .next(self.now, &Time::from(k8s_openapi::jiff::Timestamp::UNIX_EPOCH))
        {
            match action {
                Action::Prove(version, _) => self.proofs.push_back(version),
                Action::Write(version, write) => {
                    self.news.extend(write.news.iter().map(|news| news.reason));
                    self.writes.push_back((version, write.status));
                }
                Action::Untaint(removal) => self.untaints.push(removal),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.event(Event::PodGone("none".to_owned()));
    }

    fn observe(&mut self, key: &str) {
        self.event(Event::Profile(Box::new(self.objects[key].clone())));
    }

    /// Somebody writes a spec.
    fn apply(&mut self, key: &str, spec: &Value) {
        self.version += 1;
        let (namespace, name) = key.split_once('/').unwrap();
        let object = self
            .objects
            .entry(key.to_owned())
            .or_insert_with(|| RawSeccompProfile {
                metadata: ObjectMeta {
                    namespace: Some(namespace.to_owned()),
                    name: Some(name.to_owned()),
                    uid: Some(format!("uid-{}", self.version)),
                    generation: Some(0),
                    ..ObjectMeta::default()
                },
                spec: Value::Null,
                status: Value::Null,
            });
        object.spec = spec.clone();
        object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
        object.metadata.resource_version = Some(self.version.to_string());
        self.observe(key);
    }

    fn delete(&mut self, key: &str) {
        self.objects.remove(key);
        self.event(Event::ProfileGone(key.to_owned()));
    }

    fn prove(&mut self, verdict: &Verdict) {
        let version = self.proofs.pop_front().expect("no proof was asked for");
        self.event(Event::Proven(version, Box::new(verdict.clone())));
    }

    /// The API server takes the next write; the watch has not said so yet.
    fn accept(&mut self) -> SeccompProfileStatus {
        self.accept_without("nothing")
    }

    /// It takes all but this field, which its definition does not have.
    fn accept_without(&mut self, field: &str) -> SeccompProfileStatus {
        let (version, status) = self.writes.pop_front().expect("nothing was written");
        self.version += 1;
        let object = self.objects.get_mut(&version.key).unwrap();
        object.status = serde_json::to_value(&status).unwrap();
        object.status.as_object_mut().unwrap().remove(field);
        object.metadata.resource_version = Some(self.version.to_string());
        let answer = Box::new(object.clone());
        self.event(Event::Written(version, Ok(answer)));
        status
    }

    fn refuse(&mut self) {
        let (version, _) = self.writes.pop_front().expect("nothing was written");
        self.event(Event::Written(version, Err("conflict".to_owned())));
    }

    fn join(&mut self, node: &str) {
        self.event(Event::Node(node.to_owned(), labels(&[])));
        self.event(Event::Pod(format!("agent-{node}"), node.to_owned(), true));
        self.report(node, &[]);
    }

    fn report(&mut self, node: &str, live: &[(&str, &str)]) {
        let live: Vec<_> = live
            .iter()
            .map(|(key, content)| (name(key), Digest::of(content.as_bytes())))
            .collect();
        let report = Report {
            live: live.iter().map(|(name, digest)| (name, digest)).collect(),
            synced: true,
            ..Report::default()
        };
        self.event(Event::Report(node.to_owned(), Box::new(report)));
    }
}

fn reason<'a>(status: &'a SeccompProfileStatus, type_: &str) -> &'a str {
    &find(status, type_).unwrap().reason
}

fn refused() -> Verdict {
    invalid_verdict(&[Finding::new(Code::BadValue, FieldPath::root(), "no")])
}

fn unknown() -> Verdict {
    Verdict::Unknown("out of processes".to_owned())
}

#[test]
fn nothing_is_done_before_every_watch_has_shown_everything() {
    let mut world = World::unsynced();
    world.event(Event::Leading(true));
    world.apply("team/web", &json!({}));
    for watched in &Watched::ALL[1..] {
        world.event(Event::Synced(*watched));
    }
    assert_eq!((world.proofs.len(), world.state.is_synced()), (0, false));
    world.event(Event::Synced(Watched::Profiles));
    assert_eq!((world.proofs.len(), world.state.is_synced()), (1, true));
}

#[test]
fn a_fast_node_makes_one_write_say_valid_and_ready() {
    let mut world = World::new();
    world.join("a");
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    assert_eq!(world.writes.len(), 0);
    world.report("a", &[("team/web", "one")]);
    let status = world.accept();
    assert_eq!(
        (reason(&status, VALID), reason(&status, READY)),
        ("Proven", "Installed")
    );
    world.pass(Duration::from_secs(3600));
    world.observe("team/web");
    assert_eq!(world.writes.len(), 0);
}

#[test]
fn a_slow_node_makes_two_writes() {
    let mut world = World::new();
    world.join("a");
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    assert!(world.state.wake_at().is_some());
    world.pass(COMBINE);
    assert_eq!(reason(&world.accept(), READY), "Installing");
    world.report("a", &[("team/web", "one")]);
    assert_eq!(reason(&world.accept(), READY), "Installed");
    assert_eq!(world.writes.len(), 0);
}

#[test]
fn an_invalid_profile_is_said_to_be_at_once() {
    let mut world = World::new();
    world.join("a");
    world.apply("team/web", &json!({}));
    world.prove(&refused());
    assert_eq!(reason(&world.accept(), VALID), "BadValue");
}

#[test]
fn nodes_and_pods_that_come_and_go_cause_no_write() {
    let mut world = World::new();
    world.join("a");
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    world.report("a", &[("team/web", "one")]);
    world.accept();
    for i in 0..10 {
        let node = format!("new-{i}");
        world.join(&node);
        world.report(&node, &[("team/web", "one")]);
        world.event(Event::Pod(format!("agent-{node}"), node.clone(), false));
        world.event(Event::PodGone(format!("agent-{node}")));
        world.event(Event::ReportGone(node.clone()));
        world.event(Event::NodeGone(node));
        world.pass(Duration::from_secs(60));
    }
    assert_eq!(world.writes.len(), 0);
}

#[test]
fn a_result_for_an_older_generation_is_dropped_and_the_new_one_proven() {
    let mut world = World::new();
    world.apply("team/web", &json!({"v": 1}));
    world.apply("team/web", &json!({"v": 2}));
    assert_eq!(world.proofs.len(), 1, "one proof at a time");
    world.prove(&refused());
    assert_eq!(world.writes.len(), 0);
    assert_eq!(world.proofs[0].generation, 2);
    world.prove(&valid_verdict("two", &[]));
    assert_eq!(world.accept().observed_generation, Some(2));
}

#[test]
fn a_result_for_a_deleted_object_says_nothing_about_its_successor() {
    let mut world = World::new();
    world.apply("team/web", &json!({}));
    world.delete("team/web");
    world.apply("team/web", &json!({}));
    world.prove(&refused());
    assert_eq!(world.writes.len(), 0);
    world.prove(&valid_verdict("one", &[]));
    assert_eq!(reason(&world.accept(), VALID), "Proven");
}

#[test]
fn a_profile_that_is_put_back_is_ready_at_once_where_its_file_never_went() {
    let mut world = World::new();
    world.join("a");
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    world.report("a", &[("team/web", "one")]);
    assert_eq!(reason(&world.accept(), READY), "Installed");
    world.delete("team/web");
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    assert_eq!(reason(&world.accept(), READY), "Installed");
    world.delete("team/web");
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("two", &[]));
    world.pass(COMBINE);
    assert_eq!(reason(&world.accept(), READY), "Installing");
}

#[test]
fn a_label_on_the_object_causes_no_proof() {
    let mut world = World::new();
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    world.accept();
    world.version += 1;
    let version = world.version.to_string();
    world
        .objects
        .get_mut("team/web")
        .unwrap()
        .metadata
        .resource_version = Some(version);
    world.observe("team/web");
    assert_eq!((world.proofs.len(), world.writes.len()), (0, 0));
}

#[test]
fn what_cannot_be_proven_is_tried_again_and_said_only_when_it_lasts() {
    let mut world = World::new();
    world.apply("team/web", &json!({}));
    world.prove(&unknown());
    assert_eq!((world.proofs.len(), world.writes.len()), (0, 0));
    world.pass(Duration::from_millis(900));
    assert_eq!(world.proofs.len(), 0);
    world.pass(Duration::from_millis(100));
    world.prove(&unknown());
    assert_eq!(reason(&world.accept(), VALID), "TestLoadUnavailable");
    world.pass(Duration::from_secs(2));
    world.prove(&valid_verdict("one", &[]));
    assert_eq!(reason(&world.accept(), VALID), "Proven");
}

#[test]
fn a_last_good_generation_keeps_its_status_while_the_next_cannot_be_proven() {
    let mut world = World::new();
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    world.accept();
    world.apply("team/web", &json!({"v": 2}));
    world.prove(&unknown());
    assert_eq!(world.writes.len(), 0);
}

#[test]
fn what_an_earlier_controller_proved_stays_said_while_it_cannot_be_proven_again() {
    for (first, again) in [
        (valid_verdict("one", &[]), valid_verdict("one", &[])),
        (refused(), refused()),
    ] {
        let mut world = World::new();
        world.apply("team/web", &json!({}));
        world.prove(&first);
        let said = world.accept();
        let mut restarted = World {
            objects: world.objects,
            version: world.version,
            ..World::new()
        };
        restarted.observe("team/web");
        for _ in 0..10 {
            restarted.prove(&unknown());
            assert_eq!(restarted.writes, []);
            restarted.pass(Duration::from_secs(3600));
        }
        restarted.prove(&again);
        assert_eq!(restarted.writes, [], "{said:?}");
        restarted.apply("team/web", &json!({"v": 2}));
        restarted.prove(&unknown());
        restarted.pass(Duration::from_secs(3600));
        restarted.prove(&unknown());
        assert_eq!(reason(&restarted.accept(), VALID), "TestLoadUnavailable");
    }
}

#[test]
fn a_newer_controller_keeps_an_unchanged_profile_valid_that_its_rules_refuse_and_says_so_once() {
    let digest = Digest::of(b"one");
    let refused_now = Verdict::Invalid(Refused {
        by: RefusedBy::Rule,
        digest: Some(digest),
        node_selector: Some(labels(&[])),
        findings: Finding::new(Code::BadValue, FieldPath::root(), "no longer").into(),
    });
    let mut world = World::new();
    world.join("a");
    world.report("a", &[("team/web", "one")]);
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    world.accept();

    let mut upgraded = World {
        objects: world.objects,
        version: world.version,
        ..World::new()
    };
    upgraded.join("a");
    upgraded.report("a", &[("team/web", "one")]);
    upgraded.observe("team/web");
    upgraded.prove(&refused_now);
    let said = upgraded.accept();
    assert_eq!(reason(&said, VALID), "ProvenBeforeNewerRule");
    assert_eq!(reason(&said, READY), "Installed");
    assert_eq!((said.findings.len(), find(&said, STALLED)), (1, None));
    upgraded.pass(Duration::from_secs(3600));
    upgraded.observe("team/web");
    assert_eq!(upgraded.writes, []);

    // A node that joins refuses it.
    upgraded.join("b");
    let failed = json!({"failures": [{"reason": "BadValue", "total": 1, "profiles": [
        {"profile": "team/web", "generation": 1, "digest": digest.to_string(), "message": "no longer"},
    ]}]});
    let report: SeccompNodeReport = serde_json::from_value(failed).unwrap();
    upgraded.event(Event::Report("b".to_owned(), Box::new(report.into())));
    let said = upgraded.accept();
    assert_eq!(find(&said, VALID).unwrap().status, ConditionStatus::True);
    assert_eq!(reason(&said, READY), "InstallFailed");

    upgraded.apply("team/web", &json!({"v": 2}));
    upgraded.prove(&refused_now);
    assert_eq!(reason(&upgraded.accept(), VALID), "BadValue");
}

#[test]
fn a_version_that_is_no_number_hides_nothing_that_comes_after_it() {
    let mut world = World::new();
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    world.accept();
    let object = world.objects.get_mut("team/web").unwrap();
    object.metadata.resource_version = Some("opaque".to_owned());
    object.metadata.generation = Some(2);
    world.observe("team/web");
    world.prove(&valid_verdict("two", &[]));
    assert_eq!(world.accept().observed_generation, Some(2));
    world.apply("team/web", &json!({"v": 3}));
    world.prove(&valid_verdict("three", &[]));
    assert_eq!(world.accept().observed_generation, Some(3));
}

#[test]
fn a_failed_write_is_tried_again_later_and_harms_no_other_profile() {
    let mut world = World::new();
    world.apply("team/web", &json!({}));
    world.apply("team/api", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    world.refuse();
    world.prove(&valid_verdict("two", &[]));
    assert_eq!(
        world.accept().localhost_profile.unwrap(),
        "callgate/team/api.json"
    );
    world.observe("team/web");
    assert_eq!(world.writes.len(), 0);
    world.pass(Duration::from_secs(1));
    world.refuse();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.writes.len(), 0);
    world.pass(Duration::from_secs(1));
    world.accept();
}

#[test]
fn a_status_that_another_writes_is_put_right_at_a_bounded_rate() {
    let mut world = World::new();
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    let right = world.accept();
    let mut writes = 0;
    for _ in 0..100 {
        world.version += 1;
        let object = world.objects.get_mut("team/web").unwrap();
        object.status = json!({"digest": "nonsense", "conditions": 3});
        object.metadata.resource_version = Some(world.version.to_string());
        world.observe("team/web");
        while !world.writes.is_empty() {
            assert_eq!(world.accept(), right);
            writes += 1;
        }
        world.pass(Duration::from_secs(1));
    }
    assert!((5..=13).contains(&writes), "{writes}");
    world.pass(Duration::from_secs(10));
    while !world.writes.is_empty() {
        world.accept();
    }
    assert_eq!(
        world.objects["team/web"].status,
        serde_json::to_value(&right).unwrap()
    );
}

#[test]
fn what_an_older_definition_leaves_out_of_a_status_is_not_written_again_and_changes_are() {
    let mut world = World::new();
    world.apply("team/web", &json!({}));
    world.prove(&refused());
    let written = world.accept_without("findingsTotal");
    assert!(written.findings_total.is_some());
    for _ in 0..10 {
        world.observe("team/web");
        world.pass(Duration::from_secs(20));
        assert_eq!(world.writes, []);
    }
    world.objects.get_mut("team/web").unwrap().status = json!({});
    world.observe("team/web");
    assert_eq!(world.accept_without("findingsTotal"), written, "another's change");
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    assert_eq!(world.accept_without("findingsTotal").findings_total, None);
    assert_eq!(world.writes, []);
}

#[test]
fn what_a_watch_says_late_does_not_undo_what_was_written() {
    let mut world = World::new();
    world.apply("team/web", &json!({}));
    let old = world.objects["team/web"].clone();
    world.prove(&valid_verdict("one", &[]));
    world.accept();
    world.event(Event::Profile(Box::new(old)));
    assert_eq!(world.writes.len(), 0);
}

#[test]
fn one_write_at_a_time() {
    let mut world = World::new();
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    assert_eq!(world.writes.len(), 1);
    world.apply("team/web", &json!({"v": 2}));
    world.prove(&refused());
    assert_eq!(world.writes.len(), 1, "the first has not ended");
    world.accept();
    assert_eq!(reason(&world.accept(), VALID), "BadValue");
}

#[test]
fn who_does_not_lead_proves_and_writes_nothing_until_it_leads() {
    let mut world = World::new();
    world.event(Event::Leading(false));
    world.apply("team/web", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    world.pass(Duration::from_secs(60));
    assert_eq!(world.writes.len(), 0);
    world.event(Event::Leading(true));
    assert_eq!(reason(&world.accept(), VALID), "Proven");
    assert_eq!(world.proofs.len(), 0, "it was proven before");
}

#[test]
fn who_no_longer_leads_writes_nothing_and_once_it_leads_again_what_was_stopped() {
    let mut world = World::new();
    world.apply("team/web", &json!({}));
    world.prove(&refused());
    assert_eq!(world.writes.len(), 1);
    world.event(Event::Leading(false));
    // What was under way was stopped, and nobody says how it ended.
    world.writes.clear();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.writes.len(), 0);
    world.event(Event::Leading(true));
    assert_eq!(reason(&world.accept(), VALID), "BadValue");
}

#[test]
fn what_became_so_is_told_once_and_not_again_by_the_next_leader() {
    let mut world = World::new();
    world.apply("team/web", &json!({}));
    world.prove(&refused());
    world.accept();
    world.observe("team/web");
    assert_eq!(world.news, ["Invalid"]);
    world.pass(Duration::from_secs(60));

    let mut next = World::new();
    next.version = world.version;
    next.objects = world.objects;
    next.observe("team/web");
    next.prove(&refused());
    next.pass(Duration::from_secs(60));
    assert_eq!((next.news.len(), next.writes.len()), (0, 0));
}

#[test]
fn a_namespace_with_many_profiles_does_not_keep_others_waiting() {
    let mut world = World::new();
    for i in 0..100 {
        world.apply(&format!("greedy/p{i}"), &json!({}));
    }
    assert_eq!(world.proofs.len(), PROOFS_PER_NAMESPACE);
    world.apply("modest/web", &json!({}));
    assert_eq!(world.proofs.len(), PROOFS_PER_NAMESPACE + 1);
    let mut proven = 0;
    while !world.proofs.is_empty() {
        world.prove(&refused());
        proven += 1;
    }
    assert_eq!(proven, 101);
    assert!(world.state.proving.is_empty() && world.state.waiting.is_empty());
}

#[test]
fn profiles_deleted_while_they_wait_do_not_hold_up_the_rest() {
    let mut world = World::new();
    for i in 0..30 {
        world.apply(&format!("team/p{i}"), &json!({}));
    }
    for i in PROOFS_PER_NAMESPACE..29 {
        world.delete(&format!("team/p{i}"));
    }
    let mut proven = Vec::new();
    while let Some(version) = world.proofs.front() {
        proven.push(version.key.clone());
        world.prove(&refused());
    }
    assert_eq!(proven.last().unwrap(), "team/p29");
}

#[test]
fn a_name_that_is_no_file_name_is_judged_without_a_proof() {
    let mut world = World::new();
    let key = format!("team/{}", "x".repeat(253));
    world.apply(&key, &json!({}));
    assert_eq!(world.proofs.len(), 0);
    assert_eq!(reason(&world.accept(), VALID), "BadName");
    world.apply(&key, &json!({"v": 2}));
    assert_eq!(world.accept().observed_generation, Some(2));
}

#[test]
fn a_change_of_one_report_looks_only_at_the_profiles_that_differ() {
    let mut world = World::new();
    world.join("a");
    for key in ["team/one", "team/two", "team/three"] {
        world.apply(key, &json!({}));
        world.prove(&valid_verdict(key, &[]));
    }
    let report = |live: &[&str]| {
        let live: Vec<_> = live
            .iter()
            .map(|key| (name(key), Digest::of(key.as_bytes())))
            .collect();
        let live = live.iter().map(|(name, digest)| (name, digest)).collect();
        Event::Report(
            "a".to_owned(),
            Box::new(Report {
                live,
                synced: true,
                ..Report::default()
            }),
        )
    };
    world.state.apply(report(&["team/two"]), world.now);
    assert_eq!(world.state.dirty, ["team/two".to_owned()].into());
    world.state.apply(report(&["team/one", "team/two"]), world.now);
    assert_eq!(world.state.dirty.len(), 2);
}

#[test]
fn counts_are_by_what_status_says() {
    let mut world = World::new();
    world.apply("team/good", &json!({}));
    world.prove(&valid_verdict("one", &[]));
    world.accept();
    world.apply("team/bad", &json!({}));
    world.prove(&refused());
    world.accept();
    world.apply("team/new", &json!({}));
    assert_eq!(
        world.state.counts(),
        [
            (("true", "true"), 1),
            (("false", "false"), 1),
            (("unknown", "unknown"), 1)
        ]
        .into()
    );
}

#[test]
fn only_who_leads_takes_startup_taints_off_and_the_next_leader_those_that_were_stopped() {
    let mut world = World::new();
    world.event(Event::Leading(false));
    world.event(Event::StartupTaint {
        node: "a".to_owned(),
        uid: "uid".to_owned(),
        position: Some(1),
    });
    let report = Report {
        synced: true,
        node_uid: Some("uid".to_owned()),
        ..Report::default()
    };
    world.event(Event::Report("a".to_owned(), Box::new(report)));
    assert!(world.untaints.is_empty());
    assert_eq!(world.state.wake_at(), None);
    world.event(Event::Leading(true));
    assert_eq!(world.untaints.len(), 1);
    world.event(Event::Leading(false));
    world.event(Event::Leading(true));
    assert_eq!(world.untaints.len(), 2, "whether the first arrived is not known");
    let removal = world.untaints[1].clone();
    world.event(Event::Untainted(removal.clone(), Err("no answer".to_owned())));
    assert_eq!(world.untaints.len(), 2);
    let wake = world.state.wake_at().unwrap();
    world.pass(wake - world.now);
    assert_eq!(world.untaints.len(), 3);
    world.event(Event::Untainted(removal, Ok(())));
    assert_eq!(world.state.wake_at(), None);
}
