//! The cluster that is measured: a control plane, a controller, and an agent for each node.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use callgate::api::{LiveKey, LiveSet, SeccompProfile};
use callgate::profile::{ProfileName, parse_spec};
use callgate::proof::{Prover, Verdict};
use callgate::testload::{Client as TestLoad, ForkServer, Limits as TestLoadLimits};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use harness::{Cluster, NAMESPACE as INSTALLED_IN, Program, Scratch};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::costs::{Costs, Sample};
use crate::observe::Observer;
use crate::profiles::Size;
use crate::usage::forget_peaks;

/// The namespace of all profiles and pods here.
pub(crate) const NAMESPACE: &str = "scale";
/// What the controller lets a listener's path lie in, and no agent: so that a profile that is valid fails on every node.
const LISTENERS: &str = "/run/scale";
/// Requests of the preparations under way at once.
pub(crate) const IN_FLIGHT: usize = 16;

pub(crate) struct Fleet {
    pub(crate) cluster: Cluster,
    pub(crate) admin: Client,
    /// `None` before the cold start, and after the last scene with it.
    pub(crate) controller: Option<Program>,
    /// The first node's agent, a process of its own as on a real node.
    pub(crate) process: Option<Program>,
    /// Those of all other nodes.
    pub(crate) agents: Vec<Agent>,
    pub(crate) observer: Observer,
    pub(crate) prover: Prover,
    /// How many profiles there are.
    pub(crate) profiles: usize,
    /// Versions given out so far: none is given twice.
    versions: usize,
    roots: Scratch,
}

impl Fleet {
    /// Everything but the controller, the agents and the profiles.
    pub(crate) async fn prepare(roots: Scratch) -> Result<Self> {
        let cluster = Cluster::start().await?;
        cluster.install().await?;
        cluster.namespace(NAMESPACE).await?;
        let server = ForkServer::start_program(callgate(), TestLoadLimits::default())?;
        let admin = cluster.admin().await?;
        std::fs::create_dir(roots.path().join("process"))?;
        Ok(Self {
            observer: Observer::start(&admin),
            admin,
            controller: None,
            process: None,
            agents: Vec::new(),
            prover: Prover::new(TestLoad::new(server), Vec::new()),
            profiles: 0,
            versions: 0,
            roots,
            cluster,
        })
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.agents.len() + usize::from(self.process.is_some())
    }

    /// Makes nodes, without starting their agents.
    pub(crate) async fn join(&mut self, prefix: &str, count: usize) -> Result<()> {
        let (cluster, roots) = (&self.cluster, self.roots.path());
        let agents: Vec<_> = stream::iter(0..count)
            .map(|number| {
                let name = format!("{prefix}-{number}");
                let root = roots.join(&name);
                Agent::new(cluster, name, root)
            })
            .buffered(IN_FLIGHT)
            .try_collect()
            .await?;
        self.agents.extend(agents);
        Ok(())
    }

    /// Starts the first node's agent.
    pub(crate) async fn start_process(&mut self) -> Result<()> {
        let root = self.process_root();
        let agent = self.cluster.start_agent(callgate(), "process-0", &root, "1s");
        self.process = Some(agent.await?);
        Ok(())
    }

    pub(crate) fn process_root(&self) -> PathBuf {
        self.roots.path().join("process")
    }

    /// A controller in a pod whose name ends with `suffix`.
    pub(crate) async fn controller(&self, suffix: &str) -> Result<Program> {
        let mut command = Command::new(callgate());
        command.env("CALLGATE_LISTENER_PREFIXES", LISTENERS);
        self.cluster.start_controller_with(command, suffix).await
    }

