//! `key_rotation`: keys under a new version of the key that wraps them, or values under new keys; of a tenant, or
//! without a tenant of the platform.
//!
//! Each page is an effect: the values, what could not be opened and how far it has come commit together. A rotation is
//! named by the approval that allowed it, so that a job in the place of one that was cancelled or failed goes on where
//! that one stopped. What does not open is left as it is, named, and makes the outcome `faulty`.
//!
//! On the platform there is no fence. A zombie's page does no harm there: it puts a value in the place of exactly what
//! it read, and the rotation's row is locked by every page.

mod consent;
mod predict;
#[cfg(test)]
mod tests;

use std::time::Duration;

use database::{Class, control::Tenant, tenant::Begun};
use governance::{
    approval::{self, ApprovalId},
    audit::{self, Event},
};
use queue::{Attempt, Done, FailureClass, Job, JobError, NewJob, Progress};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vault::{
    CatalogError, ServiceClass, ServiceError, VaultError,
    rotation::{self, Action, Fault, Rotation, RotationError, Settings},
};

pub use self::{
    consent::{Asked, Changed, Errand, KeyFault, ask, change},
    predict::{Predicted, census, predict},
};
use crate::{
    Environment, OPERATIONS, describe,
    environment::{When, into_job_error},
    key_scope::{KeyScope, KeyTransaction},
    queue_of,
};

/// What does not open and is named in the output, at most; all of it is in `governance.key_rotation_fault`.
const FAULTS_SHOWN: i64 = 100;

/// The payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRotation {
    /// What is rotated: `rewrap` or `reseal`.
    pub action: Action,
    /// The number of the approval that allows it.
    pub approval: String,
    /// Keys that are younger stay in use, in seconds.
    #[serde(default = "day")]
    pub older_than_secs: u64,
    /// Rows of a transaction.
    #[serde(default = "page_rows")]
    pub page_rows: u16,
}

/// A rotation that is repeated within a day changes nothing, unless something else is said.
pub const OLDER_THAN: Duration = Duration::from_hours(24);

const fn day() -> u64 {
    OLDER_THAN.as_secs()
}

/// Some tens of milliseconds of work: so long may somebody wait for one of its rows.
pub const PAGE_ROWS: u16 = 500;

const fn page_rows() -> u16 {
    PAGE_ROWS
}

impl KeyRotation {
    /// How the rotation goes about it.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            action: self.action,
            older_than: Duration::from_secs(self.older_than_secs),
            page_rows: self.page_rows.max(1).into(),
        }
    }

    fn approval(&self) -> Result<ApprovalId, JobError> {
        self.approval.parse().map_err(|error| JobError::fail(error, FailureClass::Configuration))
    }
}

/// The job for a tenant's keys, or for the platform's. One lives at a time.
pub fn job(tenant: Option<&Tenant>, rotation: &KeyRotation) -> Result<NewJob, serde_json::Error> {
    let new = NewJob::of(rotation)?;
    Ok(match tenant {
        Some(tenant) => new
            .queue(queue_of(&tenant.region))
            .tenant(tenant.id.0)
            .unique_key(format!("{}/key_rotation", tenant.id)),
        None => new.queue(OPERATIONS).unique_key("platform/key_rotation"),
    })
}

impl Job for KeyRotation {
    const KIND: &'static str = "key_rotation";
    const TIMEOUT: Duration = Duration::from_hours(12);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let id = self.approval()?;
        let scope = match attempt.tenant() {
            Some(_) => KeyScope::Tenant(environment.enter(&attempt).await?),
            None => KeyScope::Platform(environment.queue().pool().clone()),
        };
        let vault = environment.vault().clone();
        let request = format!("rotation {id} of {}", scope.owner());
        let rotation = Rotation::real(vault, scope.owner(), self.settings(), request);
        let mut run =
            Run { payload: &self, attempt: &attempt, environment: &environment, scope: &scope, id, rotation };
        run.begin().await?;
        while run.turn().await? {
            attempt.checkpointed();
            if attempt.should_stop() {
                return Err(stopped(&attempt));
            }
        }
        run.end().await
    }
}

