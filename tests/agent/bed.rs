//! A node of its own for each test, and what tests ask of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use callgate::agent::{self, Config, Metrics};
use callgate::api::{ConditionStatus, Failure, NodeCondition, SeccompNode, SeccompProfile};
use callgate::profile::{Canonical, Digest, ProfileName, parse_spec};
use callgate::proof::Prover;
use callgate::store::ProvenWith;
use callgate::telemetry::Health;
use callgate::testload::{Client, ForkServer, Limits};
use harness::{Cluster, DEADLINE, eventually};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough that a test sees nothing removed.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
/// At once.
pub(crate) const NONE: Duration = Duration::ZERO;

/// One cluster for the tests that do not stop it, with everything installed.
pub(crate) async fn shared() -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER
        .get_or_try_init(async || {
            let cluster = Cluster::provided().await?;
            cluster.install().await?;
            Ok(cluster)
        })
        .await
}

/// A node, and a namespace of the same name for its profiles. They select this node only, so that tests on one
/// cluster do not meet.
pub(crate) struct Bed {
    pub(crate) admin: kube::Client,
    pub(crate) name: String,
    agent: kube::Client,
    root: TempDir,
    marks: AtomicU32,
}

/// An agent at work.
pub(crate) struct Running {
    pub(crate) health: Health,
    token: CancellationToken,
    task: JoinHandle<Result<(), agent::Error>>,
}

impl Bed {
    /// On the shared cluster.
    pub(crate) async fn new(name: &str) -> Result<Self> {
        Self::on(shared().await?, name).await
    }

    pub(crate) async fn on(cluster: &Cluster, name: &str) -> Result<Self> {
        cluster.namespace(name).await?;
        let bed = Self {
            admin: cluster.admin().await?,
            agent: cluster.agent_client(name).await?,
            name: name.to_owned(),
            root: tempfile::tempdir()?,
            marks: AtomicU32::new(0),
        };
        bed.label(&[]).await?;
        Ok(bed)
    }

