//! What a sync writes into the tenant's database, each function inside the transaction of its step.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use connectors::{Batch, KeyRange, Record, Rejected, State, StateError, Stream};
use database::tenant::{TenantDb, TenantError};
use governance::audit::{self, AuditError, Event};
use queue::JobId;
use serde_json::{json, value::RawValue};
use sqlx::{PgConnection, types::Json};

use super::{ConnectorSync, Counts, Report};

/// Why a step was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// The new state must not follow the committed one.
    #[error("the stream's state was not advanced: sync it with `reset` to begin again")]
    State(#[source] StateError),
    /// More of the stream vanished than its definition lets vanish in one run.
    #[error(
        "{vanished} of {known} records are no longer in the source, more than `deletions_percent_max` allows: raise it for one sync if that is right"
    )]
    TooManyDeletions { vanished: u64, known: u64 },
    /// The reset could not be put on record.
    #[error(transparent)]
    Audit(AuditError),
    #[error(transparent)]
    Tenant(#[from] TenantError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Tenant(error.into())
    }
}

impl From<AuditError> for StoreError {
    fn from(error: AuditError) -> Self {
        match error {
            // What it means is the database's to say.
            AuditError::Database(error) => error.into(),
            error => Self::Audit(error),
        }
    }
}

/// A transaction of a sync. Its name is what a repetition is recognised by.
pub(super) enum Step<'a> {
    /// Enters the run.
    Begin { attempt: u16 },
    /// Writes what was read.
    Batch { number: i64, batch: &'a Batch, stream: &'a Stream, known_records: u64 },
    /// Closes the run.
    End { attempt: u16, report: &'a Report },
}

impl Step<'_> {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Begin { attempt } => format!("begin {attempt}"),
            Self::Batch { number, .. } => format!("batch {number}"),
            Self::End { attempt, .. } => format!("end {attempt}"),
        }
    }

    /// Makes the step's effect; a batch answers the run's counts after it.
    pub(super) async fn apply(
        &self,
        conn: &mut PgConnection,
        job: JobId,
        sync: &ConnectorSync,
    ) -> Result<Option<Counts>, StoreError> {
        match self {
            Self::Begin { .. } => begin(conn, job, sync).await.map(|()| None),
            Self::Batch { number, batch, stream, known_records } => {
                let counts = write(conn, job, sync, *number, batch).await?;
                // The source's own count may be right while its keys are all others.
                if batch.keys.is_some() && stream.too_many_deletions(*known_records, counts.deleted) {
                    return Err(StoreError::TooManyDeletions {
                        vanished: counts.deleted,
                        known: *known_records,
                    });
                }
                Ok(Some(counts))
            }
            Self::End { report, .. } => finish(conn, job, report).await.map(|()| None),
        }
    }
}

/// A run as the database has it.
pub(super) struct Run {
    pub connector: String,
    pub stream: String,
    /// The last batch committed.
    pub step: i64,
    pub counts: Counts,
    pub warnings: Vec<String>,
    pub state: State,
    /// Records of the stream that were here and not marked deleted when the run began.
    pub known_records: u64,
    /// How long ago the first attempt began, when this was loaded.
    pub age: Duration,
    pub loaded_at: Instant,
    /// What it ended with, when only the word to the queue was lost.
    pub report: Option<Report>,
}

/// Enters the run, or takes up the one of an earlier attempt.
async fn begin(conn: &mut PgConnection, job: JobId, sync: &ConnectorSync) -> Result<(), StoreError> {
    let entered = sqlx::query!(
        "-- connector_sync.begin
        insert into tenant.sync_run (job, connector, stream) values ($1, $2, $3) on conflict (job) do nothing",
        job.0,
        sync.connector,
        sync.stream
    )
    .execute(&mut *conn)
    .await?;
    if sync.reset && entered.rows_affected() == 1 {
        sqlx::query!(
            "-- connector_sync.reset
            delete from tenant.sync_state where connector = $1 and stream = $2",
            sync.connector,
            sync.stream
        )
        .execute(&mut *conn)
        .await?;
        let body = json!({"connector": sync.connector, "stream": sync.stream});
        let event = Event { kind: "connector.reset", actor: None, job: Some(job.0), body };
        audit::append(conn, &event).await?;
    }
    Ok(())
}

