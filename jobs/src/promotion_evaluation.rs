//! `promotion_evaluation`: freezes a candidate's evidence and says whether it may move one phase up.
//!
//! One step: the snapshot, the gate's answer and the entry in the chain commit together. It moves nothing: an answer of
//! `eligible` is a proposal, and its output names what an approval would have to say yes to.

use std::time::Duration;

use database::tenant::{Begun, TenantDb};
use governance::candidate::{self, CandidateError, Promotion, SnapshotRecord};
use queue::{Attempt, Done, FailureClass, Job, JobError, NewJob};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Environment, environment::into_job_error, shadow_run::of_candidate};

/// The payload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotionEvaluation {
    /// The candidate's name.
    pub candidate: String,
}

/// The job that evaluates this candidate of a tenant; while one does, a second is that one.
pub fn job(tenant: &database::control::Tenant, candidate: &str) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::of(&PromotionEvaluation { candidate: candidate.to_owned() })?
        .queue(crate::queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .unique_key(format!("{} {candidate}", tenant.id)))
}

impl Job for PromotionEvaluation {
    const KIND: &'static str = "promotion_evaluation";
    const TIMEOUT: Duration = Duration::from_mins(10);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let db = environment.enter(&attempt).await?;
        let job = attempt.job().0;
        let step = "freeze";
        if let Begun::Fresh(mut effect) = environment.effect(&db, step).await.map_err(into_job_error)? {
            match candidate::freeze(&mut effect, &self.candidate, job).await {
                Ok(_gate) => environment.commit(step, effect).await.map_err(into_job_error)?,
                // A schedule goes on asking; that there is nothing above is no failure.
                Err(CandidateError::AtTheTop(_)) => {
                    return Ok(Done::new().output(at_the_top(&self.candidate)));
                }
                Err(error) => return Err(of_candidate(error)),
            }
        }
        attempt.checkpointed();
        let output = self.told(&db, job).await?;
        Ok(Done::new().output(output))
    }
}

fn at_the_top(candidate: &str) -> Value {
    json!({ "candidate": candidate, "answer": null, "note": "it is autonomous: there is no phase above" })
}

impl PromotionEvaluation {
    /// What this job froze, also when an earlier attempt did.
    async fn told(&self, db: &TenantDb, job: i64) -> Result<Value, JobError> {
        let mut read = db.read().await.map_err(into_job_error)?;
        let found = candidate::by_name(&mut read, &self.candidate).await.map_err(of_candidate)?;
        let record = candidate::snapshot_of_job(&mut read, &found, job).await.map_err(of_candidate)?;
        read.finish().await.map_err(into_job_error)?;
        let promotion = Promotion::of(found.digest, &record).digest();
        let promotion = promotion.map_err(|error| JobError::fail(error, FailureClass::Poison))?;
        let SnapshotRecord { digest, from, to, evaluation, .. } = record;
        Ok(json!({
            "candidate": self.candidate, "snapshot": digest, "from": from, "to": to, "answer": evaluation.answer,
            "findings": evaluation.findings, "promotion": promotion,
        }))
    }
}

#[cfg(test)]
mod tests;
