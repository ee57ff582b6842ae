//! Ending attempts: the jobs of a batch leave the live table for history, or go back to wait, in one statement each.
//!
//! Every statement matches on id and fence alone. A predicate on the state or the lease would let the planner prefer a
//! partial index that its statistics believe empty, and throughput falls fifty-fold.

use std::{collections::HashSet, sync::Arc, time::Duration};

use sqlx::{Connection, PgConnection};

use crate::{
    EnqueueError, Fence, JobId, NewJob,
    dependency::{self, Dependents, End},
    enqueue::{self, Columns},
    outcome::{AttemptOutcome, Done, Failure, Outcome},
    release,
};

/// The largest result kept with a finished job.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// An attempt that ended, with the lease it held.
#[derive(Debug)]
pub(crate) struct Ended {
    pub id: JobId,
    pub fence: Fence,
    pub worker: i64,
    pub queue: Arc<str>,
    pub kind: Arc<str>,
    pub ran: Duration,
    pub waited: Duration,
    pub outcome: Outcome,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Jobs that had been lost to a newer attempt: nothing was written of them.
    pub lost: HashSet<JobId>,
    /// What has to be done about dependencies, in statements of their own. Empty for jobs that know of none.
    pub dependents: Dependents,
}

/// Writes the outcomes and answers which jobs had been lost to a newer attempt.
///
/// Safe to repeat: what was written before no longer matches its fence and comes back as lost.
pub(crate) async fn settle(conn: &mut PgConnection, ended: &mut [Ended]) -> Result<Settled, sqlx::Error> {
    ended.sort_unstable_by_key(|e| e.id);
    let (mut resting, mut returning) = (Vec::new(), Vec::new());
    for attempt in &*ended {
        match attempt.outcome {
            Outcome::Succeeded(_) | Outcome::Failed(_) | Outcome::Cancelled { .. } => resting.push(attempt),
            Outcome::Retry { .. } | Outcome::Later { .. } => returning.push(attempt),
            Outcome::Fenced => {}
        }
    }
    let endings: Vec<Ending> = resting.iter().map(|a| Ending::of(a)).collect();
    let mut gone = if resting.iter().any(|attempt| attempt.leaves_waiters()) {
        finish_with_waiters(conn, &endings).await?
    } else {
        finish(conn, &endings).await?
    };
    if !returning.is_empty() {
        gone.written.extend(release::release(conn, &returning).await?);
        // What did not go back was cancelled meanwhile, or is no longer ours: the fence tells.
        let left = returning.iter().filter(|a| !gone.written.contains(&a.id));
        let cancelled: Vec<Ending> = left.map(|a| Ending::cancelled(a)).collect();
        let cancelled = finish(conn, &cancelled).await?;
        gone.written.extend(cancelled.written);
        gone.dependents.ended.extend(cancelled.dependents.ended);
    }
    let lost = ended.iter().map(|a| a.id).filter(|id| !gone.written.contains(id)).collect();
    Ok(Settled { lost, dependents: gone.dependents })
}

impl Ended {
    /// Whether its follow-ups wait, for each other or for other jobs: that takes more than one statement.
    pub(crate) fn leaves_waiters(&self) -> bool {
        matches!(&self.outcome, Outcome::Succeeded(done) if dependency::any(&done.follow_ups))
    }
}

/// What left the live table.
#[derive(Debug, Default)]
struct Gone {
    written: HashSet<JobId>,
    dependents: Dependents,
}

/// A row of the finishing statement.
struct Ending<'a> {
    attempt: &'a Ended,
    outcome: i16,
    output: Option<&'a serde_json::Value>,
    note: Option<String>,
    failure: Option<(AttemptOutcome, &'static str, String)>,
    follow_ups: &'a [NewJob],
}

/// Codes of `queue.job_history.outcome`.
pub(crate) const SUCCEEDED: i16 = 1;
pub(crate) const FAILED: i16 = 2;
pub(crate) const CANCELLED: i16 = 3;

impl<'a> Ending<'a> {
    fn of(attempt: &'a Ended) -> Self {
        let blank =
            Self { attempt, outcome: CANCELLED, output: None, note: None, failure: None, follow_ups: &[] };
        match &attempt.outcome {
            Outcome::Succeeded(done) => blank.succeeded(done),
            Outcome::Failed(Failure { how, class, error }) => Self {
                outcome: FAILED,
                note: Some(storable(error)),
                failure: Some((*how, class.name(), storable(error))),
                ..blank
            },
            Outcome::Cancelled { note } => Self { note: Some(storable(note)), ..blank },
            Outcome::Retry { .. } | Outcome::Later { .. } | Outcome::Fenced => {
                unreachable!("only resting outcomes are finished")
            }
        }
    }

