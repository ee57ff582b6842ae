//! `policy_wish`: takes up what a path's autonomous candidate may write without a person, and leaves each change to a job
//! that plans it. Made by the night, once its decisions are stored.
//!
//! What it takes up commits as one, with its entry in the chain, before any job is made for it: what lies between is
//! found again by the next attempt, by the next night, or by the drift check. Whether the candidate may, how sure it
//! must be and how much of the day's cap is left is asked in that transaction (`governance::wish::take_up`), whoever
//! asked for this job; the plan and the intent ask again.
//!
//! Refuses: to plan and to send. It opens the tenant's own database and makes no [`connectors::Target`].

#[cfg(test)]
mod tests;

use std::time::Duration;

use database::{
    control::Tenant,
    tenant::{Begun, TenantDb},
};
use governance::path::{self, PathError};
use queue::{Attempt, Done, FailureClass, Job, JobError, NewJob};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Environment, environment::into_job_error, queue_of, writeback_plan};

/// Changes of a path that wait for their plan, at most: so many jobs are enqueued as one. What the cap has room for
/// beyond is the next night's.
const WAITING_MAX: i64 = 1_000;

/// The payload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyWish {
    /// Of which path.
    pub path: String,
}

/// The job for a path. While one lives, asking for another answers with it.
pub fn job(tenant: &Tenant, path: &str) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::of(&PolicyWish { path: path.to_owned() })?
        .queue(queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .unique_key(format!("{}/policy_wish/{path}", tenant.id)))
}

impl Job for PolicyWish {
    const KIND: &'static str = "policy_wish";
    const TIMEOUT: Duration = Duration::from_mins(10);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let db = environment.enter(&attempt).await?;
        self.exists(&db).await?;
        if attempt.is_cancelled() {
            return Err(JobError::cancel("cancelled before anything was taken up"));
        }
        if attempt.should_stop() {
            return Err(JobError::hand_back());
        }
        self.take_up(&attempt, &environment, &db).await?;
        attempt.checkpointed();
        let waiting = self.waiting(&db).await?;
        let output = json!({ "path": self.path, "wanted": waiting.len() });
        Ok(waiting.into_iter().fold(Done::new().output(output), Done::follow_up))
    }
}

impl PolicyWish {
    async fn exists(&self, db: &TenantDb) -> Result<(), JobError> {
        let mut read = db.read().await.map_err(into_job_error)?;
        path::by_name(&mut read, &self.path).await.map_err(of_path)?;
        read.finish().await.map_err(into_job_error)
    }

    async fn take_up(
        &self,
        attempt: &Attempt,
        environment: &Environment,
        db: &TenantDb,
    ) -> Result<(), JobError> {
        const STEP: &str = "take up";
        if let Begun::Fresh(mut effect) = environment.effect(db, STEP).await.map_err(into_job_error)? {
            let waiting = writeback_plan::due_of_policy(&mut effect, db.tenant(), &self.path, WAITING_MAX);
            let room = WAITING_MAX.saturating_sub_unsigned(waiting.await?.len() as u64);
            writeback_plan::take_up(&mut effect, &self.path, room, Some(attempt.job().0)).await?;
            environment.commit(STEP, effect).await.map_err(into_job_error)?;
        }
        Ok(())
    }

    /// Jobs for what is wanted and not planned, also by an earlier night whose jobs were lost.
    async fn waiting(&self, db: &TenantDb) -> Result<Vec<NewJob>, JobError> {
        let mut read = db.read().await.map_err(into_job_error)?;
        let jobs = writeback_plan::due_of_policy(&mut read, db.tenant(), &self.path, WAITING_MAX).await?;
        read.finish().await.map_err(into_job_error)?;
        Ok(jobs)
    }
}

fn of_path(error: PathError) -> JobError {
    match error {
        PathError::Database(error) => into_job_error(error.into()),
        error @ PathError::Unknown(_) => JobError::fail(error, FailureClass::Configuration),
        error => JobError::fail(error, FailureClass::Poison),
    }
}
