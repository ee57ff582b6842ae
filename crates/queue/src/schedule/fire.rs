//! Giving due schedules their fires.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, types::Json};
use uuid::Uuid;

use super::ScheduleFigures;
use super::missed::{self, How, MissedFires};
use super::timetable::{Timetable, TimetableError};
use crate::{
    EnqueueError, NewJob, Priority, Ring,
    connection::{is_collision, is_outage},
    enqueue,
};

/// How many schedules one transaction serves: a thousand nightly ones that are due together take ten transactions.
const BATCH_MAX: i64 = 100;

/// How long a schedule that could not fire is left alone; its fire times then get what its policy says.
const FAULT_PAUSE_SECS: f64 = 300.0;

/// What a look found and did.
#[derive(Debug, Default)]
pub(crate) struct Fired {
    /// How many jobs were enqueued, and why.
    pub due: usize,
    pub missed: usize,
    /// How many fire times were given nothing.
    pub skipped: usize,
    /// How late each due fire was; seconds.
    pub lags: Vec<f64>,
    /// Schedules that could not fire, with the reason.
    pub faults: Vec<(String, String)>,
    /// The queues that have new jobs.
    pub ring: Ring,
    /// Whether there may be more to do at once.
    pub more: bool,
}

/// A schedule that is due, locked.
pub(super) struct Row {
    pub id: i64,
    pub considered_at: DateTime<Utc>,
    pub jitter_secs: i32,
    pub missed_max: i32,
    pub missed: i16,
    pub priority: i16,
    pub attempts_max: i16,
    pub tenant: Option<Uuid>,
    pub name: String,
    pub cron: String,
    pub zone: String,
    pub kind: String,
    pub queue: String,
    pub payload: Json<Box<RawValue>>,
    pub unique_key: Option<String>,
}

/// A fire to insert, with its job.
pub(super) struct Planned {
    pub schedule: i64,
    pub fire_at: DateTime<Utc>,
    pub how: How,
    pub job: NewJob,
}

impl Row {
    pub(super) fn timetable(&self) -> Result<Timetable, TimetableError> {
        Timetable::parse(&self.cron, &self.zone)
    }

    fn policy(&self) -> MissedFires {
        MissedFires::of(self.missed, self.missed_max)
    }

    pub(super) fn offset(&self) -> TimeDelta {
        offset(self.tenant, &self.name, u64::try_from(self.jitter_secs).unwrap_or(0))
    }

    /// The fire of this time; its job may run from `run_at` on, or at once.
    pub(super) fn fire(&self, fire_at: DateTime<Utc>, how: How, run_at: Option<DateTime<Utc>>) -> Planned {
        let mut job = NewJob::raw(&self.kind, self.payload.0.clone())
            .queue(&self.queue)
            .priority(Priority::ALL[usize::try_from(self.priority).unwrap_or(0).min(3)])
            .attempts_max(self.attempts_max.unsigned_abs());
        job.tenant = self.tenant;
        job.unique_key.clone_from(&self.unique_key);
        job.run_at = run_at;
        Planned { schedule: self.id, fire_at, how, job }
    }
}

/// How long after its fire time a schedule's job may run: a share of the window, in milliseconds, that only its name and
/// tenant decide.
pub(super) fn offset(tenant: Option<Uuid>, name: &str, window_secs: u64) -> TimeDelta {
    if window_secs == 0 {
        return TimeDelta::zero();
    }
    let digest = Sha256::new().chain_update(tenant.unwrap_or_default()).chain_update(name).finalize();
    let draw = u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    let millis = draw % window_secs.saturating_mul(1_000);
    i64::try_from(millis).ok().and_then(TimeDelta::try_milliseconds).unwrap_or_default()
}

/// How long until the next schedule is due; none if there is no schedule. The one statement of an idle look.
pub(crate) async fn next_due_in(conn: &mut PgConnection) -> Result<Option<Duration>, sqlx::Error> {
    let secs = sqlx::query_scalar!(
        r#"-- queue.next_due
        select greatest(0, extract(epoch from next_fire_at - now()))::float8 as "secs!"
        from queue.schedule where paused_at is null and next_fire_at is not null order by next_fire_at limit 1"#
    )
    .fetch_optional(conn)
    .await?;
    Ok(secs.map(|secs| Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX)))
}

