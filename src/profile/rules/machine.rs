//! What a profile is to the machine that proves it, which the rules alone do not know.

use super::super::finding::{Code, Finding};
use super::super::model::{Architecture, Profile, ProfileSpec};
use super::architectures::{are_related, selected};
use super::field;
use super::names::absent_from;

/// What there is to say of a profile on a machine with this native architecture, unless `nodeSelector` gives it to nodes
/// of another; the field paths are relative to the profile.
#[must_use]
pub fn on_machine(native: Architecture, spec: &ProfileSpec) -> Vec<Finding> {
    let label = selected(spec);
    if label.is_some() && label != native.node_label() {
        return Vec::new();
    }
    let listed = &spec.profile.architectures;
    match listed.first() {
        None => absent_from(native, &spec.profile),
        Some(first) if first.is_big_endian() != native.is_big_endian() => {
            vec![other_byte_order(native, *first, listed)]
        }
        Some(_) => foreign_to(native, listed).into_iter().collect(),
    }
}

/// A list in which nothing is for the machine.
fn foreign_to(native: Architecture, listed: &[Architecture]) -> Option<Finding> {
    if listed.iter().any(|one| are_related(*one, native)) {
        return None;
    }
    let message = format!(
        "{native}, which is this machine's, is not listed, nor any other whose programs run here: libseccomp adds it to the \
         filter all the same, and never uses the others; list it, or give the profile to other nodes, with {}",
        selector(listed)
    );
    Some(Finding::new(
        Code::NativeNotListed,
        field("architectures"),
        message,
    ))
}

/// A list that no filter of the machine can hold.
fn other_byte_order(native: Architecture, first: Architecture, listed: &[Architecture]) -> Finding {
    let message = format!(
        "{}, so no container starts under the profile on a node like this one: give it to {} nodes alone, with {}, or accept \
         it if no other node gets it",
        orders(native, first),
        order(first),
        selector(listed)
    );
    Finding::new(Code::OtherByteOrder, field("architectures"), message)
}

/// Why the machine itself cannot have a profile whose list is of the other byte order; the field path is relative to the
/// profile.
#[must_use]
pub fn unloadable(native: Architecture, profile: &Profile) -> Option<Finding> {
    let listed = &profile.architectures;
    let first = *listed.first()?;
    let message = format!(
        "{}. libseccomp adds that of the node to every filter, and answers EDOM: no container starts under the profile \
         here. It is for {} nodes: give it to them alone, with {}, and install it on no other by hand",
        orders(native, first),
        order(first),
        selector(listed)
    );
    Some(Finding::new(
        Code::CompileFailed,
        field("architectures").index(0),
        message,
    ))
}

/// Which byte orders do not go together.
fn orders(native: Architecture, first: Architecture) -> String {
    format!("{first} is {} and this machine {}", order(first), order(native))
}

pub(super) const fn order(architecture: Architecture) -> &'static str {
    if architecture.is_big_endian() {
        "big-endian"
    } else {
        "little-endian"
    }
}

/// What gives a profile to the nodes that its list is for. Where it lists a 64-bit architecture and its 32-bit kin, the
/// nodes are of the former.
fn selector(listed: &[Architecture]) -> String {
    let labelled = listed.iter().filter(|one| one.node_label().is_some());
    let node = labelled.min_by_key(|one| one.compares_32_bits());
    node.and_then(|one| one.node_label()).map_or_else(
        || "a nodeSelector in its manifest".to_owned(),
        |label| format!("nodeSelector kubernetes.io/arch: {label} in its manifest"),
    )
}
