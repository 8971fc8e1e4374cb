//! What the chart renders, without a cluster.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::chart;

fn read(path: &str) -> Result<String> {
    fs::read_to_string(harness::repository().join(path)).with_context(|| path.to_owned())
}

/// Asserts that a file of `deploy/` is what the chart renders, below a first line of its own.
fn assert_is_rendered(file: &str, arguments: &[&str]) -> Result<()> {
    let home = tempfile::tempdir()?;
    let rendered = Command::new(harness::helm()?)
        .args(["template", "callgate", &chart()?, "--namespace", "callgate"])
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .output()?;
    ensure!(
        rendered.status.success(),
        "{}",
        String::from_utf8_lossy(&rendered.stderr)
    );
    let manifests = read(file)?;
    let (_, written) = manifests.split_once('\n').context("it is empty")?;
    assert!(
        written == String::from_utf8(rendered.stdout)?,
        "{file} is not what charts/callgate renders: run make manifests"
    );
    Ok(())
}

#[test]
fn the_manifests_for_kubectl_are_what_the_chart_renders() -> Result<()> {
    assert_is_rendered("deploy/callgate.yaml", &[])?;
    assert_is_rendered(
        "deploy/monitoring/monitoring.yaml",
        &[
            "--show-only=templates/monitoring.yaml",
            "--set=monitoring.podMonitor.enabled=true",
            "--set=monitoring.prometheusRule.enabled=true",
            "--set=monitoring.dashboard.enabled=true",
        ],
    )
}

#[test]
fn the_charts_definitions_are_those_of_this_version() -> Result<()> {
    for file in ["seccompnodes.yaml", "seccompprofiles.yaml"] {
        assert!(
            read(&format!("charts/callgate/files/crds/{file}"))? == read(&format!("crds/{file}"))?,
            "charts/callgate/files/crds/{file} is not crds/{file}: run make manifests"
        );
    }
    let chart: Value = serde_saphyr::from_str(&read("charts/callgate/Chart.yaml")?)?;
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    Ok(())
}
