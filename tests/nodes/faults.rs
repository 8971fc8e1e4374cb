//! What breaks while Callgate works: its own programs, the container runtime, the disk, the API server and its store.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::{NAMESPACE, eventually};
use serde_json::{Value, json};

use crate::lab::{Lab, alone, condition, values};
use crate::pods::{pod, under, waiting};
use crate::rollout::no_mkdir;
use crate::steady::Reader;

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
    let reader = Reader::start(files.clone());
    let profiles = lab.profiles(&namespace).await?;
    let mut killed = 0;
    for update in 0..1_000_u32 {
        let errno = 1 + update % 1_000;
        profiles.set_errno("web", errno).await?;
        // The kubelet waits longer with each end of a container, so an agent is killed whenever one runs.
        if update % 25 == 0 {
            for node in &nodes {
                for process in lab.agent_processes(node)? {
                    // It may have ended by itself: agent and fork server end together.
                    if lab.node(node)?.run("kill", &["-KILL", &process]).is_ok() {
                        killed += 1;
                    }
                }
            }
        }
    }
    ensure!(killed >= 2 * nodes.len(), "only {killed} processes were killed");
    // Whatever the kubelet makes of so many ends, a new pod begins at once.
    lab.kubectl(&[
        "delete",
        "pods",
        "--namespace",
        NAMESPACE,
        "--selector=app.kubernetes.io/component=agent",
    ])
    .await?;
    let digest = lab.profile_ready(&namespace, "web").await?;
    for file in &files {
        // Ready waits for no node whose agent is not there, and these have just been replaced.
        eventually("the last version on disk", async || {
            let now = callgate::profile::Digest::of(&fs::read(file)?).to_string();
            ensure!(now == digest, "{now} is there, and {digest} is to be");
            Ok(())
        })
        .await?;
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
        let reader = Reader::start(vec![file.clone()]);
        lab.node_mut(&node)?.kill_containerd();
        fs::remove_file(&file).context("the agent is no child of the runtime")?;
        eventually("the agent to mend its file", async || {
            ensure!(file.exists(), "it is missing");
            Ok(())
        })
        .await?;
        // It saw the moment without a file; what counts is that it never saw half of one.
        let seen = reader.finish();
        ensure!(
            seen.is_ok()
                || seen
                    .as_ref()
                    .is_err_and(|error| !format!("{error:#}").contains("not whole")),
            "{seen:?}"
        );
        lab.node_mut(&node)?.start_containerd().await?;
        lab.local()?.ready(&node).await?;
        let pod = pod(
            &namespace,
            &node,
            &node,
            under(waiting("main"), &namespace, "web"),
        );
        lab.run(&pod).await?;
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
        let delete = [
            "delete",
            "pod",
            "--namespace",
            NAMESPACE,
            &lab.agent(&node).await?,
        ];
        lab.kubectl(&delete).await?;
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
            let all = json!({ "status": { "conditions": report["conditions"] } });
            let writable = condition(&all, "StoreWritable");
            ensure!(writable["status"] == "False", "{writable}");
            ensure!(writable["reason"] == "DiskFull", "{writable}");
            Ok(())
        })
        .await?;
        assert_eq!(
            callgate::profile::Digest::of(&fs::read(&file)?).to_string(),
            live,
            "on {node}"
        );
        fs::remove_file(&ballast)?;
        lab.profile_ready(&namespace, "web").await?;
        lab.node(&node)?.run("umount", &["--lazy", seccomp])?;
        let delete = [
            "delete",
            "pod",
            "--namespace",
            NAMESPACE,
            &lab.agent(&node).await?,
        ];
        lab.kubectl(&delete).await?;
        assert_eq!(lab.profile(&namespace, "web", &no_mkdir(70)).await?, live);
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
    let mut counts = Vec::new();
    for node in &nodes {
        counts.push(starts(&lab, node)?);
    }
    lab.local()?.cluster_mut().stop_apiserver()?;
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
            "--since=10m",
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
        condition(&profile, "Ready")["status"] != "True",
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

#[expect(clippy::print_stdout, reason = "a measured time, shown with --nocapture")]
fn tell(text: &str) {
    println!("{text}");
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
