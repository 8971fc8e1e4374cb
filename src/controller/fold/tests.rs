use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::*;
use crate::controller::judge::judge;
use crate::controller::nodes::{Failure, Report, Trouble};
use crate::controller::status::compose;
use crate::controller::testing::{invalid_verdict, labels, name, valid_verdict};
use crate::profile::{Code, FieldPath, Finding};
use crate::proof::Verdict;

const KEY: &str = "team/web";

/// A cluster and one profile in it.
struct Cluster {
    nodes: Nodes,
    judgement: Judgement,
    status: SeccompProfileStatus,
}

/// What the status of a profile looked like after a fold: Ready, its reason, and whether it had to be written.
#[derive(Debug, PartialEq)]
struct Seen(ConditionStatus, &'static str, bool);

const YES: ConditionStatus = ConditionStatus::True;
const NO: ConditionStatus = ConditionStatus::False;
const UNKNOWN: ConditionStatus = ConditionStatus::Unknown;

impl Cluster {
    fn new(verdict: &Verdict) -> Self {
        Self {
            nodes: Nodes::default(),
            judgement: judge(&name(KEY), 1, verdict),
            status: SeccompProfileStatus::default(),
        }
    }

    /// Nodes with ready agents that are past their first sync and have nothing.
    fn with_nodes(names: &[&str]) -> Self {
        let mut cluster = Self::new(&valid_verdict("one", &[]));
        for node in names {
            cluster.join(node);
        }
        cluster
    }

    fn join(&mut self, node: &str) {
        self.nodes.set_labels(node, labels(&[("name", node)]));
        self.nodes.set_pod(&format!("agent-{node}"), node, true);
        self.report(node, Report::default());
    }

    fn leave(&mut self, node: &str) {
        self.nodes.remove_labels(node);
        self.nodes.remove_report(node);
        self.nodes.remove_pod(&format!("agent-{node}"));
    }

    fn lose_agent(&mut self, node: &str) {
        self.nodes.set_pod(&format!("agent-{node}"), node, false);
    }

    fn report(&mut self, node: &str, report: Report) {
        self.nodes.set_report(
            node,
            Report {
                synced: true,
                ..report
            },
        );
    }

    fn install(&mut self, node: &str) {
        let live = [(&name(KEY), &self.judgement.digest.unwrap())]
            .into_iter()
            .collect();
        self.report(
            node,
            Report {
                live,
                ..Report::default()
            },
        );
    }

    fn fail(&mut self, node: &str, reason: &str, live: Option<&str>) {
        let failure = Failure {
            tried: Tried {
                generation: self.judgement.generation,
                digest: None,
            },
            reason: reason.to_owned(),
            live_digest: live.map(|content| Digest::of(content.as_bytes())),
            message: format!("{node} says {reason}"),
        };
        let failures = [(KEY.to_owned(), failure)].into();
        self.report(
            node,
            Report {
                failures,
                ..Report::default()
            },
        );
    }

    fn trouble(&mut self, node: &str) {
        let trouble = Some(Trouble {
            reason: "StoreNotWritable",
            message: "no space left on device".to_owned(),
        });
        self.report(
            node,
            Report {
                trouble,
                ..Report::default()
            },
        );
    }

    fn update(&mut self, verdict: &Verdict) {
        self.judgement = judge(&name(KEY), self.judgement.generation + 1, verdict);
    }

    /// Folds, and writes what comes of it.
    fn fold(&mut self) -> Seen {
        let rollout = fold(KEY, &self.judgement, &self.nodes, &self.status);
        let reasons = [
            INSTALLED,
            NO_NODES_SELECTED,
            INSTALLING,
            NO_AGENT,
            INSTALL_FAILED,
            INVALID,
            NOT_PROVEN,
        ];
        let reason = reasons
            .into_iter()
            .find(|known| *known == rollout.reason)
            .unwrap();
        let ready = rollout.ready;
        let status = compose(
            &self.status,
            &self.judgement,
            rollout,
            &Time(Timestamp::UNIX_EPOCH),
        );
        let written = status != self.status;
        self.status = status;
        Seen(ready, reason, written)
    }

    fn ready(&self) -> &Condition {
        find(&self.status, READY).unwrap()
    }
}

fn refused() -> Verdict {
    invalid_verdict(&[Finding::new(Code::BadValue, FieldPath::root().key("spec"), "no")])
}

#[test]
fn a_profile_is_ready_once_every_node_has_it_and_not_before() {
    let mut cluster = Cluster::with_nodes(&["a", "b", "c"]);
    assert_eq!(cluster.fold(), Seen(NO, INSTALLING, true));
    cluster.install("a");
    cluster.install("c");
    assert_eq!(
        cluster.fold(),
        Seen(NO, INSTALLING, false),
        "progress is not written"
    );
    cluster.install("b");
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
    assert_eq!(cluster.ready().observed_generation, Some(1));
}

#[test]
fn another_digest_of_the_same_profile_does_not_count() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.install("a");
    cluster.update(&valid_verdict("two", &[]));
    assert_eq!(cluster.fold(), Seen(NO, INSTALLING, true));
}

