//! The processor that `nodeSelector` asks for, beside the architectures of the profile.

use super::super::finding::{Code, Finding, quoted};
use super::super::model::{Architecture, ProfileSpec};
use super::architectures::{runs, selected};
use super::field;
use super::machine::order;

/// What people write, and the value that Kubernetes has for it.
const OTHER_NAMES: [(&str, &[&str]); 8] = [
    ("386", &["i386", "i686", "ia32", "x86"]),
    ("amd64", &["x64", "x86-64", "x86_64"]),
    ("arm", &["arm32", "armhf", "armv6l", "armv7", "armv7l"]),
    ("arm64", &["aarch64", "arm64v8", "armv8"]),
    ("loong64", &["loongarch64"]),
    ("ppc64le", &["powerpc64le", "ppc64el"]),
    ("riscv64", &["riscv"]),
    ("s390x", &["s390"]),
];

/// Processors that Go can build for, and Kubernetes is not built for: somebody may have done so.
const BUILT_BY_OTHERS: [&str; 5] = ["mips", "mips64", "mips64le", "mipsle", "ppc64"];

/// A `kubernetes.io/arch` that no node has, or that only nodes have that run no program of the profile's architectures:
/// where those are of the other byte order, no container starts.
pub(super) fn check(spec: &ProfileSpec) -> Option<Finding> {
    let label = selected(spec)?;
    let listed = &spec.profile.architectures;
    let native = Architecture::ALL
        .iter()
        .find(|one| one.node_label() == Some(label));
    let wanted = listed.iter().find_map(|one| one.node_label());
    let (code, message) = match native {
        None if BUILT_BY_OTHERS.contains(&label) => return None,
        None => {
            let cure = match meant(label).or(wanted) {
                Some(value) => format!("write {value}"),
                None => format!("write one of {}", OTHER_NAMES.map(|(value, _)| value).join(", ")),
            };
            let message = format!(
                "{} is no value that Kubernetes gives to this label, so no node gets the profile: {cure}",
                quoted(label)
            );
            (Code::NodeSelectorArchitecture, message)
        }
        Some(native) => {
            let first = listed.first()?;
            if listed.iter().any(|one| runs(*native, *one)) {
                return None;
            }
            let is_other_order = listed
                .iter()
                .all(|one| one.is_big_endian() != native.is_big_endian());
            let instead = if is_other_order { " instead" } else { "" };
            let cure = match first_label(*first).or(wanted) {
                Some(value) => format!("write {value}, or list {native}{instead}"),
                None => format!("list {native}{instead}"),
            };
            if is_other_order {
                let message = format!(
                    "{label} nodes are {}, and {first} is {}: libseccomp adds {native} to the filter there, which cannot \
                     hold both, and no container starts: {cure}",
                    order(*native),
                    order(*first),
                );
                (Code::MixedEndianness, message)
            } else {
                let message =
                    format!("{label} nodes run no program of an architecture that is listed: {cure}");
                (Code::NodeSelectorArchitecture, message)
            }
        }
    };
    let place = field("nodeSelector").key("kubernetes.io/arch");
    Some(Finding::new(code, place, message))
}

/// The label of the nodes that run programs of an architecture.
fn first_label(architecture: Architecture) -> Option<&'static str> {
    let natives = Architecture::ALL.iter().filter(|one| runs(**one, architecture));
    // 32-bit ones come first.
    natives.filter_map(|one| one.node_label()).next_back()
}

