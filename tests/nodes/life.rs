//! Installing, upgrading and removing Callgate beneath workloads that run.

use std::fs;

use anyhow::{Context as _, Result};
use harness::NAMESPACE;

use crate::lab::{alone, profile, values};
use crate::pods::pod_under;
use crate::rollout::{mkdir, no_mkdir};
use crate::steady::{Reader, inodes};

#[tokio::test]
async fn an_upgrade_and_an_uninstall_leave_files_and_workloads_alone() -> Result<()> {
    let Some(lab) = alone().await? else { return Ok(()) };
    let namespace = lab.namespace("upgrade").await?;
    lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    let (mut pods, mut files) = (Vec::new(), Vec::new());
    for node in lab.nodes().await? {
        let pod = pod_under(&namespace, &node, "web");
        lab.run(&pod).await?;
        pods.push(pod);
        files.push(lab.file(&node, &namespace, "web")?);
    }
    let before = inodes(&files)?;
    let reader = Reader::start(files.clone())?;

    lab.cluster()
        .install_chart(&values(&["--set", "logFormat=json"]))
        .await?;
    lab.kubectl(&[
        "rollout",
        "status",
        "daemonset/callgate-agent",
        "--namespace",
        NAMESPACE,
        "--timeout=120s",
    ])
    .await?;
    for pod in &pods {
        lab.restart(pod).await?;
    }

    lab.uninstall().await?;
    for pod in &pods {
        lab.restart(pod).await?;
    }

    lab.cluster()
        .install_chart(&values(&["--take-ownership", "--force-conflicts"]))
        .await?;
    lab.profile_ready(&namespace, "web").await?;
    reader.finish()?;
    assert_eq!(inodes(&files)?, before, "files were written anew");
    lab.done(&namespace).await
}

#[tokio::test]
async fn a_node_that_callgate_install_filled_serves_pods_without_any_agent() -> Result<()> {
    let Some(lab) = alone().await? else { return Ok(()) };
    let namespace = lab.namespace("by-hand").await?;
    lab.uninstall().await?;
    let folder = lab.cluster().directory().join("by-hand");
    fs::create_dir(&folder)?;
    let manifest = profile(&namespace, "web", &no_mkdir(70));
    fs::write(folder.join("web.json"), manifest.to_string())?;
    let folder = folder
        .to_str()
        .context("a temporary directory has a plain name")?;
    let mut pods = Vec::new();
    for node in lab.nodes().await? {
        // What an agent left says whose it is: a node of no cluster has nothing.
        fs::remove_dir_all(lab.store(&node)?)?;
        let arguments = ["install", folder, "--seccomp-root", "/var/lib/kubelet/seccomp"];
        lab.node(&node)?.run(env!("CARGO_BIN_EXE_callgate"), &arguments)?;
        let pod = pod_under(&namespace, &node, "web");
        lab.run(&pod).await?;
        assert_eq!(
            lab.ask(&pod, &mkdir()).await?,
            bed::Answer::errno(70),
            "on {node}"
        );
        pods.push(pod);
    }
    // Agents take over what is there, and keep what pods use.
    lab.cluster()
        .install_chart(&values(&["--take-ownership", "--force-conflicts"]))
        .await?;
    lab.apply(&manifest).await?;
    lab.profile_ready(&namespace, "web").await?;
    for pod in &pods {
        lab.restart(pod).await?;
    }
    lab.done(&namespace).await
}
