//! What breaks while Callgate works: its own programs, the container runtime, the disk, the API server and its store.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use callgate::profile::Digest;
use harness::{NAMESPACE, eventually};
use serde_json::{Value, json};

use crate::lab::{Lab, alone, condition, tell, values};
use crate::pods::{pod, under, waiting};
use crate::rollout::no_mkdir;
use crate::steady::Reader;

/// Updates of a profile while agents are killed, and how often they all are and begin anew.
const UPDATES: u32 = 1_000;
const KILLS: u32 = 10;

/// How long the API server is away.
fn outage() -> Duration {
    let minutes = if std::env::var_os("CALLGATE_SOAK").is_some() {
        10
    } else {
        2
    };
    Duration::from_secs(60 * minutes)
}

impl Lab {
    /// The processes of the agent on a node, as the node numbers them.
    fn agent_processes(&self, node: &str) -> Result<Vec<String>> {
        let processes = self.node(node)?.run("ps", &["-e", "-o", "pid=", "-o", "args="])?;
        Ok(processes
            .lines()
            .filter(|line| line.contains("callgate agent"))
            .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
            .collect())
    }

    /// How often the containers of Callgate's pods were started again.
    async fn restarts(&self) -> Result<u64> {
        let path = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
        let counts = self
            .kubectl(&["get", "pods", "--namespace", NAMESPACE, "-o", path])
            .await?;
        Ok(counts
            .split_whitespace()
            .filter_map(|count| count.parse::<u64>().ok())
            .sum())
    }

    async fn leader(&self) -> Result<String> {
        let lease = self.get("lease", NAMESPACE, "callgate-controller").await?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        ensure!(!holder.is_empty(), "nobody leads");
        Ok(holder.to_owned())
    }

    /// Waits until there are as many controllers, all of them ready.
    async fn controllers(&self, count: usize) -> Result<()> {
        let component = "--selector=app.kubernetes.io/component=controller";
        let path =
            "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
        eventually(&format!("{count} controllers"), async || {
            let pods = self
                .kubectl(&["get", "pods", "--namespace", NAMESPACE, component, "-o", path])
                .await?;
            let ready: Vec<&str> = pods.lines().collect();
            ensure!(
                ready.len() == count && ready.iter().all(|ready| *ready == "True"),
                "{ready:?}"
            );
            Ok(())
        })
        .await
    }
}

#[tokio::test]
async fn files_stay_whole_while_agents_are_killed_during_a_thousand_updates() -> Result<()> {
    let Some(lab) = alone().await? else { return Ok(()) };
    let namespace = lab.namespace("killed").await?;
    lab.profile(&namespace, "web", &no_mkdir(1)).await?;
    let nodes = lab.nodes().await?;
    let mut files = Vec::new();
    for node in &nodes {
        files.push(lab.file(node, &namespace, "web")?);
    }
    let reader = Reader::start(files.clone())?;
    let profiles = lab.profiles(&namespace).await?;
    let digest_of =
        |file: &std::path::Path| -> Result<String> { Ok(Digest::of(&fs::read(file)?).to_string()) };
    for round in 0..KILLS {
        for update in 0..UPDATES / KILLS {
            profiles
                .set_errno("web", 1 + (round * UPDATES / KILLS + update) % 1_000)
                .await?;
            if update % 10 != 0 {
                continue;
            }
            // At any point of its work: what it does is not waited for.
            let node = &nodes[update as usize / 10 % nodes.len()];
            for process in lab.agent_processes(node)? {
                // Agent and fork server end together, so one may be gone.
                let _ = lab.node(node)?.run("kill", &["-KILL", &process]);
            }
        }
        // With new pods agents are back at once, and they are at work again before the next round.
        for (index, (node, file)) in (0..).zip(nodes.iter().zip(&files)) {
            let before = digest_of(file)?;
            lab.replace_agent(node).await?;
            // A version that no node has seen, as the other's agent may be at work.
            profiles.set_errno("web", 1_001 + round * 100 + index).await?;
            eventually("the next agent to write", async || {
                ensure!(digest_of(file)? != before, "the file is the old one");
                Ok(())
            })
            .await?;
        }
    }
    let digest = lab.profile_ready(&namespace, "web").await?;
    for (node, file) in nodes.iter().zip(&files) {
        // Ready waits for no node whose agent is not there.
        lab.file_is(node, &namespace, "web", &digest).await?;
        let folder = file.parent().context("a file lies in a folder")?;
        let names: Vec<_> = fs::read_dir(folder)?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(names, ["web.json"], "what a killed agent left");
    }
    reader.finish()?;
    lab.done(&namespace).await
}

