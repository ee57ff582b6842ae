//! Legal holds, and the deletion of tenants.

use std::time::Duration;

use chrono::{DateTime, Utc};
use database::control::{
    Tenant, TenantId,
    deletion::Deletion,
    hold::{self, Hold},
};
use governance::approval::ApprovalId;
use jobs::tenant_delete::{self, Requested};
use queue::{CapOn, Intervention, Limit};
use serde_json::json;

use super::{Deed, Operator, digest, job, named};

/// Deletions of a region's tenants that run at once: a drop forces a checkpoint, and one after the other is soon enough.
const DELETIONS_MAX: u32 = 1;

impl Operator<'_> {
    /// Places a legal hold. A dry run does it and takes it back.
    pub(crate) async fn hold(
        &self,
        tenant: TenantId,
        reason: &str,
        until: Option<DateTime<Utc>>,
        dry_run: bool,
    ) -> anyhow::Result<Hold> {
        let mut intervention = self.intervene().await?;
        let by = named(intervention.connection(), self.name).await?.id;
        let hold = hold::place(intervention.connection(), tenant, reason, by.0, until).await?;
        let body = json!({
            "tenant": tenant, "hold": hold.id.to_string(), "reason": digest(reason),
            "until": hold.until.map(|until| until.to_rfc3339()),
        });
        self.unless(dry_run, intervention, vec![Deed { kind: "tenant.held", body }]).await?;
        Ok(hold)
    }

    /// Releases a legal hold, and says whether it was in force. A dry run does it and takes it back.
    pub(crate) async fn release_hold(
        &self,
        tenant: TenantId,
        hold: i64,
        dry_run: bool,
    ) -> anyhow::Result<bool> {
        let mut intervention = self.intervene().await?;
        let by = named(intervention.connection(), self.name).await?.id;
        let released = hold::release(intervention.connection(), tenant, hold, by.0).await?;
        let body = json!({ "tenant": tenant, "hold": hold.to_string() });
        let deed = released.then_some(Deed { kind: "tenant.released", body });
        self.unless(dry_run, intervention, Vec::from_iter(deed)).await?;
        Ok(released)
    }

    /// Asks for the deletion of a tenant; one that lives goes on. The queue of deletions gets its cap with the first one, unless it has limits.
    pub(crate) async fn request_deletion(
        &self,
        tenant: &Tenant,
        cooling_off: Duration,
    ) -> anyhow::Result<Requested> {
        let queue = jobs::deletions_of(&tenant.region);
        let limits = self.control.queue().limits().await?;
        let is_limited = limits.iter().any(|limit| limit.name().queue() == Some(queue.as_str()));
        let mut intervention = self.intervene().await?;
        let mut deeds = Vec::new();
        if !is_limited {
            let limit = Limit::Cap { queue: Some(queue), on: CapOn::Queue, running_max: DELETIONS_MAX };
            intervention.set_limit(&limit).await?;
            deeds.push(super::queue::limit_set(&limit));
        }
        let by = named(intervention.connection(), self.name).await?.id;
        let trace = crate::telemetry::traceparent();
        let asked = tenant_delete::request(&mut intervention, tenant.id, by, cooling_off, trace).await?;
        deeds.extend(job::entered(asked.job, &asked.new_job));
        deeds.extend(asked.is_new.then(|| Deed {
            kind: "tenant.deletion_requested",
            body: json!({
                "tenant": tenant.id, "deletion": asked.deletion, "job": asked.job.id.to_string(),
                "approval": asked.approval, "cooling_off_secs": cooling_off.as_secs(),
            }),
        }));
        self.commit(intervention, deeds).await?;
        Ok(asked)
    }

    /// Calls the tenant's deletion off. A dry run does it and takes it back.
    pub(crate) async fn call_off_deletion(
        &self,
        tenant: TenantId,
        dry_run: bool,
    ) -> anyhow::Result<Deletion> {
        let mut intervention = self.intervene().await?;
        let by = named(intervention.connection(), self.name).await?.id;
        let called_off = tenant_delete::call_off(&mut intervention, tenant, by, &self.by).await?;
        let body = json!({
            "tenant": tenant, "deletion": called_off.id, "approval": ApprovalId(called_off.approval),
        });
        self.unless(dry_run, intervention, vec![Deed { kind: "tenant.deletion_called_off", body }]).await?;
        Ok(called_off)
    }

    async fn unless(
        &self,
        dry_run: bool,
        intervention: Intervention,
        deeds: Vec<Deed>,
    ) -> anyhow::Result<()> {
        if dry_run { Ok(()) } else { self.commit(intervention, deeds).await }
    }
}
