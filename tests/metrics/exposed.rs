//! The metrics themselves, and that `docs/metrics.md` describes each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use harness::{promtool, repository};

use crate::System;

/// One metric as it is exposed: a family of series.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) name: String,
    kind: String,
    help: String,
    /// Each as a query names it, with its labels.
    pub(crate) series: Vec<(String, BTreeMap<String, String>)>,
}

pub(crate) fn parse(text: &str) -> Result<Vec<Family>> {
    let mut families: Vec<Family> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("no help")?;
            families.push(Family {
                name: name.to_owned(),
                help: help.to_owned(),
                ..Family::default()
            });
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let family = families.last_mut().context("a type without a family")?;
            let (name, kind) = rest.split_once(' ').context("no type")?;
            ensure!(name == family.name, "the type of {name} after {}", family.name);
            kind.clone_into(&mut family.kind);
        } else if !line.starts_with('#') {
            let family = families.last_mut().context("a series without a family")?;
            let (series, _) = line.rsplit_once(' ').context("no value")?;
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').context("no end of labels")?),
                None => (series, ""),
            };
            ensure!(name.starts_with(&family.name), "{name} after {}", family.name);
            let labels = labels.split_terminator("\",").map(|label| {
                let (name, value) = label.split_once("=\"").context("no label")?;
                Ok((name.to_owned(), value.trim_end_matches('"').to_owned()))
            });
            family
                .series
                .push((name.to_owned(), labels.collect::<Result<_>>()?));
        }
    }
    ensure!(text.ends_with("# EOF\n"), "not whole: {text}");
    Ok(families)
}

/// The table of `docs/metrics.md`.
fn table(families: &[Family]) -> String {
    let mut table = "| metric | type | labels | what it says |\n|---|---|---|---|\n".to_owned();
    for family in families {
        let name = match family.kind.as_str() {
            "counter" => format!("{}_total", family.name),
            "info" => format!("{}_info", family.name),
            _ => family.name.clone(),
        };
        let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (label, value) in family.series.iter().flat_map(|(_, labels)| labels) {
            if label != "le" {
                labels.entry(label).or_default().insert(value);
            }
        }
        let labels: Vec<_> = labels
            .into_iter()
            .map(|(label, values)| {
                let values: Vec<_> = values.into_iter().map(|value| format!("`{value}`")).collect();
                // What differs from build to build is not listed.
                match family.kind.as_str() {
                    "info" => format!("`{label}`"),
                    _ => format!("`{label}`: {}", values.join(", ")),
                }
            })
            .collect();
        let _ = writeln!(
            table,
            "| `{name}` | {} | {} | {} |",
            family.kind,
            labels.join("; "),
            family.help
        );
    }
    table
}

/// The page with these tables in the place of its own.
fn with_tables(page: &str, tables: &[(&str, String)]) -> Result<String> {
    let mut page = page.to_owned();
    for (name, table) in tables {
        let marker = format!("<!-- {name}: ");
        let begin = page.find(&marker).with_context(|| format!("no {marker}"))?;
        let begin = begin + page[begin..].find('\n').context("no line")? + 1;
        let end = begin + page[begin..].find("<!-- end -->").context("no end")?;
        page.replace_range(begin..end, table);
    }
    Ok(page)
}

#[tokio::test]
async fn the_page_describes_every_metric_as_it_is_exposed() -> Result<()> {
    let system = System::shared().await?;
    let path = repository().join("docs/metrics.md");
    let page = std::fs::read_to_string(&path)?;
    let tables = [
        ("agent", table(&system.agent_families()?)),
        ("controller", table(&system.controller_families()?)),
    ];
    let described = with_tables(&page, &tables)?;
    if std::env::var_os("CALLGATE_WRITE_METRICS").is_some() {
        std::fs::write(&path, &described)?;
    } else if page != described {
        bail!(
            "docs/metrics.md is not what is exposed: run make metrics, and see that the text around its tables still fits"
        );
    }
    Ok(())
}

#[tokio::test]
async fn names_have_their_program_in_front_and_labels_are_few() -> Result<()> {
    let system = System::shared().await?;
    for (prefix, families) in [
        ("callgate_agent_", system.agent_families()?),
        ("callgate_controller_", system.controller_families()?),
    ] {
        let mut all = 0;
        for family in &families {
            assert!(family.name.starts_with(prefix), "{}", family.name);
            assert!(
                !family.series.is_empty(),
                "{} has no series at the start",
                family.name
            );
            assert!(family.help.len() > 10, "{}: {}", family.name, family.help);
            for (name, labels) in &family.series {
                for value in labels.values() {
                    // What no request, profile or node may add to.
                    assert!(
                        !["other", "good", "bad", "team", "north"].contains(&value.as_str()),
                        "{name} {labels:?}"
                    );
                }
            }
            all += family.series.len();
        }
        assert!(all < 200, "{all} series of {prefix}");
    }
    Ok(())
}

#[tokio::test]
async fn prometheus_reads_what_is_exposed() -> Result<()> {
    let system = System::shared().await?;
    for program in [&system.agent, &system.controller] {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("metrics");
        // What makes blocks of it wants times, as a scrape adds them.
        let lines = program.get("/metrics")?;
        let lines = lines.lines().map(|line| {
            if line.starts_with('#') {
                format!("{line}\n")
            } else {
                format!("{line} 1700000000\n")
            }
        });
        std::fs::write(&file, lines.collect::<String>())?;
        let blocks = directory.path().join("blocks");
        let output = Command::new(promtool()?)
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&file, &blocks])
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}");
        ensure!(std::fs::read_dir(&blocks)?.count() > 0, "no blocks: {said}");
    }
    Ok(())
}