fn stopped(attempt: &Attempt) -> JobError {
    if attempt.is_cancelled() {
        JobError::cancel("cancelled; `key rotate` goes on where it stopped")
    } else {
        JobError::hand_back()
    }
}

struct Run<'a> {
    payload: &'a KeyRotation,
    attempt: &'a Attempt,
    environment: &'a Environment,
    scope: &'a KeyScope,
    id: ApprovalId,
    rotation: Rotation,
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("approval {0} allowed another rotation: ask for one with `tenure key rotate`")]
    OtherAction(ApprovalId),
    #[error("the rotation {0} was begun and is not there")]
    Gone(ApprovalId),
}

impl Run<'_> {
    /// Uses the approval up and enters the rotation; one that was begun before goes on.
    async fn begin(&mut self) -> Result<(), JobError> {
        let step = format!("rotation {} begin", self.id);
        let Some(mut tx) = self.transaction(&step).await? else { return Ok(()) };
        match rotation::hold(&mut tx, self.id.0).await.map_err(of_database)? {
            Some(found) if !self.is_same(&found) => {
                return Err(JobError::fail(Refused::OtherAction(self.id), FailureClass::Configuration));
            }
            Some(_) => {}
            None => self.enter(&mut tx).await?,
        }
        self.commit(&step, tx).await
    }

    fn is_same(&self, found: &rotation::Recorded) -> bool {
        found.action == self.payload.action
            && u64::try_from(found.older_than_secs).is_ok_and(|secs| secs == self.payload.older_than_secs)
    }

    async fn enter(&mut self, tx: &mut KeyTransaction) -> Result<(), JobError> {
        let job = self.attempt.job().0;
        let errand = Errand::Rotate(self.payload.settings());
        let digest = consent::digest(tx, self.scope, &errand).await.map_err(of_key_fault)?;
        let progress = rotation::Progress::of(self.rotation.total(tx).await.map_err(judge)?);
        let consumed = approval::consume(tx, self.id, &digest, None, Some(job)).await;
        let consumed = consumed.map_err(|error| of_key_fault(error.into()))?;
        rotation::begin(tx, self.id.0, job, &self.payload.settings(), &progress)
            .await
            .map_err(of_database)?;
        let body = json!({
            "approval": consumed.id, "action": self.payload.action, "older_than_secs": self.payload.older_than_secs,
        });
        self.record(tx, "key.rotation_begun", body).await
    }

    /// Turns a page; false once there is none left.
    async fn turn(&mut self) -> Result<bool, JobError> {
        let seen = self.find().await?;
        if seen.progress.is_done {
            return Ok(false);
        }
        let step = format!("rotation {} page {}", self.id, seen.progress.pages);
        let Some(mut tx) = self.transaction(&step).await? else { return Ok(true) };
        let held = rotation::hold(&mut tx, self.id.0).await.map_err(of_database)?;
        let mut progress = held.ok_or_else(|| self.gone())?.progress;
        let faults = self.rotation.advance(&mut tx, &mut progress).await.map_err(judge)?;
        let job = self.attempt.job().0;
        rotation::save(&mut tx, self.id.0, job, &progress, &faults).await.map_err(of_database)?;
        self.commit(&step, tx).await?;
        self.tell(&progress);
        Ok(!progress.is_done)
    }

    fn tell(&self, progress: &rotation::Progress) {
        let counts = progress.counts;
        let message = format!("{} rotated, {} already", counts.rotated, counts.already);
        self.attempt.progress(Progress { done: counts.total(), total: Some(progress.total), message });
    }

    async fn end(&self) -> Result<Done, JobError> {
        let step = format!("rotation {} end", self.id);
        if let Some(mut tx) = self.transaction(&step).await? {
            let held = rotation::hold(&mut tx, self.id.0).await.map_err(of_database)?;
            let held = held.ok_or_else(|| self.gone())?;
            if held.ended_at.is_none() {
                rotation::end(&mut tx, self.id.0).await.map_err(of_database)?;
                let counts = held.progress.counts;
                let body = json!({ "approval": self.id, "action": self.payload.action, "counts": counts });
                self.record(&mut tx, "key.rotated", body).await?;
            }
            self.commit(&step, tx).await?;
        }
        let seen = self.find().await?;
        let mut tx = self.scope.read().await.map_err(into_job_error)?;
        let faults = rotation::faults(&mut tx, self.id.0, FAULTS_SHOWN).await.map_err(of_database)?;
        tx.commit().await.map_err(into_job_error)?;
        Ok(Done::new().output(output(self.id, self.payload.action, &seen.progress, &faults)))
    }

    async fn find(&self) -> Result<rotation::Recorded, JobError> {
        let mut tx = self.scope.read().await.map_err(into_job_error)?;
        let found = rotation::find(&mut tx, self.id.0).await.map_err(of_database)?;
        tx.commit().await.map_err(into_job_error)?;
        found.ok_or_else(|| self.gone())
    }

    fn gone(&self) -> JobError {
        JobError::fail(Refused::Gone(self.id), FailureClass::Configuration)
    }

    async fn record(&self, tx: &mut KeyTransaction, kind: &'static str, body: Value) -> Result<(), JobError> {
        let event = Event { kind, actor: None, job: Some(self.attempt.job().0), body };
        audit::append(tx, &event).await.map(drop).map_err(|error| of_key_fault(error.into()))
    }

    /// The transaction of a step; none if it was committed before.
    async fn transaction(&self, step: &str) -> Result<Option<KeyTransaction>, JobError> {
        match self.scope {
            KeyScope::Tenant(db) => match self.environment.effect(db, step).await.map_err(into_job_error)? {
                Begun::Fresh(effect) => Ok(Some(KeyTransaction::Effect(effect))),
                Begun::AlreadyApplied => Ok(None),
            },
            KeyScope::Platform(_) => {
                if !self.attempt.confirm().await.map_err(JobError::retry)? {
                    return Err(JobError::fenced());
                }
                self.environment.boundary(step, When::Before).await.map_err(JobError::retry)?;
                Ok(Some(self.scope.write().await.map_err(into_job_error)?))
            }
        }
    }

    async fn commit(&self, step: &str, tx: KeyTransaction) -> Result<(), JobError> {
        match tx {
            KeyTransaction::Effect(effect) => {
                self.environment.commit(step, effect).await.map_err(into_job_error)
            }
            tx => {
                tx.commit().await.map_err(into_job_error)?;
                self.environment.boundary(step, When::After).await.map_err(JobError::retry)
            }
        }
    }
}

