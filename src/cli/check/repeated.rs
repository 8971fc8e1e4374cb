//! Profiles of one name: which of several documents is meant, nobody knows. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::source_files::SourceFile;
use crate::profile::{Code, Finding, ProfileName, SourceDocument, SourceProfile};

/// Others that one finding names.
const NAMED: usize = 8;

/// A document that has a name.
struct Named<'a> {
    /// The number of its file, and its own in there.
    at: (usize, usize),
    file: &'a SourceFile,
    profile: &'a SourceProfile,
}

impl Named<'_> {
    fn place(&self) -> String {
        format!("{}:{}", self.file.name, self.profile.line)
    }
}

/// What to say of each document whose name another one in its folder has as well, by its file and its number there.
///
/// Files of different folders may be for different clusters, as overlays are, and are not compared. A file that was given
/// twice is one file.
pub(super) fn find(files: &[SourceFile]) -> BTreeMap<(usize, usize), Finding> {
    let mut groups: BTreeMap<(Option<&Path>, &ProfileName), Vec<Named<'_>>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (file_number, file) in files.iter().enumerate() {
        if !seen.insert(&file.path) {
            continue;
        }
        for (number, document) in file.documents.iter().enumerate() {
            if let SourceDocument::Profile(profile) = document
                && let Some(name) = &profile.name
            {
                let at = (file_number, number);
                let named = Named { at, file, profile };
                groups.entry((file.path.parent(), name)).or_default().push(named);
            }
        }
    }
    let mut found = BTreeMap::new();
    for ((_, name), group) in groups.iter().filter(|(_, group)| group.len() > 1) {
        for one in group {
            let others: Vec<_> = group.iter().filter(|other| other.at != one.at).collect();
            let mut places: Vec<_> = others.iter().take(NAMED).map(|other| other.place()).collect();
            if others.len() > NAMED {
                places.push(format!("{} more places", others.len() - NAMED));
            }
            let message = format!(
                "{name} is defined in {} as well: callgate install takes none of them, and kubectl apply the last; keep \
                 one",
                crate::text::listing(&places)
            );
            found.insert(
                one.at,
                Finding::new(Code::DuplicateName, one.profile.name_path(), message),
            );
        }
    }
    found
}
