//! What a folder asks for: profiles by name, and what could not be understood.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use super::super::{finding, source_files};
use crate::profile::{Finding, ProfileName, SourceDocument, SourceKind, SourceProfile};
use crate::text::{chain, listing};

/// What the folder asks for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// By name, invalid ones included.
    pub(super) profiles: BTreeMap<ProfileName, Candidate>,
    bad: Vec<Bad>,
}

/// What is found under a name.
#[derive(Debug)]
pub(super) enum Candidate {
    One(Source),
    /// More than one: nobody knows which was meant, so none. Where they are.
    Several(Vec<String>),
}

/// A profile, and where it was read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: String,
    pub(super) profile: Box<SourceProfile>,
}

/// What keeps a file, or a document in it, from being installed before it is looked at.
#[derive(Debug)]
struct Bad {
    file: String,
    kind: BadKind,
    complaints: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BadKind {
    /// The file cannot be read.
    Unread,
    /// A document does not say which profile it is.
    Nameless,
}

impl Wanted {
    pub(super) fn complaints(&self) -> impl Iterator<Item = String> {
        let repeated = self.profiles.iter().filter_map(|(name, candidate)| {
            let Candidate::Several(places) = candidate else {
                return None;
            };
            let places = listing(places);
            Some(format!(
                "{name} is defined in {places}: none of them is installed, keep one"
            ))
        });
        self.bad
            .iter()
            .flat_map(|bad| bad.complaints.clone())
            .chain(repeated)
    }

    pub(super) fn has_unread(&self) -> bool {
        self.bad.iter().any(|bad| bad.kind == BadKind::Unread)
    }

    pub(super) fn has_invalid(&self) -> bool {
        let is_repeated = |candidate: &Candidate| matches!(candidate, Candidate::Several(_));
        self.bad.iter().any(|bad| bad.kind != BadKind::Unread) || self.profiles.values().any(is_repeated)
    }

    /// A file that may ask for any profile, if there is one.
    pub(super) fn nameless(&self) -> Option<&str> {
        self.bad.first().map(|bad| bad.file.as_str())
    }

    fn add_file(&mut self, path: &Path, namespace: &str) {
        let file = match source_files::read(path) {
            Ok(file) => file,
            Err(error) => {
                self.bad.push(Bad {
                    file: path.display().to_string(),
                    kind: BadKind::Unread,
                    complaints: vec![chain(error.as_ref())],
                });
                return;
            }
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        for document in file.documents {
            if let SourceDocument::Profile(profile) = document {
                let source = Source {
                    file: file.name.clone(),
                    profile,
                };
                self.add(source, namespace, &stem);
            }
        }
    }

    fn add(&mut self, source: Source, namespace: &str, stem: &str) {
        let name = match (source.profile.kind, &source.profile.name) {
            (_, Some(name)) => Ok(name.clone()),
            (SourceKind::Oci | SourceKind::RuntimeConfig, None) => ProfileName::new(namespace, stem)
                .map_err(|error| vec![format!("{}: {error}; rename the file", source.file)]),
            (SourceKind::Manifest | SourceKind::Unreadable, None) => Err(source.complaints()),
        };
        match name {
            Ok(name) => self.add_named(name, source),
            Err(complaints) => self.bad.push(Bad {
                file: source.file,
                kind: BadKind::Nameless,
                complaints,
            }),
        }
    }

    fn add_named(&mut self, name: ProfileName, source: Source) {
        match self.profiles.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(Candidate::One(source));
            }
            Entry::Occupied(mut entry) => {
                let place = source.begin();
                match entry.get_mut() {
                    Candidate::Several(places) => places.push(place),
                    Candidate::One(other) => {
                        let places = vec![other.begin(), place];
                        entry.insert(Candidate::Several(places));
                    }
                }
            }
        }
    }
}

impl Source {
    /// File and first line.
    fn begin(&self) -> String {
        format!("{}:{}", self.file, self.profile.line)
    }

    /// File, line and column.
    pub(super) fn place(&self, finding: &Finding) -> String {
        let place = finding.location.or_else(|| self.profile.locate(&finding.field));
        let place = place.map_or_else(String::new, |at| format!(":{}:{}", at.line, at.column));
        format!("{}{place}", self.file)
    }

