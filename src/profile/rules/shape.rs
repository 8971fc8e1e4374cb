//! Values that no field takes, whatever the others say: what the schema of the API server refuses as well.

use super::super::finding::{Code, Finding, quoted};
use super::super::model::Profile;
use super::{Found, entries, field};

/// The longest path of a socket: `sun_path` has 108 bytes, the last one NUL. Source: unix(7).
const MAX_LISTENER_PATH: usize = 107;
/// The longest metadata, in characters as the API server counts.
const MAX_LISTENER_METADATA: usize = 4096;
/// The longest name of a system call; the longest that exists has half of it.
const MAX_NAME: usize = 64;

pub(super) fn check(profile: &Profile) -> Vec<Finding> {
    let mut values = Found::new(Code::BadValue);
    listener_path(profile, &mut values);
    names(profile, &mut values);
    let mut sizes = Found::new(Code::TooLarge);
    listener_metadata(profile, &mut sizes);
    let mut findings = sizes.finish();
    findings.extend(values.finish());
    findings
}

fn listener_path(profile: &Profile, found: &mut Found) {
    let Some(path) = profile.listener_path.as_deref() else {
        return;
    };
    let problem = if !path.starts_with('/') {
        "is not the absolute path of a socket".to_owned()
    } else if path.contains('\0') {
        "has a NUL character, which ends a path".to_owned()
    } else if path.len() > MAX_LISTENER_PATH {
        format!(
            "has {} bytes, and the path of a socket has at most {MAX_LISTENER_PATH}",
            path.len()
        )
    } else {
        return;
    };
    found.add(|| (field("listenerPath"), format!("{} {problem}", quoted(path))));
}

fn listener_metadata(profile: &Profile, found: &mut Found) {
    let length = profile
        .listener_metadata
        .as_deref()
        .map_or(0, |metadata| metadata.chars().count());
    if length > MAX_LISTENER_METADATA {
        found.add(|| {
            let message = format!("{length} characters, and at most {MAX_LISTENER_METADATA} are allowed");
            (field("listenerMetadata"), message)
        });
    }
}

/// Runtimes skip an entry without names. runc refuses an empty name, and cuts one at a NUL character.
fn names(profile: &Profile, found: &mut Found) {
    for (path, entry) in entries(profile) {
        let path = path.key("names");
        if entry.names.is_empty() {
            let message = "runtimes skip an entry without names: add names, or remove the entry";
            found.add(|| (path, message.to_owned()));
            continue;
        }
        for (index, name) in entry.names.iter().enumerate() {
            if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
                found.add(|| {
                    let message = format!(
                        "{} cannot be the name of a system call: expected 1 to {MAX_NAME} of a-z, 0-9 and '_'",
                        quoted(name)
                    );
                    (path.index(index), message)
                });
            }
        }
    }
}
