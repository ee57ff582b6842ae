//! Claiming from governed queues: those with a cap, a rate, or turns between tenants.
//!
//! Their due jobs stand in lines, one per tenant, and the function `queue.claim_governed` goes round them under one lock:
//! only so can what runs be counted and what starts be added to it without another claimer in between. The plain claim
//! sees none of these jobs, nor does this one see the others'; each asks the other's question when it finds nothing.
//!
//! A job gets into its line when it is enqueued, or by [`line_up`] when it was not due then; what is left in the lines of
//! a queue that is governed no longer goes back by [`dissolve`]. So each job is before one of the two claims, whatever
//! became of its queue while a transaction was open.

use serde_json::value::RawValue;
use sqlx::{PgConnection, types::Json};

use crate::claim::{AGING_STEP_SECS, Claimer, Row};

/// Jobs moved from one side to the other in one statement: some tens of milliseconds.
const MOVED_MAX: i64 = 1_000;

/// Whether the queue's jobs are claimed here.
pub(crate) async fn is_governed(conn: &mut PgConnection, queue: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- queue.is_governed
        select exists (select from queue.governed where queue in ($1, '*')) as "governed!""#,
        queue
    )
    .fetch_one(conn)
    .await
}

/// Claims up to `limit` due jobs in the tenants' turns.
pub(crate) async fn claim(
    conn: &mut PgConnection,
    queue: &str,
    claimer: Claimer,
    limit: usize,
) -> Result<Vec<Row>, sqlx::Error> {
    loop {
        let mut rows = sqlx::query_file_as!(
            Row,
            "src/claim_governed.sql",
            queue,
            claimer.worker,
            claimer.lease.as_secs_f64(),
            i64::try_from(limit).unwrap_or(i64::MAX),
            AGING_STEP_SECS
        )
        .fetch_all(&mut *conn)
        .await?;
        let stopped_early = rows.pop_if(|last| last.id == 0).is_some();
        if !rows.is_empty() || !stopped_early {
            return Ok(rows);
        }
    }
}

/// Claims the suspect that has been due longest among those that caps and rates admit.
pub(crate) async fn claim_suspect(
    conn: &mut PgConnection,
    queue: &str,
    claimer: Claimer,
) -> Result<Option<Row>, sqlx::Error> {
    if !is_governed(conn, queue).await? {
        return Ok(None);
    }
    sqlx::query_as!(
        Row,
        r#"-- queue.claim_governed_suspect
        select id as "id!", fence as "fence!", kind as "kind!", payload as "payload!: Json<Box<RawValue>>", tenant,
            priority as "priority!", attempt as "attempt!", attempts_max as "attempts_max!", failures as "failures!",
            traceparent, suspect as "suspect!", run_at as "run_at!",
            extract(epoch from started_at - run_at)::float8 as "waited_secs!"
        from queue.claim_governed_suspect($1, $2, $3)"#,
        queue,
        claimer.worker,
        claimer.lease.as_secs_f64()
    )
    .fetch_optional(conn)
    .await
}

/// Puts due jobs that stand outside into their tenants' lines, some in each lane; answers whether there may be more.
pub(crate) async fn line_up(conn: &mut PgConnection, queue: &str) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query!(
        "-- queue.line_up
        with due as materialized (
            select found.id from unnest('{0,1,2,3}'::smallint[]) as lane(priority) cross join lateral (
                select j.id from queue.job j
                where j.queue = $1 and j.priority = lane.priority and j.state = 0 and not j.suspect
                  and j.governed is null and j.run_at <= now()
                order by j.run_at, j.id limit $2 for update skip locked
            ) as found
            where exists (select from queue.governed g where g.queue in ($1, '*'))
        )
        update queue.job j set governed = true where j.id = any(array(select id from due))",
        queue,
        MOVED_MAX
    )
    .execute(conn)
    .await?;
    Ok(moved.rows_affected() >= MOVED_MAX.unsigned_abs())
}

/// Gives the lines of queues that are no longer governed back to the plain claim, some jobs at a time.
pub(crate) async fn dissolve(conn: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let moved = sqlx::query!(
        "-- queue.dissolve
        with recursive line as (
            (select j.queue from queue.job j where j.state = 0 and not j.suspect and j.governed order by j.queue limit 1)
            union all
            select (select j.queue from queue.job j
                    where j.state = 0 and not j.suspect and j.governed and j.queue > line.queue order by j.queue limit 1)
            from line where line.queue is not null
        ), leftover as materialized (
            select found.id from line cross join lateral (
                select j.id from queue.job j
                where j.queue = line.queue and j.state = 0 and not j.suspect and j.governed
                limit $1 for update skip locked
            ) as found
            where not exists (select from queue.governed g where g.queue in (line.queue, '*'))
        )
        update queue.job j set governed = null where j.id = any(array(select id from leftover))",
        MOVED_MAX
    )
    .execute(conn)
    .await?;
    Ok(moved.rows_affected())
}
