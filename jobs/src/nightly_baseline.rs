//! `nightly_baseline`: reads a tenant's sources, decides over what is there, tries the candidates, and says what a night
//! has come to. Nothing is written to any target.
//!
//! A run is a chain of jobs of this kind, a stage each: syncs → decisions → shadow runs → evaluations → wishes → the
//! report. A stage fans out into the jobs that it wants done and leaves the next stage to wait for them, so that no lease
//! is held meanwhile; where there is nothing to wait for, the job goes on to the next stage itself. The next stage comes
//! however its children ended: a source that is down costs its own stream, and the report names it, with its class.
//!
//! A run belongs to the night, the day in UTC, on which it begins. A night may have several runs: each keeps its report,
//! and the last one stands for the night. One chain of a tenant lives at a time.
//!
//! It holds no credential that can write: it opens the tenant's own database and nothing else, its children read sources
//! or values that were frozen, and no [`connectors::Target`] is made here or in them. Where a candidate is autonomous, the
//! last of the children wishes ([`policy_wish`]): it makes rows in the tenant's own database of what the policy may write,
//! and the report counts them. To plan and to send is the work of other jobs, with their own gates, credentials and
//! receipts, and no run waits for it.

mod decide;
mod gather;
mod report;
mod store;
#[cfg(test)]
mod tests;
mod window;

use std::{error::Error, time::Duration};

use database::{
    Class,
    control::Tenant,
    tenant::{Begun, TenantDb},
};
use governance::candidate::{self, Candidate, Phase};
use queue::{Attempt, Done, FailureClass, Job, JobError, JobId, NewJob, Until};
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::store::{Planned, Run};
pub use self::{
    report::{
        CandidateResult, Evaluated, Outcome, PathCounts, PathResult, Report, RuleCount, StreamResult,
        basis_points,
    },
    store::{report, window},
    window::{Direction, Night as NightOfWindow, PathWindow, Point, STEADY_BP, Trend, WINDOW_DAYS, Window},
};
use crate::{
    Environment,
    connector_registry::{self, RegistryError},
    connector_sync::{self, ConnectorSync},
    environment::into_job_error,
    policy_wish, promotion_evaluation, queue_of, shadow_run,
};

/// The payload.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NightlyBaseline {
    /// Where the job before left the run; none begins one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goes_on: Option<GoesOn>,
}

/// A run that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoesOn {
    /// The job that began it.
    pub run: JobId,
    /// What comes next.
    pub with: Stage,
}

/// The stages of a run, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Every stream of every connector is read.
    Sync,
    /// The rules decide over every path; then every candidate is tried.
    Decide,
    /// The gate is asked about every candidate.
    Evaluate,
    /// What autonomous candidates may write is taken up.
    TakeUp,
    /// All of it is gathered.
    Report,
}

impl Stage {
    const fn next(self) -> Self {
        match self {
            Self::Sync => Self::Decide,
            Self::Decide => Self::Evaluate,
            Self::Evaluate => Self::TakeUp,
            Self::TakeUp | Self::Report => Self::Report,
        }
    }
}

/// The job that begins a run of a tenant. While a run lives, asking for another answers with a job of it.
pub fn job(tenant: &Tenant) -> Result<NewJob, serde_json::Error> {
    stage_job(tenant, &NightlyBaseline::default())
}

fn stage_job(tenant: &Tenant, payload: &NightlyBaseline) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::of(payload)?
        .queue(queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .unique_key(format!("{}/nightly_baseline", tenant.id)))
}

impl Job for NightlyBaseline {
    const KIND: &'static str = "nightly_baseline";
    const TIMEOUT: Duration = Duration::from_hours(6);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let db = environment.enter(&attempt).await?;
        let night = Night { attempt: &attempt, environment: &environment, db: &db };
        let begins = GoesOn { run: attempt.job(), with: Stage::Sync };
        night.go_on(self.goes_on.unwrap_or(begins)).await
    }
}

/// One attempt at one or more stages.
struct Night<'a> {
    attempt: &'a Attempt,
    environment: &'a Environment,
    db: &'a TenantDb,
}

