//! Everything that the two processes do in a cluster, and the rights that they do it with.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Error, Result, ensure};
use callgate::api::{
    Condition, ConditionStatus, Failure, FailureGroup, LiveSet, RawSeccompProfile, SeccompNode,
    SeccompNodeReport, SeccompProfileStatus,
};
use callgate::profile::{ProfileName, parse_spec};
use harness::{
    AGENT_SERVICE_ACCOUNT, Audited, CONTROLLER_SERVICE_ACCOUNT, Cluster, NAMESPACE, Program, eventually,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::install;
use crate::right::{FORBIDDEN, granted, lacking, spare};

/// The namespace of the profiles.
const TEAM: &str = "team";
/// The key of the startup taint, as the chart has it.
const TAINT: &str = "callgate.dev/agent-not-ready";
const LEASE: &str = "callgate-controller";

/// A cluster where things happen.
struct Life {
    cluster: Cluster,
    admin: Client,
    /// The requests that were made while an API server started. It refuses what it does not yet know the rights to.
    starting: Range<usize>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_whole_life_every_right_is_used_and_nothing_else_is_tried() -> Result<()> {
    let cluster = Cluster::start_audited().await?;
    install(&cluster, &[]).await?;
    cluster.namespace(TEAM).await?;
    let admin = cluster.admin().await?;
    let mut life = Life {
        cluster,
        admin,
        starting: 0..0,
    };

    life.live().await.map_err(|error| life.with_refusals(error))
}

impl Life {
    /// All of it.
    async fn live(&mut self) -> Result<()> {
        let first = self.controller("1", None).await?;
        let _north = self.agent("north").await?;
        self.profiles_come_and_go().await?;
        self.a_node_and_its_report_change().await?;
        self.a_rollout_fails_and_recovers().await?;
        let second = self.leaders_change(first).await?;
        self.the_api_server_restarts().await?;
        self.uses_what_is_granted().await?;

        install(&self.cluster, &["--set=agent.startupTaint.enabled=true"]).await?;
        second.terminate().await?;
        let third = self.a_startup_taint_goes().await?;
        self.uses_what_is_granted()
            .await
            .context("with the startup taint")?;

        install(&self.cluster, &[]).await?;
        third.terminate().await?;
        let since = self.cluster.audited()?.len();
        let _fourth = self.controller("4", None).await?;
        self.install_profile("last", 9).await?;
        self.lacks_nothing(since)
            .await
            .context("without the startup taint again")
    }

    async fn controller(&self, suffix: &str, taint: Option<&str>) -> Result<Program> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callgate"));
        if let Some(taint) = taint {
            command.env("CALLGATE_STARTUP_TAINT", taint);
        }
        let mut controller = self.cluster.start_controller_with(command, suffix).await?;
        controller.ready().await?;
        Ok(controller)
    }

    async fn agent(&self, node: &str) -> Result<Program> {
        let root = self.cluster.directory().join(node);
        std::fs::create_dir(&root)?;
        let callgate = Path::new(env!("CARGO_BIN_EXE_callgate"));
        let mut agent = self.cluster.start_agent(callgate, node, &root, "1s").await?;
        agent.ready().await?;
        Ok(agent)
    }

    /// Valid and invalid ones, changed, used, and deleted while they are used and while they are not.
    async fn profiles_come_and_go(&self) -> Result<()> {
        self.install_profile("web", 1).await?;
        self.apply("bad", &contradiction()).await?;
        self.wait("bad", "Valid", "Contradiction").await?;
        self.install_profile("bad", 2).await?;
        self.install_profile("web", 3).await?;

        let pods = Api::<Pod>::namespaced(self.admin.clone(), TEAM);
        let web = json!({"type": "Localhost", "localhostProfile": format!("callgate/{TEAM}/web.json")});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {
                "securityContext": {"seccompProfile": web},
                "containers": [{"name": "web", "image": "web"}],
            },
        }))?;
        pods.create(&PostParams::default(), &pod).await?;
        self.cluster.run_pod(TEAM, "web", "north").await?;
        self.reported("web in use", |report| {
            ensure!(report.spec.in_use == [format!("{TEAM}/web")], "{report:?}");
            Ok(())
        })
        .await?;
        let insist = json!({"metadata": {"annotations": {"callgate.dev/allow-delete-in-use": "true"}}});
        self.profiles()
            .patch("web", &PatchParams::default(), &Patch::Merge(insist))
            .await?;
        for profile in ["web", "bad"] {
            self.profiles().delete(profile, &DeleteParams::default()).await?;
        }
        self.has_file("bad", false).await?;
        self.has_file("web", true).await?;
        pods.delete("web", &DeleteParams::default().grace_period(0))
            .await?;
        Ok(())
    }

    /// Other labels, a report that somebody deletes, and another Node of the same name.
    async fn a_node_and_its_report_change(&self) -> Result<()> {
        let labelled = json!({"defaultAction": "SCMP_ACT_ALLOW", "nodeSelector": {"role": "web"}});
        self.apply("labelled", &labelled).await?;
        self.wait("labelled", "Ready", "NoNodesSelected").await?;
        let nodes = Api::<Node>::all(self.admin.clone());
        for (role, selected) in [(json!("web"), true), (Value::Null, false)] {
            let labels = json!({"metadata": {"labels": {"role": role}}});
            nodes
                .patch("north", &PatchParams::default(), &Patch::Merge(labels))
                .await?;
            self.has_file("labelled", selected).await?;
        }

        let reports = Api::<SeccompNode>::all(self.admin.clone());
        let lost = reports.get("north").await?.uid();
        reports.delete("north", &DeleteParams::default()).await?;
        self.reported("again", |report| {
            ensure!(report.uid() != lost, "it is the one before");
            Ok(())
        })
        .await?;
        nodes.delete("north", &DeleteParams::default()).await?;
        let node = self.cluster.node("north", &[]).await?;
        self.reported("for the new Node", |report| {
            ensure!(report.owner_references()[0].uid == node.uid().unwrap_or_default());
            Ok(())
        })
        .await
    }

    /// On a node whose agent is this test; the same news twice.
    async fn a_rollout_fails_and_recovers(&self) -> Result<()> {
        self.cluster.node("south", &[]).await?;
        self.cluster.agent_pod("south").await?;
        let spec = denies(5, "south");
        self.apply("rollout", &spec).await?;
        for (installed, reason) in [(true, "Installed"), (false, "InstallFailed"), (true, "Installed")] {
            self.report_from_south(&spec, installed).await?;
            self.wait("rollout", "Ready", reason).await?;
        }
        let events = Api::<Event>::namespaced(self.admin.clone(), TEAM);
        eventually("news to be told again", async || {
            let events = events.list(&ListParams::default()).await?;
            let is_repeated = |event: &Event| event.series.as_ref().is_some_and(|series| series.count == 2);
            ensure!(events.iter().any(is_repeated), "{events:?}");
            Ok(())
        })
        .await
    }

    async fn report_from_south(&self, spec: &Value, installed: bool) -> Result<()> {
        let name = ProfileName::new(TEAM, "rollout")?;
        let read = parse_spec(spec).ok().context("no profile")?;
        let digest = read.profile.canonical().ok().context("too large")?.digest;
        let failure = Failure {
            profile: name.to_string(),
            generation: 1,
            digest: None,
            live_digest: None,
            message: "seccomp(2): EINVAL".to_owned(),
        };
        let failures = FailureGroup {
            reason: "LoadRefused".to_owned(),
            total: 1,
            profiles: vec![failure],
        };
        let synced = Condition {
            type_: "Synced".to_owned(),
            status: ConditionStatus::True,
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            reason: "Synced".to_owned(),
            message: String::new(),
        };
        let report = SeccompNodeReport {
            profiles: installed
                .then_some((&name, &digest))
                .into_iter()
                .collect::<LiveSet>(),
            failures: (!installed).then_some(failures).into_iter().collect(),
            conditions: vec![synced],
            ..SeccompNodeReport::default()
        };
        let reports = Api::<SeccompNode>::all(self.admin.clone());
        let parameters = PatchParams::apply("test").force();
        let report = Patch::Apply(SeccompNode::new("south", report));
        reports.patch("south", &parameters, &report).await?;
        Ok(())
    }

    /// The next one takes over, and then its Lease is deleted.
    async fn leaders_change(&self, first: Program) -> Result<Program> {
        let second = self.controller("2", None).await?;
        first.terminate().await?;
        self.cluster.leads("2").await?;
        let leases = Api::<Lease>::namespaced(self.admin.clone(), NAMESPACE);
        leases.delete(LEASE, &DeleteParams::default()).await?;
        self.cluster.leads("2").await?;
        Ok(second)
    }

    async fn the_api_server_restarts(&mut self) -> Result<()> {
        self.cluster.stop_apiserver()?;
        let before = self.cluster.audited()?.len();
        self.cluster.start_apiserver().await?;
        self.starting = before..self.cluster.audited()?.len();
        self.install_profile("after", 6).await
    }

    /// A node joins with it, and its agent does its first sync.
    async fn a_startup_taint_goes(&self) -> Result<Program> {
        let who = format!("--as=system:serviceaccount:{NAMESPACE}:{CONTROLLER_SERVICE_ACCOUNT}");
        eventually("the new right to be in force", async || {
            self.cluster
                .kubectl(&["auth", "can-i", "patch", "nodes", &who], "")
                .await?
                .ok()
        })
        .await?;
        self.cluster.node("east", &[]).await?;
        let nodes = Api::<Node>::all(self.admin.clone());
        let tainted = json!({"spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]}});
        nodes
            .patch("east", &PatchParams::default(), &Patch::Merge(tainted))
            .await?;
        let controller = self.controller("3", Some(TAINT)).await?;
        let _agent = self.agent("east").await?;
        eventually("the taint to be taken off", async || {
            let taints = nodes.get("east").await?.spec.and_then(|spec| spec.taints);
            ensure!(taints.is_none(), "{taints:?}");
            Ok(())
        })
        .await?;
        Ok(controller)
    }

    // --- What was granted, and what was done ---

    /// Until now.
    async fn uses_what_is_granted(&self) -> Result<()> {
        self.lacks_nothing(0).await?;
        for account in [AGENT_SERVICE_ACCOUNT, CONTROLLER_SERVICE_ACCOUNT] {
            let rights = granted(&self.admin, NAMESPACE, account).await?;
            let spare = spare(&rights, &self.requests(account, 0)?, NAMESPACE);
            ensure!(spare.is_empty(), "{account}: {spare:#?}");
        }
        Ok(())
    }

    /// Since that request.
    async fn lacks_nothing(&self, since: usize) -> Result<()> {
        for account in [AGENT_SERVICE_ACCOUNT, CONTROLLER_SERVICE_ACCOUNT] {
            let rights = granted(&self.admin, NAMESPACE, account).await?;
            let lacking = lacking(&rights, &self.requests(account, since)?);
            ensure!(lacking.is_empty(), "{account}: {lacking:#?}");
        }
        Ok(())
    }

    fn requests(&self, account: &str, since: usize) -> Result<Vec<Audited>> {
        let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
        let requests = self.cluster.audited()?.into_iter().enumerate().skip(since);
        let requests: Vec<_> = requests
            .filter(|(at, request)| !(self.starting.contains(at) && request.code == FORBIDDEN))
            .map(|(_, request)| request)
            .filter(|request| request.user == user)
            .collect();
        ensure!(!requests.is_empty(), "{account} asked for nothing");
        Ok(requests)
    }

    // --- Profiles and reports ---

    fn profiles(&self) -> Api<RawSeccompProfile> {
        Api::namespaced(self.admin.clone(), TEAM)
    }

    async fn apply(&self, name: &str, spec: &Value) -> Result<()> {
        let object = json!({
            "apiVersion": "callgate.dev/v1alpha1",
            "kind": "SeccompProfile",
            "metadata": {"name": name},
            "spec": spec,
        });
        let parameters = PatchParams::apply("test").force();
        self.profiles()
            .patch(name, &parameters, &Patch::Apply(object))
            .await?;
        Ok(())
    }

    /// Waits until the condition has this reason for the current generation.
    async fn wait(&self, name: &str, type_: &str, reason: &str) -> Result<()> {
        eventually(&format!("{type_} of {name} to be {reason}"), async || {
            let object = self.profiles().get(name).await?;
            let status: SeccompProfileStatus = serde_json::from_value(object.status)?;
            let is_so = |condition: &Condition| {
                condition.type_ == type_
                    && condition.reason == reason
                    && condition.observed_generation == object.metadata.generation
            };
            ensure!(status.conditions.iter().any(is_so), "{:?}", status.conditions);
            Ok(())
        })
        .await
    }

    /// On node north.
    async fn install_profile(&self, name: &str, errno: u16) -> Result<()> {
        self.apply(name, &denies(errno, "north")).await?;
        self.wait(name, "Ready", "Installed").await
    }

    fn file(&self, profile: &str) -> PathBuf {
        let home = self.cluster.directory().join("north/callgate");
        home.join(TEAM).join(format!("{profile}.json"))
    }

    /// Waits until node north has the file of a profile, or has it no more.
    async fn has_file(&self, profile: &str, has: bool) -> Result<()> {
        let file = self.file(profile);
        eventually(&format!("{} to exist: {has}", file.display()), async || {
            ensure!(file.exists() == has, "it does not");
            Ok(())
        })
        .await
    }

    /// Waits until the report of node north is so.
    async fn reported(&self, what: &str, check: impl Fn(&SeccompNode) -> Result<()>) -> Result<()> {
        let reports = Api::<SeccompNode>::all(self.admin.clone());
        eventually(&format!("the report of north: {what}"), async || {
            check(&reports.get("north").await?)
        })
        .await
    }

    /// Who lacks a right gets nowhere: says which one.
    fn with_refusals(&self, error: Error) -> Error {
        let requests = self.cluster.audited().unwrap_or_default();
        let refused: BTreeSet<_> = requests
            .iter()
            .filter(|request| request.code == FORBIDDEN)
            .map(|request| format!("{} {} by {}", request.verb, request.uri, request.user))
            .collect();
        error.context(format!("refused were: {refused:#?}"))
    }
}

/// A profile for this node, like no other with another number.
fn denies(errno: u16, node: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}],
        "nodeSelector": {"kubernetes.io/hostname": node},
    })
}

/// One call, two answers.
fn contradiction() -> Value {
    let rule = |errno: u16| json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno});
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule(1), rule(2)]})
}
