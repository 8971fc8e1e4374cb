//! Requests of the scenes' own, for which the API server of a slow machine may not have the time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::Result;
use kube::api::{Api, DeleteParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How soon a request is made again.
const AGAIN: Duration = Duration::from_secs(1);

/// Makes a request again where the answer is that there was no time for it (429), or that it failed on the API server's side
/// (5xx). Any other answer is the scene's to see, a refusal first of all, and so is one of these after a minute and a half.
/// A request that was answered like that may have been carried out: to make it twice must be the same as once.
pub(crate) async fn insist<T>(mut request: impl AsyncFnMut() -> kube::Result<T>) -> kube::Result<T> {
    let began = Instant::now();
    loop {
        match request().await {
            Err(kube::Error::Api(status))
                if matches!(status.code, 429 | 500..=599) && began.elapsed() < harness::DEADLINE =>
            {
                tokio::time::sleep(AGAIN).await;
            }
            answer => return answer,
        }
    }
}

/// Creates an object of a name that no other ever has: one that is there already came of the same request.
pub(crate) async fn create<K>(api: &Api<K>, object: &K) -> Result<()>
where
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    match insist(async || api.create(&PostParams::default(), object).await).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        created => created.map(drop).map_err(Into::into),
    }
}

/// Deletes an object at once, if it is there.
pub(crate) async fn delete<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Clone + Debug + DeserializeOwned,
{
    let at_once = DeleteParams::default().grace_period(0);
    match insist(async || api.delete(name, &at_once).await).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted.map(drop).map_err(Into::into),
    }
}
