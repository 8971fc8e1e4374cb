//! What a process may do because of who it is.

use std::io;

use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Keeps other processes of the same user out of this one's memory, the fork server and its children among
/// them (`PR_SET_DUMPABLE` 0): without it a child that got out of its sandbox could read and write its parent
/// through `/proc/PID/mem`. To be called at the beginning of `main`.
pub fn protect_memory() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(
        DumpableBehavior::NotDumpable,
    )?)
}

/// No program that it runs has more rights than itself (`PR_SET_NO_NEW_PRIVS`).
pub(super) fn forbid_new() -> Result<(), Errno> {
    set_no_new_privs(true)
}

/// Drops every capability, also from the bounding set where the process may: without `CAP_SETPCAP` it may not, and has
/// no use of that set either once new privileges are forbidden.
pub fn give_up_capabilities() -> Result<(), Errno> {
    if capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        empty_bounding_set()?;
    }
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )
}

fn empty_bounding_set() -> Result<(), Errno> {
    // Also those that a newer kernel has.
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // It is beyond the last one (prctl(2), PR_CAPBSET_READ).
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
