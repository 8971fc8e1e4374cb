//! The controller on a real API server, with the rights in `deploy/`, real proofs, and node reports that the tests
//! write in the place of agents.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use callgate::api::{
    Condition, ConditionStatus, Failure, FailureGroup, LiveSet, RawSeccompProfile, SeccompNode,
    SeccompNodeReport, SeccompProfileStatus,
};
use callgate::controller::{self, Config, Error, Metrics};
use callgate::profile::{Digest, ProfileName, parse_spec};
use callgate::proof::Prover;
use callgate::telemetry::Health;
use callgate::testload::{Client as TestLoad, ForkServer, Limits};
use harness::{Cluster, NAMESPACE, Request, eventually};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TEAM: &str = "team";
const ALLOWED_LISTENERS: &str = "/run/listeners";

/// A cluster with Callgate's manifests, a namespace, and no controller yet.
struct World {
    cluster: Cluster,
    admin: Client,
    prover: Prover,
}

/// A controller in this process.
struct Replica {
    task: JoinHandle<Result<(), Error>>,
    shutdown: CancellationToken,
    health: Health,
    metrics: Registry,
}

impl World {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start().await?;
        cluster.install().await?;
        cluster.namespace(TEAM).await?;
        let server = ForkServer::start_program(Path::new(env!("CARGO_BIN_EXE_callgate")), Limits::default())?;
        Ok(Self {
            admin: cluster.admin().await?,
            cluster,
            prover: Prover::new(TestLoad::new(server), vec![ALLOWED_LISTENERS.to_owned()]),
        })
    }

    async fn replica(&self, identity: &str) -> Result<Replica> {
        let client = self
            .cluster
            .client_for(&self.cluster.controller_token(identity).await?)
            .await?;
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let (health, shutdown) = (Health::new(), CancellationToken::new());
        let config = Config {
            namespace: NAMESPACE.to_owned(),
            identity: identity.to_owned(),
            startup_taint: None,
        };
        let run = controller::run(
            client,
            self.prover.clone(),
            config,
            health.clone(),
            metrics,
            shutdown.clone(),
        );
        Ok(Replica {
            task: tokio::spawn(run),
            shutdown,
            health,
            metrics: registry,
        })
    }

    /// What `callgate status` prints for an administrator.
    fn callgate_status(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_callgate"))
            .args(["status", "--kubeconfig"])
            .arg(self.cluster.kubeconfig())
            .args(arguments)
            .output()?;
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok(out + &err)
    }

    fn profiles(&self) -> Api<RawSeccompProfile> {
        Api::namespaced(self.admin.clone(), TEAM)
    }

    /// Applies a spec, as `kubectl apply --server-side` does.
    async fn apply(&self, name: &str, spec: &Value) -> Result<()> {
        let object = json!({
            "apiVersion": "callgate.dev/v1alpha1",
            "kind": "SeccompProfile",
            "metadata": { "name": name },
            "spec": spec,
        });
        let parameters = PatchParams::apply("test").force();
        self.profiles()
            .patch(name, &parameters, &Patch::Apply(object))
            .await?;
        Ok(())
    }

    async fn object(&self, name: &str) -> Result<RawSeccompProfile> {
        Ok(self.profiles().get(name).await?)
    }

    async fn version(&self, name: &str) -> Result<String> {
        self.object(name).await?.resource_version().context("no version")
    }

    /// Waits until the condition has this reason for the current generation.
    async fn wait(&self, name: &str, type_: &str, reason: &str) -> Result<SeccompProfileStatus> {
        eventually(&format!("{type_} of {name} to be {reason}"), async || {
            let object = self.object(name).await?;
            let status: SeccompProfileStatus = serde_json::from_value(object.status)?;
            let condition = condition(&status, type_)?;
            ensure!(
                condition.reason == reason && condition.observed_generation == object.metadata.generation,
                "{condition:?}"
            );
            Ok(status)
        })
        .await
    }

    /// A node with a ready agent that has reported.
    async fn join(&self, node: &str) -> Result<()> {
        self.cluster.node(node, &[("name", node)]).await?;
        self.cluster.agent_pod(node).await?;
        self.report(node, &[], &[]).await
    }

    async fn leave(&self, node: &str) -> Result<()> {
        let (now, admin) = (DeleteParams::default().grace_period(0), || self.admin.clone());
        Api::<Pod>::namespaced(admin(), NAMESPACE)
            .delete(&format!("callgate-agent-{node}"), &now)
            .await?;
        Api::<Node>::all(admin()).delete(node, &now).await?;
        // There is no garbage collector.
        Api::<SeccompNode>::all(admin()).delete(node, &now).await?;
        Ok(())
    }

    /// What the agent of this node reports: these specs are live under these names, these failed.
    async fn report(&self, node: &str, live: &[(&str, &Value)], failed: &[Failure]) -> Result<()> {
        let named = |&(name, spec): &(&str, &Value)| Ok((ProfileName::new(TEAM, name)?, digest(spec)?));
        let live: Vec<(ProfileName, Digest)> = live.iter().map(named).collect::<Result<_>>()?;
        let failures = match failed {
            [] => Vec::new(),
            failed => vec![FailureGroup {
                reason: "LoadRefused".to_owned(),
                total: 1,
                profiles: failed.to_vec(),
            }],
        };
        let report = SeccompNodeReport {
            profiles: live
                .iter()
                .map(|(name, digest)| (name, digest))
                .collect::<LiveSet>(),
            failures,
            conditions: vec![Condition {
                type_: "Synced".to_owned(),
                status: ConditionStatus::True,
                observed_generation: None,
                last_transition_time: Time(Timestamp::UNIX_EPOCH),
                reason: "Synced".to_owned(),
                message: String::new(),
            }],
            ..SeccompNodeReport::default()
        };
        let mut object = SeccompNode::new(node, report);
        object.metadata.managed_fields = None;
        let parameters = PatchParams::apply("test").force();
        Api::<SeccompNode>::all(self.admin.clone())
            .patch(node, &parameters, &Patch::Apply(object))
            .await?;
        Ok(())
    }

    async fn holder(&self) -> Result<String> {
        let lease = Api::<Lease>::namespaced(self.admin.clone(), NAMESPACE)
            .get("callgate-controller")
            .await?;
        let holder = lease
            .spec
            .and_then(|spec| spec.holder_identity)
            .unwrap_or_default();
        ensure!(!holder.is_empty(), "nobody holds the Lease");
        Ok(holder)
    }

    /// The Events on this profile, in the order in which they began: type, reason, note, and how often.
    async fn events(&self, name: &str) -> Result<Vec<(String, String, String, i32)>> {
        let events = Api::<Event>::namespaced(self.admin.clone(), TEAM);
        let mut events = events.list(&ListParams::default()).await?.items;
        let uid = self.object(name).await?.metadata.uid;
        events.retain(|event| event.regarding.as_ref().is_some_and(|object| object.uid == uid));
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        Ok(events
            .into_iter()
            .map(|event| {
                assert_eq!(event.reporting_controller.as_deref(), Some("callgate-controller"));
                (
                    event.type_.unwrap_or_default(),
                    event.reason.unwrap_or_default(),
                    event.note.unwrap_or_default(),
                    event.series.map_or(1, |series| series.count),
                )
            })
            .collect())
    }

    /// Waits until exactly these Events are on this profile: type, reason, how often.
    async fn told(&self, name: &str, expected: &[(&str, &str, i32)]) -> Result<Vec<String>> {
        eventually(&format!("the events of {name}"), async || {
            let events = self.events(name).await?;
            let short: Vec<_> = events
                .iter()
                .map(|(type_, reason, _, count)| (type_.as_str(), reason.as_str(), *count))
                .collect();
            ensure!(short == expected, "{events:?}");
            Ok(events.iter().map(|(_, _, note, _)| note.clone()).collect())
        })
        .await
    }

    async fn status_writes(&self) -> Result<u64> {
        let request = |verb: &str| Request {
            verb: verb.to_owned(),
            resource: "seccompprofiles/status".to_owned(),
        };
        let requests = self.cluster.requests().await?;
        Ok(["PATCH", "APPLY", "PUT"]
            .iter()
            .filter_map(|verb| requests.get(&request(verb)))
            .sum())
    }
}

