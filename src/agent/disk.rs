//! The store, kept open: opened again when it failed, claimed when its owner is known, repaired when somebody
//! changed it. A thin shell: every call that touches the disk runs on a thread that may block.
//!
//! First claimed, then repaired: a directory that may be another cluster's is not touched. Only where the API server
//! cannot say which cluster this is, its marker is believed, so that files are kept through an outage.

mod drift;
pub(super) mod files;
pub(super) mod retries;
pub(super) mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Metrics;
use super::backoff::Backoff;
use super::report::Aspect;
use super::state::{FileChange, OnDisk};
use crate::profile::{Canonical, ProfileName};
use crate::store::{Bounds, Changes, Owner, ProvenWith, Repaired, Store, StoreError};
use drift::Drift;
use files::Files;
use retries::Retries;
use trouble::{Trouble, reason, writable};

/// How soon after a change what changed is looked at: a burst is one look.
const SETTLE: Duration = Duration::from_millis(100);
/// How often the directory is looked at while changes cannot be noticed at once.
const POLL: Duration = Duration::from_secs(10);
/// How soon after a failure the disk is tried again, and at the latest.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The node's directory and all that is known about its state.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    bounds: Option<Bounds>,
    rescan: Duration,
    proof: ProvenWith,
    metrics: Metrics,
    owner: Option<Owner>,
    /// Whether the API server could not say who the owner is.
    unanswered: bool,
    /// `None` while it cannot be opened, and while a thread works on it.
    store: Option<Store>,
    /// Its files; anew after each work that may change them, as plans and reports are made more often.
    files: Files,
    /// Whether the store is known to be our cluster's.
    claimed: bool,
    drift: Drift,
    /// What others may have changed, since the last look at it.
    changes: Changes,
    /// When to look at that.
    look_at: Option<Instant>,
    /// When to look at the whole directory.
    repair_at: Instant,
    /// Why it could not be opened or repaired.
    trouble: Option<Trouble>,
    /// Changes that failed.
    retries: Retries,
    retry: Backoff,
    retry_at: Instant,
}

impl Disk {
    pub(super) fn new(
        root: PathBuf,
        bounds: Option<Bounds>,
        rescan: Duration,
        proof: ProvenWith,
        metrics: Metrics,
    ) -> Self {
        let now = Instant::now();
        Self {
            root,
            bounds,
            rescan,
            proof,
            metrics,
            owner: None,
            unanswered: false,
            store: None,
            files: Files::default(),
            claimed: false,
            drift: Drift::default(),
            changes: Changes::default(),
            look_at: None,
            repair_at: now,
            trouble: None,
            retries: Retries::default(),
            retry: Backoff::new(FIRST_RETRY, LAST_RETRY),
            retry_at: now,
        }
    }

    /// The API server has said which cluster this is.
    pub(super) fn belongs_to(&mut self, cluster: String) {
        self.owner = Some(Owner::Cluster(cluster));
        self.retry_at = Instant::now();
    }

    /// The API server does not say which cluster this is.
    pub(super) fn belongs_to_nobody_known(&mut self) {
        self.unanswered = true;
    }

    /// Does what is due: opens, claims, repairs. An error is one that only a new process can mend.
    pub(super) async fn tend(&mut self) -> Result<(), StoreError> {
        if self.store.is_none() && self.retry_at <= Instant::now() {
            self.open().await?;
        }
        if self.store.is_some() && !self.claimed && self.owner.is_some() && self.retry_at <= Instant::now() {
            self.claim().await?;
        }
        if self.store.is_some() && self.may_repair() {
            if self.look_at.is_some_and(|at| at <= Instant::now()) {
                self.look().await;
            }
            if self.repair_at <= Instant::now() {
                self.repair().await?;
            }
        }
        Ok(())
    }

    fn may_repair(&self) -> bool {
        self.claimed || (self.owner.is_none() && self.unanswered)
    }

