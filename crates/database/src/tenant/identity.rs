//! Whose database a connection has reached, and by what name the server's lists show us (T1).

use super::TenantError;
use super::backend::Backend;
use super::scope::Claim;
use crate::control::{Tenant, TenantId};
use crate::failure::{is_sqlstate, sqlstate};

/// Postgres cuts names off at 63 bytes, from the end: there stands the tenant's name, which the database's name tells too.
const NAME_BYTES_MAX: usize = 63;

/// Asks a new connection where it has led. Only then may it be used, or kept.
pub(super) async fn prove(backend: &mut Backend, tenant: &Tenant) -> Result<(), TenantError> {
    let session = backend.session();
    let found = sqlx::query!(
        r#"-- tenant.where_am_i
        select pg_backend_pid() as "pid!", current_database() as "database!""#
    )
    .fetch_one(&mut session.conn)
    .await?;
    session.pid = Some(found.pid);
    let stamp = if found.database == tenant.database_name { stamp(backend).await? } else { None };
    if stamp != Some(tenant.id) {
        let error = TenantError::OtherDatabase { tenant: tenant.id, database: found.database, stamp };
        tracing::error!(tenant = %tenant.name, error = %error, "a connection led to the wrong database");
        return Err(error);
    }
    notice_closed_sockets(backend).await?;
    backend.proven();
    Ok(())
}

/// Whose this database says it is: nobody's when it has no stamp, or one that we may not read.
async fn stamp(backend: &mut Backend) -> Result<Option<TenantId>, TenantError> {
    let stamp = sqlx::query_scalar!(
        r#"-- tenant.stamp
        select tenant_id as "id: TenantId" from tenant.stamp"#
    )
    .fetch_optional(backend.conn_mut())
    .await;
    let is_unreadable = |error: &sqlx::Error| {
        sqlstate(error).is_some_and(|code| ["3F000", "42P01", "42501"].contains(&code.as_ref()))
    };
    match stamp {
        Err(error) if is_unreadable(&error) => Ok(None),
        stamp => Ok(stamp?),
    }
}

/// Lets the backend look at its socket while it works on a statement, so that a cancelled statement ends soon.
async fn notice_closed_sockets(backend: &mut Backend) -> Result<(), TenantError> {
    let set = "-- tenant.notice_closed_sockets\n set client_connection_check_interval = '1s'";
    match sqlx::raw_sql(set).execute(backend.conn_mut()).await {
        // Some systems cannot tell. There a cancelled statement runs to its end, and its place stays taken.
        Err(error) if is_sqlstate(&error, "22023") => Ok(()),
        set => set.map(drop).map_err(TenantError::from),
    }
}

/// What `pg_stat_activity` shows: the job and the fence of the attempt, and the tenant, e.g. `tenure job 42/97 acme`.
pub(super) fn application_name(tenant: &Tenant, claim: Option<Claim>) -> String {
    let mut name = match claim {
        Some(Claim { job, fence }) => format!("tenure job {job}/{fence} {}", tenant.name),
        None => format!("tenure {}", tenant.name),
    };
    name.truncate(NAME_BYTES_MAX);
    name
}
