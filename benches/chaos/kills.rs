//! SIGKILL at and between all steps of a write, and at random times: of `callgate install`, which starts fast, and of
//! agents on a real API server. No code in the product helps: strace(1) kills as a chosen system call is about to be made.

mod agents;

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::callgate;
use crate::install::{Change, Workplace, install, installing};
use crate::report::Outcome;
use crate::trace::{self, traced};
use crate::tree::{Tree, forgotten};
use crate::versions::Versions;

/// One in so many kills is of an agent; of the others, one in so many comes at a random time.
const AGENTS: u32 = 10;
const AT_RANDOM: u32 = 5;

/// How often a chosen call is tried to hit.
const TRIES: u8 = 5;
/// How many runs a kill may take, on average and beside a few: what has done its work before is no kill.
const RUNS: u32 = 4;
const SPARE: u32 = 20;

/// Where to kill: as the main thread is about to make this call after so many of its name.
#[derive(Debug, Clone)]
struct Point {
    call: String,
    before: usize,
    step: String,
}

pub(crate) async fn run(kills: u32, outcome: &mut Outcome, random: &mut fastrand::Rng) -> Result<()> {
    let of_agents = kills / AGENTS;
    let of_installs = kills - of_agents;
    let at_random = of_installs / AT_RANDOM;
    let workplace = Workplace::new()?;

    let at_calls = of_installs - at_random;
    let mut count = Count::of(at_calls);
    while !count.is_reached()? {
        let change = Change::from_anything(random);
        let scene = Scene::new(&workplace, change)?;
        for point in scene.points()? {
            if count.is_reached()? {
                break;
            }
            if count.add(scene.kill_at(&point, outcome, random)?) {
                outcome.progress(count.killed.into(), kills.into());
            }
        }
        outcome.count("changes that were interrupted at one step after the other", 1);
    }
    let mut count = Count::of(at_random);
    while !count.is_reached()? {
        let change = Change::from_anything(random);
        if count.add(Scene::new(&workplace, change)?.kill_some_time(outcome, random)?) {
            outcome.progress((at_calls + count.killed).into(), kills.into());
        }
    }
    agents::run(of_agents, outcome, random).await
}

/// Kills of one kind: those that came while the process ran and was not done, out of how many runs.
struct Count {
    wanted: u32,
    killed: u32,
    runs: u32,
}

impl Count {
    const fn of(wanted: u32) -> Self {
        Self {
            wanted,
            killed: 0,
            runs: 0,
        }
    }

    /// Notes a run, and returns whether it was a kill.
    fn add(&mut self, is_kill: bool) -> bool {
        self.runs += 1;
        self.killed += u32::from(is_kill);
        is_kill
    }

    /// Whether there were as many as are wanted; an error where far more runs did not bring them.
    fn is_reached(&self) -> Result<bool> {
        let &Self { wanted, killed, runs } = self;
        ensure!(
            killed == wanted || runs < RUNS * wanted + SPARE,
            "{killed} kills of {wanted} in {runs} runs"
        );
        Ok(killed == wanted)
    }
}

/// One change of one root, to be interrupted again and again.
struct Scene<'a> {
    workplace: &'a Workplace,
    change: Change,
    root: PathBuf,
    folder: PathBuf,
    log: PathBuf,
}

impl<'a> Scene<'a> {
    fn new(workplace: &'a Workplace, change: Change) -> Result<Self> {
        Ok(Self {
            root: workplace.root("template", &change.before)?,
            folder: workplace.folder("after", &change.after)?,
            log: workplace.path("log"),
            workplace,
            change,
        })
    }

    /// A root as it is before the change.
    fn copy(&self) -> Result<PathBuf> {
        self.workplace.copy(&self.root, "root")
    }

    /// Every step of the change.
    fn points(&self) -> Result<Vec<Point>> {
        let root = self.copy()?;
        let status = install(traced(callgate(), &self.log, None), &self.folder, &root)?;
        ensure!(
            status.success(),
            "it ended with {status} where nothing disturbed it"
        );
        let points = points(&self.log, &root)?;
        ensure!(!points.is_empty(), "strace saw no step");
        Ok(points)
    }

