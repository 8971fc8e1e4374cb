//! Whether the runtimes do with each profile what is predicted: the table of `docs/runtimes.md`.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bed::{Answer, Outcome, Runtime, RuntimeName};
use callgate::profile::{Affected, Class, Code, Version};
use callgate::proof::Proven;
use callgate::startability::End;

use crate::ask::{Ask, ask};
use crate::cases::{self, Case, Expected, User};
use crate::containerd::hand_over;
use crate::generated;
use crate::lab::{DEADLINE, Lab, SHORT_DEADLINE, libseccomp_of, on_two_threads};
use crate::predict::{Loaded, Prediction};

/// What a runtime made of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// It started, and answered as predicted.
    Agrees,
    /// It started, and answered as predicted of this runtime, but not of the filter alone.
    OwnWay,
    /// It refused it or did not start.
    Refused(String),
    /// It neither started nor gave up.
    Hung,
    /// It started, and answered this otherwise.
    Differs(String),
    /// It was not asked.
    Unasked,
}

type Unconfined = BTreeMap<(User, Ask), Answer>;

#[test]
fn runtimes_do_with_each_profile_what_its_verdict_says() {
    let lab = Lab::get();
    let mut cases = cases::all();
    cases.extend(generated::cases(30));
    let unconfined = unconfined(lab, &cases);

    let rows = on_two_threads(&cases, |case| judge(lab, case, &unconfined));

    let mut wrong = String::new();
    for (case, row) in cases.iter().zip(&rows) {
        for fault in &row.faults {
            writeln!(wrong, "{}: {fault}\n    {}", case.name, short(&case.file)).unwrap();
        }
    }
    let page = table::page(&lab.runtimes, &cases, &rows);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runtimes.md");
    if std::env::var_os("CALLGATE_WRITE_RUNTIMES").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
    let written = fs::read_to_string(&path).unwrap();
    let (seen, written) = (table::steady(&page), table::steady(&written));
    let line = |here: &[String], there: &[String]| {
        let only: Vec<&str> = here
            .iter()
            .filter(|line| !there.contains(line))
            .map(String::as_str)
            .collect();
        only.join("\n")
    };
    assert!(
        seen == written,
        "docs/runtimes.md does not say what was seen: run `make measure`\nonly seen:\n{}\nonly written:\n{}",
        line(&seen, &written),
        line(&written, &seen),
    );
}