    /// Gives the node these labels beside the one that the profiles of this bed select.
    pub(crate) async fn label(&self, labels: &[(&str, &str)]) -> Result<()> {
        let labels: BTreeMap<_, _> = labels
            .iter()
            .copied()
            .chain([("bed", self.name.as_str())])
            .collect();
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": labels}});
        let params = PatchParams::apply("test").force();
        Api::<Node>::all(self.admin.clone())
            .patch(&self.name, &params, &Patch::Apply(&node))
            .await?;
        Ok(())
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn start(&self, removal_grace: Duration) -> Result<Running> {
        let program = Path::new(env!("CARGO_BIN_EXE_callgate"));
        let server = ForkServer::start_program(program, Limits::default())?;
        let health = Health::new();
        let token = CancellationToken::new();
        let config = Config {
            node: self.name.clone(),
            seccomp_root: self.root().to_owned(),
            // Of its own process this one would shut in the tests.
            confinement: None,
            bounds: None,
            removal_grace,
            rescan: LONG,
        };
        let metrics = Metrics::register(&mut Registry::default());
        let prover = Prover::new(Client::new(server), Vec::new());
        let run = agent::run(
            self.agent.clone(),
            prover,
            config,
            health.clone(),
            metrics,
            token.clone(),
        );
        Ok(Running {
            health,
            token,
            task: tokio::spawn(run),
        })
    }

    pub(crate) async fn start_ready(&self, removal_grace: Duration) -> Result<Running> {
        let agent = self.start(removal_grace)?;
        agent.ready().await?;
        Ok(agent)
    }

    fn profiles(&self) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.admin.clone(),
            &self.name,
            &ApiResource::erase::<SeccompProfile>(&()),
        )
    }

    /// Applies a profile for this node. Its generation.
    pub(crate) async fn apply(&self, profile: &str, spec: &Value) -> Result<i64> {
        let mut spec = spec.clone();
        if spec.get("nodeSelector").is_none() {
            spec["nodeSelector"] = json!({"bed": self.name});
        }
        let object = json!({
            "apiVersion": "callgate.dev/v1alpha1",
            "kind": "SeccompProfile",
            "metadata": {"name": profile},
            "spec": spec,
        });
        let params = PatchParams::apply("test").force();
        let applied = self
            .profiles()
            .patch(profile, &params, &Patch::Apply(&object))
            .await?;
        applied.metadata.generation.context("no generation")
    }

    pub(crate) async fn delete(&self, profile: &str) -> Result<()> {
        self.profiles().delete(profile, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Deletes a profile that pods use.
    pub(crate) async fn insist_on_deleting(&self, profile: &str) -> Result<()> {
        let annotation = json!({"metadata": {"annotations": {"callgate.dev/allow-delete-in-use": "true"}}});
        self.profiles()
            .patch(profile, &PatchParams::default(), &Patch::Merge(&annotation))
            .await?;
        self.delete(profile).await
    }

    pub(crate) fn file(&self, profile: &str) -> PathBuf {
        self.root()
            .join("callgate")
            .join(&self.name)
            .join(format!("{profile}.json"))
    }

    /// Waits until the file of a profile has exactly the bytes of this spec.
    pub(crate) async fn installed(&self, profile: &str, spec: &Value) -> Result<()> {
        let file = canonical(spec)?;
        let path = self.file(profile);
        eventually(&format!("{} to be installed", path.display()), async || {
            let bytes = std::fs::read(&path)?;
            ensure!(
                bytes == *file.bytes,
                "it holds {}",
                String::from_utf8_lossy(&bytes)
            );
            Ok(())
        })
        .await
    }

    pub(crate) async fn gone(&self, profile: &str) -> Result<()> {
        let path = self.file(profile);
        eventually(&format!("{} to be gone", path.display()), async || {
            ensure!(!path.exists(), "it is there");
            Ok(())
        })
        .await
    }

    /// Waits until the agent has seen everything that was done before this call: a watch tells in order.
    pub(crate) async fn caught_up(&self) -> Result<()> {
        // Never the same twice, so that the file is not there before.
        let unique = u16::try_from(self.marks.fetch_add(1, Ordering::Relaxed) % 4000)? + 1;
        let spec = errno(unique, "acct");
        self.apply("caught-up", &spec).await?;
        self.installed("caught-up", &spec).await
    }

    pub(crate) fn profile(&self, profile: &str) -> Result<ProfileName> {
        Ok(ProfileName::new(self.name.as_str(), profile)?)
    }

    pub(crate) fn reports(&self) -> Api<SeccompNode> {
        Api::all(self.admin.clone())
    }

    /// Waits until the node's report is so.
    pub(crate) async fn reported<T>(
        &self,
        what: &str,
        mut check: impl FnMut(&SeccompNode) -> Result<T>,
    ) -> Result<T> {
        let reports = self.reports();
        eventually(&format!("{} to report {what}", self.name), async || {
            let report = reports.get(&self.name).await?;
            check(&report).with_context(|| format!("{report:?}"))
        })
        .await
    }

    /// Waits until the report says that this spec of a profile is live.
    pub(crate) async fn live(&self, profile: &str, spec: &Value) -> Result<()> {
        let (name, digest) = (self.profile(profile)?, canonical(spec)?.digest);
        self.reported(&format!("{name} live"), |report| {
            ensure!(report.spec.profiles.contains(&name, &digest));
            Ok(())
        })
        .await
    }

    /// Waits until the report says that this generation of a profile failed.
    pub(crate) async fn failed(&self, profile: &str, reason: &str, generation: i64) -> Result<Failure> {
        let name = format!("{}/{profile}", self.name);
        self.reported(&format!("{name} as {reason}"), |report| {
            let group = report.spec.failures.iter().find(|group| group.reason == reason);
            let failures = &group.context("no such reason")?.profiles;
            let failure = failures
                .iter()
                .find(|failure| failure.profile == name)
                .context("not listed")?;
            ensure!(failure.generation == generation);
            Ok(failure.clone())
        })
        .await
    }

    /// Waits until a condition of the report is so. Its message.
    pub(crate) async fn condition(
        &self,
        condition: NodeCondition,
        status: ConditionStatus,
        reason: &str,
    ) -> Result<String> {
        self.reported(&format!("{} {status:?} {reason}", condition.as_str()), |report| {
            let found = report
                .spec
                .conditions
                .iter()
                .find(|found| found.type_ == condition.as_str());
            let found = found.context("not there")?;
            ensure!(found.status == status && found.reason == reason);
            Ok(found.message.clone())
        })
        .await
    }
}

impl Running {
    pub(crate) async fn ready(&self) -> Result<()> {
        eventually("the agent to be ready", async || {
            ensure!(
                self.health.is_ready(),
                "not ready; ended: {}",
                self.task.is_finished()
            );
            Ok(())
        })
        .await
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(self) -> Result<()> {
        self.token.cancel();
        self.ended().await
    }

    /// Waits until it ends by itself or because it was told to.
    pub(crate) async fn ended(mut self) -> Result<()> {
        match tokio::time::timeout(DEADLINE, &mut self.task).await {
            Ok(ended) => Ok(ended??),
            Err(_) => bail!("the agent does not end"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

/// A profile that denies one call with this errno.
pub(crate) fn errno(errno: u16, call: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}],
    })
}

/// A profile that no agent of this test takes: the listener's path is outside the prefixes it allows (none).
pub(crate) fn listening() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/evil.sock",
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}],
    })
}

/// A profile whose filter has more instructions than a kernel takes.
pub(crate) fn enormous() -> Value {
    let entry = |value: u32| {
        json!({
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": 2 * value, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": value, "op": "SCMP_CMP_EQ"}],
        })
    };
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": (0..800).map(entry).collect::<Vec<_>>()})
}

/// A proof that no kernel here made.
pub(crate) fn anything() -> ProvenWith {
    ProvenWith {
        kernel: "0".to_owned(),
        libseccomp: "0".to_owned(),
        callgate: "0".to_owned(),
    }
}

pub(crate) fn canonical(spec: &Value) -> Result<Canonical> {
    let spec = parse_spec(spec).map_err(|findings| anyhow!("{findings:?}"))?;
    spec.profile.canonical().map_err(|finding| anyhow!("{finding:?}"))
}

pub(crate) fn digest(spec: &Value) -> Result<String> {
    Ok(canonical(spec)?.digest.to_string())
}

pub(crate) fn digest_of_file(path: &Path) -> Result<Digest> {
    Ok(Digest::of(&std::fs::read(path)?))
}
