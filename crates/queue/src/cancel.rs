//! Calling a job off.

use sqlx::PgConnection;

use crate::{JobId, bell::Wake};

/// What a cancellation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not started and never will.
    Never,
    /// It is running and is told within a heartbeat.
    Told,
    /// It was over already, or there is no such job.
    NotLive,
}

/// Cancels a waiting job at once and asks a running one to stop.
///
/// Between two statements it may be claimed, or handed back: then they are repeated.
///
/// Answers also whom to wake once it is committed.
pub(crate) async fn cancel(
    conn: &mut PgConnection,
    id: JobId,
    by: &str,
) -> Result<(Cancelled, Wake), sqlx::Error> {
    loop {
        if !ask(conn, &[id.0], by).await?.is_empty() {
            return Ok((Cancelled::Told, Wake { told: vec![id], ..Wake::default() }));
        }
        if let Some(gone) = call_off(conn, &[id.0], by).await?.pop() {
            let awaited = Vec::from_iter(gone.awaited.then_some(id.0));
            return Ok((Cancelled::Never, Wake { awaited, ..Wake::default() }));
        }
        let is_live = sqlx::query_scalar!(
            r#"-- queue.is_live
            select exists (select from queue.job where id = $1) as "live!""#,
            id.0
        )
        .fetch_one(&mut *conn)
        .await?;
        if !is_live {
            return Ok((Cancelled::NotLive, Wake::default()));
        }
    }
}

/// Asks those of the jobs to stop that are running, and answers which.
pub(crate) async fn ask(conn: &mut PgConnection, ids: &[i64], by: &str) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- queue.ask_to_cancel
        update queue.job set cancel_requested = true, note = $2 where id = any($1) and state = 1 returning id",
        ids,
        format!("cancellation asked for by {by}")
    )
    .fetch_all(conn)
    .await
}

/// A job that was cancelled before it began.
pub(crate) struct CalledOff {
    pub id: i64,
    /// Others wait for it: they are released once this is committed.
    pub awaited: bool,
}

/// Cancels those of the jobs that are not running, and answers which.
pub(crate) async fn call_off(
    conn: &mut PgConnection,
    ids: &[i64],
    by: &str,
) -> Result<Vec<CalledOff>, sqlx::Error> {
    sqlx::query_as!(
        CalledOff,
        "-- queue.cancel
        with gone as (
            delete from queue.job where id = any($1) and state <> 1 returning *
        ), kept as (
            insert into queue.job_history
                (id, fence, run_at, created_at, started_at, finished_at, worker, outcome, priority, attempt,
                 attempts_max, failures, losses, crashes, tenant, queue, kind, payload, unique_key, rate_key, traceparent, note)
            select id, nextval('queue.fence'), run_at, created_at, started_at, now(), worker, 3, priority, attempt,
                   attempts_max, failures, losses, crashes, tenant, queue, kind, payload, unique_key, rate_key, traceparent, $2
            from gone
        )
        select id, awaited from gone",
        ids,
        format!("cancelled by {by}")
    )
    .fetch_all(conn)
    .await
}
