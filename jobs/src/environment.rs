//! What a job may use, and the door to a tenant's data.

use std::sync::Arc;

use database::{
    Class,
    control::{Region, TenantId},
    provision::Provisioner,
    tenant::{Begun, Claim, Effect, Scope, TenantDatabases, TenantDb, TenantError},
};
use queue::{Attempt, FailureClass, JobError, Queue};
use vault::Vault;

use crate::audit_checkpoint::Checkpoints;
use crate::judges::Judges;
use crate::{tenant_bundle::Exports, tenant_delete::Deletions};

/// Cheap to clone; one per worker.
#[derive(Clone)]
pub struct Environment(Arc<Inner>);

struct Inner {
    queue: Queue,
    tenants: TenantDatabases,
    provisioner: Provisioner,
    region: Region,
    checkpoints: Option<Checkpoints>,
    deletions: Option<Deletions>,
    vault: Vault,
    exports: Option<Exports>,
    judges: Arc<dyn Judges>,
    #[cfg(test)]
    fault: crate::testing::Fault,
}

impl Environment {
    /// Of a process of this region; without `checkpoints` it cannot sign any.
    #[must_use]
    pub fn new(
        queue: Queue,
        tenants: TenantDatabases,
        provisioner: Provisioner,
        region: Region,
        checkpoints: Option<Checkpoints>,
        vault: Vault,
    ) -> Self {
        Self(Arc::new(Inner {
            queue,
            tenants,
            provisioner,
            region,
            checkpoints,
            deletions: None,
            vault,
            exports: None,
            #[cfg(not(test))]
            judges: Arc::new(crate::judges::BuiltIn),
            #[cfg(test)]
            judges: Arc::new(crate::shadow_run::tests::Engines),
            #[cfg(test)]
            fault: crate::testing::Fault::default(),
        }))
    }

    /// The same, able to delete tenants: this is where what is left of one goes, and what else is swept.
    ///
    /// # Panics
    /// When it was cloned before.
    #[must_use]
    pub fn deleting(mut self, deletions: Deletions) -> Self {
        let inner = Arc::get_mut(&mut self.0).expect("it is told before it is handed out");
        inner.deletions = Some(deletions);
        self
    }

    /// The same, with a folder for bundles of tenants' data.
    ///
    /// # Panics
    /// When it was cloned before.
    #[must_use]
    pub fn with_exports(mut self, exports: Exports) -> Self {
        let inner = Arc::get_mut(&mut self.0).expect("it is told before it is handed out");
        inner.exports = Some(exports);
        self
    }

    /// The queue, for jobs that enqueue others.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.0.queue
    }

    /// Who decides for candidates.
    pub(crate) fn judges(&self) -> &dyn Judges {
        &*self.0.judges
    }

    /// Where this process runs: it opens no database of another region.
    pub(crate) fn region(&self) -> &Region {
        &self.0.region
    }

    pub(crate) fn provisioner(&self) -> &Provisioner {
        &self.0.provisioner
    }

    /// The way to the keys of secrets.
    pub(crate) fn vault(&self) -> &Vault {
        &self.0.vault
    }

    pub(crate) fn checkpoints(&self) -> Option<&Checkpoints> {
        self.0.checkpoints.as_ref()
    }

    pub(crate) fn deletions(&self) -> Option<&Deletions> {
        self.0.deletions.as_ref()
    }

    /// The tenant's database as an operator's request has it: for what a job asks of a tenant that it does not run for.
    pub(crate) async fn as_request(&self, tenant: TenantId) -> Result<TenantDb, TenantError> {
        self.0.tenants.open(Scope::of_request(tenant, self.0.region.clone())).await
    }

    pub(crate) fn exports(&self) -> Option<&Exports> {
        self.0.exports.as_ref()
    }

    /// The tenant that the attempt runs for.
    pub(crate) fn tenant_of(attempt: &Attempt) -> Result<TenantId, JobError> {
        let tenant = attempt.tenant().ok_or(NoTenant);
        tenant.map(TenantId).map_err(|error| JobError::fail(error, FailureClass::Configuration))
    }

    /// Opens the tenant's database for the attempt: its fence is raised there, then its lease confirmed. From then on
    /// no older attempt of the job can write.
    pub(crate) async fn enter(&self, attempt: &Attempt) -> Result<TenantDb, JobError> {
        let claim = Claim { job: attempt.job().0, fence: attempt.fence().0 };
        let scope = Scope::of_job(Self::tenant_of(attempt)?, self.0.region.clone(), claim);
        let db = self.0.tenants.open(scope).await.map_err(into_job_error)?;
        db.raise_fence(attempt.confirm()).await.map_err(into_job_error)?;
        Ok(db)
    }

    /// The tenant's database past the attempt's fence: for notes of what ran, which are no effects.
    pub(crate) async fn beside_the_fence(&self, attempt: &Attempt) -> Result<TenantDb, JobError> {
        let scope = Scope::of_request(Self::tenant_of(attempt)?, self.0.region.clone());
        self.0.tenants.open(scope).await.map_err(into_job_error)
    }

    /// Begins the effect of a step: every write of a job to a tenant's data goes through here.
    pub(crate) async fn effect(&self, db: &TenantDb, step: &str) -> Result<Begun, TenantError> {
        self.boundary(step, When::Before).await.map_err(TenantError::Database)?;
        db.effect(step).await
    }

    /// Commits the effect of a step.
    pub(crate) async fn commit(&self, step: &str, effect: Effect) -> Result<(), TenantError> {
        effect.commit().await?;
        self.boundary(step, When::After).await.map_err(TenantError::CommitUnknown)
    }

    /// A place where a job may be killed, overtaken or cut off: the battery makes that happen here.
    #[cfg(test)]
    pub(crate) async fn boundary(&self, step: &str, when: When) -> Result<(), sqlx::Error> {
        self.0.fault.strike(step, when).await
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_async, reason = "it acts in tests only")]
    pub(crate) async fn boundary(&self, _step: &str, _when: When) -> Result<(), sqlx::Error> {
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn fault(&self) -> &crate::testing::Fault {
        &self.0.fault
    }
}

/// On which side of a step's commit a boundary lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

#[derive(Debug, thiserror::Error)]
#[error("the job runs for a tenant, and none was given: enqueue it with one")]
struct NoTenant;

/// What a failure of a tenant's database means for the job.
pub(crate) fn into_job_error(error: TenantError) -> JobError {
    match error.class() {
        Class::Fenced => JobError::fenced(),
        Class::Transient => JobError::retry(error),
        Class::Configuration => JobError::fail(error, FailureClass::Configuration),
        Class::Permanent => JobError::fail(error, FailureClass::Poison),
    }
}
