//! The rows of keys: which there are, which seal, and what wraps which.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    sealed::{DekId, KekId},
    service::{KeyReference, NoVendor, Wrapped},
};

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// New values are sealed, or new keys wrapped, under it.
    Active,
    /// It only opens what it once sealed.
    Former,
    /// It is gone.
    Retired,
}

impl KeyState {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Former => "former",
            Self::Retired => "retired",
        }
    }

    /// The tables' checks know no other.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "active" => Self::Active,
            "former" => Self::Former,
            _ => Self::Retired,
        }
    }
}

/// A key service's key, as it is known in a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kek {
    /// Its number here.
    pub id: KekId,
    /// What the service calls it.
    #[serde(flatten)]
    pub reference: KeyReference,
    /// Where it stands.
    pub state: KeyState,
    /// Since when it is known here.
    pub made_at: DateTime<Utc>,
    /// When keys were last wrapped under a new version of it.
    pub last_rotated_at: Option<DateTime<Utc>>,
    /// When it last wrapped or unwrapped, to the hour.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A key that seals the values of a table, wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DekRow {
    /// Its number.
    pub id: DekId,
    /// The table, as `schema.table`.
    pub relation: String,
    /// What wraps it.
    pub kek: KekId,
    /// None once retired.
    pub wrapped: Option<Wrapped>,
    /// Where it stands.
    pub state: KeyState,
    /// Since when it is known here.
    pub made_at: DateTime<Utc>,
}

macro_rules! dek {
    ($row:expr) => {
        DekRow {
            id: DekId($row.id),
            relation: $row.relation,
            kek: KekId($row.kek),
            wrapped: $row.wrapped.map(|bytes| Wrapped { version: $row.kek_version, bytes }),
            state: KeyState::named(&$row.state),
            made_at: $row.made_at,
        }
    };
}

struct KekRow {
    id: uuid::Uuid,
    vendor: String,
    region: String,
    key_id: String,
    state: String,
    made_at: DateTime<Utc>,
    last_rotated_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

impl TryFrom<KekRow> for Kek {
    type Error = sqlx::Error;

    fn try_from(row: KekRow) -> Result<Self, sqlx::Error> {
        let vendor = row.vendor.parse().map_err(|error: NoVendor| sqlx::Error::Decode(error.into()))?;
        Ok(Self {
            id: KekId(row.id),
            reference: KeyReference { vendor, region: row.region, key_id: row.key_id },
            state: KeyState::named(&row.state),
            made_at: row.made_at,
            last_rotated_at: row.last_rotated_at,
            last_used_at: row.last_used_at,
        })
    }
}

/// All keys of key services, the newest first.
pub(crate) async fn keks(conn: &mut PgConnection) -> Result<Vec<Kek>, sqlx::Error> {
    let rows = sqlx::query_as!(
        KekRow,
        "-- vault.keks
        select id, vendor, region, key_id, state, made_at, last_rotated_at, last_used_at
          from governance.kek order by made_at desc, id"
    );
    rows.fetch_all(conn).await?.into_iter().map(Kek::try_from).collect()
}

/// What the key services call the keys that are or were in use here, but for those that were let go of.
pub async fn references(conn: &mut PgConnection) -> Result<Vec<KeyReference>, sqlx::Error> {
    let held = keks(conn).await?.into_iter().filter(|kek| !kek.state.is_retired());
    Ok(held.map(|kek| kek.reference).collect())
}

/// The key under which new keys are wrapped; none before the first secret.
pub(crate) async fn active_kek(conn: &mut PgConnection) -> Result<Option<Kek>, sqlx::Error> {
    Ok(keks(conn).await?.into_iter().find(|kek| kek.state == KeyState::Active))
}

pub(crate) async fn kek(conn: &mut PgConnection, id: KekId) -> Result<Kek, sqlx::Error> {
    keks(conn).await?.into_iter().find(|kek| kek.id == id).ok_or(sqlx::Error::RowNotFound)
}

/// Keeps others from making or naming keys here until the transaction ends.
pub(crate) async fn hold_keys(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- vault.hold_keys
        select pg_advisory_xact_lock(hashtextextended('tenure keys', 0)) is null as "held!""#
    )
    .fetch_one(conn)
    .await
    .map(drop)
}

/// Makes this the key that wraps new ones; the one before it becomes former. Under [`hold_keys`].
pub(crate) async fn activate_kek(
    conn: &mut PgConnection,
    reference: &KeyReference,
) -> Result<Kek, sqlx::Error> {
    sqlx::query!("-- vault.depose_kek\nupdate governance.kek set state = 'former' where state = 'active'")
        .execute(&mut *conn)
        .await?;
    let id = sqlx::query_scalar!(
        "-- vault.activate_kek
        insert into governance.kek (id, vendor, region, key_id) values (gen_random_uuid(), $1, $2, $3)
        on conflict (vendor, region, key_id) do update set state = 'active', retired_at = null
        returning id",
        reference.vendor.as_str(),
        reference.region,
        reference.key_id,
    )
    .fetch_one(&mut *conn)
    .await?;
    kek(conn, KekId(id)).await
}