impl Replica {
    fn metrics(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.metrics) {
            Ok(()) => text,
            Err(error) => error.to_string(),
        }
    }

    async fn lead(&self) -> Result<()> {
        eventually("the replica to lead", async || {
            ensure!(self.metrics().contains("\nleader 1\n"), "it does not");
            Ok(())
        })
        .await
    }

    async fn stand_by(&self) -> Result<()> {
        eventually("the replica to stand by", async || {
            ensure!(!self.task.is_finished(), "it ended");
            ensure!(self.metrics().contains("\nleader 0\n"), "it leads");
            Ok(())
        })
        .await
    }
}

fn digest(spec: &Value) -> Result<Digest> {
    let read = parse_spec(spec).ok().context("no profile")?;
    let canonical = read.profile.canonical().ok().context("too large")?;
    Ok(canonical.digest)
}

fn condition<'a>(status: &'a SeccompProfileStatus, type_: &str) -> Result<&'a Condition> {
    let found = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_);
    found.with_context(|| format!("no condition {type_} in {status:?}"))
}

/// What an agent reports of the profile `web`.
fn failure(generation: i64, live: Option<&Value>) -> Result<Failure> {
    Ok(Failure {
        profile: format!("{TEAM}/web"),
        generation,
        digest: None,
        live_digest: live.map(digest).transpose()?.map(|digest| digest.to_string()),
        message: "seccomp(2): EINVAL".to_owned(),
    })
}

