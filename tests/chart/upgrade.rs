//! From one version to the next, with profiles and pods in place; and both at work side by side.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use harness::{Cluster, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chart;
use crate::running::{
    NODE, Running, TEAM, apply, apply_profile, files, pod, profile, ready, requests, versions,
};

/// The chart of the version before this one, unpacked, with definitions that lack what [`AGED`] names: so there is a
/// difference, even where the two versions have none.
struct Previous {
    folder: TempDir,
}

/// Properties of the definitions' schemas, as if this version had brought them: one in the reports of agents, and one in
/// the status of a profile that nodes refuse.
const AGED: [(&str, &str); 2] = [
    ("seccompnodes.yaml", "kernel"),
    ("seccompprofiles.yaml", "failuresTotal"),
];

impl Previous {
    fn new() -> Result<Self> {
        let packed: Vec<_> = fs::read_dir(harness::repository().join("tests/chart/previous"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "tgz"))
            .collect();
        let [packed] = &packed[..] else {
            anyhow::bail!("not one chart in tests/chart/previous: {packed:?}");
        };
        let folder = tempfile::tempdir()?;
        let status = Command::new("tar")
            .arg("-xzf")
            .arg(packed)
            .arg("-C")
            .arg(folder.path())
            .status()?;
        ensure!(status.success(), "tar: {status}");
        let previous = Self { folder };
        for (file, property) in AGED {
            let file = previous.path().join("files/crds").join(file);
            fs::write(&file, without(&fs::read_to_string(&file)?, property)?)?;
        }
        Ok(previous)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("callgate")
    }
}

/// A definition as text, without the property of this name.
fn without(definition: &str, property: &str) -> Result<String> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut lines: Vec<_> = definition.lines().collect();
    let key = format!("{property}:");
    let start = lines.iter().position(|line| line.trim() == key);
    let start = start.with_context(|| format!("no property {property}"))?;
    let rest = lines[start + 1..].iter();
    let own = rest.take_while(|line| depth(line) > depth(lines[start])).count();
    lines.drain(start..=start + own);
    Ok(lines.join("\n") + "\n")
}

/// The schemas that the API server holds, of reports and of profiles.
async fn schemas(cluster: &Cluster) -> Result<[Value; 2]> {
    let mut schemas = Vec::new();
    for name in ["seccompnodes", "seccompprofiles"] {
        let definition = format!("crd/{name}.callgate.dev");
        let get = ["get", &definition, "--output=json"];
        let mut definition: Value = serde_json::from_str(&cluster.kubectl(&get, "").await?.ok()?)?;
        schemas.push(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take());
    }
    schemas.try_into().ok().context("not two")
}

/// Those of this version.
fn schemas_of_this_version() -> Result<[Value; 2]> {
    let read = |file| -> Result<Value> {
        let text = fs::read_to_string(harness::repository().join("crds").join(file))?;
        let mut definition: Value = serde_saphyr::from_str(&text)?;
        Ok(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take())
    };
    Ok([read("seccompnodes.yaml")?, read("seccompprofiles.yaml")?])
}

/// A spec that the controller and every node refuse.
fn contradictory() -> Value {
    let rule = |errno| {
        json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
            "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]})
    };
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule(5), rule(6)]})
}

/// How often the API server was asked to list profiles, to write a report, and to write a status.
#[derive(Debug)]
struct Asked {
    lists: u64,
    reports: u64,
    statuses: u64,
}

async fn asked(cluster: &Cluster) -> Result<Asked> {
    let writes = ["APPLY", "PATCH", "POST", "PUT"];
    Ok(Asked {
        lists: requests(cluster, &["LIST"], "seccompprofiles").await?,
        reports: requests(cluster, &writes, "seccompnodes").await?,
        statuses: requests(cluster, &writes, "seccompprofiles/status").await?,
    })
}

/// The report of the agent.
async fn report(cluster: &Cluster) -> Result<Value> {
    let get = ["get", "seccompnodes.callgate.dev", NODE, "--output=json"];
    Ok(serde_json::from_str(&cluster.kubectl(&get, "").await?.ok()?)?)
}

