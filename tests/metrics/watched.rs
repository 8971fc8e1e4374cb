//! The dashboard, the alerts and their pages, against what is exposed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use harness::{promtool, repository};
use serde_json::Value;

use crate::System;

const ALERTS: &str = "charts/callgate/files/alerts.yaml";
const DASHBOARD: &str = "charts/callgate/files/dashboard.json";

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(repository().join(path)).with_context(|| path.to_owned())
}

/// Runs promtool; what it says is the error.
fn run(arguments: &[&str], file: &Path) -> Result<()> {
    let output = Command::new(promtool()?).args(arguments).arg(file).output()?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "promtool {arguments:?} {}: {said}",
        file.display()
    );
    Ok(())
}

fn alerts() -> Result<Vec<Value>> {
    let rules: Value = serde_saphyr::from_str(&read(ALERTS)?)?;
    let rules = rules["groups"][0]["rules"].as_array().context("no rules")?;
    Ok(rules.clone())
}

/// Every query of the dashboard, with an interval in the place of Grafana's.
fn queries() -> Result<Vec<String>> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)?)?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().context("a target without a query")?;
            queries.push(query.replace("$__rate_interval", "5m"));
        }
    }
    Ok(queries)
}

/// The selectors in a query that name series of ours: `callgate_agent_syncs_total`, or with `{…}` behind it.
fn selectors(query: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    query
        .match_indices("callgate_")
        .map(|(begin, _)| {
            let rest = &query[begin..];
            let name = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
            let end = if rest[name..].starts_with('{') {
                name + rest[name..].find('}').map_or(0, |end| end + 1)
            } else {
                name
            };
            rest[..end].to_owned()
        })
        .collect()
}

/// What promtool says to each selector that selects nothing of what is exposed.
async fn promtool_finds(selectors: &BTreeSet<String>) -> Result<()> {
    let system = System::shared().await?;
    let directory = tempfile::tempdir()?;
    let mut rules = "groups:\n- name: all\n  rules:\n".to_owned();
    let mut test =
        "rule_files: [rules.yaml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n"
            .to_owned();
    for family in system
        .agent_families()?
        .into_iter()
        .chain(system.controller_families()?)
    {
        for (name, labels) in family.series {
            let labels: Vec<_> = labels
                .iter()
                .map(|(label, value)| format!("{label}=\"{value}\""))
                .collect();
            writeln!(
                test,
                "  - series: '{name}{{{}}}'\n    values: 0x5",
                labels.join(",")
            )?;
        }
    }
    test.push_str("  alert_rule_test:\n");
    for (number, selector) in selectors.iter().enumerate() {
        writeln!(rules, "  - alert: Absent{number}\n    expr: 'absent({selector})'")?;
        writeln!(rules, "    annotations:\n      selector: '{selector}'")?;
        writeln!(test, "  - eval_time: 1m\n    alertname: Absent{number}")?;
    }
    std::fs::write(directory.path().join("rules.yaml"), rules)?;
    let file = directory.path().join("test.yaml");
    std::fs::write(&file, test)?;
    run(&["test", "rules"], &file)
}

#[tokio::test]
async fn dashboard_and_alerts_ask_for_series_that_are_exposed() -> Result<()> {
    let mut asked = BTreeSet::new();
    for query in queries()? {
        let selectors = selectors(&query);
        ensure!(!selectors.is_empty(), "{query} asks for nothing of ours");
        asked.extend(selectors);
    }
    for alert in alerts()? {
        asked.extend(selectors(alert["expr"].as_str().context("no expression")?));
    }
    ensure!(asked.len() > 30, "{asked:?}");
    promtool_finds(&asked).await?;
    // It would find what is not there.
    for wrong in [
        "callgate_agent_sinks_total",
        "callgate_agent_profiles{state=\"alive\"}",
    ] {
        let found = promtool_finds(&BTreeSet::from([wrong.to_owned()])).await;
        ensure!(found.is_err(), "{wrong} is exposed");
    }
    Ok(())
}

#[test]
fn every_query_of_the_dashboard_is_promql() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("rules.yaml");
    let mut rules = "groups:\n- name: all\n  rules:\n".to_owned();
    for (number, query) in queries()?.iter().enumerate() {
        writeln!(rules, "  - record: dashboard:query{number}\n    expr: '{query}'")?;
    }
    std::fs::write(&file, rules)?;
    run(&["check", "rules"], &file)
}

