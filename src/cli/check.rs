//! `callgate check`: every proof, offline, with the place in the file.

mod human;
mod json;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::run;
use super::source_files::{self, SourceFile};
use crate::profile::{Class, Finding, SourceDocument, SourceKind};
use crate::proof::{Prover, Verdict};

/// Reads what you have: OCI seccomp JSON, `SeccompProfile` manifests (YAML or JSON, many in one file), an OCI
/// runtime's config.json.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all profiles are valid, 1 some are invalid, 2 something could not be read or proven.

Examples:
  callgate check profile.yaml
  kubectl get scp -A -o yaml | callgate check -
  callgate check --format json profiles/*.json | jq '.[] | select(.verdict != \"valid\")'"
)]
pub(super) struct Args {
    /// Files to check; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
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

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    run::with_prover(args.listener_prefixes.clone(), async |prover| {
        let mut files = Vec::new();
        let mut unread = Vec::new();
        for path in &args.files {
            match source_files::read(path) {
                Ok(file) => files.push(file),
                Err(error) => unread.push(error),
            }
        }
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
            if !file
                .documents
                .iter()
                .any(|document| matches!(document, SourceDocument::Profile(_)))
            {
                unread.push(anyhow::anyhow!("{} holds no seccomp profile", file.name));
            }
        }
        let text = match args.format {
            Format::Human => human::render(&checked),
            Format::Json => json::render(&checked).context("cannot write JSON")?,
        };
        run::print(text.as_bytes())?;
        unread.iter().for_each(run::complain);
        Ok(exit_code(&checked, !unread.is_empty()))
    })
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

fn exit_code(checked: &[Checked<'_>], unread: bool) -> ExitCode {
    let any = |wanted: fn(&Verdict) -> bool| checked.iter().filter_map(Checked::verdict).any(wanted);
    if unread || any(|verdict| matches!(verdict, Verdict::Unknown(_))) {
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
            Some(Verdict::Valid(proven)) => proven.findings.clone(),
            Some(Verdict::Invalid(refused)) => refused.findings.to_vec(),
            Some(Verdict::Unknown(_)) | None => Vec::new(),
        };
        if let SourceDocument::Profile(profile) = self.document {
            for finding in &mut findings {
                finding.location = finding.location.or_else(|| profile.locate(&finding.field));
            }
        }
        findings.sort_by_key(|finding| finding.class() != Class::Invalid);
        findings
    }
}
