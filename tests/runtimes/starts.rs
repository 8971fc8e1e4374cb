//! Whether starts fail for what the table of needs says, and for nothing else.

use bed::{Outcome, Runtime, RuntimeName};
use callgate::startability::{Denials, End, Need, START_NEEDS, Site, Start, StartNeeds};

use crate::agreement::predicted_end;
use crate::cases::User;
use crate::denial::{profile, profile_of_one};
use crate::generated::nearly_portable;
use crate::lab::{DEADLINE, Lab, SHORT_DEADLINE, on_two_threads};

/// One start under a filter that denies one call, or two.
struct Try<'a> {
    runtime: &'a Runtime,
    start: &'static Start,
    user: User,
    denied: Vec<(&'static str, Denials)>,
}

/// One start under a filter that denies one call with the arguments that are known.
struct TryOne<'a> {
    runtime: &'a Runtime,
    user: User,
    site: Site,
    denial: Denials,
}

#[test]
fn a_start_fails_for_each_need_that_is_denied_and_for_nothing_that_the_runtime_gets_over() {
    let lab = Lab::get();
    let unknown: Vec<String> = lab
        .runtimes
        .iter()
        .filter(|runtime| needs(runtime).is_none())
        .map(ToString::to_string)
        .collect();
    assert!(
        unknown.is_empty(),
        "src/startability/needs.rs does not say what a start needs on {}: run `make measure`, and add what it prints",
        unknown.join(", ")
    );
    let tries: Vec<Try<'_>> = lab.runtimes.iter().flat_map(tries).collect();
    let faults = on_two_threads(&tries, |one| fault(lab, one));
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_start_fails_that_is_denied_what_the_runtime_passes_to_a_call_that_it_needs() {
    let lab = Lab::get();
    let tries: Vec<TryOne<'_>> = lab.runtimes.iter().flat_map(tries_of_one).collect();
    assert!(tries.len() > 100, "{} tries", tries.len());
    let faults = on_two_threads(&tries, |one| {
        let seccomp = profile_of_one(one.site.call, one.denial);
        let outcome = lab.start(one.runtime, one.user, Some(&seccomp), &[], DEADLINE);
        outcome.ran.then(|| {
            let (runtime, user, call, denial) = (one.runtime, one.user, one.site.call, one.denial);
            format!("{runtime} as {user:?} starts with {call} denied by {denial}")
        })
    });
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_start_refutes_what_is_said_of_profiles_made_by_chance() {
    let lab = Lab::get();
    let profiles = nearly_portable(40);
    let results = on_two_threads(&profiles, |(user, profile)| {
        let file = profile.to_string();
        let verdict = lab.verdict(&file);
        let mut ends = Vec::new();
        for runtime in &lab.runtimes {
            let end = match &verdict {
                Ok(proven) => predicted_end(proven, runtime, *user),
                // Of youki, and of what Callgate refuses for other reasons, it says nothing.
                Err(said) if !said.starts_with("cannot-start") => panic!("{said}: {file}"),
                Err(_) if runtime.name == RuntimeName::Youki => continue,
                Err(_) => End::Fails,
            };
            let deadline = if end == End::Starts {
                DEADLINE
            } else {
                SHORT_DEADLINE
            };
            let outcome = lab.start(runtime, *user, Some(&file), &[], deadline);
            let is_wrong = match end {
                End::Starts => !outcome.ran,
                End::Fails => outcome.ran,
                End::Perhaps => false,
            };
            let wrong =
                is_wrong.then(|| format!("{runtime} as {user:?}: {end:?}, but {}: {file}", outcome.end));
            ends.push((end, wrong));
        }
        ends
    });
    let ends: Vec<_> = results.into_iter().flatten().collect();
    let wrong: Vec<&str> = ends.iter().filter_map(|(_, wrong)| wrong.as_deref()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What is said is of both kinds, and for the most part certain.
    let count = |kind| ends.iter().filter(|(end, _)| *end == kind).count();
    let counts = [End::Starts, End::Perhaps, End::Fails].map(count);
    assert!(
        counts[0] > 100 && counts[1] * 8 < ends.len() && counts[2] > 50,
        "{counts:?}"
    );
}

/// Of each call that a runtime passes something to, a denial that fails a start alone: death, or where it decides, an
/// errno.
fn tries_of_one(runtime: &Runtime) -> Vec<TryOne<'_>> {
    let mut tries = Vec::new();
    for (start, user) in starts(runtime) {
        for (index, site) in start.sites().enumerate() {
            let needs = start.needs().filter(|need| need.always && need.calls.len() == 1);
            let fatal = needs
                .filter(|need| need.calls[0].0 == site.call.name && (need.root || user != User::Root))
                .fold(Denials::NONE, |all, need| all | need.calls[0].1);
            let denials = if site.decides {
                fatal - Denials::KILL - Denials::ZERO
            } else {
                fatal
            };
            let choices = Denials::NAMED.map(|(one, _)| one);
            let denial = (0..choices.len())
                .map(|turn| choices[(index + turn) % choices.len()])
                .find(|one| denials.intersects(*one) && (site.decides || *one == Denials::KILL));
            tries.extend(denial.map(|denial| TryOne {
                runtime,
                user,
                site: *site,
                denial,
            }));
        }
    }
    tries
}

/// What the table says of this version.
fn needs(runtime: &Runtime) -> Option<&'static StartNeeds> {
    let here = (runtime.name.program(), runtime.version.as_str());
    let mut all = START_NEEDS.iter();
    all.find(|needs| (needs.runtime.as_str(), needs.version) == here)
}

/// Both kinds of starts, and who is to be started.
fn starts(runtime: &Runtime) -> impl Iterator<Item = (&'static Start, User)> {
    let needs = needs(runtime).into_iter();
    needs.flat_map(|needs| {
        [
            (&needs.with_no_new_privs, User::Restricted),
            (&needs.without_no_new_privs, User::Root),
        ]
    })
}

/// Of each need one denial that is fatal, and one that is not, if there is one. `make measure` tries all.
fn tries(runtime: &Runtime) -> Vec<Try<'_>> {
    let mut tries = Vec::new();
    for (known, user) in starts(runtime) {
        for (index, need) in known.needs().filter(|need| need.always).enumerate() {
            // Where there is a choice, neighbours in the table take different ones.
            let pick = |from: Denials| {
                let choices = Denials::NAMED.map(|(one, _)| one);
                (0..choices.len())
                    .map(|turn| choices[(index + turn) % choices.len()])
                    .find(|one| from.intersects(*one))
            };
            let user = if need.root { user } else { User::Ordinary };
            let start = |denied| Try {
                runtime,
                start: known,
                user,
                denied,
            };
            let fatal = need
                .calls
                .iter()
                .map(|(name, denials)| (*name, pick(*denials).unwrap()))
                .collect();
            tries.push(start(fatal));
            if let [(name, _)] = need.calls {
                let survived = Denials::ANY - fatal_to(known, name);
                tries.extend(pick(survived).map(|denial| start(vec![(*name, denial)])));
            }
        }
    }
    tries
}

