//! Rotations on record: how far each has come, and what it could not open.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Action, Fault, Progress, Reason, Settings};
use crate::sealed::DekId;

/// A rotation on record.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What is rotated.
    pub action: Action,
    /// Keys that were younger stay in use, in seconds.
    pub older_than_secs: i64,
    /// How far it has come.
    pub progress: Progress,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// How many rotations were ever begun here.
pub async fn count(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- rotation.count
        select count(*) as "count!" from governance.key_rotation"#
    )
    .fetch_one(conn)
    .await
}

/// Enters a rotation under the number of its approval.
pub async fn begin(
    conn: &mut PgConnection,
    id: i64,
    job: i64,
    settings: &Settings,
    progress: &Progress,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- rotation.begin
        insert into governance.key_rotation (id, job, action, older_than_secs, progress)
        values ($1, $2, $3, $4, $5)",
        id,
        job,
        settings.action.as_str(),
        seconds(settings.older_than),
        json(progress)?,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// The newest rotation, if it is this one and has not ended: it is gone on with, and needs no other approval.
pub async fn unfinished(conn: &mut PgConnection, settings: &Settings) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- rotation.unfinished
        select newest.id
          from (select * from governance.key_rotation order by started_at desc, id desc limit 1) newest
         where newest.ended_at is null and newest.action = $1 and newest.older_than_secs = $2",
        settings.action.as_str(),
        seconds(settings.older_than),
    )
    .fetch_optional(conn)
    .await
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// The rotation, locked until the transaction ends.
pub async fn hold(conn: &mut PgConnection, id: i64) -> Result<Option<Recorded>, sqlx::Error> {
    let row = sqlx::query!(
        "-- rotation.hold
        select action, older_than_secs, progress, ended_at from governance.key_rotation where id = $1 for update",
        id,
    );
    row.fetch_optional(conn)
        .await?
        .map(|row| recorded(&row.action, row.older_than_secs, row.progress, row.ended_at))
        .transpose()
}

/// The rotation as it stands.
pub async fn find(conn: &mut PgConnection, id: i64) -> Result<Option<Recorded>, sqlx::Error> {
    let row = sqlx::query!(
        "-- rotation.find
        select action, older_than_secs, progress, ended_at from governance.key_rotation where id = $1",
        id,
    );
    row.fetch_optional(conn)
        .await?
        .map(|row| recorded(&row.action, row.older_than_secs, row.progress, row.ended_at))
        .transpose()
}

fn recorded(
    action: &str,
    older_than_secs: i64,
    progress: Value,
    ended_at: Option<DateTime<Utc>>,
) -> Result<Recorded, sqlx::Error> {
    let action = action.parse().map_err(|error: super::NoAction| sqlx::Error::Decode(error.into()))?;
    let progress = serde_json::from_value(progress).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Recorded { action, older_than_secs, progress, ended_at })
}

/// Keeps how far it has come, and what it could not open on the way.
pub async fn save(
    conn: &mut PgConnection,
    id: i64,
    job: i64,
    progress: &Progress,
    faults: &[Fault],
) -> Result<(), sqlx::Error> {
    for fault in faults {
        sqlx::query!(
            "-- rotation.fault
            insert into governance.key_rotation_fault (rotation, relation, col, key, dek, reason)
            values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
            id,
            fault.relation,
            fault.column,
            &fault.key,
            fault.dek.0,
            fault.reason.as_str(),
        )
        .execute(&mut *conn)
        .await?;
    }
    sqlx::query!(
        "-- rotation.save\nupdate governance.key_rotation set job = $2, progress = $3 where id = $1",
        id,
        job,
        json(progress)?,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Notes that it is done.
pub async fn end(conn: &mut PgConnection, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query!("-- rotation.end\nupdate governance.key_rotation set ended_at = now() where id = $1", id)
        .execute(conn)
        .await
        .map(drop)
}

/// What it could not open, in the order of tables and rows.
pub async fn faults(conn: &mut PgConnection, id: i64, limit: i64) -> Result<Vec<Fault>, sqlx::Error> {
    let rows = sqlx::query!(
        "-- rotation.faults
        select relation, col, key, dek, reason from governance.key_rotation_fault
         where rotation = $1 order by relation, col, key limit $2",
        id,
        limit,
    );
    let fault = |relation, column, key, dek: Uuid, reason: &str| Fault {
        relation,
        column,
        key,
        dek: DekId(dek),
        reason: Reason::named(reason),
    };
    let rows = rows.fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| fault(row.relation, row.col, row.key, row.dek, &row.reason)).collect())
}

fn json(progress: &Progress) -> Result<Value, sqlx::Error> {
    serde_json::to_value(progress).map_err(|error| sqlx::Error::Encode(error.into()))
}
