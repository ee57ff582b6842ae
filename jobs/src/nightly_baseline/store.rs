//! A run's rows in the tenant's database.

use chrono::{DateTime, NaiveDate, Utc};
use database::tenant::{TenantDb, TenantError};
use governance::path::Path;
use queue::JobId;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};

use super::{
    report::{PathCounts, Report},
    window::Window,
};
use crate::connector_sync;

/// What a run sets out to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Planned {
    pub connector: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Why the connector's definition is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A run as the database has it.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub job: JobId,
    pub night: NaiveDate,
    pub streams: Vec<Planned>,
    pub started_at: DateTime<Utc>,
    /// What it ended with, when only the word to the queue was lost.
    pub report: Option<Report>,
}

/// Enters the run. Its night is the day on which it begins: what it looks at is as of now, whichever fire it is for.
pub(super) async fn begin(
    conn: &mut PgConnection,
    job: JobId,
    streams: &[Planned],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- nightly_baseline.begin
        insert into tenant.baseline_run (job, night, streams)
        values ($1, (now() at time zone 'UTC')::date, $2)",
        job.0,
        Json(streams) as _,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// The run that this job began; none if it has not.
pub(super) async fn load(conn: &mut PgConnection, job: JobId) -> Result<Option<Run>, sqlx::Error> {
    let row = sqlx::query!(
        r#"-- nightly_baseline.load
        select night, streams as "streams: Json<Vec<Planned>>", started_at, report as "report: Json<Report>"
        from tenant.baseline_run where job = $1"#,
        job.0,
    );
    let row = row.fetch_optional(conn).await?;
    Ok(row.map(|row| Run {
        job,
        night: row.night,
        streams: row.streams.0,
        started_at: row.started_at,
        report: row.report.map(|report| report.0),
    }))
}

/// Closes the run with its report.
pub(super) async fn finish(conn: &mut PgConnection, report: &Report) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- nightly_baseline.finish
        update tenant.baseline_run set finished_at = $2, report = $3 where job = $1",
        report.run.0,
        report.finished_at,
        Json(report) as _,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// How far the run has come with a path.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reached {
    /// Pages decided on, whatever came of them.
    pub pages: i32,
    /// None: the path has no policy that could be applied.
    pub policy: Option<i32>,
    /// The last record decided on.
    pub after: Option<String>,
    pub is_done: bool,
    pub counted: Counted,
}

/// What is counted of a path.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counted {
    pub counts: PathCounts,
    /// Why its policy could not be applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How far the run has come with the path; nothing of it is the beginning.
pub(super) async fn reached(
    conn: &mut PgConnection,
    run: JobId,
    path: &Path,
) -> Result<Reached, sqlx::Error> {
    let row = sqlx::query!(
        r#"-- nightly_baseline.reached
        select pages, policy_version, after, is_done, counts as "counted: Json<Counted>"
        from tenant.baseline_path where run = $1 and path = $2"#,
        run.0,
        path.id,
    );
    let row = row.fetch_optional(conn).await?;
    Ok(row.map_or_else(Reached::default, |row| Reached {
        pages: row.pages,
        policy: row.policy_version,
        after: row.after,
        is_done: row.is_done,
        counted: row.counted.0,
    }))
}

/// Notes it.
pub(super) async fn reach(
    conn: &mut PgConnection,
    run: JobId,
    path: &Path,
    reached: &Reached,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- nightly_baseline.reach
        insert into tenant.baseline_path (run, path, pages, policy_version, after, is_done, counts)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (run, path) do update
        set pages = excluded.pages, policy_version = excluded.policy_version, after = excluded.after,
            is_done = excluded.is_done, counts = excluded.counts",
        run.0,
        path.id,
        reached.pages,
        reached.policy,
        reached.after,
        reached.is_done,
        Json(&reached.counted) as _,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// What the syncs of a run left in the tenant's database: the newest of each stream that ended meanwhile, with its job.
pub(super) async fn synced(
    conn: &mut PgConnection,
    since: DateTime<Utc>,
) -> Result<Vec<(JobId, connector_sync::Report)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- nightly_baseline.synced
        select distinct on (connector, stream) job, report as "report!: Json<connector_sync::Report>"
        from tenant.sync_run where finished_at >= $1
        order by connector, stream, finished_at desc, job desc"#,
        since,
    );
    Ok(rows.fetch_all(conn).await?.into_iter().map(|row| (JobId(row.job), row.report.0)).collect())
}

/// Shadow runs since then, by the candidate's number: how many, and how many of them failed.
pub(super) async fn ran(
    conn: &mut PgConnection,
    since: DateTime<Utc>,
) -> Result<Vec<(i64, u64, u64)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- nightly_baseline.ran
        select candidate, count(*) as "ran!", count(error) as "errors!"
        from tenant.shadow_run where ran_at >= $1 group by candidate"#,
        since,
    );
    let rows = rows.fetch_all(conn).await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.candidate, row.ran.cast_unsigned(), row.errors.cast_unsigned()))
        .collect())
}

/// The report of the run that this job began; none if there is none yet.
pub async fn report(db: &TenantDb, run: JobId) -> Result<Option<Report>, TenantError> {
    let mut read = db.read().await?;
    let run = load(&mut read, run).await?;
    read.finish().await?;
    Ok(run.and_then(|run| run.report))
}

/// The last `days` up to today, by the database's clock in UTC.
pub async fn window(db: &TenantDb, days: u32) -> Result<Window, TenantError> {
    let mut read = db.read().await?;
    let today = sqlx::query_scalar!(
        r#"-- nightly_baseline.today
        select (now() at time zone 'UTC')::date as "today!""#
    );
    let today: NaiveDate = today.fetch_one(&mut *read as &mut PgConnection).await?;
    let reports = sqlx::query_scalar!(
        r#"-- nightly_baseline.reports
        select report as "report!: Json<Report>" from tenant.baseline_run
        where night between $1 and $2 and finished_at is not null"#,
        Window::first_day(today, days),
        today,
    );
    let reports = reports.fetch_all(&mut *read as &mut PgConnection).await?;
    read.finish().await?;
    Ok(Window::of(today, days, reports.into_iter().map(|report| report.0).collect()))
}