pub(super) async fn figures(conn: &mut PgConnection) -> Result<ScheduleFigures, sqlx::Error> {
    sqlx::query_as!(
        ScheduleFigures,
        r#"-- queue.schedule_figures
        select coalesce(greatest(0, extract(epoch from now() - min(next_fire_at)
                filter (where paused_at is null and fault is null))), 0)::float8 as "lag_secs!",
            count(*) filter (where fault is not null and paused_at is null) as "faulty!"
        from queue.schedule"#
    )
    .fetch_one(conn)
    .await
}

/// Gives at most a batch of due schedules their fires. What another worker is at is left to it.
pub(crate) async fn fire_due(conn: &mut PgConnection) -> Result<Fired, sqlx::Error> {
    match fire_batch(conn, BATCH_MAX).await {
        // One of them is at fault: alone it is found out, and the others are not held up.
        Err(error) if !is_outage(&error) => fire_batch(conn, 1).await,
        done => done,
    }
}

pub(crate) async fn fire_batch(conn: &mut PgConnection, limit: i64) -> Result<Fired, sqlx::Error> {
    let mut tx = conn.begin().await?;
    let (now, rows) = lock_due(&mut tx, limit).await?;
    let mut inner = tx.begin().await?;
    let mut fired = match (serve(&mut inner, now, &rows).await, &*rows) {
        (Ok(fired), _) => {
            inner.commit().await?;
            fired
        }
        (Err(error), [row]) if !is_outage(&error) && !is_collision(&error) => {
            inner.rollback().await?;
            let fault = put_off(&mut tx, row, &error.to_string()).await?;
            Fired { faults: vec![fault], ..Fired::default() }
        }
        (Err(error), _) => return Err(error),
    };
    tx.commit().await?;
    fired.more = i64::try_from(rows.len()).is_ok_and(|count| count == limit);
    Ok(fired)
}

/// Inserts what the locked schedules are due, and moves them on.
async fn serve(conn: &mut PgConnection, now: DateTime<Utc>, rows: &[Row]) -> Result<Fired, sqlx::Error> {
    let mut fired = Fired::default();
    let (mut planned, mut moves) = (Vec::new(), Moves::default());
    for row in rows {
        match row.timetable() {
            Ok(timetable) => {
                let verdict = missed::judge(&timetable, row.considered_at, now, row.policy());
                let offset = row.offset();
                planned.extend(verdict.fires.iter().map(|(at, how)| row.fire(*at, *how, Some(*at + offset))));
                fired.skipped += verdict.missed;
                moves.on(row.id, timetable.next_after(now.max(row.considered_at)), verdict.missed);
            }
            // The zone of a newer release, or a line written past this program.
            Err(error) => fired.faults.push(put_off(&mut *conn, row, &error.to_string()).await?),
        }
    }
    for (place, _) in insert(&mut *conn, &planned).await.map_err(into_database)? {
        let fire = &planned[place];
        if fire.how == How::Due {
            fired.due += 1;
            fired.lags.push((now - fire.fire_at).as_seconds_f64());
        } else {
            fired.missed += 1;
        }
        fired.ring.queues.insert(fire.job.queue.clone());
    }
    moves.write(conn, now).await?;
    Ok(fired)
}

