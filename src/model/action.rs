//! What can happen.

use proptest::prelude::*;

use super::content::Content;
use super::object::Kind;

pub(super) const NODES: u8 = 3;
pub(super) const PROFILES: u8 = 3;

/// One thing that happens. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// Somebody applies a profile with this content, for a zone or for all nodes.
    Apply(u8, Content, Option<u8>),
    Delete(u8),
    /// A Node is there, in this zone.
    Register(u8, Option<u8>),
    Unregister(u8),
    /// A pod on a node uses a profile.
    StartPod(u8, u8),
    FinishPod(u8),
    DeletePod(u8),
    CollectGarbage,
    /// A watch of a process tells the next so many events.
    Deliver(u8, Kind, u8),
    /// It tells the next one twice.
    Repeat(u8, Kind),
    /// It is interrupted, and what it had to tell is lost.
    Cut(u8, Kind),
    /// It lists all there is, and goes on from there.
    Connect(u8, Kind),
    /// The kernel answers a process, or has no answer.
    Answer(u8, u8, bool),
    /// The report on its way from a node arrives or not, and the answer comes back or not.
    Report(u8, bool, bool),
    /// The same for a status.
    Status(u8, u8, bool, bool),
    /// One that a process sent which is gone arrives late.
    StrayStatus,
    Crash(u8, Damage),
    /// An agent dies in the middle of the next changes.
    DieAfter(u8, u8),
    /// An agent starts, after an upgrade of its kernel (1) or of Callgate (2).
    Start(u8, u8),
    /// An agent learns which cluster this is.
    Identify(u8),
    /// The kubelet asks an agent whether it is ready.
    Probe(u8),
    /// With newer rules, or not.
    RestartController(u8, bool),
    /// This replica leads, or none.
    Lead(Option<u8>),
    DiskFull(u8, bool),
    FileStuck(u8, Option<u8>),
    /// The kernel of a node has no answers.
    KernelSilent(u8, bool),
    /// Milliseconds.
    Pass(u64),
    /// For a moment everything works.
    Settle,
}

/// What else is lost when an agent dies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Damage {
    None,
    /// The record of its store.
    Record,
    /// A file.
    File(u8),
    /// Nothing, and its report is still on its way.
    LateReport,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(&Kind::ALL[..])
}

fn zone() -> impl Strategy<Value = Option<u8>> {
    prop::sample::select(&[None, Some(0), Some(1), Some(2)][..])
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        6 => (0..3_u8).prop_map(Content::Good),
        2 => Just(Content::ForNewKernels),
        1 => Just(Content::ForOldRules),
        1 => Just(Content::NotLoadable),
        1 => Just(Content::Unreadable),
    ]
}

fn milliseconds() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => Just(300_u64),
        3 => Just(6_000),
        3 => Just(21_000),
        2 => Just(61_000),
    ]
}

