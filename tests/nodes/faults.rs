//! What breaks on a node while Callgate works: its own programs, the container runtime, the disk.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use callgate::profile::Digest;
use harness::eventually;
use serde_json::{Value, json};

use crate::lab::{Lab, alone, condition};
use crate::pods::pod_under;
use crate::rollout::no_mkdir;
use crate::steady::Reader;

/// Updates of a profile while agents are killed, and kills of an agent that is at work.
const UPDATES: u32 = 1_000;
const KILLS: u32 = 10;

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
    for (round, index) in (0..KILLS).zip((0..nodes.len()).cycle()) {
        let (node, file) = (&nodes[index], &files[index]);
        let each = UPDATES / KILLS;
        // At any point of its work: what it does is not waited for.
        let fatal = round * 7 % each;
        for update in 0..each {
            profiles.set_errno("web", 1 + round * each + update).await?;
            if update == fatal {
                let killed = lab.kill(node, "agent")?;
                ensure!(
                    killed == 1,
                    "{killed} agents were at work on {node} in round {round}"
                );
            }
        }
        // With a new pod it is back at once; once that is ready, what the kubelet started again in the old one has ended. It is
        // at work before the next round: it wrote a version that no node has seen.
        lab.replace_agent(node).await?;
        lab.synced(node).await?;
        let before = digest_of(file)?;
        profiles.set_errno("web", UPDATES + 1 + round).await?;
        eventually("the next agent to write", async || {
            ensure!(digest_of(file)? != before, "the file is the old one");
            Ok(())
        })
        .await?;
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
        let pod = pod_under(&namespace, &node, "web");
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
        let report = eventually("the report to say that the disk is full", async || {
            let report = lab.get("seccompnode", "", &node).await?;
            let writable = condition(&report["conditions"], "StoreWritable");
            ensure!(writable["status"] == "False", "{writable}");
            ensure!(writable["reason"] == "DiskFull", "{writable}");
            Ok(report)
        })
        .await?;
        let wrong: Vec<&Value> = report["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|condition| condition["status"] != "True")
            .map(|condition| &condition["type"])
            .collect();
        assert_eq!(wrong, ["StoreWritable"], "on {node}");
        assert_eq!(Digest::of(&fs::read(&file)?).to_string(), live, "on {node}");
        // The kubelet reads the seccomp directory as it is now.
        let pod = pod_under(&namespace, &node, "web");
        lab.run(&pod).await?;
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
