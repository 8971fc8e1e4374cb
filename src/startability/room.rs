//! Whether there is room in the kernel's limit for what runc adds to a filter.

use std::collections::HashSet;

use crate::filter::MAX_INSTRUCTIONS;
use crate::profile::{Affected, Architecture, Code, FieldPath, Finding, Profile, Software};

/// What runc's own answer to newer calls takes for each architecture, at most: 9 instructions were seen for one, 20 for
/// the three of x86-64.
/// Source: `libcontainer/seccomp/patchbpf` in <https://github.com/opencontainers/runc>.
const STUB: usize = 16;

/// The tree that libseccomp sorts calls into has a comparison for every few of them (runc since 1.5, by
/// `SCMP_FLTATR_CTL_OPTIMIZE` 2), so this is more than it takes.
const CALLS_PER_COMPARISON: usize = 2;

/// Tells where runc may be without room. `filters` are the instructions for each architecture.
#[must_use]
pub fn nearly_too_large(profile: &Profile, filters: &[(Architecture, u32)]) -> Option<Finding> {
    const RUNC: &[Affected] = &[Affected::always(Software::Runc)];
    let size = |(_, instructions): &(Architecture, u32)| usize::try_from(*instructions).unwrap_or(usize::MAX);
    // A little more than all, since architectures share their ends.
    let instructions: usize = filters.iter().map(size).fold(0, usize::saturating_add);
    let fits = |calls: usize| {
        let added = filters.len() * (STUB + calls / CALLS_PER_COMPARISON);
        instructions.saturating_add(added) <= MAX_INSTRUCTIONS
    };
    let names = || profile.syscalls.iter().flat_map(|entry| &entry.names);
    // Each call counts once, which is worth finding out only where as many calls as names do not fit.
    if fits(names().count()) || fits(names().collect::<HashSet<_>>().len()) {
        return None;
    }
    let message = format!(
        "runc may be unable to start a container under this profile: it adds instructions of its own to the \
         {instructions} of the filter, and the kernel takes {MAX_INSTRUCTIONS} in all"
    );
    let field = FieldPath::root().key("syscalls");
    Some(Finding::new(Code::NearlyTooLarge, field, message).affecting(RUNC))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(names: &[&str]) -> Profile {
        let text = serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
        });
        Profile::from_canonical(text.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn runc_is_told_of_where_what_it_adds_may_not_fit() {
        let small = profile(&["read", "write"]);
        let x86 = [(Architecture::X86_64, 4000), (Architecture::X86, 70)];
        assert_eq!(nearly_too_large(&small, &[(Architecture::X86_64, 4079)]), None);
        let finding = nearly_too_large(&small, &[(Architecture::X86_64, 4080)]).unwrap();
        assert_eq!(
            (finding.code, finding.field.as_str()),
            (Code::NearlyTooLarge, "syscalls")
        );
        assert!(
            finding.message.contains("the 4080 of the filter"),
            "{}",
            finding.message
        );
        assert_eq!(*finding.affects, [Affected::always(Software::Runc)]);
        // What is added is added for each architecture, and for many calls there is more of it.
        assert_eq!(nearly_too_large(&small, &x86[..1]), None);
        assert_eq!(
            nearly_too_large(&small, &x86).map(|finding| finding.code),
            Some(Code::NearlyTooLarge)
        );
        let names: Vec<String> = (0..200).map(|number| format!("call{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(nearly_too_large(&profile(&names), &x86[..1]).is_some());
        assert_eq!(nearly_too_large(&profile(&["read"; 200]), &x86[..1]), None);
    }
}
