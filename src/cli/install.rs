//! `callgate install`: the agent's job, with a folder in place of an API server.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::{run, source_files};
use crate::filter::libseccomp_version;
use crate::profile::{Digest, Finding, ProfileName, SourceDocument, SourceKind, SourceProfile};
use crate::proof::{Prover, Verdict};
use crate::store::{Origin, Owner, ProvenWith, Store};

/// For nodes without a cluster, node images and CI. Proves each profile on this machine and writes those that pass
/// to ROOT/callgate/NAMESPACE/NAME.json, as an agent does. A version that does not pass leaves the file of the last
/// one that did. When an agent takes over the node, it adopts the files whose profiles the cluster has, and leaves the
/// others alone. nodeSelector is not looked at: the folder is for this machine.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 everything is installed, 1 some profiles are invalid and were left out, 2 something failed.

Examples:
  callgate install profiles/ --seccomp-root /var/lib/kubelet/seccomp
  callgate install profiles/ --seccomp-root /mnt/image/var/lib/kubelet/seccomp --prune"
)]
pub(super) struct Args {
    /// Folder of .yaml, .yml and .json files
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The kubelet's seccomp directory, `seccomp` in its root directory
    #[arg(long, value_name = "ROOT")]
    seccomp_root: PathBuf,
    /// Remove what an earlier run installed and the folder no longer names
    #[arg(long)]
    prune: bool,
    /// Namespace of profiles that name none; an OCI JSON file is named after its file
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Directory that a profile's listenerPath may lie in; may be given several times (default: none)
    #[arg(long = "listener-prefix", value_name = "DIR")]
    listener_prefixes: Vec<String>,
}

/// One profile of the folder.
struct Candidate {
    file: String,
    profile: Box<SourceProfile>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let candidates = read_folder(&args.folder, &args.namespace)?;
    run::with_prover(args.listener_prefixes.clone(), async |prover| {
        let mut store = Store::open(&args.seccomp_root, Some(&Owner::Install))?;
        // What a crash or another hand left is mended first, so that "unchanged" below is true.
        store.repair()?;
        let proof = ProvenWith::here(libseccomp_version());
        let mut outcome = Outcome::default();
        for (name, candidate) in &candidates {
            install(&prover, &mut store, &proof, name, candidate, &mut outcome).await?;
        }
        if args.prune {
            prune(&mut store, |name| candidates.contains_key(name))?;
        }
        Ok(outcome.exit_code())
    })
}

#[derive(Debug, Default)]
struct Outcome {
    invalid: bool,
    unknown: bool,
}

impl Outcome {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self { unknown: true, .. } => ExitCode::from(2),
            Self { invalid: true, .. } => ExitCode::from(1),
            Self { .. } => ExitCode::SUCCESS,
        }
    }
}

async fn install(
    prover: &Prover,
    store: &mut Store,
    proof: &ProvenWith,
    name: &ProfileName,
    candidate: &Candidate,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let live = store.live().get(name).map(|installed| installed.file.digest);
    let verdict = match prover.read_source(&candidate.profile) {
        Ok(read) => prover.prove(name.namespace(), read).await,
        Err(refused) => Verdict::Invalid(refused),
    };
    match verdict {
        Verdict::Valid(passed) => {
            let digest = passed.canonical.digest;
            if live == Some(digest) {
                store.keep(name, proof)?;
                return say(&format!("unchanged  {name}  {digest}"));
            }
            store.write(name, &passed.canonical, proof)?;
            say(&format!("installed  {name}  {digest}"))
        }
        Verdict::Invalid(refused) => {
            outcome.invalid = true;
            for finding in refused.findings.iter() {
                complain(&placed(&candidate.file, &candidate.profile, finding));
            }
            say(&format!("refused    {name}{}", kept(live)))
        }
        Verdict::Unknown(reason) => {
            outcome.unknown = true;
            complain(&format!("{}: could not be proven: {reason}", candidate.file));
            say(&format!("unproven   {name}{}", kept(live)))
        }
    }
}

fn kept(live: Option<Digest>) -> String {
    live.map_or_else(String::new, |digest| format!("  keeps {digest}"))
}

fn prune(store: &mut Store, named: impl Fn(&ProfileName) -> bool) -> anyhow::Result<()> {
    let ours = store
        .live()
        .iter()
        .filter(|(_, file)| file.origin == Origin::Install);
    // Files that lost their record are nobody's proof, and would otherwise stay for ever.
    let gone: Vec<ProfileName> = ours
        .chain(store.unproven())
        .map(|(name, _)| name)
        .filter(|name| !named(name))
        .cloned()
        .collect();
    for name in gone {
        store.remove(&name)?;
        say(&format!("removed    {name}"))?;
    }
    Ok(())
}

/// Every profile of the folder under its name. An error where a file cannot be read, a profile has no name that
/// could be a file's, or two have one name.
fn read_folder(folder: &Path, namespace: &str) -> anyhow::Result<BTreeMap<ProfileName, Candidate>> {
    let mut candidates = BTreeMap::new();
    for path in source_files::in_folder(folder)? {
        let file = source_files::read(&path)?;
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        for document in file.documents {
            let SourceDocument::Profile(profile) = document else {
                continue;
            };
            let place = format!("{}:{}", file.name, profile.line);
            let name = match (profile.kind, &profile.name) {
                (_, Some(name)) => name.clone(),
                (SourceKind::Oci | SourceKind::RuntimeConfig, None) => {
                    ProfileName::new(namespace, &stem).with_context(|| place.clone())?
                }
                (SourceKind::Manifest | SourceKind::Unreadable, None) => {
                    bail!(unreadable(&file.name, &profile))
                }
            };
            let candidate = Candidate {
                file: file.name.clone(),
                profile,
            };
            if let Some(other) = candidates.insert(name.clone(), candidate) {
                bail!("{place}: {name} is defined in {} already", other.file);
            }
        }
    }
    if candidates.is_empty() {
        bail!(
            "{} holds no seccomp profile (.yaml, .yml or .json)",
            folder.display()
        );
    }
    Ok(candidates)
}

/// What is wrong with a document that does not even say which profile it is.
fn unreadable(file: &str, profile: &SourceProfile) -> String {
    let findings = profile.spec.as_ref().err().map_or(&[][..], |findings| findings);
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| placed(file, profile, finding))
        .collect();
    lines.join("\n")
}

/// A finding, after its place in the file.
fn placed(file: &str, profile: &SourceProfile, finding: &Finding) -> String {
    let place = finding.location.or_else(|| profile.locate(&finding.field));
    let place = place.map_or_else(String::new, |at| format!(":{}:{}", at.line, at.column));
    let field = match finding.field.as_str() {
        "" => String::new(),
        field => format!("{field}: "),
    };
    format!("{file}{place}: {field}{}", finding.message)
}

fn say(line: &str) -> anyhow::Result<()> {
    run::print(format!("{line}\n").as_bytes())
}

fn complain(line: &str) {
    // There is nobody left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "callgate: {line}");
}