#[tokio::test]
async fn a_restarted_container_runtime_changes_nothing() -> Result<()> {
    let Some(mut lab) = alone().await? else {
        return Ok(());
    };
    let namespace = lab.namespace("runtime").await?;
    lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    for node in lab.nodes().await? {
        let before = lab.restarts().await?;
        let file = lab.file(&node, &namespace, "web")?;
        lab.node_mut(&node)?.kill_containerd();
        // The agent is no child of the runtime.
        fs::remove_file(&file)?;
        eventually("the agent to mend its file", async || {
            ensure!(file.exists(), "it is missing");
            Ok(())
        })
        .await?;
        let reader = Reader::start(vec![file])?;
        lab.node_mut(&node)?.start_containerd().await?;
        lab.local()?.ready(&node).await?;
        let pod = pod(
            &namespace,
            &node,
            &node,
            under(waiting("main"), &namespace, "web"),
        );
        lab.run(&pod).await?;
        reader.finish()?;
        assert_eq!(lab.restarts().await?, before, "of Callgate's containers");
    }
    lab.done(&namespace).await
}

#[tokio::test]
async fn a_full_disk_is_one_condition_keeps_every_file_and_is_recovered_from() -> Result<()> {
    let Some(lab) = alone().await? else { return Ok(()) };
    let namespace = lab.namespace("full").await?;
    let live = lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    for node in lab.nodes().await? {
        let seccomp = "/var/lib/kubelet/seccomp";
        let machine = lab.node(&node)?;
        machine.run("mount", &["-t", "tmpfs", "-o", "size=256k", "tmpfs", seccomp])?;
        // The agent sees the old directory until its pod is made anew.
        lab.replace_agent(&node).await?;
        let file = lab.file(&node, &namespace, "web")?;
        eventually("the file on the small disk", async || {
            ensure!(file.exists(), "it is missing");
            Ok(())
        })
        .await?;
        let ballast = machine.path(&format!("{seccomp}/ballast"));
        // An error, once it is full.
        let _ = fs::write(&ballast, vec![0; 1 << 20]);
        lab.apply_profile(&namespace, "web", &no_mkdir(71)).await?;
        eventually("the report to say that the disk is full", async || {
            let report = lab.get("seccompnode", "", &node).await?;
            let writable = condition(&report["conditions"], "StoreWritable");
            ensure!(writable["status"] == "False", "{writable}");
            ensure!(writable["reason"] == "DiskFull", "{writable}");
            Ok(())
        })
        .await?;
        assert_eq!(Digest::of(&fs::read(&file)?).to_string(), live, "on {node}");
        fs::remove_file(&ballast)?;
        let next = lab.profile_ready(&namespace, "web").await?;
        lab.file_is(&node, &namespace, "web", &next).await?;
        lab.node(&node)?.run("umount", &["--lazy", seccomp])?;
        lab.replace_agent(&node).await?;
        lab.profile(&namespace, "web", &no_mkdir(70)).await?;
        lab.file_is(&node, &namespace, "web", &live).await?;
    }
    lab.done(&namespace).await
}

#[tokio::test]
async fn while_the_api_server_is_away_pods_start_and_files_are_mended_and_nothing_restarts() -> Result<()> {
    let Some(mut lab) = alone().await? else {
        return Ok(());
    };
    let namespace = lab.namespace("away").await?;
    lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    let nodes = lab.nodes().await?;
    let mut files = Vec::new();
    for node in &nodes {
        let mut pod = pod(&namespace, node, node, under(waiting("main"), &namespace, "web"));
        // It ends by itself every few seconds, and the kubelet starts it again without asking anybody.
        pod["spec"]["containers"][0]["command"] =
            json!(["sh", "-c", "echo $((1 + 1)) >>/shared/starts; sleep 5"]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "shared", "mountPath": "/shared" }]);
        pod["spec"]["volumes"] = json!([{ "name": "shared", "hostPath": { "path": format!("/var/lib/{namespace}"), "type": "DirectoryOrCreate" } }]);
        lab.run(&pod).await?;
        files.push(lab.file(node, &namespace, "web")?);
    }
    let before = lab.restarts().await?;
    let starts = |lab: &Lab, node: &str| -> Result<usize> {
        let file = lab.node(node)?.path(&format!("/var/lib/{namespace}/starts"));
        Ok(fs::read_to_string(file)?.lines().count())
    };
    let stopped = SystemTime::now();
    lab.local()?.cluster_mut().stop_apiserver()?;
    let mut counts = Vec::new();
    for node in &nodes {
        counts.push(starts(&lab, node)?);
    }
    let end = Instant::now() + outage();
    for file in &files {
        fs::remove_file(file)?;
        eventually("a file to be mended without an API server", async || {
            ensure!(file.exists(), "it is missing");
            Ok(())
        })
        .await?;
    }
    for (node, count) in nodes.iter().zip(counts) {
        eventually(
            &format!("a container on {node} to start without an API server"),
            async || {
                let now = starts(&lab, node)?;
                ensure!(now > count, "{now} starts, and {count} before");
                Ok(())
            },
        )
        .await?;
    }
    // An outage has a length; nothing tells that it is over.
    tokio::time::sleep_until(end.into()).await;
    lab.local()?.cluster_mut().start_apiserver().await?;
    let back = Instant::now();
    lab.profile(&namespace, "web", &no_mkdir(71)).await?;
    tell(&format!(
        "Ready {} ms after the API server's return",
        back.elapsed().as_millis()
    ));
    assert_eq!(lab.restarts().await?, before, "of Callgate's containers");
    // An outage is a few lines of a log, however long it is.
    let ours = "--selector=app.kubernetes.io/name=callgate";
    let log = lab
        .kubectl(&[
            "logs",
            "--namespace",
            NAMESPACE,
            ours,
            "--prefix",
            "--tail=-1",
            &format!("--since={}s", stopped.elapsed()?.as_secs() + 1),
        ])
        .await?;
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
        .collect();
    ensure!(!complaints.is_empty(), "nothing tells of the outage");
    ensure!(
        complaints.len() < 120,
        "{} lines: {complaints:#?}",
        complaints.len()
    );

    lab.local()?.cluster_mut().restart_etcd().await?;
    lab.profile(&namespace, "web", &no_mkdir(72)).await?;
    assert_eq!(lab.restarts().await?, before, "of Callgate's containers");
    lab.done(&namespace).await
}

