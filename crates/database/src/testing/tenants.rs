//! A control database with tenants, for tests of what lies above.

use std::sync::Arc;

use secrecy::SecretString;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPool;
use sqlx::{Connection, PgConnection};

use super::{TestDatabase, must};
use crate::control::{self, Region, Tenant, TenantId};
use crate::migrate;
use crate::passwords::{PasswordError, PasswordSource};
use crate::provision::Provisioner;
use crate::tenant::{Claim, Limits, Scope, TenantDatabases, TenantDb, TenantError};

/// The region of every test tenant.
const REGION: &str = "here";

/// A control database of a test's own, the tenants in its catalogue, and the way to their databases.
#[derive(Clone)]
pub struct TestTenants {
    control: TestDatabase,
    pool: PgPool,
    databases: TenantDatabases,
}

/// Passwords for servers that ask for none, and for those that do: the tenant's id.
struct IdAsPassword;

impl PasswordSource for IdAsPassword {
    fn password(&self, tenant: TenantId) -> Result<SecretString, PasswordError> {
        Ok(tenant.to_string().into())
    }
}

impl TestTenants {
    /// No tenants yet, with generous limits.
    pub async fn create() -> Self {
        Self::with(&[], Limits::default()).await
    }

    /// No tenants yet; `sets` are migrated into the control database beside its own.
    pub async fn with(sets: &[&Migrator], limits: Limits) -> Self {
        let sets: Vec<_> =
            [migrate::control(), migrate::governance()].into_iter().chain(sets.iter().copied()).collect();
        Self::on(TestDatabase::migrated(&sets).await, limits).await
    }

    /// No tenants yet, in a control database that exists.
    pub async fn on(control: TestDatabase, limits: Limits) -> Self {
        let pool = control.pool(5).await;
        let databases = TenantDatabases::new(pool.clone(), control.options(), Self::passwords(), limits);
        Self { control, pool, databases }
    }

    /// The passwords of the tenants' roles.
    #[must_use]
    pub fn passwords() -> Arc<dyn PasswordSource> {
        Arc::new(IdAsPassword)
    }

    /// The region of the tenants and of the scopes made here.
    #[must_use]
    pub fn region() -> Region {
        must(REGION.parse(), "name the region")
    }

    /// The control database.
    #[must_use]
    pub fn control(&self) -> &TestDatabase {
        &self.control
    }

    /// A small pool on the control database.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The way to the tenants' databases.
    #[must_use]
    pub fn databases(&self) -> &TenantDatabases {
        &self.databases
    }

    /// Provisions with the server's superuser.
    #[must_use]
    pub fn provisioner(&self) -> Provisioner {
        Provisioner::new(self.control.options(), Self::passwords())
    }

    /// A tenant in the catalogue that nobody has provisioned yet.
    pub async fn enter(&self, name: &str) -> Tenant {
        let mut conn = must(self.pool.acquire().await, "reach the control database");
        let name = must(name.parse(), "name the tenant");
        must(control::create(&mut conn, &name, &Self::region()).await, "enter the tenant")
    }

    /// A tenant in service.
    pub async fn add(&self, name: &str) -> Tenant {
        let tenant = self.enter(name).await;
        must(self.provisioner().run(tenant.id).await, "provision the tenant")
    }

    /// A handle as a request gets it.
    pub async fn for_request(&self, tenant: &Tenant) -> Result<TenantDb, TenantError> {
        self.databases.open(Scope::of_request(tenant.id, Self::region())).await
    }

    /// A handle as an attempt of a job gets it.
    pub async fn for_job(&self, tenant: &Tenant, job: i64, fence: i64) -> Result<TenantDb, TenantError> {
        self.databases.open(Scope::of_job(tenant.id, Self::region(), Claim { job, fence })).await
    }

    /// A connection to the tenant's database as superuser, past every rule.
    pub async fn inside(&self, tenant: &Tenant) -> PgConnection {
        let options = self.control.options().database(&tenant.database_name);
        must(PgConnection::connect_with(&options).await, "connect to the tenant's database")
    }
}
