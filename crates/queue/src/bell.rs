//! Waking workers sooner than their next poll.
//!
//! Polling is the truth; a notification only saves time, and a lost one costs at most a poll. `NOTIFY` takes a lock on
//! the whole cluster at commit, so it is sent after a producer's commit, on a connection of its own, and at most once
//! per queue in a few milliseconds: a claimer that was just woken polls that often by itself.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::Mutex;
use tracing::debug;

use crate::{
    Enqueued, JobId, NewJob,
    connection::{Dedicated, within},
    dependency,
};

/// Carries the name of a queue that has a new job.
pub(crate) const QUEUE_CHANNEL: &str = "queue_bell";
/// Carries the id of a running job that was cancelled.
pub(crate) const CANCEL_CHANNEL: &str = "queue_cancel";

/// The shortest time between two notifications for one queue; claimers poll this often after work was found.
pub(crate) const QUIET: Duration = Duration::from_millis(5);

/// How long a producer, whose jobs are committed, may be held up by a connection that does not answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Which queues to ring for, once the transaction that enqueued has committed.
#[derive(Debug, Clone, Default)]
#[must_use = "ring it after the commit, or the jobs wait for the next poll"]
pub struct Ring {
    pub(crate) queues: BTreeSet<String>,
    /// Jobs that wait for others which were there before them: their ends must be looked out for.
    pub(crate) waiters: Vec<JobId>,
}

impl Ring {
    pub(crate) fn of(jobs: &[NewJob], enqueued: &[Enqueued]) -> Self {
        let queues = jobs.iter().map(|job| job.queue.clone()).collect();
        Self { queues, waiters: dependency::to_watch(jobs, enqueued) }
    }

    pub(crate) fn of_queues(queues: impl IntoIterator<Item = String>) -> Self {
        Self { queues: queues.into_iter().collect(), waiters: Vec::new() }
    }

    /// Adds another's queues.
    pub fn and(mut self, other: Self) -> Self {
        self.queues.extend(other.queues);
        self.waiters.extend(other.waiters);
        self
    }
}

/// Whom to wake after the commit.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    pub ring: Ring,
    /// Running jobs that were asked to stop.
    pub told: Vec<JobId>,
    /// Cancelled jobs that others wait for.
    pub awaited: Vec<i64>,
}

/// One per process.
#[derive(Debug)]
pub(crate) struct Bell(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    conn: Dedicated,
    rung: HashMap<String, Instant>,
}

impl Bell {
    pub(crate) fn new(options: &PgConnectOptions) -> Self {
        // A notification is no data: its commit need not wait for the disk.
        let options = options.clone().options([("synchronous_commit", "off")]);
        Self(Mutex::new(Inner { conn: Dedicated::new("bell", &options), rung: HashMap::new() }))
    }

    /// Rings for the queues. A failure is only worth a line in the log: the next poll finds the jobs.
    pub(crate) async fn ring(&self, ring: Ring) {
        let mut inner = self.0.lock().await;
        let Inner { conn, rung } = &mut *inner;
        let due: Vec<String> = ring
            .queues
            .into_iter()
            .filter(|queue| rung.get(queue).is_none_or(|at| at.elapsed() >= QUIET))
            .collect();
        if due.is_empty() {
            return;
        }
        let sent = within(ANSWER_MAX, notify_queues(conn, &due)).await;
        match sent {
            Ok(()) => rung.extend(due.into_iter().map(|queue| (queue, Instant::now()))),
            Err(error) => conn.unrung(&error),
        }
    }

    pub(crate) async fn ring_cancel(&self, job: JobId) {
        let conn = &mut self.0.lock().await.conn;
        if let Err(error) = within(ANSWER_MAX, notify_cancel(conn, job)).await {
            conn.unrung(&error);
        }
    }
}

impl Dedicated {
    fn unrung(&mut self, error: &sqlx::Error) {
        debug!(error = error as &dyn std::error::Error, "the bell could not be rung");
        self.failed(error);
    }
}

async fn notify_queues(conn: &mut Dedicated, queues: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- queue.ring
        select pg_notify($1, name) from unnest($2::text[]) as name",
        QUEUE_CHANNEL,
        queues
    )
    .fetch_all(conn.get().await?)
    .await
    .map(drop)
}

async fn notify_cancel(conn: &mut Dedicated, job: JobId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- queue.ring_cancel
        select pg_notify($1, $2)",
        CANCEL_CHANNEL,
        job.to_string()
    )
    .fetch_all(conn.get().await?)
    .await
    .map(drop)
}