#[test]
fn ready_is_latched_while_nodes_join_and_leave_and_lose_the_file() {
    let mut cluster = Cluster::with_nodes(&["a", "b"]);
    cluster.install("a");
    cluster.install("b");
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
    cluster.join("c");
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, false));
    cluster.install("c");
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, false));
    cluster.lose_agent("b");
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, false));
    cluster.report("a", Report::default());
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, false));
    for node in ["a", "b", "c"] {
        cluster.leave(node);
        assert_eq!(cluster.fold(), Seen(YES, INSTALLED, false));
    }
}

#[test]
fn a_new_generation_is_judged_anew() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.install("a");
    cluster.fold();
    cluster.update(&valid_verdict("two", &[]));
    assert_eq!(cluster.fold(), Seen(NO, INSTALLING, true));
    cluster.install("a");
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
}

#[test]
fn a_new_generation_of_the_same_bytes_is_ready_at_once() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.install("a");
    cluster.fold();
    cluster.update(&valid_verdict("one", &[("name", "a")]));
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
    assert_eq!(cluster.ready().observed_generation, Some(2));
}

#[test]
fn a_latch_for_other_bytes_of_the_same_generation_does_not_hold() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.install("a");
    cluster.fold();
    cluster.judgement = judge(&name(KEY), 1, &valid_verdict("other", &[]));
    assert_eq!(cluster.fold(), Seen(NO, INSTALLING, true));
}

#[test]
fn a_failure_on_any_node_unsets_ready_and_its_end_sets_it_again() {
    let mut cluster = Cluster::with_nodes(&["a", "b"]);
    cluster.install("a");
    cluster.install("b");
    cluster.fold();
    cluster.join("late");
    cluster.fail("late", "LoadRefused", None);
    assert_eq!(cluster.fold(), Seen(NO, INSTALL_FAILED, true));
    assert_eq!(cluster.status.failures[0].node, "late");
    assert_eq!(cluster.status.failures_total, Some(1));
    assert_eq!(
        cluster.ready().message,
        "Not installed on late: LoadRefused: late says LoadRefused"
    );
    assert_eq!(cluster.fold(), Seen(NO, INSTALL_FAILED, false));
    cluster.install("late");
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
    assert_eq!(
        (cluster.status.failures.len(), cluster.status.failures_total),
        (0, None)
    );
}

#[test]
fn a_failure_of_an_older_generation_says_nothing_about_this_one() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.fail("a", "LoadRefused", None);
    cluster.update(&valid_verdict("two", &[]));
    assert_eq!(cluster.fold(), Seen(NO, INSTALLING, true));
}

#[test]
fn a_failure_of_the_same_bytes_counts_whatever_its_generation() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.fail("a", "LoadRefused", None);
    let mut report = cluster.nodes.iter().next().unwrap().1.report.clone().unwrap();
    report.failures.get_mut(KEY).unwrap().tried.digest = cluster.judgement.digest;
    cluster.report("a", report);
    cluster.update(&valid_verdict("one", &[]));
    assert_eq!(cluster.fold(), Seen(NO, INSTALL_FAILED, true));
}

#[test]
fn a_failure_on_a_node_that_is_not_selected_does_not_count() {
    let mut cluster = Cluster::new(&valid_verdict("one", &[("name", "a")]));
    cluster.join("a");
    cluster.join("b");
    cluster.install("a");
    cluster.fail("b", "LoadRefused", None);
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
}

