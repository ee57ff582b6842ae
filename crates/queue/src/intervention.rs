//! What an operator does to jobs, queues, limits and schedules, together with what belongs to it.
//!
//! Promises: all verbs of one intervention and whatever else is written on its [connection](Intervention::connection),
//! such as the record of who did it, commit together or not at all; workers are woken after the commit.
//!
//! The verbs of the same names on [`Queue`] are an intervention each.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use crate::{
    Cancelled, ChangeRefused, EnqueueError, Enqueued, JobId, Limit, LimitError, LimitName, NewJob, Priority,
    Queue, RetryRefused, Ring, bell::Wake, cancel, enqueue, forget, freeze, history, limit, pause,
    reprioritise, retry, snooze,
};

/// An operator's transaction; dropped without [`commit`](Self::commit), it never was.
#[derive(Debug)]
#[must_use = "nothing is done before it is committed"]
pub struct Intervention {
    queue: Queue,
    tx: Transaction<'static, Postgres>,
    wake: Wake,
}

impl Queue {
    /// Begins an intervention.
    pub async fn intervene(&self) -> Result<Intervention, sqlx::Error> {
        // Before the transaction: what it may write in history has its partition, whose making takes locks.
        history::ensure_partitions(&mut *self.pool().acquire().await?).await?;
        let tx = self.pool().begin().await?;
        Ok(Intervention { queue: self.clone(), tx, wake: Wake::default() })
    }
}

impl Intervention {
    /// The transaction's connection, for what is to commit with it.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// Makes it durable, then wakes whoever waits for it.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.tx.commit().await?;
        self.queue.wake(self.wake).await;
        Ok(())
    }

    pub(crate) fn then_ring(&mut self, ring: Ring) {
        self.wake.ring = std::mem::take(&mut self.wake.ring).and(ring);
    }

    fn then_ring_queue(&mut self, queue: &str) {
        self.then_ring(Ring::of_queues([queue.to_owned()]));
    }

    /// Enqueues all of the jobs or none, and says in their order what became of each.
    pub async fn enqueue(&mut self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, EnqueueError> {
        let enqueued = enqueue::enqueue(&mut self.tx, jobs).await?;
        self.then_ring(Ring::of(jobs, &enqueued));
        Ok(enqueued)
    }

    /// Enqueues the job once per (`scope`, `key`); see [`Queue::enqueue_once`].
    pub async fn enqueue_once(
        &mut self,
        scope: &str,
        key: &str,
        window: Duration,
        job: NewJob,
    ) -> Result<Enqueued, EnqueueError> {
        let enqueued = enqueue::enqueue_once(&mut self.tx, scope, key, window, &job).await?;
        self.then_ring(Ring::of(&[job], &[enqueued]));
        Ok(enqueued)
    }

    /// Calls a job off; see [`Cancelled`] for what that can mean. `by` names who asked, for the job's record.
    pub async fn cancel(&mut self, id: JobId, by: &str) -> Result<Cancelled, sqlx::Error> {
        let (cancelled, wake) = cancel::cancel(&mut self.tx, id, by).await?;
        self.wake.told.extend(wake.told);
        self.wake.awaited.extend(wake.awaited);
        Ok(cancelled)
    }

    /// Makes a job that rests or waits for its time claimable at once, with all its attempts before it.
    ///
    /// One that failed by a dependency, or was cancelled while it waited, waits again for those that have not succeeded
    /// by now, and is refused while one of them rests. Jobs that waited for it keep what became of them.
    pub async fn retry(&mut self, id: JobId) -> Result<(), RetryRefused> {
        let ring = retry::retry(&mut self.tx, id).await?;
        self.then_ring(ring);
        Ok(())
    }

    /// Lets a quarantined job run again, alone. `by` names who said so.
    pub async fn release(&mut self, id: JobId, by: &str) -> Result<(), RetryRefused> {
        let queue = retry::unquarantine(&mut self.tx, id, by).await?;
        self.then_ring_queue(&queue);
        Ok(())
    }

    /// Lets a job that is ready run no earlier than this, by the database's clock. `by` names who asked.
    pub async fn snooze(&mut self, id: JobId, until: DateTime<Utc>, by: &str) -> Result<(), ChangeRefused> {
        snooze::snooze_one(&mut self.tx, id, until, by).await
    }

    /// Gives a job that is ready or waits another priority.
    pub async fn reprioritise(&mut self, id: JobId, to: Priority) -> Result<(), ChangeRefused> {
        let queue = reprioritise::reprioritise_one(&mut self.tx, id, to).await?;
        self.then_ring_queue(&queue);
        Ok(())
    }

    /// Makes the tenant's jobs wait until they are thawed, and answers how many. What runs goes on; when it comes back, it
    /// waits within a second.
    pub async fn freeze(&mut self, tenant: Uuid, by: &str, reason: &str) -> Result<u64, sqlx::Error> {
        freeze::freeze(&mut self.tx, tenant, by, reason).await
    }

    /// Lets the tenant's jobs run again, and answers how many had waited; `None` if they were not frozen.
    pub async fn thaw(&mut self, tenant: Uuid) -> Result<Option<u64>, sqlx::Error> {
        freeze::thaw(&mut self.tx, tenant).await
    }

    /// Closes a queue: it takes jobs in and gives none out. What runs goes on.
    pub async fn pause(&mut self, queue: &str, by: &str, reason: Option<&str>) -> Result<(), sqlx::Error> {
        pause::pause(&mut self.tx, queue, by, reason).await
    }

    /// Opens a queue and answers whether it had been closed.
    pub async fn resume(&mut self, queue: &str) -> Result<bool, sqlx::Error> {
        let opened = pause::resume(&mut self.tx, queue).await?;
        self.then_ring_queue(queue);
        Ok(opened)
    }

    /// Sets a limit, in the place of one of the same name. It holds from the commit on, over any number of workers;
    /// until then plain claims wait.
    pub async fn set_limit(&mut self, limit: &Limit) -> Result<(), LimitError> {
        limit::set(&mut self.tx, limit).await?;
        self.ring_for(&limit.name());
        Ok(())
    }

    /// Removes a limit and answers whether there was one.
    pub async fn clear_limit(&mut self, name: &LimitName) -> Result<bool, LimitError> {
        let existed = limit::clear(&mut self.tx, name).await?;
        self.ring_for(name);
        Ok(existed)
    }

    /// Puts `other` in the place of `by` wherever a record names who paused, froze, cancelled, snoozed or released.
    /// Payloads are not looked into. Reads all of history, so it is slow.
    pub async fn forget(&mut self, by: &str, other: &str) -> Result<(), sqlx::Error> {
        forget::forget(&mut self.tx, by, other).await
    }

    /// More may be allowed now; workers of other queues find out by polling.
    fn ring_for(&mut self, name: &LimitName) {
        if let Some(queue) = name.queue() {
            self.then_ring_queue(queue);
        }
    }
}