    /// What is wrong with a document that does not even say which profile it is.
    fn complaints(&self) -> Vec<String> {
        let Err(findings) = &self.profile.spec else {
            return Vec::new();
        };
        findings
            .iter()
            .map(|found| finding::line(&self.place(found), found))
            .collect()
    }
}

/// Every profile of a folder. An error only where the folder itself cannot be read.
pub(super) fn read(folder: &Path, namespace: &str) -> anyhow::Result<Wanted> {
    let mut wanted = Wanted::default();
    for path in source_files::in_folder(folder)? {
        wanted.add_file(&path, namespace);
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCI: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;

    fn manifest(name: &str) -> String {
        format!(
            "apiVersion: callgate.dev/v1alpha1\nkind: SeccompProfile\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{defaultAction: SCMP_ACT_ALLOW}}\n"
        )
    }

    fn read(files: &[(&str, &str)]) -> Wanted {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        super::read(folder.path(), "default").unwrap()
    }

    fn names(wanted: &Wanted) -> Vec<String> {
        wanted.profiles.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn a_bad_file_is_named_and_hides_no_other() {
        let wanted = read(&[
            ("a.json", OCI),
            ("b.yaml", "kind: ["),
            ("c.yaml", &manifest("../../etc/web")),
            ("Not A Name.json", OCI),
            ("d.yaml", &manifest("web")),
        ]);
        assert_eq!(names(&wanted), ["default/a", "shop/web"]);
        assert!(wanted.has_invalid() && !wanted.has_unread());
        let complaints: Vec<_> = wanted.complaints().collect();
        for (file, reason) in [
            ("Not A Name.json", "rename the file"),
            ("b.yaml:", "not YAML"),
            ("c.yaml:3:18", "../../etc/web"),
        ] {
            assert!(
                complaints
                    .iter()
                    .any(|complaint| complaint.contains(file) && complaint.contains(reason)),
                "{file}: {complaints:?}"
            );
        }
    }

    #[test]
    fn what_names_no_profile_may_ask_for_any() {
        assert_eq!(read(&[("a.json", OCI)]).nameless(), None);
        let invalid = manifest("web").replace("ALLOW", "ALOW");
        assert_eq!(read(&[("a.yaml", &invalid)]).nameless(), None);
        for (file, text) in [("b.yaml", "kind: ["), ("b.json", "{"), ("b.yaml", "")] {
            let wanted = read(&[("a.json", OCI), (file, text)]);
            assert!(wanted.nameless().unwrap().ends_with(file), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_one_that_may_ask_for_any() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.json"), OCI).unwrap();
        std::fs::write(folder.path().join("b.json"), b"\xff\xfe").unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("c.yaml")).unwrap();
        let wanted = super::read(folder.path(), "default").unwrap();
        assert_eq!(names(&wanted), ["default/a"]);
        assert!(wanted.has_unread() && wanted.nameless().is_some());
        assert_eq!(wanted.complaints().count(), 2);
    }

    #[test]
    fn of_two_profiles_of_one_name_none_is_wanted_and_both_are_named() {
        let web = manifest("web");
        let wanted = read(&[("a.yaml", &web), ("b.yaml", &web), ("c.json", OCI)]);
        assert_eq!(names(&wanted), ["default/c", "shop/web"]);
        let web: ProfileName = "shop/web".parse().unwrap();
        assert!(matches!(wanted.profiles[&web], Candidate::Several(_)));
        assert!(wanted.has_invalid() && wanted.nameless().is_none());
        let complaint = wanted.complaints().next().unwrap();
        assert!(
            complaint.starts_with("shop/web is defined in ") && complaint.contains("a.yaml:1 and "),
            "{complaint}"
        );
        let web = manifest("web");
        let twice = format!("{web}---\n{web}");
        let wanted = read(&[("a.yaml", &web), ("b.yaml", &web), ("c.yaml", &twice)]);
        let complaints: Vec<_> = wanted.complaints().collect();
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        for place in ["a.yaml:1, ", "b.yaml:1, ", "c.yaml:1 and ", "c.yaml:6: none"] {
            assert!(complaints[0].contains(place), "{place} in {complaints:?}");
        }
    }
}
