//! Looking at schedules, their fires and the fires to come.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    FireRecord, How, MissedFires, PREVIEW_MAX, ScheduleError, ScheduleName, ScheduleRecord, fire,
    timetable::Timetable, timetable::Upcoming,
};
use crate::JobId;

/// The transaction's time, by the database's clock.
pub(super) async fn now(conn: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!("-- queue.now\nselect now() as \"now!\"").fetch_one(conn).await
}

struct Row {
    name: String,
    tenant: Option<Uuid>,
    cron: String,
    zone: String,
    kind: String,
    queue: String,
    payload: serde_json::Value,
    priority: i16,
    attempts_max: i16,
    unique_key: Option<String>,
    missed: i16,
    missed_max: i32,
    jitter_secs: i32,
    next_fire_at: Option<DateTime<Utc>>,
    last_fire_at: Option<DateTime<Utc>>,
    last_job: Option<i64>,
    missed_total: i64,
    fault: Option<String>,
    paused_at: Option<DateTime<Utc>>,
    paused_by: Option<String>,
    pause_reason: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for ScheduleRecord {
    fn from(row: Row) -> Self {
        let offset = fire::offset(row.tenant, &row.name, u64::try_from(row.jitter_secs).unwrap_or(0));
        let words = Timetable::parse(&row.cron, &row.zone).map(|timetable| timetable.describe());
        Self {
            cron_in_words: words.unwrap_or_else(|error| error.to_string()),
            missed: MissedFires::of(row.missed, row.missed_max).name(),
            offset_secs: offset.as_seconds_f64(),
            last_job: row.last_job.map(JobId),
            name: row.name,
            tenant: row.tenant,
            cron: row.cron,
            zone: row.zone,
            kind: row.kind,
            queue: row.queue,
            payload: row.payload,
            priority: row.priority,
            attempts_max: row.attempts_max,
            unique_key: row.unique_key,
            missed_max: row.missed_max,
            jitter_secs: row.jitter_secs,
            next_fire_at: row.next_fire_at,
            last_fire_at: row.last_fire_at,
            missed_total: row.missed_total,
            fault: row.fault,
            paused_at: row.paused_at,
            paused_by: row.paused_by,
            pause_reason: row.pause_reason,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Option<Uuid>,
) -> Result<Vec<ScheduleRecord>, sqlx::Error> {
    select(conn, tenant, None).await
}

pub(super) async fn get(
    conn: &mut PgConnection,
    name: &ScheduleName,
) -> Result<ScheduleRecord, ScheduleError> {
    let found = select(conn, name.tenant, Some(&name.name)).await?;
    // Without a tenant the platform's is meant, not anybody's.
    let found = found.into_iter().find(|schedule| schedule.tenant == name.tenant);
    found.ok_or_else(|| ScheduleError::NotFound(name.clone()))
}

async fn select(
    conn: &mut PgConnection,
    tenant: Option<Uuid>,
    name: Option<&str>,
) -> Result<Vec<ScheduleRecord>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"-- queue.schedules
        select s.name, s.tenant, s.cron, s.zone, s.kind, s.queue, s.payload, s.priority, s.attempts_max, s.unique_key,
            s.missed, s.missed_max, s.jitter_secs, s.next_fire_at, f.fire_at as "last_fire_at?", f.job as last_job,
            s.missed_total, s.fault, s.paused_at, s.paused_by, s.pause_reason, s.created_at, s.updated_at
        from queue.schedule s left join lateral (
            select fire_at, job from queue.fire where schedule = s.id order by fire_at desc limit 1
        ) f on true
        where ($1::uuid is null or s.tenant = $1) and ($2::text is null or s.name = $2)
        order by s.name, s.tenant"#,
        tenant,
        name
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(ScheduleRecord::from).collect())
}

pub(super) async fn fires(
    conn: &mut PgConnection,
    name: &ScheduleName,
    limit: u16,
) -> Result<Vec<FireRecord>, ScheduleError> {
    get(&mut *conn, name).await?;
    let rows = sqlx::query!(
        "-- queue.fires
        select f.fire_at, f.inserted_at, f.job, f.how
        from queue.schedule s join queue.fire f on f.schedule = s.id
        where s.name = $1 and s.tenant is not distinct from $2
        order by f.fire_at desc limit $3",
        name.name,
        name.tenant,
        i64::from(limit)
    )
    .fetch_all(conn)
    .await?;
    let record = |fire_at, inserted_at, job: Option<i64>, how| FireRecord {
        fire_at,
        inserted_at,
        job: job.map(JobId),
        how: How::of(how),
    };
    Ok(rows.into_iter().map(|row| record(row.fire_at, row.inserted_at, row.job, row.how)).collect())
}

pub(super) async fn upcoming(
    conn: &mut PgConnection,
    name: &ScheduleName,
    after: Option<DateTime<Utc>>,
    count: usize,
) -> Result<Vec<Upcoming>, ScheduleError> {
    let schedule = get(&mut *conn, name).await?;
    let timetable = Timetable::parse(&schedule.cron, &schedule.zone)?;
    let after = match after {
        Some(after) => after,
        None => now(conn).await?,
    };
    let window = u64::try_from(schedule.jitter_secs).unwrap_or(0);
    Ok(preview(&timetable, after, fire::offset(schedule.tenant, &schedule.name, window), count))
}

pub(super) fn preview(
    timetable: &Timetable,
    after: DateTime<Utc>,
    offset: TimeDelta,
    count: usize,
) -> Vec<Upcoming> {
    let upcoming = |at| Upcoming { fire_at: at, local: timetable.local(at), run_at: at + offset };
    timetable.fires_after(after).take(count.min(PREVIEW_MAX)).map(upcoming).collect()
}
