//! `kind/`, as far as it can be run without Docker: kind reads the settings, and the scripts take their steps on the local
//! nodes, where a stand-in for kind has their kubeconfig to give.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use harness::repository;

use crate::lab::{self, alone, values};

/// What the scripts ask kind for; each request is written down.
const STAND_IN: &str = r#"#!/bin/sh
set -eu
echo "$*" >>"$STAND_IN_LOG"
case "$1 $2" in
"get clusters") ;;
"create cluster") test -f "$6" ;;
"load image-archive") test -f "$5" ;;
"export kubeconfig") cp "$STAND_IN_KUBECONFIG" "$6" ;;
"delete cluster") ;;
*) echo "kind: the stand-in does not know $*" >&2; exit 1 ;;
esac
"#;

/// kind itself, with nothing on its way that runs containers.
fn create(settings: &Path) -> Result<String> {
    let output = Command::new(harness::kind()?)
        .args(["create", "cluster", "--name=callgate-test", "--config"])
        .arg(settings)
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("PATH", "/nonexistent")
        .output()?;
    ensure!(!output.status.success(), "kind made a cluster without containers");
    Ok(String::from_utf8(output.stderr)?)
}

#[test]
fn kind_takes_the_settings_of_its_cluster() -> Result<()> {
    if lab::is_existing("it needs the kind of make nodes") {
        return Ok(());
    }
    let settings = repository().join("kind/cluster.yaml");
    let folder = tempfile::tempdir()?;
    let broken = folder.path().join("cluster.yaml");
    fs::write(
        &broken,
        fs::read_to_string(&settings)?.replace("role: worker", "rolle: worker"),
    )?;
    let why = create(&broken)?;
    ensure!(
        why.contains("field rolle not found"),
        "kind did not read the settings: {why}"
    );
    let why = create(&settings)?;
    ensure!(
        why.contains("executable file not found") && !why.contains("decode"),
        "kind has something against the settings: {why}"
    );
    Ok(())
}

#[tokio::test]
async fn the_scripts_for_kind_install_callgate_and_run_this_suite_in_it() -> Result<()> {
    let Some(lab) = alone().await? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let stand_in = folder.path().join("kind");
    fs::write(&stand_in, STAND_IN)?;
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = harness::helm()?;
    let tools = tools.parent().context("helm lies in a directory")?;
    let all = [folder.path(), tools].map(Path::to_owned).into_iter();
    let path = std::env::join_paths(all.chain(std::env::split_paths(&path)))?;
    let run = async |script: &str, arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(repository().join("kind").join(script));
        command
            .args(arguments)
            .env("PATH", &path)
            .env("STAND_IN_LOG", &log)
            .env("STAND_IN_KUBECONFIG", lab.cluster().kubeconfig())
            .env("CALLGATE_KIND_KUBECONFIG", folder.path().join("kubeconfig"))
            .env_remove("LD_LIBRARY_PATH");
        // What cargo tells a test is not for the cargo of a script, which would build all anew.
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("CARGO_") && !["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&&*name) {
                command.env_remove(&key);
            }
        }
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        ensure!(
            output.status.success(),
            "kind/{script}: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    };

    let told = String::from_utf8(run("up", &[]).await?.stdout)?;
    // What it says to try is tried, to the letter but for the end of each line.
    let commands = told.lines().filter_map(|line| line.strip_prefix("  kubectl "));
    let mut refused = 0;
    for command in commands {
        let (command, note) = command.split_once('#').unwrap_or((command, ""));
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let output = if note.is_empty() {
            lab.kubectl(&arguments).await?;
            continue;
        } else if arguments.contains(&"delete") {
            // Refused once the node's report says that the pod uses it, which takes a moment.
            harness::eventually("the deletion to be refused", async || {
                let mut dry = arguments.clone();
                dry.push("--dry-run=server");
                let output = lab.cluster().kubectl(&dry, "").await?;
                ensure!(!output.success, "it would be deleted");
                Ok(output)
            })
            .await?
        } else {
            lab.cluster().kubectl(&arguments, "").await?
        };
        let why = if arguments.contains(&"exec") {
            "Operation not permitted"
        } else {
            "ValidatingAdmissionPolicy"
        };
        ensure!(
            !output.success && output.stderr.contains(why),
            "{command}: {}",
            output.stderr
        );
        refused += 1;
    }
    assert_eq!(refused, 2, "{told}");
    lab.kubectl(&["delete", "namespace", "shop", "--timeout=60s"])
        .await?;

    let some = ["starts::the_kernel_shows", "kind::kind_takes", "finalizer"];
    let tested = String::from_utf8(run("test", &some).await?.stdout)?;
    ensure!(tested.contains("3 passed"), "{tested}");
    run("down", &[]).await?;
    let asked = fs::read_to_string(&log)?;
    for step in [
        "create cluster",
        "load image-archive",
        "export kubeconfig",
        "delete cluster",
    ] {
        ensure!(asked.contains(step), "kind was not asked to {step}: {asked}");
    }
    lab.cluster().install_chart(&values(&[])).await?;
    Ok(())
}
