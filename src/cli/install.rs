//! `callgate install`: the agent's job, with a folder in place of an API server.

mod folder;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, bail};

use self::folder::{Candidate, Wanted};
use super::{finding, run};
use crate::filter::libseccomp_version;
use crate::profile::{Canonical, Digest, Findings, InvalidName, ProfileName};
use crate::proof::{Prover, Verdict};
use crate::store::{Origin, Owner, ProvenWith, Store, StoreError};

/// Installs a folder of profiles on this machine, without a cluster
///
/// For bare nodes, node images and CI. Proves each profile on this machine and writes those that pass
/// to ROOT/callgate/NAMESPACE/NAME.json, as an agent does. What does not pass, or cannot be read, is
/// named and left out; the file of the last version that passed stays. When an agent takes over the
/// node, it adopts the files whose profiles the cluster has, and leaves the others alone.
///
/// Subfolders, hidden files and objects of other kinds are left out. A nodeSelector is not looked at:
/// the folder is for this machine.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Exit codes:
  0  everything is installed
  1  some profiles are invalid and were left out
  2  a file could not be read, or something else failed

Examples:
  callgate install profiles/ --seccomp-root /var/lib/kubelet/seccomp
  callgate install profiles/ --seccomp-root /mnt/image/var/lib/kubelet/seccomp --prune"
)]
pub(super) struct Args {
    /// Folder of .yaml, .yml and .json files
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The kubelet's seccomp directory: seccomp in its root directory. It must exist
    #[arg(long, value_name = "ROOT")]
    seccomp_root: PathBuf,
    /// Remove what an earlier run installed and the folder no longer names; nothing while a file does not
    /// say which profile it holds, or where the folder holds none
    #[arg(long)]
    prune: bool,
    /// Namespace of an OCI JSON file, which names none; its name is that of the file. A manifest without
    /// namespace goes to default
    #[arg(short, long, default_value = "default", value_parser = namespace)]
    namespace: String,
    #[command(flatten)]
    proof: run::ProofArgs,
}

fn namespace(text: &str) -> Result<String, InvalidName> {
    // Beside any good name.
    ProfileName::new(text, "x").map(|name| name.namespace().to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.folder.is_file() {
        bail!(
            "{} is a file, and this installs all profiles of a folder: name the folder that it lies in, or one that it is \
             alone in",
            args.folder.display()
        );
    }
    refuse_home(&args.seccomp_root)?;
    let wanted = folder::read(&args.folder, &args.namespace)?;
    let mut outcome = Outcome {
        invalid: wanted.has_invalid(),
        failed: wanted.has_unread(),
    };
    for complaint in wanted.complaints() {
        run::tell(&complaint);
    }
    if wanted.profiles.is_empty() {
        if outcome.invalid || outcome.failed {
            if let Some(file) = wanted.nameless().filter(|_| args.prune) {
                run::tell(&nothing_pruned(file));
            }
            return Ok(outcome.exit_code());
        }
        bail!(
            "{} holds no seccomp profile: .yaml and .yml files with SeccompProfile manifests and OCI profiles as .json are \
             looked for, not in subfolders",
            args.folder.display()
        );
    }
    run::with_prover(args.proof.clone(), async |prover| {
        let prover = prover.for_here();
        let mut store = Store::open(&args.seccomp_root, Some(&Owner::Install)).map_err(explain)?;
        // What a crash or another hand left is mended first, so that "unchanged" below is true.
        store.repair()?;
        let proof = ProvenWith::here(libseccomp_version());
        let before: BTreeMap<_, _> = wanted
            .profiles
            .keys()
            .map(|name| (name, live(&store, name)))
            .collect();
        let mut passed = BTreeMap::new();
        let mut lines = BTreeMap::new();
        for (name, candidate) in &wanted.profiles {
            let left_out = match candidate {
                Candidate::One(source) => match judge(&prover, name, source, &mut outcome).await {
                    Ok(file) => {
                        passed.insert(name.clone(), file);
                        continue;
                    }
                    Err(word) => word,
                },
                Candidate::Several(_) => REFUSED,
            };
            lines.insert(name, format!("{left_out} {name}{}", kept(before[name])));
        }
        let failed = store.write_all(&passed, &proof);
        for (name, file) in &passed {
            let there = before[name];
            let line = match failed.get(name) {
                Some(_) => format!("failed     {name}{}", kept(there)),
                None if there == Some(file.digest) => format!("unchanged  {name}  {}", file.digest),
                None => format!("installed  {name}  {}", file.digest),
            };
            lines.insert(name, line);
        }
        for line in lines.values() {
            say(line)?;
        }
        tell_failed(&failed);
        outcome.failed |= !failed.is_empty();
        if args.prune && failed.is_empty() {
            outcome.failed |= !prune(&mut store, &wanted)?;
        }
        Ok(outcome.exit_code())
    })
}

#[derive(Debug, Default)]
struct Outcome {
    /// A profile is invalid, and was left out.
    invalid: bool,
    /// A file could not be read, or a profile not be proven.
    failed: bool,
}

impl Outcome {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self { failed: true, .. } => ExitCode::from(2),
            Self { invalid: true, .. } => ExitCode::from(1),
            Self { .. } => ExitCode::SUCCESS,
        }
    }
}

