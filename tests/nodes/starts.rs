//! Containers start under distributed profiles, and the kernel answers them what the profiles mean.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use harness::{Software, eventually};
use serde_json::{Value, json};

use crate::lab::{disks, shared, tell};
use crate::pods::{container, localhost, name_of, pod, under, waiting};
use crate::probe::{agrees, predicted, probe};

/// Errnos that the kernel gives none of the probe's calls.
const DENIALS: [u16; 5] = [70, 71, 72, 73, 74];

/// Allows by default; conditions of most kinds.
fn open() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            { "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 70 },
            { "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71,
              "args": [{ "index": 0, "op": "SCMP_CMP_EQ", "value": 8 }] },
            { "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 72,
              "args": [{ "index": 0, "op": "SCMP_CMP_GE", "value": 38 }] },
            { "names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 73,
              "args": [{ "index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0o70, "valueTwo": 0o70 }] },
            { "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 74,
              "args": [{ "index": 0, "op": "SCMP_CMP_NE", "value": 0 }, { "index": 1, "op": "SCMP_CMP_LT", "value": 9 }] },
        ],
    })
}

/// Another one, of which the probe sees the difference.
fn other() -> Value {
    let mut spec = open();
    spec["syscalls"] = json!([
        { "names": ["sched_yield"], "action": "SCMP_ACT_ERRNO", "errnoRet": 70 },
        { "names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71,
          "args": [{ "index": 0, "op": "SCMP_CMP_LE", "value": 0o22 }] },
    ]);
    spec
}

#[tokio::test]
async fn init_ordinary_and_ephemeral_containers_are_answered_what_their_profiles_mean() -> Result<()> {
    let lab = shared().await?;
    let namespace = lab.namespace("levels").await?;
    lab.profile(&namespace, "open", &open()).await?;
    lab.profile(&namespace, "other", &other()).await?;
    for node in lab.nodes().await? {
        let mut all = pod(&namespace, &format!("all-{node}"), &node, waiting("main"));
        all["spec"]["initContainers"] = json!([ending(under(probe("init"), &namespace, "open"))]);
        let mut ends = pod(
            &namespace,
            &format!("ends-{node}"),
            &node,
            under(probe("main"), &namespace, "other"),
        );
        ends["spec"]["restartPolicy"] = json!("Never");
        // The probe ends by a signal, which an init container must not.
        all["spec"]["restartPolicy"] = json!("Never");
        let mut whole = pod(&namespace, &format!("whole-{node}"), &node, probe("main"));
        whole["spec"]["securityContext"] = localhost(&namespace, "open");
        whole["spec"]["restartPolicy"] = json!("Never");
        for one in [&all, &ends, &whole] {
            lab.apply(one).await?;
        }
        lab.pod_ready(&all).await?;
        let (_, name) = name_of(&all)?;
        lab.add_ephemeral(&all, &under(probe("later"), &namespace, "other"))
            .await?;
        eventually("the ephemeral container to end", async || {
            let pod = lab.get("pod", &namespace, name).await?;
            let state = &pod["status"]["ephemeralContainerStatuses"][0]["state"];
            ensure!(state["terminated"].is_object(), "{state}");
            Ok(())
        })
        .await?;
        lab.finished(&ends).await?;
        lab.finished(&whole).await?;
        for (pod, container, spec) in [
            (&all, "init", open()),
            (&all, "later", other()),
            (&ends, "main", other()),
            (&whole, "main", open()),
        ] {
            agrees(&lab.answers(pod, container).await?, &predicted(&spec)?, &DENIALS)
                .with_context(|| format!("{container} of {}", pod["metadata"]["name"]))?;
        }
    }
    lab.done(&namespace).await
}

/// A shell around the probe, which turns its end by a signal into a good one.
fn ending(mut probe: Value) -> Value {
    let command = probe["command"].as_array().cloned().unwrap_or_default();
    let mut all = vec![json!("sh"), json!("-c"), json!("\"$@\"; true"), json!("sh")];
    all.extend(command);
    probe["command"] = Value::Array(all);
    probe
}

