//! `docs/runtimes.md`: what was asked of which runtimes, and what they did.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bed::Runtime;
use callgate::filter::libseccomp_version;
use callgate::startability::{Denials, PORTABLE_START, PORTABLE_START_PRIVILEGED, START_NEEDS, Site, Start};

use super::{Row, Seen};
use crate::cases::{Case, Expected};

const HEAD: &str = "\
<!-- Written by `make measure`. Do not edit. -->

# What container runtimes do with profiles

A verdict of Callgate's is a claim about container runtimes. `cargo test --test runtimes` holds it against real ones:
it starts a container with each of the profiles below, without Kubernetes, and compares what system calls return in it
with what is predicted. `make measure` writes this page.
";

const AGREEMENT: &str = "
## Agreement

- *agrees*: the container starts, and each call that was tried is answered as predicted (for a valid profile), or as the
  profile says to a reader of the specification (for an invalid one: then another runtime, or containerd, does not). What makes a profile invalid is named by the
  code of its finding.
- *own way*: the same, and the prediction for this runtime is not that for the filter alone: runc answers calls that
  are newer than all that a profile names with ENOSYS, youki takes the mask of `SCMP_CMP_MASKED_EQ` for its value.
- *refuses*: no container starts. Of a valid profile a finding that names the runtime says so.
- *hangs*: the start neither succeeds nor fails.
- *differs*: the container starts, and a call is answered otherwise than the profile says.
- Nothing: not asked. Invalid profiles are tried on the oldest and the newest version of a runtime alone.

Profiles \"made by chance\" come from a generator in `tests/runtimes/generated.rs`, the others are in
`tests/runtimes/cases/`.
";

const PASSED: &str = "\
What it is known to pass. `!`: a start that is denied this alone fails, by each errno of the table but 0.\n";

const ASKED: &str = "Asked were ";
const INVALID: &str = " | invalid: `";

const NEEDS: &str = "
## What a start needs

After a runtime has loaded a container's filter into its process, it still makes some system calls before execve(2)
starts the container's program. A start fails if the filter denies one of them in a way that the runtime does not get
over. Where it has a second way, both must be denied. *Now and then*: calls that Go's runtime makes at moments of its
own, so that some starts fail and others do not.

A profile can also deny a call for some arguments. Below each table is what the runtime passes: *address* lies in its
memory, *descriptor* is one that it opened, *standard* is 0, 1 or 2, and of *any* and of later arguments nothing is known.
A start fails for certain if all that is passed is denied, or some of it by death. Where it is denied by an errno and
nothing is marked, the runtime may get over it, and the finding says that it may fail.
";