#[test]
fn panels_have_titles_of_their_own_and_lie_beside_each_other() -> Result<()> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let (mut titles, mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().context("no title")?;
        ensure!(titles.insert(title), "two panels are called {title}");
        ensure!(ids.insert(panel["id"].as_u64()), "{title} has the id of another");
        ensure!(
            panel["type"] == "row" || panel["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{title} says nothing of itself"
        );
        let at = |key: &str| panel["gridPos"][key].as_u64().context("no place");
        for x in at("x")?..at("x")? + at("w")? {
            for y in at("y")?..at("y")? + at("h")? {
                ensure!(x < 24 && cells.insert((x, y)), "{title} covers another");
            }
        }
    }
    Ok(())
}

#[test]
fn alerts_fire_when_they_should_and_only_then() -> Result<()> {
    run(
        &["check", "rules", "--lint=all", "--lint-fatal"],
        &repository().join(ALERTS),
    )?;
    run(
        &["test", "rules"],
        &repository().join("tests/metrics/alerts.yaml"),
    )
}

#[test]
fn every_alert_is_tested_to_fire_and_to_be_silent_and_has_a_page() -> Result<()> {
    let tests: Value = serde_saphyr::from_str(&read("tests/metrics/alerts.yaml")?)?;
    let (mut firing, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for test in tests["tests"].as_array().context("no tests")? {
        for case in test["alert_rule_test"].as_array().context("no cases")? {
            let name = case["alertname"].as_str().context("no name")?.to_owned();
            match case["exp_alerts"].as_array() {
                Some(_) => firing.insert(name),
                None => silent.insert(name),
            };
        }
    }
    let page = read("docs/metrics.md")?;
    let mut runbooks = BTreeSet::new();
    for alert in alerts()? {
        let name = alert["alert"].as_str().context("no name")?;
        ensure!(firing.contains(name), "no test lets {name} fire");
        ensure!(silent.contains(name), "no test keeps {name} silent");
        ensure!(alert["labels"]["severity"] == "warning", "{name} has no severity");
        let url = alert["annotations"]["runbook_url"]
            .as_str()
            .context("no runbook_url")?;
        ensure!(
            url.ends_with(&format!("/docs/runbooks/{name}.md")),
            "{name} leads to {url}"
        );
        ensure!(
            page.contains(&format!("](runbooks/{name}.md)")),
            "docs/metrics.md does not list {name}"
        );
        let runbook = read(&format!("docs/runbooks/{name}.md"))?;
        for heading in ["## What it means", "## What to look at", "## What to do"] {
            ensure!(runbook.contains(heading), "the page of {name} has no {heading:?}");
        }
        runbooks.insert(format!("{name}.md"));
    }
    for file in std::fs::read_dir(repository().join("docs/runbooks"))? {
        let name = file?.file_name().to_string_lossy().into_owned();
        ensure!(
            runbooks.contains(&name),
            "docs/runbooks/{name} is the page of no alert"
        );
    }
    Ok(())
}

/// Of `kubectl logs` there is nothing to be had without kubelets.
#[tokio::test]
async fn what_the_pages_say_to_look_at_can_be_looked_at() -> Result<()> {
    let system = System::shared().await?;
    let (mut ran, mut named) = (0, BTreeSet::new());
    for file in std::fs::read_dir(repository().join("docs/runbooks"))? {
        let page = std::fs::read_to_string(file?.path())?;
        for block in page.split("```sh\n").skip(1) {
            let commands = block.split("```").next().context("no end")?;
            for command in commands.lines() {
                let arguments: Vec<_> = command.split(' ').collect();
                ensure!(arguments[0] == "kubectl", "{command}");
                if !arguments.contains(&"logs") {
                    system
                        .cluster
                        .kubectl(&arguments[1..], "")
                        .await?
                        .ok()
                        .context(command.to_owned())?;
                    ran += 1;
                }
            }
        }
        named.extend(
            selectors(&page)
                .into_iter()
                .filter(|selector| !selector.ends_with('_')),
        );
    }
    ensure!(ran > 10, "{ran} commands");
    // Families are named without what Prometheus adds to them.
    let known: BTreeSet<_> = system
        .agent_families()?
        .into_iter()
        .chain(system.controller_families()?)
        .flat_map(|family| {
            family
                .series
                .into_iter()
                .map(|(name, _)| name)
                .chain([family.name])
        })
        .collect();
    for selector in named {
        let name = selector.split('{').next().context("no name")?;
        ensure!(known.contains(name), "a page names {selector}");
    }
    Ok(())
}
