//! The files on disk as decisions see them, worked out once for each change of them. Pure.

use std::collections::BTreeMap;

use crate::agent::plan::Live;
use crate::api::LiveSet;
use crate::profile::{Digest, ProfileName};
use crate::store::{Installed, Origin};

/// Every file that has its record.
#[derive(Debug, Default)]
pub(in crate::agent) struct Files {
    by_name: BTreeMap<ProfileName, Live>,
    set: LiveSet,
}

impl Files {
    /// `is_current` is whether a digest was proven with what proves here now.
    pub(in crate::agent) fn new(
        installed: &BTreeMap<ProfileName, Installed>,
        is_current: impl Fn(&Digest) -> bool,
    ) -> Self {
        let live = |installed: &Installed| Live {
            digest: installed.file.digest,
            ours: installed.origin == Origin::Cluster,
            current: is_current(&installed.file.digest),
        };
        Self {
            by_name: installed
                .iter()
                .map(|(name, installed)| (name.clone(), live(installed)))
                .collect(),
            set: installed
                .iter()
                .map(|(name, installed)| (name, &installed.file.digest))
                .collect(),
        }
    }

    /// As a plan needs them.
    pub(in crate::agent) const fn by_name(&self) -> &BTreeMap<ProfileName, Live> {
        &self.by_name
    }

    /// As a report says them.
    pub(in crate::agent) const fn set(&self) -> &LiveSet {
        &self.set
    }
}
