//! Taking jobs back from workers that are gone.
//!
//! The lease is the truth: when it has ended, the attempt is `lost` and the job may run again. Two things are added.
//! A worker holds an advisory lock on a connection of its own; when its process dies the kernel closes the socket and
//! Postgres frees the lock, which shortens that worker's leases to half a second (a living worker whose lock connection
//! alone was cut renews and keeps its jobs). And a job that was alone on a worker that died, without a checkpoint since
//! the last death, is charged with a crash: after [`CRASHES_MAX`] it is quarantined.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{JobId, dependency};

/// Crashes of its worker that a job may cause alone before it is quarantined.
pub(crate) const CRASHES_MAX: i16 = 2;

/// Jobs taken back in one look.
pub(crate) const RESCUED_MAX: i64 = 1_000;

/// What is left of a lease once its worker's lock is gone: time for a living worker to renew.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// The first key of every worker's advisory lock; the second is the worker's id.
pub(crate) const LOCK_CLASS: i32 = 0x71_75_65_75;

/// A job taken back from its worker.
#[derive(Debug)]
pub(crate) struct Rescued {
    pub id: JobId,
    pub queue: String,
    pub kind: String,
    pub quarantined: bool,
    pub evidence: String,
}

/// What a look begins with.
#[derive(Debug)]
pub(crate) struct Census {
    /// The database's clock.
    pub now: DateTime<Utc>,
    /// The workers whose lock is gone on the very server where it was taken.
    pub dead: Vec<i64>,
    /// Whether any tenant is frozen.
    pub frozen: bool,
}

/// The time, and the workers whose lock is gone.
///
/// After a restart or a promotion no lock of before is left, which says nothing of the workers: they are not counted
/// until they have taken it anew.
pub(crate) async fn census(conn: &mut PgConnection) -> Result<Census, sqlx::Error> {
    sqlx::query_as!(
        Census,
        r#"-- queue.census
        select now() as "now!", array(
            select w.id from queue.worker w
            where w.ended_at is null and w.server_started_at = pg_postmaster_start_time()
              and not exists (
                  select from pg_locks l
                  where l.locktype = 'advisory' and l.classid::bigint = $1 and l.objid::bigint = w.id and l.objsubid = 2
                    and l.granted and l.database = (select oid from pg_database where datname = current_database()))
        ) as "dead!", exists (select from queue.frozen_tenant) as "frozen!""#,
        i64::from(LOCK_CLASS)
    )
    .fetch_one(conn)
    .await
}

/// Shortens the leases of workers whose lock is gone, and strikes off those that left nothing running.
pub(crate) async fn bury(conn: &mut PgConnection, dead: &[i64]) -> Result<u64, sqlx::Error> {
    let shortened = sqlx::query!(
        "-- queue.bury
        update queue.job set lease_expires_at = now() + make_interval(secs => $2)
        where state = 1 and worker = any($1) and lease_expires_at > now() + make_interval(secs => $2)",
        dead,
        LAST_MOMENT.as_secs_f64()
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    sqlx::query!(
        "-- queue.strike_off
        update queue.worker w set ended_at = now()
        where w.id = any($1) and w.ended_at is null and w.last_seen_at < now() - interval '10 seconds'
          and not exists (select from queue.job j where j.state = 1 and j.worker = w.id)",
        dead
    )
    .execute(conn)
    .await?;
    Ok(shortened)
}

/// Puts back, quarantines or (where that was asked for) cancels the jobs whose lease has ended since the mark: some of
/// them, [`RESCUED_MAX`] at most.
pub(crate) async fn rescue(
    conn: &mut PgConnection,
    dead: &[i64],
    mark: DateTime<Utc>,
) -> Result<Vec<Rescued>, sqlx::Error> {
    let rows = sqlx::query_file!("src/rescue.sql", dead, CRASHES_MAX, mark, RESCUED_MAX)
        .fetch_all(&mut *conn)
        .await?;
    let awaited = sqlx::query_scalar!(
        "-- queue.rescue_cancelled
        with gone as (
            delete from queue.job where id = any(array(
                select id from queue.job where state = 1 and lease_expires_at >= $1 and lease_expires_at < now() and cancel_requested
                order by id for update skip locked))
            returning *
        ), kept as (
            insert into queue.job_history
                (id, fence, run_at, created_at, started_at, finished_at, worker, outcome, priority, attempt,
                 attempts_max, failures, losses, crashes, tenant, queue, kind, payload, unique_key, rate_key, traceparent, note)
            select id, fence, run_at, created_at, started_at, now(), worker, 3, priority, attempt, attempts_max,
                   failures, losses, crashes, tenant, queue, kind, payload, unique_key, rate_key, traceparent,
                   'cancelled; its worker was lost before it could answer'
            from gone
        )
        select id from gone where awaited",
        mark
    )
    .fetch_all(&mut *conn)
    .await?;
    // The queues of those that are released now look by themselves.
    dependency::release_cancelled(conn, awaited).await;
    Ok(rows
        .into_iter()
        .map(|row| Rescued {
            id: JobId(row.id),
            queue: row.queue,
            kind: row.kind,
            quarantined: row.quarantined,
            evidence: row.evidence,
        })
        .collect())
}
