//! `bulk_operation`: one action on every job that a previewed filter admits.
//!
//! The engine carries a plan out page by page, each page in one transaction under this job's fence; this kind adds what
//! makes that a job: it goes on after a crash, tells how far it is, and stops between two pages when it is cancelled,
//! which is how an operation is aborted. What was done until then stays done; a retry of the job does the rest.

use std::time::Duration;

use queue::{
    Attempt, BulkError, BulkPlan, BulkProgress, Done, FailureClass, Job, JobError, NewJob, Progress, Queue,
};
use serde::{Deserialize, Serialize};

use crate::{Environment, environment::When};

/// Jobs dealt with in one transaction. Their rows are locked meanwhile, for about a tenth of a second.
const PAGE: u32 = if cfg!(test) { 2 } else { 500 };

/// The payload: a plan, which exists only with a filter that narrows and its digest, and who confirmed it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkOperation {
    plan: BulkPlan,
    by: String,
}

/// The job that carries out a plan which `by` has confirmed; while one does, a second of the same plan is that one.
pub fn job(plan: BulkPlan, by: impl Into<String>) -> Result<NewJob, serde_json::Error> {
    let key = plan.digest().to_owned();
    let tenant = plan.filter().tenant;
    let job = NewJob::of(&BulkOperation { plan, by: by.into() })?.unique_key(key);
    Ok(match tenant {
        Some(tenant) => job.tenant(tenant),
        None => job,
    })
}

impl Job for BulkOperation {
    const KIND: &'static str = "bulk_operation";
    const TIMEOUT: Duration = Duration::from_hours(6);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let queue = environment.queue();
        for page in 1.. {
            let step = format!("page {page}");
            environment.boundary(&step, When::Before).await.map_err(JobError::retry)?;
            let progress =
                queue.bulk_step(&attempt, &self.plan, &self.by, PAGE).await.map_err(into_job_error)?;
            environment.boundary(&step, When::After).await.map_err(JobError::retry)?;
            attempt.checkpointed();
            attempt.progress(told(&self.plan, progress));
            if progress.is_done() {
                break;
            }
            if attempt.is_cancelled() {
                return Err(JobError::cancel(format!("aborted: {}", summary(progress))));
            }
            if attempt.should_stop() {
                return Err(JobError::hand_back());
            }
        }
        report(queue, &attempt).await.map_err(JobError::retry)
    }
}

fn told(plan: &BulkPlan, progress: BulkProgress) -> Progress {
    let verb = plan.action().verb();
    if !progress.is_chosen {
        return Progress { done: 0, total: None, message: format!("{verb}: {} chosen", progress.chosen) };
    }
    let done = progress.acted + progress.skipped;
    Progress { done, total: Some(progress.chosen), message: format!("{verb}: {} skipped", progress.skipped) }
}

fn summary(progress: BulkProgress) -> String {
    let BulkProgress { chosen, acted, skipped, is_chosen } = progress;
    let of = if is_chosen { "" } else { "at least " };
    format!("{acted} of {of}{chosen} chosen jobs were acted on, {skipped} skipped, the rest was left alone")
}

async fn report(queue: &Queue, attempt: &Attempt) -> Result<Done, sqlx::Error> {
    let progress = queue.bulk_progress(attempt.job()).await?.unwrap_or_default();
    let reasons = queue.bulk_skipped(attempt.job()).await?;
    let BulkProgress { chosen, acted, skipped, .. } = progress;
    let output = serde_json::json!(
        { "chosen": chosen, "acted": acted, "skipped": skipped, "skipped_because": reasons }
    );
    Ok(Done::new().output(output))
}

fn into_job_error(error: BulkError) -> JobError {
    match error {
        BulkError::Fenced => JobError::fenced(),
        BulkError::Refused(_) => JobError::fail(error, FailureClass::Configuration),
        error => JobError::retry(error),
    }
}

#[cfg(test)]
mod tests;
