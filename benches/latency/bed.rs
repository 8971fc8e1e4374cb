//! What is measured on: a cluster with one controller and one node's agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use callgate::api::SeccompProfile;
use harness::{Cluster, Program, eventually};
use kube::api::{Api, DeleteParams, ListParams};

/// The namespace of all profiles here.
pub(crate) const NAMESPACE: &str = "bench";
const NODE: &str = "node-1";

/// Short, so that files of one scene are gone before the next.
const GRACE: &str = "1s";

pub(crate) struct Bed {
    pub(crate) controller: Program,
    /// `None` only while a scene has it stopped.
    agent: Option<Program>,
    pub(crate) profiles: Api<SeccompProfile>,
    root: PathBuf,
    cluster: Cluster,
}

impl Bed {
    pub(crate) async fn start() -> Result<Self> {
        let cluster = Cluster::start().await?;
        cluster.install().await?;
        cluster.namespace(NAMESPACE).await?;
        let root = cluster.directory().join("seccomp");
        std::fs::create_dir(&root)?;
        let mut controller = cluster.start_controller(callgate(), "1").await?;
        controller.ready().await?;
        let profiles = Api::namespaced(cluster.admin().await?, NAMESPACE);
        let mut bed = Self {
            controller,
            agent: None,
            profiles,
            root,
            cluster,
        };
        bed.start_agent().await?;
        Ok(bed)
    }

    /// Starts the agent and returns how long it took to be ready.
    pub(crate) async fn start_agent(&mut self) -> Result<Duration> {
        let mut agent = self
            .cluster
            .start_agent(callgate(), NODE, &self.root, GRACE)
            .await?;
        while agent.get("/readyz").is_err() {
            agent.process().running()?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let time = agent.started().elapsed();
        self.agent = Some(agent);
        Ok(time)
    }

    pub(crate) async fn stop_agent(&mut self) -> Result<()> {
        self.agent
            .take()
            .context("the agent is stopped already")?
            .terminate()
            .await
    }

    pub(crate) fn agent(&mut self) -> Result<&mut Program> {
        self.agent.as_mut().context("the agent is stopped")
    }

    /// Forgets everything the agent has on disk.
    pub(crate) fn wipe(&self) -> Result<()> {
        std::fs::remove_dir_all(&self.root)?;
        Ok(std::fs::create_dir(&self.root)?)
    }

    /// Where this namespace's files are.
    pub(crate) fn directory(&self) -> PathBuf {
        self.root.join("callgate").join(NAMESPACE)
    }

    /// Waits until exactly `count` files are on disk.
    pub(crate) async fn files(&self, count: usize) -> Result<()> {
        let directory = self.directory();
        eventually(&format!("{count} files in {}", directory.display()), async || {
            let found = match std::fs::read_dir(&directory) {
                Ok(entries) => entries.count(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error.into()),
            };
            anyhow::ensure!(found == count, "there are {found}");
            Ok(())
        })
        .await
    }

    /// Deletes every profile and waits until the last file is gone.
    pub(crate) async fn clear(&self) -> Result<()> {
        self.profiles
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await?;
        self.files(0).await
    }

    /// Requests so far that change Callgate's objects, other than our own on profiles; and lists of anything.
    pub(crate) async fn requests(&self) -> Result<Requests> {
        let mut counted = Requests::default();
        for (request, count) in self.cluster.requests().await? {
            let ours = [
                "seccompprofiles/status",
                "seccompnodes",
                "seccompnodes/status",
                "events",
            ];
            match request.verb.as_str() {
                "LIST" if request.resource.starts_with("seccomp") => counted.lists += count,
                "POST" | "PUT" | "PATCH" | "APPLY" if ours.contains(&request.resource.as_str()) => {
                    *counted.writes.entry(request.resource).or_default() += count;
                }
                _ => {}
            }
        }
        Ok(counted)
    }
}

/// Counts since the API server's start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    pub(crate) lists: u64,
    writes: BTreeMap<String, u64>,
}

impl Requests {
    /// Writes since `earlier`.
    pub(crate) fn writes_since(&self, earlier: &Self) -> u64 {
        self.writes.values().sum::<u64>() - earlier.writes.values().sum::<u64>()
    }
}

/// The program that Cargo built for this benchmark.
pub(crate) fn callgate() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_callgate"))
}
