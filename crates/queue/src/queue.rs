//! The queue as producers and operators hold it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::MigrateError,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use crate::{
    Attempt, AttemptRecord, BulkAction, BulkError, BulkFilter, BulkOutcome, BulkPlan, BulkPreview,
    BulkProgress, Cancelled, ChangeRefused, Dependencies, EnqueueError, Enqueued, Explanation, JobFilter,
    JobId, JobRecord, Limit, LimitError, LimitName, NewJob, Priority, QueueRecord, Retention, RetryRefused,
    Ring, Span, WorkerRecord, bell::Bell, bulk, cancel, dependency, dependency::Released, enqueue, explain,
    freeze, history, inspect, limit, pause, reprioritise, retry, snooze,
};

/// A handle on the queue's database; clones of the pool are cheap, so is this.
#[derive(Debug, Clone)]
pub struct Queue {
    pool: PgPool,
    bell: std::sync::Arc<Bell>,
}

/// Why the queue could not be reached or set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The database could not be reached or did not answer as expected.
    #[error("the queue's database failed")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the queue's schema could not be installed")]
    Schema(#[from] MigrateError),
}

impl Queue {
    /// Opens a pool of at most this many connections.
    pub async fn connect(options: PgConnectOptions, connections_max: u32) -> Result<Self, QueueError> {
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(Duration::from_secs(5))
            .connect_with(options)
            .await?;
        Ok(Self::new(pool))
    }