pub(super) async fn load(db: &TenantDb, job: JobId, sync: &ConnectorSync) -> Result<Run, TenantError> {
    let mut read = db.read().await?;
    let conn: &mut PgConnection = &mut read;
    let row = sqlx::query!(
        r#"-- connector_sync.load
        select r.step, r.read, r.written, r.unchanged, r.repeated, r.rejected, r.deleted, r.null_cursor, r.warnings,
            r.report as "report: Json<Report>",
            extract(epoch from now() - r.started_at)::float8 as "age!", s.state as "state?: Json<State>",
            (select count(*) from tenant.record k
             where k.connector = r.connector and k.stream = r.stream and k.deleted_at is null) + r.deleted as "known!"
        from tenant.sync_run r left join tenant.sync_state s using (connector, stream)
        where r.job = $1"#,
        job.0
    )
    .fetch_one(conn)
    .await?;
    read.finish().await?;
    Ok(Run {
        connector: sync.connector.clone(),
        stream: sync.stream.clone(),
        step: row.step,
        counts: Counts {
            read: row.read.cast_unsigned(),
            written: row.written.cast_unsigned(),
            unchanged: row.unchanged.cast_unsigned(),
            repeated: row.repeated.cast_unsigned(),
            rejected: row.rejected.cast_unsigned(),
            deleted: row.deleted.cast_unsigned(),
            null_cursor: row.null_cursor.cast_unsigned(),
        },
        warnings: row.warnings,
        state: row.state.map_or_else(State::default, |state| state.0),
        known_records: row.known.cast_unsigned(),
        age: Duration::from_secs_f64(row.age.max(0.0)),
        loaded_at: Instant::now(),
        report: row.report.map(|report| report.0),
    })
}

/// Writes a batch and the state after it, and answers the run's counts.
async fn write(
    conn: &mut PgConnection,
    job: JobId,
    sync: &ConnectorSync,
    step: i64,
    batch: &Batch,
) -> Result<Counts, StoreError> {
    advance(conn, sync, &batch.state).await?;
    let written = upsert(conn, sync, &batch.records).await?;
    let deleted = match &batch.keys {
        Some(range) => mark_deleted(conn, sync, range).await?,
        None => 0,
    };
    set_aside(conn, sync, &batch.rejected).await?;
    let rejected = batch.rejected.len() as u64;
    let unchanged = batch.read.saturating_sub(written).saturating_sub(rejected);
    let row = sqlx::query!(
        "-- connector_sync.count
        update tenant.sync_run
        set step = $2, read = read + $3, written = written + $4, unchanged = unchanged + $5, repeated = repeated + $6,
            rejected = rejected + $7, deleted = deleted + $8, null_cursor = null_cursor + $9,
            warnings = warnings || array(select w from unnest($10::text[]) w where w <> all(warnings))
        where job = $1
        returning read, written, unchanged, repeated, rejected, deleted, null_cursor",
        job.0,
        step,
        batch.read.cast_signed(),
        written.cast_signed(),
        unchanged.cast_signed(),
        batch.repeated.cast_signed(),
        rejected.cast_signed(),
        deleted.cast_signed(),
        batch.null_cursor.cast_signed(),
        &batch.warnings
    )
    .fetch_one(conn)
    .await?;
    Ok(Counts {
        read: row.read.cast_unsigned(),
        written: row.written.cast_unsigned(),
        unchanged: row.unchanged.cast_unsigned(),
        repeated: row.repeated.cast_unsigned(),
        rejected: row.rejected.cast_unsigned(),
        deleted: row.deleted.cast_unsigned(),
        null_cursor: row.null_cursor.cast_unsigned(),
    })
}