/// What the job tells at its end.
fn output(id: ApprovalId, action: Action, progress: &rotation::Progress, faults: &[Fault]) -> Value {
    let counts = progress.counts;
    let outcome = if counts.undecryptable == 0 { "complete" } else { "faulty" };
    json!({ "outcome": outcome, "rotation": id, "action": action, "counts": counts, "faults": faults })
}

fn of_database(error: sqlx::Error) -> JobError {
    into_job_error(error.into())
}

/// What the failure means for the job. A key service that refuses is a matter for people at once: no try is burnt.
fn judge(error: RotationError) -> JobError {
    match error {
        RotationError::Overtaken(_) => JobError::fail(error, FailureClass::Conflict),
        RotationError::Vault(error) => of_vault(error),
    }
}

fn of_vault(error: VaultError) -> JobError {
    match error {
        VaultError::Service(error) => of_service(error),
        VaultError::Database(error) | VaultError::Catalog(CatalogError::Database(error)) => {
            of_database(error)
        }
        VaultError::Catalog(_) | VaultError::Faithless(_) => {
            JobError::fail(error, FailureClass::Configuration)
        }
        error => JobError::fail(error, FailureClass::Poison),
    }
}

pub(crate) fn of_service(error: ServiceError) -> JobError {
    match error.class() {
        ServiceClass::Transient => JobError::retry(error),
        ServiceClass::Throttled(after) => JobError::throttled(after, describe(&error)),
        ServiceClass::Configuration => JobError::fail(error, FailureClass::Configuration),
        ServiceClass::Damaged => JobError::fail(error, FailureClass::Poison),
    }
}

fn of_key_fault(error: KeyFault) -> JobError {
    match error.class() {
        Class::Transient => JobError::retry(error),
        _ => JobError::fail(error, FailureClass::Configuration),
    }
}
