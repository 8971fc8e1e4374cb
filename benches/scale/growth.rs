//! How costs grow with nodes and with profiles: runs of this program, each of its own size, compared.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::Arguments;
use crate::report::{Figures, directory};

/// Nodes and profiles of each run.
const BY_NODES: [(u32, u32); 3] = [(10, 100), (100, 100), (1000, 100)];
const BY_PROFILES: [(u32, u32); 3] = [(100, 10), (100, 100), (100, 1000)];

#[derive(Deserialize)]
struct Run {
    figures: Figures,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut runs = BTreeMap::new();
    for (nodes, profiles) in BY_NODES.into_iter().chain(BY_PROFILES) {
        if let Entry::Vacant(run) = runs.entry((nodes, profiles)) {
            run.insert(measure(nodes, profiles, arguments.idle)?);
        }
    }
    let mut text = String::from(
        "# Growth\n\nExponents are those of a power law, for each decade its own: 1 is linear.\n",
    );
    for (title, sizes) in [("nodes", BY_NODES), ("profiles", BY_PROFILES)] {
        let figures: Vec<&Figures> = sizes.iter().filter_map(|size| runs.get(size)).collect();
        let by_nodes = title == "nodes";
        let size = |(nodes, profiles): (u32, u32)| if by_nodes { nodes } else { profiles };
        let labels = sizes.map(|(nodes, profiles)| format!("{nodes} × {profiles}"));
        // A String takes whatever is written to it.
        let _ = writeln!(
            text,
            "\n| cost, by {title} | {} | exponent, first decade | last decade |\n|---|---|---|---|---|---|",
            labels.join(" | ")
        );
        let Some(first) = figures.first() else { continue };
        for name in first.0.keys() {
            let costs: Vec<f64> = figures
                .iter()
                .filter_map(|figures| figures.0.get(name).copied())
                .collect();
            let shown: Vec<_> = costs.iter().map(|cost| show(*cost)).collect();
            let points: Vec<_> = sizes
                .map(|one| f64::from(size(one)))
                .into_iter()
                .zip(costs)
                .collect();
            // One exponent through all three would hide where the last decade is worse than linear.
            let exponents: Vec<_> = points
                .windows(2)
                .map(|decade| {
                    exponent(decade).map_or_else(|| "–".to_owned(), |exponent| format!("{exponent:.2}"))
                })
                .collect();
            let _ = writeln!(
                text,
                "| {name} | {} | {} |",
                shown.join(" | "),
                exponents.join(" | ")
            );
        }
    }
    let path = directory()?.join("growth.md");
    std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    anstream::println!("{text}\nWritten to {}", path.display());
    Ok(())
}

fn measure(nodes: u32, profiles: u32, idle: u64) -> Result<Figures> {
    let status = Command::new(std::env::current_exe()?)
        .arg(format!("--nodes={nodes}"))
        .arg(format!("--profiles={profiles}"))
        .arg("--scenes=changes,idle,floor")
        .arg(format!("--idle={idle}"))
        .stdout(std::process::Stdio::null())
        .status()
        .context("cannot run this program again")?;
    ensure!(
        status.success(),
        "the run of {nodes} nodes and {profiles} profiles failed"
    );
    let file = directory()?.join(format!("{nodes}x{profiles}.json"));
    let run: Run = serde_json::from_slice(&std::fs::read(file)?)?;
    Ok(run.figures)
}

/// The slope of the logarithms between two points; `None` where a cost is zero.
fn exponent(decade: &[(f64, f64)]) -> Option<f64> {
    let [(from, before), (to, after)] = *decade else {
        return None;
    };
    (before > 0.0 && after > 0.0).then(|| (after / before).ln() / (to / from).ln())
}

fn show(cost: f64) -> String {
    match cost {
        1000.0.. => format!("{cost:.0}"),
        1.0.. => format!("{cost:.2}"),
        _ => format!("{cost:.4}"),
    }
}
