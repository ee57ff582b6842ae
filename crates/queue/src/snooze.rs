//! Putting a job that is ready off until a later time.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{ChangeRefused, JobId, refusal};

pub(crate) const ONLY: &str = "only a job that is ready can be snoozed";

/// Lets none of the jobs run before this time, and answers which were ready. A time that is over makes them due.
pub(crate) async fn snooze(
    conn: &mut PgConnection,
    ids: &[i64],
    until: DateTime<Utc>,
    by: &str,
) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- queue.snooze
        with resting as (
            select id, run_at from queue.job where id = any($1) and state = 0 order by id for update
        ), moved as (
            update queue.job j set run_at = greatest(now(), $2), reason = 3, note = $3
            from resting where j.id = resting.id
            returning j.id, j.fence, j.run_at, resting.run_at as due_at
        ), explained as (
            insert into queue.reason_change (job, fence, at, due_at, until, reason, evidence)
            select id, fence, now(), due_at, run_at, 3, $3 from moved
        )
        select id from moved",
        ids,
        until,
        format!("snoozed by {by}")
    )
    .fetch_all(conn)
    .await
}

/// The same for one job, or why not.
pub(crate) async fn snooze_one(
    conn: &mut PgConnection,
    id: JobId,
    until: DateTime<Utc>,
    by: &str,
) -> Result<(), ChangeRefused> {
    match snooze(conn, &[id.0], until, by).await?[..] {
        [_] => Ok(()),
        _ => Err(refusal::of(conn, id, ONLY).await),
    }
}
