//! The catalogue of tenants, and holding back a tenant's jobs.

use database::control::{self, Region, Tenant, TenantId, TenantName, deletion::is_doomed, hold};
use queue::{Intervention, JobId};
use serde_json::json;

use super::{Deed, Operator, digest, job};
use crate::cli::exit::Failure;

impl Operator<'_> {
    /// Enters the tenant with the schedules that every tenant has and enqueues its provisioning, all or nothing.
    pub(crate) async fn enter_tenant(
        &self,
        name: &TenantName,
        region: &Region,
    ) -> anyhow::Result<(Tenant, JobId)> {
        let mut intervention = self.intervene().await?;
        let (tenant, is_new) = control::enter(intervention.connection(), name, region).await?;
        if is_doomed(tenant.state) {
            let what = format!("the tenant {name} is {}: its name is never used again", tenant.state);
            return Err(Failure::refused(what, "choose another name").into());
        }
        let mut schedules = Vec::new();
        for schedule in if is_new { jobs::standing::schedules(&tenant)? } else { Vec::new() } {
            intervention.put_schedule(&schedule).await?;
            schedules.push(schedule.name().name);
        }
        let new = jobs::tenant_provision::job(&tenant)?.traceparent(crate::telemetry::traceparent());
        let enqueued = intervention.enqueue(std::slice::from_ref(&new)).await?[0];
        let entered = is_new.then(|| Deed {
            kind: "tenant.entered",
            body: json!({"tenant": tenant.id, "region": region.as_str(), "schedules": schedules}),
        });
        let deeds = entered.into_iter().chain(job::entered(enqueued, &new)).collect();
        self.commit(intervention, deeds).await?;
        Ok((tenant, enqueued.id))
    }

    /// Puts on record that the bundle of this digest is about to be restored into the tenant.
    pub(crate) async fn begin_import(
        &self,
        tenant: TenantId,
        bundle: &str,
        origin: &str,
    ) -> anyhow::Result<()> {
        let body = json!({"tenant": tenant, "bundle": bundle, "origin": origin});
        let deed = Deed { kind: "tenant.import_begun", body };
        self.commit(self.intervene().await?, vec![deed]).await
    }

    /// Answers how many jobs were made to wait.
    pub(crate) async fn freeze(&self, tenant: TenantId, reason: &str) -> anyhow::Result<u64> {
        let mut intervention = self.intervene().await?;
        living(&mut intervention, tenant).await?;
        let jobs = intervention.freeze(tenant.0, &self.by, reason).await?;
        let body = json!({"tenant": tenant, "reason": digest(reason), "jobs": jobs});
        self.commit(intervention, vec![Deed { kind: "tenant.frozen", body }]).await?;
        Ok(jobs)
    }

    /// Answers how many jobs go on; none if the tenant was not frozen.
    pub(crate) async fn thaw(&self, tenant: TenantId) -> anyhow::Result<Option<u64>> {
        let mut intervention = self.intervene().await?;
        living(&mut intervention, tenant).await?;
        let thawed = intervention.thaw(tenant.0).await?;
        let deed =
            thawed.map(|jobs| Deed { kind: "tenant.thawed", body: json!({"tenant": tenant, "jobs": jobs}) });
        self.commit(intervention, Vec::from_iter(deed)).await?;
        Ok(thawed)
    }
}

/// Locks the tenant, and refuses one that is being deleted or gone: what a deletion has frozen stays so.
pub(super) async fn living(intervention: &mut Intervention, id: TenantId) -> anyhow::Result<Tenant> {
    let tenant = hold::lock(intervention.connection(), id).await?;
    if is_doomed(tenant.state) {
        let what = format!("the tenant {} is {}", tenant.name, tenant.state);
        let help = format!("`tenure tenant show {}` tells how far its deletion has come", tenant.name);
        return Err(Failure::refused(what, help).into());
    }
    Ok(tenant)
}
