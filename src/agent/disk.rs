//! The store, kept open: opened again when it failed, claimed when its owner is known, repaired when somebody
//! changed it. A thin shell: every call that touches the disk runs on a thread that may block.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Metrics;
use super::backoff::Backoff;
use super::plan::{Held, Live};
use super::report::Aspect;
use crate::api::ConditionStatus;
use crate::profile::{Canonical, Digest, ProfileName};
use crate::store::{DriftWatch, Installed, Origin, Owner, ProvenWith, Repaired, Store, StoreError};

/// How soon after a change by others the directory is looked at: a burst is one look.
const SETTLE: Duration = Duration::from_millis(100);
/// How often the directory is looked at while changes cannot be noticed at once.
const POLL: Duration = Duration::from_secs(10);
/// How soon after a failure the disk is tried again, and at the latest.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// How many changes are made in one go, so that the loop turns in between.
const BATCH: usize = 32;

/// What to do to a file.
#[derive(Debug)]
pub(super) enum Change {
    Write(ProfileName, Canonical),
    Remove(ProfileName),
}

impl Change {
    fn name(&self) -> &ProfileName {
        match self {
            Self::Write(name, _) | Self::Remove(name) => name,
        }
    }
}

/// A file that could not be changed, and is tried again.
#[derive(Debug)]
struct Retry {
    why: Held,
    backoff: Backoff,
    again: Instant,
}

/// The node's directory and all that is known about its state.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    rescan: Duration,
    proof: ProvenWith,
    metrics: Metrics,
    owner: Option<Owner>,
    /// `None` while it cannot be opened, and while a thread works on it.
    store: Option<Store>,
    /// Whether the store is known to be our cluster's.
    claimed: bool,
    watch: Option<DriftWatch>,
    /// Why there is no watch.
    watch_error: Option<StoreError>,
    /// When to look at the whole directory.
    repair_at: Instant,
    /// Why it could not be opened or repaired.
    store_error: Option<StoreError>,
    /// Files that could not be changed.
    held: BTreeMap<ProfileName, Retry>,
    /// The trouble of the whole directory among these.
    change_error: Option<StoreError>,
    retry: Backoff,
    retry_at: Instant,
}

impl Disk {
    pub(super) fn new(root: PathBuf, rescan: Duration, proof: ProvenWith, metrics: Metrics) -> Self {
        let now = Instant::now();
        Self {
            root,
            rescan,
            proof,
            metrics,
            owner: None,
            store: None,
            claimed: false,
            watch: None,
            watch_error: None,
            repair_at: now,
            store_error: None,
            held: BTreeMap::new(),
            change_error: None,
            retry: Backoff::new(FIRST_RETRY, LAST_RETRY),
            retry_at: now,
        }
    }

    /// The API server has said which cluster this is.
    pub(super) fn belongs_to(&mut self, cluster: String) {
        self.owner = Some(Owner::Cluster(cluster));
        self.retry_at = Instant::now();
    }

    /// Does what is due: opens, claims, repairs. An error is one that only a new process can mend.
    pub(super) async fn tend(&mut self) -> Result<(), StoreError> {
        if self.store.is_none() && self.retry_at <= Instant::now() {
            self.open().await?;
        }
        if self.store.is_some() && !self.claimed && self.owner.is_some() && self.retry_at <= Instant::now() {
            self.claim().await?;
        }
        if self.store.is_some() && self.repair_at <= Instant::now() {
            self.repair().await?;
        }
        Ok(())
    }

    async fn open(&mut self) -> Result<(), StoreError> {
        let (root, owner) = (self.root.clone(), self.owner.clone());
        let opened = blocking(move || Store::open(&root, owner.as_ref())).await;
        match opened {
            Some(Ok(store)) => {
                tracing::info!(root = %self.root.display(), owner = %store.owner(), files = store.live().len(), "directory opened");
                self.claimed = self.owner.as_ref() == Some(store.owner());
                self.store = Some(store);
                self.store_error = None;
                self.retry.reset();
                self.watch();
                self.repair_at = Instant::now();
                Ok(())
            }
            // Waiting for the owner is no trouble of the disk's.
            Some(Err(StoreError::NoOwner { .. })) => {
                self.retry_at = Instant::now() + LAST_RETRY;
                Ok(())
            }
            Some(Err(error)) => self.fail_store(error),
            None => {
                self.wait();
                Ok(())
            }
        }
    }

