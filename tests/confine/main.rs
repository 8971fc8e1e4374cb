//! How `callgate agent` and `callgate controller` shut themselves in: what stays possible, and what does not.
//!
//! Landlock, capabilities and `no_new_privs` are those of a thread, so that a test may shut in one of its own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "so do tests fail, in helpers as elsewhere"
)]

mod daemons;
mod inside;

use std::fs;
use std::thread;

use callgate::confine::Confinement;
use landlock::{AccessFs, LandlockStatus, Ruleset, RulesetAttr as _};

/// The version of Landlock that this kernel answers to `landlock_create_ruleset(2)`; 0 for none.
fn landlock_version() -> u8 {
    let asked = thread::spawn(|| {
        let ruleset = Ruleset::default().handle_access(AccessFs::Execute).unwrap();
        ruleset.create().unwrap().restrict_self().unwrap().landlock
    });
    match asked.join().unwrap() {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u8,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    }
}

/// What a process says of itself that has shut itself in on this kernel: whether it is confined, and in one word.
fn expected() -> (bool, &'static str) {
    match landlock_version() {
        0 => (false, "NoLandlock"),
        1 | 2 => (false, "OldLandlock"),
        3..=5 => (true, "MostlyConfined"),
        _ => (true, "Confined"),
    }
}

/// Asserts that this is what can be had here.
fn assert_is_expected(confinement: &Confinement) {
    let said = (confinement.is_confined(), confinement.reason());
    assert_eq!(said, expected(), "{}", confinement.message());
    assert_eq!(confinement.holds_files(), landlock_version() > 0);
}

/// Asserts that a thread (as `/proc` names it) has no privilege left.
fn assert_has_no_privilege(process: &str) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set} of {process}");
    }
    assert_eq!(field("NoNewPrivs:"), "1", "of {process}");
}
