//! The handle through which a tenant's data is reached.
//!
//! Owns: [`TenantDatabases`], the process's connections to all tenants' databases under one limit, and [`TenantDb`],
//! one tenant's database on behalf of one [`Scope`].
//!
//! Promises: no query runs in another tenant's database (T1); backends never exceed the limit (T2); a process of one
//! region opens no database of another (T6); an effect of a lost attempt writes nothing, and a step is applied once
//! (Q2, DESIGN.md, "Two databases, one contract").
//!
//! Refuses: a tenant that is not in service, an effect without a job, and to know what a lease is. All tenants'
//! databases lie on one server, the one that also holds the control database.

mod backend;
mod effect;
mod error;
mod fence;
mod identity;
mod pool;
mod scope;
mod slots;
#[cfg(test)]
mod tests;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool};

pub use effect::{Begun, Effect, Read, Write};
pub use error::TenantError;
pub use scope::{Claim, Scope};
pub use witness::Witness;

use crate::control::Tenant;
use crate::failure::Class;
use crate::passwords::PasswordSource;
use crate::tombstone::Tombstones;
use backend::Backend;
use pool::Pool;

/// How many backends the tenants' databases may take, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections of all tenants together, the idle ones too; never exceeded. At least 1.
    pub backends_max: usize,
    /// Connections of one tenant that are in use at a time. At least 1.
    pub tenant_backends_max: usize,
    /// How long a caller waits for a connection.
    pub wait_max: Duration,
    /// How long an unused connection stays open, at most half as long again.
    pub idle_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            backends_max: 20,
            tenant_backends_max: 4,
            wait_max: Duration::from_secs(30),
            idle_max: Duration::from_mins(1),
        }
    }
}

/// The factory of handles; cheap to clone. One per process, since the limit is kept here.
#[derive(Clone)]
pub struct TenantDatabases {
    pool: Arc<Pool>,
}

impl TenantDatabases {
    /// `control` answers what a tenant is; `server` is the way to the server that holds the tenants' databases (its
    /// user, password and database are replaced).
    ///
    /// # Panics
    /// Outside of a tokio runtime, or with a limit of 0.
    #[must_use]
    pub fn new(
        control: PgPool,
        server: PgConnectOptions,
        passwords: Arc<dyn PasswordSource>,
        limits: Limits,
    ) -> Self {
        assert!(limits.backends_max > 0 && limits.tenant_backends_max > 0, "a limit of 0 lets nobody in");
        Self { pool: Pool::new(control, server, passwords, limits) }
    }

    /// The same, with somebody who is told of every scope that is denied. The first one who is named stays.
    #[must_use]
    pub fn witnessed_by(self, witness: Arc<dyn Witness>) -> Self {
        self.pool.witnessed_by(witness);
        self
    }

    /// The same, refusing every tenant that has a tombstone there, whatever the catalogue says. What is named first stays.
    #[must_use]
    pub fn heeding(self, tombstones: Tombstones) -> Self {
        self.pool.heeding(tombstones);
        self
    }

    /// A handle for this scope. Refuses another region's tenant and one that is not in service. Connects to nothing
    /// of the tenant's yet.
    pub async fn open(&self, scope: Scope) -> Result<TenantDb, TenantError> {
        let tenant = Arc::new(self.pool.admit(&scope).await?);
        Ok(TenantDb { pool: self.pool.clone(), tenant, scope })
    }
}

/// One tenant's database, for one attempt of a job or one request; cheap to clone.
#[derive(Clone)]
pub struct TenantDb {
    pool: Arc<Pool>,
    tenant: Arc<Tenant>,
    scope: Scope,
}

impl TenantDb {
    /// Whose database it is.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// On whose behalf it is used.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Makes this attempt's fence the newest of its job, then awaits `confirm`, which asks the control database
    /// whether the lease still stands. Once per attempt, before its first effect.
    ///
    /// The order matters: a lease that is confirmed first may be lost before the fence is up. Sessions of older
    /// attempts that stand in the way are ended. [`TenantError::Fenced`] if a newer attempt was here, or if `confirm`
    /// says no.
    pub async fn raise_fence<F, E>(&self, confirm: F) -> Result<(), TenantError>
    where
        F: Future<Output = Result<bool, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        fence::raise(self, self.claim()?).await?;
        match confirm.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(TenantError::Fenced),
            Err(error) => Err(TenantError::Confirm(error.into())),
        }
    }

    /// Begins the transaction of one step's effect, or says that the step is done already. [`TenantError::Fenced`] if
    /// this attempt's fence is not the newest, or was never raised.
    pub async fn effect(&self, step: &str) -> Result<Begun, TenantError> {
        let claim = self.claim()?;
        let mut backend = self.begin("begin").await?;
        if !fence::holds(&mut backend, claim).await? {
            return backend.rollback().await.and(Err(TenantError::Fenced));
        }
        if !fence::mark_step(&mut backend, claim, step).await? {
            return backend.rollback().await.map(|()| Begun::AlreadyApplied);
        }
        Ok(Begun::Fresh(Effect { backend }))
    }

    /// Begins a writing transaction under the attempt's fence that is no step: what is written in it may be repeated
    /// without harm. [`TenantError::Fenced`] as for an effect.
    pub async fn fenced(&self) -> Result<Write, TenantError> {
        let claim = self.claim()?;
        let mut backend = self.begin("begin").await?;
        if !fence::holds(&mut backend, claim).await? {
            return backend.rollback().await.and(Err(TenantError::Fenced));
        }
        Ok(Write { backend })
    }

    /// Begins a read-only transaction on one snapshot. Postgres itself refuses a write in it.
    pub async fn read(&self) -> Result<Read, TenantError> {
        let backend = self.begin("begin transaction isolation level repeatable read, read only").await?;
        Ok(Read { backend })
    }

    /// Begins a writing transaction of a request. A job's scope is refused: its writes are effects.
    pub async fn write(&self) -> Result<Write, TenantError> {
        if self.scope.claim().is_some() {
            return Err(TenantError::WrongScope("a job writes by effects, under its fence"));
        }
        Ok(Write { backend: self.begin("begin").await? })
    }

    /// Deletes the fences and applied steps of jobs that ended some time ago; returns the number of rows.
    pub async fn prune_applied(&self, ended: &[i64]) -> Result<u64, TenantError> {
        let mut backend = self.begin("begin").await?;
        let pruned = fence::prune(&mut backend, ended).await?;
        backend.commit().await?;
        Ok(pruned)
    }

    fn claim(&self) -> Result<Claim, TenantError> {
        self.scope.claim().ok_or(TenantError::WrongScope("a fence or an effect needs a job"))
    }

    /// A connection on which these statements have begun a transaction.
    async fn begin(&self, statements: &str) -> Result<Backend, TenantError> {
        // Letters, digits, hyphens, slashes and spaces: nothing that could end the literal.
        let name = identity::application_name(&self.tenant, self.scope.claim());
        loop {
            let mut backend = self.pool.acquire(&self.scope).await?;
            match backend.begin(format!("{statements}; set local application_name = '{name}'")).await {
                Ok(()) => return Ok(backend),
                // It was closed while it lay idle, and nothing of ours has run: try the next.
                Err(error) if backend.is_reused() && crate::classify(&error) == Class::Transient => {
                    tracing::debug!(tenant = %self.tenant.name, %error, "an idle connection was lost");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