    async fn claim(&mut self) -> Result<(), StoreError> {
        let Some(owner) = self.owner.clone() else {
            return Ok(());
        };
        match self.with(move |store| store.claim(&owner)).await {
            Some(Ok(())) => {
                self.claimed = true;
                Ok(())
            }
            Some(Err(error)) => {
                // Somebody else's directory: no business of ours, not even its repair.
                self.close();
                self.fail_store(error)
            }
            None => Ok(()),
        }
    }

    async fn repair(&mut self) -> Result<(), StoreError> {
        if self.watch.is_none() {
            self.watch();
        }
        let interval = if self.watch.is_some() {
            self.rescan
        } else {
            self.rescan.min(POLL)
        };
        self.repair_at = Instant::now() + interval;
        match self.with(Store::repair).await {
            None => Ok(()),
            Some(Err(error)) => self.fail_store(error),
            Some(Ok(repaired)) => {
                self.metrics.repaired(&repaired);
                log(&repaired);
                match repaired.failed.into_iter().next() {
                    None => {
                        self.store_error = None;
                        Ok(())
                    }
                    Some(error) => self.fail_store(error),
                }
            }
        }
    }

    /// Starts to notice changes, or notes why not.
    fn watch(&mut self) {
        let Some(store) = &self.store else { return };
        match store.watch() {
            Ok(watch) => {
                if self.watch_error.take().is_some() {
                    tracing::info!("changes in the directory are noticed at once again");
                }
                self.watch = Some(watch);
            }
            Err(error) => self.fail_watch(error),
        }
    }

