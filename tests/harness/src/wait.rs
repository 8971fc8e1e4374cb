//! Waiting for something to become true, with a deadline.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;

use crate::logs;

/// How long the harness waits for anything before it gives up. Generous: a busy machine is slow, not broken.
pub const DEADLINE: Duration = Duration::from_secs(90);

const PAUSE: Duration = Duration::from_millis(50);

/// Asks `check` again and again until it gives a value, and returns that.
///
/// `what` says what is waited for. When [`DEADLINE`] passes, the error names it and the last answer of `check`, with what
/// the processes of this program have logged last.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match check().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                return Err(anyhow!("{error:#}\n{}", logs::tails())
                    .context(format!("waited {} s: {what}", DEADLINE.as_secs())));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
