//! Whether changes by others are noticed at once, and if not, why not.

use crate::agent::report::Aspect;
use crate::api::ConditionStatus;
use crate::store::{Changes, DriftWatch, Store, StoreError};

/// The watch on the directory, while there can be one.
#[derive(Debug, Default)]
pub(super) struct Drift {
    watch: Option<DriftWatch>,
    /// Why there is none.
    error: Option<StoreError>,
}

impl Drift {
    /// Starts to notice changes, or notes why not.
    pub(super) fn start(&mut self, store: &Store) {
        match store.watch() {
            Ok(watch) => {
                if self.error.take().is_some() {
                    tracing::info!("changes in the directory are noticed at once again");
                }
                self.watch = Some(watch);
            }
            Err(error) => self.fail(error),
        }
    }

    pub(super) fn stop(&mut self) {
        self.watch = None;
    }

    pub(super) const fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Returns what changed, once something did: anything, if changes may go unnoticed from now on. Cancel safe.
    pub(super) async fn changed(&mut self) -> Changes {
        let Some(watch) = &mut self.watch else {
            return std::future::pending().await;
        };
        watch.changed().await.unwrap_or_else(|error| {
            self.watch = None;
            self.fail(error);
            Changes::Anything
        })
    }

    fn fail(&mut self, error: StoreError) {
        if self.error.as_ref() != Some(&error) {
            tracing::warn!("{error}");
        }
        self.error = Some(error);
    }

    /// As a condition.
    pub(super) fn aspect(&self) -> Aspect {
        match &self.error {
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
}