#[tokio::test]
async fn an_upgrade_and_a_move_bring_the_definitions_and_touch_neither_files_nor_statuses() -> Result<()> {
    let previous = Previous::new()?;
    let cluster = Cluster::start().await?;
    let root = tempfile::tempdir()?;
    let (root, chart) = (root.path(), chart()?);
    let old = previous.path();
    let old = old.to_str().context("the path is not UTF-8")?;
    let here = "--namespace=callgate";
    cluster
        .helm(&["install", "callgate", old, here, "--create-namespace"])
        .await?
        .ok()?;
    cluster.namespace(TEAM).await?;
    cluster.in_force("callgate").await?;
    ensure!(
        schemas(&cluster).await? != schemas_of_this_version()?,
        "the fixture is no older"
    );

    // Programs that know more than the definitions do, as after `helm rollback`, and while CustomResourceDefinitions are
    // left to somebody else (`crds.enabled=false`).
    let running = Running::start(&cluster, "callgate", root, "1h").await?;
    apply_profile(&cluster, "used", 1).await?;
    apply_profile(&cluster, "unused", 2).await?;
    apply(&cluster, &profile("wrong", &contradictory())).await?;
    ready(&cluster, &["used", "unused"]).await?;
    apply(&cluster, &pod("at-work", "used")).await?;
    cluster.pod_ready(TEAM, "at-work", true).await?;
    eventually("everything to be reported", async || {
        let report = report(&cluster).await?;
        ensure!(report["inUse"] == json!(["team/used"]), "{report}");
        ensure!(
            report["failures"][0]["profiles"][0]["profile"] == "team/wrong",
            "{report}"
        );
        ensure!(report["versions"].get("kernel").is_none(), "{report}");
        Ok(())
    })
    .await?;
    let (files_before, mut statuses_before) = (files(root)?, versions(&cluster, "scp").await?);
    ensure!(files_before.len() == 2, "{files_before:?}");
    ensure!(statuses_before.remove("wrong").is_some());

    // The old pods see the definitions change.
    let asked_before = asked(&cluster).await?;
    let upgrade = ["upgrade", "callgate", &chart, here, "--reset-then-reuse-values"];
    cluster.helm(&upgrade).await?.ok()?;
    assert_eq!(schemas(&cluster).await?, schemas_of_this_version()?);
    apply_profile(&cluster, "seen-by-old-programs", 3).await?;
    ready(&cluster, &["used", "unused", "seen-by-old-programs"]).await?;
    running.terminate().await?;

    let running = Running::start(&cluster, "callgate", root, "1h").await?;
    eventually("the new agent's report", async || {
        let report = report(&cluster).await?;
        ensure!(report["versions"].get("kernel").is_some(), "{report}");
        Ok(())
    })
    .await?;
    apply_profile(&cluster, "seen-by-new-programs", 4).await?;
    ready(&cluster, &["used", "unused", "seen-by-new-programs"]).await?;
    let unchanged = async || {
        let (mut files, mut statuses) = (files(root)?, versions(&cluster, "scp").await?);
        files.retain(|file, _| files_before.contains_key(file));
        // In that of the third there is something new to say.
        statuses.retain(|name, _| name != "wrong" && statuses_before.contains_key(name));
        assert_eq!(files, files_before);
        assert_eq!(statuses, statuses_before);
        anyhow::Ok(())
    };
    unchanged().await?;
    let asked_after = asked(&cluster).await?;
    let more = |of: fn(&Asked) -> u64| of(&asked_after) - of(&asked_before);
    // One of each program that starts, one of each that lost its watch, and those of the API server's own policies.
    ensure!(
        more(|asked| asked.lists) <= 6,
        "{asked_before:?}, then {asked_after:?}"
    );
    // The two new profiles in both, and the two new fields.
    ensure!(
        more(|asked| asked.reports) <= 6,
        "{asked_before:?}, then {asked_after:?}"
    );
    ensure!(
        more(|asked| asked.statuses) <= 5,
        "{asked_before:?}, then {asked_after:?}"
    );
    running.terminate().await?;

    // And into another namespace, with the definitions that an uninstall keeps.
    cluster.helm(&["uninstall", "callgate", here]).await?.ok()?;
    let there = [
        "install",
        "callgate",
        &chart,
        "--namespace=security",
        "--create-namespace",
    ];
    cluster
        .helm(&[&there[..], &["--take-ownership"]].concat())
        .await?
        .ok()?;
    cluster.in_force("security").await?;
    let running = Running::start(&cluster, "security", root, "1h").await?;
    apply_profile(&cluster, "seen-from-there", 5).await?;
    ready(&cluster, &["used", "unused", "seen-from-there"]).await?;
    unchanged().await?;
    running.terminate().await
}
