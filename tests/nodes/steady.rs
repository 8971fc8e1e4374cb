//! Somebody who reads files again and again, as kubelets and container runtimes do at any time, and sees how they change.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::fs::inotify::{CreateFlags, ReadFlags, WatchFlags, add_watch, init};
use rustix::io::Errno;
use serde_json::Value;

/// Reads files until it is asked what it saw.
pub(crate) struct Reader {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Reader {
    /// Begins to read; the files must be there.
    pub(crate) fn start(files: Vec<PathBuf>) -> Result<Self> {
        let changes = Changes::of(&files)?;
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            let mut reads = 0;
            while !ended.load(Ordering::Relaxed) {
                changes.are_in_one_step()?;
                for file in &files {
                    let text =
                        fs::read(file).with_context(|| format!("after {reads} reads: {}", file.display()))?;
                    serde_json::from_slice::<Value>(&text)
                        .with_context(|| format!("after {reads} reads: {} is not whole", file.display()))?;
                    reads += 1;
                }
                // The machine has others to serve.
                thread::sleep(Duration::from_micros(200));
            }
            changes.are_in_one_step()?;
            Ok(reads)
        });
        Ok(Self { end, thread })
    }

    /// Ends, with an error where a file was ever missing or not whole.
    pub(crate) fn finish(self) -> Result<u64> {
        self.end.store(true, Ordering::Relaxed);
        let reads = self.thread.join().map_err(|_| anyhow!("the reader panicked"))??;
        ensure!(reads > 0, "nothing was read");
        Ok(reads)
    }
}

/// Which files these are: one that was written anew is another, whatever is in it.
pub(crate) fn inodes(files: &[PathBuf]) -> Result<Vec<u64>> {
    files.iter().map(|file| Ok(fs::metadata(file)?.ino())).collect()
}

/// What happens to some names in their directories. A moment in which one is missing may be too short to be read.
struct Changes {
    inotify: OwnedFd,
    names: BTreeMap<i32, BTreeSet<OsString>>,
}

impl Changes {
    fn of(files: &[PathBuf]) -> Result<Self> {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mut names: BTreeMap<i32, BTreeSet<OsString>> = BTreeMap::new();
        for file in files {
            let (folder, name) = file
                .parent()
                .zip(file.file_name())
                .context("a file lies in a folder")?;
            let flags = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::CREATE | WatchFlags::MODIFY;
            let watch = add_watch(&inotify, folder, flags)?;
            names.entry(watch).or_default().insert(name.to_owned());
        }
        Ok(Self { inotify, names })
    }

    /// An error where a file was changed in any other way than by a new one that takes its name.
    fn are_in_one_step(&self) -> Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = rustix::fs::inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => {
                    let flags = event.events();
                    ensure!(
                        !flags.contains(ReadFlags::QUEUE_OVERFLOW),
                        "too much happened at once"
                    );
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    let watched = self.names.get(&event.wd());
                    if let Some((name, watched)) = name.zip(watched)
                        && watched.contains(name)
                    {
                        bail!("{} was changed in place: {flags:?}", name.display());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