fn meant(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("scmp_arch_").unwrap_or(&lower);
    let is_meant = |(value, names): &&(&str, &[&str])| *value == name || names.contains(&name);
    OTHER_NAMES.iter().find(is_meant).map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::model::Profile;
    use super::*;
    use Architecture::{Aarch64, Arm, Mips64, Mipsel64, S390, X86, X86_64};

    fn told(label: &str, listed: &[Architecture]) -> Option<String> {
        told_as(Code::NodeSelectorArchitecture, label, listed)
    }

    fn told_as(code: Code, label: &str, listed: &[Architecture]) -> Option<String> {
        let text = br#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
        let mut profile = Profile::from_canonical(text).unwrap();
        profile.architectures = listed.to_vec();
        let spec = ProfileSpec {
            profile,
            node_selector: BTreeMap::from([("kubernetes.io/arch".to_owned(), label.to_owned())]),
            accept_findings: Vec::new(),
            has_empty_flags: false,
        };
        let findings = spec.findings().into_iter();
        let mut of_code = findings.filter(|finding| finding.code == code);
        let finding = of_code.next()?;
        assert_eq!(finding.field.as_str(), "nodeSelector[\"kubernetes.io/arch\"]");
        Some(finding.message)
    }

    #[test]
    fn nodes_that_run_no_program_of_the_list_are_told_with_the_label_that_is_right() {
        for (label, listed, cure) in [
            ("arm64", &[X86_64][..], "write amd64, or list SCMP_ARCH_AARCH64"),
            ("arm64", &[X86], "write amd64, or list SCMP_ARCH_AARCH64"),
            ("amd64", &[Aarch64, Arm], "write arm64, or list SCMP_ARCH_X86_64"),
            ("386", &[X86_64], "write amd64, or list SCMP_ARCH_X86"),
            // Nodes of the first have no label of Kubernetes'.
            (
                "arm64",
                &[Mipsel64, X86_64],
                "write amd64, or list SCMP_ARCH_AARCH64",
            ),
        ] {
            let message = told(label, listed).unwrap();
            assert!(message.ends_with(cure), "{message}");
        }
        for (label, listed) in [
            ("arm64", &[][..]),
            ("amd64", &[X86_64, X86]),
            ("amd64", &[X86]),
            ("386", &[X86]),
            ("arm64", &[X86_64, Aarch64]),
            ("ppc64", &[X86_64]),
        ] {
            assert_eq!(told(label, listed), None, "{label} {listed:?}");
        }
    }

    #[test]
    fn nodes_of_the_other_byte_order_than_the_list_start_no_container() {
        for (label, listed, cure) in [
            (
                "amd64",
                &[S390][..],
                ": write s390x, or list SCMP_ARCH_X86_64 instead",
            ),
            ("amd64", &[Mips64], ": list SCMP_ARCH_X86_64 instead"),
            (
                "s390x",
                &[Aarch64, Arm],
                ": write arm64, or list SCMP_ARCH_S390X instead",
            ),
        ] {
            let message = told_as(Code::MixedEndianness, label, listed).unwrap();
            assert!(message.ends_with(cure), "{message}");
            assert_eq!(told(label, listed), None, "{label} {listed:?}");
        }
        for (label, listed) in [
            ("s390x", &[S390][..]),
            ("mips64", &[Mips64]),
            ("arm64", &[X86_64]),
            ("amd64", &[]),
        ] {
            assert_eq!(told_as(Code::MixedEndianness, label, listed), None, "{label}");
        }
    }

    #[test]
    fn a_value_that_no_node_has_is_told_with_the_one_that_was_meant() {
        for (label, listed, cure) in [
            ("x86_64", &[][..], "write amd64"),
            ("AMD64", &[], "write amd64"),
            ("aarch64", &[Aarch64], "write arm64"),
            ("SCMP_ARCH_X86_64", &[X86_64], "write amd64"),
            (
                "sparc",
                &[S390],
                "write one of 386, amd64, arm, arm64, loong64, ppc64le, riscv64, s390x",
            ),
            ("vax", &[Aarch64], "write arm64"),
            (
                "",
                &[],
                "write one of 386, amd64, arm, arm64, loong64, ppc64le, riscv64, s390x",
            ),
        ] {
            let message = told(label, listed).unwrap();
            assert!(message.ends_with(cure), "{message}");
        }
    }

    #[test]
    fn every_label_of_an_architecture_is_a_value_that_is_known() {
        for label in Architecture::ALL.iter().filter_map(|one| one.node_label()) {
            assert!(OTHER_NAMES.iter().any(|(value, _)| *value == label), "{label}");
        }
    }
}
