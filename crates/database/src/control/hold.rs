//! Legal holds: as long as one is in force its tenant cannot be deleted (E6).
//!
//! Who places a hold and who begins a deletion lock the tenant's row first, so each sees what the other has committed;
//! triggers of the schema refuse both what the other forbids, whatever a program does.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{ControlError, Tenant, TenantId, TenantState, by_id};

/// A reason is at most so many characters long, as the table's check says.
pub const REASON_CHARS_MAX: usize = 1_000;

/// A hold that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Its number.
    #[serde(serialize_with = "super::as_text")]
    pub id: i64,
    /// Why; a person's words.
    pub reason: String,
    /// Who, an actor of the platform.
    pub placed_by: Uuid,
    /// When, by the database's clock.
    pub placed_at: DateTime<Utc>,
    /// Until when; none: until it is released.
    pub until: Option<DateTime<Utc>>,
}

/// The tenant, its row locked until the transaction ends: nobody holds it, freezes it for good or moves its state
/// meanwhile. Take this lock before any other.
pub async fn lock(conn: &mut PgConnection, id: TenantId) -> Result<Tenant, ControlError> {
    let locked = sqlx::query!(
        "-- tenant.lock
        select from control.tenant where id = $1 for update",
        id as TenantId,
    )
    .fetch_optional(&mut *conn)
    .await?;
    // A statement of its own: its snapshot shows what whoever held the lock has committed.
    match locked {
        Some(_) => by_id(conn, id).await?.ok_or(ControlError::NoSuchTenant(id)),
        None => Err(ControlError::NoSuchTenant(id)),
    }
}

/// Places a hold, beside those that are there. Refuses a tenant that is being deleted or gone, and an end that is over.
pub async fn place(
    conn: &mut PgConnection,
    tenant: TenantId,
    reason: &str,
    by: Uuid,
    until: Option<DateTime<Utc>>,
) -> Result<Hold, ControlError> {
    let locked = lock(conn, tenant).await?;
    if matches!(locked.state, TenantState::Deleting | TenantState::Deleted) {
        return Err(ControlError::WrongState { name: locked.name, state: locked.state });
    }
    if reason.trim().is_empty() || reason.chars().count() > REASON_CHARS_MAX {
        return Err(ControlError::BadReason);
    }
    let placed = sqlx::query_as!(
        Hold,
        "-- hold.place
        insert into control.legal_hold (tenant, reason, placed_by, until)
        select $1, $2, $3, $4 where $4::timestamptz is null or $4 > clock_timestamp()
        returning id, reason, placed_by, placed_at, until",
        tenant as TenantId,
        reason,
        by,
        until,
    )
    .fetch_optional(conn)
    .await?;
    placed.ok_or(ControlError::HoldIsOver)
}

/// The holds in force, the oldest first.
pub async fn in_force(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<Hold>, ControlError> {
    let holds = sqlx::query_as!(
        Hold,
        "-- hold.in_force
        select id, reason, placed_by, placed_at, until from control.legal_hold
         where tenant = $1 and released_at is null and (until is null or until > clock_timestamp())
         order by id",
        tenant as TenantId,
    );
    Ok(holds.fetch_all(conn).await?)
}

/// Releases a hold of the tenant, and says whether it was in force.
pub async fn release(
    conn: &mut PgConnection,
    tenant: TenantId,
    hold: i64,
    by: Uuid,
) -> Result<bool, ControlError> {
    lock(conn, tenant).await?;
    let released = sqlx::query!(
        "-- hold.release
        update control.legal_hold set released_at = clock_timestamp(), released_by = $3
         where id = $2 and tenant = $1 and released_at is null and (until is null or until > clock_timestamp())",
        tenant as TenantId,
        hold,
        by,
    )
    .execute(conn)
    .await?;
    Ok(released.rows_affected() == 1)
}
