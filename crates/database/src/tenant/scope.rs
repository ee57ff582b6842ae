//! On whose behalf a tenant's database is opened.

use super::TenantError;
use crate::control::{Region, Tenant, TenantId, TenantState};

/// An attempt of a job, as the tenant's database sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The job.
    pub job: i64,
    /// The attempt's fence, drawn from one rising sequence.
    pub fence: i64,
}

/// On whose behalf a tenant's database is opened: for one tenant, by a process of one region, for a job or a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    tenant: TenantId,
    region: Region,
    claim: Option<Claim>,
}

impl Scope {
    /// The scope of a job's attempt; built from its lease.
    #[must_use]
    pub fn of_job(tenant: TenantId, region: Region, claim: Claim) -> Self {
        Self { tenant, region, claim: Some(claim) }
    }

    /// The scope of a request; built from its caller.
    #[must_use]
    pub fn of_request(tenant: TenantId, region: Region) -> Self {
        Self { tenant, region, claim: None }
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The region of this process.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The attempt, when it is a job's scope.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        self.claim
    }

    /// The tenant itself, if this scope may use it: of the same region, and in service.
    pub(super) fn admit(&self, tenant: Tenant) -> Result<Tenant, TenantError> {
        if tenant.region != self.region {
            let (theirs, ours) = (tenant.region, self.region.clone());
            return Err(TenantError::OtherRegion { tenant: tenant.name, theirs, ours });
        }
        if tenant.state != TenantState::Active {
            return Err(TenantError::NotActive { tenant: tenant.name, state: tenant.state });
        }
        Ok(tenant)
    }
}