    /// Uses a pool that exists.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let bell = std::sync::Arc::new(Bell::new(&pool.connect_options()));
        Self { pool, bell }
    }

    /// The pool, for transactions in which jobs are enqueued.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Creates or updates the schema `queue` and the partitions of history. Harmless to repeat.
    pub async fn install(&self) -> Result<(), QueueError> {
        crate::migrations().run(&self.pool).await?;
        self.prepare_history().await?;
        Ok(())
    }

    /// Makes the partitions of history for the next days; workers do this by themselves.
    pub async fn prepare_history(&self) -> Result<(), QueueError> {
        Ok(history::ensure_partitions(&mut *self.pool.acquire().await?).await?)
    }

    /// Drops the history of days past the retention; workers do this by themselves.
    pub async fn drop_expired(&self, retention: Retention) -> Result<(), QueueError> {
        // On a connection of its own: a lock of the session must go with a caller that goes away in the middle.
        let mut conn = self.pool.acquire().await?.detach();
        history::drop_expired(&mut conn, retention).await?;
        Ok(conn.close().await?)
    }

    /// Enqueues one job in a transaction of its own.
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued, EnqueueError> {
        Ok(self.enqueue_all(&[job]).await?[0])
    }

    /// Enqueues all of the jobs or none, and says in their order what became of each.
    pub async fn enqueue_all(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, EnqueueError> {
        let mut conn = self.pool.acquire().await?;
        let enqueued = if jobs.iter().all(|job| job.unique_key.is_none() && job.after.is_empty()) {
            // A single statement, which needs no transaction around it.
            enqueue::enqueue(&mut conn, jobs).await?
        } else {
            let mut tx = conn.begin().await?;
            let enqueued = enqueue::enqueue(&mut tx, jobs).await?;
            tx.commit().await?;
            enqueued
        };
        drop(conn);
        self.ring(Ring::of(jobs, &enqueued)).await;
        Ok(enqueued)
    }

    /// Enqueues the jobs in the caller's transaction: they exist if and only if it commits.
    ///
    /// [`ring`](Self::ring) the answer after the commit; otherwise the jobs wait for the workers' next poll.
    pub async fn enqueue_in(
        &self,
        conn: &mut PgConnection,
        jobs: &[NewJob],
    ) -> Result<(Vec<Enqueued>, Ring), EnqueueError> {
        let enqueued = enqueue::enqueue(conn, jobs).await?;
        let ring = Ring::of(jobs, &enqueued);
        Ok((enqueued, ring))
    }

    /// Enqueues the job once per (`scope`, `key`): a repetition within `window` answers with the first job, even when
    /// that has finished, and another request under the same key is refused.
    pub async fn enqueue_once(
        &self,
        scope: &str,
        key: &str,
        window: Duration,
        job: NewJob,
    ) -> Result<Enqueued, EnqueueError> {
        let mut tx = self.pool.begin().await?;
        let enqueued = enqueue::enqueue_once(&mut tx, scope, key, window, &job).await?;
        tx.commit().await?;
        self.ring(Ring::of(&[job], &[enqueued])).await;
        Ok(enqueued)
    }

    /// Wakes the workers of the queues, and looks out for the ends of jobs that the new ones wait for.
    pub async fn ring(&self, mut ring: Ring) {
        if !ring.waiters.is_empty() {
            ring.queues.extend(self.watch(&ring.waiters).await.queues);
        }
        self.bell.ring(ring).await;
    }

    async fn watch(&self, waiters: &[JobId]) -> Released {
        let watched = async { dependency::watch(&mut *self.pool.acquire().await?, waiters).await };
        dependency::or_swept(watched.await)
    }

    /// Calls a job off; see [`Cancelled`] for what that can mean. `by` names who asked, for the job's record.
    pub async fn cancel(&self, id: JobId, by: &str) -> Result<Cancelled, sqlx::Error> {
        let mut conn = self.pool.acquire().await?;
        let (cancelled, released) = match cancel::cancel(&mut conn, id, by).await {
            Err(error) if history::is_missing_partition(&error) => {
                history::ensure_partitions(&mut conn).await?;
                cancel::cancel(&mut conn, id, by).await?
            }
            cancelled => cancelled?,
        };
        drop(conn);
        if cancelled == Cancelled::Told {
            self.bell.ring_cancel(id).await;
        }
        if !released.queues.is_empty() {
            self.ring(Ring::of_queues(released.queues)).await;
        }
        Ok(cancelled)
    }

    /// Makes a job that rests or waits for its time claimable at once, with all its attempts before it.
    ///
    /// One that failed by a dependency, or was cancelled while it waited, waits again for those that have not succeeded
    /// by now, and is refused while one of them rests. Jobs that waited for it keep what became of them.
    pub async fn retry(&self, id: JobId) -> Result<(), RetryRefused> {
        let mut tx = self.pool.begin().await?;
        let ring = retry::retry(&mut tx, id).await?;
        tx.commit().await?;
        self.ring(ring).await;
        Ok(())
    }

    /// Lets a quarantined job run again, alone. `by` names who said so.
    pub async fn release(&self, id: JobId, by: &str) -> Result<(), RetryRefused> {
        let queue = retry::unquarantine(&mut *self.pool.acquire().await?, id, by).await?;
        self.ring(Ring::of_queues([queue])).await;
        Ok(())
    }

    /// Makes the tenant's jobs wait until they are thawed, and answers how many. What runs goes on; when it comes back, it
    /// waits within a second.
    pub async fn freeze(&self, tenant: Uuid, by: &str, reason: &str) -> Result<u64, sqlx::Error> {
        let mut tx = self.pool.begin().await?;
        let frozen = freeze::freeze(&mut tx, tenant, by, reason).await?;
        tx.commit().await?;
        Ok(frozen)
    }

    /// Lets the tenant's jobs run again, and answers how many had waited; `None` if they were not frozen.
    pub async fn thaw(&self, tenant: Uuid) -> Result<Option<u64>, sqlx::Error> {
        let mut tx = self.pool.begin().await?;
        let thawed = freeze::thaw(&mut tx, tenant).await?;
        tx.commit().await?;
        Ok(thawed)
    }

    /// Why the job is where it is; `None` if there is no such job.
    pub async fn explain(&self, id: JobId) -> Result<Option<Explanation>, sqlx::Error> {
        explain::explain(&mut *self.pool.acquire().await?, id).await
    }

    /// What has kept the job from its enqueueing to now, or to its end.
    pub async fn timeline(&self, id: JobId) -> Result<Vec<Span>, sqlx::Error> {
        explain::timeline(&mut *self.pool.acquire().await?, id).await
    }

    /// Lets a job that is ready run no earlier than this, by the database's clock. `by` names who asked.
    pub async fn snooze(&self, id: JobId, until: DateTime<Utc>, by: &str) -> Result<(), ChangeRefused> {
        snooze::snooze_one(&mut *self.pool.acquire().await?, id, until, by).await
    }

    /// Gives a job that is ready or waits another priority.
    pub async fn reprioritise(&self, id: JobId, to: Priority) -> Result<(), ChangeRefused> {
        let queue = reprioritise::reprioritise_one(&mut *self.pool.acquire().await?, id, to).await?;
        self.ring(Ring::of_queues([queue])).await;
        Ok(())
    }

    /// Says what an action on the jobs that a filter admits would be about, and does nothing.
    pub async fn bulk_preview(
        &self,
        filter: BulkFilter,
        action: BulkAction,
    ) -> Result<BulkPreview, BulkError> {
        bulk::preview(&mut *self.pool.acquire().await?, filter, action).await
    }

    /// Carries out the next page of a plan for the attempt that holds the operation's job: at most `page` jobs, each
    /// acted on or skipped for good. `by` names who confirmed the plan. Harmless to repeat, also when the answer was lost.
    pub async fn bulk_step(
        &self,
        operation: &Attempt,
        plan: &BulkPlan,
        by: &str,
        page: u32,
    ) -> Result<BulkProgress, BulkError> {
        self.carry_out(bulk::Operation { job: operation.job(), fence: operation.fence() }, plan, by, page)
            .await
    }

    pub(crate) async fn carry_out(
        &self,
        operation: bulk::Operation,
        plan: &BulkPlan,
        by: &str,
        page: u32,
    ) -> Result<BulkProgress, BulkError> {
        let mut tx = self.pool.begin().await?;
        let (progress, wake) = bulk::step(&mut tx, operation, plan, by, page).await?;
        tx.commit().await?;
        for job in wake.told {
            self.bell.ring_cancel(job).await;
        }
        let mut ring = wake.ring;
        if !wake.awaited.is_empty() {
            let mut conn = self.pool.acquire().await?;
            ring.queues.extend(dependency::release_cancelled(&mut conn, wake.awaited).await.queues);
        }
        self.ring(ring).await;
        Ok(progress)
    }

    /// How far the operation of this job has come; none if it has not begun.
    pub async fn bulk_progress(&self, operation: JobId) -> Result<Option<BulkProgress>, sqlx::Error> {
        bulk::progress(&mut *self.pool.acquire().await?, operation).await
    }

    /// Why jobs were skipped by the operation of this job, the most frequent reasons first.
    pub async fn bulk_skipped(&self, operation: JobId) -> Result<Vec<BulkOutcome>, sqlx::Error> {
        bulk::outcomes(&mut *self.pool.acquire().await?, operation).await
    }

    /// Closes a queue: it takes jobs in and gives none out. What runs goes on.
    pub async fn pause(&self, queue: &str, by: &str, reason: Option<&str>) -> Result<(), sqlx::Error> {
        pause::pause(&mut *self.pool.acquire().await?, queue, by, reason).await
    }

    /// Opens a queue and answers whether it had been closed.
    pub async fn resume(&self, queue: &str) -> Result<bool, sqlx::Error> {
        let opened = pause::resume(&mut *self.pool.acquire().await?, queue).await?;
        self.ring(Ring::of_queues([queue.to_owned()])).await;
        Ok(opened)
    }

    /// Sets a limit, in the place of one of the same name. It holds from now on, over any number of workers.
    pub async fn set_limit(&self, limit: &Limit) -> Result<(), LimitError> {
        limit::set(&mut *self.pool.acquire().await?, limit).await?;
        self.ring_for(&limit.name()).await;
        Ok(())
    }

    /// Removes a limit and answers whether there was one.
    pub async fn clear_limit(&self, name: &LimitName) -> Result<bool, LimitError> {
        let existed = limit::clear(&mut *self.pool.acquire().await?, name).await?;
        self.ring_for(name).await;
        Ok(existed)
    }

    /// All limits.
    pub async fn limits(&self) -> Result<Vec<Limit>, sqlx::Error> {
        limit::list(&mut *self.pool.acquire().await?).await
    }

    /// More may be allowed now; workers of other queues find out by polling.
    async fn ring_for(&self, name: &LimitName) {
        if let Some(queue) = name.queue() {
            self.ring(Ring::of_queues([queue.to_owned()])).await;
        }
    }

    /// A job, live or finished.
    pub async fn get(&self, id: JobId) -> Result<Option<JobRecord>, sqlx::Error> {
        inspect::get(&mut *self.pool.acquire().await?, id).await
    }

    /// The newest jobs that the filter admits, newest first, at most `limit`.
    pub async fn list(&self, filter: &JobFilter, limit: u32) -> Result<Vec<JobRecord>, sqlx::Error> {
        inspect::list(&mut *self.pool.acquire().await?, filter, i64::from(limit)).await
    }

    /// For whom a job waits and who waits for it, counted, with some of them by name.
    pub async fn dependencies(&self, id: JobId) -> Result<Dependencies, sqlx::Error> {
        dependency::dependencies(&mut *self.pool.acquire().await?, id).await
    }

    /// A job's attempts that did not succeed, oldest first.
    pub async fn attempts(&self, id: JobId) -> Result<Vec<AttemptRecord>, sqlx::Error> {
        inspect::attempts(&mut *self.pool.acquire().await?, id).await
    }

    /// The queues that hold jobs or were ever paused.
    pub async fn queues(&self) -> Result<Vec<QueueRecord>, sqlx::Error> {
        inspect::queues(&mut *self.pool.acquire().await?).await
    }

    /// The living workers; with `all` the last thousand.
    pub async fn workers(&self, all: bool) -> Result<Vec<WorkerRecord>, sqlx::Error> {
        inspect::workers(&mut *self.pool.acquire().await?, all).await
    }
}
