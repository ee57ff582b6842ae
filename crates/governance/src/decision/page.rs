//! A path's records, a page at a time.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::{PgConnection, types::Json};

use crate::{
    path::Path,
    policy::{FieldKind, Fields},
};

/// Records of a page; with the evidence of each, some megabytes.
pub const PAGE_RECORDS: i64 = 2_000;
/// A larger record is not transferred; it goes to a person.
const RECORD_BYTES_MAX: i32 = 256 * 1024;
/// Records looked at to learn which fields a stream has.
const SAMPLE_RECORDS: i64 = 5_000;

/// A record to be decided on.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its key.
    pub key: String,
    /// The digest that its sync gave it.
    pub digest: String,
    /// Its fields; none if it is too large to be judged by rules.
    pub data: Option<Map<String, Value>>,
    /// When it last changed, as far as syncs have seen.
    pub changed_at: DateTime<Utc>,
}

struct Row {
    key: String,
    digest: String,
    data: Option<Json<Map<String, Value>>>,
    changed_at: DateTime<Utc>,
}

impl From<Row> for Record {
    fn from(row: Row) -> Self {
        Self { key: row.key, digest: row.digest, data: row.data.map(|it| it.0), changed_at: row.changed_at }
    }
}

/// The time that a run judges at: when the transaction began, by the database's clock.
pub async fn now(conn: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- decision.now
        select now() as "now!""#
    )
    .fetch_one(conn)
    .await
}

/// The records after this key, in the order of their keys; empty at the end.
pub async fn next_page(
    conn: &mut PgConnection,
    path: &Path,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Record>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"-- decision.next_page
        select key, digest, changed_at,
            case when octet_length(data::text) <= $5 then data end as "data: Json<Map<String, Value>>"
        from tenant.record
        where connector = $1 and stream = $2 and deleted_at is null and ($3::text is null or key > $3 collate "C")
        order by key limit $4"#,
        path.connector,
        path.stream,
        after,
        limit,
        RECORD_BYTES_MAX
    );
    Ok(rows.fetch_all(conn).await?.into_iter().map(Record::from).collect())
}

/// The records of these keys. One that has vanished is not among them.
pub async fn of_keys(
    conn: &mut PgConnection,
    path: &Path,
    keys: &[String],
) -> Result<Vec<Record>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"-- decision.of_keys
        select key, digest, changed_at,
            case when octet_length(data::text) <= $4 then data end as "data: Json<Map<String, Value>>"
        from tenant.record
        where connector = $1 and stream = $2 and key = any($3) and deleted_at is null
        order by key"#,
        path.connector,
        path.stream,
        keys,
        RECORD_BYTES_MAX
    );
    Ok(rows.fetch_all(conn).await?.into_iter().map(Record::from).collect())
}

/// The fields that stored records have shown, with their kinds, and `agreed` ones that none has shown yet. Unknown
/// altogether while there is neither.
pub async fn fields(
    conn: &mut PgConnection,
    connector: &str,
    stream: &str,
    agreed: &[String],
) -> Result<Fields, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- decision.fields
        with sample as (
            select data from tenant.record
            where connector = $1 and stream = $2 and deleted_at is null and jsonb_typeof(data) = 'object' limit $3)
        select name as "name!", array_agg(distinct jsonb_typeof(value)) as "kinds!"
        from sample, jsonb_each(data) as field (name, value) group by name"#,
        connector,
        stream,
        SAMPLE_RECORDS
    );
    let rows = rows.fetch_all(conn).await?;
    if rows.is_empty() && agreed.is_empty() {
        return Ok(Fields::any());
    }
    let top = |path: &String| path.split('.').next().unwrap_or(path).to_owned();
    let mut known: BTreeMap<_, _> = agreed.iter().map(|path| (top(path), FieldKind::Open)).collect();
    known.extend(rows.into_iter().map(|row| (row.name, kind(&row.kinds))));
    Ok(Fields::only(known))
}

/// One kind, if there is no other besides null.
fn kind(seen: &[String]) -> FieldKind {
    let mut kinds = seen.iter().filter(|kind| *kind != "null");
    match (kinds.next().map(String::as_str), kinds.next()) {
        (Some("string"), None) => FieldKind::Text,
        (Some("number"), None) => FieldKind::Number,
        (Some("boolean"), None) => FieldKind::Boolean,
        (Some("array"), None) => FieldKind::List,
        (Some("object"), None) => FieldKind::Object,
        _ => FieldKind::Open,
    }
}