#[tokio::test]
async fn without_a_controller_profiles_reach_nodes_and_one_leader_follows_another() -> Result<()> {
    let Some(lab) = alone().await? else { return Ok(()) };
    let namespace = lab.namespace("leader").await?;
    let scale = |count: &'static str| {
        [
            "scale",
            "deployment/callgate-controller",
            "--namespace",
            NAMESPACE,
            count,
        ]
    };
    lab.kubectl(&scale("--replicas=0")).await?;
    lab.controllers(0).await?;
    lab.apply_profile(&namespace, "web", &no_mkdir(70)).await?;
    for node in lab.nodes().await? {
        let file = lab.file(&node, &namespace, "web")?;
        eventually(&format!("the file on {node}"), async || {
            ensure!(file.exists(), "it is missing");
            Ok(())
        })
        .await?;
        let pod = pod(
            &namespace,
            &node,
            &node,
            under(waiting("main"), &namespace, "web"),
        );
        lab.run(&pod).await?;
    }
    let profile = lab.get("scp", &namespace, "web").await?;
    ensure!(
        condition(&profile["status"]["conditions"], "Ready")["status"] != "True",
        "somebody wrote the status: {profile}"
    );
    lab.kubectl(&scale("--replicas=2")).await?;
    lab.controllers(2).await?;
    lab.profile_ready(&namespace, "web").await?;
    for errno in 71..75 {
        let leader = lab.leader().await?;
        lab.kubectl(&[
            "delete",
            "pod",
            &leader,
            "--namespace",
            NAMESPACE,
            "--grace-period=0",
            "--force",
        ])
        .await?;
        // The next one takes the Lease once it has run out.
        eventually("another leader", async || {
            let next = lab.leader().await?;
            ensure!(next != leader, "{leader} is gone, and leads by its Lease");
            Ok(())
        })
        .await?;
        lab.profile(&namespace, "web", &no_mkdir(errno)).await?;
        lab.controllers(2).await?;
    }
    lab.cluster().install_chart(&values(&[])).await?;
    lab.done(&namespace).await
}

/// A quick way to the profiles of a namespace: kubectl takes a tenth of a second for each call.
pub(crate) struct Profiles(kube::Api<kube::core::DynamicObject>);

impl Lab {
    async fn profiles(&self, namespace: &str) -> Result<Profiles> {
        let kind = kube::core::GroupVersionKind::gvk("callgate.dev", "v1alpha1", "SeccompProfile");
        let resource = kube::core::ApiResource::from_gvk(&kind);
        let client = self.cluster().admin().await?;
        Ok(Profiles(kube::Api::namespaced_with(client, namespace, &resource)))
    }
}

impl Profiles {
    async fn set_errno(&self, name: &str, errno: u32) -> Result<()> {
        let patch: Value = json!({ "spec": { "syscalls": no_mkdir(u16::try_from(errno)?)["syscalls"] } });
        self.0
            .patch(
                name,
                &kube::api::PatchParams::default(),
                &kube::api::Patch::Merge(&patch),
            )
            .await?;
        Ok(())
    }
}