    async fn open(&mut self) -> Result<(), StoreError> {
        let (root, owner, bounds) = (self.root.clone(), self.owner.clone(), self.bounds);
        let opened = blocking(move || Store::open_within(&root, owner.as_ref(), bounds)).await;
        match opened {
            Some(Ok(store)) => {
                tracing::info!(root = %self.root.display(), owner = %store.owner(), files = store.live().len(), "directory opened");
                self.claimed = self.owner.as_ref() == Some(store.owner());
                self.drift.start(&store);
                self.store = Some(store);
                self.take_stock();
                self.trouble = None;
                self.retry.reset();
                self.repair_at = Instant::now();
                Ok(())
            }
            // Waiting for the owner is no trouble of the disk's.
            Some(Err(StoreError::NoOwner { .. })) => {
                self.retry_at = Instant::now() + LAST_RETRY;
                Ok(())
            }
            Some(Err(error)) => self.fail(Trouble::Whole(error)),
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
                self.fail(Trouble::Whole(error))
            }
            None => Ok(()),
        }
    }

    /// Looks at what changed, most of which the store itself has written. Anything else is for a repair.
    async fn look(&mut self) {
        self.look_at = None;
        let changes = std::mem::take(&mut self.changes);
        if self.ask(move |store| store.has_drifted(&changes)).await == Some(true) {
            self.repair_at = Instant::now();
        }
    }

    async fn repair(&mut self) -> Result<(), StoreError> {
        if !self.drift.is_watched()
            && let Some(store) = &self.store
        {
            self.drift.start(store);
        }
        let interval = if self.drift.is_watched() {
            self.rescan
        } else {
            self.rescan.min(POLL)
        };
        self.repair_at = Instant::now() + interval;
        self.look_at = None;
        self.changes = Changes::default();
        match self.with(Store::repair).await {
            None => Ok(()),
            Some(Err(error)) => self.fail(Trouble::Whole(error)),
            Some(Ok(repaired)) => {
                self.metrics.repaired(&repaired);
                log(&repaired);
                match Trouble::among(repaired.failed) {
                    None => {
                        self.trouble = None;
                        Ok(())
                    }
                    Some(trouble) => self.fail(trouble),
                }
            }
        }
    }

    /// Returns when there is something to tend to that others caused. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let changes = self.drift.changed().await;
        self.changes.add(changes);
        self.look_at.get_or_insert_with(|| Instant::now() + SETTLE);
    }

    /// When [`Disk::tend`] or [`Disk::change`] next has something to do, if nothing else happens.
    pub(super) fn wake(&self) -> Option<Instant> {
        if self.store.is_none() {
            return Some(self.retry_at);
        }
        let claim = self.unclaimed().then_some(self.retry_at);
        let look = self.look_at.filter(|_| self.may_repair());
        let repair = self.may_repair().then_some(self.repair_at);
        [claim, look, repair, self.retries.wake()]
            .into_iter()
            .flatten()
            .min()
    }

    fn unclaimed(&self) -> bool {
        !self.claimed && self.owner.is_some()
    }

    /// Whether it is open, and our cluster's.
    pub(super) fn is_ours(&self) -> bool {
        self.store.is_some() && self.claimed
    }

    /// As a plan sees it.
    pub(super) fn seen(&self) -> OnDisk<'_> {
        OnDisk {
            is_open: self.store.is_some(),
            is_ours: self.is_ours(),
            files: &self.files,
            unproven: self.unproven(),
            held: self.retries.held(),
        }
    }

    /// Whether a change of this file is to be tried now.
    pub(super) fn is_due(&self, name: &ProfileName) -> bool {
        self.retries.is_due(name, Instant::now())
    }

    /// Makes the changes that are due, the first of them if there are many. One that fails holds up no other.
    /// Whether any was tried.
    pub(super) async fn change(&mut self, wanted: Vec<FileChange>) -> Result<bool, StoreError> {
        let changes = self.retries.due(wanted, Instant::now());
        if changes.is_empty() {
            return Ok(false);
        }
        let (mut files, mut names) = (BTreeMap::new(), BTreeSet::new());
        for change in changes {
            match change {
                FileChange::Write(name, file) => _ = files.insert(name, file),
                FileChange::Remove(name) => _ = names.insert(name),
            }
        }
        let proof = self.proof.clone();
        let worked = self.with(move |store| {
            let unwritten = store.write_all(&files, &proof);
            let unremoved = store.remove_all(&names);
            (files, names, unwritten, unremoved)
        });
        let Some((files, names, mut unwritten, mut unremoved)) = worked.await else {
            return Ok(true);
        };
        for (name, file) in files {
            if self.is_done(&name, unwritten.remove(&name))? {
                tracing::info!(profile = %name, digest = %file.digest, "profile installed");
                self.metrics.written();
            }
        }
        for name in names {
            if self.is_done(&name, unremoved.remove(&name))? {
                tracing::info!(profile = %name, "profile removed: it is no longer for this node, and no pod uses it");
                self.metrics.removed();
            }
        }
        Ok(true)
    }

    /// Takes note of how the change of a file ended.
    fn is_done(&mut self, name: &ProfileName, error: Option<StoreError>) -> Result<bool, StoreError> {
        match error {
            None => {
                self.retries.succeeded(name);
                Ok(true)
            }
            Some(error) if error.needs_a_new_process() => Err(error),
            Some(error) => {
                self.hold_back(name, error);
                Ok(false)
            }
        }
    }

    fn hold_back(&mut self, name: &ProfileName, error: StoreError) {
        let message = error.to_string();
        let reason = reason(&error);
        self.metrics.store_failed(reason);
        // What is wrong may be more than this file, and the record may not say what is there.
        self.repair_at = self.repair_at.min(Instant::now() + SETTLE);
        if self.retries.failed(name, error, Instant::now()) {
            tracing::error!(profile = %name, reason, "{message}; trying again");
        }
    }

    /// Notes which files there are.
    fn take_stock(&mut self) {
        if let Some(store) = &self.store {
            self.files = Files::new(store.live(), |digest| store.proven(digest) == Some(&self.proof));
        }
    }

    /// The files on disk that lost their record.
    fn unproven(&self) -> BTreeSet<&ProfileName> {
        self.store
            .iter()
            .flat_map(|store| store.unproven().keys())
            .collect()
    }

    /// The file of a profile on disk, if this kernel, libseccomp and version proved it.
    pub(super) fn current(&self, name: &ProfileName) -> Option<&Canonical> {
        self.files.by_name().get(name).filter(|live| live.current)?;
        Some(&self.store.as_ref()?.live().get(name)?.file)
    }

    /// Whether the store takes writes.
    pub(super) fn writable(&self) -> Aspect {
        let of_changes = || self.retries.of_the_node().cloned().map(Trouble::Whole);
        writable(self.trouble.clone().or_else(of_changes).as_ref(), self.is_ours())
    }

    /// Whether changes by others are noticed at once.
    pub(super) fn watching(&self) -> Aspect {
        self.drift.aspect()
    }

    fn fail(&mut self, trouble: Trouble) -> Result<(), StoreError> {
        let error = trouble.error();
        if error.needs_a_new_process() {
            return Err(error.clone());
        }
        self.metrics.store_failed(reason(error));
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::error!(reason = reason(error), "{error}; trying again");
        }
        self.trouble = Some(trouble);
        self.wait();
        Ok(())
    }

    fn wait(&mut self) {
        let at = Instant::now() + self.retry.wait();
        self.retry_at = at;
        self.repair_at = self.repair_at.min(at);
    }

    fn close(&mut self) {
        self.store = None;
        self.files = Files::default();
        self.drift.stop();
        self.claimed = false;
    }

    /// Lets a thread that may block work on the store. `None` if there is none, or if that thread panicked: then
    /// the store is opened afresh.
    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Option<T> {
        let outcome = self.lend(work).await;
        self.take_stock();
        outcome
    }

    /// The same for work that changes nothing.
    async fn ask<T: Send + 'static>(&mut self, work: impl FnOnce(&Store) -> T + Send + 'static) -> Option<T> {
        self.lend(|store| work(store)).await
    }

    async fn lend<T: Send + 'static>(
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
        tracing::warn!(profile = %name, "the file was changed, removed or not yet written before this start; it comes back once proven");
    }
    for path in &repaired.strays {
        tracing::warn!(path = %path.display(), "removed: not a file of Callgate");
    }
    if repaired.strays_total > repaired.strays.len() {
        let more = repaired.strays_total - repaired.strays.len();
        tracing::warn!(more, "removed more that are not files of Callgate");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::api::ConditionStatus;
    use crate::profile::Digest;

    #[tokio::test]
    async fn a_directory_that_cannot_be_opened_for_the_moment_may_be_writable_and_is_once_it_opens() {
        let node = tempfile::tempdir().unwrap();
        let root = node.path().join("seccomp");
        // A link to itself: neither there nor gone.
        symlink("seccomp", &root).unwrap();
        let metrics = Metrics::register(&mut Registry::default());
        let proof = ProvenWith::here(String::new());
        let mut disk = Disk::new(root.clone(), None, POLL, proof, metrics);
        disk.belongs_to("cluster".to_owned());
        disk.tend().await.unwrap();
        let aspect = disk.writable();
        assert_eq!(
            (aspect.status, aspect.reason),
            (ConditionStatus::Unknown, "InputOutput"),
            "{}",
            aspect.message
        );
        fs::remove_file(&root).unwrap();
        fs::create_dir(&root).unwrap();
        while !disk.is_ours() {
            tokio::time::sleep_until(disk.wake().unwrap().into()).await;
            disk.tend().await.unwrap();
        }
        assert_eq!(disk.writable().status, ConditionStatus::True);
    }

    #[tokio::test]
    async fn a_directory_is_repaired_once_it_is_claimed_or_nobody_can_say_whose_it_is() {
        for answered in [true, false] {
            let node = tempfile::tempdir().unwrap();
            let owner = Owner::Cluster("ours".to_owned());
            drop(Store::open(node.path(), Some(&owner)).unwrap());
            let stray = node.path().join("callgate/stray");
            fs::write(&stray, "").unwrap();
            let metrics = Metrics::register(&mut Registry::default());
            let proof = ProvenWith::here(String::new());
            let mut disk = Disk::new(node.path().to_owned(), None, POLL, proof, metrics);
            disk.tend().await.unwrap();
            disk.tend().await.unwrap();
            assert!(disk.seen().is_open && stray.exists());
            if answered {
                disk.belongs_to("ours".to_owned());
            } else {
                disk.belongs_to_nobody_known();
            }
            disk.tend().await.unwrap();
            assert!(!stray.exists(), "answered: {answered}");
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    /// One that is open, claimed and looked at.
    async fn opened(node: &tempfile::TempDir, rescan: Duration) -> Disk {
        let metrics = Metrics::register(&mut Registry::default());
        let proof = ProvenWith::here(String::new());
        let mut disk = Disk::new(node.path().to_owned(), None, rescan, proof, metrics);
        disk.belongs_to("ours".to_owned());
        disk.tend().await.unwrap();
        disk
    }

    fn web() -> ProfileName {
        ProfileName::new("shop", "web").unwrap()
    }

    fn write(text: &str) -> Vec<FileChange> {
        let bytes = text.as_bytes();
        let digest = Digest::of(bytes);
        let file = Canonical {
            bytes: bytes.into(),
            digest,
        };
        vec![FileChange::Write(web(), file)]
    }

    /// Takes in what changed. The time is only a bound for a broken watch.
    async fn changed(disk: &mut Disk) {
        let soon = Duration::from_secs(20);
        let in_time = tokio::time::timeout(soon, disk.changed()).await;
        in_time.expect("a change was not noticed");
    }

    /// Takes in what changed, and looks at it.
    async fn look(disk: &mut Disk) {
        changed(disk).await;
        tokio::time::sleep_until(disk.look_at.unwrap().into()).await;
        disk.tend().await.unwrap();
    }

    #[tokio::test]
    async fn what_the_agent_writes_itself_is_no_reason_to_look_at_every_file_and_what_others_do_is() {
        let node = tempfile::tempdir().unwrap();
        let mut disk = opened(&node, HOUR).await;
        // Makes the namespace's directory, which is to be watched from now on.
        disk.change(write("one")).await.unwrap();
        look(&mut disk).await;
        let next_repair = disk.repair_at;
        disk.change(write("two")).await.unwrap();
        look(&mut disk).await;
        assert_eq!((disk.look_at, disk.repair_at), (None, next_repair));

        let file = node.path().join("callgate/shop/web.json");
        fs::write(&file, "three").unwrap();
        look(&mut disk).await;
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert!(disk.repair_at > next_repair);
    }

    #[tokio::test]
    async fn what_inotify_does_not_tell_is_found_by_the_look_at_everything_from_time_to_time() {
        let node = tempfile::tempdir().unwrap();
        let mut disk = opened(&node, Duration::from_millis(200)).await;
        disk.change(write("one")).await.unwrap();
        changed(&mut disk).await;
        disk.tend().await.unwrap();
        // Another name of the file, elsewhere, through which it can be changed.
        let file = node.path().join("callgate/shop/web.json");
        let other = node.path().join("other");
        fs::hard_link(&file, &other).unwrap();
        fs::write(&other, "two").unwrap();
        while fs::read_to_string(&file).unwrap() != "one" {
            assert!(disk.watching().status == ConditionStatus::True);
            tokio::time::sleep_until(disk.wake().unwrap().into()).await;
            disk.tend().await.unwrap();
        }
        assert_eq!(fs::read_to_string(&other).unwrap(), "two", "it is not ours");
    }

    #[tokio::test]
    async fn a_change_that_fails_is_a_reason_to_look_at_everything() {
        let node = tempfile::tempdir().unwrap();
        let mut disk = opened(&node, HOUR).await;
        let error = StoreError::from(crate::store::Failure {
            operation: "write",
            path: "/made-up".into(),
            errno: rustix::io::Errno::IO,
        });
        disk.hold_back(&web(), error);
        assert!(disk.repair_at <= Instant::now() + SETTLE);
    }
}