    /// Every directory of a namespace with files of profiles, one for each node.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let roots = self.agents.iter().map(|agent| agent.root.clone());
        let process = self.process.as_ref().map(|_| self.process_root());
        let roots = roots.chain(process);
        roots.map(|root| root.join("callgate").join(NAMESPACE)).collect()
    }

    pub(crate) fn api(&self) -> Api<SeccompProfile> {
        Api::namespaced(self.admin.clone(), NAMESPACE)
    }

    pub(crate) fn names(&self) -> BTreeSet<String> {
        (0..self.profiles).map(name).collect()
    }

    /// A version of a profile that was never there before, proven: agents share what is known of it.
    pub(crate) async fn version(&mut self) -> Result<Value> {
        self.versions += 1;
        let spec = Size::Docker.spec(self.versions)?;
        self.prove(&spec).await?;
        Ok(spec)
    }

    /// One that the controller takes and no agent.
    pub(crate) fn broken_version(&mut self) -> Result<Value> {
        self.versions += 1;
        let mut spec = Size::Docker.spec(self.versions)?;
        spec["listenerPath"] = json!(format!("{LISTENERS}/audit.sock"));
        let entries = spec["syscalls"]
            .as_array_mut()
            .context("a profile without entries")?;
        entries.push(json!({ "names": ["acct"], "action": "SCMP_ACT_NOTIFY" }));
        Ok(spec)
    }

    async fn prove(&self, spec: &Value) -> Result<()> {
        let Ok(read) = self.prover.read(spec) else {
            bail!("the profile cannot be read");
        };
        match self.prover.prove(NAMESPACE, read).await {
            Verdict::Valid(_) => Ok(()),
            other => bail!("the profile is not valid: {other:?}"),
        }
    }

    /// Creates or changes a profile, and returns its generation.
    pub(crate) async fn apply(&self, name: &str, spec: &Value) -> Result<i64> {
        let profile = SeccompProfile::new(name, serde_json::from_value(spec.clone())?);
        let parameters = PatchParams::apply("scale").force();
        let applied = self
            .api()
            .patch(name, &parameters, &Patch::Apply(&profile))
            .await?;
        applied
            .metadata
            .generation
            .context("a profile without generation")
    }

    /// Profiles up to this many, with versions that are proven.
    pub(crate) async fn create_up_to(&mut self, count: usize) -> Result<()> {
        let mut specs = Vec::new();
        for number in self.profiles..count {
            specs.push((name(number), self.version().await?));
        }
        let this = &*self;
        stream::iter(specs)
            .map(|(name, spec)| async move { this.apply(&name, &spec).await })
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<Vec<_>>()
            .await?;
        self.profiles = self.profiles.max(count);
        Ok(())
    }

    /// Deletes those that are more.
    pub(crate) async fn delete_down_to(&mut self, count: usize) -> Result<()> {
        let api = self.api();
        for number in count..self.profiles {
            Self::delete(&api, &name(number)).await?;
        }
        self.profiles = count;
        Ok(())
    }

    /// Ends all of Callgate.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        for program in [self.controller.take(), self.process.take()]
            .into_iter()
            .flatten()
        {
            program.terminate().await?;
        }
        for agent in &mut self.agents {
            agent.stop().await?;
        }
        Ok(())
    }

    /// The pod of a node's agent becomes ready, or no longer is, as the kubelet or the controller of nodes would have it.
    pub(crate) async fn set_ready(&self, node: &str, ready: bool) -> Result<()> {
        let status = if ready { "True" } else { "False" };
        let patch = json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } });
        let pods = Api::<Pod>::namespaced(self.admin.clone(), INSTALLED_IN);
        let pod = format!("{}-{node}", harness::AGENT_SERVICE_ACCOUNT);
        pods.patch_status(&pod, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// Deletes an object; one that is gone is no error.
    pub(crate) async fn delete<K>(api: &Api<K>, name: &str) -> Result<()>
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        match api.delete(name, &DeleteParams::default().grace_period(0)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until no request of the scene before comes any more: one that was refused, or a status that was written often,
    /// is made up to ten seconds later. Gives up after three minutes, and leaves the verdict to the next scene.
    pub(crate) async fn calm(&mut self) -> Result<()> {
        const LATEST: Duration = Duration::from_secs(12);
        for _ in 0..15 {
            let before = self.begin().await?;
            tokio::time::sleep(LATEST).await;
            let costs = self.end(&before).await?;
            if costs.verb("LIST") == 0 && costs.callgate_writes() == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Counts what follows, from a quiet moment on.
    pub(crate) async fn begin(&mut self) -> Result<Sample> {
        self.observer.quiet().await?;
        let controller = self.controller.as_mut().map(|program| program.process().id());
        if let Some(controller) = controller {
            forget_peaks(controller)?;
        }
        Sample::take(&self.cluster, controller, false).await
    }

    /// What has been counted since, once everything is quiet again.
    pub(crate) async fn end(&mut self, before: &Sample) -> Result<Costs> {
        self.observer.quiet().await?;
        let controller = self.controller.as_mut().map(|program| program.process().id());
        let after = Sample::take(&self.cluster, controller, true).await?;
        if let Some(controller) = &mut self.controller {
            controller.process().running()?;
        }
        if let Some(process) = &mut self.process {
            process.process().running()?;
        }
        let ended = self.agents.iter().find(|agent| !agent.is_running());
        ensure!(
            ended.is_none() || self.controller.is_none(),
            "the agent of {} ended",
            ended.map_or("", |agent| &agent.node)
        );
        Ok(Costs::between(before, &after))
    }
}

pub(crate) fn name(number: usize) -> String {
    format!("profile-{number}")
}

/// What reports say of this profile with this spec.
pub(crate) fn key(name: &str, spec: &Value) -> Result<LiveKey> {
    let Ok(parsed) = parse_spec(spec) else {
        bail!("the profile cannot be read");
    };
    let Ok(file) = parsed.profile.canonical() else {
        bail!("the profile is too large");
    };
    Ok(LiveSet::key(&ProfileName::new(NAMESPACE, name)?, &file.digest))
}

/// The program that Cargo built for this benchmark.
pub(crate) fn callgate() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_callgate"))
}
