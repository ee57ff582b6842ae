//! Deletions of tenants as rows: what was asked for, how far it has come, what each step left, and what remains.
//!
//! Promises: of a tenant one deletion lives at a time; it begins once, after its cooling-off, on a tenant that nobody
//! holds, and from then on there is no way back (E6); a step's record is written once (E7). Refuses: to know what the
//! steps do, who approved, and what a signature is.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    ControlError, TenantId, TenantState,
    hold::{self, Hold},
};

/// A deletion's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct DeletionId(pub i64);

impl fmt::Display for DeletionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DeletionId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// As text: not every JSON reader keeps 64 bits.
impl Serialize for DeletionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeletionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How far a deletion has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeletionState {
    /// Its approval is not used up yet.
    Requested,
    /// Approved; it can still be called off.
    Cooling,
    /// Somebody called it off.
    CalledOff,
    /// It may not be: not approved, or the tenant is held.
    Refused,
    /// There is no way back.
    Begun,
    /// The certificate is there.
    Done,
}

impl DeletionState {
    /// The word for it in the schema.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Cooling => "cooling",
            Self::CalledOff => "called_off",
            Self::Refused => "refused",
            Self::Begun => "begun",
            Self::Done => "done",
        }
    }

    /// Whether it can still be called off.
    #[must_use]
    pub fn may_be_called_off(self) -> bool {
        matches!(self, Self::Requested | Self::Cooling)
    }
}

impl FromStr for DeletionState {
    type Err = DeletionError;

    fn from_str(text: &str) -> Result<Self, DeletionError> {
        [Self::Requested, Self::Cooling, Self::CalledOff, Self::Refused, Self::Begun, Self::Done]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| DeletionError::Unknown(text.to_owned()))
    }
}

/// A request to delete a tenant, with what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deletion {
    /// Its number.
    pub id: DeletionId,
    /// Whose.
    pub tenant: TenantId,
    /// How far it has come.
    pub state: DeletionState,
    /// The platform's approval that it needs.
    #[serde(serialize_with = "super::as_text")]
    pub approval: i64,
    /// Who asked, an actor of the platform.
    pub requested_by: Uuid,
    /// When, by the database's clock, as all times here.
    pub requested_at: DateTime<Utc>,
    /// For how many seconds it can be called off once it is approved.
    pub cooling_off_secs: i64,
    /// When that ends; none before it is approved.
    pub cooled_at: Option<DateTime<Utc>>,
    /// Since when there is no way back.
    pub begun_at: Option<DateTime<Utc>>,
    /// When it was done, called off or refused.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it came to nothing.
    pub note: Option<String>,
    /// The database's time when this was read.
    #[serde(skip)]
    pub now: DateTime<Utc>,
}

/// What a step has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// The step's name.
    pub step: String,
    /// What it found and did.
    pub evidence: Value,
    /// When.
    pub done_at: DateTime<Utc>,
}

/// What is left of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The deletion that it is of.
    pub deletion: DeletionId,
    /// The signed note.
    pub note: String,
    /// The signed certificate, once there is one.
    pub certificate: Option<String>,
}

/// Why a deletion cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DeletionError {
    /// There is none.
    #[error("there is no deletion {0}")]
    NotFound(DeletionId),
    /// The tenant is held.
    #[error("the tenant is under {} legal hold(s)", .0.len())]
    Held(Vec<Hold>),
    /// Its state does not allow the move.
    #[error("deletion {id} is {}", .state.as_str())]
    WrongState {
        /// Which.
        id: DeletionId,
        /// Where it stands.
        state: DeletionState,
    },
    /// It can still be called off.
    #[error("deletion {id} can be called off until {until}")]
    CoolingOff {
        /// Which.
        id: DeletionId,
        /// Until when.
        until: DateTime<Utc>,
        /// How long that is from now.
        left: Duration,
    },
    /// A state that this program does not know, so the schema is newer.
    #[error("the catalogue holds the deletion state `{0}`, which this program does not know")]
    Unknown(String),
    /// The catalogue refused.
    #[error("the catalogue of tenants refused")]
    Control(#[from] ControlError),
    /// The database refused or was lost.
    #[error("the deletions cannot be used")]
    Database(#[from] sqlx::Error),
}

/// What a deletion is entered with.
#[derive(Clone, Copy, Debug)]
pub struct NewDeletion {
    /// A number of [`reserve`].
    pub id: DeletionId,
    /// Whose.
    pub tenant: TenantId,
    /// The platform's approval that it needs.
    pub approval: i64,
    /// Who asked.
    pub requested_by: Uuid,
    /// For how many seconds it can be called off once it is approved; at most 31 days.
    pub cooling_off_secs: i64,
}

/// A number for a deletion that is to be: its approval and its job name it before it is entered.
pub async fn reserve(conn: &mut PgConnection) -> Result<DeletionId, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- deletion.reserve
        select nextval('control.deletion_id') as "id!: DeletionId""#
    )
    .fetch_one(conn)
    .await
}