    /// Returns when there is something to tend to that others caused. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let Some(watch) = &mut self.watch else {
            return std::future::pending().await;
        };
        match watch.changed().await {
            Ok(()) => self.repair_at = self.repair_at.min(Instant::now() + SETTLE),
            Err(error) => {
                self.watch = None;
                self.fail_watch(error);
                self.repair_at = self.repair_at.min(Instant::now() + SETTLE);
            }
        }
    }

    /// When [`Disk::tend`] or [`Disk::change`] next has something to do, whatever happens.
    pub(super) fn wake(&self) -> Instant {
        if self.store.is_none() {
            return self.retry_at;
        }
        let retries = self.held.values().map(|retry| retry.again);
        let claim = self.unclaimed().then_some(self.retry_at);
        retries.chain(claim).fold(self.repair_at, Instant::min)
    }

    fn unclaimed(&self) -> bool {
        !self.claimed && self.owner.is_some()
    }

    /// Whether it is open, and our cluster's.
    pub(super) fn is_ours(&self) -> bool {
        self.store.is_some() && self.claimed
    }

    /// Whether it is open, be it ours or not.
    pub(super) fn is_open(&self) -> bool {
        self.store.is_some()
    }

    /// The files that it did not take, and why.
    pub(super) fn held(&self) -> BTreeMap<&ProfileName, &Held> {
        self.held.iter().map(|(name, retry)| (name, &retry.why)).collect()
    }

    /// Whether a change of this file is to be tried now.
    pub(super) fn is_due(&self, name: &ProfileName) -> bool {
        self.held
            .get(name)
            .is_none_or(|retry| retry.again <= Instant::now())
    }

    /// Makes the changes that are due, the first of them if there are many. One that fails holds up no other.
    /// Whether any was tried.
    pub(super) async fn change(&mut self, wanted: Vec<Change>) -> Result<bool, StoreError> {
        let names: BTreeSet<&ProfileName> = wanted.iter().map(Change::name).collect();
        self.held.retain(|name, _| names.contains(name));
        if self.held.is_empty() {
            self.change_error = None;
        }
        let mut changes = wanted;
        changes.retain(|change| self.is_due(change.name()));
        // Those that never failed go first, so that no number of others can keep them waiting.
        changes.sort_by_key(|change| self.held.contains_key(change.name()));
        changes.truncate(BATCH);
        if changes.is_empty() {
            return Ok(false);
        }
        let proof = self.proof.clone();
        let outcomes = self.with(move |store| {
            let change = |change| {
                let outcome = match &change {
                    Change::Write(name, file) => store.write(name, file, &proof),
                    Change::Remove(name) => store.remove(name),
                };
                (change, outcome)
            };
            changes.into_iter().map(change).collect::<Vec<_>>()
        });
        for (change, outcome) in outcomes.await.into_iter().flatten() {
            match outcome {
                Ok(()) => self.changed_file(&change),
                Err(error @ StoreError::RootGone { .. }) => return Err(error),
                Err(error) => self.hold(change.name(), error),
            }
        }
        Ok(true)
    }

    fn changed_file(&mut self, change: &Change) {
        self.held.remove(change.name());
        match change {
            Change::Write(name, file) => {
                tracing::info!(profile = %name, digest = %file.digest, "profile installed");
                self.metrics.written();
            }
            Change::Remove(name) => {
                tracing::info!(profile = %name, "profile removed: it is no longer for this node, and no pod uses it");
                self.metrics.removed();
            }
        }
        if self.held.is_empty() {
            self.change_error = None;
        }
    }

    fn hold(&mut self, name: &ProfileName, error: StoreError) {
        self.metrics.store_failed(reason(&error));
        let of_the_node = is_of_the_node(&error);
        let why = if of_the_node {
            Held::ByNode
        } else {
            Held::ByFile {
                reason: reason(&error),
                message: error.to_string(),
            }
        };
        let before = self.held.remove(name).map(|retry| retry.backoff);
        let mut backoff = before.unwrap_or_else(|| Backoff::new(FIRST_RETRY, LAST_RETRY));
        let again = Instant::now() + backoff.wait();
        self.held.insert(name.clone(), Retry { why, backoff, again });
        if of_the_node {
            if self.change_error.as_ref() != Some(&error) {
                tracing::error!("{error}; trying again");
            }
            self.change_error = Some(error);
        }
    }

    /// What is on disk, as a plan sees it.
    pub(super) fn live(&self) -> BTreeMap<&ProfileName, Live> {
        self.installed()
            .map(|(name, installed)| {
                let digest = installed.file.digest;
                let ours = installed.origin == Origin::Cluster;
                (
                    name,
                    Live {
                        digest,
                        ours,
                        current: self.is_current(&digest),
                    },
                )
            })
            .collect()
    }

    /// The files on disk that lost their record.
    pub(super) fn unproven(&self) -> BTreeSet<&ProfileName> {
        self.store
            .iter()
            .flat_map(|store| store.unproven().keys())
            .collect()
    }

    /// The files on disk that this kernel, libseccomp and version proved.
    pub(super) fn current(&self) -> impl Iterator<Item = (&ProfileName, &Canonical)> {
        self.installed()
            .filter(|(_, installed)| self.is_current(&installed.file.digest))
            .map(|(name, installed)| (name, &installed.file))
    }

    fn installed(&self) -> impl Iterator<Item = (&ProfileName, &Installed)> {
        self.store.iter().flat_map(Store::live)
    }

    fn is_current(&self, digest: &Digest) -> bool {
        self.store.as_ref().and_then(|store| store.proven(digest)) == Some(&self.proof)
    }

    /// Whether the store takes writes.
    pub(super) fn writable(&self) -> Aspect {
        match self.store_error.as_ref().or(self.change_error.as_ref()) {
            // The agent before this one is about to end: nothing is wrong with the directory.
            Some(error @ StoreError::Busy { .. }) => Aspect {
                status: ConditionStatus::Unknown,
                reason: reason(error),
                message: error.to_string(),
            },
            Some(error) => Aspect {
                status: ConditionStatus::False,
                reason: reason(error),
                message: error.to_string(),
            },
            None if self.is_ours() => Aspect {
                status: ConditionStatus::True,
                reason: "Writable",
                message: "The node's directory takes files.".to_owned(),
            },
            None => Aspect {
                status: ConditionStatus::Unknown,
                reason: "NotOpen",
                message: "The node's directory waits to be opened.".to_owned(),
            },
        }
    }

    /// Whether changes by others are noticed at once.
    pub(super) fn watching(&self) -> Aspect {
        match &self.watch_error {
            None => Aspect {
                status: ConditionStatus::True,
                reason: "Inotify",
                message: "Changes in the node's directory are noticed at once.".to_owned(),
            },
            Some(error) => Aspect {
                status: ConditionStatus::False,
                reason: "Polling",
                message: error.to_string(),
            },
        }
    }

    fn fail_store(&mut self, error: StoreError) -> Result<(), StoreError> {
        if matches!(error, StoreError::RootGone { .. }) {
            return Err(error);
        }
        self.metrics.store_failed(reason(&error));
        if self.store_error.as_ref() != Some(&error) {
            tracing::error!("{error}; trying again");
        }
        self.store_error = Some(error);
        self.wait();
        Ok(())
    }

    fn wait(&mut self) {
        let at = Instant::now() + self.retry.wait();
        self.retry_at = at;
        self.repair_at = self.repair_at.min(at);
    }

    fn fail_watch(&mut self, error: StoreError) {
        if self.watch_error.as_ref() != Some(&error) {
            tracing::warn!("{error}");
        }
        self.watch_error = Some(error);
        self.repair_at = self.repair_at.min(Instant::now() + POLL);
    }

    fn close(&mut self) {
        self.store = None;
        self.watch = None;
        self.claimed = false;
    }

    /// Lets a thread that may block work on the store. `None` if there is none, or if that thread panicked: then
    /// the store is opened afresh.
    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Option<T> {
        let mut store = self.store.take()?;
        if let Some((outcome, store)) = blocking(move || (work(&mut store), store)).await {
            self.store = Some(store);
            return Some(outcome);
        }
        self.close();
        self.wait();
        None
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => Some(outcome),
        Err(error) => {
            tracing::error!("work on the directory ended early: {error}");
            None
        }
    }
}