#[test]
fn a_node_that_cannot_write_fails_what_it_does_not_have_and_nothing_else() {
    let mut cluster = Cluster::with_nodes(&["a", "b"]);
    cluster.install("a");
    cluster.install("b");
    cluster.fold();
    let mut report = cluster.nodes.iter().next().unwrap().1.report.clone().unwrap();
    report.trouble = Some(Trouble {
        reason: "StoreNotWritable",
        message: "full".to_owned(),
    });
    cluster.report("a", report);
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, false));
    cluster.update(&valid_verdict("two", &[]));
    assert_eq!(cluster.fold(), Seen(NO, INSTALL_FAILED, true));
    assert_eq!(cluster.status.failures[0].reason, "StoreNotWritable");
    assert_eq!(cluster.status.failures[0].node, "a");
}

#[test]
fn a_node_that_cannot_write_before_its_first_sync_counts() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.trouble("a");
    let report = cluster.nodes.iter().next().unwrap().1.report.clone().unwrap();
    cluster.nodes.set_report(
        "a",
        Report {
            synced: false,
            ..report
        },
    );
    assert_eq!(cluster.fold(), Seen(NO, INSTALL_FAILED, true));
}

#[test]
fn a_profile_that_failed_beyond_what_a_report_lists_is_not_said_to_be_under_way() {
    let mut cluster = Cluster::with_nodes(&["a", "b"]);
    cluster.install("b");
    let overfull = Report {
        has_unlisted: true,
        ..Report::default()
    };
    cluster.report("a", overfull.clone());
    let rollout = fold(KEY, &cluster.judgement, &cluster.nodes, &cluster.status);
    assert!(rollout.is_installing(), "it may be only a moment late");
    assert_eq!(cluster.fold(), Seen(NO, INSTALL_FAILED, true));
    assert_eq!(
        cluster.ready().message,
        "Not installed on a: NotInstalled: It is not there, and more profiles failed on the node than its report has \
         room for: see the log of the agent on that node."
    );
    cluster.install("a");
    let live = cluster
        .nodes
        .iter()
        .next()
        .unwrap()
        .1
        .report
        .clone()
        .unwrap()
        .live;
    cluster.report("a", Report { live, ..overfull });
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
}

#[test]
fn a_listed_failure_tells_more_than_that_a_report_is_overfull() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.fail("a", "LoadRefused", None);
    let mut report = cluster.nodes.iter().next().unwrap().1.report.clone().unwrap();
    report.has_unlisted = true;
    cluster.report("a", report);
    assert_eq!(cluster.fold(), Seen(NO, INSTALL_FAILED, true));
    assert_eq!(cluster.status.failures[0].reason, "LoadRefused");
}

#[test]
fn an_overfull_report_says_nothing_before_the_first_sync_or_of_an_invalid_profile() {
    let overfull = |synced| Report {
        synced,
        has_unlisted: true,
        ..Report::default()
    };
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.nodes.set_report("a", overfull(false));
    assert_eq!(cluster.fold(), Seen(NO, NO_AGENT, true));
    cluster.nodes.set_report("a", overfull(true));
    cluster.update(&refused());
    assert_eq!(cluster.fold(), Seen(NO, INVALID, true));
    assert_eq!(cluster.status.failures, []);
}

#[test]
fn an_invalid_profile_says_on_how_many_nodes_nobody_can_tell_what_stays() {
    let mut cluster = Cluster::with_nodes(&["a", "b", "c"]);
    cluster.update(&refused());
    assert_eq!(cluster.fold(), Seen(NO, INVALID, true));
    cluster.fail("a", "BadValue", Some("one"));
    let mut listed = cluster.nodes.iter().next().unwrap().1.report.clone().unwrap();
    listed.has_unlisted = true;
    cluster.report("a", listed);
    assert_eq!(cluster.fold(), Seen(NO, INVALID, true));
    assert!(!cluster.ready().message.contains(MAY_STAY), "a says what it has");

    let overfull = Report {
        has_unlisted: true,
        ..Report::default()
    };
    cluster.report("b", overfull.clone());
    assert_eq!(cluster.fold(), Seen(NO, INVALID, true));
    let message = &cluster.ready().message;
    assert!(message.contains("stays in place: sha256:"), "{message}");
    assert!(message.ends_with(&format!("{MAY_STAY} 1 node.")), "{message}");
    cluster.report("c", overfull);
    assert_eq!(cluster.fold(), Seen(NO, INVALID, false), "how many is no news");
}

