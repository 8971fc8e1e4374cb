//! What Callgate hangs on is away for a while: the API server, its store, the controllers.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use harness::{NAMESPACE, eventually};
use serde_json::json;

use crate::lab::{Lab, alone, condition, tell, values};
use crate::pods::pod_under;
use crate::rollout::no_mkdir;

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
async fn while_the_api_server_is_away_pods_start_and_files_are_mended_and_nothing_restarts() -> Result<()> {
    let Some(mut lab) = alone().await? else {
        return Ok(());
    };
    let namespace = lab.namespace("away").await?;
    lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    let nodes = lab.nodes().await?;
    let mut files = Vec::new();
    for node in &nodes {
        let mut pod = pod_under(&namespace, node, "web");
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
    lab.stop_apiserver()?;
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
    lab.start_apiserver().await?;
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
        let pod = pod_under(&namespace, &node, "web");
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
    let mut killed = 0;
    for (errno, node) in (71..).zip(lab.nodes().await?) {
        // Without a word: the Lease is not given back. Who held it takes it again, or the other when it has run out.
        killed += lab.kill(&node, "controller")?;
        lab.profile(&namespace, "web", &no_mkdir(errno)).await?;
        lab.controllers(2).await?;
    }
    ensure!(killed == 2, "{killed} controllers were killed");
    for errno in 81..85 {
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
        // It gives the Lease back at its end, if its token still counts without its pod; else that runs out.
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
