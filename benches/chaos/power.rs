//! Power loss: what `callgate install` does to its directory is recorded, and replayed into a model of a file system that
//! may lose, and reorder, all that was not synchronised. See [`disk`] for what the model takes for granted.
//!
//! After each loss a name has its old or its new file, whole; what was said to be done is done; and the store, started on
//! what is left, vouches for it.

mod disk;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use self::disk::{Disk, Loss};
use crate::callgate;
use crate::install::{Change, Workplace, install};
use crate::report::Outcome;
use crate::trace::{self, Call, traced};
use crate::tree::{Tree, forgotten};
use crate::versions;

/// Random losses after each call, beside those that are tried always.
const SAMPLES: usize = 12;
/// Of so many losses one is put on a real disk, for the store to open; of so many of these one for `callgate install`.
const OPENED: u32 = 10;
const INSTALLED: u32 = 10;

pub(crate) fn run(losses: u32, outcome: &mut Outcome, random: &mut fastrand::Rng) -> Result<()> {
    let workplace = Workplace::new()?;
    let mut done = 0;
    while done < losses {
        let change = Change::from_anything(random);
        let root = workplace.root("root", &change.before)?;
        let folder = workplace.folder("after", &change.after)?;
        let mut disk = Disk::load(&root)?;
        let log = workplace.path("log");
        let status = install(traced(callgate(), &log, None), &folder, &root)?;
        ensure!(
            status.success(),
            "it ended with {status} where nothing disturbed it"
        );
        outcome.count("changes recorded", 1);

        let mut scene = Scene {
            workplace: &workplace,
            change,
            folder: &folder,
            said: String::new(),
        };
        for call in trace::read(&log)? {
            if call.is_output() {
                scene.said += &String::from_utf8_lossy(&call.texts().concat());
            } else if call.succeeded() && call.changes(&root) {
                replay(&mut disk, &call, &root).with_context(|| format!("{call:?}"))?;
            } else {
                continue;
            }
            outcome.count("calls after which the power was lost", 1);
            let samples = (0..SAMPLES).map(|_| Loss::Sample);
            for loss in [Loss::Everything, Loss::Nothing, Loss::DataOnly]
                .into_iter()
                .chain(samples)
            {
                let left = disk.after(loss, random);
                let when = format!("{:?}, {loss:?} lost at {}", scene.change, call.describe(&root));
                scene.look(&left, &when, done, outcome)?;
                done += 1;
                outcome.progress(done.into(), losses.into());
            }
        }
        // The replay itself: what is on the real disk is what the model says with nothing lost.
        let left = disk.after(Loss::Nothing, random);
        let is = format!("{:?}", Tree::read(&root)?);
        let replayed = format!("{:?}", left.tree());
        ensure!(
            is == replayed,
            "the recording is not whole: {is} on disk, {replayed} replayed"
        );
    }
    Ok(())
}

struct Scene<'a> {
    workplace: &'a Workplace,
    change: Change,
    folder: &'a Path,
    /// What was printed so far.
    said: String,
}

impl Scene<'_> {
    fn look(&self, left: &disk::Left, when: &str, number: u32, outcome: &mut Outcome) -> Result<()> {
        let Change { before, after } = &self.change;
        let tree = left.tree();
        outcome.count("losses", 1);
        outcome.violations(when, tree.torn(before, after)?);
        outcome.violations(when, self.broken_promises(&tree)?);
        if !number.is_multiple_of(OPENED) {
            return Ok(());
        }
        let root = self.workplace.fresh("left")?;
        left.write(&root)?;
        outcome.violations(when, forgotten(&root, before, after)?);
        outcome.count("… of which the store was opened", 1);
        if !number.is_multiple_of(OPENED * INSTALLED) {
            return Ok(());
        }
        left.write(&self.workplace.fresh("left")?)?;
        let status = install(Command::new(callgate()), self.folder, &root)?;
        let mut found = Tree::read(&root)?.unsettled(after)?;
        if !status.success() {
            found.push(format!("the next install ended with {status}"));
        }
        outcome.violations(when, found);
        outcome.count("… of which install was run", 1);
        Ok(())
    }

    /// What was said to be done, and is not.
    fn broken_promises(&self, tree: &Tree) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for line in self.said.lines() {
            let mut words = line.split_whitespace();
            let (Some(what), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            let must_be = match what {
                "installed" | "unchanged" => {
                    let version = self
                        .change
                        .after
                        .get(name)
                        .context("a profile nobody asked for")?;
                    Some(versions::bytes(*version)?)
                }
                "removed" => None,
                _ => continue,
            };
            if tree.files.get(name) != must_be.as_ref() {
                found.push(format!("it said \"{what} {name}\", and that is lost"));
            }
        }
        Ok(found)
    }
}

/// Does to the model what the call did to the disk.
fn replay(disk: &mut Disk, call: &Call, root: &Path) -> Result<()> {
    let descriptors: Vec<_> = call
        .descriptors()
        .iter()
        .map(|path| path.strip_prefix(root).map(Path::to_owned))
        .collect::<Result<_, _>>()?;
    let names: Vec<_> = call.texts();
    let name = |index: usize| -> Result<String> {
        let bytes = names.get(index).context("a name is missing")?;
        Ok(String::from_utf8(bytes.clone())?)
    };
    let at = descriptors.first().context("no descriptor")?;
    match call.name.as_str() {
        "openat2" => disk.create(at, &name(0)?),
        "mkdirat" => disk.make_directory(at, &name(0)?),
        "write" => disk.write(at, names.first().context("no data")?),
        "fsync" | "fdatasync" => disk.synchronise(at),
        "renameat" | "renameat2" => {
            let to = descriptors.get(1).context("one descriptor")?;
            disk.rename(at, &name(0)?, to, &name(1)?)
        }
        "unlinkat" => disk.remove(at, &name(0)?),
        _ => Ok(()),
    }
}
