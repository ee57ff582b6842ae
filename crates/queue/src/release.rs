//! Giving a lease back before the job is done: to try again later, to wait, or because the worker stops.

use std::{collections::HashSet, time::Duration};

use sqlx::PgConnection;

use crate::{
    JobId, WaitReason,
    finish::{Ended, storable},
    outcome::{Failure, Outcome},
};

/// What a returning attempt asks for.
struct Return<'a> {
    after: Duration,
    reason: WaitReason,
    note: &'a str,
    failure: Option<&'a Failure>,
}

impl<'a> Return<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Retry { failure, after } => Self {
                after: *after,
                reason: WaitReason::Backoff,
                note: &failure.error,
                failure: Some(failure),
            },
            Outcome::Later { after, reason, note } => {
                Self { after: *after, reason: *reason, note, failure: None }
            }
            _ => unreachable!("only returning outcomes are released"),
        }
    }
}

/// Puts the jobs back and answers which ones went: the others are cancelled or belong to a newer attempt.
///
/// An attempt that ended by itself has not killed its worker: it is no longer a suspect. One that was handed back has
/// proved nothing and stays what it was, with its place in the lane.
pub(crate) async fn release(
    conn: &mut PgConnection,
    returning: &[&Ended],
) -> Result<HashSet<JobId>, sqlx::Error> {
    let returns: Vec<Return<'_>> = returning.iter().map(|a| Return::of(&a.outcome)).collect();
    let ids: Vec<i64> = returning.iter().map(|a| a.id.0).collect();
    let fences: Vec<i64> = returning.iter().map(|a| a.fence.0).collect();
    let workers: Vec<i64> = returning.iter().map(|a| a.worker).collect();
    let waited: Vec<f64> = returning.iter().map(|a| a.waited.as_secs_f64()).collect();
    let delays: Vec<f64> = returns.iter().map(|r| r.after.as_secs_f64()).collect();
    let reasons: Vec<i16> = returns.iter().map(|r| r.reason.code()).collect();
    let notes: Vec<Option<String>> =
        returns.iter().map(|r| Some(storable(r.note)).filter(|note| !note.is_empty())).collect();
    let hows: Vec<Option<i16>> = returns.iter().map(|r| r.failure.map(|f| f.how.code())).collect();
    let classes: Vec<Option<&str>> = returns.iter().map(|r| r.failure.map(|f| f.class.name())).collect();
    let rows = sqlx::query_scalar!(
        r#"-- queue.release
        with r as (
            select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::float8[], $5::smallint[], $6::text[],
                                 $7::smallint[], $8::text[], $9::float8[])
                as r(id, fence, worker, delay, reason, note, how, class, waited)
        ), moved as (
            update queue.job j
            set state = 0, fence = nextval('queue.fence'), worker = null, lease_expires_at = null, governed = null,
                run_at = case when r.reason = 4 then j.run_at else now() + make_interval(secs => r.delay) end,
                failures = j.failures + (r.how is not null)::int,
                losses = case when r.reason = 4 then j.losses else 0 end,
                crashes = case when j.checkpointed then 0 else j.crashes end,
                suspect = j.suspect and r.reason = 4 and not j.checkpointed,
                reason = r.reason, note = r.note
            from r where j.id = any($1) and j.id = r.id and j.fence = r.fence and not j.cancel_requested
            returning j.id, r.fence, j.fence as fence_now, j.started_at, r.worker, j.attempt, r.how, r.class, r.note,
                j.run_at, j.reason, r.waited
        ), explained as (
            insert into queue.reason_change (job, fence, at, due_at, started_at, until, reason, evidence)
            select id, fence_now, now(), started_at - make_interval(secs => waited), started_at, run_at, reason, note
            from moved
        ), recorded as (
            insert into queue.attempt (job, fence, started_at, finished_at, worker, number, outcome, class, error)
            select id, fence, started_at, now(), worker, attempt, how, class, coalesce(note, '')
            from moved where how is not null
        )
        select id as "id!" from moved"#,
        &ids,
        &fences,
        &workers,
        &delays,
        &reasons,
        &notes as _,
        &hows as _,
        &classes as _,
        &waited,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(JobId).collect())
}

/// Gives back the jobs that this worker leases in the queue without knowing it: the claim's answer was lost.
///
/// No claim of the worker in this queue may be under way meanwhile. One that was cancelled is left to its lease: given
/// back, it would start again.
pub(crate) async fn disown(
    conn: &mut PgConnection,
    worker: i64,
    queue: &str,
    known: &[i64],
) -> Result<u64, sqlx::Error> {
    let disowned = sqlx::query!(
        "-- queue.disown
        update queue.job
        set state = 0, fence = nextval('queue.fence'), worker = null, lease_expires_at = null, reason = 4,
            governed = null
        where state = 1 and worker = $1 and queue = $2 and id <> all($3) and not cancel_requested",
        worker,
        queue,
        known
    )
    .execute(conn)
    .await?;
    Ok(disowned.rows_affected())
}