/// Replaces the stream's state, unless the new one would lose or move back the cursor.
async fn advance(conn: &mut PgConnection, sync: &ConnectorSync, new: &State) -> Result<(), StoreError> {
    let old = sqlx::query_scalar!(
        r#"-- connector_sync.lock_state
        select state as "state: Json<State>" from tenant.sync_state where connector = $1 and stream = $2 for update"#,
        sync.connector,
        sync.stream
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(old) = old {
        State::successor_ok(&old.0, new).map_err(StoreError::State)?;
    }
    sqlx::query!(
        "-- connector_sync.advance
        insert into tenant.sync_state (connector, stream, state) values ($1, $2, $3)
        on conflict (connector, stream) do update set state = excluded.state, updated_at = now()",
        sync.connector,
        sync.stream,
        Json(new) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes the records that are new or differ, and answers how many those were.
async fn upsert(
    conn: &mut PgConnection,
    sync: &ConnectorSync,
    records: &[Record],
) -> Result<u64, sqlx::Error> {
    // A source may deliver a key twice in one batch; one statement can write it once. The later delivery stands.
    let latest: HashMap<&str, &Record> = records.iter().map(|record| (record.key.as_str(), record)).collect();
    // In the order of the keys, so that two writers cannot lock each other out.
    let mut records: Vec<&Record> = latest.into_values().collect();
    records.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let keys: Vec<&str> = records.iter().map(|r| r.key.as_str()).collect();
    let cursors: Vec<Option<String>> =
        records.iter().map(|r| r.cursor.as_ref().map(connectors::CursorValue::text)).collect();
    let digests: Vec<&str> = records.iter().map(|r| r.digest.as_str()).collect();
    let data: Vec<Json<&RawValue>> = records.iter().map(|r| Json(&*r.data)).collect();
    let deleted: Vec<bool> = records.iter().map(|r| r.deleted).collect();
    let written = sqlx::query!(
        "-- connector_sync.upsert
        insert into tenant.record as r (connector, stream, key, cursor, digest, data, deleted_at)
        select $1, $2, n.key, n.cursor, n.digest, n.data, case when n.deleted then now() end
        from unnest($3::text[], $4::text[], $5::text[], $6::jsonb[], $7::boolean[])
            as n(key, cursor, digest, data, deleted)
        on conflict (connector, stream, key) do update
        set cursor = excluded.cursor, digest = excluded.digest, data = excluded.data, changed_at = now(),
            deleted_at = excluded.deleted_at
        where r.digest <> excluded.digest or r.cursor is distinct from excluded.cursor
            or (r.deleted_at is null) <> (excluded.deleted_at is null)",
        sync.connector,
        sync.stream,
        &keys as _,
        &cursors as _,
        &digests as _,
        &data as _,
        &deleted
    )
    .execute(conn)
    .await?;
    Ok(written.rows_affected())
}

/// Marks the records of the range that the source no longer has.
///
/// `not in` over a list without nulls becomes one look into a hash per record, whatever the planner believes of the
/// list's length; `not exists` became a walk through the whole list for each.
async fn mark_deleted(
    conn: &mut PgConnection,
    sync: &ConnectorSync,
    range: &KeyRange,
) -> Result<u64, sqlx::Error> {
    let marked = sqlx::query!(
        "-- connector_sync.mark_deleted
        update tenant.record r set deleted_at = now(), changed_at = now()
        where r.connector = $1 and r.stream = $2 and r.deleted_at is null
          and ($3::text is null or r.key > $3) and ($4::text is null or r.key <= $4)
          and r.key not in (select unnest($5::text[]))",
        sync.connector,
        sync.stream,
        range.after.as_deref(),
        range.through.as_deref(),
        &range.keys
    )
    .execute(conn)
    .await?;
    Ok(marked.rows_affected())
}

async fn set_aside(
    conn: &mut PgConnection,
    sync: &ConnectorSync,
    rejected: &[Rejected],
) -> Result<(), sqlx::Error> {
    let distinct: HashMap<&str, &Rejected> = rejected.iter().map(|r| (r.digest.as_str(), r)).collect();
    let mut rejected: Vec<&Rejected> = distinct.into_values().collect();
    rejected.sort_unstable_by(|a, b| a.digest.cmp(&b.digest));
    let digests: Vec<&str> = rejected.iter().map(|r| r.digest.as_str()).collect();
    let keys: Vec<Option<&str>> = rejected.iter().map(|r| r.key.as_deref()).collect();
    let reasons: Vec<&str> = rejected.iter().map(|r| r.reason.name()).collect();
    let details: Vec<&str> = rejected.iter().map(|r| r.detail.as_str()).collect();
    let excerpts: Vec<&str> = rejected.iter().map(|r| r.excerpt.as_str()).collect();
    sqlx::query!(
        "-- connector_sync.set_aside
        insert into tenant.rejected_record as r (connector, stream, digest, key, reason, detail, excerpt)
        select $1, $2, n.digest, n.key, n.reason, n.detail, n.excerpt
        from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
            as n(digest, key, reason, detail, excerpt)
        on conflict (connector, stream, digest) do update
        set times = r.times + 1, last_seen_at = now(), reason = excluded.reason, detail = excluded.detail",
        sync.connector,
        sync.stream,
        &digests as _,
        &keys as _,
        &reasons as _,
        &details as _,
        &excerpts as _
    )
    .execute(conn)
    .await
    .map(drop)
}

async fn finish(conn: &mut PgConnection, job: JobId, report: &Report) -> Result<(), StoreError> {
    sqlx::query!(
        "-- connector_sync.finish
        update tenant.sync_run set finished_at = now(), report = $2 where job = $1",
        job.0,
        Json(report) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}
