//! What is inside the tenant's database: the schema, whose it is, and what the role may do there.

use sqlx::{Connection, PgConnection};

use super::{ProvisionError, identifier, run};
use crate::control::{Tenant, TenantId};
use crate::migrate;

/// Brings the schema `tenant` to the newest version.
pub(super) async fn migrate(conn: &mut PgConnection) -> Result<(), ProvisionError> {
    // Up to Postgres 14 everybody may create there, and only a superuser can change it: then this is a mere warning.
    run(conn, "revoke all on schema public from public".to_owned()).await?;
    migrate::run(conn, migrate::tenant()).await?;
    Ok(())
}

/// The version that the schema has, if nothing is pending.
pub(super) async fn version(conn: &mut PgConnection, tenant: &Tenant) -> Result<i64, ProvisionError> {
    let status = migrate::status(conn, migrate::tenant()).await?;
    match (status.applied.last(), status.pending.is_empty()) {
        (Some(newest), true) => Ok(newest.version),
        _ => Err(ProvisionError::NotMigrated(tenant.id)),
    }
}

/// Marks the database as the tenant's; a mark that is there must be the same.
pub(super) async fn stamp(conn: &mut PgConnection, tenant: &Tenant) -> Result<(), ProvisionError> {
    sqlx::query!(
        "-- provision.stamp
        insert into tenant.stamp (tenant_id) values ($1) on conflict do nothing",
        tenant.id as TenantId,
    )
    .execute(&mut *conn)
    .await?;
    let stamp = sqlx::query_scalar!(
        r#"-- provision.check_stamp
        select tenant_id as "id: TenantId" from tenant.stamp"#
    )
    .fetch_one(conn)
    .await?;
    if stamp == tenant.id { Ok(()) } else { Err(ProvisionError::OtherStamp { tenant: tenant.id, stamp }) }
}

/// Lets the role use the data, of tables to come too, and only look at what says whose and how new it is. One
/// transaction: at no moment may the role change its stamp.
pub(super) async fn grant(conn: &mut PgConnection, tenant: &Tenant) -> Result<(), ProvisionError> {
    let role = identifier(&tenant.role_name);
    let mut tx = conn.begin().await?;
    for statement in [
        format!("grant usage on schema tenant to {role}"),
        format!("grant select, insert, update, delete on all tables in schema tenant to {role}"),
        format!("revoke insert, update, delete on tenant.stamp, tenant.migration from {role}"),
        format!("grant usage on all sequences in schema tenant to {role}"),
        format!(
            "alter default privileges in schema tenant grant select, insert, update, delete on tables to {role}"
        ),
        format!("alter default privileges in schema tenant grant usage on sequences to {role}"),
    ] {
        run(&mut tx, statement).await?;
    }
    Ok(tx.commit().await?)
}
