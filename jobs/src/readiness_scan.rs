//! `readiness_scan`: what a new tenant sees first. It reads sources, asks targets what they allow, and says what stands
//! in the way, what to be careful about, and what to do.
//!
//! Promises: nothing is written to a source or a target. Their own word on that is part of the report: see
//! [`connectors::Proof`]. Targets are not tried, since trying sends writes; what `connector check` saw counts. The one
//! effect is the report, in the tenant's database.
//!
//! A source that is down is a finding, not a failure of the job.

mod connector;
mod path;
mod report;
mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

use database::{
    control::Tenant,
    tenant::{Begun, TenantDb},
};
use queue::{Attempt, Done, Job, JobError, NewJob, Progress};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::{
    report::{
        ConnectorReport, Finding, Issues, PathReport, Report, SampleReport, Severity, StreamReport,
        TargetReport,
    },
    store::{Stored, load},
};
use crate::{Environment, connector_registry, environment::into_job_error, queue_of};

/// Records of a stream that are looked at.
const SAMPLE: usize = 1_000;

/// The payload: the whole tenant is scanned.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadinessScan {}

/// The job that scans a tenant. While one lives, asking for another answers with it.
pub fn job(tenant: &Tenant) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::of(&ReadinessScan {})?
        .queue(queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .unique_key(format!("{}/readiness_scan", tenant.id)))
}

impl Job for ReadinessScan {
    const KIND: &'static str = "readiness_scan";
    const TIMEOUT: Duration = Duration::from_hours(1);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let db = environment.enter(&attempt).await?;
        let report = scan(&db, &environment, &attempt).await?;
        let step = "report";
        if let Begun::Fresh(mut effect) = environment.effect(&db, step).await.map_err(into_job_error)? {
            store::store(&mut effect, attempt.job().0, &report)
                .await
                .map_err(|error| into_job_error(error.into()))?;
            environment.commit(step, effect).await.map_err(into_job_error)?;
        }
        attempt.checkpointed();
        Ok(Done::new().output(json!({
            "blocks": report.count(Severity::Blocks), "warns": report.count(Severity::Warns),
            "proven": report.is_proven(),
        })))
    }
}

async fn scan(db: &TenantDb, environment: &Environment, attempt: &Attempt) -> Result<Report, JobError> {
    let names = connector_registry::list(db).await.map_err(connector_registry::into_job_error)?;
    let mut report = Report::default();
    let mut samples = Vec::new();
    for (done, name) in names.iter().enumerate() {
        if attempt.should_stop() {
            return Err(if attempt.is_cancelled() {
                JobError::cancel("cancelled; nothing was written")
            } else {
                JobError::hand_back()
            });
        }
        let message = format!("reading {name}");
        attempt.progress(Progress { done: done as u64, total: Some(names.len() as u64), message });
        samples.extend(connector::scan(db, environment.vault(), name, &mut report).await?);
    }
    if names.is_empty() {
        report.blocks("connectors", "there is none", "`tenure connector sync FILE` registers one");
    }
    path::scan(db, &samples, &mut report).await?;
    Ok(report)
}
