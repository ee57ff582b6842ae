//! The tenant's role: it may log in, to its own database, and nothing else.

use secrecy::{ExposeSecret, SecretString};
use sqlx::PgConnection;

use super::{ProvisionError, identifier, literal, run};
use crate::control::Tenant;
use crate::failure::is_sqlstate;
use crate::scram;

/// Connections of one tenant from all processes together: a wall behind the limits that each process keeps.
const CONNECTIONS_MAX: u16 = 64;

/// SQLSTATEs of a role that is there already; the second when two sessions create it at once.
const EXISTS: [&str; 2] = ["42710", "23505"];

/// Makes the role unless it exists, and sets its password and limits in any case.
pub(super) async fn ensure(
    conn: &mut PgConnection,
    tenant: &Tenant,
    password: &SecretString,
) -> Result<(), ProvisionError> {
    let name = identifier(&tenant.role_name);
    let create = format!("create role {name} nosuperuser nocreatedb nocreaterole noreplication nobypassrls");
    match run(conn, create).await {
        Err(error) if !EXISTS.iter().any(|code| is_sqlstate(&error, code)) => return Err(error.into()),
        _ => {}
    }
    check_powerless(conn, tenant).await?;
    // The verifier, never the password: statements are logged.
    let verifier = literal(&scram::verifier(password.expose_secret()));
    let alter = format!("alter role {name} login password {verifier} connection limit {CONNECTIONS_MAX}");
    Ok(run(conn, alter).await?)
}

/// A role that exists may have been given powers, which only a superuser could take away again: refuse it.
async fn check_powerless(conn: &mut PgConnection, tenant: &Tenant) -> Result<(), ProvisionError> {
    let powerful = sqlx::query_scalar!(
        r#"-- provision.check_powerless
        select rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls
               or exists (select from pg_auth_members where member = r.oid) as "powerful!"
          from pg_roles r
         where rolname = $1"#,
        tenant.role_name,
    )
    .fetch_one(conn)
    .await?;
    if powerful { Err(ProvisionError::PowerfulRole(tenant.role_name.clone())) } else { Ok(()) }
}
