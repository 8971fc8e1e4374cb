//! What strace(1) writes of the calls that change a disk, read back.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// The calls by which a store changes a disk or takes hold of it.
const CALLS: &str = "openat2,write,fchmod,fsync,fdatasync,renameat,renameat2,unlinkat,mkdirat,flock";

/// The program under strace, to add its arguments to; what it does goes to `log`. With `kill`, it is killed as the
/// thread that has made so many calls of this name is about to make another one.
pub(crate) fn traced(program: &Path, log: &Path, kill: Option<(&str, usize)>) -> Command {
    let mut command = Command::new("strace");
    command
        // The tracer is a grandchild: whoever starts this has the program itself for a child.
        .args(["-D", "-f", "-qq", "-e", "signal=none"])
        // Descriptors with their paths; all text in hexadecimal digits, whole.
        .args(["-y", "-xx", "-s", "1000000"])
        .arg(format!("--trace={CALLS}"))
        .arg("-o")
        .arg(log);
    if let Some((call, before)) = kill {
        command.arg(format!("--inject={call}:signal=KILL:when={}", before + 1));
    }
    command.arg(program);
    command
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) thread: u32,
    pub(crate) name: String,
    /// As strace writes them.
    arguments: String,
    /// `None` where it did not return.
    result: Option<String>,
}

/// Reads a log: in the order of their begin.
pub(crate) fn read(log: &Path) -> Result<Vec<Call>> {
    let text =
        std::fs::read_to_string(log).with_context(|| format!("no log of strace: {}", log.display()))?;
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished: HashMap<u32, usize> = HashMap::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let (Ok(thread), rest) = (thread.parse(), rest.trim_start()) else {
            continue;
        };
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            if let (Some(index), Some((_, end))) =
                (unfinished.remove(&thread), resumed.split_once(" resumed>"))
            {
                let (arguments, result) = ended(end);
                calls[index].arguments.push_str(arguments);
                calls[index].result = result;
            }
            continue;
        }
        let Some((name, rest)) = rest.split_once('(') else {
            continue;
        };
        let (arguments, result) = match rest.strip_suffix(" <unfinished ...>") {
            Some(arguments) => {
                unfinished.insert(thread, calls.len());
                (arguments, None)
            }
            None => ended(rest),
        };
        calls.push(Call {
            thread,
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            result,
        });
    }
    Ok(calls)
}

/// The arguments and the result in `ARGUMENTS) = RESULT`.
fn ended(text: &str) -> (&str, Option<String>) {
    // Text is in hexadecimal digits: nothing else of this looks like the end.
    match text.rsplit_once(") = ") {
        Some((arguments, result)) if !result.starts_with('?') => (arguments, Some(result.to_owned())),
        Some((arguments, _)) => (arguments, None),
        None => (text, None),
    }
}

impl Call {
    /// Whether it returned, and without an error.
    pub(crate) fn succeeded(&self) -> bool {
        self.result
            .as_ref()
            .is_some_and(|result| !result.starts_with('-'))
    }

    pub(crate) fn returned(&self) -> bool {
        self.result.is_some()
    }

    /// Paths of the descriptors that it was given.
    pub(crate) fn descriptors(&self) -> Vec<PathBuf> {
        paths(&self.arguments)
    }

    /// Names and data that it was given.
    pub(crate) fn texts(&self) -> Vec<Vec<u8>> {
        let quoted = self.arguments.split('"').skip(1).step_by(2);
        quoted.map(unescape).collect()
    }

    /// Whether these words stand in its arguments.
    pub(crate) fn says(&self, words: &str) -> bool {
        self.arguments.contains(words)
    }

    /// Whether it is for standard output.
    pub(crate) fn is_output(&self) -> bool {
        self.name == "write" && self.arguments.starts_with("1<")
    }

    /// Whether it changes what is beneath `root`, or takes hold of it.
    pub(crate) fn changes(&self, root: &Path) -> bool {
        let is_change = self.name != "openat2" || self.says("O_CREAT");
        is_change && self.descriptors().iter().any(|path| path.starts_with(root))
    }

    /// What it does, for people.
    pub(crate) fn describe(&self, root: &Path) -> String {
        let path = self.descriptors().into_iter().next().unwrap_or_default();
        let what = match self.name.as_str() {
            "openat2" => "create",
            "write" => "write",
            "fchmod" => "set mode",
            "fsync" if is_temporary(&path) => "fsync file",
            "fsync" | "fdatasync" => "fsync directory",
            "renameat" | "renameat2" => "rename",
            "unlinkat" if self.says("AT_REMOVEDIR") => "remove directory",
            "unlinkat" => "remove file",
            "mkdirat" => "make directory",
            "flock" => "lock",
            name => name,
        };
        let within = path
            .strip_prefix(root.join("callgate"))
            .unwrap_or_else(|_| Path::new(""));
        let place = match within.components().next() {
            None => "callgate",
            Some(first) if first.as_os_str() == ".callgate" => "callgate/.callgate",
            Some(_) => "callgate/NAMESPACE",
        };
        format!("{what} in {place}")
    }
}

fn is_temporary(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(".callgate-tmp-"))
}

/// What stands in angle brackets.
fn paths(text: &str) -> Vec<PathBuf> {
    // Quoted texts have none.
    let bracketed = text.split('<').skip(1);
    bracketed
        .filter_map(|rest| rest.split_once('>'))
        .map(|(path, _)| PathBuf::from(OsString::from_vec(unescape(path))))
        .collect()
}

/// Of `\xNN\xNN`; anything else stays.
fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[2..]);
            }
            None => bytes.extend(part.as_bytes()),
        }
    }
    bytes
}