impl Night<'_> {
    /// Goes through the stages until there is something to wait for.
    async fn go_on(&self, GoesOn { run, mut with }: GoesOn) -> Result<Done, JobError> {
        loop {
            let children = match with {
                Stage::Sync => self.syncs(run).await?,
                Stage::Decide => {
                    self.decide(&self.load(run).await?).await?;
                    self.shadow_runs().await?
                }
                Stage::Evaluate => self.evaluations().await?,
                Stage::TakeUp => self.wishes().await?,
                Stage::Report => return self.end(&self.load(run).await?).await,
            };
            with = with.next();
            if !children.is_empty() {
                let then =
                    stage_job(self.db.tenant(), &NightlyBaseline { goes_on: Some(GoesOn { run, with }) });
                let then = then.map_err(JobError::retry)?;
                let output = json!({ "run": run, "waits_for": children.len(), "next": with });
                return Ok(Done::new().output(output).fan_out(children, then, Until::Ended)?);
            }
            self.stop_if_asked()?;
        }
    }

    /// Enters the run, and gives a job for each stream.
    async fn syncs(&self, run: JobId) -> Result<Vec<NewJob>, JobError> {
        let step = "begin";
        if let Begun::Fresh(mut effect) =
            self.environment.effect(self.db, step).await.map_err(into_job_error)?
        {
            store::begin(&mut effect, run, &self.plan().await?).await.map_err(judge)?;
            self.environment.commit(step, effect).await.map_err(into_job_error)?;
        }
        self.attempt.checkpointed();
        let planned = self.load(run).await?.streams;
        let streams = planned.into_iter().filter_map(|it| Some((it.connector, it.stream?)));
        let job = |(connector, stream)| {
            connector_sync::job(self.db.tenant(), &ConnectorSync { connector, stream, reset: false })
        };
        streams.map(job).collect::<Result<_, _>>().map_err(JobError::retry)
    }

    /// The streams that the tenant's connectors define.
    async fn plan(&self) -> Result<Vec<Planned>, JobError> {
        let mut planned = Vec::new();
        for connector in
            connector_registry::list(self.db).await.map_err(connector_registry::into_job_error)?
        {
            match connector_registry::load(self.db, &connector).await {
                Ok(definition) => planned.extend(definition.streams().iter().map(|stream| Planned {
                    connector: connector.clone(),
                    stream: Some(stream.name().to_owned()),
                    refused: None,
                })),
                // Taken away in this moment.
                Err(RegistryError::Unknown { .. }) => {}
                Err(RegistryError::Tenant(error)) => return Err(into_job_error(error)),
                Err(refused) => {
                    let refused = Some(told(&refused));
                    planned.push(Planned { connector, stream: None, refused });
                }
            }
        }
        Ok(planned)
    }

    async fn load(&self, run: JobId) -> Result<Run, JobError> {
        let mut read = self.db.read().await.map_err(into_job_error)?;
        let found = store::load(&mut read, run).await.map_err(judge)?;
        read.finish().await.map_err(into_job_error)?;
        found.ok_or_else(|| JobError::fail(NoRun(run), FailureClass::Configuration))
    }

    async fn shadow_runs(&self) -> Result<Vec<NewJob>, JobError> {
        let jobs = self.candidates().await?;
        let jobs = jobs.iter().map(|one| shadow_run::job(self.db.tenant(), &one.name));
        jobs.collect::<Result<_, _>>().map_err(JobError::retry)
    }

    async fn evaluations(&self) -> Result<Vec<NewJob>, JobError> {
        let below_the_top = self.candidates().await?.into_iter().filter(|one| one.phase != Phase::Autonomous);
        let jobs = below_the_top.map(|one| promotion_evaluation::job(self.db.tenant(), &one.name));
        jobs.collect::<Result<_, _>>().map_err(JobError::retry)
    }

    /// A job for each path whose candidate is autonomous. Whether it still is counts when the job runs.
    async fn wishes(&self) -> Result<Vec<NewJob>, JobError> {
        let alone = self.candidates().await?.into_iter().filter(|one| one.phase == Phase::Autonomous);
        let jobs = alone.map(|one| policy_wish::job(self.db.tenant(), &one.definition.path));
        jobs.collect::<Result<_, _>>().map_err(JobError::retry)
    }

    async fn candidates(&self) -> Result<Vec<Candidate>, JobError> {
        let mut read = self.db.read().await.map_err(into_job_error)?;
        let candidates = candidate::list(&mut read, None).await.map_err(judge)?;
        read.finish().await.map_err(into_job_error)?;
        Ok(candidates)
    }

    /// Closes the run with its report.
    async fn end(&self, run: &Run) -> Result<Done, JobError> {
        let report = match run.report.clone() {
            Some(report) => report,
            None => self.close(run).await?,
        };
        let failures = report.failures();
        Ok(Done::new().output(json!({
            "run": run.job, "night": report.night, "outcome": report.outcome, "failures": failures,
        })))
    }

    async fn close(&self, run: &Run) -> Result<Report, JobError> {
        let (step, report) = ("report", self.gather(run).await?);
        if let Begun::Fresh(mut effect) =
            self.environment.effect(self.db, step).await.map_err(into_job_error)?
        {
            store::finish(&mut effect, &report).await.map_err(judge)?;
            self.environment.commit(step, effect).await.map_err(into_job_error)?;
        }
        Ok(report)
    }

    /// What is committed stays: the next attempt goes on from there.
    fn stop_if_asked(&self) -> Result<(), JobError> {
        if self.attempt.is_cancelled() {
            return Err(JobError::cancel("cancelled while it ran; the run ends without a report"));
        }
        if self.attempt.should_stop() { Err(JobError::hand_back()) } else { Ok(()) }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("there is no run that job {0} began: enqueue the kind with the payload {{}} to begin one")]
struct NoRun(JobId);

/// What a failure means for the job, by the database's error below it.
fn judge(error: impl Error + Send + Sync + 'static) -> JobError {
    match cause(&error).map(database::classify) {
        Some(Class::Transient) => JobError::retry(error),
        Some(Class::Configuration) => JobError::fail(error, FailureClass::Configuration),
        _ => JobError::fail(error, FailureClass::Poison),
    }
}

fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a sqlx::Error> {
    error.downcast_ref().or_else(|| cause(error.source()?))
}

/// Why a stored definition is none, in a line: its first fault.
fn told(refused: &RegistryError) -> String {
    let fault = match refused {
        RegistryError::Definition(error) => error.faults.first(),
        _ => None,
    };
    let why = fault.map_or_else(String::new, |it| format!(" (line {}: {}; {})", it.line, it.what, it.help));
    format!("{refused}{why}: `tenure connector sync FILE` stores another")
}