#[test]
fn nodes_that_share_reason_and_live_digest_share_an_entry() {
    let mut cluster = Cluster::with_nodes(&[]);
    for node in ["n1", "n2", "n3", "n4", "n5", "n6", "n7"] {
        cluster.join(node);
        cluster.fail(node, "LoadRefused", Some("old"));
    }
    cluster.join("a");
    cluster.fail("a", "LoadRefused", None);
    cluster.join("b");
    cluster.fail("b", "CompileFailed", Some("old"));
    assert_eq!(cluster.fold(), Seen(NO, INSTALL_FAILED, true));
    let groups: Vec<_> = cluster
        .status
        .failures
        .iter()
        .map(|failure| (failure.node.as_str(), failure.others, failure.reason.as_str()))
        .collect();
    assert_eq!(
        groups,
        [
            ("n1", Some(6), "LoadRefused"),
            ("a", None, "LoadRefused"),
            ("b", None, "CompileFailed")
        ]
    );
    assert_eq!(cluster.status.failures_total, Some(9));
    let old = Digest::of(b"old").to_string();
    assert_eq!(
        cluster.status.failures[0].live_digest.as_deref(),
        Some(old.as_str())
    );
    let message = &cluster.ready().message;
    assert!(
        message.starts_with("Not installed on n1, n2, n3, n4, n5 and 2 other nodes: LoadRefused:"),
        "{message}"
    );
    assert!(
        message.ends_with(&format!(
            "{} stays in place. 2 more in status.failures.",
            &old[..19]
        )),
        "{message}"
    );
}

#[test]
fn ten_groups_are_listed_and_all_nodes_counted() {
    let mut cluster = Cluster::with_nodes(&[]);
    for i in 0..37 {
        let node = format!("n{i}");
        cluster.join(&node);
        cluster.fail(&node, &format!("Reason{i}"), None);
    }
    cluster.fold();
    assert_eq!(cluster.status.failures.len(), 10);
    assert_eq!(cluster.status.failures_total, Some(37));
}

#[test]
fn other_words_for_the_same_failure_are_not_written() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.fail("a", "LoadRefused", None);
    assert_eq!(cluster.fold(), Seen(NO, INSTALL_FAILED, true));
    let mut report = cluster.nodes.iter().next().unwrap().1.report.clone().unwrap();
    report.failures.get_mut(KEY).unwrap().message = "the same, tried at 12:03".to_owned();
    cluster.report("a", report);
    assert_eq!(cluster.fold(), Seen(NO, INSTALL_FAILED, false));
}

#[test]
fn nodes_that_cannot_be_asked_are_named_and_do_not_hold_it() {
    let mut cluster = Cluster::with_nodes(&["a", "b", "c"]);
    cluster.lose_agent("b");
    cluster.install("a");
    assert_eq!(cluster.fold(), Seen(NO, INSTALLING, true));
    cluster.install("c");
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
    assert!(
        cluster
            .ready()
            .message
            .ends_with("when the rollout completed: b."),
        "{}",
        cluster.ready().message
    );
    cluster.lose_agent("a");
    cluster.lose_agent("c");
    cluster.leave("b");
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, false));
}

#[test]
fn many_nodes_that_cannot_be_asked_are_counted() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.install("a");
    for i in 0..100 {
        let node = format!("gone-{i:02}");
        cluster.join(&node);
        cluster.lose_agent(&node);
    }
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
    assert!(
        cluster.ready().message.ends_with("gone-04 and 95 other nodes."),
        "{}",
        cluster.ready().message
    );
}

#[test]
fn where_no_agent_can_be_asked_nothing_is_ready() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.lose_agent("a");
    assert_eq!(cluster.fold(), Seen(NO, NO_AGENT, true));
    cluster.nodes.set_pod("agent-a", "a", true);
    assert_eq!(
        cluster.fold(),
        Seen(NO, NO_AGENT, false),
        "pods that come and go are not written"
    );
    cluster.install("a");
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
}

#[test]
fn nodes_without_an_agent_past_its_first_sync_are_named_and_not_waited_for() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.install("a");
    cluster.nodes.set_labels("no-agent", labels(&[]));
    cluster.join("starting");
    cluster.nodes.set_report("starting", Report::default());
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
    let message = &cluster.ready().message;
    assert!(
        !message.contains("every selected node.")
            && message.contains("first sync then: no-agent, starting. "),
        "{message}"
    );
    cluster.join("later");
    assert_eq!(
        cluster.fold(),
        Seen(YES, INSTALLED, false),
        "nodes that join are not written"
    );
}

#[test]
fn where_every_selected_node_has_it_and_only_there_the_message_says_so() {
    let mut cluster = Cluster::with_nodes(&["a", "b"]);
    cluster.install("a");
    cluster.install("b");
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
    assert_eq!(cluster.ready().message, "Installed on every selected node.");
}