/// Notes that keys are wrapped under a new version of it from now on.
pub(crate) async fn note_rotated(conn: &mut PgConnection, id: KekId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- vault.note_rotated\nupdate governance.kek set last_rotated_at = now() where id = $1",
        id.0
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Notes that it was used, once an hour: what says that it is still needed must not cost a write each time.
pub(crate) async fn note_used(conn: &mut PgConnection, id: KekId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- vault.note_used
        update governance.kek set last_used_at = now()
         where id = $1 and (last_used_at is null or last_used_at < now() - interval '1 hour')",
        id.0,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// The key that seals a table's values, held until the transaction ends: until then it does not become former.
pub(crate) async fn sealing_dek(
    conn: &mut PgConnection,
    relation: &str,
) -> Result<Option<DekRow>, sqlx::Error> {
    let row = sqlx::query!(
        "-- vault.sealing_dek
        select id, relation, kek, kek_version, wrapped, state, made_at
          from governance.dek where relation = $1 and state = 'active' for share",
        relation,
    );
    Ok(row.fetch_optional(conn).await?.map(|row| dek!(row)))
}

/// The key that seals a table's values, or sealed them last, held against all who seal.
pub(crate) async fn deposable_dek(
    conn: &mut PgConnection,
    relation: &str,
    older_than: Duration,
) -> Result<Option<(DekRow, bool)>, sqlx::Error> {
    let row = sqlx::query!(
        r#"-- vault.deposable_dek
        select id, relation, kek, kek_version, wrapped, state, made_at,
               made_at < clock_timestamp() - make_interval(secs => $2) as "is_old!"
          from governance.dek where relation = $1 and state <> 'retired'
         order by state = 'active' desc, made_at desc limit 1 for update"#,
        relation,
        older_than.as_secs_f64(),
    );
    Ok(row.fetch_optional(conn).await?.map(|row| {
        let is_old = row.is_old;
        (dek!(row), is_old)
    }))
}

/// The same without holding it, for a transaction that cannot write.
pub(crate) async fn latest_dek(
    conn: &mut PgConnection,
    relation: &str,
    older_than: Duration,
) -> Result<Option<(DekRow, bool)>, sqlx::Error> {
    let row = sqlx::query!(
        r#"-- vault.latest_dek
        select id, relation, kek, kek_version, wrapped, state, made_at,
               made_at < clock_timestamp() - make_interval(secs => $2) as "is_old!"
          from governance.dek where relation = $1 and state <> 'retired'
         order by state = 'active' desc, made_at desc limit 1"#,
        relation,
        older_than.as_secs_f64(),
    );
    Ok(row.fetch_optional(conn).await?.map(|row| {
        let is_old = row.is_old;
        (dek!(row), is_old)
    }))
}

/// Whether the key was given no new version for so long.
pub(crate) async fn is_due(
    conn: &mut PgConnection,
    kek: KekId,
    older_than: Duration,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- vault.is_due
        select coalesce(last_rotated_at, made_at) < clock_timestamp() - make_interval(secs => $2) as "is_due!"
          from governance.kek where id = $1"#,
        kek.0,
        older_than.as_secs_f64(),
    )
    .fetch_one(conn)
    .await
}

/// The key that seals a table's values, without holding it: for a transaction that cannot write.
pub(crate) async fn active_dek(
    conn: &mut PgConnection,
    relation: &str,
) -> Result<Option<DekRow>, sqlx::Error> {
    let row = sqlx::query!(
        "-- vault.active_dek
        select id, relation, kek, kek_version, wrapped, state, made_at
          from governance.dek where relation = $1 and state = 'active'",
        relation,
    );
    Ok(row.fetch_optional(conn).await?.map(|row| dek!(row)))
}

pub(crate) async fn dek(conn: &mut PgConnection, id: DekId) -> Result<Option<DekRow>, sqlx::Error> {
    let row = sqlx::query!(
        "-- vault.dek
        select id, relation, kek, kek_version, wrapped, state, made_at from governance.dek where id = $1",
        id.0,
    );
    Ok(row.fetch_optional(conn).await?.map(|row| dek!(row)))
}

/// Keys that are not gone, by number, after this one.
pub(crate) async fn deks_after(
    conn: &mut PgConnection,
    after: Option<DekId>,
    limit: i64,
) -> Result<Vec<DekRow>, sqlx::Error> {
    let rows = sqlx::query!(
        "-- vault.deks_after
        select id, relation, kek, kek_version, wrapped, state, made_at
          from governance.dek
         where state <> 'retired' and ($1::uuid is null or id > $1)
         order by id limit $2",
        after.map(|id| id.0),
        limit,
    );
    Ok(rows.fetch_all(conn).await?.into_iter().map(|row| dek!(row)).collect())
}

/// Makes this the key that seals a table's values; the one before it becomes former.
pub(crate) async fn activate_dek(
    conn: &mut PgConnection,
    id: DekId,
    relation: &str,
    kek: KekId,
    wrapped: &Wrapped,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- vault.depose_dek
        update governance.dek set state = 'former', former_since = clock_timestamp()
         where relation = $1 and state = 'active'",
        relation,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "-- vault.activate_dek
        insert into governance.dek (id, relation, kek, kek_version, wrapped, made_at)
        values ($1, $2, $3, $4, $5, clock_timestamp())",
        id.0,
        relation,
        kek.0,
        wrapped.version,
        wrapped.bytes,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Puts a key that was wrapped anew in the place of what was read; false if somebody else was faster.
pub(crate) async fn rewrap(
    conn: &mut PgConnection,
    was: &DekRow,
    kek: KekId,
    wrapped: &Wrapped,
) -> Result<bool, sqlx::Error> {
    let replaced = sqlx::query!(
        "-- vault.rewrap
        update governance.dek set kek = $2, kek_version = $3, wrapped = $4 where id = $1 and wrapped = $5",
        was.id.0,
        kek.0,
        wrapped.version,
        wrapped.bytes,
        was.wrapped.as_ref().map(|wrapped| &wrapped.bytes),
    );
    Ok(replaced.execute(conn).await?.rows_affected() == 1)
}