    /// Whether it was killed at a step of its work.
    fn kill_at(&self, point: &Point, outcome: &mut Outcome, random: &mut fastrand::Rng) -> Result<bool> {
        let kill = Some((point.call.as_str(), point.before));
        let mut tries = 0;
        loop {
            tries += 1;
            let root = self.copy()?;
            let status = install(traced(callgate(), &self.log, kill), &self.folder, &root)?;
            let step = last_step(&self.log, &root)?;
            // How often the main thread wakes another one, which is a write, too, is not the same each time.
            if step.is_none() && tries < TRIES {
                outcome.count(
                    "beside them: runs that missed the chosen call, and were made again",
                    1,
                );
                continue;
            }
            let is_killed = status.signal() == Some(9) && step.is_some();
            match step {
                Some(step) if is_killed => {
                    outcome.count("kills of install at a chosen call", 1);
                    outcome.count(&format!("… before: {step}"), 1);
                }
                _ if status.signal() == Some(9) => {
                    outcome.count("beside them: installs killed at no step of the store", 1);
                }
                _ => outcome.count("beside them: installs that ended before the chosen call", 1),
            }
            let when = format!("{:?}, killed before: {}", self.change, point.step);
            self.look(&root, &when, outcome, random)?;
            return Ok(is_killed);
        }
    }

    /// Whether it was killed before it had ended.
    fn kill_some_time(&self, outcome: &mut Outcome, random: &mut fastrand::Rng) -> Result<bool> {
        let started = Instant::now();
        let root = self.copy()?;
        let status = install(Command::new(callgate()), &self.folder, &root)?;
        ensure!(
            status.success(),
            "it ended with {status} where nothing disturbed it"
        );
        let whole = started.elapsed();

        let root = self.copy()?;
        let mut child = installing(Command::new(callgate()), &self.folder, &root).spawn()?;
        let after = Duration::from_micros(random.u64(..u64::try_from(whole.as_micros())?));
        std::thread::sleep(after);
        child.kill()?;
        let status = child.wait()?;
        let is_killed = status.signal() == Some(9);
        let counted = if is_killed {
            "kills of install at a random time"
        } else {
            "beside them: installs that ended before the random time"
        };
        outcome.count(counted, 1);
        self.look(
            &root,
            &format!("{:?}, killed after {after:?}", self.change),
            outcome,
            random,
        )?;
        Ok(is_killed)
    }

    /// After the kill; then after the next start, which wants the same, or what was before; at times it is killed, too.
    fn look(&self, root: &Path, when: &str, outcome: &mut Outcome, random: &mut fastrand::Rng) -> Result<()> {
        let Change { before, after } = &self.change;
        outcome.violations(when, Tree::read(root)?.torn(before, after)?);
        // What the next start begins with, before it knows what is wanted.
        let copy = self.workplace.copy(root, "copy")?;
        outcome.violations(when, forgotten(&copy, before, after)?);
        let (folder, wanted): (PathBuf, &Versions) = if !before.is_empty() && random.u8(..4) == 0 {
            (self.workplace.folder("back", before)?, before)
        } else {
            (self.folder.clone(), after)
        };
        let mut when = format!("{when}, then started for {wanted:?}");
        if random.u8(..8) == 0 {
            let (call, before_it) = (
                random.choice(["renameat", "fsync", "unlinkat", "openat2"]),
                random.usize(..8),
            );
            let command = traced(callgate(), &self.log, call.map(|call| (call, before_it)));
            if install(command, &folder, root)?.signal() == Some(9) {
                outcome.count("beside them: kills of install while it recovers", 1);
                when = format!("{when}, killed again before {call:?} {before_it}");
                outcome.violations(&when, Tree::read(root)?.torn(before, after)?);
            }
        }
        let status = install(Command::new(callgate()), &folder, root).context("the next start")?;
        let mut found = Tree::read(root)?.unsettled(wanted)?;
        if !status.success() {
            found.push(format!("it ended with {status}"));
        }
        outcome.violations(&when, found);
        Ok(())
    }
}

/// The steps of the store in a log, each with how often its thread made the same call before.
fn points(log: &Path, root: &Path) -> Result<Vec<Point>> {
    let calls = trace::read(log)?;
    let mut points = Vec::new();
    for (index, call) in calls.iter().enumerate().filter(|(_, call)| call.changes(root)) {
        let same = |other: &&trace::Call| other.thread == call.thread && other.name == call.name;
        points.push(Point {
            call: call.name.clone(),
            before: calls[..index].iter().filter(same).count(),
            step: call.describe(root),
        });
    }
    Ok(points)
}

/// The step that a killed process did not come back from.
fn last_step(log: &Path, root: &Path) -> Result<Option<String>> {
    let calls = trace::read(log)?;
    let killed = calls
        .iter()
        .rev()
        .find(|call| !call.returned() && call.changes(root));
    Ok(killed.map(|call| call.describe(root)))
}