/// A profile like no other with another number.
fn spec(errno: u16) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }],
    })
}

fn spec_for(errno: u16, node: &str) -> Value {
    let mut spec = spec(errno);
    spec["nodeSelector"] = json!({ "name": node });
    spec
}

/// What the schema takes and libseccomp does not: one call, two answers.
fn contradiction() -> Value {
    let rule = |errno| {
        json!({ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
            "args": [{ "index": 0, "value": 38, "op": "SCMP_CMP_EQ" }] })
    };
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule(5), rule(6)] })
}

fn listener(path: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_profile_is_judged_and_none_harms_another() -> Result<()> {
    let world = World::start().await?;
    let replica = world.replica("judge").await?;
    replica.lead().await?;
    assert!(replica.health.is_ready());

    world.apply("good", &spec(77)).await?;
    let status = world.wait("good", "Valid", "Proven").await?;
    assert_eq!(condition(&status, "Valid")?.status, ConditionStatus::True);
    assert_eq!(status.digest, Some(digest(&spec(77))?.to_string()));
    assert_eq!(
        status.localhost_profile.as_deref(),
        Some("callgate/team/good.json")
    );
    assert!(status.filters.iter().all(|filter| filter.instructions > 0) && !status.filters.is_empty());
    assert_eq!(condition(&status, "Ready")?.reason, "NoNodesSelected");
    assert!(condition(&status, "Stalled").is_err());

    world.apply("contradiction", &contradiction()).await?;
    let status = world.wait("contradiction", "Ready", "Invalid").await?;
    let valid = condition(&status, "Valid")?;
    assert_eq!(valid.status, ConditionStatus::False);
    assert!(valid.message.starts_with("spec"), "{}", valid.message);
    assert_eq!(condition(&status, "Stalled")?.message, valid.message);
    assert_eq!(status.findings[0].class, "invalid");
    assert_eq!(status.digest, Some(digest(&contradiction())?.to_string()));

    world.apply("listener", &listener("/var/run/docker.sock")).await?;
    world.wait("listener", "Valid", "ListenerNotAllowed").await?;
    world
        .apply(
            "listener",
            &listener(&format!("{ALLOWED_LISTENERS}/../docker.sock")),
        )
        .await?;
    world.wait("listener", "Valid", "ListenerNotAllowed").await?;
    world
        .apply("listener", &listener(&format!("{ALLOWED_LISTENERS}/audit.sock")))
        .await?;
    world.wait("listener", "Valid", "Proven").await?;

    // What came past the policy, before there was one.
    let policy = [
        "delete",
        "validatingadmissionpolicybinding",
        "callgate-profile-keys",
    ];
    world.cluster.kubectl(&policy, "").await?.ok()?;
    let mut unreadable = spec(78);
    unreadable["includes"] = json!(null);
    unreadable["sycalls"] = json!([{ "names": 3 }]);
    eventually("the policy to be out of force", async || {
        world.apply("unreadable", &unreadable).await
    })
    .await?;
    let status = world.wait("unreadable", "Ready", "Invalid").await?;
    assert!(
        status.digest.is_none() && !status.findings.is_empty(),
        "{status:?}"
    );
    let broken = json!({
        "apiVersion": "callgate.dev/v1alpha1", "kind": "SeccompNode", "metadata": { "name": "broken" }, "profiles": "AAAA",
    });
    world
        .cluster
        .kubectl(&["create", "-f", "-"], &broken.to_string())
        .await?
        .ok()?;
    eventually("the broken report to be counted", async || {
        ensure!(
            replica.metrics().contains("undecodable_reports_total 1"),
            "{}",
            replica.metrics()
        );
        Ok(())
    })
    .await?;
    world.apply("good", &spec(79)).await?;
    world.wait("good", "Valid", "Proven").await?;

    assert!(
        replica
            .metrics()
            .contains("profiles{valid=\"false\",ready=\"false\"} 2"),
        "{}",
        replica.metrics()
    );
    replica.shutdown.cancel();
    replica.task.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_a_newer_rule_would_refuse_stays_valid_until_it_changes() -> Result<()> {
    let world = World::start().await?;
    let mut open = serde_json::to_value(&callgate::api::crds()[0])?;
    open["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    Api::<CustomResourceDefinition>::all(world.admin.clone())
        .patch(
            "seccompprofiles.callgate.dev",
            &PatchParams::apply("test").force(),
            &Patch::Apply(open),
        )
        .await?;
    // What no version of today's rules takes. `old` was valid in the eyes of an earlier version.
    let refused = |errno| json!({ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": errno });
    eventually("the open schema to be in force", async || {
        world.apply("old", &refused(5)).await
    })
    .await?;
    world.apply("new", &refused(5)).await?;
    let file = parse_spec(&refused(5)).ok().context("unreadable")?;
    let file = file.profile.canonical().ok().context("too large")?;
    let condition = |type_: &str, reason: &str| {
        json!({ "type": type_, "status": "True", "observedGeneration": 1, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z" })
    };
    let status = json!({ "status": {
        "observedGeneration": 1, "digest": file.digest.to_string(),
        "conditions": [condition("Valid", "Proven"), condition("Ready", "NoNodesSelected")],
    }});
    let parameters = PatchParams::default();
    world
        .profiles()
        .patch_status("old", &parameters, &Patch::Merge(status))
        .await?;

    let replica = world.replica("upgraded").await?;
    world.wait("new", "Valid", "ErrnoMisplaced").await?;
    let status = world.wait("old", "Valid", "ProvenBeforeNewerRule").await?;
    assert_eq!(self::condition(&status, "Valid")?.status, ConditionStatus::True);
    assert_eq!(self::condition(&status, "Ready")?.status, ConditionStatus::True);
    assert!(self::condition(&status, "Stalled").is_err());
    assert_eq!(status.findings[0].code, "errno-misplaced");
    world.apply("old", &refused(6)).await?;
    let status = world.wait("old", "Valid", "ErrnoMisplaced").await?;
    assert_eq!(self::condition(&status, "Valid")?.status, ConditionStatus::False);

    replica.shutdown.cancel();
    replica.task.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_follows_the_nodes_and_is_written_only_when_something_happened() -> Result<()> {
    let world = World::start().await?;
    let replica = world.replica("follow").await?;
    replica.lead().await?;
    for node in ["a", "b"] {
        world.join(node).await?;
    }

    // Two writes: judged, complete.
    let (first, writes) = (spec(70), world.status_writes().await?);
    world.apply("web", &first).await?;
    let status = world.wait("web", "Ready", "Installing").await?;
    assert_eq!(condition(&status, "Ready")?.status, ConditionStatus::False);
    world.report("a", &[("web", &first)], &[]).await?;
    world.report("b", &[("web", &first)], &[]).await?;
    let status = world.wait("web", "Ready", "Installed").await?;
    assert_eq!(condition(&status, "Ready")?.status, ConditionStatus::True);
    assert_eq!(world.status_writes().await? - writes, 2);

    nodes_come_and_go(&world, &first).await?;

    // A failure, on a node that already had it.
    world.report("b", &[], &[failure(1, None)?]).await?;
    let status = world.wait("web", "Ready", "InstallFailed").await?;
    assert_eq!(status.failures_total, Some(1));
    assert_eq!(
        (
            status.failures[0].node.as_str(),
            status.failures[0].reason.as_str()
        ),
        ("b", "LoadRefused")
    );
    assert!(
        condition(&status, "Ready")?
            .message
            .contains("seccomp(2): EINVAL")
    );
    let told = world.callgate_status(&["team/web"])?;
    for part in ["team/web", "1/2", "b ", "LoadRefused", "seccomp(2): EINVAL"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let overview = world.callgate_status(&["-n", TEAM])?;
    assert!(
        overview.contains("team/web") && overview.contains("1/2"),
        "{overview}"
    );
    assert!(!world.callgate_status(&["-n", "default"])?.contains("web"));

    world.report("b", &[("web", &first)], &[]).await?;
    let status = world.wait("web", "Ready", "Installed").await?;
    assert_eq!((status.failures.len(), status.failures_total), (0, None));

    // A broken update: the old version stays, and status says so.
    world.apply("web", &contradiction()).await?;
    world.wait("web", "Ready", "Invalid").await?;
    for node in ["a", "b"] {
        world
            .report(node, &[("web", &first)], &[failure(2, Some(&first))?])
            .await?;
    }
    eventually("both nodes to be named", async || {
        let status = world.wait("web", "Ready", "Invalid").await?;
        ensure!(status.failures_total == Some(2), "{status:?}");
        assert_eq!(status.failures.len(), 1, "they share reason and digest");
        assert_eq!(status.failures[0].live_digest, Some(digest(&first)?.to_string()));
        assert!(condition(&status, "Ready")?.message.contains("stays in place"));
        Ok(())
    })
    .await?;

    // Mended. Node a cannot be asked, which is said and holds nothing.
    let second = spec(71);
    world.apply("web", &second).await?;
    world.report("b", &[("web", &second)], &[]).await?;
    let status = world.wait("web", "Ready", "Installed").await?;
    assert!(condition(&status, "Stalled").is_err());
    assert!(
        condition(&status, "Ready")?.message.ends_with(": a."),
        "{status:?}"
    );

    // Somebody overwrites the status; a successor of the same name starts afresh.
    let nonsense = json!({ "status": { "digest": Digest::of(b"x").to_string(), "conditions": [] } });
    world
        .profiles()
        .patch_status("web", &PatchParams::default(), &Patch::Merge(nonsense))
        .await?;
    let status = world.wait("web", "Ready", "Installed").await?;
    assert_eq!(status.digest, Some(digest(&second)?.to_string()));
    world.profiles().delete("web", &DeleteParams::default()).await?;
    world.apply("web", &spec(72)).await?;
    world.wait("web", "Ready", "Installing").await?;

    replica.shutdown.cancel();
    replica.task.await??;
    Ok(())
}

/// Whatever comes and goes, the profile `web` is not written. The markers show that the controller has seen it.
async fn nodes_come_and_go(world: &World, web: &Value) -> Result<()> {
    let version = world.version("web").await?;
    world.join("late").await?;
    world.apply("marker", &spec_for(1, "late")).await?;
    world.wait("marker", "Ready", "Installing").await?;
    world
        .report("late", &[("web", web), ("marker", &spec_for(1, "late"))], &[])
        .await?;
    world.wait("marker", "Ready", "Installed").await?;
    world
        .cluster
        .pod_ready(NAMESPACE, "callgate-agent-a", false)
        .await?;
    world.leave("late").await?;
    world.apply("marker", &spec_for(2, "late")).await?;
    world.wait("marker", "Ready", "NoNodesSelected").await?;
    world.apply("marker", &spec_for(3, "a")).await?;
    world.wait("marker", "Ready", "NoAgentReady").await?;
    assert_eq!(
        world.version("web").await?,
        version,
        "{:?}",
        world.object("web").await?
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_node_makes_one_write_and_a_restart_none() -> Result<()> {
    let world = World::start().await?;
    let replica = world.replica("first").await?;
    replica.lead().await?;
    world.join("a").await?;
    // What the controller knows of the node decides, not what the API server has.
    world.apply("seen", &spec(60)).await?;
    world.wait("seen", "Ready", "Installing").await?;

    let writes = world.status_writes().await?;
    let one = spec(61);
    // An agent may well be faster than the controller.
    world.report("a", &[("one", &one)], &[]).await?;
    world.apply("one", &one).await?;
    world.wait("one", "Ready", "Installed").await?;
    assert!(world.status_writes().await? - writes <= 2);

    let writes = world.status_writes().await?;
    replica.shutdown.cancel();
    replica.task.await??;
    let replica = world.replica("second").await?;
    replica.lead().await?;
    world.apply("marker", &spec(62)).await?;
    world.wait("marker", "Valid", "Proven").await?;
    assert_eq!(world.status_writes().await? - writes, 1, "only the marker's");
    replica.task.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_writes_and_the_other_takes_over() -> Result<()> {
    let world = World::start().await?;
    let first = world.replica("first").await?;
    first.lead().await?;
    let second = world.replica("second").await?;
    eventually("the second to have seen everything", async || {
        ensure!(second.health.is_ready(), "it has not");
        Ok(())
    })
    .await?;
    assert_eq!(world.holder().await?, "first");
    assert!(second.metrics().contains("\nleader 0\n"));
    world.apply("web", &spec(1)).await?;
    world.wait("web", "Valid", "Proven").await?;
    assert!(second.metrics().contains("status_writes_total{result=\"ok\"} 0"));

    // It lets go, and the other leads without waiting for the Lease to expire.
    first.shutdown.cancel();
    first.task.await??;
    second.lead().await?;
    assert_eq!(world.holder().await?, "second");
    world.apply("web", &spec(2)).await?;
    world.wait("web", "Valid", "Proven").await?;

    // Killed: nobody lets go, and the Lease expires.
    let third = world.replica("third").await?;
    second.task.abort();
    third.lead().await?;
    world.apply("web", &spec(3)).await?;
    world.wait("web", "Valid", "Proven").await?;

    // Somebody takes the Lease from it: it stands by, and writes nothing of what it goes on to prove.
    let leases = Api::<Lease>::namespaced(world.admin.clone(), NAMESPACE);
    let held_by = async |holder: &str| {
        let lease = json!({ "spec": { "holderIdentity": holder, "leaseDurationSeconds": 3600 } });
        let parameters = PatchParams::default();
        leases
            .patch("callgate-controller", &parameters, &Patch::Merge(lease))
            .await
    };
    held_by("thief").await?;
    third.stand_by().await?;
    let writes = world.status_writes().await?;
    let proven = |text: &str| {
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("proofs_total{verdict=\"valid\"} "));
        count
            .and_then(|count| count.parse::<u64>().ok())
            .unwrap_or_default()
    };
    let before = proven(&third.metrics());
    world.apply("web", &spec(4)).await?;
    eventually("the third to prove", async || {
        ensure!(proven(&third.metrics()) > before, "it has not");
        Ok(())
    })
    .await?;
    assert_eq!(world.status_writes().await?, writes);
    assert_eq!(world.holder().await?, "thief");

    // The thief lets go, and the same process leads again.
    held_by("").await?;
    third.lead().await?;
    world.wait("web", "Valid", "Proven").await?;
    third.task.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_cannot_renew_the_lease_stands_by_and_says_why() -> Result<()> {
    let world = World::start().await?;
    let mut first = program(&world, "first").await?;
    eventually("the first to lead", async || {
        ensure!(world.holder().await? == "first", "it does not");
        Ok(())
    })
    .await?;
    let second = world.replica("second").await?;

    // Nobody may touch the Lease any more; watches and writes of profiles go on.
    let bindings = Api::<RoleBinding>::namespaced(world.admin.clone(), NAMESPACE);
    let mut binding = bindings.get("callgate-controller").await?;
    bindings
        .delete("callgate-controller", &DeleteParams::default())
        .await?;
    let mut lines = BufReader::new(first.stderr.take().context("no stderr")?).lines();
    let lost = |line: &std::io::Result<String>| {
        let lost = "the Lease callgate/callgate-controller is lost: it could not be renewed in 10 s";
        line.as_ref().is_ok_and(|line| line.contains(lost))
    };
    let said = lines.find(lost).context("it ended")??;
    assert!(
        said.contains("cannot get resource \"leases\"") && said.contains("stands by"),
        "{said}"
    );
    // What is not read fills the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    // It counts as lost, so it is not let go: by then it may be another's.
    assert_eq!(world.holder().await?, "first");
    assert!(first.try_wait()?.is_none(), "a kubelet would start it again");
    first.kill()?;
    first.wait()?;

    binding.metadata.resource_version = None;
    binding.metadata.uid = None;
    bindings.create(&PostParams::default(), &binding).await?;
    second.lead().await?;
    world.apply("web", &spec(1)).await?;
    world.wait("web", "Valid", "Proven").await?;
    second.task.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_restarts_is_caught_up_with() -> Result<()> {
    let mut world = World::start().await?;
    let replica = world.replica("stays").await?;
    replica.lead().await?;
    world.apply("before", &spec(1)).await?;
    world.wait("before", "Valid", "Proven").await?;
    world.cluster.stop_apiserver()?;
    world.cluster.start_apiserver().await?;
    world.apply("after", &spec(2)).await?;
    world.wait("after", "Valid", "Proven").await?;

    // Gone for so long that the Lease is lost: the same process leads again.
    world.cluster.stop_apiserver()?;
    replica.stand_by().await?;
    assert_eq!(replica.health.stuck(), "");
    world.cluster.start_apiserver().await?;
    replica.lead().await?;
    world.apply("again", &spec(3)).await?;
    world.wait("again", "Valid", "Proven").await?;
    assert!(!replica.task.is_finished());
    replica.task.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_a_profile_is_told_as_events_and_not_again_by_the_next_leader() -> Result<()> {
    let world = World::start().await?;
    let replica = world.replica("first").await?;
    replica.lead().await?;
    for node in ["a", "b", "c"] {
        world.join(node).await?;
    }
    world.apply("web", &contradiction()).await?;
    let notes = world.told("web", &[("Warning", "Invalid", 1)]).await?;
    assert!(notes[0].starts_with("Contradiction: spec.syscalls"), "{notes:?}");

    let good = spec(70);
    world.apply("web", &good).await?;
    for node in ["a", "b", "c"] {
        world.report(node, &[("web", &good)], &[]).await?;
    }
    world.wait("web", "Ready", "Installed").await?;
    let healthy = [
        ("Warning", "Invalid", 1),
        ("Normal", "Valid", 1),
        ("Normal", "Ready", 1),
    ];
    let notes = world.told("web", &healthy).await?;
    assert_eq!(notes[2], "Installed on every selected node.");

    // One Event, however many nodes fail, and the same news once more is counted in the Event that told it.
    for (node, failures) in [("b", 1), ("c", 2)] {
        world.report(node, &[], &[failure(2, None)?]).await?;
        eventually("the failure to be said", async || {
            let status = world.wait("web", "Ready", "InstallFailed").await?;
            ensure!(status.failures_total == Some(failures), "{status:?}");
            Ok(())
        })
        .await?;
    }
    for node in ["b", "c"] {
        world.report(node, &[("web", &good)], &[]).await?;
    }
    world.wait("web", "Ready", "Installed").await?;
    let mended = [
        ("Warning", "Invalid", 1),
        ("Normal", "Valid", 1),
        ("Normal", "Ready", 2),
        ("Warning", "InstallFailed", 1),
    ];
    let notes = world.told("web", &mended).await?;
    assert!(
        notes[3].starts_with("Not installed on b: LoadRefused: seccomp(2): EINVAL"),
        "{notes:?}"
    );
    let describe = ["describe", "seccompprofile", "web", "--namespace", TEAM];
    let described = world.cluster.kubectl(&describe, "").await?.ok()?;
    for (type_, reason, _) in mended {
        let is_told = |line: &str| line.split_whitespace().take(2).eq([type_, reason]);
        assert!(described.lines().any(is_told), "{reason} in {described}");
    }
    assert!(described.contains("callgate-controller"), "{described}");

    // Nothing is told of what stays as it is, and nothing by who comes to lead. Events come one after the other, so
    // those of the marker are the last.
    replica.shutdown.cancel();
    replica.task.await??;
    let replica = world.replica("second").await?;
    replica.lead().await?;
    world.report("a", &[("web", &good)], &[]).await?;
    world.apply("marker", &spec_for(71, "nowhere")).await?;
    let notes = world.told("marker", &[("Normal", "Ready", 1)]).await?;
    assert!(notes[0].starts_with("No node matched"), "{notes:?}");
    world.told("web", &mended).await?;
    let metrics = replica.metrics();
    for told in [
        "events_total{result=\"ok\"} 1",
        "events_total{result=\"error\"} 0",
    ] {
        assert!(metrics.contains(told), "{metrics}");
    }
    replica.task.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_crds_it_waits_and_begins_once_they_are_there() -> Result<()> {
    let cluster = Cluster::start().await?;
    let server = ForkServer::start_program(Path::new(env!("CARGO_BIN_EXE_callgate")), Limits::default())?;
    cluster.namespace(NAMESPACE).await?;
    let world = World {
        admin: cluster.admin().await?,
        cluster,
        prover: Prover::new(TestLoad::new(server), Vec::new()),
    };
    let mut metrics = Registry::default();
    let registered = Metrics::register(&mut metrics);
    let (health, shutdown) = (Health::new(), CancellationToken::new());
    let config = Config {
        namespace: NAMESPACE.to_owned(),
        identity: "early".to_owned(),
        startup_taint: None,
    };
    let run = controller::run(
        world.admin.clone(),
        world.prover.clone(),
        config,
        health.clone(),
        registered,
        shutdown.clone(),
    );
    let replica = Replica {
        task: tokio::spawn(run),
        shutdown,
        health,
        metrics,
    };
    eventually("a failed watch to be counted", async || {
        let text = replica.metrics();
        ensure!(
            !text.contains("watch_errors_total{resource=\"seccompprofiles\"} 0"),
            "{text}"
        );
        Ok(())
    })
    .await?;
    assert!(!replica.health.is_ready());
    world.cluster.install().await?;
    world.cluster.namespace(TEAM).await?;
    eventually("the controller to be ready", async || {
        ensure!(replica.health.is_ready(), "it is not");
        Ok(())
    })
    .await?;
    world.apply("web", &spec(1)).await?;
    world.wait("web", "Valid", "Proven").await?;
    replica.task.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_rights_it_says_what_is_missing_and_begins_once_it_has_them() -> Result<()> {
    let world = World::start().await?;
    let bindings = Api::<ClusterRoleBinding>::all(world.admin.clone());
    let mut binding = bindings.get("callgate-controller").await?;
    bindings
        .delete("callgate-controller", &DeleteParams::default())
        .await?;
    let mut child = program(&world, "bare").await?;
    let errors = BufReader::new(child.stderr.take().context("no stderr")?);
    let mut lines = errors.lines();
    let said = lines.find(|line| {
        line.as_ref().is_ok_and(|line| {
            line.contains("is ClusterRole callgate-controller bound to its ServiceAccount?")
        })
    });
    let said = said.context("it ended")??;
    assert!(said.contains("forbidden"), "{said}");
    // What is not read fills the pipe.
    std::thread::spawn(move || lines.for_each(drop));

    binding.metadata.resource_version = None;
    binding.metadata.uid = None;
    bindings.create(&PostParams::default(), &binding).await?;
    world.apply("web", &spec(1)).await?;
    world.wait("web", "Valid", "Proven").await?;
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// A controller as the program that a Deployment runs.
async fn program(world: &World, identity: &str) -> Result<std::process::Child> {
    let kubeconfig = world
        .cluster
        .kubeconfig_for(&world.cluster.controller_token(identity).await?)?;
    Command::new(env!("CARGO_BIN_EXE_callgate"))
        .args([
            "controller",
            "--listen",
            "127.0.0.1:0",
            "--identity",
            identity,
            "--kubeconfig",
        ])
        .arg(kubeconfig)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the program")
}
