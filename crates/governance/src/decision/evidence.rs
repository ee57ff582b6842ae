//! What other records say about a record, gathered for a page at once.
//!
//! Each kind is one statement per page. The other stream is gone over once, whatever the statistics say, and each of
//! its records is looked up in a hash of the page's identities: `is true` keeps the planner from making a join of it,
//! and an array would be searched from end to end for every record (3.0 s a page of 2,000 against 0.25 s, over 100,000 records).

use std::{collections::HashMap, sync::LazyLock};

use serde_json::{Map, Value, json};
use sqlx::{PgConnection, types::Json};

use super::Record;
use crate::{
    digest::Digest,
    path::Path,
    policy::{Compare, OfReference, OfSource, Policy},
};

/// Duplicates, and matches in each other source, that a record's evidence holds at most.
pub const MATCHES_MAX: i64 = 5;
/// A larger match is there by its key alone.
const MATCH_BYTES_MAX: i32 = 16 * 1024;

/// What is known beside a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    members: Map<String, Value>,
}

impl Evidence {
    /// Nothing but the record.
    #[must_use]
    pub fn none() -> Self {
        let empty = ["duplicates", "sources", "orphaned"].map(|name| (name.to_owned(), json!([])));
        Self { members: empty.into_iter().collect() }
    }

    /// `{duplicates, sources, orphaned}`.
    #[must_use]
    pub fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// The digest of everything in it. Members are sorted and numbers keep their digits, so that it is stable.
    #[must_use]
    pub fn digest(&self) -> Digest {
        static OF_NONE: LazyLock<(Evidence, Digest)> = LazyLock::new(|| {
            let none = Evidence::none();
            let digest = none.computed();
            (none, digest)
        });
        if *self == OF_NONE.0 { OF_NONE.1 } else { self.computed() }
    }

    fn computed(&self) -> Digest {
        let members = serde_json::to_vec(&self.members).expect("JSON has a text");
        Digest::of(&members)
    }

    fn push(&mut self, member: &str, value: Value) {
        if let Some(Value::Array(values)) = self.members.get_mut(member) {
            values.push(value);
        }
    }
}

/// The evidence that the policy asks for, one for each record, in their order.
pub async fn gather(
    conn: &mut PgConnection,
    path: &Path,
    policy: &Policy,
    records: &[Record],
) -> Result<Vec<Evidence>, sqlx::Error> {
    let mut gathered = Gathered::of(records);
    let (needs, none) = (policy.evidence(), json!({}));
    if let Some(of) = &needs.duplicates {
        let same = Other { connector: &path.connector, stream: &path.stream, field: &of.field };
        for found in matches(conn, path, &gathered.keys, &of.field, of.compare, &same).await? {
            let value = json!({ "key": found.key, "record": found.data.as_ref().map_or(&none, |it| &it.0) });
            gathered.push(&found.of, "duplicates", value);
        }
    }
    for source in &needs.sources {
        let OfSource { connector, stream, field, matches: theirs, compare } = source;
        let other = Other { connector, stream, field: theirs };
        for found in matches(conn, path, &gathered.keys, field, *compare, &other).await? {
            let record = found.data.as_ref().map_or(&none, |it| &it.0);
            let value =
                json!({ "connector": connector, "stream": stream, "key": found.key, "record": record });
            gathered.push(&found.of, "sources", value);
        }
    }
    for reference in &needs.references {
        for key in orphaned(conn, path, &gathered.keys, reference).await? {
            gathered.push(&key, "orphaned", Value::from(reference.name.as_str()));
        }
    }
    Ok(gathered.evidence)
}

struct Gathered {
    keys: Vec<String>,
    places: HashMap<String, usize>,
    evidence: Vec<Evidence>,
}

impl Gathered {
    fn of(records: &[Record]) -> Self {
        let keys: Vec<_> = records.iter().map(|record| record.key.clone()).collect();
        let places = keys.iter().cloned().zip(0..).collect();
        Self { keys, places, evidence: vec![Evidence::none(); records.len()] }
    }

    fn push(&mut self, key: &str, member: &str, value: Value) {
        if let Some(place) = self.places.get(key) {
            self.evidence[*place].push(member, value);
        }
    }
}

/// The field of a stream in which identities are looked for.
struct Other<'a> {
    connector: &'a str,
    stream: &'a str,
    field: &'a str,
}

struct Match {
    /// The key of the page's record.
    of: String,
    key: String,
    data: Option<Json<Value>>,
}

/// Records of the other stream with the identity of one of ours, never the record itself.
async fn matches(
    conn: &mut PgConnection,
    path: &Path,
    keys: &[String],
    field: &str,
    compare: Compare,
    other: &Other<'_>,
) -> Result<Vec<Match>, sqlx::Error> {
    sqlx::query_as!(
        Match,
        r#"-- decision.matches
        with page as materialized (
            select key, tenant.identity(data ->> $4, $5) as identity from tenant.record
            where connector = $1 and stream = $2 and key = any($3) and deleted_at is null
        ), found as materialized (
            select key, tenant.identity(data ->> $8, $5) as identity,
                case when octet_length(data::text) <= $10 then data end as data
            from tenant.record
            where connector = $6 and stream = $7 and deleted_at is null
                and (tenant.identity(data ->> $8, $5) in (select identity from page where identity is not null)) is true
        ), numbered as (
            select page.key as of, found.key, found.data,
                row_number() over (partition by page.key order by found.key) as number
            from page join found using (identity)
            where not ($1 = $6 and $2 = $7 and page.key = found.key)
        )
        select of as "of!", key as "key!", data as "data: Json<Value>" from numbered
        where number <= $9 order by of, key"#,
        path.connector,
        path.stream,
        keys,
        field,
        compare.as_str(),
        other.connector,
        other.stream,
        other.field,
        MATCHES_MAX,
        MATCH_BYTES_MAX
    )
    .fetch_all(conn)
    .await
}

/// The keys of the page's records whose reference leads nowhere. An empty reference leads nowhere on purpose.
async fn orphaned(
    conn: &mut PgConnection,
    path: &Path,
    keys: &[String],
    reference: &OfReference,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- decision.orphaned
        select r.key from tenant.record r
        where r.connector = $1 and r.stream = $2 and r.key = any($3) and r.deleted_at is null
            and nullif(r.data ->> $4, '') is not null
            and not exists (
                select from tenant.record t
                where t.connector = $5 and t.stream = $6 and t.key = r.data ->> $4 and t.deleted_at is null)"#,
        path.connector,
        path.stream,
        keys,
        reference.field,
        reference.connector,
        reference.stream
    )
    .fetch_all(conn)
    .await
}
