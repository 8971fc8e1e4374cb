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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_turned_twice_is_turned_back_and_no_other() {
        let profile = Profile::from_canonical(
            br#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
                "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#,
        )
        .unwrap();
        let (denied, allowed) = (0x0005_0026_u32, 0x7fff_0000_u32);
        let answer = |code: u16, word: u32| {
            let [c0, c1] = code.to_be_bytes();
            let [k0, k1, k2, k3] = word.to_be_bytes();
            [c0, c1, 0, 0, k0, k1, k2, k3]
        };
        for (code, made, mended) in [
            (0x06, denied.swap_bytes(), denied),
            (0x06, allowed.swap_bytes(), allowed),
            (0x06, denied, denied),
            (0x06, 0, 0),
            // Not one that the profile gives, either way.
            (0x06, 0x0005_0007, 0x0005_0007),
            // No return.
            (0x15, denied.swap_bytes(), denied.swap_bytes()),
        ] {
            let mut bytes = answer(code, made);
            mend_returns(&mut bytes, ByteOrder::Big, &profile);
            assert_eq!(bytes, answer(code, mended), "{code:#x} {made:#x}");
        }
    }
}