/// The database's time, which is the transaction's, and the schedules whose time has come.
async fn lock_due(conn: &mut PgConnection, limit: i64) -> Result<(DateTime<Utc>, Vec<Row>), sqlx::Error> {
    let now = super::look::now(&mut *conn).await?;
    let rows = sqlx::query_as!(
        Row,
        r#"-- queue.lock_due
        select id, considered_at, jitter_secs, missed_max, missed, priority, attempts_max, tenant, name, cron, zone, kind,
            queue, payload as "payload: Json<Box<RawValue>>", unique_key
        from queue.schedule where paused_at is null and next_fire_at <= now()
        order by next_fire_at limit $1 for update skip locked"#,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok((now, rows))
}

/// Inserts the fires that are new, with their jobs, and answers their places in the slice with the jobs.
pub(super) async fn insert(
    conn: &mut PgConnection,
    fires: &[Planned],
) -> Result<Vec<(usize, crate::JobId)>, EnqueueError> {
    if fires.is_empty() {
        return Ok(Vec::new());
    }
    let schedules: Vec<i64> = fires.iter().map(|fire| fire.schedule).collect();
    let times: Vec<DateTime<Utc>> = fires.iter().map(|fire| fire.fire_at).collect();
    let hows: Vec<i16> = fires.iter().map(|fire| fire.how as i16).collect();
    let new = sqlx::query!(
        "-- queue.insert_fires
        insert into queue.fire (schedule, fire_at, how)
        select * from unnest($1::bigint[], $2::timestamptz[], $3::smallint[])
        on conflict do nothing returning schedule, fire_at",
        &schedules,
        &times,
        &hows
    )
    .fetch_all(&mut *conn)
    .await?;
    let new: std::collections::HashSet<_> = new.into_iter().map(|row| (row.schedule, row.fire_at)).collect();
    let places: Vec<usize> =
        (0..fires.len()).filter(|&i| new.contains(&(fires[i].schedule, fires[i].fire_at))).collect();
    let jobs: Vec<NewJob> = places.iter().map(|&i| fires[i].job.clone()).collect();
    let ids: Vec<_> = enqueue::enqueue(&mut *conn, &jobs).await?.into_iter().map(|job| job.id).collect();
    bind(conn, fires, &places, &ids).await?;
    Ok(places.into_iter().zip(ids).collect())
}

async fn bind(
    conn: &mut PgConnection,
    fires: &[Planned],
    places: &[usize],
    ids: &[crate::JobId],
) -> Result<(), sqlx::Error> {
    let schedules: Vec<i64> = places.iter().map(|&i| fires[i].schedule).collect();
    let times: Vec<DateTime<Utc>> = places.iter().map(|&i| fires[i].fire_at).collect();
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    sqlx::query!(
        "-- queue.bind_fires
        update queue.fire f set job = n.job
        from unnest($1::bigint[], $2::timestamptz[], $3::bigint[]) as n(schedule, fire_at, job)
        where (f.schedule, f.fire_at) = (n.schedule, n.fire_at)",
        &schedules,
        &times,
        &ids
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Where the schedules of a batch go on.
#[derive(Default)]
struct Moves {
    ids: Vec<i64>,
    next: Vec<Option<DateTime<Utc>>>,
    missed: Vec<i64>,
}

impl Moves {
    fn on(&mut self, id: i64, next: Option<DateTime<Utc>>, missed: usize) {
        self.ids.push(id);
        self.next.push(next);
        self.missed.push(i64::try_from(missed).unwrap_or(i64::MAX));
    }

    /// Everything up to `now` has been considered.
    async fn write(self, conn: &mut PgConnection, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "-- queue.move_on
            update queue.schedule s
            set considered_at = greatest(s.considered_at, $4), next_fire_at = n.next, fault = null,
                missed_total = s.missed_total + n.missed
            from unnest($1::bigint[], $2::timestamptz[], $3::bigint[]) as n(id, next, missed)
            where s.id = n.id",
            &self.ids,
            &self.next as _,
            &self.missed,
            now
        )
        .execute(conn)
        .await
        .map(drop)
    }
}

/// Notes why a locked schedule could not fire, and leaves it alone for a while.
async fn put_off(conn: &mut PgConnection, row: &Row, why: &str) -> Result<(String, String), sqlx::Error> {
    let why = crate::finish::storable(why);
    sqlx::query!(
        "-- queue.put_off
        update queue.schedule set fault = $2, next_fire_at = now() + make_interval(secs => $3) where id = $1",
        row.id,
        why,
        FAULT_PAUSE_SECS
    )
    .execute(conn)
    .await?;
    Ok((row.name.clone(), why))
}

fn into_database(error: EnqueueError) -> sqlx::Error {
    match error {
        EnqueueError::Database(error) | EnqueueError::PayloadUnstorable(error) => error,
        other => sqlx::Error::Protocol(other.to_string()),
    }
}

/// The fire time that a job was enqueued for.
pub(crate) async fn of_job(
    conn: &mut PgConnection,
    job: crate::JobId,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!("-- queue.fire_of\nselect max(fire_at) from queue.fire where job = $1", job.0)
        .fetch_one(conn)
        .await
}

/// Forgets fires whose jobs' history has gone.
pub(crate) async fn forget(conn: &mut PgConnection, retention: crate::Retention) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- queue.forget_fires
        delete from queue.fire where inserted_at < now() - make_interval(days => $1::integer)",
        i32::try_from(retention.days.saturating_add(1)).unwrap_or(i32::MAX)
    )
    .execute(conn)
    .await
    .map(drop)
}
