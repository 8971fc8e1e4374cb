//! What was measured, as a Markdown table and as JSON.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// One line of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    what: String,
    /// What was aimed at; for the reader, nothing fails on it.
    budget: &'static str,
    /// `None` for what is not a time.
    runs: Option<usize>,
    median: String,
    p99: Option<String>,
    /// In milliseconds, unsorted; empty for what is not a time.
    samples: Vec<f64>,
}

/// All lines.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// A time that was taken again and again.
    pub(crate) fn times(&mut self, what: impl Into<String>, budget: &'static str, samples: &[Duration]) {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        self.push(Row {
            what: what.into(),
            budget,
            runs: Some(samples.len()),
            median: percentile(&sorted, 50).map_or_else(String::new, show),
            // Of fewer runs the 99th percentile is the worst of them, and says little.
            p99: percentile(&sorted, 99).filter(|_| samples.len() >= 10).map(show),
            samples: samples.iter().map(|sample| sample.as_secs_f64() * 1e3).collect(),
        });
    }

    /// Anything else.
    pub(crate) fn value(&mut self, what: impl Into<String>, budget: &'static str, value: String) {
        self.push(Row {
            what: what.into(),
            budget,
            runs: None,
            median: value,
            p99: None,
            samples: Vec::new(),
        });
    }

    fn push(&mut self, row: Row) {
        anstream::eprintln!(
            "  {}: {} {}",
            row.what,
            row.median,
            row.p99.as_deref().unwrap_or_default()
        );
        self.rows.push(row);
    }

    /// The table.
    pub(crate) fn markdown(&self) -> String {
        let mut table = String::from("| what | budget | runs | median | p99 |\n|---|---|---|---|---|\n");
        for row in &self.rows {
            let p99 = row.p99.as_deref().unwrap_or("–");
            let cells = [
                &row.what,
                row.budget,
                &row.runs.map_or_else(|| "–".to_owned(), |runs| runs.to_string()),
                &row.median,
                p99,
            ];
            table.extend(["| ", &cells.join(" | "), " |\n"]);
        }
        table
    }

    /// Writes every sample to `target/bench/latency.json` and returns the path.
    pub(crate) fn write_json(&self) -> Result<PathBuf> {
        // Cargo runs benchmarks from `target/PROFILE/deps`.
        let program = std::env::current_exe().context("cannot find this program")?;
        let target = program
            .ancestors()
            .nth(3)
            .context("this program does not lie in a target directory")?;
        let path = target.join("bench/latency.json");
        std::fs::create_dir_all(target.join("bench"))?;
        std::fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// The smallest sample that is not exceeded by `percent` of all (nearest rank).
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn show(time: Duration) -> String {
    match time.as_micros() {
        0..100 => format!("{:.1} µs", time.as_secs_f64() * 1e6),
        100..1_000 => format!("{} µs", time.as_micros()),
        1_000..100_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        100_000..10_000_000 => format!("{:.0} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}
