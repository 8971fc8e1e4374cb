//! Programs for machines of the other byte order, as libseccomp makes them there.

use std::collections::HashSet;

use libseccomp::error::SeccompError;
use libseccomp::{ScmpArch, ScmpFilterContext};

use crate::filter::arch::{ByteOrder, to_libseccomp};
use crate::filter::{Answer, program};
use crate::profile::{Architecture, Profile};

/// As if this were a node with another native architecture: libseccomp begins every filter with its own.
pub(super) fn replace_native(
    context: &mut ScmpFilterContext,
    node: Architecture,
) -> Result<(), SeccompError> {
    context.remove_arch(ScmpArch::Native)?;
    context.add_arch(to_libseccomp(node))?;
    Ok(())
}

/// Puts returns right that libseccomp has turned once too often. Where one is too far away to jump to, it makes another,
/// and takes the answer from the first, where its bytes have been turned already: `_gen_bpf_build_jmp_ret` in
/// `src/gen_bpf.c`, up to 2.6.1. On machines of that order there is nothing to turn.
///
/// An answer that the profile cannot give is taken for such a one if the profile gives what it is when turned back.
pub(super) fn mend_returns(bytes: &mut [u8], order: ByteOrder, profile: &Profile) {
    let entries = profile
        .syscalls
        .iter()
        .map(|rule| Answer::new(rule.action, rule.errno_ret));
    let default = Answer::new(profile.default_action, profile.default_errno_ret);
    let answers = entries.chain([default, Answer::KILL_THREAD]);
    let known: HashSet<[u8; 4]> = answers.map(|answer| order.bytes(answer.word())).collect();
    for constant in program::returns(bytes, order) {
        let mut turned = *constant;
        turned.reverse();
        if !known.contains(constant) && known.contains(&turned) {
            *constant = turned;
        }
    }
}
