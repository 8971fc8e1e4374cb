//! `callgate crds`.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;

use super::run;
use crate::api;

/// Prints the custom resource definitions, as kubectl applies them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  callgate crds | kubectl apply --server-side -f -
  callgate crds --dir crds")]
pub(super) struct Args {
    /// Write one file per kind into this folder instead; it is made if need be
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let files = api::crd_files()?;
    let Some(dir) = &args.dir else {
        let documents: Vec<String> = files.into_iter().map(|file| file.yaml).collect();
        return run::print(documents.join("---\n").as_bytes());
    };
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make folder {}", dir.display()))?;
    for file in files {
        let path = dir.join(file.name);
        write(&path, &file.yaml).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn write(path: &std::path::Path, text: &str) -> io::Result<()> {
    std::fs::File::create(path)?.write_all(text.as_bytes())
}