#[tokio::test]
async fn the_kernel_shows_one_filter_in_the_container_and_none_without_a_profile() -> Result<()> {
    let lab = shared().await?;
    let namespace = lab.namespace("filters").await?;
    lab.profile(&namespace, "open", &open()).await?;
    for node in lab.nodes().await? {
        let with = pod(
            &namespace,
            &format!("with-{node}"),
            &node,
            under(waiting("main"), &namespace, "open"),
        );
        // Said, as a kubelet with seccompDefault gives a profile to all that say nothing.
        let mut unconfined = waiting("main");
        unconfined["securityContext"] = json!({ "seccompProfile": { "type": "Unconfined" } });
        let without = pod(&namespace, &format!("without-{node}"), &node, unconfined);
        for (pod, expected) in [(with, ["2", "1"]), (without, ["0", "0"])] {
            lab.run(&pod).await?;
            let status = lab.exec(&pod, &["cat", "/proc/1/status"]).await?;
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.map(|line| line.trim().to_owned()).unwrap_or_default()
            };
            // Mode 2 is SECCOMP_MODE_FILTER.
            assert_eq!(
                [field("Seccomp:"), field("Seccomp_filters:")],
                expected,
                "on {node}"
            );
        }
    }
    lab.done(&namespace).await
}

#[tokio::test]
async fn what_a_finding_says_of_starts_on_runc_comes_true_there_and_not_on_crun() -> Result<()> {
    let Some(lab) = disks().await? else { return Ok(()) };
    let namespace = lab.namespace("needs").await?;
    let mut spec = open();
    spec["syscalls"] = json!([{ "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 70 }]);
    lab.profile(&namespace, "web", &spec).await?;
    let profile = lab.get("scp", &namespace, "web").await?;
    let findings = profile["status"]["findings"]
        .as_array()
        .context("it has no findings")?;
    let found = findings
        .iter()
        .find(|finding| finding["code"] == "needs-no-new-privs");
    let said = found.context("nothing is said about starts")?["message"].to_string();
    ensure!(said.contains("runc") && !said.contains("crun"), "{said}");
    for node in lab.nodes().await? {
        let runs_runc = lab.node(&node)?.software() == Software::Newest;
        for may_gain in [true, false] {
            let name = format!("{node}-{may_gain}");
            let mut pod = pod(
                &namespace,
                &name,
                &node,
                under(container("main", &["true"]), &namespace, "web"),
            );
            pod["spec"]["restartPolicy"] = json!("Never");
            pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(may_gain);
            lab.apply(&pod).await?;
            let phase = lab.finished(&pod).await?["status"]["phase"].clone();
            let expected = if runs_runc && may_gain {
                "Failed"
            } else {
                "Succeeded"
            };
            assert_eq!(phase, expected, "{name}");
        }
    }
    lab.done(&namespace).await
}

#[tokio::test]
async fn a_pod_that_came_before_its_profile_starts_by_itself_once_there_is_one() -> Result<()> {
    let lab = shared().await?;
    let namespace = lab.namespace("before").await?;
    let mut pods = Vec::new();
    for node in lab.nodes().await? {
        let early = pod(
            &namespace,
            &format!("early-{node}"),
            &node,
            under(waiting("main"), &namespace, "late"),
        );
        lab.apply(&early).await?;
        pods.push(early);
    }
    for pod in &pods {
        let why = lab.waits(pod, "CreateContainerError").await?;
        ensure!(
            why.contains(&format!("callgate/{namespace}/late.json")),
            "the pod does not say which file it waits for: {why}"
        );
    }
    let started = Instant::now();
    lab.profile(&namespace, "late", &open()).await?;
    let ready = started.elapsed();
    for pod in &pods {
        lab.pod_ready(pod).await?;
    }
    tell(&format!(
        "a waiting pod: its profile Ready after {} ms, all pods running after {} ms",
        ready.as_millis(),
        started.elapsed().as_millis()
    ));
    lab.done(&namespace).await
}
