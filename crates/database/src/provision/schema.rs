//! What is inside the tenant's database: the schema, whose it is, and what the role may do there.

use sqlx::{Connection, PgConnection};

use super::{ProvisionError, identifier, run};
use crate::control::{Tenant, TenantId};
use crate::migrate;

/// Brings the schemas to their newest versions.
pub(super) async fn migrate(conn: &mut PgConnection) -> Result<(), ProvisionError> {
    // Up to Postgres 14 everybody may create there, and only a superuser can change it: then this is a mere warning.
    run(conn, "revoke all on schema public from public".to_owned()).await?;
    for set in migrate::of_tenant() {
        migrate::run(conn, set).await?;
    }
    Ok(())
}

/// The version that the database has, if nothing is pending; see [`migrate::newest_of_tenant`].
pub(super) async fn version(conn: &mut PgConnection, tenant: &Tenant) -> Result<i64, ProvisionError> {
    let mut version = 0;
    for set in migrate::of_tenant() {
        let status = migrate::status(conn, set).await?;
        match (status.applied.last(), status.pending.is_empty()) {
            (Some(newest), true) => version += newest.version,
            _ => return Err(ProvisionError::NotMigrated(tenant.id)),
        }
    }
    Ok(version)
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
    .fetch_one(&mut *conn)
    .await?;
    if stamp != tenant.id {
        return Err(ProvisionError::OtherStamp { tenant: tenant.id, stamp });
    }
    begin_chain(conn, tenant).await
}

/// Makes the audit chain the tenant's. One that has entries has its origin for good; a database that was restored
/// carries on the chain that its stamp names.
async fn begin_chain(conn: &mut PgConnection, tenant: &Tenant) -> Result<(), ProvisionError> {
    let carried_on = sqlx::query_scalar!("-- provision.carried_on\nselect chain from tenant.stamp");
    let carried_on = carried_on.fetch_one(&mut *conn).await?;
    let origin = carried_on.unwrap_or_else(|| format!("tenant/{}", tenant.id));
    sqlx::query!(
        "-- provision.begin_chain
        update governance.audit_head set origin = $1
         where origin <> $1 and not exists (select from governance.audit_entry)",
        origin,
    )
    .execute(&mut *conn)
    .await?;
    let found = sqlx::query_scalar!(
        "-- provision.check_chain
        select origin from governance.audit_head"
    )
    .fetch_one(conn)
    .await?;
    if found == origin {
        Ok(())
    } else {
        Err(ProvisionError::OtherChain { tenant: tenant.id, origin: found })
    }
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
    grant_governance(&mut tx, &role).await?;
    Ok(tx.commit().await?)
}

/// Lets the role use the schema `governance`, and only read and lengthen the audit chain (A5).
pub(super) async fn grant_governance(conn: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
    for statement in [
        format!("grant usage on schema governance to {role}"),
        format!("grant select, insert, update, delete on all tables in schema governance to {role}"),
        // Entries are written by `governance.append` alone, which runs as its owner.
        format!(
            "revoke insert, update, delete on governance.audit_entry, governance.audit_head, governance.migration
               from {role}"
        ),
        format!("revoke update, delete on governance.checkpoint from {role}"),
        format!("grant usage on all sequences in schema governance to {role}"),
        format!(
            "alter default privileges in schema governance grant select, insert, update, delete on tables to {role}"
        ),
        format!("alter default privileges in schema governance grant usage on sequences to {role}"),
    ] {
        run(conn, statement).await?;
    }
    Ok(())
}
