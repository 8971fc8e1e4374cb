//! `callgate check`: every proof, offline, with the place in the file.

mod human;
mod json;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::run;
use super::source_files::{self, SourceFile};
use crate::profile::{self, Code, Finding, SourceDocument, SourceKind};
use crate::proof::{Prover, Verdict};
use crate::text::count;

/// Proves profiles in files, and says where each is wrong
///
/// Reads what you have: OCI seccomp JSON, manifests of profiles (YAML or JSON, many in one file), an OCI
/// runtime's config.json. Kubernetes objects of other kinds are skipped. Needs no cluster: what is valid
/// here is valid for this machine's kernel and libseccomp.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Exit codes:
  0  all profiles are valid
  1  some are invalid
  2  something could not be read or proven, or no profile was found at all

Examples:
  callgate check profile.json
  callgate check deploy/                        # every .yaml, .yml and .json below it
  kubectl get scp -A -o yaml | callgate check -
  callgate check --explain unknown-syscall
  callgate check --format json profiles/*.json | jq '.[] | select(.verdict != \"valid\")'"
)]
pub(super) struct Args {
    /// Files to check, and folders with all below them but what is hidden; - is standard input
    #[arg(required_unless_present = "explain", value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Explain a finding by its code, or all of them, and check nothing
    #[arg(long, value_name = "CODE", conflicts_with = "paths", value_parser = explained)]
    explain: Option<Explained>,
    /// How to print what was found
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// Directory that a profile's listenerPath may lie in; may be given several times (default: none)
    #[arg(long = "listener-prefix", value_name = "DIR")]
    listener_prefixes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Sentences, with the lines that they are about.
    Human,
    /// One array with an object for each document.
    Json,
}

/// A document, and what came of it.
#[derive(Debug)]
struct Checked<'a> {
    file: &'a SourceFile,
    document: &'a SourceDocument,
    result: CheckResult,
}

#[derive(Debug)]
enum CheckResult {
    /// No profile, but something else that a file of manifests may hold.
    Skipped,
    Judged(Box<Verdict>),
}

/// What to explain.
#[derive(Debug, Clone, Copy)]
enum Explained {
    One(Code),
    All,
}

fn explained(text: &str) -> Result<Explained, String> {
    let codes = || Code::ALL.iter();
    match codes().find(|code| code.as_str() == text) {
        Some(code) => Ok(Explained::One(*code)),
        None if text == "all" => Ok(Explained::All),
        None => {
            let names: Vec<_> = codes().map(|code| code.as_str()).collect();
            Err(format!(
                "no finding has this code; the codes are all, {}",
                names.join(", ")
            ))
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(explained) = args.explain {
        let text = match explained {
            Explained::One(code) => profile::explain(code),
            Explained::All => profile::reference(),
        };
        run::print(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    run::with_prover(args.listener_prefixes.clone(), async |prover| {
        let Given { files, errors, notes } = Given::read(&args.paths);
        let mut checked = Vec::new();
        for file in &files {
            for document in &file.documents {
                let result = check(&prover, document).await;
                checked.push(Checked {
                    file,
                    document,
                    result,
                });
            }
        }
        let text = match args.format {
            Format::Human => human::render(&checked),
            Format::Json => json::render(&checked).context("cannot write JSON")?,
        };
        run::print(text.as_bytes())?;
        for note in &notes {
            run::tell(note);
        }
        errors.iter().for_each(run::complain);
        let has_none = checked.iter().all(|one| one.verdict().is_none());
        if has_none && errors.is_empty() {
            run::tell("no seccomp profile was found at all");
        }
        Ok(exit_code(&checked, has_none || !errors.is_empty()))
    })
}

/// What the arguments lead to.
#[derive(Debug, Default)]
struct Given {
    files: Vec<SourceFile>,
    /// What could not be read.
    errors: Vec<anyhow::Error>,
    /// Where no profile was found: no mistake, but perhaps not meant.
    notes: Vec<String>,
}

impl Given {
    fn read(paths: &[PathBuf]) -> Self {
        let mut given = Self::default();
        for path in paths {
            // `-` is no folder, whatever lies under that name.
            if path.as_os_str() != "-" && path.is_dir() {
                given.read_folder(path);
            } else if let Some(file) = given.read_file(path) {
                if !file.has_profile() {
                    given.notes.push(format!("no SeccompProfile in {}", file.name));
                }
                given.files.push(file);
            }
        }
        given
    }

    /// All below it. A folder of manifests holds many without a profile, so these are counted, not named.
    fn read_folder(&mut self, folder: &Path) {
        let (paths, errors) = source_files::in_tree(folder);
        self.errors.extend(errors);
        let files: Vec<_> = paths.iter().filter_map(|path| self.read_file(path)).collect();
        let without = files.iter().filter(|file| !file.has_profile()).count();
        if without > 0 || files.is_empty() {
            self.notes.push(format!(
                "no SeccompProfile in {without} of {} below {}",
                count(files.len(), "file"),
                folder.display()
            ));
        }
        self.files.extend(files);
    }

    fn read_file(&mut self, path: &Path) -> Option<SourceFile> {
        source_files::read(path)
            .map_err(|error| self.errors.push(error))
            .ok()
    }
}

async fn check(prover: &Prover, document: &SourceDocument) -> CheckResult {
    let profile = match document {
        SourceDocument::Profile(profile) => profile,
        SourceDocument::Other { .. } => return CheckResult::Skipped,
    };
    let tenant = profile.name.as_ref().map_or("", |name| name.namespace());
    let verdict = match prover.read_source(profile) {
        Ok(read) => prover.prove(tenant, read).await,
        Err(refused) => Verdict::Invalid(refused),
    };
    CheckResult::Judged(Box::new(verdict))
}

fn exit_code(checked: &[Checked<'_>], failed: bool) -> ExitCode {
    let any = |wanted: fn(&Verdict) -> bool| checked.iter().filter_map(Checked::verdict).any(wanted);
    if failed || any(|verdict| matches!(verdict, Verdict::Unknown(_))) {
        ExitCode::from(2)
    } else if any(|verdict| matches!(verdict, Verdict::Invalid(_))) {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    }
}

impl Checked<'_> {
    /// What the document is called: the profile's name, or what kind of file it is.
    fn title(&self) -> String {
        match self.document {
            SourceDocument::Other { kind, .. } => kind.clone(),
            SourceDocument::Profile(profile) => match (&profile.name, profile.kind) {
                (Some(name), _) => name.to_string(),
                (None, SourceKind::Oci) => "OCI profile".to_owned(),
                (None, SourceKind::RuntimeConfig) => "linux.seccomp of an OCI config".to_owned(),
                (None, SourceKind::Manifest) => "SeccompProfile".to_owned(),
                (None, SourceKind::Unreadable) => "document".to_owned(),
            },
        }
    }

    /// `None` for what is no profile.
    fn verdict(&self) -> Option<&Verdict> {
        match &self.result {
            CheckResult::Judged(verdict) => Some(verdict),
            CheckResult::Skipped => None,
        }
    }

    /// The document's first line, from 1.
    fn line(&self) -> usize {
        match self.document {
            SourceDocument::Other { line, .. } => *line,
            SourceDocument::Profile(profile) => profile.line,
        }
    }

    /// All findings, those first that decide, each with its place in the file.
    fn findings(&self) -> Vec<Finding> {
        let mut findings = match self.verdict() {
            Some(Verdict::Valid(proven)) => proven.findings.to_vec(),
            Some(Verdict::Invalid(refused)) => refused.findings.to_vec(),
            Some(Verdict::Unknown(_)) | None => Vec::new(),
        };
        if let SourceDocument::Profile(profile) = self.document {
            for finding in &mut findings {
                finding.location = finding.location.or_else(|| profile.locate(&finding.field));
            }
        }
        findings.sort_by_key(|finding| !finding.is_fatal());
        findings
    }

    /// How many findings there are beside those.
    fn unlisted(&self) -> usize {
        match self.verdict() {
            Some(Verdict::Valid(proven)) => proven.findings.unlisted(),
            Some(Verdict::Invalid(refused)) => refused.findings.unlisted(),
            _ => 0,
        }
    }
}
