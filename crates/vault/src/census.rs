//! The census: how many values rest under each key, and how many keys under each of a key service's.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use crate::{
    catalog::{Column, columns, identifier},
    keys::{self, Kek, KeyState},
    sealed::{DekId, KekId},
    vault::VaultError,
};

/// Everything that is sealed in one database.
#[derive(Clone, Debug, Serialize)]
pub struct Census {
    /// The key services' keys, the newest first.
    pub keks: Vec<KekCensus>,
    /// The keys of tables, by table, the newest first.
    pub deks: Vec<DekCensus>,
    /// Values that name a key which is not known here: these do not open.
    pub unknown: i64,
}

/// A key service's key and what it wraps.
#[derive(Clone, Debug, Serialize)]
pub struct KekCensus {
    /// The key.
    #[serde(flatten)]
    pub kek: Kek,
    /// Keys that it wraps, by its version.
    pub wraps: BTreeMap<String, i64>,
}

/// A table's key and what it seals.
#[derive(Clone, Debug, Serialize)]
pub struct DekCensus {
    /// Its number.
    pub id: DekId,
    /// The table.
    pub relation: String,
    /// Where it stands.
    pub state: KeyState,
    /// What wraps it.
    pub kek: KekId,
    /// Which version of that.
    pub kek_version: String,
    /// Since when it is known here.
    pub made_at: DateTime<Utc>,
    /// Since when it seals nothing.
    pub former_since: Option<DateTime<Utc>>,
    /// Values under it, wherever they lie.
    pub values: i64,
}

/// Counts all sealed values by the key that they name. Reads every one of them.
pub async fn census(conn: &mut PgConnection) -> Result<Census, VaultError> {
    let mut counted = BTreeMap::new();
    for column in columns(conn).await? {
        for (dek, values) in count(conn, &column, None).await? {
            *counted.entry(dek).or_insert(0) += values;
        }
    }
    let rows = sqlx::query!(
        "-- vault.census
        select id, relation, kek, kek_version, state, made_at, former_since
          from governance.dek order by relation, made_at desc, id"
    );
    let mut deks = Vec::new();
    for row in rows.fetch_all(&mut *conn).await? {
        deks.push(DekCensus {
            id: DekId(row.id),
            relation: row.relation,
            state: KeyState::named(&row.state),
            kek: KekId(row.kek),
            kek_version: row.kek_version,
            made_at: row.made_at,
            former_since: row.former_since,
            values: counted.remove(&row.id).unwrap_or(0),
        });
    }
    let keks = keys::keks(conn).await?.into_iter().map(|kek| wrapped_by(kek, &deks)).collect();
    Ok(Census { keks, deks, unknown: counted.values().sum() })
}

fn wrapped_by(kek: Kek, deks: &[DekCensus]) -> KekCensus {
    let mut wraps = BTreeMap::new();
    for dek in deks.iter().filter(|dek| dek.kek == kek.id && !dek.state.is_retired()) {
        *wraps.entry(dek.kek_version.clone()).or_insert(0) += 1;
    }
    KekCensus { kek, wraps }
}

/// How many values of a column name each key, or this one.
pub(crate) async fn count(
    conn: &mut PgConnection,
    column: &Column,
    of: Option<DekId>,
) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
    let name = identifier(&column.column);
    let statement = format!(
        "-- vault.count\nselect governance.sealed_dek({name}) as dek, count(*) as values from {}.{}
         where {name} is not null and ($1::uuid is null or governance.sealed_dek({name}) = $1) group by 1",
        identifier(&column.schema),
        identifier(&column.table),
    );
    let rows = sqlx::query(AssertSqlSafe(statement)).bind(of.map(|dek| dek.0)).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
