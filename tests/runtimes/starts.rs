//! Whether starts fail for what the table of needs says, and for nothing else.

use bed::{Outcome, Runtime};
use callgate::startability::{Denials, Need, START_NEEDS, StartNeeds};

use crate::cases::User;
use crate::denial::profile;
use crate::lab::{DEADLINE, Lab, on_two_threads};

/// One start under a filter that denies one call, or two.
struct Try<'a> {
    runtime: &'a Runtime,
    needs: &'static StartNeeds,
    user: User,
    denied: Vec<(&'static str, Denials)>,
}

#[test]
fn a_start_fails_for_each_need_that_is_denied_and_for_nothing_that_the_runtime_gets_over() {
    let lab = Lab::get();
    let unknown: Vec<String> = lab
        .runtimes
        .iter()
        .flat_map(|runtime| [true, false].map(|no_new_privs| (runtime, no_new_privs)))
        .filter(|(runtime, no_new_privs)| needs(runtime).all(|needs| needs.no_new_privs != *no_new_privs))
        .map(|(runtime, no_new_privs)| {
            let privileges = if no_new_privs { "with" } else { "without" };
            format!("{runtime} {privileges} no_new_privs")
        })
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

/// What the table says of this version.
fn needs(runtime: &Runtime) -> impl Iterator<Item = &'static StartNeeds> {
    START_NEEDS
        .iter()
        .filter(|needs| needs.runtime.as_str() == runtime.name.program() && needs.version == runtime.version)
}

/// Of each need one denial that is fatal, and one that is not, if there is one. `make measure` tries all.
fn tries(runtime: &Runtime) -> Vec<Try<'_>> {
    let mut tries = Vec::new();
    for needs in needs(runtime) {
        for (index, need) in needs.needs.iter().filter(|need| need.always).enumerate() {
            // Where there is a choice, neighbours in the table take different ones.
            let pick = |from: Denials| {
                let choices = Denials::NAMED.map(|(one, _)| one);
                (0..choices.len())
                    .map(|turn| choices[(index + turn) % choices.len()])
                    .find(|one| from.intersects(*one))
            };
            let user = match (needs.no_new_privs, need.root) {
                (false, true) => User::Root,
                (true, _) => User::Restricted,
                (false, false) => User::Ordinary,
            };
            let start = |denied| Try {
                runtime,
                needs,
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
                let survived = Denials::ANY - fatal_to(needs, name);
                tries.extend(pick(survived).map(|denial| start(vec![(*name, denial)])));
            }
        }
    }
    tries
}

/// All denials of this call that can fail a start, alone or with others.
fn fatal_to(needs: &StartNeeds, name: &str) -> Denials {
    let alone = |need: &&Need| need.calls.len() == 1 && need.calls[0].0 == name;
    needs
        .needs
        .iter()
        .filter(alone)
        .fold(Denials::NONE, |all, need| all | need.calls[0].1)
}

fn fault(lab: &Lab, one: &Try<'_>) -> Option<String> {
    let denial = |name: &str| {
        let found = one.denied.iter().find(|(denied, _)| *denied == name);
        found.map_or(Denials::NONE, |(_, denial)| *denial)
    };
    let fails = one.needs.missing(one.user.uid(), denial).next().is_some();
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
