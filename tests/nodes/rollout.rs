//! Changes of a profile, as nodes and containers see them.

use anyhow::{Context as _, Result, ensure};
use bed::{Answer, Call};
use harness::eventually;
use serde_json::{Value, json};

use crate::lab::{condition, disks, shared};
use crate::pods::pod_under;

/// Allows all but mkdir, which gets this errno.
pub(crate) fn no_mkdir(errno: u16) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }],
    })
}

/// A call that does nothing where it is made.
pub(crate) fn mkdir() -> Call {
    Call::native(u32::try_from(libc::SYS_mkdir).unwrap_or_default(), &[0, 0])
}

#[tokio::test]
async fn a_running_container_keeps_its_filter_and_a_restarted_one_has_the_new() -> Result<()> {
    let lab = shared().await?;
    let namespace = lab.namespace("update").await?;
    let first = lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    let mut pods = Vec::new();
    for node in lab.nodes().await? {
        let pod = pod_under(&namespace, &node, "web");
        lab.run(&pod).await?;
        assert_eq!(lab.ask(&pod, &mkdir()).await?, Answer::errno(70), "on {node}");
        pods.push(pod);
    }
    // Ready is of the generation that it names: each one comes to its own digest.
    let mut digests = vec![first];
    for errno in 71..75 {
        let digest = lab.profile(&namespace, "web", &no_mkdir(errno)).await?;
        ensure!(!digests.contains(&digest), "the digest of an earlier generation");
        digests.push(digest);
    }
    for pod in &pods {
        assert_eq!(
            lab.ask(pod, &mkdir()).await?,
            Answer::errno(70),
            "while it runs: {pod}"
        );
        lab.restart(pod).await?;
        assert_eq!(
            lab.ask(pod, &mkdir()).await?,
            Answer::errno(74),
            "restarted: {pod}"
        );
    }
    lab.done(&namespace).await
}

#[tokio::test]
async fn a_broken_update_changes_nothing_on_disk_and_says_what_is_live() -> Result<()> {
    let Some(lab) = disks().await? else { return Ok(()) };
    let namespace = lab.namespace("broken").await?;
    let live = lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    let mut before = Vec::new();
    for node in lab.nodes().await? {
        lab.file_is(&node, &namespace, "web", &live).await?;
        let file = lab.file(&node, &namespace, "web")?;
        before.push((std::fs::read(&file)?, file, node));
    }
    let mut broken = no_mkdir(70);
    broken["syscalls"]
        .as_array_mut()
        .context("a profile has entries")?
        .push(json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71 }));
    lab.apply_profile(&namespace, "web", &broken).await?;
    lab.condition(&namespace, "web", "Valid", |status, _| status == "False")
        .await?;
    let profile = lab
        .condition(&namespace, "web", "Ready", |status, _| status == "False")
        .await?;
    let message = condition(&profile["status"]["conditions"], "Valid")["message"].to_string();
    ensure!(
        message.contains("spec.syscalls[1]"),
        "it does not name the place: {message}"
    );
    eventually("the status to say what is live", async || {
        let profile = lab.get("scp", &namespace, "web").await?;
        let failures = profile["status"]["failures"].to_string();
        ensure!(failures.contains(&live), "{failures}");
        Ok(())
    })
    .await?;
    // An agent says so as well, and by then it has done what it does.
    for (_, _, node) in &before {
        eventually(&format!("{node} to report the failure"), async || {
            let report = lab.get("seccompnode", "", node).await?;
            let failures = report["failures"].to_string();
            ensure!(failures.contains(&format!("{namespace}/web")), "{failures}");
            Ok(())
        })
        .await?;
    }
    for (contents, file, node) in &before {
        assert_eq!(&std::fs::read(file)?, contents, "on {node}");
        let pod = pod_under(&namespace, node, "web");
        lab.run(&pod).await?;
        assert_eq!(lab.ask(&pod, &mkdir()).await?, Answer::errno(70), "on {node}");
    }
    lab.profile(&namespace, "web", &no_mkdir(72)).await?;
    lab.done(&namespace).await
}
