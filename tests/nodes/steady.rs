//! Somebody who reads a file again and again, as kubelets and container runtimes do at any time.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

/// Reads files until it is asked what it saw.
pub(crate) struct Reader {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Reader {
    /// Begins to read; the files must be there.
    pub(crate) fn start(files: Vec<PathBuf>) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            let mut reads = 0;
            while !ended.load(Ordering::Relaxed) {
                for file in &files {
                    let text =
                        fs::read(file).with_context(|| format!("after {reads} reads: {}", file.display()))?;
                    serde_json::from_slice::<Value>(&text)
                        .with_context(|| format!("after {reads} reads: {} is not whole", file.display()))?;
                    reads += 1;
                }
            }
            Ok(reads)
        });
        Self { end, thread }
    }

    /// Ends, with an error where a file was ever missing or not whole.
    pub(crate) fn finish(self) -> Result<u64> {
        self.end.store(true, Ordering::Relaxed);
        let reads = self.thread.join().map_err(|_| anyhow!("the reader panicked"))??;
        ensure!(reads > 0, "nothing was read");
        Ok(reads)
    }
}