/// Anything.
pub(super) fn any_action() -> impl Strategy<Value = Action> {
    let process = || 0..NODES + 2;
    let node = || 0..NODES;
    let name = || 0..PROFILES;
    let damage = prop_oneof![
        4 => Just(Damage::None),
        1 => Just(Damage::Record),
        1 => name().prop_map(Damage::File),
        2 => Just(Damage::LateReport),
    ];
    let of_people = prop_oneof![
        6 => (name(), content(), zone()).prop_map(|(name, content, zone)| Action::Apply(name, content, zone)),
        3 => name().prop_map(Action::Delete),
        1 => (node(), zone()).prop_map(|(node, zone)| Action::Register(node, zone)),
        1 => node().prop_map(Action::Unregister),
        3 => (node(), name()).prop_map(|(node, name)| Action::StartPod(node, name)),
        1 => any::<u8>().prop_map(Action::FinishPod),
        1 => any::<u8>().prop_map(Action::DeletePod),
        1 => Just(Action::CollectGarbage),
    ];
    let of_messages = prop_oneof![
        12 => (process(), kind(), 1..8_u8).prop_map(|(process, kind, count)| Action::Deliver(process, kind, count)),
        1 => (process(), kind()).prop_map(|(process, kind)| Action::Repeat(process, kind)),
        2 => (process(), kind()).prop_map(|(process, kind)| Action::Cut(process, kind)),
        2 => (process(), kind()).prop_map(|(process, kind)| Action::Connect(process, kind)),
        6 => (process(), any::<u8>(), prop::bool::weighted(0.2)).prop_map(|(process, number, silent)| {
            Action::Answer(process, number, silent)
        }),
        6 => (node(), prop::bool::weighted(0.8), prop::bool::weighted(0.8))
            .prop_map(|(node, arrives, answered)| Action::Report(node, arrives, answered)),
        6 => (0..2_u8, any::<u8>(), prop::bool::weighted(0.8), prop::bool::weighted(0.8))
            .prop_map(|(replica, number, arrives, answered)| Action::Status(replica, number, arrives, answered)),
        1 => Just(Action::StrayStatus),
    ];
    let of_machines = prop_oneof![
        2 => (node(), damage).prop_map(|(node, damage)| Action::Crash(node, damage)),
        1 => (node(), 0..2_u8).prop_map(|(node, changes)| Action::DieAfter(node, changes)),
        4 => (node(), prop::sample::select(&[0, 0, 0, 1, 2][..])).prop_map(|(node, upgrade)| Action::Start(node, upgrade)),
        2 => node().prop_map(Action::Identify),
        3 => node().prop_map(Action::Probe),
        1 => (0..2_u8, prop::bool::weighted(0.2))
            .prop_map(|(replica, new_rules)| Action::RestartController(replica, new_rules)),
        2 => prop::option::weighted(0.7, 0..2_u8).prop_map(Action::Lead),
        1 => (node(), any::<bool>()).prop_map(|(node, is_full)| Action::DiskFull(node, is_full)),
        1 => (node(), prop::option::of(name())).prop_map(|(node, name)| Action::FileStuck(node, name)),
        1 => (node(), prop::bool::weighted(0.3)).prop_map(|(node, is_silent)| Action::KernelSilent(node, is_silent)),
    ];
    prop_oneof![
        4 => of_people,
        10 => of_messages,
        4 => of_machines,
        3 => milliseconds().prop_map(Action::Pass),
        2 => Just(Action::Settle),
    ]
}

/// Nodes, agents and pods come and go, and watches are cut; the profiles stay, and no agent is changed.
pub(super) fn coming_and_going() -> impl Strategy<Value = Action> {
    let node = || 0..NODES;
    let process = || 0..NODES + 2;
    prop_oneof![
        3 => (node(), 0..PROFILES).prop_map(|(node, name)| Action::StartPod(node, name)),
        2 => any::<u8>().prop_map(Action::FinishPod),
        2 => any::<u8>().prop_map(Action::DeletePod),
        1 => node().prop_map(|node| Action::Register(node, Some(node % 2))),
        1 => node().prop_map(Action::Unregister),
        1 => Just(Action::CollectGarbage),
        4 => (process(), kind(), 1..8_u8).prop_map(|(process, kind, count)| Action::Deliver(process, kind, count)),
        1 => (process(), kind()).prop_map(|(process, kind)| Action::Cut(process, kind)),
        2 => (process(), kind()).prop_map(|(process, kind)| Action::Connect(process, kind)),
        2 => (node(), prop::bool::weighted(0.8), prop::bool::weighted(0.8))
            .prop_map(|(node, arrives, answered)| Action::Report(node, arrives, answered)),
        1 => node().prop_map(|node| Action::Crash(node, Damage::None)),
        2 => node().prop_map(|node| Action::Start(node, 0)),
        1 => node().prop_map(Action::Identify),
        2 => node().prop_map(Action::Probe),
        1 => (0..2_u8).prop_map(|replica| Action::RestartController(replica, false)),
        1 => (0..2_u8).prop_map(|replica| Action::Lead(Some(replica))),
        2 => milliseconds().prop_map(Action::Pass),
        2 => Just(Action::Settle),
    ]
}