const REFUSED: &str = "refused   ";

/// The file of a profile that passes, or the word for why it is left out.
async fn judge(
    prover: &Prover,
    name: &ProfileName,
    source: &folder::Source,
    outcome: &mut Outcome,
) -> Result<Canonical, &'static str> {
    let verdict = match prover.read_source(&source.profile) {
        Ok(read) => prover.prove(name.namespace(), read).await,
        Err(refused) => Verdict::Invalid(refused),
    };
    match verdict {
        Verdict::Valid(passed) => {
            tell(source, &passed.findings);
            Ok(passed.canonical)
        }
        Verdict::Invalid(refused) => {
            outcome.invalid = true;
            tell(source, &refused.findings);
            Err(REFUSED)
        }
        Verdict::Unknown(reason) => {
            outcome.failed = true;
            run::tell(&format!("{}: could not be proven: {reason}", source.file));
            Err("unproven  ")
        }
    }
}

fn live(store: &Store, name: &ProfileName) -> Option<Digest> {
    store.live().get(name).map(|installed| installed.file.digest)
}

fn kept(live: Option<Digest>) -> String {
    live.map_or_else(String::new, |digest| format!("  keeps {digest}"))
}

/// Says what was found, each on a line.
fn tell(source: &folder::Source, findings: &Findings) {
    for found in findings.iter() {
        run::tell(&finding::line(&source.place(found), found));
    }
    let unlisted = findings.unlisted();
    if unlisted > 0 {
        run::tell(&format!("{}: and {unlisted} more findings", source.file));
    }
}

/// Says what the disk did not take, each reason once.
fn tell_failed(failed: &BTreeMap<ProfileName, StoreError>) {
    let reasons: BTreeSet<String> = failed.values().map(StoreError::to_string).collect();
    for reason in reasons {
        run::tell(&reason);
    }
}

/// Removes what the folder does not name. What could not be read might name anything. Whether the disk took it.
fn prune(store: &mut Store, wanted: &Wanted) -> anyhow::Result<bool> {
    let ours = store
        .live()
        .iter()
        .filter(|(_, file)| file.origin == Origin::Install);
    // Files that lost their record are nobody's proof, and would otherwise stay for ever.
    let gone: BTreeSet<ProfileName> = ours
        .chain(store.unproven())
        .map(|(name, _)| name)
        .filter(|name| !wanted.profiles.contains_key(name))
        .cloned()
        .collect();
    if let Some(file) = wanted.nameless() {
        for name in &gone {
            say(&format!("kept       {name}"))?;
        }
        run::tell(&nothing_pruned(file));
        return Ok(true);
    }
    let failed = store.remove_all(&gone);
    for name in gone.iter().filter(|name| !store.has(name)) {
        say(&format!("removed    {name}"))?;
    }
    tell_failed(&failed);
    Ok(failed.is_empty())
}

fn nothing_pruned(file: &str) -> String {
    format!(
        "nothing was pruned: which profiles {file} is to hold is not known; mend or remove it, and run this again"
    )
}

/// Whoever names our directory in place of the one that it lies in would get another one inside.
fn refuse_home(root: &Path) -> anyhow::Result<()> {
    let real = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    match real.parent() {
        Some(parent) if real.ends_with(ProfileName::DIRECTORY) && Store::is_home(&real) => bail!(
            "{}: this is Callgate's own directory within the kubelet's: write --seccomp-root {}",
            root.display(),
            parent.display()
        ),
        _ => Ok(()),
    }
}

/// In words for who runs this command: the store's own are for an agent's log.
fn explain(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::RootGone { path, reason } => {
            let path = path.display();
            anyhow!(
                "{path}: the kubelet's seccomp directory {reason}; create it (mkdir -p {path}) or name the right one \
                 with --seccomp-root, and run this again"
            )
        }
        error => error.into(),
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    run::print(format!("{line}\n").as_bytes())
}
