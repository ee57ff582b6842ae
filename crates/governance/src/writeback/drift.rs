//! Verified changes that are looked at again: does the target still hold what was verified?

use serde::Serialize;
use sqlx::{PgConnection, types::Json};

use super::{Values, WritebackError, WritebackId};
use crate::audit::{self, Event};
use serde_json::json;

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// What was verified is still there.
    None,
    /// The values before the change are back.
    Before,
    /// There are third values.
    Other,
    /// There is no record.
    Gone,
}

impl Drift {
    const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Before => Some("before"),
            Self::Other => Some("other"),
            Self::Gone => Some("gone"),
        }
    }
}

/// A page of what is to be looked at.
#[derive(Clone, Debug)]
pub struct DriftPage {
    /// The writebacks, in their order.
    pub ids: Vec<WritebackId>,
}

/// A change that has not lasted.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the columns carry their names")]
pub struct Drifting {
    pub writeback: WritebackId,
    pub path: String,
    pub key: String,
    pub standing: String,
    pub first_seen_at: chrono::DateTime<chrono::Utc>,
    pub last_seen_at: chrono::DateTime<chrono::Utc>,
}

/// Verified changes that nothing of ours has written over since, of the last `days`, with a number above `after`.
pub async fn watched(
    conn: &mut PgConnection,
    after: Option<WritebackId>,
    days: i32,
    limit: i64,
) -> Result<DriftPage, WritebackError> {
    let ids = sqlx::query_scalar!(
        "-- writeback.watched
        select w.id from tenant.writeback w
        where w.state = 'verified' and w.compensates is null and w.id > $1
          and w.ended_at > now() - make_interval(days => $2)
          and not exists (
            select from tenant.writeback later
            where (later.connector, later.stream, later.key) = (w.connector, w.stream, w.key) and later.id > w.id
              and later.idempotency_key is not null)
        order by w.id limit $3",
        after.map_or(0, |id| id.0),
        days,
        limit,
    );
    let ids = ids.fetch_all(conn).await?;
    Ok(DriftPage { ids: ids.into_iter().map(WritebackId).collect() })
}

/// Notes what a look has found; the beginning and the end of a drift are in the chain.
pub async fn mark_checked(
    conn: &mut PgConnection,
    id: WritebackId,
    drift: Drift,
    observed: Option<&Values>,
    job: i64,
) -> Result<(), WritebackError> {
    sqlx::query!(
        "-- writeback.mark_checked
        update tenant.writeback set drift_checked_at = clock_timestamp() where id = $1",
        id.0,
    )
    .execute(&mut *conn)
    .await?;
    let changed = match drift.name() {
        None => end(conn, id).await?.then_some("writeback.drift_ended"),
        Some(standing) => begin(conn, id, standing, observed).await?.then_some("writeback.drifted"),
    };
    if let Some(kind) = changed {
        let body = json!({ "writeback": id, "standing": drift });
        audit::append(conn, &Event { kind, actor: None, job: Some(job), body }).await?;
    }
    Ok(())
}

/// True if it is new, or another one than the last time.
async fn begin(
    conn: &mut PgConnection,
    id: WritebackId,
    standing: &str,
    observed: Option<&Values>,
) -> Result<bool, sqlx::Error> {
    let same = sqlx::query!(
        "-- writeback.still_drifts
        update tenant.writeback_drift set last_seen_at = clock_timestamp(), observed = $3
        where writeback = $1 and standing = $2 and ended_at is null",
        id.0,
        standing,
        observed.map(Json) as _,
    )
    .execute(&mut *conn)
    .await?;
    if same.rows_affected() > 0 {
        return Ok(false);
    }
    end(conn, id).await?;
    sqlx::query!(
        "-- writeback.drifts
        insert into tenant.writeback_drift (writeback, standing, observed, first_seen_at, last_seen_at)
        values ($1, $2, $3, clock_timestamp(), clock_timestamp())",
        id.0,
        standing,
        observed.map(Json) as _,
    )
    .execute(conn)
    .await?;
    Ok(true)
}

async fn end(conn: &mut PgConnection, id: WritebackId) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query!(
        "-- writeback.drift_ends
        update tenant.writeback_drift set ended_at = clock_timestamp() where writeback = $1 and ended_at is null",
        id.0,
    )
    .execute(conn)
    .await?;
    Ok(ended.rows_affected() > 0)
}

/// What drifts now, the latest first.
pub async fn drifts(conn: &mut PgConnection, limit: i64) -> Result<Vec<Drifting>, WritebackError> {
    let rows = sqlx::query!(
        "-- writeback.list_drifts
        select d.writeback, w.path, w.key, d.standing, d.first_seen_at, d.last_seen_at
        from tenant.writeback_drift d join tenant.writeback w on w.id = d.writeback
        where d.ended_at is null order by d.first_seen_at desc limit $1",
        limit,
    );
    let rows = rows.fetch_all(conn).await?.into_iter().map(|row| Drifting {
        writeback: WritebackId(row.writeback),
        path: row.path,
        key: row.key,
        standing: row.standing,
        first_seen_at: row.first_seen_at,
        last_seen_at: row.last_seen_at,
    });
    Ok(rows.collect())
}