/// Enters a deletion. The caller holds the tenant's [lock](hold::lock) and has found no other that lives.
pub async fn enter(conn: &mut PgConnection, new: &NewDeletion) -> Result<(), DeletionError> {
    sqlx::query!(
        "-- deletion.enter
        insert into control.deletion (id, tenant, approval, requested_by, cooling_off_secs)
        values ($1, $2, $3, $4, $5)",
        new.id as DeletionId,
        new.tenant as TenantId,
        new.approval,
        new.requested_by,
        new.cooling_off_secs,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The deletion of this number.
pub async fn by_id(conn: &mut PgConnection, id: DeletionId) -> Result<Deletion, DeletionError> {
    let row = sqlx::query_as!(
        Row,
        r#"-- deletion.by_id
        select id as "id: DeletionId", tenant as "tenant: TenantId", state, approval, requested_by, requested_at,
               cooling_off_secs, cooled_at, begun_at, ended_at, note, clock_timestamp() as "now!"
          from control.deletion where id = $1"#,
        id as DeletionId,
    );
    row.fetch_optional(conn).await?.ok_or(DeletionError::NotFound(id))?.try_into()
}

/// The tenant's newest deletion, living or not.
pub async fn newest_of(conn: &mut PgConnection, tenant: TenantId) -> Result<Option<Deletion>, DeletionError> {
    let row = sqlx::query_as!(
        Row,
        r#"-- deletion.newest_of
        select id as "id: DeletionId", tenant as "tenant: TenantId", state, approval, requested_by, requested_at,
               cooling_off_secs, cooled_at, begun_at, ended_at, note, clock_timestamp() as "now!"
          from control.deletion where tenant = $1 order by id desc limit 1"#,
        tenant as TenantId,
    );
    row.fetch_optional(conn).await?.map(Deletion::try_from).transpose()
}

/// The deletion, behind the lock of its tenant: neither moves until the transaction ends.
pub async fn lock(conn: &mut PgConnection, id: DeletionId) -> Result<Deletion, DeletionError> {
    let found = by_id(conn, id).await?;
    hold::lock(conn, found.tenant).await?;
    by_id(conn, id).await
}

/// Lets the cooling-off begin. The caller has the [`lock`] and has used the approval up.
pub async fn cool_off(conn: &mut PgConnection, id: DeletionId) -> Result<DateTime<Utc>, DeletionError> {
    let cooled_at = sqlx::query_scalar!(
        r#"-- deletion.cool_off
        update control.deletion
           set state = 'cooling', cooled_at = clock_timestamp() + make_interval(secs => cooling_off_secs)
         where id = $1 and state = 'requested'
        returning cooled_at as "cooled_at!""#,
        id as DeletionId,
    );
    match cooled_at.fetch_optional(&mut *conn).await? {
        Some(cooled_at) => Ok(cooled_at),
        None => Err(wrong_state(conn, id).await?),
    }
}

/// Ends a deletion that has not begun: called off by somebody, or refused. The caller has the [`lock`].
pub async fn give_up(
    conn: &mut PgConnection,
    id: DeletionId,
    state: DeletionState,
    by: Option<Uuid>,
    note: &str,
) -> Result<(), DeletionError> {
    let ended = sqlx::query!(
        "-- deletion.give_up
        update control.deletion set state = $2, ended_at = clock_timestamp(), ended_by = $3, note = $4
         where id = $1 and state in ('requested', 'cooling')",
        id as DeletionId,
        state.as_str(),
        by,
        note,
    )
    .execute(&mut *conn)
    .await?;
    if ended.rows_affected() == 1 { Ok(()) } else { Err(wrong_state(conn, id).await?) }
}

/// Takes the tenant out of service for good, if the deletion is approved, has cooled off and nobody holds the tenant.
/// Locks the tenant's row: a hold that comes first wins, one that comes later is refused.
pub async fn begin(conn: &mut PgConnection, id: DeletionId) -> Result<(), DeletionError> {
    let deletion = lock(conn, id).await?;
    if deletion.state != DeletionState::Cooling {
        return Err(DeletionError::WrongState { id, state: deletion.state });
    }
    if let Some(until) = deletion.cooled_at
        && let Ok(left) = (until - deletion.now).to_std()
        && !left.is_zero()
    {
        return Err(DeletionError::CoolingOff { id, until, left });
    }
    let holds = hold::in_force(conn, deletion.tenant).await?;
    if !holds.is_empty() {
        return Err(DeletionError::Held(holds));
    }
    sqlx::query!(
        "-- deletion.begin
        update control.deletion set state = 'begun', begun_at = clock_timestamp() where id = $1",
        id as DeletionId,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "-- deletion.doom
        update control.tenant set state = 'deleting' where id = $1",
        deletion.tenant as TenantId,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a deletion whose every step is done: the tenant is gone. The caller has the [`lock`].
pub async fn finish(conn: &mut PgConnection, id: DeletionId) -> Result<(), DeletionError> {
    let done = sqlx::query!(
        "-- deletion.finish
        with done as (
            update control.deletion set state = 'done', ended_at = clock_timestamp()
             where id = $1 and state = 'begun' returning tenant
        )
        update control.tenant t set state = 'deleted' from done where t.id = done.tenant",
        id as DeletionId,
    )
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(wrong_state(conn, id).await?) }
}

async fn wrong_state(conn: &mut PgConnection, id: DeletionId) -> Result<DeletionError, DeletionError> {
    Ok(DeletionError::WrongState { id, state: by_id(conn, id).await?.state })
}

/// What the steps have left, in the order in which they were done.
pub async fn steps(conn: &mut PgConnection, id: DeletionId) -> Result<Vec<StepRecord>, sqlx::Error> {
    sqlx::query_as!(
        StepRecord,
        "-- deletion.steps
        select step, evidence, done_at from control.deletion_step where deletion = $1 order by done_at, step",
        id as DeletionId,
    )
    .fetch_all(conn)
    .await
}

/// Puts on record what a step has done. What an earlier attempt has written stands.
pub async fn record(
    conn: &mut PgConnection,
    id: DeletionId,
    step: &str,
    evidence: &Value,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- deletion.record
        insert into control.deletion_step (deletion, step, evidence) values ($1, $2, $3) on conflict do nothing",
        id as DeletionId,
        step,
        evidence,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Puts up the tombstone. One that stands is left.
pub async fn bury(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: DeletionId,
    note: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- deletion.bury
        insert into control.tombstone (tenant, deletion, note) values ($1, $2, $3) on conflict do nothing",
        tenant as TenantId,
        id as DeletionId,
        note,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Keeps the certificate with the tombstone. One that is there is left.
pub async fn certify(
    conn: &mut PgConnection,
    tenant: TenantId,
    certificate: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- deletion.certify
        update control.tombstone set certificate = $2 where tenant = $1 and certificate is null",
        tenant as TenantId,
        certificate,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// The tenant's tombstone in this database.
pub async fn tombstone(conn: &mut PgConnection, tenant: TenantId) -> Result<Option<Tombstone>, sqlx::Error> {
    sqlx::query_as!(
        Tombstone,
        r#"-- deletion.tombstone
        select deletion as "deletion: DeletionId", note, certificate from control.tombstone where tenant = $1"#,
        tenant as TenantId,
    )
    .fetch_optional(conn)
    .await
}

/// Whether the tenant is on its way out or gone.
#[must_use]
pub fn is_doomed(state: TenantState) -> bool {
    matches!(state, TenantState::Deleting | TenantState::Deleted)
}

/// A row as the driver reads it.
struct Row {
    id: DeletionId,
    tenant: TenantId,
    state: String,
    approval: i64,
    requested_by: Uuid,
    requested_at: DateTime<Utc>,
    cooling_off_secs: i64,
    cooled_at: Option<DateTime<Utc>>,
    begun_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    note: Option<String>,
    now: DateTime<Utc>,
}

impl TryFrom<Row> for Deletion {
    type Error = DeletionError;

    fn try_from(row: Row) -> Result<Self, DeletionError> {
        Ok(Self {
            id: row.id,
            tenant: row.tenant,
            state: row.state.parse()?,
            approval: row.approval,
            requested_by: row.requested_by,
            requested_at: row.requested_at,
            cooling_off_secs: row.cooling_off_secs,
            cooled_at: row.cooled_at,
            begun_at: row.begun_at,
            ended_at: row.ended_at,
            note: row.note,
            now: row.now,
        })
    }
}
