//! What was measured: goals with their budgets, scenes with what they cost. As Markdown, and as JSON with everything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::costs::Costs;

/// All of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) title: String,
    pub(crate) goals: Vec<Goal>,
    pub(crate) scenes: Vec<Scene>,
    /// What `--growth` compares between runs.
    pub(crate) figures: Figures,
}

/// A number for each name.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Figures(pub(crate) BTreeMap<String, f64>);

/// Something with a budget.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    what: String,
    /// None where it is only told.
    budget: Option<String>,
    measured: String,
    met: bool,
    /// Whether a miss is an error: a count that no slow machine excuses.
    hard: bool,
}

/// Something that happened.
#[derive(Debug, Serialize)]
pub(crate) struct Scene {
    pub(crate) name: String,
    /// From the request until nodes have it on disk.
    pub(crate) disk: Option<Spread>,
    /// Until nodes have reported it.
    pub(crate) reported: Option<Spread>,
    /// Until it was Ready, or else done; in seconds.
    pub(crate) done: Option<f64>,
    pub(crate) costs: Costs,
}

/// Times in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) last: f64,
}

impl Spread {
    /// `None` of no times at all.
    pub(crate) fn of(mut times: Vec<f64>) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        // Nearest rank.
        let at = |percent: usize| {
            times
                .get((times.len() * percent).div_ceil(100).max(1) - 1)
                .copied()
        };
        Some(Self {
            median: at(50)?,
            p99: at(99)?,
            last: at(100)?,
        })
    }
}

impl Report {
    pub(crate) fn new(title: String) -> Self {
        Self {
            title,
            goals: Vec::new(),
            scenes: Vec::new(),
            figures: Figures::default(),
        }
    }

    /// A goal whose miss is an error.
    pub(crate) fn hard(&mut self, what: &str, budget: &str, measured: String, met: bool) {
        self.goal(what, Some(budget), measured, met, true);
    }

    /// A goal for a number of writes. A write that is given up as unanswered, and is carried out all the same, is made
    /// again: a few too many are told, and more are an error.
    pub(crate) fn writes(&mut self, what: &str, budget: &str, measured: u64, limit: u64) {
        let slack = limit / 20 + 2;
        let is_error = measured > limit + slack;
        self.goal(
            what,
            Some(budget),
            measured.to_string(),
            measured <= limit,
            is_error,
        );
    }

    /// A goal whose miss is told: it may be the machine's doing.
    pub(crate) fn soft(&mut self, what: &str, budget: &str, measured: String, met: bool) {
        self.goal(what, Some(budget), measured, met, false);
    }

    /// Something worth knowing.
    pub(crate) fn fact(&mut self, what: &str, measured: String) {
        self.goal(what, None, measured, true, false);
    }

    fn goal(&mut self, what: &str, budget: Option<&str>, measured: String, met: bool, hard: bool) {
        let goal = Goal {
            what: what.to_owned(),
            budget: budget.map(str::to_owned),
            measured,
            met,
            hard,
        };
        anstream::eprintln!("    {}", goal.line());
        self.goals.push(goal);
    }

    /// No node that comes or goes, and no pod, is a reason to write a profile.
    pub(crate) fn no_profile_writes(&mut self, what: &str, costs: &Costs) {
        let writes = costs.profile_writes();
        self.hard(
            &format!("profile writes: {what}"),
            "0",
            writes.to_string(),
            writes == 0,
        );
    }

    /// The goal for the most memory that a controller held in any scene: one that has just come to lead holds less.
    pub(crate) fn controller_memory(&mut self) {
        let peaks = self.scenes.iter().map(|scene| scene.costs.controller_peak);
        let most = peaks.max().unwrap_or_default();
        self.soft(
            "memory of the controller at most, fork server included",
            "≤ 64 MiB",
            mebibytes(most),
            most <= 64 << 20,
        );
        self.figure("controller memory at most, bytes", crate::usage::float(most));
    }

    pub(crate) fn scene(&mut self, scene: Scene) {
        anstream::eprintln!("    {}", scene.line());
        self.scenes.push(scene);
    }

    pub(crate) fn figure(&mut self, name: &str, value: f64) {
        self.figures.0.insert(name.to_owned(), value);
    }

    /// The goals that were missed and must not be.
    pub(crate) fn broken(&self) -> Vec<&str> {
        let broken = self.goals.iter().filter(|goal| goal.hard && !goal.met);
        broken.map(|goal| goal.what.as_str()).collect()
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "# {}\n\n| goal | budget | measured | |\n|---|---|---|---|\n",
            self.title
        );
        for goal in &self.goals {
            // A String takes whatever is written to it.
            let _ = writeln!(text, "{}", goal.line());
        }
        text.push_str("\nTimes are median / p99 / last node, in seconds; processor time in seconds.\n\n");
        text.push_str(HEADER);
        for scene in &self.scenes {
            text.push_str(&scene.line());
            text.push('\n');
        }
        text
    }

    /// Writes `target/scale/NAME.md` and `.json`; the path of the first.
    pub(crate) fn write(&self, name: &str) -> Result<PathBuf> {
        let directory = directory()?;
        let path = directory.join(format!("{name}.md"));
        std::fs::write(&path, self.markdown()).with_context(|| format!("cannot write {}", path.display()))?;
        std::fs::write(
            directory.join(format!("{name}.json")),
            serde_json::to_vec_pretty(self)?,
        )?;
        Ok(path)
    }
}

const HEADER: &str = "| scene | on disk | reported | Ready or done | writes: status, reports, events | LIST, WATCH, 429 | \
                      watch events | etcd KiB | processor: API server, etcd, controller, agents | controller peak |\n\
                      |---|---|---|---|---|---|---|---|---|---|\n";

impl Goal {
    fn line(&self) -> String {
        let met = match (&self.budget, self.met) {
            (None, _) => "",
            (Some(_), true) => "met",
            (Some(_), false) => "MISSED",
        };
        let budget = self.budget.as_deref().unwrap_or("–");
        format!("| {} | {budget} | {} | {met} |", self.what, self.measured)
    }
}

impl Scene {
    fn line(&self) -> String {
        let spread = |spread: Option<Spread>| {
            spread.map_or_else(
                || "–".to_owned(),
                |spread| format!("{:.2} / {:.2} / {:.2}", spread.median, spread.p99, spread.last),
            )
        };
        let costs = &self.costs;
        format!(
            "| {} | {} | {} | {} | {}, {}, {} | {}, {}, {} | {} | {:.0} | {:.2}, {:.2}, {:.2}, {:.2} | {} |",
            self.name,
            spread(self.disk),
            spread(self.reported),
            self.done
                .map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.2}")),
            costs.profile_writes(),
            costs.report_writes(),
            costs.event_writes(),
            costs.verb("LIST"),
            costs.verb("WATCH"),
            costs.refused(),
            costs.watch_events,
            costs.etcd_kib(),
            costs.apiserver,
            costs.etcd,
            costs.controller,
            costs.agents,
            mebibytes(costs.controller_peak),
        )
    }
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", crate::usage::float(bytes) / f64::from(1 << 20))
}

/// `target/scale`.
pub(crate) fn directory() -> Result<PathBuf> {
    // Cargo runs benchmarks from `target/PROFILE/deps`.
    let program = std::env::current_exe().context("cannot find this program")?;
    let target = program.ancestors().nth(3);
    let directory = target
        .context("this program does not lie in a target directory")?
        .join("scale");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}
