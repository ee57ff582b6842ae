//! Writes outcomes: whatever has gathered, one job or a thousand, in one batch. No timer, so a lone job does not wait.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use metrics::{counter, histogram};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::Shared;
use crate::{
    FailureClass, JobId,
    connection::{Dedicated, within},
    dependency::Dependents,
    finish::{self, Ended, Settled},
    history,
    outcome::{AttemptOutcome, Failure, Outcome},
};

/// The most outcomes in one statement.
const BATCH_MAX: usize = 1_000;

pub(super) struct Flusher {
    shared: Arc<Shared>,
    conn: Dedicated,
    incoming: Arc<Mutex<mpsc::UnboundedReceiver<Ended>>>,
}

impl Flusher {
    pub(super) fn new(shared: &Arc<Shared>, incoming: Arc<Mutex<mpsc::UnboundedReceiver<Ended>>>) -> Self {
        Self { shared: shared.clone(), conn: shared.dedicated("finish"), incoming }
    }

    /// Runs until `drained` fires: by then every lease is written or given up.
    pub(super) async fn run(mut self, drained: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            batch.clear();
            let incoming = self.incoming.clone();
            let gathered = async { incoming.lock().await.recv_many(&mut batch, BATCH_MAX).await };
            tokio::select! {
                biased;
                () = drained.cancelled() => return,
                count = gathered => if count == 0 { return },
            }
            // A database that is down is waited for, but not past the worker's own end.
            tokio::select! {
                biased;
                () = drained.cancelled() => return,
                () = self.flush(&mut batch) => {}
            }
        }
    }

    async fn flush(&mut self, batch: &mut [Ended]) {
        // Follow-ups that wait are a transaction of their own: what fails there is no business of the others.
        batch.sort_unstable_by_key(Ended::leaves_waiters);
        let (plain, rest) = batch.split_at_mut(batch.partition_point(|ended| !ended.leaves_waiters()));
        let mut lost = HashSet::new();
        for part in [plain, rest] {
            if !part.is_empty() {
                lost.extend(self.settle(part).await);
            }
        }
        for ended in batch.iter().filter(|ended| lost.contains(&ended.id)) {
            warn!(job.id = %ended.id, fence = %ended.fence, outcome = ended.outcome.label(),
                "the attempt had lost its lease: its outcome was not written");
        }
        measure(batch.iter().filter(|ended| !lost.contains(&ended.id)));
        self.wake_followers(batch);
        self.shared.held.let_go(batch.iter().map(|ended| (&ended.id, &ended.fence)));
    }

    /// Writes the batch. When one job's outcome cannot be stored, the batch is halved until that job stands alone.
    fn settle<'a>(&'a mut self, batch: &'a mut [Ended]) -> BoxFuture<'a, HashSet<JobId>> {
        Box::pin(async move {
            let settled = loop {
                match within(self.shared.options.lease, self.write(batch)).await {
                    Ok(settled) => {
                        self.conn.succeeded();
                        break Ok(settled);
                    }
                    Err(error) => {
                        if let Err(error) = self.conn.outlive(error).await {
                            break Err(error);
                        }
                    }
                }
            };
            match settled {
                Ok(settled) => {
                    self.release(settled.dependents).await;
                    settled.lost
                }
                Err(_) if batch.len() > 1 => {
                    let (left, right) = batch.split_at_mut(batch.len() / 2);
                    let mut lost = self.settle(left).await;
                    lost.extend(self.settle(right).await);
                    lost
                }
                Err(error) => self.settle_unstorable(&mut batch[0], &error).await,
            }
        })
    }

    /// Lets go those that waited, if any did.
    async fn release(&mut self, dependents: Dependents) {
        if dependents.is_empty() {
            return;
        }
        let conn = &mut self.conn;
        let released = async { dependents.let_go(conn.get().await?).await };
        match within(self.shared.options.lease, released).await {
            Ok(released) => self.shared.wake(released.queues.iter().map(String::as_str)),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "waiting jobs are left to the sweep");
                self.conn.failed(&error);
            }
        }
    }

    async fn write(&mut self, batch: &mut [Ended]) -> Result<Settled, sqlx::Error> {
        let conn = self.conn.get().await?;
        match finish::settle(conn, batch).await {
            Err(error) if history::is_missing_partition(&error) => {
                history::ensure_partitions(conn).await?;
                finish::settle(conn, batch).await
            }
            settled => settled,
        }
    }

    async fn settle_unstorable(&mut self, ended: &mut Ended, error: &sqlx::Error) -> HashSet<JobId> {
        if matches!(&ended.outcome, Outcome::Failed(failure) if failure.class == FailureClass::Poison) {
            error!(job.id = %ended.id, error = error as &dyn std::error::Error,
                "the job's end could not be written: its lease will run out");
            return HashSet::from([ended.id]);
        }
        ended.outcome = Outcome::Failed(Failure {
            how: AttemptOutcome::Failed,
            class: FailureClass::Poison,
            error: format!(
                "the job ended as {} but what it left cannot be stored: {error}",
                ended.outcome.label()
            ),
        });
        self.settle(std::slice::from_mut(ended)).await
    }

    /// Follow-ups for this worker's own queues need no notification: its claimers are woken directly.
    fn wake_followers(&self, batch: &[Ended]) {
        let queues: BTreeSet<&str> = batch
            .iter()
            .filter_map(|ended| match &ended.outcome {
                Outcome::Succeeded(done) => Some(done),
                _ => None,
            })
            .flat_map(|done| done.follow_ups.iter().map(|job| job.queue.as_str()))
            .collect();
        self.shared.wake(queues);
    }
}

/// One increment per kind and outcome of a batch, not per job.
fn measure<'a>(written: impl Iterator<Item = &'a Ended>) {
    let mut counts: HashMap<(&str, &str, &'static str), u64> = HashMap::new();
    for ended in written {
        *counts.entry((&ended.queue, &ended.kind, ended.outcome.label())).or_default() += 1;
        histogram!("tenure_job_wait_seconds").record(ended.waited.as_secs_f64());
        histogram!("tenure_job_run_seconds").record(ended.ran.as_secs_f64());
        debug!(job.id = %ended.id, job.kind = &*ended.kind, outcome = ended.outcome.label(), "finished");
    }
    for ((queue, kind, outcome), count) in counts {
        let labels =
            [("queue", queue.to_owned()), ("kind", kind.to_owned()), ("outcome", outcome.to_owned())];
        counter!("tenure_jobs_finished_total", &labels).increment(count);
    }
}
