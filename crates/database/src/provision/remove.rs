//! Takes away what provisioning has made, of a tenant that is being deleted and of no other.
//!
//! Promises: each verb may be killed anywhere and repeated. Databases are dropped one at a time on the whole server: a
//! drop forces a checkpoint, which takes about two seconds of everybody's disk.

use sqlx::{Connection, PgConnection};

use super::{ProvisionError, Provisioner, database::check_owner, identifier, lock, run};
use crate::control::{self, ControlError, Tenant, TenantId, TenantState};

/// Held by the one session that drops a database.
const DROPPING: &str = "tenure drop database";

/// What was found when a tenant's database was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Sessions that were ended.
    pub sessions: i64,
}

impl Provisioner {
    /// Keeps the tenant's role out for good and ends the sessions in its database.
    pub async fn close(&self, id: TenantId) -> Result<Closed, ProvisionError> {
        let (mut control, tenant) = self.doomed(id).await?;
        if role_exists(&mut control, &tenant).await? {
            let role = identifier(&tenant.role_name);
            run(&mut control, format!("alter role {role} nologin")).await?;
            admit_self(&mut control, &tenant).await?;
        }
        let mut sessions = 0;
        if database_exists(&mut control, &tenant).await? {
            check_owner(&mut control, &tenant).await?;
            let (database, role) = (identifier(&tenant.database_name), identifier(&tenant.role_name));
            if role_exists(&mut control, &tenant).await? {
                run(&mut control, format!("revoke connect on database {database} from {role}")).await?;
            }
            sessions = end_sessions(&mut control, &tenant).await?;
        }
        control.close().await?;
        Ok(Closed { sessions })
    }

    /// A connection to the database of a tenant that is being deleted, as its owner; none if there is no database.
    pub async fn inside_doomed(&self, id: TenantId) -> Result<Option<PgConnection>, ProvisionError> {
        let (mut control, tenant) = self.doomed(id).await?;
        let exists = database_exists(&mut control, &tenant).await?;
        control.close().await?;
        if exists { self.inside(&tenant).await.map(Some) } else { Ok(None) }
    }

    /// Drops the database with whatever still is connected to it, then the role.
    pub async fn drop(&self, id: TenantId) -> Result<(), ProvisionError> {
        let (mut control, tenant) = self.doomed(id).await?;
        if database_exists(&mut control, &tenant).await? {
            check_owner(&mut control, &tenant).await?;
            lock(&mut control, DROPPING).await?;
            let database = identifier(&tenant.database_name);
            run(&mut control, format!("drop database if exists {database} with (force)")).await?;
        }
        run(&mut control, format!("drop role if exists {}", identifier(&tenant.role_name))).await?;
        control.close().await?;
        Ok(())
    }

    /// What the server still has of the tenant, in words; nothing once it is gone.
    pub async fn remains(&self, id: TenantId) -> Result<Vec<String>, ProvisionError> {
        let (mut control, tenant) = self.doomed(id).await?;
        let mut remains = Vec::new();
        if database_exists(&mut control, &tenant).await? {
            remains.push(format!("database {}", tenant.database_name));
        }
        if role_exists(&mut control, &tenant).await? {
            remains.push(format!("role {}", tenant.role_name));
        }
        control.close().await?;
        Ok(remains)
    }

    /// The control database, behind the lock that provisioning takes as well, and the tenant if it is being deleted.
    async fn doomed(&self, id: TenantId) -> Result<(PgConnection, Tenant), ProvisionError> {
        let mut control = PgConnection::connect_with(&self.admin).await?;
        lock(&mut control, &format!("tenure provision {id}")).await?;
        let tenant = control::by_id(&mut control, id).await?.ok_or(ControlError::NoSuchTenant(id))?;
        match tenant.state {
            TenantState::Deleting => Ok((control, tenant)),
            state => Err(ControlError::WrongState { name: tenant.name, state }.into()),
        }
    }
}

/// Whoever is no superuser ends the sessions of a role only as its member.
async fn admit_self(conn: &mut PgConnection, tenant: &Tenant) -> Result<(), sqlx::Error> {
    let is_member = sqlx::query_scalar!(
        r#"-- provision.is_member
        select pg_has_role(current_user, ($1::text)::name, 'usage') as "is!""#,
        tenant.role_name,
    )
    .fetch_one(&mut *conn)
    .await?;
    if is_member {
        return Ok(());
    }
    run(conn, format!("grant {} to current_user", identifier(&tenant.role_name))).await
}

async fn end_sessions(conn: &mut PgConnection, tenant: &Tenant) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- provision.end_sessions
        select count(*) filter (where pg_terminate_backend(pid, 5000)) as "ended!"
          from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()"#,
        tenant.database_name,
    )
    .fetch_one(conn)
    .await
}

async fn database_exists(conn: &mut PgConnection, tenant: &Tenant) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- provision.database_exists
        select exists (select from pg_database where datname = $1) as "exists!""#,
        tenant.database_name,
    )
    .fetch_one(conn)
    .await
}

async fn role_exists(conn: &mut PgConnection, tenant: &Tenant) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- provision.role_exists
        select exists (select from pg_roles where rolname = $1) as "exists!""#,
        tenant.role_name,
    )
    .fetch_one(conn)
    .await
}
