//! One execution of a job, as the job itself sees it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Claimed, Fence, JobId, finish::storable, lease, schedule};

/// How far a running job has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done so far.
    pub done: u64,
    /// Units in all, where that is known.
    pub total: Option<u64>,
    /// What a person should read.
    pub message: String,
}

/// The attempt that is running now: who it is, whether it should stop, and how it says that it gets on.
///
/// Clones speak of the same attempt.
#[derive(Debug, Clone)]
pub struct Attempt(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    claimed: Arc<Claimed>,
    control: PgPool,
    signals: Arc<Signals>,
}

/// What the engine tells the attempt and hears from it, between heartbeats.
#[derive(Debug)]
pub(crate) struct Signals {
    /// What the worker tells all of its attempts.
    pub orders: Arc<Orders>,
    /// Somebody asked that the job be cancelled.
    pub cancel: CancellationToken,
    /// The lease is gone: nothing this attempt does counts any more.
    pub lost: CancellationToken,
    pub pulse: Pulse,
}

/// What a worker tells all of its attempts at once.
#[derive(Debug)]
pub(crate) struct Orders {
    /// The worker is stopping: put the progress in order and return.
    pub stop: CancellationToken,
    /// The grace time is over: what still runs is dropped and handed back.
    pub abort: CancellationToken,
}

/// What the next heartbeat writes for the job.
#[derive(Debug)]
pub(crate) struct Pulse {
    checkpointed: AtomicBool,
    progress: Mutex<Option<Progress>>,
    /// Wakes the heartbeat early.
    nudge: Arc<Notify>,
}

impl Pulse {
    pub(crate) fn new(nudge: Arc<Notify>) -> Self {
        Self { checkpointed: AtomicBool::new(false), progress: Mutex::new(None), nudge }
    }

    pub(crate) fn checkpointed(&self) -> bool {
        self.checkpointed.load(Ordering::Relaxed)
    }

    pub(crate) fn has_progress(&self) -> bool {
        self.progress.lock().expect("no holder of this lock can panic").is_some()
    }

    fn put_progress(&self, progress: Progress) {
        *self.progress.lock().expect("no holder of this lock can panic") = Some(progress);
    }

    pub(crate) fn take_progress(&self) -> Option<Progress> {
        self.progress.lock().expect("no holder of this lock can panic").take()
    }
}

impl Attempt {
    pub(crate) fn new(claimed: Arc<Claimed>, control: PgPool, signals: Arc<Signals>) -> Self {
        Self(Arc::new(Inner { claimed, control, signals }))
    }

    /// The job being executed.
    #[must_use]
    pub fn job(&self) -> JobId {
        self.0.claimed.id
    }

    /// This attempt's fence: what every effect must be checked against.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.0.claimed.fence
    }

    /// The how-manieth execution this is, from 1.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.0.claimed.attempt
    }

    /// The queue it was claimed from.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.0.claimed.queue
    }

    /// For whom it runs.
    #[must_use]
    pub fn tenant(&self) -> Option<Uuid> {
        self.0.claimed.tenant
    }

    /// The W3C trace context in which the job was enqueued.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.0.claimed.traceparent.as_deref()
    }

    /// Asks the database whether the lease is still this attempt's.
    ///
    /// A resource elsewhere is fenced by raising a fence there first and calling this afterwards: if the lease stood
    /// after the raise, no older attempt can write past it.
    pub async fn confirm(&self) -> Result<bool, sqlx::Error> {
        lease::confirm(&self.0.control, self.job(), self.fence()).await
    }

    /// The fire time for which a schedule enqueued the job, whenever it came to run; none if no schedule did.
    ///
    /// The time that the cron line names, without jitter: what a nightly job takes for "tonight". One look-up.
    pub async fn fire_at(&self) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
        schedule::fire::of_job(&mut *self.0.control.acquire().await?, self.job()).await
    }

    /// Says that progress was committed which the next attempt will not have to repeat.
    ///
    /// A worker that dies after this is not held against the job. Cheap to call after every step.
    pub fn checkpointed(&self) {
        if !self.0.signals.pulse.checkpointed.swap(true, Ordering::Relaxed) {
            self.0.signals.pulse.nudge.notify_one();
        }
    }

    /// Says how far the job has come; written with the next heartbeat, at most once a second.
    pub fn progress(&self, mut progress: Progress) {
        // One message that Postgres cannot hold would keep every lease of the worker from being renewed.
        progress.message = storable(&progress.message);
        self.0.signals.pulse.put_progress(progress);
    }

    /// Whether the job should put its progress in order and return: its worker is stopping
    /// ([`JobError::hand_back`](crate::JobError::hand_back)), it was cancelled, or its lease is lost.
    #[must_use]
    pub fn should_stop(&self) -> bool {
        let signals = &self.0.signals;
        signals.orders.stop.is_cancelled() || signals.cancel.is_cancelled() || signals.lost.is_cancelled()
    }

    /// Whether somebody asked that the job be cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.signals.cancel.is_cancelled()
    }

    /// Returns once [`should_stop`](Self::should_stop) is true.
    pub async fn stopped(&self) {
        let signals = &self.0.signals;
        tokio::select! {
            () = signals.orders.stop.cancelled() => {}
            () = signals.cancel.cancelled() => {}
            () = signals.lost.cancelled() => {}
        }
    }
}

/// How long a cancelled job may go on to put its progress in order before it is dropped.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(5);
