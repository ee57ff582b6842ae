//! `drift_check`: reads verified changes back again, and takes up changes, under way or only wanted, whose job was lost.
//!
//! What no longer holds is written down and never put right: somebody may have had a reason. A target that cannot be
//! read is counted and left for the next night.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use connectors::{Observed, SourceError, Target};
use database::{
    control::Tenant,
    tenant::{Begun, TenantDb},
};
use governance::writeback::{self as rows, Drift, Values, Writeback, WritebackId};
use queue::{Attempt, Done, Job, JobError, NewJob, Progress};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Environment, connector_registry,
    connector_sync::budget::TenantBudget,
    environment::into_job_error,
    queue_of,
    writeback::{self, judge},
    writeback_plan,
};

/// How many are looked up at a time.
const PAGE: i64 = 200;

/// Open changes that are taken up again in one night, at most: first those that may be on their way.
const RESUMED_MAX: i64 = 1_000;

/// The payload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftCheck {
    /// For how many days a verified change is looked after.
    #[serde(default = "days")]
    pub days: i32,
}

/// For how long unless something else is said.
pub const DAYS: i32 = 90;

const fn days() -> i32 {
    DAYS
}

/// The job for a tenant. One lives at a time.
pub fn job(tenant: &Tenant, check: &DriftCheck) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::of(check)?
        .queue(queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .unique_key(format!("{}/drift_check", tenant.id)))
}

#[derive(Debug, Default)]
struct Counts {
    checked: u64,
    drifted: u64,
    unreadable: u64,
}

impl Job for DriftCheck {
    const KIND: &'static str = "drift_check";
    const TIMEOUT: Duration = Duration::from_hours(6);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let db = environment.enter(&attempt).await?;
        let mut check = Check {
            attempt: &attempt,
            environment: &environment,
            db: &db,
            targets: HashMap::new(),
            counts: Counts::default(),
        };
        let mut after = None;
        loop {
            let page = check.page(after, self.days).await?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            for id in page {
                check.one(id).await?;
                if attempt.should_stop() {
                    return Err(JobError::hand_back());
                }
            }
        }
        check.end().await
    }
}

struct Check<'a> {
    attempt: &'a Attempt,
    environment: &'a Environment,
    db: &'a TenantDb,
    /// By connector and stream; none where there is no target any more.
    targets: HashMap<(String, String), Option<Arc<Target>>>,
    counts: Counts,
}

impl Check<'_> {
    async fn page(&self, after: Option<WritebackId>, days: i32) -> Result<Vec<WritebackId>, JobError> {
        let mut read = self.db.read().await.map_err(into_job_error)?;
        let page = rows::watched(&mut read, after, days, PAGE).await.map_err(judge)?;
        read.finish().await.map_err(into_job_error)?;
        Ok(page.ids)
    }

    async fn one(&mut self, id: WritebackId) -> Result<(), JobError> {
        let mut read = self.db.read().await.map_err(into_job_error)?;
        let seen = rows::find(&mut read, id).await.map_err(judge)?;
        read.finish().await.map_err(into_job_error)?;
        let Ok(observed) = self.look(&seen).await else {
            self.counts.unreadable += 1;
            return Ok(());
        };
        let drift = standing(&seen, observed.as_ref());
        self.counts.checked += 1;
        self.counts.drifted += u64::from(drift != Drift::None);
        let name = format!("look {id}");
        let begun = self.environment.effect(self.db, &name).await.map_err(into_job_error)?;
        if let Begun::Fresh(mut effect) = begun {
            let fields = observed.as_ref().map(|seen| &seen.fields);
            rows::mark_checked(&mut effect, id, drift, fields, self.attempt.job().0).await.map_err(judge)?;
            self.environment.commit(&name, effect).await.map_err(into_job_error)?;
        }
        self.attempt.checkpointed();
        let Counts { checked, drifted, .. } = self.counts;
        let message = format!("{checked} read back, {drifted} drifted");
        self.attempt.progress(Progress { done: checked, total: None, message });
        Ok(())
    }

    async fn look(&mut self, seen: &Writeback) -> Result<Option<Observed>, Unreadable> {
        let place = (seen.plan.connector.clone(), seen.plan.stream.clone());
        if !self.targets.contains_key(&place) {
            let target = self.open(&place.0, &place.1).await?;
            self.targets.insert(place.clone(), target.map(Arc::new));
        }
        let target = self.targets.get(&place).cloned().flatten().ok_or(Unreadable)?;
        Ok(target.read(&seen.plan.key).await?)
    }

    async fn open(&self, connector: &str, stream: &str) -> Result<Option<Target>, Unreadable> {
        let vault = self.environment.vault();
        let definition = connector_registry::open(self.db, vault, connector).await.map_err(|_| Unreadable)?;
        let Some(stream) = definition.stream(stream) else { return Ok(None) };
        let budget = Arc::new(TenantBudget::new(self.db.clone(), connector));
        Ok(Target::connect(&definition, stream, budget).await?)
    }

    /// Changes that are under way and whose job was lost get another; a live job is recognised by its key.
    async fn end(self) -> Result<Done, JobError> {
        let mut read = self.db.read().await.map_err(into_job_error)?;
        let open = rows::to_resume(&mut read, RESUMED_MAX).await.map_err(judge)?;
        let wanted = writeback_plan::due(&mut read, self.db.tenant(), RESUMED_MAX).await?;
        read.finish().await.map_err(into_job_error)?;
        let Counts { checked, drifted, unreadable } = self.counts;
        let output = json!({
            "checked": checked, "drifted": drifted, "unreadable": unreadable, "under_way": open.len(),
            "wanted": wanted.len(),
        });
        let mut done = wanted.into_iter().fold(Done::new().output(output), Done::follow_up);
        for id in open {
            done = done.follow_up(writeback::job(self.db.tenant(), id).map_err(JobError::retry)?);
        }
        Ok(done)
    }
}

/// The target, or its definition, cannot be had tonight.
struct Unreadable;

impl From<SourceError> for Unreadable {
    fn from(_: SourceError) -> Self {
        Self
    }
}

/// How the record compares with what the read-back saw then.
fn standing(seen: &Writeback, observed: Option<&Observed>) -> Drift {
    let Some(observed) = observed else { return Drift::Gone };
    let holds =
        |values: &Values| seen.plan.desired.keys().all(|name| observed.fields.get(name) == values.get(name));
    if seen.observed.as_ref().is_some_and(holds) {
        return Drift::None;
    }
    match &seen.plan.before {
        Some(before) if holds(before) => Drift::Before,
        _ => Drift::Other,
    }
}
