//! When things become visible: files by inotify, status by a watch.

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use callgate::api::{ConditionStatus, SeccompProfile};
use futures::StreamExt as _;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher;
use rustix::fs::inotify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const DEADLINE: Duration = Duration::from_secs(60);

/// Names of files that were renamed into a directory, with the moment.
pub(crate) struct Files(UnboundedReceiver<(Instant, OsString)>);

impl Files {
    /// Watches a directory until this value is dropped and one more file arrives.
    pub(crate) fn watch(directory: &Path) -> Result<Self> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&watch, directory, inotify::WatchFlags::MOVED_TO)
            .with_context(|| format!("cannot watch {}", directory.display()))?;
        let (sender, receiver) = unbounded_channel();
        std::thread::spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
            let mut events = inotify::Reader::new(watch, &mut buffer);
            while let Ok(event) = events.next() {
                let now = Instant::now();
                let Some(name) = event.file_name() else { continue };
                if sender
                    .send((now, OsString::from_vec(name.to_bytes().to_vec())))
                    .is_err()
                {
                    break;
                }
            }
        });
        Ok(Self(receiver))
    }

    /// When the next file arrived whose name `wanted` is true of.
    pub(crate) async fn next(&mut self, mut wanted: impl FnMut(&str) -> bool) -> Result<Instant> {
        let found = async {
            loop {
                let (moment, name) = self.0.recv().await.context("the watch on the directory ended")?;
                if name.to_str().is_some_and(&mut wanted) {
                    return Ok(moment);
                }
            }
        };
        tokio::time::timeout(DEADLINE, found)
            .await
            .context("the file did not come")?
    }
}

/// Profiles whose Ready condition is True for a generation, with the moment.
pub(crate) struct Ready(UnboundedReceiver<(Instant, String, i64)>);

impl Ready {
    /// Watches all profiles of a namespace until this value is dropped.
    pub(crate) fn watch(profiles: Api<SeccompProfile>) -> Self {
        let (sender, receiver) = unbounded_channel();
        tokio::spawn(async move {
            let stream = watcher(profiles, watcher::Config::default())
                .default_backoff()
                .applied_objects();
            let mut stream = std::pin::pin!(stream);
            while let Some(result) = stream.next().await {
                let now = Instant::now();
                // The watcher starts again by itself.
                let Ok(profile) = result else { continue };
                let name = profile.metadata.name.clone().unwrap_or_default();
                if let Some(generation) = ready_generation(&profile)
                    && sender.send((now, name, generation)).is_err()
                {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// When this generation of this profile was ready.
    pub(crate) async fn next(&mut self, wanted_name: &str, wanted_generation: i64) -> Result<Instant> {
        let found = async {
            loop {
                let (moment, name, generation) =
                    self.0.recv().await.context("the watch on profiles ended")?;
                if name == wanted_name && generation == wanted_generation {
                    return Ok(moment);
                }
            }
        };
        tokio::time::timeout(DEADLINE, found)
            .await
            .context("the profile did not become ready")?
    }

    /// When the last of `count` profiles was ready, counted from now on.
    pub(crate) async fn all(&mut self, count: usize) -> Result<Instant> {
        let mut names = std::collections::BTreeSet::new();
        let found = async {
            loop {
                let (moment, name, _) = self.0.recv().await.context("the watch on profiles ended")?;
                names.insert(name);
                if names.len() == count {
                    return Ok(moment);
                }
            }
        };
        tokio::time::timeout(DEADLINE, found)
            .await
            .context("not all profiles became ready")?
    }
}

/// The generation that the Ready condition was judged for, if it is True.
fn ready_generation(profile: &SeccompProfile) -> Option<i64> {
    let conditions = &profile.status.as_ref()?.conditions;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    (ready.status == ConditionStatus::True).then_some(ready.observed_generation)?
}
