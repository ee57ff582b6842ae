//! The budget of requests that all readers of one source share (I6).
//!
//! A driver asks before every request. The budget that counts across workers lives with the caller, over a
//! database; [`LocalBudget`] counts inside one process and serves `check`, `discover` and tests.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The name and size of a budget, from a connector's `rate_limit`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// What readers share: two connectors with one bucket name draw from the same budget.
    pub name: String,
    /// How many requests are allowed in each `per`.
    pub requests: u32,
    /// The length of the window.
    pub per: Duration,
}

impl Bucket {
    /// The distance at which requests may follow each other for ever.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.per / self.requests.max(1)
    }
}

/// Permission to send requests, counted over everyone who draws from a bucket.
pub trait RequestBudget: Send + Sync + fmt::Debug {
    /// Takes one request from the bucket, waiting a little where that is enough. `Err` is how long the wait
    /// would be when it is too long to hold a slot for: the read then ends as throttled.
    fn acquire<'a>(&'a self, bucket: &'a Bucket) -> BoxFuture<'a, Result<(), Duration>>;

    /// The source asked for silence: nobody draws from the bucket for `pause` from now on.
    fn throttled<'a>(&'a self, bucket: &'a Bucket, pause: Duration) -> BoxFuture<'a, ()>;
}

/// The longest wait that is slept through while a slot is held; beyond it the slot is given back.
pub(crate) const WAIT_INSIDE_MAX: Duration = Duration::from_secs(5);

/// A budget for one process.
#[derive(Debug, Default)]
pub struct LocalBudget {
    /// Per bucket, the instant at which a budget drawn at its steady rate would be full again.
    full_at: Mutex<HashMap<String, Instant>>,
}

impl LocalBudget {
    /// Draws one request (generic cell rate algorithm) and says how long to wait before it is sent.
    async fn draw(&self, bucket: &Bucket) -> Result<Duration, Duration> {
        let now = Instant::now();
        let mut all = self.full_at.lock().await;
        let full_at = all.get(&bucket.name).copied().unwrap_or(now).max(now);
        let burst = bucket.interval() * bucket.requests.saturating_sub(1);
        let wait = full_at.duration_since(now).saturating_sub(burst);
        if wait > WAIT_INSIDE_MAX {
            return Err(wait);
        }
        all.insert(bucket.name.clone(), full_at + bucket.interval());
        Ok(wait)
    }
}

impl RequestBudget for LocalBudget {
    fn acquire<'a>(&'a self, bucket: &'a Bucket) -> BoxFuture<'a, Result<(), Duration>> {
        Box::pin(async move {
            let wait = self.draw(bucket).await?;
            tokio::time::sleep(wait).await;
            Ok(())
        })
    }

    fn throttled<'a>(&'a self, bucket: &'a Bucket, pause: Duration) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let burst = bucket.interval() * bucket.requests.saturating_sub(1);
            let silent_until = Instant::now() + pause + burst;
            let mut all = self.full_at.lock().await;
            let full_at = all.entry(bucket.name.clone()).or_insert(silent_until);
            *full_at = (*full_at).max(silent_until);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> Bucket {
        Bucket { name: "crm".into(), requests: 10, per: Duration::from_secs(1) }
    }

    #[tokio::test(start_paused = true)]
    async fn i6_a_bucket_never_gives_more_than_its_rate_after_the_burst() {
        let (budget, started) = (LocalBudget::default(), Instant::now());
        for _ in 0..30 {
            budget.acquire(&bucket()).await.unwrap();
        }
        // Ten at once, twenty more at ten a second.
        assert_eq!(started.elapsed().as_millis(), 2000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_pause_is_answered_with_its_length_instead_of_a_wait() {
        let budget = LocalBudget::default();
        budget.throttled(&bucket(), Duration::from_mins(1)).await;
        assert_eq!(budget.acquire(&bucket()).await, Err(Duration::from_mins(1)));
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(budget.acquire(&bucket()).await, Ok(()));
    }
}
