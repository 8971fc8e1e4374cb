//! What an onlooker sees of the fleet by two watches, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use backon::ExponentialBuilder;
use callgate::api::{ConditionStatus, LiveKey, SeccompNode, SeccompProfile};
use futures::StreamExt as _;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, ExponentialBackoff, watcher};
use kube::{Client, ResourceExt as _};
use tokio_util::task::AbortOnDropHandle;

/// How long it may take until anything is one step further.
const DEADLINE: Duration = Duration::from_secs(600);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(10);
/// How often to look.
const LOOK: Duration = Duration::from_millis(20);
/// Nothing more comes after this long without anything.
const QUIET: Duration = Duration::from_millis(1500);

/// All node reports and profiles.
pub(crate) struct Observer {
    view: Arc<Mutex<View>>,
    _watches: [AbortOnDropHandle<()>; 2],
}

/// What is known.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) reports: BTreeMap<String, SeccompNode>,
    pub(crate) profiles: BTreeMap<String, SeccompProfile>,
    /// By profile: the latest generation that was Ready, and since when.
    pub(crate) ready: BTreeMap<String, (i64, Instant)>,
    /// What to look for in reports.
    keys: Vec<LiveKey>,
    are_wanted: bool,
    /// By node: when all keys were there, or none any more.
    pub(crate) reached: BTreeMap<String, Instant>,
    changed: Option<Instant>,
}

impl Observer {
    pub(crate) fn start(client: &Client) -> Self {
        let view = Arc::new(Mutex::new(View::default()));
        Self {
            _watches: [
                follow(Api::<SeccompNode>::all(client.clone()), &view, View::report),
                follow(Api::<SeccompProfile>::all(client.clone()), &view, View::profile),
            ],
            view,
        }
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on notes when each node reports that all of these are live, or that none is.
    pub(crate) fn aim(&self, keys: Vec<LiveKey>, are_wanted: bool) {
        let mut view = self.view();
        view.keys = keys;
        view.are_wanted = are_wanted;
        view.reached.clear();
    }

    /// Waits until `count` gives `total`, and tells how far it is.
    pub(crate) async fn until(
        &self,
        what: &str,
        total: usize,
        mut count: impl FnMut(&View) -> usize,
    ) -> Result<()> {
        let began = Instant::now();
        let (mut told, mut moved, mut before) = (began, began, None);
        loop {
            let now = count(&self.view());
            if now == total {
                return Ok(());
            }
            if before.replace(now) != Some(now) {
                moved = Instant::now();
            }
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                anstream::eprintln!(
                    "    {what}: {now} of {total}, after {} s",
                    began.elapsed().as_secs()
                );
            }
            if moved.elapsed() > DEADLINE {
                bail!("{what}: {now} of {total} for {} s", DEADLINE.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until nothing changes any more.
    pub(crate) async fn quiet(&self) -> Result<()> {
        let is_quiet = |view: &View| {
            let since = view.changed.map(|changed| changed.elapsed());
            usize::from(since.is_none_or(|since| since >= QUIET))
        };
        self.until("everything is written", 1, is_quiet).await
    }
}

impl View {
    fn report(&mut self, name: String, report: Option<SeccompNode>) {
        let Some(report) = report else {
            self.reports.remove(&name);
            return;
        };
        let live = &report.spec.profiles;
        let is_reached = !self.keys.is_empty()
            && self
                .keys
                .iter()
                .all(|key| live.contains_key(key) == self.are_wanted);
        if is_reached {
            self.reached.entry(name.clone()).or_insert_with(Instant::now);
        }
        self.reports.insert(name, report);
    }

    fn profile(&mut self, name: String, profile: Option<SeccompProfile>) {
        let Some(profile) = profile else {
            self.profiles.remove(&name);
            self.ready.remove(&name);
            return;
        };
        let conditions = profile.status.iter().flat_map(|status| &status.conditions);
        let ready = conditions
            .filter(|condition| condition.type_ == "Ready" && condition.status == ConditionStatus::True)
            .find_map(|condition| condition.observed_generation);
        match ready {
            Some(generation) if self.ready.get(&name).is_none_or(|(known, _)| *known < generation) => {
                self.ready.insert(name.clone(), (generation, Instant::now()));
            }
            Some(_) | None => {}
        }
        self.profiles.insert(name, profile);
    }

    /// How many of these profiles are Ready as they are now.
    pub(crate) fn ready_as_they_are(&self, names: &BTreeSet<String>) -> usize {
        let is_ready = |name: &&String| {
            let profile = self.profiles.get(*name);
            let ready = self.ready.get(*name).map(|(generation, _)| *generation);
            ready.is_some() && ready == profile.and_then(|profile| profile.metadata.generation)
        };
        names.iter().filter(is_ready).count()
    }
}

fn follow<K>(
    api: Api<K>,
    view: &Arc<Mutex<View>>,
    note: fn(&mut View, String, Option<K>),
) -> AbortOnDropHandle<()>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let view = Arc::clone(view);
    AbortOnDropHandle::new(tokio::spawn(async move {
        // Back sooner than the agents, so that their times are theirs.
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_millis(200))
            .without_max_times();
        let pauses = ExponentialBackoff::from(pauses);
        let events = watcher(api, watcher::Config::default()).backoff(pauses);
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Ok(Event::Apply(mut object) | Event::InitApply(mut object)) => {
                    object.managed_fields_mut().clear();
                    view.changed = Some(Instant::now());
                    note(&mut view, object.name_any(), Some(object));
                }
                Ok(Event::Delete(object)) => {
                    view.changed = Some(Instant::now());
                    note(&mut view, object.name_any(), None);
                }
                // The watcher starts again by itself.
                Ok(Event::Init | Event::InitDone) | Err(_) => {}
            }
        }
    }))
}
