//! The catalogue of tenants, and holding back a tenant's jobs.

use database::control::{self, Region, Tenant, TenantId, TenantName};
use queue::JobId;
use serde_json::json;

use super::{Deed, Operator, digest, job};

impl Operator<'_> {
    /// Enters the tenant and enqueues its provisioning, both or neither.
    pub(crate) async fn enter_tenant(
        &self,
        name: &TenantName,
        region: &Region,
    ) -> anyhow::Result<(Tenant, JobId)> {
        let mut intervention = self.intervene().await?;
        let known = control::by_name(intervention.connection(), name).await?.is_some();
        let tenant = control::create(intervention.connection(), name, region).await?;
        let new = jobs::tenant_provision::job(&tenant)?.traceparent(crate::telemetry::traceparent());
        let enqueued = intervention.enqueue(std::slice::from_ref(&new)).await?[0];
        let entered = (!known).then(|| Deed {
            kind: "tenant.entered",
            body: json!({"tenant": tenant.id, "region": region.as_str()}),
        });
        let deeds = entered.into_iter().chain(job::entered(enqueued, &new)).collect();
        self.commit(intervention, deeds).await?;
        Ok((tenant, enqueued.id))
    }

    /// Answers how many jobs were made to wait.
    pub(crate) async fn freeze(&self, tenant: TenantId, reason: &str) -> anyhow::Result<u64> {
        let mut intervention = self.intervene().await?;
        let jobs = intervention.freeze(tenant.0, &self.by, reason).await?;
        let body = json!({"tenant": tenant, "reason": digest(reason), "jobs": jobs});
        self.commit(intervention, vec![Deed { kind: "tenant.frozen", body }]).await?;
        Ok(jobs)
    }

    /// Answers how many jobs go on; none if the tenant was not frozen.
    pub(crate) async fn thaw(&self, tenant: TenantId) -> anyhow::Result<Option<u64>> {
        let mut intervention = self.intervene().await?;
        let thawed = intervention.thaw(tenant.0).await?;
        let deed =
            thawed.map(|jobs| Deed { kind: "tenant.thawed", body: json!({"tenant": tenant, "jobs": jobs}) });
        self.commit(intervention, Vec::from_iter(deed)).await?;
        Ok(thawed)
    }
}
