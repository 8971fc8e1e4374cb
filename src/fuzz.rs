//! What must hold whatever bytes come in from others: one function for each kind of reader.
//!
//! A function panics where something does not hold. The fuzzers of `fuzz/` call it with bytes that they make up, and
//! the test below with those in `fuzz/seeds/`: hand-written ones, and what fuzzers found. Not part of the program: it
//! is compiled for tests and for fuzzers (`--cfg fuzzing`) alone.

use crate::{api, cli, meaning, profile, store, testload};

type Target = fn(&[u8]);

/// By the names of the fuzzers and of the folders of seeds.
const TARGETS: [(&str, Target); 8] = [
    ("json", profile::fuzz::json),
    ("meaning", meaning::fuzz::meaning),
    ("profile", profile::fuzz::profile),
    ("program", meaning::fuzz::program),
    ("protocol", testload::fuzz::protocol),
    ("records", records),
    ("report", cli::fuzz::report),
    ("yaml", profile::fuzz::yaml),
];

/// Hands the bytes to a target.
///
/// # Panics
///
/// Where something does not hold, which is what is looked for; and for a name that no target has.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    assert!(target.is_some(), "no target is called {name}");
    if let Some((_, target)) = target {
        target(bytes);
    }
}

/// What comes back from the disk of a node and from the API server, beside profiles.
fn records(bytes: &[u8]) {
    store::fuzz::files(bytes);
    api::fuzz::objects(bytes);
    profile::fuzz::names(bytes);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn names_in(folder: &Path) -> BTreeSet<String> {
        let stem = |path: std::path::PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| stem(entry.unwrap().path()))
            .collect()
    }

    #[test]
    fn what_holds_of_any_bytes_holds_of_every_seed() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names_in(&fuzz.join("fuzz_targets")), names);
        assert_eq!(names_in(&fuzz.join("seeds")), names);
        for name in names {
            for entry in std::fs::read_dir(fuzz.join("seeds").join(&name)).unwrap() {
                let path = entry.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                let ran = std::panic::catch_unwind(|| run(&name, &bytes));
                assert!(ran.is_ok(), "{}", path.display());
            }
        }
    }
}
