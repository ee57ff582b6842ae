//! Cases: records as they were when somebody was to decide.

use std::fmt;

use serde_json::{Map, Value};
use sqlx::PgConnection;

use super::ShadowError;
use crate::digest::Digest;

/// A case's number in its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct CaseId(pub i64);

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A case to be kept.
#[derive(Clone, Debug)]
pub struct NewCase<'a> {
    /// Whose fields it is about.
    pub path: &'a str,
    /// The digest of everything that decides it; the same digest is the same case.
    pub input_digest: Digest,
    /// The record's connector.
    pub connector: &'a str,
    /// Its stream.
    pub stream: &'a str,
    /// Its key.
    pub key: &'a str,
    /// The path's fields with their values; null for what the record lacks.
    pub original: &'a Map<String, Value>,
    /// Everything that a candidate is shown.
    pub input: &'a Value,
}

/// A case as a candidate sees it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its number.
    pub id: CaseId,
    /// Whose fields it is about.
    pub path: String,
    /// The digest of everything that decides it.
    pub input_digest: Digest,
    /// The record's connector.
    pub connector: String,
    /// Its stream.
    pub stream: String,
    /// Its key.
    pub key: String,
    /// The path's fields with their values.
    pub original: Value,
    /// Everything that is shown.
    pub input: Value,
}

/// Keeps a case; one that is kept already stays as it is. Of a record whose change by us no sync has brought yet, what
/// is seen next is our own doing.
pub async fn freeze(conn: &mut PgConnection, case: &NewCase<'_>) -> Result<CaseId, ShadowError> {
    sqlx::query!(
        "-- shadow.freeze
        insert into tenant.shadow_case (path, input_digest, connector, stream, key, original, input, written_at)
        values ($1, $2, $3, $4, $5, $6, $7, (
            select max(w.intent_at) from tenant.writeback w
            join tenant.record r on r.connector = $3 and r.stream = $4 and r.key = $5 and r.changed_at <= w.intent_at
            where w.connector = $3 and w.stream = $4 and w.key = $5 and w.state <> 'not_applied'))
        on conflict (path, input_digest) do nothing",
        case.path,
        case.input_digest.as_bytes(),
        case.connector,
        case.stream,
        case.key,
        Value::Object(case.original.clone()),
        case.input,
    )
    .execute(&mut *conn)
    .await?;
    let id = sqlx::query_scalar!(
        r#"-- shadow.case_of
        select id as "id: CaseId" from tenant.shadow_case where path = $1 and input_digest = $2"#,
        case.path,
        case.input_digest.as_bytes(),
    );
    Ok(id.fetch_one(conn).await?)
}

/// Notes that we are about to write to a record: what is seen of it from now on is our own doing and no truth about any
/// of its cases, of whatever path or input. In the transaction that makes the intent durable, before the first byte is
/// sent. Answers how many cases it has.
pub async fn written(
    conn: &mut PgConnection,
    connector: &str,
    stream: &str,
    key: &str,
) -> Result<u64, sqlx::Error> {
    let noted = sqlx::query!(
        "-- shadow.written
        update tenant.shadow_case set written_at = coalesce(written_at, now())
        where connector = $1 and stream = $2 and key = $3",
        connector,
        stream,
        key,
    );
    Ok(noted.execute(conn).await?.rows_affected())
}

/// Locks the cases of a record, as whoever gives a word on one does, to the end of the transaction: before anything is
/// appended to the chain by whoever notes [`written`] afterwards.
pub async fn hold(
    conn: &mut PgConnection,
    connector: &str,
    stream: &str,
    key: &str,
) -> Result<(), sqlx::Error> {
    let held = sqlx::query!(
        "-- shadow.hold
        select from tenant.shadow_case where connector = $1 and stream = $2 and key = $3
        order by id for no key update",
        connector,
        stream,
        key,
    );
    held.execute(conn).await.map(drop)
}

/// The path's values of a case.
pub(super) async fn original(conn: &mut PgConnection, case: CaseId) -> Result<Value, ShadowError> {
    let original = sqlx::query_scalar!(
        "-- shadow.original
        select original from tenant.shadow_case where id = $1 for key share",
        case as CaseId,
    );
    original.fetch_optional(conn).await?.ok_or(ShadowError::NoCase(case))
}