#[test]
fn a_name_that_is_newer_than_a_runtimes_libseccomp_is_ignored_by_that_runtime_and_a_finding_says_so() {
    const MSEAL: &str = "462";
    let lab = Lab::get();
    let denied = Answer::errno(77);
    let asks = [ask(MSEAL, &[])];
    let file = r#"{"defaultAction": "SCMP_ACT_ALLOW",
                   "syscalls": [{"names": ["mseal"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]}"#;
    let proven = lab.verdict(file).unwrap();
    let told = proven.findings.iter().find(|one| one.code == Code::NewerSyscall);
    let affected = told.unwrap().affects[0];
    let mut seen = BTreeSet::new();
    for runtime in &lab.runtimes {
        let version = libseccomp_of(runtime).parse::<Version>().unwrap();
        let outcome = lab.start(runtime, User::Restricted, Some(file), &asks, DEADLINE);
        let is_denied = outcome.answers == [denied];
        assert_eq!(!is_denied, affected.contains(version), "{runtime}: {outcome:?}");
        seen.insert(is_denied);
    }
    assert_eq!(seen.len(), 2, "all runtimes have a libseccomp of one kind");
}

/// What is known of a case after all runtimes were asked.
struct Row {
    /// The code of the finding that makes it invalid.
    refused_for: Option<String>,
    seen: Vec<Seen>,
    faults: Vec<String>,
}

fn judge(lab: &Lab, case: &Case, unconfined: &Unconfined) -> Row {
    let file = lab.file(&case.file);
    let verdict = lab.verdict(&file);
    match &case.expected {
        Expected::Valid { asks, refused_by } => {
            let proven = match verdict {
                Ok(proven) => proven,
                Err(said) => {
                    return Row {
                        faults: vec![format!("Callgate calls it invalid: {said}")],
                        refused_for: Some(said),
                        seen: Vec::new(),
                    };
                }
            };
            let seen: Vec<Seen> = lab
                .runtimes
                .iter()
                .map(|runtime| compare(lab, runtime, case, &proven, asks, unconfined))
                .collect();
            let faults = lab
                .runtimes
                .iter()
                .zip(&seen)
                .filter(|(runtime, seen)| {
                    let end = predicted_end(&proven, runtime, case.user);
                    let is_refused = refused_by.contains(&runtime.name);
                    match seen {
                        Seen::Agrees | Seen::OwnWay => is_refused || end == End::Fails,
                        Seen::Refused(_) if is_refused => !is_told_of(&proven, runtime),
                        Seen::Refused(_) | Seen::Hung => end == End::Starts,
                        Seen::Differs(_) | Seen::Unasked => true,
                    }
                })
                .map(|(runtime, seen)| format!("{runtime}: {seen:?}"))
                .collect();
            Row {
                refused_for: None,
                seen,
                faults,
            }
        }
        Expected::Invalid { says } => {
            let seen = refute(lab, case, &file, says, unconfined);
            let mut faults = Vec::new();
            if seen.iter().all(do_as_told) {
                faults.push("invalid, but all runtimes do what it says".to_owned());
            }
            let refused_for = verdict
                .err()
                .and_then(|said| said.split(':').next().map(str::to_owned));
            if refused_for.is_none() {
                faults.push("invalid, but Callgate calls it valid".to_owned());
            }
            Row {
                refused_for,
                seen,
                faults,
            }
        }
    }
}

/// Whether a finding says that the profile is not portable to this runtime.
fn is_told_of(proven: &Proven, runtime: &Runtime) -> bool {
    let version = numbers(&runtime.version).parse::<Version>().unwrap();
    let affects = |one: &Affected| one.software.as_str() == runtime.name.program() && one.contains(version);
    proven
        .findings
        .iter()
        .any(|finding| finding.class() == Class::NotPortable && finding.affects.iter().any(affects))
}

/// What Callgate says of the start of a container of this user on this runtime.
pub(crate) fn predicted_end(proven: &Proven, runtime: &Runtime, user: User) -> End {
    let version = numbers(&runtime.version).parse::<Version>().unwrap();
    let affects = |one: &Affected| one.software.as_str() == runtime.name.program() && one.contains(version);
    let told = proven.findings.iter().filter(|finding| match finding.code {
        Code::StartFails => true,
        Code::NeedsNoNewPrivs => !user.no_new_privs(),
        _ => false,
    });
    told.filter(|finding| finding.affects.iter().any(affects))
        .map(|finding| {
            let is_unsure = ["may be unable", "now and then"]
                .iter()
                .any(|words| finding.message.contains(words));
            if is_unsure { End::Perhaps } else { End::Fails }
        })
        .max()
        .unwrap_or(End::Starts)
}

/// A version without what a distribution puts behind it.
fn numbers(version: &str) -> &str {
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.');
    &version[..end.unwrap_or(version.len())]
}

/// Starts a valid profile, and compares.
fn compare(
    lab: &Lab,
    runtime: &Runtime,
    case: &Case,
    proven: &Proven,
    asks: &[Ask],
    unconfined: &Unconfined,
) -> Seen {
    let profile = &proven.spec.profile;
    let deadline = if predicted_end(proven, runtime, case.user) == End::Fails {
        SHORT_DEADLINE
    } else {
        DEADLINE
    };
    let loaded = match Loaded::new(profile, runtime) {
        Ok(loaded) => loaded,
        Err(error) => return Seen::Refused(format!("{error:#}")),
    };
    let seccomp = hand_over(&lab.file(&case.file)).unwrap().to_string();
    let predicted: Vec<_> = asks.iter().map(|ask| (*ask, loaded.answer(ask))).collect();
    let filter = Loaded::alone(profile).unwrap();
    let own_way = predicted
        .iter()
        .any(|(ask, prediction)| filter.answer(ask) != *prediction);
    match ask_all(
        lab, runtime, case.user, &seccomp, &predicted, unconfined, deadline,
    ) {
        Seen::Agrees if own_way => Seen::OwnWay,
        seen => seen,
    }
}

/// Whether this is no ground to refuse a profile.
fn do_as_told(seen: &Seen) -> bool {
    matches!(seen, Seen::Agrees | Seen::Unasked)
}

/// Starts an invalid profile as it is; and where all runtimes do what it says, as containerd hands it over.
fn refute(
    lab: &Lab,
    case: &Case,
    file: &str,
    says: &[(Ask, Prediction)],
    unconfined: &Unconfined,
) -> Vec<Seen> {
    let ask = |seccomp: &str| -> Vec<Seen> {
        lab.runtimes
            .iter()
            .map(|runtime| match runtime.name {
                // Many of these starts hang until their deadline, and one ground to refuse a profile is enough.
                RuntimeName::OlderRunc(_) => Seen::Unasked,
                _ => ask_all(lab, runtime, case.user, seccomp, says, unconfined, SHORT_DEADLINE),
            })
            .collect()
    };
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(file).is_ok();
    let raw = if is_json { ask(file) } else { Vec::new() };
    if !raw.iter().all(do_as_told) {
        return raw;
    }
    match hand_over(file) {
        Ok(handed) => ask(&handed.to_string()),
        Err(error) => vec![Seen::Refused(format!("containerd: {error}")); lab.runtimes.len()],
    }
}

/// Asks all calls: those that return in one start, each deadly one at the end of a start.
fn ask_all(
    lab: &Lab,
    runtime: &Runtime,
    user: User,
    seccomp: &str,
    predicted: &[(Ask, Prediction)],
    unconfined: &Unconfined,
    deadline: Duration,
) -> Seen {
    let deadly = |prediction: &Prediction| matches!(prediction, Prediction::Stopped(Answer::Killed(_)));
    let (last, mut first): (Vec<_>, Vec<_>) = predicted.iter().copied().partition(|(_, one)| deadly(one));
    let mut starts = Vec::new();
    for one in last.into_iter().take(3) {
        first.push(one);
        starts.push(std::mem::take(&mut first));
    }
    if starts.is_empty() || !first.is_empty() {
        starts.push(first);
    }
    for start in starts {
        let asks: Vec<Ask> = start.iter().map(|(ask, _)| *ask).collect();
        let outcome = lab.start(runtime, user, Some(seccomp), &asks, deadline);
        if !outcome.ran {
            return match outcome.end {
                bed::End::Hung => Seen::Hung,
                end => Seen::Refused(format!("{end}: {}", outcome.last_words())),
            };
        }
        if let Some(difference) = difference(&outcome, user, &start, unconfined) {
            return Seen::Differs(difference);
        }
    }
    Seen::Agrees
}

fn difference(
    outcome: &Outcome,
    user: User,
    predicted: &[(Ask, Prediction)],
    unconfined: &Unconfined,
) -> Option<String> {
    for (index, (ask, prediction)) in predicted.iter().enumerate() {
        let Some(&answer) = outcome.answers.get(index) else {
            return Some(format!("{ask} was not made: {}", outcome.end));
        };
        let expected = match prediction {
            Prediction::Made => unconfined[&(user, *ask)],
            Prediction::Stopped(stopped) => *stopped,
        };
        if kind(answer) != kind(expected) {
            return Some(format!("{ask} gives {answer}, predicted was {expected}"));
        }
    }
    None
}

/// Numbers of descriptors and the like depend on what came before.
fn kind(answer: Answer) -> Answer {
    match answer {
        Answer::Returned(value) if value > 0 => Answer::Returned(0),
        other => other,
    }
}

fn unconfined(lab: &Lab, cases: &[Case]) -> Unconfined {
    let mut all: BTreeMap<User, BTreeSet<Ask>> = BTreeMap::new();
    for case in cases {
        let asks = all.entry(case.user).or_default();
        match &case.expected {
            Expected::Valid { asks: more, .. } => asks.extend(more),
            Expected::Invalid { says } => asks.extend(says.iter().map(|(ask, _)| *ask)),
        }
    }
    let mut answers = BTreeMap::new();
    for (user, asks) in all {
        let asks: Vec<Ask> = asks.into_iter().collect();
        answers.extend(
            lab.unconfined(user, &asks)
                .into_iter()
                .map(|(ask, answer)| ((user, ask), answer)),
        );
    }
    answers
}

fn short(file: &str) -> String {
    file.chars().take(400).collect()
}