/// All denials of this call that can fail a start, alone or with others.
fn fatal_to(start: &Start, name: &str) -> Denials {
    let alone = |need: &&'static Need| need.calls.len() == 1 && need.calls[0].0 == name;
    start
        .needs()
        .filter(alone)
        .fold(Denials::NONE, |all, need| all | need.calls[0].1)
}

fn fault(lab: &Lab, one: &Try<'_>) -> Option<String> {
    let denial = |name: &str| {
        let found = one.denied.iter().find(|(denied, _)| *denied == name);
        found.map_or(Denials::NONE, |(_, denial)| *denial)
    };
    let fails = one.start.missing(one.user.uid(), denial).next().is_some();
    let outcome: Outcome = lab.start(one.runtime, one.user, Some(&profile(&one.denied)), &[], DEADLINE);
    (outcome.ran == fails).then(|| {
        let denied: Vec<String> = one
            .denied
            .iter()
            .map(|(name, denial)| format!("{name} denied by {denial}"))
            .collect();
        let (expected, ended) = (if fails { "fail" } else { "start" }, outcome.end);
        format!(
            "{} as {:?} with {}: expected to {expected}, {ended}: {}",
            one.runtime,
            one.user,
            denied.join(" and "),
            outcome.last_words()
        )
    })
}
