//! Queues and limits.

use database::control::TenantId;
use queue::{CapOn, Limit, LimitName};
use serde_json::{Value, json};

use super::{Deed, Operator, digest, tenant::living};

impl Operator<'_> {
    pub(crate) async fn pause(&self, queue: &str, reason: Option<&str>) -> anyhow::Result<()> {
        let mut intervention = self.intervene().await?;
        intervention.pause(queue, &self.by, reason).await?;
        let body = json!({"queue": queue, "reason": reason.map(digest)});
        self.commit(intervention, vec![Deed { kind: "queue.paused", body }]).await
    }

    /// Answers whether it had been closed.
    pub(crate) async fn resume(&self, queue: &str) -> anyhow::Result<bool> {
        let mut intervention = self.intervene().await?;
        let opened = intervention.resume(queue).await?;
        let deed = opened.then(|| Deed { kind: "queue.resumed", body: json!({"queue": queue}) });
        self.commit(intervention, Vec::from_iter(deed)).await?;
        Ok(opened)
    }

    pub(crate) async fn set_limit(&self, limit: &Limit) -> anyhow::Result<()> {
        let mut intervention = self.intervene().await?;
        if let Limit::Weight { tenant, .. } | Limit::Cap { on: CapOn::Tenant(tenant), .. } = limit {
            living(&mut intervention, TenantId(*tenant)).await?;
        }
        intervention.set_limit(limit).await?;
        self.commit(intervention, vec![limit_set(limit)]).await
    }

    /// Answers whether there was one.
    pub(crate) async fn clear_limit(&self, name: &LimitName) -> anyhow::Result<bool> {
        let mut intervention = self.intervene().await?;
        let existed = intervention.clear_limit(name).await?;
        let deed = existed.then(|| Deed { kind: "limit.cleared", body: named(name) });
        self.commit(intervention, Vec::from_iter(deed)).await?;
        Ok(existed)
    }
}

/// That a limit was set.
pub(super) fn limit_set(limit: &Limit) -> Deed {
    let mut body = named(&limit.name());
    if let (Value::Object(body), Value::Object(allowed)) = (&mut body, allowed(limit)) {
        body.extend(allowed);
    }
    Deed { kind: "limit.set", body }
}

fn named(name: &LimitName) -> Value {
    match name {
        LimitName::Cap { queue, on } => {
            let (tenant, each) = match on {
                CapOn::Queue => (None, false),
                CapOn::EachTenant => (None, true),
                CapOn::Tenant(tenant) => (Some(tenant), false),
            };
            json!({"limit": "cap", "queue": queue, "tenant": tenant, "each_tenant": each})
        }
        LimitName::Rate { queue, key } => json!({"limit": "rate", "queue": queue, "key": digest(key)}),
        LimitName::Weight { tenant } => json!({"limit": "weight", "tenant": tenant}),
        LimitName::Fair { queue } => json!({"limit": "fair", "queue": queue}),
    }
}

fn allowed(limit: &Limit) -> Value {
    match limit {
        Limit::Cap { running_max, .. } => json!({"running_max": running_max}),
        Limit::Rate { starts, per, burst, .. } => {
            json!({"starts": starts, "per_us": per.as_micros().to_string(), "burst": burst})
        }
        Limit::Weight { weight, .. } => json!({"weight": weight}),
        Limit::Fair { .. } => json!({}),
    }
}