#[test]
fn a_report_without_a_node_object_does_not_count() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.install("a");
    cluster.report("ghost", Report::default());
    cluster.fail("ghost", "LoadRefused", None);
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
}

#[test]
fn no_selected_node_is_ready_and_says_so_until_one_has_it() {
    let mut cluster = Cluster::new(&valid_verdict("one", &[("name", "gpu")]));
    cluster.join("a");
    assert_eq!(cluster.fold(), Seen(YES, NO_NODES_SELECTED, true));
    assert!(cluster.ready().message.contains("spec.nodeSelector"));
    cluster.join("gpu");
    assert_eq!(cluster.fold(), Seen(YES, NO_NODES_SELECTED, false));
    cluster.lose_agent("gpu");
    assert_eq!(cluster.fold(), Seen(YES, NO_NODES_SELECTED, false));
    cluster.install("gpu");
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
}

#[test]
fn an_empty_cluster_selects_no_node() {
    let mut cluster = Cluster::with_nodes(&[]);
    assert_eq!(cluster.fold(), Seen(YES, NO_NODES_SELECTED, true));
}

#[test]
fn an_invalid_update_is_not_ready_and_says_what_stays_where() {
    let mut cluster = Cluster::with_nodes(&["a", "b"]);
    cluster.install("a");
    cluster.install("b");
    cluster.fold();
    cluster.update(&refused());
    assert_eq!(cluster.fold(), Seen(NO, INVALID, true));
    assert_eq!(
        cluster.ready().message,
        "Not installed: the profile is invalid, see condition Valid."
    );
    cluster.fail("a", "Invalid", Some("one"));
    cluster.fail("b", "Invalid", Some("one"));
    assert_eq!(cluster.fold(), Seen(NO, INVALID, true));
    let live = Digest::of(b"one").to_string();
    assert_eq!(cluster.status.failures[0].live_digest.as_ref(), Some(&live));
    assert_eq!(
        cluster.ready().message,
        format!(
            "Not installed: the profile is invalid, see condition Valid. The last good version stays in place: {} on a, b.",
            &live[..19]
        )
    );
    cluster.update(&valid_verdict("two", &[]));
    assert_eq!(cluster.fold(), Seen(NO, INSTALLING, true));
}

#[test]
fn a_node_that_cannot_write_is_no_failure_of_an_invalid_profile() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.trouble("a");
    cluster.update(&refused());
    assert_eq!(cluster.fold(), Seen(NO, INVALID, true));
    assert_eq!(cluster.status.failures, []);
}

#[test]
fn what_could_not_be_proven_is_neither_ready_nor_not() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.update(&Verdict::Unknown("out of processes".to_owned()));
    assert_eq!(cluster.fold(), Seen(UNKNOWN, NOT_PROVEN, true));
}

#[test]
fn a_status_that_others_wrote_is_put_right() {
    let mut cluster = Cluster::with_nodes(&["a"]);
    cluster.install("a");
    cluster.fold();
    let right = cluster.status.clone();
    cluster
        .status
        .conditions
        .retain(|condition| condition.type_ != READY);
    cluster.status.digest = None;
    assert_eq!(cluster.fold(), Seen(YES, INSTALLED, true));
    assert_eq!(cluster.status.digest, right.digest);
    assert_eq!(find(&cluster.status, READY).unwrap().reason, INSTALLED);
}

#[test]
fn a_thousand_nodes_complete_one_by_one_with_two_writes() {
    let names: Vec<_> = (0..1000).map(|i| format!("node-{i:04}")).collect();
    let mut cluster = Cluster::with_nodes(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut writes = u32::from(cluster.fold().2);
    for node in &names {
        cluster.install(node);
        writes += u32::from(cluster.fold().2);
    }
    assert_eq!(cluster.ready().status, YES);
    assert_eq!(writes, 2);
}

#[test]
fn messages_stay_bounded_whatever_nodes_report() {
    let mut cluster = Cluster::with_nodes(&[]);
    for i in 0..50 {
        let node = format!("{}{i}", "n".repeat(250));
        cluster.join(&node);
        cluster.fail(&node, &format!("{}{i}", "R".repeat(60)), Some(&node));
    }
    cluster.fold();
    assert!(cluster.ready().message.len() <= MAX_MESSAGE);
    cluster.update(&refused());
    cluster.fold();
    assert!(cluster.ready().message.len() <= MAX_MESSAGE);
}
