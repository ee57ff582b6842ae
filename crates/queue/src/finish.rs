//! Ending attempts: the jobs of a batch leave the live table for history, or go back to wait, in one statement each.
//!
//! Every statement matches on id and fence alone. A predicate on the state or the lease would let the planner prefer a
//! partial index that its statistics believe empty, and throughput falls fifty-fold.

use std::{collections::HashSet, sync::Arc, time::Duration};

use sqlx::PgConnection;

use crate::{
    Fence, JobId, NewJob,
    enqueue::Columns,
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

/// Writes the outcomes and answers which jobs had been lost to a newer attempt.
///
/// Safe to repeat: what was written before no longer matches its fence and comes back as lost.
pub(crate) async fn settle(
    conn: &mut PgConnection,
    ended: &mut [Ended],
) -> Result<HashSet<JobId>, sqlx::Error> {
    ended.sort_unstable_by_key(|e| e.id);
    let (mut resting, mut returning) = (Vec::new(), Vec::new());
    for attempt in &*ended {
        match attempt.outcome {
            Outcome::Succeeded(_) | Outcome::Failed(_) | Outcome::Cancelled { .. } => resting.push(attempt),
            Outcome::Retry { .. } | Outcome::Later { .. } => returning.push(attempt),
            Outcome::Fenced => {}
        }
    }
    let mut written = finish(conn, resting.iter().map(|a| Ending::of(a)).collect()).await?;
    if !returning.is_empty() {
        written.extend(release::release(conn, &returning).await?);
        // What did not go back was cancelled meanwhile, or is no longer ours: the fence tells.
        let cancelled: Vec<Ending> =
            returning.iter().filter(|a| !written.contains(&a.id)).map(|a| Ending::cancelled(a)).collect();
        written.extend(finish(conn, cancelled).await?);
    }
    Ok(ended.iter().map(|a| a.id).filter(|id| !written.contains(id)).collect())
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

const SUCCEEDED: i16 = 1;
const FAILED: i16 = 2;
const CANCELLED: i16 = 3;

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

async fn finish(conn: &mut PgConnection, endings: Vec<Ending<'_>>) -> Result<HashSet<JobId>, sqlx::Error> {
    if endings.is_empty() {
        return Ok(HashSet::new());
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
    let rows = sqlx::query_file_scalar!(
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
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(JobId).collect())
}
