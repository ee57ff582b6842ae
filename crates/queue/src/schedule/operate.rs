//! What an operator does with a schedule: pause, resume, delete, run now, backfill.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use sqlx::{PgConnection, types::Json};

use super::{
    BACKFILL_COUNTED_MAX, BACKFILL_MAX, Backfilled, How, ScheduleError, ScheduleName,
    fire::{self, Row},
    look,
};
use crate::{JobId, Ring};

/// Locks the schedule against its fires and other operators.
async fn lock(conn: &mut PgConnection, name: &ScheduleName) -> Result<Row, ScheduleError> {
    let row = sqlx::query_as!(
        Row,
        r#"-- queue.lock_schedule
        select id, considered_at, jitter_secs, missed_max, missed, priority, attempts_max, tenant, name, cron, zone, kind,
            queue, payload as "payload: Json<Box<RawValue>>", unique_key
        from queue.schedule where name = $1 and tenant is not distinct from $2 for update"#,
        name.name,
        name.tenant
    )
    .fetch_optional(conn)
    .await?;
    row.ok_or_else(|| ScheduleError::NotFound(name.clone()))
}

pub(super) async fn pause(
    conn: &mut PgConnection,
    name: &ScheduleName,
    by: &str,
    reason: Option<&str>,
) -> Result<bool, ScheduleError> {
    let fired_before = sqlx::query_scalar!(
        r#"-- queue.pause_schedule
        update queue.schedule s
        set paused_at = coalesce(s.paused_at, now()), paused_by = $3, pause_reason = $4, updated_at = now()
        from (select id, paused_at from queue.schedule
              where name = $1 and tenant is not distinct from $2 for update) as old
        where s.id = old.id
        returning old.paused_at is null as "fired_before!""#,
        name.name,
        name.tenant,
        by,
        reason
    )
    .fetch_optional(conn)
    .await?;
    fired_before.ok_or_else(|| ScheduleError::NotFound(name.clone()))
}

/// `conn` must be in a transaction.
pub(super) async fn resume(conn: &mut PgConnection, name: &ScheduleName) -> Result<bool, ScheduleError> {
    let row = lock(&mut *conn, name).await?;
    let now = look::now(&mut *conn).await?;
    let next = row.timetable()?.next_after(now.max(row.considered_at));
    let resumed = sqlx::query!(
        "-- queue.resume_schedule
        update queue.schedule
        set paused_at = null, paused_by = null, pause_reason = null, updated_at = now(),
            considered_at = greatest(considered_at, now()), next_fire_at = $2
        where id = $1 and paused_at is not null",
        row.id,
        next
    )
    .execute(conn)
    .await?;
    Ok(resumed.rows_affected() == 1)
}

pub(super) async fn delete(conn: &mut PgConnection, name: &ScheduleName) -> Result<(), ScheduleError> {
    let deleted = sqlx::query!(
        "-- queue.delete_schedule
        delete from queue.schedule where name = $1 and tenant is not distinct from $2",
        name.name,
        name.tenant
    )
    .execute(conn)
    .await?;
    if deleted.rows_affected() == 0 {
        return Err(ScheduleError::NotFound(name.clone()));
    }
    Ok(())
}

/// `conn` must be in a transaction.
pub(super) async fn run_now(
    conn: &mut PgConnection,
    name: &ScheduleName,
) -> Result<(JobId, Ring), ScheduleError> {
    let row = lock(&mut *conn, name).await?;
    // The clock under the lock, not the transaction's start: two that wait for each other are two fires.
    let now = sqlx::query_scalar!("-- queue.clock\nselect clock_timestamp() as \"now!\"")
        .fetch_one(&mut *conn)
        .await?;
    let fire = row.fire(now, How::RunNow, None);
    let ring = Ring::of_queues([row.queue.clone()]);
    if let Some((_, job)) = fire::insert(&mut *conn, &[fire]).await?.first() {
        return Ok((*job, ring));
    }
    // A fire of this very microsecond is there: it does what was asked.
    let job = sqlx::query_scalar!(
        r#"-- queue.fire_at
        select job as "job!" from queue.fire where schedule = $1 and fire_at = $2"#,
        row.id,
        now
    )
    .fetch_one(conn)
    .await?;
    Ok((JobId(job), ring))
}

/// `conn` must be in a transaction.
pub(super) async fn backfill(
    conn: &mut PgConnection,
    name: &ScheduleName,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<(Backfilled, Ring), ScheduleError> {
    let row = lock(&mut *conn, name).await?;
    let now = look::now(&mut *conn).await?;
    if to > now {
        return Err(ScheduleError::InFuture { now });
    }
    let before = from.max(DateTime::UNIX_EPOCH) - TimeDelta::microseconds(1);
    let timetable = row.timetable()?;
    let mut times = timetable.fires_after(before).take_while(|at| *at < to);
    let fires: Vec<_> =
        times.by_ref().take(BACKFILL_MAX).map(|at| row.fire(at, How::Backfill, None)).collect();
    if fires.is_empty() {
        return Err(ScheduleError::EmptyRange { schedule: name.clone(), from, to });
    }
    let beyond = times.by_ref().take(BACKFILL_COUNTED_MAX - BACKFILL_MAX).count();
    if beyond > 0 {
        return Err(ScheduleError::TooManyFires {
            count: fires.len() + beyond,
            more: times.next().is_some(),
        });
    }
    let inserted = fire::insert(conn, &fires).await?;
    let backfilled = Backfilled {
        existing: fires.len() - inserted.len(),
        fires: inserted.iter().map(|(place, _)| fires[*place].fire_at).collect(),
    };
    Ok((backfilled, Ring::of_queues([row.queue])))
}
