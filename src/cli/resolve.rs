//! `callgate resolve`: Docker's and Podman's profile format, made plain.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::{finding, run, source_files};
use crate::profile::{Canonical, Finding, Findings, ProfileName, UnknownName};
use crate::resolve::{self, Capability, DockerProfile, Host, HostArchitecture, KernelVersion, Resolved};
use crate::text::printable_json;

/// Turns a profile in Docker's or Podman's format into a plain OCI profile
///
/// That format holds entries for some capabilities, architectures and kernels only (includes, excludes,
/// archMap, minKernel). dockerd, Podman and CRI-O decide these for each container; containerd ignores
/// them. This decides them once, as those programs do, for the host and container that you name, and
/// prints what a container runtime would get. The result is not checked: see the examples.
///
/// minKernel is read as dockerd does, an errno by name as Podman and CRI-O do; a file that means two
/// different things to them is refused. Comments are left out. A plain OCI profile stays what it is.
///
/// A pod that may run on nodes of several architectures needs one profile for each, under another name.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Without --caps: what containerd and Docker give a container that asks for nothing, CAP_AUDIT_WRITE,
CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_MKNOD, CAP_NET_BIND_SERVICE,
CAP_NET_RAW, CAP_SETFCAP, CAP_SETGID, CAP_SETPCAP, CAP_SETUID and CAP_SYS_CHROOT. CRI-O gives fewer,
without CAP_AUDIT_WRITE, CAP_MKNOD, CAP_NET_RAW, CAP_SETFCAP and CAP_SYS_CHROOT.

Exit codes:
  0  resolved
  1  the file is no profile in this format, or means two things
  2  the file could not be read, or wrong usage

Examples:
  callgate resolve seccomp.json --kernel 6.1 > plain.json
  callgate resolve seccomp.json --caps '' --arch arm64 --kernel 6.1 | callgate check -
  callgate resolve seccomp.json --name shop/web | kubectl apply -f -"
)]
pub(super) struct Args {
    /// The profile, in JSON; - is standard input
    file: PathBuf,
    /// Capabilities of the container, with or without CAP_, by commas: its bounding set. '' is none
    #[arg(long, value_name = "CAP,...", value_parser = capabilities)]
    caps: Option<Capabilities>,
    /// Architecture of the node, as Kubernetes calls it: amd64, arm64, ... (default: this machine's)
    #[arg(long, value_name = "ARCH", value_parser = host_architecture)]
    arch: Option<HostArchitecture>,
    /// Kernel of the node, 6.1 or as uname -r prints it (default: the running one)
    #[arg(long, value_name = "VERSION")]
    kernel: Option<KernelVersion>,
    /// Print a SeccompProfile of this name, for kubectl; without namespace, for that of the context. Its nodeSelector
    /// is the architecture that was decided for, unless the file says the same for all
    #[arg(long, value_name = "[NAMESPACE/]NAME", value_parser = object_name)]
    name: Option<ObjectName>,
}

// A type of its own, because clap takes `Vec` and its like for an option that may be given several times.
#[derive(Debug, Clone)]
struct Capabilities(BTreeSet<Capability>);

