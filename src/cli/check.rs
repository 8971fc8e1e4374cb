//! `callgate check`: every proof, offline, with the place in the file.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod human;
mod json;
mod place;
mod repeated;
mod sarif;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::run;
use super::source_files::{self, SourceFile};
use crate::profile::{self, Affected, Class, Code, Finding, Findings, SourceDocument, SourceKind};
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
  1  some are invalid, or have findings of a class that --deny names
  2  something could not be read or proven, or no profile was found at all

Examples:
  callgate check profile.json
  callgate check profiles/                      # every .yaml, .yml and .json below it
  callgate check 'profiles/**/*.json'           # also where no shell expands it, as in files of CI systems
  kubectl get scp -A -o yaml | callgate check -
  callgate check --explain unknown-syscall
  callgate check --deny not-portable profiles/  # for a cluster whose nodes differ
  callgate check --deny not-portable --runtime runc@1.2 --runtime crun --runtime libseccomp@2.5 profiles/
  callgate check --deny lint --accept crun-errno-cache profile.json
  callgate check --format json profiles/*.json | jq '.files[] | select(.verdict != \"valid\")'
  callgate check --format sarif . > callgate.sarif  # for code scanning

docs/check.md describes all formats."
)]
pub(super) struct Args {
    /// Files to check, folders with all below them but what is hidden, and patterns (*, ?, [a-z], and ** for folders)
    /// where no such file is; - is standard input
    #[arg(required_unless_present = "explain", value_name = "FILE|DIR|PATTERN")]
    paths: Vec<PathBuf>,
    /// Explain a finding by its code, or all of them, and check nothing
    #[arg(long, value_name = "CODE", conflicts_with = "paths", value_parser = explained)]
    explain: Option<Explained>,
    /// How to print what was found
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// Fail on findings of this class, too; may be given several times
    #[arg(long = "deny", value_enum, value_name = "CLASS")]
    denied: Vec<Deny>,
    /// Leave out what does not concern this software: runc, crun, youki, libseccomp or linux; may be given several
    /// times
    #[arg(long = "runtime", value_name = "NAME[@VERSION]")]
    present: Vec<Affected>,
    #[command(flatten)]
    proof: run::ProofArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Sentences, with the lines that they are about.
    Human,
    /// One object, described by docs/check.schema.json.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

/// A class that does not make a profile invalid by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Deny {
    /// Allowed, and probably not meant.
    Lint,
    /// Named runtimes or versions do something else.
    NotPortable,
}

/// All that came of the arguments.
#[derive(Debug)]
struct Report<'a> {
    checked: Vec<Checked<'a>>,
    unread: &'a [Unread],
    denied: &'a [Deny],
}

/// A document, and what came of it.
#[derive(Debug)]
struct Checked<'a> {
    file: &'a SourceFile,
    document: &'a SourceDocument,
    result: CheckResult,
    /// In the order of the file, each with its place there; of one place those first that decide.
    findings: Vec<Finding>,
    /// How many there are beside those.
    unlisted: usize,
}

#[derive(Debug)]
enum CheckResult {
    /// No profile, but something else that a file of manifests may hold.
    Skipped,
    /// And what the rules found, for a verdict that holds no findings.
    Judged(Box<Verdict>, Findings),
}

/// What to explain.
#[derive(Debug, Clone, Copy)]
enum Explained {
    One(Code),
    All,
}

fn explained(text: &str) -> Result<Explained, String> {
    match text.parse() {
        Ok(code) => Ok(Explained::One(code)),
        Err(_) if text == "all" => Ok(Explained::All),
        Err(error) if error.near().is_empty() => {
            Err(format!("{error}; --explain all explains each that there is"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// What could not be read.
#[derive(Debug)]
struct Unread {
    /// The file, or the folder that it lies in.
    name: String,
    error: anyhow::Error,
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
    run::with_prover(args.proof.clone(), async |prover| {
        let Given { files, unread, notes } = Given::read(&args.paths);
        let mut checked = Vec::new();
        let mut repeated = repeated::find(&files);
        for (file_number, file) in files.iter().enumerate() {
            for (number, document) in file.documents.iter().enumerate() {
                let mut result = check(&prover, document).await;
                if let Some(finding) = repeated.remove(&(file_number, number)) {
                    result = result.refused_for(finding);
                }
                checked.push(Checked::new(file, document, result, &args.present));
            }
        }
        let report = Report {
            checked,
            unread: &unread,
            denied: &args.denied,
        };
        let text = match args.format {
            Format::Human => human::render(&report),
            Format::Json => json::render(&report).context("cannot write JSON")?,
            Format::Sarif => sarif::render(&report).context("cannot write SARIF")?,
        };
        run::print(text.as_bytes())?;
        for note in &notes {
            run::tell(note);
        }
        for unread in report.unread {
            run::complain(&unread.error);
        }
        if report.profiles().next().is_none() && unread.is_empty() {
            run::tell("no seccomp profile was found at all");
        }
        Ok(ExitCode::from(report.exit_code()))
    })
}

/// What the arguments lead to.
#[derive(Debug, Default)]
struct Given {
    files: Vec<SourceFile>,
    unread: Vec<Unread>,
    /// Where no profile was found: no mistake, but perhaps not meant.
    notes: Vec<String>,
}

impl Given {
    fn read(paths: &[PathBuf]) -> Self {
        let mut given = Self::default();
        for path in paths {
            match source_files::matching(path) {
                None => given.read_path(path),
                Some(Ok(matching)) => matching.iter().for_each(|path| given.read_path(path)),
                Some(Err(error)) => given.add_unread(path, error),
            }
        }
        given
    }

    fn read_path(&mut self, path: &Path) {
        // `-` is no folder, whatever lies under that name.
        if path.as_os_str() != "-" && path.is_dir() {
            self.read_folder(path);
        } else if let Some(file) = self.read_file(path) {
            if !file.has_profile() {
                self.notes.push(format!("no SeccompProfile in {}", file.name));
            }
            self.files.push(file);
        }
    }

    fn add_unread(&mut self, path: &Path, error: anyhow::Error) {
        self.unread.push(Unread {
            name: path.display().to_string(),
            error,
        });
    }

    /// All below it. A folder of manifests holds many without a profile, so these are counted, not named.
    fn read_folder(&mut self, folder: &Path) {
        let (paths, errors) = source_files::in_tree(folder);
        for error in errors {
            self.add_unread(folder, error);
        }
        let files: Vec<_> = paths.iter().filter_map(|path| self.read_file(path)).collect();
        let without = files.iter().filter(|file| !file.has_profile()).count();
        if files.is_empty() {
            self.notes.push(format!(
                "no .yaml, .yml or .json file below {} (hidden ones are left out)",
                folder.display()
            ));
        } else if without > 0 {
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
            .map_err(|error| self.add_unread(path, error))
            .ok()
    }
}

async fn check(prover: &Prover, document: &SourceDocument) -> CheckResult {
    let profile = match document {
        SourceDocument::Profile(profile) => profile,
        SourceDocument::Other { .. } => return CheckResult::Skipped,
    };
    let tenant = profile.name.as_ref().map_or("", |name| name.namespace());
    match prover.read_source(profile) {
        Ok(read) => {
            let found = read.findings().to_vec().into();
            CheckResult::Judged(Box::new(prover.prove(tenant, read).await), found)
        }
        Err(refused) => CheckResult::Judged(Box::new(Verdict::Invalid(refused)), Findings::default()),
    }
}

impl CheckResult {
    /// The same, but that this makes it invalid as well.
    fn refused_for(self, finding: Finding) -> Self {
        let Self::Judged(verdict, found) = self else {
            return self;
        };
        Self::Judged(Box::new(verdict.refused_for(finding)), found)
    }
}

impl Deny {
    const fn class(self) -> Class {
        match self {
            Self::Lint => Class::Lint,
            Self::NotPortable => Class::NotPortable,
        }
    }
}

impl Report<'_> {
    /// The verdict of every document that is a profile, or was to be one.
    fn profiles(&self) -> impl Iterator<Item = &Verdict> {
        self.checked.iter().filter_map(Checked::verdict)
    }

    /// Whether the arguments made a failure of what is none by itself. What is accepted is of no class to be denied.
    fn denies(&self, finding: &Finding) -> bool {
        self.denied.iter().any(|deny| deny.class() == finding.class())
    }

    fn exit_code(&self) -> u8 {
        let any = |wanted: fn(&Verdict) -> bool| self.profiles().any(wanted);
        let has_none = self.profiles().next().is_none();
        if has_none || !self.unread.is_empty() || any(|one| matches!(one, Verdict::Unknown(_))) {
            return 2;
        }
        let mut findings = self.checked.iter().flat_map(|one| &one.findings);
        let is_denied = findings.any(|finding| self.denies(finding));
        u8::from(is_denied || any(|one| matches!(one, Verdict::Invalid(_))))
    }
}

impl<'a> Checked<'a> {
    /// With what is found that concerns who runs this software.
    fn new(
        file: &'a SourceFile,
        document: &'a SourceDocument,
        result: CheckResult,
        present: &[Affected],
    ) -> Self {
        let mut one = Self {
            file,
            document,
            result,
            findings: Vec::new(),
            unlisted: 0,
        };
        let all = match &one.result {
            CheckResult::Skipped => Findings::default(),
            CheckResult::Judged(verdict, found) => match &**verdict {
                Verdict::Valid(proven) => proven.findings.clone(),
                Verdict::Invalid(refused) => refused.findings.clone(),
                Verdict::Unknown(_) => found.clone(),
            },
        };
        let concerns = |finding: &Finding| finding.concerns(present);
        one.unlisted = all.unlisted_of(concerns);
        let mut findings: Vec<_> = all.into_iter().filter(concerns).collect();
        if let SourceDocument::Profile(profile) = document {
            for finding in &mut findings {
                finding.location = finding.location.or_else(|| profile.locate(&finding.field));
            }
        }
        // Without a place is what concerns the document as a whole: it comes first.
        findings.sort_by_key(|finding| (finding.location, !finding.is_fatal()));
        one.findings = findings;
        one
    }

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

    /// The name of a manifest's profile; other kinds have none.
    fn name(&self) -> Option<String> {
        match self.document {
            SourceDocument::Profile(profile) => profile.name.as_ref().map(ToString::to_string),
            SourceDocument::Other { .. } => None,
        }
    }

    /// `None` for what is no profile.
    fn verdict(&self) -> Option<&Verdict> {
        match &self.result {
            CheckResult::Judged(verdict, _) => Some(verdict),
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

    /// How many findings there are in all.
    fn total(&self) -> usize {
        self.findings.len().saturating_add(self.unlisted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no file can bring about: a machine that is too busy.
    #[test]
    fn a_profile_that_could_not_be_proven_is_told_in_every_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
        let file = source_files::read(&path).unwrap();
        let found = Finding::new(Code::NewerSyscall, profile::FieldPath::root(), "why");
        let verdict = Box::new(Verdict::Unknown("no \u{1b}child".to_owned()));
        let unknown = CheckResult::Judged(verdict, found.into());
        let report = Report {
            checked: vec![Checked::new(&file, &file.documents[0], unknown, &[])],
            unread: &[],
            denied: &[],
        };
        assert_eq!(report.exit_code(), 2);

        let human = human::render(&report);
        assert!(
            human.ends_with("could not be proven: no  child\n1 profile: 1 not proven; 1 warning\n"),
            "{human}"
        );

        let json: serde_json::Value = serde_json::from_str(&json::render(&report).unwrap()).unwrap();
        let schema = serde_json::from_str(include_str!("../../docs/check.schema.json")).unwrap();
        jsonschema::validate(&schema, &json).unwrap();
        let file = &json["files"][0];
        assert_eq!(
            (file["verdict"].as_str(), file["valid"].as_bool()),
            (Some("unknown"), None)
        );
        assert_eq!(file["reason"], "no \u{1b}child");
        assert_eq!(file["findings"][0]["code"], "newer-syscall");

        let sarif: serde_json::Value = serde_json::from_str(&sarif::render(&report).unwrap()).unwrap();
        let invocation = &sarif["runs"][0]["invocations"][0];
        assert_eq!(invocation["executionSuccessful"], false);
        let text = &invocation["toolExecutionNotifications"][0]["message"]["text"];
        assert_eq!(text, "OCI profile could not be proven: no \u{1b}child");
    }
}
