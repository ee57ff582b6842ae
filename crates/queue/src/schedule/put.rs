//! Creating and replacing.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, types::Json};

use super::{NewSchedule, ScheduleError, look, missed::MISSED_MAX, missed::MissedFires};
use crate::{EnqueueError, PAYLOAD_BYTES_MAX};

/// Writes the schedule and answers whether it took another's place. `conn` must be in a transaction.
pub(super) async fn put(conn: &mut PgConnection, new: &NewSchedule) -> Result<bool, ScheduleError> {
    let now = look::now(&mut *conn).await?;
    check(new, now)?;
    let NewSchedule { name, timetable, missed, jitter, job } = new;
    // Two creations at once meet at the unique index: the second waits, then replaces the first.
    let replaced = sqlx::query_scalar!(
        r#"-- queue.put_schedule
        insert into queue.schedule as s
            (considered_at, next_fire_at, jitter_secs, missed_max, missed, priority, attempts_max, tenant, name, cron, zone,
             kind, queue, payload, unique_key)
        values (now(), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        on conflict (name, coalesce(tenant, '00000000-0000-0000-0000-000000000000')) do update
        set updated_at = now(), fault = null,
            considered_at = case when (s.cron, s.zone) = (excluded.cron, excluded.zone)
                then s.considered_at else now() end,
            next_fire_at = case when (s.cron, s.zone) <> (excluded.cron, excluded.zone) then excluded.next_fire_at
                when s.fault is null then s.next_fire_at else now() end,
            jitter_secs = excluded.jitter_secs, missed_max = excluded.missed_max, missed = excluded.missed,
            priority = excluded.priority, attempts_max = excluded.attempts_max, cron = excluded.cron,
            zone = excluded.zone, kind = excluded.kind, queue = excluded.queue, payload = excluded.payload,
            unique_key = excluded.unique_key
        returning xmax <> 0 as "replaced!""#,
        timetable.next_after(now),
        i32::try_from(jitter.as_secs()).unwrap_or(i32::MAX),
        i32::from(missed.bound()),
        missed.code(),
        job.priority.code(),
        i16::try_from(job.attempts_max).unwrap_or(i16::MAX),
        job.tenant,
        name,
        timetable.cron(),
        timetable.zone(),
        job.kind,
        job.queue,
        Json(&*job.payload) as _,
        job.unique_key,
    )
    .fetch_one(conn)
    .await
    // A payload that Postgres cannot hold is told apart.
    .map_err(EnqueueError::from)?;
    Ok(replaced)
}

fn check(new: &NewSchedule, now: DateTime<Utc>) -> Result<(), ScheduleError> {
    let NewSchedule { name, timetable, missed, jitter, job } = new;
    if !(1..=200).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(ScheduleError::BadName);
    }
    if let MissedFires::All(bound) = missed
        && bound.get() > MISSED_MAX
    {
        return Err(ScheduleError::TooManyMissed(bound.get()));
    }
    if jitter.subsec_nanos() != 0 {
        return Err(ScheduleError::JitterNotWhole);
    }
    let interval =
        timetable.shortest_interval(now).map_or(i64::from(i32::MAX), |interval| interval.num_seconds());
    if i64::try_from(jitter.as_secs()).map_or(true, |window| window > interval) {
        return Err(ScheduleError::JitterTooLong { jitter_secs: jitter.as_secs(), interval_secs: interval });
    }
    if !job.after.is_empty() {
        return Err(ScheduleError::JobWaits);
    }
    if job.payload().len() > PAYLOAD_BYTES_MAX {
        let bytes = job.payload().len();
        return Err(ScheduleError::Job(EnqueueError::PayloadTooLarge { kind: job.kind.clone(), bytes }));
    }
    Ok(())
}
