//! The tenant's database, and who may connect to it.

use sqlx::PgConnection;

use super::{ProvisionError, identifier, lock, run};
use crate::control::Tenant;
use crate::failure::is_sqlstate;

/// SQLSTATEs of a database that is there already; the second when two sessions create it at once.
const EXISTS: [&str; 2] = ["42P04", "23505"];

/// Makes the database unless it exists, owned by the provisioning role.
pub(super) async fn ensure(conn: &mut PgConnection, tenant: &Tenant) -> Result<(), ProvisionError> {
    // template1 may have been changed; template0 is as Postgres made it.
    let create = format!("create database {} template template0", identifier(&tenant.database_name));
    match run(conn, create).await {
        Err(error) if !EXISTS.iter().any(|code| is_sqlstate(&error, code)) => return Err(error.into()),
        _ => {}
    }
    check_owner(conn, tenant).await
}

pub(super) async fn check_owner(conn: &mut PgConnection, tenant: &Tenant) -> Result<(), ProvisionError> {
    let found = sqlx::query!(
        r#"-- provision.check_owner
        select rolname as "owner!", rolname = current_user as "ours!"
          from pg_database join pg_roles on pg_roles.oid = datdba
         where datname = $1"#,
        tenant.database_name,
    )
    .fetch_one(conn)
    .await?;
    if found.ours {
        return Ok(());
    }
    Err(ProvisionError::ForeignDatabase { database: tenant.database_name.clone(), owner: found.owner })
}

/// Closes the tenant's database, and the control database, to everyone who was not let in by name, and lets the
/// tenant's role into its own.
pub(super) async fn restrict_access(conn: &mut PgConnection, tenant: &Tenant) -> Result<(), ProvisionError> {
    let (database, role) = (identifier(&tenant.database_name), identifier(&tenant.role_name));
    run(conn, format!("revoke all on database {database} from public")).await?;
    run(conn, format!("grant connect on database {database} to {role}")).await?;
    // All tenants change the control database's one row; two at once would fail.
    lock(conn, "tenure provision access").await?;
    let control = sqlx::query!(
        r#"-- provision.control_access
        select current_database() as "name!",
               has_database_privilege('public', current_database(), 'connect')
               or has_database_privilege('public', current_database(), 'temporary') as "open!""#
    )
    .fetch_one(&mut *conn)
    .await?;
    if control.open {
        run(conn, format!("revoke all on database {} from public", identifier(&control.name))).await?;
    }
    Ok(())
}