fn log(repaired: &Repaired) {
    for name in &repaired.restored {
        tracing::warn!(profile = %name, "somebody changed or removed the file; it is back");
    }
    for name in &repaired.lost {
        tracing::warn!(profile = %name, "the file was changed or removed before this start; it comes back once proven");
    }
    for path in &repaired.strays {
        tracing::warn!(path = %path.display(), "removed: not a file of Callgate");
    }
    if repaired.strays_total > repaired.strays.len() {
        tracing::warn!("removed {} more", repaired.strays_total - repaired.strays.len());
    }
}

/// Whether every file of the directory has this trouble.
fn is_of_the_node(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::NoSpace(_)
            | StoreError::ReadOnly(_)
            | StoreError::NotOurs { .. }
            | StoreError::OtherOwner { .. }
    )
}

/// Of a condition.
fn reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::NotOurs { .. } => "NotOurs",
        StoreError::OtherOwner { .. } => "OtherOwner",
        StoreError::NoOwner { .. } => "NoOwner",
        StoreError::Busy { .. } => "Busy",
        StoreError::RootGone { .. } => "RootGone",
        StoreError::WatchLimit(_) => "WatchLimit",
        StoreError::NoSpace(_) => "DiskFull",
        StoreError::ReadOnly(_) => "ReadOnly",
        StoreError::Denied(_) => "PermissionDenied",
        StoreError::Io(_) => "InputOutput",
    }
}
