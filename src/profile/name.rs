//! The name of a profile, and the path that a pod names it by.

use std::fmt;
use std::str::FromStr;

/// Namespace and name of a profile, both safe as one component of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName {
    namespace: String,
    name: String,
}

/// A name that Kubernetes would not give, or that is no safe file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not an RFC 1123 label.
    #[error("namespace {0:?}: expected 1 to 63 of a-z, 0-9 and '-', with a letter or digit first and last")]
    Namespace(String),
    /// Not an RFC 1123 subdomain.
    #[error("profile name {0:?}: expected 1 to {max} of a-z, 0-9, '-' and '.', with a letter or digit first and last, and on both sides of each '.'", max = ProfileName::MAX_NAME)]
    Name(String),
    /// Not `namespace/name`.
    #[error("{0:?} is not NAMESPACE/NAME")]
    Form(String),
}

impl ProfileName {
    /// A file is named `<name>.json`, and a file name has at most 255 bytes.
    pub const MAX_NAME: usize = 250;

    /// The directory below the kubelet's seccomp directory that every localhost profile of ours lies in.
    pub const DIRECTORY: &'static str = "callgate";

    /// Accepts what Kubernetes accepts for a namespace and an object name of at most
    /// [`ProfileName::MAX_NAME`] bytes; thus never an empty text, `.`, `..`, `/`, NUL or a hidden file.
    ///
    /// Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Result<Self, InvalidName> {
        let (namespace, name) = (namespace.into(), name.into());
        if namespace.len() > 63 || !is_label(&namespace) {
            return Err(InvalidName::Namespace(namespace));
        }
        if name.len() > Self::MAX_NAME || !name.split('.').all(is_label) {
            return Err(InvalidName::Name(name));
        }
        Ok(Self { namespace, name })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name within its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its file within the directory of its namespace.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.json", self.name)
    }

    /// What a pod writes as `seccompProfile.localhostProfile`.
    #[must_use]
    pub fn localhost_profile(&self) -> String {
        format!("{}/{}/{}.json", Self::DIRECTORY, self.namespace, self.name)
    }

    /// The profile that a pod means by this `localhostProfile`, or `None` where it means no file of ours.
    ///
    /// The kubelet joins and cleans the path before a runtime opens it (`filepath.Join`), so
    /// `callgate//a/./b.json` is `callgate/a/b.json`.
    /// Source: <https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/kubelet/kuberuntime/helpers.go>.
    #[must_use]
    pub fn from_localhost_profile(path: &str) -> Option<Self> {
        let mut components = path
            .split('/')
            .filter(|component| !matches!(*component, "" | "."));
        let (Some(Self::DIRECTORY), Some(namespace), Some(file), None) = (
            components.next(),
            components.next(),
            components.next(),
            components.next(),
        ) else {
            return None;
        };
        Self::new(namespace, file.strip_suffix(".json")?).ok()
    }
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

impl fmt::Display for ProfileName {
    /// `namespace/name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for ProfileName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.split_once('/') {
            Some((namespace, name)) => Self::new(namespace, name),
            None => Err(InvalidName::Form(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_what_kubernetes_gives() {
        let longest = "a".repeat(250);
        for (namespace, name) in [
            ("default", "web"),
            ("a", "0"),
            ("team-a", "web.v1-2"),
            ("n", &longest),
        ] {
            let profile = ProfileName::new(namespace, name).unwrap();
            assert_eq!((profile.namespace(), profile.name()), (namespace, name));
            assert!(profile.file_name().len() <= 255);
        }
    }

    #[test]
    fn a_name_that_could_lead_elsewhere_is_refused() {
        let long = "a".repeat(251);
        for name in [
            "", ".", "..", "a/b", "/a", "a/", "../a", ".hidden", "a.", "a..b", "-a", "a-", "A", "a b", "a\0",
            "a\n", "é", &long,
        ] {
            assert!(
                matches!(ProfileName::new("n", name), Err(InvalidName::Name(_))),
                "{name:?}"
            );
        }
        let long = "a".repeat(64);
        for namespace in ["", ".", "..", "a.b", "a/b", "-a", "A", "a\0", &long] {
            assert!(
                matches!(ProfileName::new(namespace, "n"), Err(InvalidName::Namespace(_))),
                "{namespace:?}"
            );
        }
    }

    #[test]
    fn a_pods_path_is_cleaned_as_the_kubelet_does() {
        let meant = |path: &str| ProfileName::from_localhost_profile(path).map(|name| name.to_string());
        for path in [
            "callgate/a/b.json",
            "callgate//a/./b.json",
            "./callgate/a/b.json",
            "callgate/a/b.json/",
            "/callgate/a/b.json",
        ] {
            assert_eq!(meant(path).as_deref(), Some("a/b"), "{path}");
        }
        for path in [
            "",
            "callgate",
            "callgate/a",
            "callgate/a/b",
            "callgate/a/.json",
            "callgate/a/b/c.json",
            "other/a/b.json",
            "Callgate/a/b.json",
            "callgate/../callgate/a/b.json",
            "callgate/a/b.JSON",
        ] {
            assert_eq!(meant(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_name_comes_back_from_its_texts(namespace in "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", name in "[a-z0-9]{1,9}(\\.[a-z0-9]{1,9}){0,3}") {
            let profile = ProfileName::new(namespace, name).unwrap();
            prop_assert_eq!(profile.to_string().parse(), Ok(profile.clone()));
            prop_assert_eq!(ProfileName::from_localhost_profile(&profile.localhost_profile()), Some(profile));
        }

        #[test]
        fn any_text_is_a_name_or_an_error(text in any::<String>()) {
            if let Ok(name) = text.parse::<ProfileName>() {
                prop_assert!(!name.localhost_profile().contains(".."));
            }
        }
    }
}
