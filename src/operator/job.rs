//! Jobs: enqueue, retry, release, cancel, snooze, reprioritise, bulk.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use queue::{BulkPlan, Cancelled, Enqueued, JobId, NewJob, Priority};
use serde_json::json;

use super::{Deed, Operator, digest};

impl Operator<'_> {
    /// Enqueues all of the jobs or none, and says in their order what became of each.
    pub(crate) async fn enqueue(&self, jobs: &[NewJob]) -> anyhow::Result<Vec<Enqueued>> {
        let mut intervention = self.intervene().await?;
        let enqueued = intervention.enqueue(jobs).await?;
        let deeds = enqueued.iter().zip(jobs).filter_map(|(enqueued, job)| entered(*enqueued, job));
        self.commit(intervention, deeds.collect()).await?;
        Ok(enqueued)
    }

    /// Enqueues the job once per (`scope`, `key`) within `window`.
    pub(crate) async fn enqueue_once(
        &self,
        scope: &str,
        key: &str,
        window: Duration,
        job: NewJob,
    ) -> anyhow::Result<Enqueued> {
        let mut intervention = self.intervene().await?;
        let enqueued = intervention.enqueue_once(scope, key, window, job.clone()).await?;
        self.commit(intervention, Vec::from_iter(entered(enqueued, &job))).await?;
        Ok(enqueued)
    }

    /// Enqueues the job of a bulk operation whose preview was confirmed.
    pub(crate) async fn confirm(&self, plan: &BulkPlan, job: NewJob) -> anyhow::Result<Enqueued> {
        let mut intervention = self.intervene().await?;
        let operation = intervention.enqueue(&[job]).await?[0];
        let deed = (!operation.existing).then(|| Deed {
            kind: "bulk.confirmed",
            body: json!({
                "operation": operation.id.to_string(), "action": plan.action().verb(), "plan": plan.digest(),
                "tenant": plan.filter().tenant, "up_to": plan.up_to().to_string(),
            }),
        });
        self.commit(intervention, Vec::from_iter(deed)).await?;
        Ok(operation)
    }

    pub(crate) async fn retry(&self, id: JobId) -> anyhow::Result<()> {
        let mut intervention = self.intervene().await?;
        intervention.retry(id).await?;
        self.commit(intervention, vec![Deed { kind: "job.retried", body: one(id) }]).await
    }

    pub(crate) async fn release(&self, id: JobId) -> anyhow::Result<()> {
        let mut intervention = self.intervene().await?;
        intervention.release(id, &self.by).await?;
        self.commit(intervention, vec![Deed { kind: "job.released", body: one(id) }]).await
    }

    pub(crate) async fn cancel(&self, id: JobId) -> anyhow::Result<Cancelled> {
        let mut intervention = self.intervene().await?;
        let cancelled = intervention.cancel(id, &self.by).await?;
        let deed = match cancelled {
            Cancelled::Never => Some(Deed { kind: "job.cancelled", body: one(id) }),
            Cancelled::Told => Some(Deed { kind: "job.cancel_requested", body: one(id) }),
            Cancelled::NotLive => None,
        };
        self.commit(intervention, Vec::from_iter(deed)).await?;
        Ok(cancelled)
    }

    pub(crate) async fn snooze(&self, id: JobId, until: DateTime<Utc>) -> anyhow::Result<()> {
        let mut intervention = self.intervene().await?;
        intervention.snooze(id, until, &self.by).await?;
        let body =
            json!({"job": id.to_string(), "until": until.to_rfc3339_opts(SecondsFormat::Micros, true)});
        self.commit(intervention, vec![Deed { kind: "job.snoozed", body }]).await
    }

    pub(crate) async fn reprioritise(&self, id: JobId, to: Priority) -> anyhow::Result<()> {
        let mut intervention = self.intervene().await?;
        intervention.reprioritise(id, to).await?;
        let body = json!({"job": id.to_string(), "to": to.name()});
        self.commit(intervention, vec![Deed { kind: "job.reprioritised", body }]).await
    }
}

fn one(id: JobId) -> serde_json::Value {
    json!({"job": id.to_string()})
}

/// None for a job that was there before.
pub(super) fn entered(enqueued: Enqueued, job: &NewJob) -> Option<Deed> {
    (!enqueued.existing).then(|| Deed {
        kind: "job.enqueued",
        body: json!({
            "job": enqueued.id.to_string(), "kind": job.kind(), "payload": digest(job.payload()), "tenant": job.owner(),
        }),
    })
}