/// Of a manifest.
#[derive(Debug, Clone)]
struct ObjectName {
    namespace: Option<String>,
    name: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let file = source_files::read(&args.file)?;
    let host = host(args)?;
    let source = match resolve::read(&file.text) {
        Ok(source) => source,
        Err(findings) => {
            complain(&file.name, &findings);
            return Ok(ExitCode::from(1));
        }
    };
    let resolved = source.resolve(&host);
    let canonical = match resolved.profile.canonical() {
        Ok(canonical) => canonical,
        Err(found) => {
            complain(&file.name, &found.into());
            return Ok(ExitCode::from(1));
        }
    };
    match &args.name {
        Some(name) => {
            // What is decided for one architecture is no profile for nodes of another.
            let selected = (!source.is_plain()).then_some(host.architecture);
            run::print(manifest(name, &canonical, selected)?.as_bytes())?;
        }
        None => run::print(indented(&canonical)?.as_bytes())?,
    }
    run::tell(&summary(&file.name, &source, &resolved, &host));
    if source.lacks(host.architecture) {
        run::tell(&format!(
            "{}: archMap does not have {}, so no architecture is listed: programs of its own ABI run, and others, such as \
             32-bit ones, are killed; if that is not meant, add it to archMap",
            file.name, host.architecture
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what was found, each on a line.
fn complain(file: &str, findings: &Findings) {
    for found in findings.iter() {
        run::tell(&finding::line(&place(file, found), found));
    }
    if findings.unlisted() > 0 {
        run::tell(&format!("{file}: and {} more findings", findings.unlisted()));
    }
}

fn place(file: &str, found: &Finding) -> String {
    match found.location {
        Some(at) => format!("{file}:{}:{}", at.line, at.column),
        None => file.to_owned(),
    }
}

/// What the result is for, and how much of the file is not in it.
fn summary(file: &str, source: &DockerProfile, resolved: &Resolved, host: &Host) -> String {
    if source.is_plain() {
        return format!("{file} is a plain OCI profile already, and says the same for every host");
    }
    let left_out: usize = resolved.left_out.values().sum();
    let reasons: Vec<_> = resolved
        .left_out
        .iter()
        .map(|(obstacle, number)| format!("{number} by {obstacle}"))
        .collect();
    let reasons = match reasons.join(", ") {
        empty if empty.is_empty() => empty,
        reasons => format!(" ({reasons})"),
    };
    let capabilities = match host.capabilities.len() {
        0 => "no capability".to_owned(),
        1 => "1 capability".to_owned(),
        many => format!("{many} capabilities"),
    };
    format!(
        "{file}, for {}, Linux {} and {capabilities}: {left_out} of {} entries left out{reasons}",
        host.architecture,
        host.kernel,
        source.entries()
    )
}

/// The host that the arguments name; for the rest, this machine.
fn host(args: &Args) -> anyhow::Result<Host> {
    let architecture = args
        .arch
        .or_else(HostArchitecture::of_this_machine)
        .context("this machine is none that containers run on under Kubernetes: name one with --arch")?;
    let kernel = match args.kernel {
        Some(kernel) => kernel,
        None => rustix::system::uname()
            .release()
            .to_string_lossy()
            .parse()
            .context("cannot tell this machine's kernel: name one with --kernel")?,
    };
    let capabilities = args
        .caps
        .as_ref()
        .map_or_else(|| Capability::DEFAULT.into(), |caps| caps.0.clone());
    Ok(Host {
        capabilities,
        architecture,
        kernel,
    })
}

/// The profile for people, who may have to mend it.
fn indented(canonical: &Canonical) -> anyhow::Result<String> {
    let profile: Value = serde_json::from_slice(&canonical.bytes)?;
    Ok(printable_json(&serde_json::to_string_pretty(&profile)?) + "\n")
}

/// The profile as a manifest, for nodes of one architecture or of all. The API server takes no integer above 2^63-1, so
/// those become text.
fn manifest(
    name: &ObjectName,
    canonical: &Canonical,
    selected: Option<HostArchitecture>,
) -> anyhow::Result<String> {
    let mut spec: Value = serde_json::from_slice(&canonical.bytes)?;
    quote_large(&mut spec);
    if let Some(architecture) = selected {
        spec["nodeSelector"] = json!({"kubernetes.io/arch": architecture.to_string()});
    }
    let mut metadata = json!({"name": name.name});
    if let Some(namespace) = &name.namespace {
        metadata["namespace"] = json!(namespace);
    }
    let object = json!({
        "apiVersion": "callgate.dev/v1alpha1",
        "kind": "SeccompProfile",
        "metadata": metadata,
        "spec": spec,
    });
    Ok(printable_json(&serde_json::to_string_pretty(&object)?) + "\n")
}

fn quote_large(value: &mut Value) {
    match value {
        Value::Number(number) if number.as_u64().is_some() && number.as_i64().is_none() => {
            *value = Value::String(number.to_string());
        }
        Value::Array(items) => items.iter_mut().for_each(quote_large),
        Value::Object(members) => members.values_mut().for_each(quote_large),
        _ => {}
    }
}

fn capabilities(text: &str) -> Result<Capabilities, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let read = names.map(|name| {
        let whole = if name.starts_with("CAP_") {
            name.to_owned()
        } else {
            format!("CAP_{name}")
        };
        whole
            .parse()
            .map_err(|UnknownName { known, .. }| resolve::unknown("capability", name, &known))
    });
    read.collect::<Result<_, _>>().map(Capabilities)
}

fn host_architecture(text: &str) -> Result<HostArchitecture, String> {
    text.parse()
        .map_err(|UnknownName { known, .. }| format!("write one of {}", known.join(", ")))
}

fn object_name(text: &str) -> Result<ObjectName, String> {
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, text),
    };
    ProfileName::new(namespace.as_deref().unwrap_or("default"), name)
        .map_err(|error| anyhow!(error).to_string())?;
    Ok(ObjectName {
        namespace,
        name: name.to_owned(),
    })
}
