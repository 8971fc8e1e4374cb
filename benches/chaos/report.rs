//! What was done, and what did not hold, as Markdown and as JSON.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// How many violations of one scene are told.
const TOLD: usize = 20;

/// All scenes.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    seed: u64,
    scenes: Vec<Outcome>,
}

/// One scene.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    what: &'static str,
    pub(crate) seconds: u64,
    counts: Vec<(String, u64)>,
    violations: Vec<String>,
    violations_total: usize,
    /// What kept it from being done to its end.
    pub(crate) error: Option<String>,
}

impl Outcome {
    pub(crate) fn new(what: &'static str) -> Self {
        anstream::eprintln!("{what}");
        Self {
            what,
            ..Self::default()
        }
    }

    /// Adds to what is counted under this name.
    pub(crate) fn count(&mut self, what: &str, more: u64) {
        match self.counts.iter_mut().find(|(name, _)| name == what) {
            Some((_, count)) => *count += more,
            None => self.counts.push((what.to_owned(), more)),
        }
    }

    /// Tells what did not hold, and when.
    pub(crate) fn violations(&mut self, when: &str, found: impl IntoIterator<Item = String>) {
        for violation in found {
            let violation = format!("{when}: {violation}");
            anstream::eprintln!("  VIOLATION {violation}");
            self.violations_total += 1;
            if self.violations.len() < TOLD {
                self.violations.push(violation);
            }
        }
    }

    /// Says how far it is.
    pub(crate) fn progress(&self, done: u64, all: u64) {
        if done.is_multiple_of((all / 10).max(1)) {
            anstream::eprintln!("  {done} of {all}, {} violations", self.violations_total);
        }
    }
}

impl Report {
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            seed,
            scenes: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.scenes.push(outcome);
    }

    /// Whether every scene was done to its end, without a violation.
    pub(crate) fn holds(&self) -> bool {
        self.scenes
            .iter()
            .all(|scene| scene.violations_total == 0 && scene.error.is_none())
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("# Chaos, seed {}\n", self.seed);
        for scene in &self.scenes {
            let Outcome {
                what,
                seconds,
                counts,
                violations,
                violations_total,
                error,
            } = scene;
            // Writing to a string does not fail.
            _ = write!(text, "\n## {what}\n\n| what | count |\n|---|---:|\n");
            for (name, count) in counts {
                _ = writeln!(text, "| {name} | {count} |");
            }
            _ = writeln!(
                text,
                "| **violations** | **{violations_total}** |\n| seconds | {seconds} |"
            );
            if let Some(error) = error {
                _ = write!(text, "\n**Not done to its end:** {error}\n");
            }
            for violation in violations {
                _ = write!(text, "\n- {violation}");
            }
        }
        text
    }

    /// Writes `report.md` and `report.json`. The path of the first.
    pub(crate) fn write(&self) -> Result<PathBuf> {
        // Cargo runs benchmarks from `target/PROFILE/deps`.
        let program = std::env::current_exe().context("cannot find this program")?;
        let target = program
            .ancestors()
            .nth(3)
            .context("this program does not lie in a target directory")?;
        let directory = target.join("chaos");
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("report.json"), serde_json::to_vec_pretty(self)?)?;
        let path = directory.join("report.md");
        std::fs::write(&path, self.markdown()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}
