//! `shadow_run`: tries a candidate on cases that people have judged, without effect.
//!
//! A page of cases is decided in a read-only transaction of the tenant's database, then its runs are written as one
//! effect. Between the two lies nothing but values: what decides holds no transaction that can write, and no target and
//! no credential of one is in its reach, since the crate it lives in knows none (G5). What goes wrong with a case is
//! that run's end and counts as a disagreement; the job goes on.

use std::{sync::Arc, time::Duration};

use database::tenant::{Begun, TenantDb};
use governance::{
    candidate::{self, Candidate, CandidateError},
    path::PathError,
    policy::PolicyError,
    shadow::{self, Judge, Ran, ShadowError},
};
use queue::{Attempt, Done, FailureClass, Job, JobError, NewJob, Progress};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Environment, environment::into_job_error, judges::NoJudge};

/// Cases decided in one transaction.
const PAGE: i64 = if cfg!(test) { 2 } else { 100 };

/// How long a candidate may take for one case.
const CASE_TIME_MAX: Duration = Duration::from_secs(30);

/// The payload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowRun {
    /// The candidate's name.
    pub candidate: String,
}

/// The job that tries this candidate of a tenant; while one does, a second is that one.
pub fn job(tenant: &database::control::Tenant, candidate: &str) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::of(&ShadowRun { candidate: candidate.to_owned() })?
        .queue(crate::queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .unique_key(format!("{} {candidate}", tenant.id)))
}

impl Job for ShadowRun {
    const KIND: &'static str = "shadow_run";
    const TIMEOUT: Duration = Duration::from_hours(6);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let db = environment.enter(&attempt).await?;
        let (candidate, judge) = self.load(&db, &environment).await?;
        let trial = Trial { attempt: &attempt, environment: &environment, db: &db, candidate, judge };
        let mut total = Counts::default();
        while let Some(page) = trial.page().await? {
            total.add(&page);
            attempt.checkpointed();
            attempt.progress(Progress { done: total.runs, total: None, message: total.to_string() });
            stop_if_asked(&attempt, &total)?;
        }
        Ok(Done::new().output(json!(
            { "candidate": self.candidate, "runs": total.runs, "errors": total.errors, "refused": total.refused }
        )))
    }
}

impl ShadowRun {
    /// The candidate, and what decides for it.
    async fn load(
        &self,
        db: &TenantDb,
        environment: &Environment,
    ) -> Result<(Candidate, Arc<dyn Judge>), JobError> {
        let mut read = db.read().await.map_err(into_job_error)?;
        let candidate = candidate::by_name(&mut read, &self.candidate).await.map_err(of_candidate)?;
        let judge = environment.judges().of(&mut read, &candidate.definition).await.map_err(of_judge)?;
        read.finish().await.map_err(into_job_error)?;
        Ok((candidate, judge))
    }
}

fn of_judge(error: NoJudge) -> JobError {
    match error {
        NoJudge::Path(PathError::Database(error)) | NoJudge::Policy(PolicyError::Database(error)) => {
            into_job_error(error.into())
        }
        other => JobError::fail(other, FailureClass::Configuration),
    }
}

/// One attempt of the job.
struct Trial<'a> {
    attempt: &'a Attempt,
    environment: &'a Environment,
    db: &'a TenantDb,
    candidate: Candidate,
    judge: Arc<dyn Judge>,
}

impl Trial<'_> {
    /// Decides the next cases and keeps what came of them; nothing once none is left.
    async fn page(&self) -> Result<Option<Vec<Ran>>, JobError> {
        let ran = self.decide().await?;
        let Some(last) = ran.last() else { return Ok(None) };
        // Cases run in the order of their numbers, so the last one names the page.
        let step = format!("cases to {}", last.case);
        match self.environment.effect(self.db, &step).await.map_err(into_job_error)? {
            Begun::AlreadyApplied => {}
            Begun::Fresh(mut effect) => {
                let job = self.attempt.job().0;
                shadow::record(&mut effect, &self.candidate, job, &ran).await.map_err(of_shadow)?;
                self.environment.commit(&step, effect).await.map_err(into_job_error)?;
            }
        }
        Ok(Some(ran))
    }

    async fn decide(&self) -> Result<Vec<Ran>, JobError> {
        let mut read = self.db.read().await.map_err(into_job_error)?;
        let cases = shadow::pending(&mut read, &self.candidate, PAGE).await.map_err(of_shadow)?;
        let ran = shadow::attempt(&mut read, &*self.judge, &cases, CASE_TIME_MAX).await.map_err(of_shadow)?;
        read.finish().await.map_err(into_job_error)?;
        Ok(ran)
    }
}

/// What came of this attempt's runs.
#[derive(Default)]
struct Counts {
    runs: u64,
    errors: u64,
    refused: u64,
}

impl Counts {
    fn add(&mut self, page: &[Ran]) {
        let errors = || page.iter().filter_map(|ran| ran.end.as_ref().err());
        self.runs += page.len() as u64;
        self.errors += errors().count() as u64;
        self.refused += errors().filter(|error| **error == shadow::RunError::WriteRefused).count() as u64;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cases, {} errors", self.runs, self.errors)
    }
}

fn stop_if_asked(attempt: &Attempt, total: &Counts) -> Result<(), JobError> {
    if attempt.is_cancelled() {
        return Err(JobError::cancel(format!("cancelled after {total}; these runs stay")));
    }
    if attempt.should_stop() { Err(JobError::hand_back()) } else { Ok(()) }
}

/// What a failure of a candidate means for a job.
pub(crate) fn of_candidate(error: CandidateError) -> JobError {
    match error {
        CandidateError::Database(error)
        | CandidateError::Audit(governance::audit::AuditError::Database(error)) => {
            into_job_error(error.into())
        }
        other => JobError::fail(other, FailureClass::Configuration),
    }
}

fn of_shadow(error: ShadowError) -> JobError {
    match error {
        ShadowError::Database(error) | ShadowError::Audit(governance::audit::AuditError::Database(error)) => {
            into_job_error(error.into())
        }
        other => JobError::fail(other, FailureClass::Poison),
    }
}

#[cfg(test)]
pub(crate) mod tests;
