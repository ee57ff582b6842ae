//! Calling a job off.

use sqlx::PgConnection;

use crate::{
    JobId,
    dependency::{self, Released},
};

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
/// The row is locked first: between a look and a deed the job could be claimed.
///
/// Answers also what became of those that waited for it.
pub(crate) async fn cancel(
    conn: &mut PgConnection,
    id: JobId,
    by: &str,
) -> Result<(Cancelled, Released), sqlx::Error> {
    let asked = sqlx::query!(
        "-- queue.ask_to_cancel
        update queue.job set cancel_requested = true, note = $2 where id = $1 and state = 1",
        id.0,
        format!("cancellation asked for by {by}")
    )
    .execute(&mut *conn)
    .await?;
    if asked.rows_affected() == 1 {
        return Ok((Cancelled::Told, Released::default()));
    }
    let gone = sqlx::query_scalar!(
        "-- queue.cancel
        with gone as (
            delete from queue.job where id = $1 and state <> 1 returning *
        ), kept as (
            insert into queue.job_history
                (id, fence, run_at, created_at, started_at, finished_at, worker, outcome, priority, attempt,
                 attempts_max, failures, losses, crashes, tenant, queue, kind, payload, unique_key, rate_key, traceparent, note)
            select id, nextval('queue.fence'), run_at, created_at, started_at, now(), worker, 3, priority, attempt,
                   attempts_max, failures, losses, crashes, tenant, queue, kind, payload, unique_key, rate_key, traceparent, $2
            from gone
        )
        select awaited from gone",
        id.0,
        format!("cancelled by {by}")
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(awaited) = gone {
        return Ok((Cancelled::Never, dependency::release_cancelled(conn, awaited.then_some(id.0)).await));
    }
    // It may have been claimed, or handed back, between the two statements.
    let live = sqlx::query_scalar!(
        r#"-- queue.is_live
        select exists (select from queue.job where id = $1) as "live!""#,
        id.0
    )
    .fetch_one(&mut *conn)
    .await?;
    if live { Box::pin(cancel(conn, id, by)).await } else { Ok((Cancelled::NotLive, Released::default())) }
}
