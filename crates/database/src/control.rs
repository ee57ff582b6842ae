//! The catalogue of tenants in the control database.
//!
//! Promises: a name is given once, a database name never twice, and a tenant becomes active only with a migrated
//! database. Refuses: to make or drop databases, which is [`crate::provision`]'s work.

pub mod deletion;
pub mod hold;
mod tenant;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

pub use tenant::{Region, Tenant, TenantId, TenantName, TenantState};

/// Why the catalogue refused.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The text is no tenant name.
    #[error(
        "`{0}` is no tenant name: a lower-case letter, then 1 to 39 lower-case letters, digits or hyphens"
    )]
    BadName(String),
    /// The text is no region.
    #[error("`{0}` is no region: a lower-case letter, then up to 39 lower-case letters, digits or hyphens")]
    BadRegion(String),
    /// A state that this program does not know, so the schema is newer.
    #[error("the catalogue holds the tenant state `{0}`, which this program does not know")]
    UnknownState(String),
    /// The name is taken by a tenant of another region.
    #[error("the tenant {name} exists already, in region {region}")]
    OtherRegion {
        /// The name asked for.
        name: TenantName,
        /// The region of the tenant that has it.
        region: Region,
    },
    /// No tenant has this id.
    #[error("there is no tenant {0}")]
    NoSuchTenant(TenantId),
    /// The tenant's state does not allow the move.
    #[error("the tenant {name} is {state}")]
    WrongState {
        /// The tenant.
        name: TenantName,
        /// The state it is in.
        state: TenantState,
    },
    /// A hold needs a reason that people can read.
    #[error("a reason has 1 to {} characters", hold::REASON_CHARS_MAX)]
    BadReason,
    /// A hold would be over before it begins.
    #[error("a hold that ends in the past holds nothing")]
    HoldIsOver,
    /// The database refused or was lost.
    #[error("the control database failed")]
    Database(#[from] sqlx::Error),
}

/// Enters a tenant, state `provisioning`. Asked again for the same name and region, it gives the same tenant.
pub async fn create(
    conn: &mut PgConnection,
    name: &TenantName,
    region: &Region,
) -> Result<Tenant, ControlError> {
    Ok(enter(conn, name, region).await?.0)
}

/// The same, and says whether the tenant is new: what it is given once is given in this transaction.
pub async fn enter(
    conn: &mut PgConnection,
    name: &TenantName,
    region: &Region,
) -> Result<(Tenant, bool), ControlError> {
    let id = TenantId::generate();
    let entered = sqlx::query!(
        "-- tenant.create
        insert into control.tenant (id, name, region, database_name, role_name)
        values ($1, $2, $3, $4, $4)
        on conflict (name) do nothing",
        id as TenantId,
        name.as_str(),
        region.as_str(),
        id.database_name(),
    )
    .execute(&mut *conn)
    .await?;
    // A statement of its own: the insert's snapshot does not show a row that it lost to.
    let tenant = by_name(conn, name).await?.ok_or(ControlError::NoSuchTenant(id))?;
    if tenant.region == *region {
        return Ok((tenant, entered.rows_affected() == 1));
    }
    Err(ControlError::OtherRegion { name: tenant.name, region: tenant.region })
}

/// All tenants by name, the deleted ones too.
pub async fn list(conn: &mut PgConnection) -> Result<Vec<Tenant>, ControlError> {
    let rows = sqlx::query_as!(
        Row,
        r#"-- tenant.list
        select id as "id: TenantId", name, region, state, database_name, role_name, schema_version, created_at, active_since
          from control.tenant
         order by name"#
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Tenant::try_from).collect()
}

/// The tenant of this name.
pub async fn by_name(conn: &mut PgConnection, name: &TenantName) -> Result<Option<Tenant>, ControlError> {
    let row = sqlx::query_as!(
        Row,
        r#"-- tenant.by_name
        select id as "id: TenantId", name, region, state, database_name, role_name, schema_version, created_at, active_since
          from control.tenant
         where name = $1"#,
        name.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(Tenant::try_from).transpose()
}

/// The tenant of this id.
pub async fn by_id(conn: &mut PgConnection, id: TenantId) -> Result<Option<Tenant>, ControlError> {
    let row = sqlx::query_as!(
        Row,
        r#"-- tenant.by_id
        select id as "id: TenantId", name, region, state, database_name, role_name, schema_version, created_at, active_since
          from control.tenant
         where id = $1"#,
        id as TenantId,
    )
    .fetch_optional(conn)
    .await?;
    row.map(Tenant::try_from).transpose()
}

/// Puts a provisioned tenant into service, or notes the new schema version of an active one. One that is frozen or
/// on its way out is left as it is.
pub async fn mark_active(
    conn: &mut PgConnection,
    id: TenantId,
    schema_version: i64,
) -> Result<Tenant, ControlError> {
    let marked = sqlx::query!(
        "-- tenant.mark_active
        update control.tenant
           set state = 'active', schema_version = $2, active_since = coalesce(active_since, now())
         where id = $1 and state in ('provisioning', 'active')",
        id as TenantId,
        schema_version,
    )
    .execute(&mut *conn)
    .await?;
    let tenant = by_id(conn, id).await?.ok_or(ControlError::NoSuchTenant(id))?;
    match marked.rows_affected() {
        1 => Ok(tenant),
        _ => Err(ControlError::WrongState { name: tenant.name, state: tenant.state }),
    }
}

/// A number as text: not every JSON reader keeps 64 bits.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn as_text<S: serde::Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// A row as the driver reads it.
struct Row {
    id: TenantId,
    name: String,
    region: String,
    state: String,
    database_name: String,
    role_name: String,
    schema_version: Option<i64>,
    created_at: DateTime<Utc>,
    active_since: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Tenant {
    type Error = ControlError;

    fn try_from(row: Row) -> Result<Self, ControlError> {
        Ok(Self {
            id: row.id,
            name: row.name.parse()?,
            region: row.region.parse()?,
            state: row.state.parse()?,
            database_name: row.database_name,
            role_name: row.role_name,
            schema_version: row.schema_version,
            created_at: row.created_at,
            active_since: row.active_since,
        })
    }
}
