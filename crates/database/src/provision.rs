//! Makes a tenant's role and database and brings them up to date, in named steps.
//!
//! Promises: every step may be killed anywhere and repeated, so a job runs them one by one and checkpoints between
//! them; the same steps bring an existing tenant to a newer schema. At the end the tenant's role may connect to its
//! own database and to no other of ours, owns nothing, and cannot change what says whose database it is.
//!
//! Works as a role of its own, which may create roles and databases and owns what it makes; no superuser is needed.
//! The control database must belong to it too, since it is closed to roles that were not let in by name:
//! [`admit_service`] lets the service's own role in.

mod database;
mod remove;
mod role;
mod schema;
mod service;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

pub use remove::Closed;
pub use service::admit_service;

use crate::control::{self, ControlError, Tenant, TenantId, TenantState};
use crate::failure::{Class, classify};
use crate::migrate::MigrateError;
use crate::passwords::{PasswordError, PasswordSource};
use crate::tombstone::{TombstoneError, Tombstones};

/// One step. Each may be killed anywhere and repeated; they run in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The login role, its password and its limits.
    Role,
    /// The database.
    Database,
    /// Who may connect to it.
    Access,
    /// The schema, migrated to the newest version.
    Schema,
    /// The mark in it that says whose it is.
    Stamp,
    /// What the role may do in it.
    Grants,
    /// The tenant, put into service.
    Activate,
}

impl Step {
    /// All steps in their order.
    pub const ALL: [Self; 7] =
        [Self::Role, Self::Database, Self::Access, Self::Schema, Self::Stamp, Self::Grants, Self::Activate];

    /// The step's name, for checkpoints and logs; it never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Database => "database",
            Self::Access => "access",
            Self::Schema => "schema",
            Self::Stamp => "stamp",
            Self::Grants => "grants",
            Self::Activate => "activate",
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The tenant's role has powers that no tenant's role may have; somebody gave them to it.
    #[error("the role {0} has powers that no tenant's role may have")]
    PowerfulRole(String),
    /// The tenant's database exists and belongs to somebody else.
    #[error("the database {database} belongs to {owner}, not to the provisioning role")]
    ForeignDatabase {
        /// The database.
        database: String,
        /// Its owner.
        owner: String,
    },
    /// The database is stamped as another tenant's.
    #[error("the database of tenant {tenant} is stamped as that of {stamp}")]
    OtherStamp {
        /// The tenant.
        tenant: TenantId,
        /// What the stamp says.
        stamp: TenantId,
    },
    /// The audit chain in the database is another's.
    #[error("the audit chain in the database of tenant {tenant} is that of {origin}")]
    OtherChain {
        /// The tenant.
        tenant: TenantId,
        /// Whose it is.
        origin: String,
    },
    /// The tenant has a tombstone outside the database, or nobody can tell whether it has.
    #[error("the tenant's tombstone forbids it")]
    Tombstone(#[from] TombstoneError),
    /// The tenant cannot go into service: migrations are pending, so the step before was not this program's.
    #[error("the database of tenant {0} is not migrated to the newest version")]
    NotMigrated(TenantId),
    /// There is no password for the role.
    #[error("there is no password for the tenant's role")]
    Password(#[from] PasswordError),
    /// The catalogue refused.
    #[error("the tenant catalogue refused")]
    Control(#[from] ControlError),
    /// The schema could not be migrated.
    #[error("the tenant's schema could not be migrated")]
    Migrate(#[from] MigrateError),
    /// The database refused or was lost.
    #[error("the database server refused or was lost")]
    Database(#[from] sqlx::Error),
}

impl ProvisionError {
    /// What the failure asks of the caller.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Control(ControlError::Database(error)) | Self::Database(error) => classify(error),
            Self::Migrate(error) => error.class(),
            _ => Class::Configuration,
        }
    }
}

/// Provisions tenants; cheap to clone.
#[derive(Clone)]
pub struct Provisioner {
    admin: PgConnectOptions,
    passwords: Arc<dyn PasswordSource>,
    tombstones: Option<Tombstones>,
}

impl Provisioner {
    /// `admin` leads to the control database as the provisioning role.
    #[must_use]
    pub fn new(admin: PgConnectOptions, passwords: Arc<dyn PasswordSource>) -> Self {
        Self { admin, passwords, tombstones: None }
    }

    /// The same, making nothing for a tenant that has a tombstone there.
    #[must_use]
    pub fn heeding(self, tombstones: Tombstones) -> Self {
        Self { tombstones: Some(tombstones), ..self }
    }

    /// Runs one step for a tenant that is being provisioned or is in service. Two processes never run steps for one
    /// tenant at a time: the second waits.
    pub async fn step(&self, id: TenantId, step: Step) -> Result<(), ProvisionError> {
        let mut control = PgConnection::connect_with(&self.admin).await?;
        // Held by the session, so it ends with the process.
        lock(&mut control, &format!("tenure provision {id}")).await?;
        let tenant = provisionable(&mut control, id).await?;
        if let Some(tombstones) = &self.tombstones {
            tombstones.refuse(id).await?;
        }
        tracing::info!(tenant = %tenant.name, step = step.name(), "provisioning");
        match step {
            Step::Role => role::ensure(&mut control, &tenant, &self.passwords.password(id)?).await?,
            Step::Database => database::ensure(&mut control, &tenant).await?,
            Step::Access => database::restrict_access(&mut control, &tenant).await?,
            Step::Schema => schema::migrate(&mut self.inside(&tenant).await?).await?,
            Step::Stamp => schema::stamp(&mut self.inside(&tenant).await?, &tenant).await?,
            Step::Grants => schema::grant(&mut self.inside(&tenant).await?, &tenant).await?,
            Step::Activate => {
                let version = schema::version(&mut self.inside(&tenant).await?, &tenant).await?;
                control::mark_active(&mut control, id, version).await?;
            }
        }
        control.close().await?;
        Ok(())
    }

    /// Runs all steps: provisions a new tenant, or migrates one that is in service.
    pub async fn run(&self, id: TenantId) -> Result<Tenant, ProvisionError> {
        for step in Step::ALL {
            self.step(id, step).await?;
        }
        let mut control = PgConnection::connect_with(&self.admin).await?;
        let tenant = provisionable(&mut control, id).await?;
        control.close().await?;
        Ok(tenant)
    }

    /// A connection to the tenant's database as the provisioning role, which owns what is in it: past the tenant's own role,
    /// its fences and its limits. For what no job does, such as restoring a bundle.
    pub async fn inside(&self, tenant: &Tenant) -> Result<PgConnection, ProvisionError> {
        Ok(PgConnection::connect_with(&self.admin.clone().database(&tenant.database_name)).await?)
    }
}

/// The tenant, unless it is frozen or on its way out.
async fn provisionable(control: &mut PgConnection, id: TenantId) -> Result<Tenant, ProvisionError> {
    let tenant = control::by_id(control, id).await?.ok_or(ControlError::NoSuchTenant(id))?;
    match tenant.state {
        TenantState::Provisioning | TenantState::Active => Ok(tenant),
        state => Err(ControlError::WrongState { name: tenant.name, state }.into()),
    }
}

/// Waits for a lock of this name, which the session holds until it ends.
async fn lock(conn: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- provision.lock
        select pg_advisory_lock(hashtextextended($1, 0))::text as locked",
        name,
    )
    .fetch_one(conn)
    .await
    .map(drop)
}

/// Runs a statement that Postgres does not let us bind values to. Names and literals in it are quoted.
async fn run(conn: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(drop)
}

/// A name in a statement.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in a statement; `standard_conforming_strings` is on since 9.1.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
