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
    Ring, Span, WorkerRecord,
    bell::{Bell, Wake},
    bulk, dependency,
    dependency::Released,
    enqueue, explain, history, inspect, limit,
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

    /// Wakes whoever waits for what has just been committed.
    pub(crate) async fn wake(&self, wake: Wake) {
        for job in wake.told {
            self.bell.ring_cancel(job).await;
        }
        let mut ring = wake.ring;
        if !wake.awaited.is_empty() {
            let released = async {
                let mut conn = self.pool.acquire().await?;
                Ok(dependency::release_cancelled(&mut conn, wake.awaited).await)
            };
            ring.queues.extend(dependency::or_swept(released.await).queues);
        }
        self.ring(ring).await;
    }

    /// Calls a job off; see [`Cancelled`] for what that can mean. `by` names who asked, for the job's record.
    pub async fn cancel(&self, id: JobId, by: &str) -> Result<Cancelled, sqlx::Error> {
        let mut intervention = self.intervene().await?;
        let cancelled = intervention.cancel(id, by).await?;
        intervention.commit().await?;
        Ok(cancelled)
    }

    /// See [`Intervention::retry`].
    pub async fn retry(&self, id: JobId) -> Result<(), RetryRefused> {
        let mut intervention = self.intervene().await?;
        intervention.retry(id).await?;
        Ok(intervention.commit().await?)
    }

    /// See [`Intervention::release`].
    pub async fn release(&self, id: JobId, by: &str) -> Result<(), RetryRefused> {
        let mut intervention = self.intervene().await?;
        intervention.release(id, by).await?;
        Ok(intervention.commit().await?)
    }

    /// See [`Intervention::freeze`].
    pub async fn freeze(&self, tenant: Uuid, by: &str, reason: &str) -> Result<u64, sqlx::Error> {
        let mut intervention = self.intervene().await?;
        let frozen = intervention.freeze(tenant, by, reason).await?;
        intervention.commit().await?;
        Ok(frozen)
    }

    /// See [`Intervention::thaw`].
    pub async fn thaw(&self, tenant: Uuid) -> Result<Option<u64>, sqlx::Error> {
        let mut intervention = self.intervene().await?;
        let thawed = intervention.thaw(tenant).await?;
        intervention.commit().await?;
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

    /// See [`Intervention::snooze`].
    pub async fn snooze(&self, id: JobId, until: DateTime<Utc>, by: &str) -> Result<(), ChangeRefused> {
        let mut intervention = self.intervene().await?;
        intervention.snooze(id, until, by).await?;
        Ok(intervention.commit().await?)
    }

    /// See [`Intervention::reprioritise`].
    pub async fn reprioritise(&self, id: JobId, to: Priority) -> Result<(), ChangeRefused> {
        let mut intervention = self.intervene().await?;
        intervention.reprioritise(id, to).await?;
        Ok(intervention.commit().await?)
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
        self.wake(wake).await;
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

    /// See [`Intervention::pause`].
    pub async fn pause(&self, queue: &str, by: &str, reason: Option<&str>) -> Result<(), sqlx::Error> {
        let mut intervention = self.intervene().await?;
        intervention.pause(queue, by, reason).await?;
        intervention.commit().await
    }

    /// See [`Intervention::resume`].
    pub async fn resume(&self, queue: &str) -> Result<bool, sqlx::Error> {
        let mut intervention = self.intervene().await?;
        let opened = intervention.resume(queue).await?;
        intervention.commit().await?;
        Ok(opened)
    }

    /// See [`Intervention::set_limit`].
    pub async fn set_limit(&self, limit: &Limit) -> Result<(), LimitError> {
        let mut intervention = self.intervene().await?;
        intervention.set_limit(limit).await?;
        Ok(intervention.commit().await?)
    }

    /// See [`Intervention::clear_limit`].
    pub async fn clear_limit(&self, name: &LimitName) -> Result<bool, LimitError> {
        let mut intervention = self.intervene().await?;
        let existed = intervention.clear_limit(name).await?;
        intervention.commit().await?;
        Ok(existed)
    }

    /// All limits.
    pub async fn limits(&self) -> Result<Vec<Limit>, sqlx::Error> {
        limit::list(&mut *self.pool.acquire().await?).await
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
