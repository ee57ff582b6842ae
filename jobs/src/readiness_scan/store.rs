//! Reports as rows.

use chrono::{DateTime, Utc};
use database::tenant::{TenantDb, TenantError};
use sqlx::{PgConnection, types::Json};

use super::{Report, Severity};

/// A report that is kept.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The job that made it.
    pub job: i64,
    /// When.
    pub scanned_at: DateTime<Utc>,
    /// What it says.
    pub report: Report,
}

pub(super) async fn store(conn: &mut PgConnection, job: i64, report: &Report) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- readiness_scan.store
        insert into tenant.readiness_scan (job, report, blocking) values ($1, $2, $3)",
        job,
        Json(report) as _,
        i32::try_from(report.count(Severity::Blocks)).unwrap_or(i32::MAX),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// The report of a job, or else the latest.
pub async fn load(db: &TenantDb, job: Option<i64>) -> Result<Option<Stored>, TenantError> {
    let mut read = db.read().await?;
    let row = sqlx::query!(
        r#"-- readiness_scan.load
        select job, scanned_at, report as "report: Json<Report>" from tenant.readiness_scan
        where $1::int8 is null or job = $1 order by scanned_at desc, job desc limit 1"#,
        job,
    )
    .fetch_optional(&mut *read as &mut PgConnection)
    .await?;
    read.finish().await?;
    Ok(row.map(|row| Stored { job: row.job, scanned_at: row.scanned_at, report: row.report.0 }))
}