    fn succeeded(self, done: &'a Done) -> Self {
        let too_large =
            done.output.as_ref().map(|output| output.to_string().len()).filter(|&len| len > OUTPUT_BYTES_MAX);
        let note = too_large
            .map(|len| format!("its output of {len} bytes was not kept: at most {OUTPUT_BYTES_MAX} are"));
        let output = done.output.as_ref().filter(|_| too_large.is_none());
        Self { outcome: SUCCEEDED, output, note, follow_ups: &done.follow_ups, ..self }
    }

    fn without_follow_ups(&self) -> Self {
        Self { note: self.note.clone(), failure: self.failure.clone(), follow_ups: &[], ..*self }
    }

    fn cancelled(attempt: &'a Ended) -> Self {
        let failure = match &attempt.outcome {
            Outcome::Retry { failure, .. } => {
                Some((failure.how, failure.class.name(), storable(&failure.error)))
            }
            _ => None,
        };
        let note = Some("cancelled while it ran".to_owned());
        Self { attempt, outcome: CANCELLED, output: None, note, failure, follow_ups: &[] }
    }
}

/// Text that Postgres can hold.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Ends jobs and enqueues follow-ups that wait, for those that were still ours: all in one transaction.
async fn finish_with_waiters(conn: &mut PgConnection, endings: &[Ending<'_>]) -> Result<Gone, sqlx::Error> {
    let mut tx = conn.begin().await?;
    let bare: Vec<Ending> = endings.iter().map(Ending::without_follow_ups).collect();
    let mut gone = finish(&mut tx, &bare).await?;
    for ending in endings.iter().filter(|ending| gone.written.contains(&ending.attempt.id)) {
        let follow_ups = ending.follow_ups;
        let enqueued = enqueue::enqueue(&mut tx, follow_ups).await.map_err(unstorable)?;
        dependency::trace_origin(&mut tx, ending.attempt.id, follow_ups, &enqueued).await?;
        gone.dependents.waiters.extend(dependency::to_watch(follow_ups, &enqueued));
    }
    tx.commit().await?;
    Ok(gone)
}

/// What is wrong with one job's follow-ups must fail that job, and not be taken for a database that is down.
fn unstorable(error: EnqueueError) -> sqlx::Error {
    match error {
        EnqueueError::Database(error) | EnqueueError::PayloadUnstorable(error) => error,
        refused => sqlx::Error::Encode(Box::new(refused)),
    }
}

async fn finish(conn: &mut PgConnection, endings: &[Ending<'_>]) -> Result<Gone, sqlx::Error> {
    if endings.is_empty() {
        return Ok(Gone::default());
    }
    let ids: Vec<i64> = endings.iter().map(|e| e.attempt.id.0).collect();
    let fences: Vec<i64> = endings.iter().map(|e| e.attempt.fence.0).collect();
    let outcomes: Vec<i16> = endings.iter().map(|e| e.outcome).collect();
    let outputs: Vec<Option<&serde_json::Value>> = endings.iter().map(|e| e.output).collect();
    let notes: Vec<Option<&str>> = endings.iter().map(|e| e.note.as_deref()).collect();
    let hows: Vec<Option<i16>> =
        endings.iter().map(|e| e.failure.as_ref().map(|(how, ..)| how.code())).collect();
    let classes: Vec<Option<&str>> =
        endings.iter().map(|e| e.failure.as_ref().map(|(_, class, _)| *class)).collect();
    let errors: Vec<Option<&str>> =
        endings.iter().map(|e| e.failure.as_ref().map(|(.., error)| error.as_str())).collect();
    let parents: Vec<i64> =
        endings.iter().flat_map(|e| e.follow_ups.iter().map(|_| e.attempt.id.0)).collect();
    let f = Columns::of(endings.iter().flat_map(|e| e.follow_ups));
    let rows = sqlx::query_file!(
        "src/finish.sql",
        &ids,
        &fences,
        &outcomes,
        &outputs as _,
        &notes as _,
        &hows as _,
        &classes as _,
        &errors as _,
        &parents,
        &f.queues as _,
        &f.kinds as _,
        &f.tenants as _,
        &f.priorities,
        &f.attempts_max,
        &f.run_at as _,
        &f.payloads as _,
        &f.unique_keys as _,
        &f.traceparents as _,
        &f.rate_keys as _,
    )
    .fetch_all(conn)
    .await?;
    let mut gone = Gone::default();
    for row in rows {
        gone.written.insert(JobId(row.id));
        gone.dependents.ended.extend(row.awaited.then_some(End { id: JobId(row.id), outcome: row.outcome }));
    }
    Ok(gone)
}