/// The page.
pub(super) fn page(runtimes: &[Runtime], cases: &[Case], rows: &[Row]) -> String {
    let mut text = HEAD.to_owned();
    let versions: Vec<String> = runtimes.iter().map(ToString::to_string).collect();
    let asked = runtimes.iter().map(|runtime| match runtime.own_libseccomp() {
        Some(own) => format!("{runtime} (with libseccomp {own})"),
        None => runtime.to_string(),
    });
    let asked: Vec<String> = asked.collect();
    writeln!(
        text,
        "\n{ASKED}{}, all others with libseccomp {}, on Linux {}.",
        asked.join(", "),
        libseccomp_version(),
        kernel(),
    )
    .unwrap();
    text += AGREEMENT;
    writeln!(text, "\n| profile | expected | {} |", versions.join(" | ")).unwrap();
    writeln!(text, "|---|---|{}", "---|".repeat(versions.len())).unwrap();
    for (case, row) in cases.iter().zip(rows) {
        let expected = match (&case.expected, &row.refused_for) {
            (Expected::Invalid { .. }, Some(code)) => format!("invalid: `{code}`"),
            (Expected::Invalid { .. }, None) => "invalid".to_owned(),
            (Expected::Valid { .. }, _) => "valid".to_owned(),
        };
        let seen: Vec<&str> = row.seen.iter().map(word).collect();
        writeln!(text, "| {} | {expected} | {} |", case.name, seen.join(" | ")).unwrap();
    }
    text += NEEDS;
    for (needs, no_new_privs) in START_NEEDS
        .iter()
        .flat_map(|needs| [(needs, true), (needs, false)])
    {
        let privileges = if no_new_privs { "with" } else { "without" };
        let name = format!("{} {}", needs.runtime.as_str(), needs.version);
        writeln!(text, "\n### {name}, {privileges} `no_new_privs`\n").unwrap();
        writeln!(
            text,
            "| a start fails if the filter denies | by | |\n|---|---|---|"
        )
        .unwrap();
        let start = needs.start(no_new_privs);
        for (names, denials, when) in lines(start) {
            writeln!(text, "| {names} | {denials} | {when} |").unwrap();
        }
        let calls: BTreeSet<String> = start.sites().map(passed).collect();
        writeln!(text, "\n{PASSED}").unwrap();
        for call in calls {
            writeln!(text, "    {call}").unwrap();
        }
    }
    write!(
        text,
        "\n### The portable start set\n\nAllowed, these let a container with `no_new_privs` (Kubernetes: \
         `allowPrivilegeEscalation: false`) start on all of the above, whatever the profile does with other \
         calls:\n\n    {}\n\nWithout it these are needed as well:\n\n    {}\n",
        PORTABLE_START.join(" "),
        PORTABLE_START_PRIVILEGED.join(" "),
    )
    .unwrap();
    text
}

/// The lines of a page that are the same wherever and whenever these runtimes are asked: all but the one about the
/// machine, and what runtimes make of an invalid profile. Whether a start hangs or fails may depend on the moment.
pub(super) fn steady(page: &str) -> Vec<String> {
    page.lines()
        .filter(|line| !line.starts_with(ASKED))
        .map(|line| {
            let code = line.split_once(INVALID).and_then(|(name, rest)| {
                let (code, _) = rest.split_once('`')?;
                Some(&line[..name.len() + INVALID.len() + code.len()])
            });
            code.unwrap_or(line)
        })
        .map(|line| line.replace(" hangs |", " refuses |"))
        .collect()
}

/// The first two parts of its version; what follows names a build.
fn kernel() -> String {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

const fn word(seen: &Seen) -> &'static str {
    match seen {
        Seen::Agrees => "agrees",
        Seen::OwnWay => "own way",
        Seen::Refused(_) => "refuses",
        Seen::Hung => "hangs",
        Seen::Differs(_) => "differs",
        Seen::Unasked => "",
    }
}

/// A call, and whether it decides.
fn passed(site: &Site) -> String {
    let mark = if site.decides { " !" } else { "" };
    format!("{}{mark}", site.call)
}

/// The lines of a table: calls, their denials, and when. What several needs say of one call is one line.
fn lines(start: &Start) -> Vec<(String, String, &'static str)> {
    let mut all: BTreeMap<(Vec<&str>, &'static str), Vec<Vec<Denials>>> = BTreeMap::new();
    for need in start.needs() {
        let (names, denials): (Vec<&str>, Vec<Denials>) = need.calls.iter().copied().unzip();
        let when = match (need.always, need.root) {
            (true, true) => "",
            (true, false) => "unless root",
            (false, true) => "now and then",
            (false, false) => "now and then, unless root",
        };
        let ways = all.entry((names, when)).or_default();
        match (&mut ways[..], &denials[..]) {
            ([only], [more]) => only[0] = only[0] | *more,
            _ => ways.push(denials),
        }
    }
    let mut lines = Vec::new();
    for ((names, when), ways) in all {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        for denials in ways {
            let denials: Vec<String> = denials.iter().map(ToString::to_string).collect();
            lines.push((names.join(" and "), denials.join("; "), when));
        }
    }
    lines
}
