//! `tenant_delete`: the right to be forgotten, a saga of steps.
//!
//! The approval is used up; while the deletion cools off it can be called off; then the tenant is taken out of service
//! for good, unless somebody holds it (E6), and everything of it is removed, looked for, and what remains is written
//! down: a tombstone and a signed certificate, in the control database and in a folder outside.
//!
//! Promises: every step may be killed anywhere and repeated, and its record is written once (E7); the certificate comes
//! only after every probe found nothing (E5), and says no more than the steps' records do. The job belongs to no tenant,
//! since a tenant's jobs are among what goes. Waiting, for a yes, for the end of the cooling-off or for jobs that still
//! run, holds no lease.
//!
//! Cancelling the job does not call a deletion off; it only stops it where it is.

mod certificate;
mod chain;
mod files;
mod paper;
mod request;
mod steps;
mod survey;
mod tables;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use database::{
    Class,
    control::{
        ControlError, Tenant,
        deletion::{DeletionError, DeletionId},
    },
    provision::ProvisionError,
    tombstone::Tombstones,
};
use governance::audit::AuditError;
use queue::{Attempt, Done, FailureClass, Job, JobError, NewJob, Progress};
use serde::{Deserialize, Serialize};

pub use self::{
    certificate::{Certificate, CertificateError, ChainEnd, Remains, Removed, Swept, verify},
    request::{GateGap, RequestError, Requested, call_off, enter, gates, request},
    survey::{Survey, SurveyError, survey},
};
use crate::{Environment, deletions_of, environment::When};

/// The payload: the row that says whose.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantDelete {
    deletion: DeletionId,
}

/// The job that carries a deletion out; at most one at a time.
pub fn job(tenant: &Tenant, deletion: DeletionId) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::of(&TenantDelete { deletion })?
        .queue(deletions_of(&tenant.region))
        .unique_key(deletion.to_string()))
}

/// What a deletion leaves and sweeps on this machine; cheap to clone.
#[derive(Clone)]
pub struct Deletions(Arc<Inner>);

struct Inner {
    tombstones: Tombstones,
    folders: Vec<PathBuf>,
    backup_days: Option<u32>,
}

impl Deletions {
    /// Tombstones go there; the tenant's files in these folders are swept, none of which lies in another; backups of the
    /// databases are kept for so many days, if that is known.
    #[must_use]
    pub fn new(tombstones: Tombstones, folders: Vec<PathBuf>, backup_days: Option<u32>) -> Self {
        Self(Arc::new(Inner { tombstones, folders, backup_days }))
    }

    /// The folder of tombstones.
    #[must_use]
    pub fn tombstones(&self) -> &Tombstones {
        &self.0.tombstones
    }

    fn folders(&self) -> &[PathBuf] {
        &self.0.folders
    }

    fn backup_days(&self) -> Option<u32> {
        self.0.backup_days
    }
}

/// One step; they are done in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The approval is used up, and the cooling-off begins.
    Approve,
    /// Nobody holds the tenant: it is out of service for good.
    Freeze,
    /// No job of the tenant runs any more.
    Quiesce,
    /// Nobody is let into its database.
    Close,
    /// Its chain is ended, signed and taken out.
    Chain,
    /// Its database and its role are dropped.
    Database,
    /// Its rows in the control database are removed.
    Rows,
    /// Its files on this machine are removed.
    Files,
    /// Its key is destroyed.
    Key,
    /// Its tombstone is put up, here and outside.
    Tombstone,
    /// Everything is looked for once more.
    Probe,
    /// What was done is certified.
    Certificate,
}

impl Step {
    const ALL: [Self; 12] = [
        Self::Approve,
        Self::Freeze,
        Self::Quiesce,
        Self::Close,
        Self::Chain,
        Self::Database,
        Self::Rows,
        Self::Files,
        Self::Key,
        Self::Tombstone,
        Self::Probe,
        Self::Certificate,
    ];

    /// The step's name in its record; it never changes.
    fn name(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Freeze => "freeze",
            Self::Quiesce => "quiesce",
            Self::Close => "close",
            Self::Chain => "chain",
            Self::Database => "database",
            Self::Rows => "rows",
            Self::Files => "files",
            Self::Key => "key",
            Self::Tombstone => "tombstone",
            Self::Probe => "probe",
            Self::Certificate => "certificate",
        }
    }
}

impl Job for TenantDelete {
    const KIND: &'static str = "tenant_delete";
    const TIMEOUT: Duration = Duration::from_hours(6);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let saga = steps::Saga::of(&attempt, &environment, self.deletion).await?;
        let total = Step::ALL.len() as u64;
        for (done, step) in (1..).zip(Step::ALL) {
            if !attempt.confirm().await.map_err(JobError::retry)? {
                return Err(JobError::fenced());
            }
            environment.boundary(step.name(), When::Before).await.map_err(JobError::retry)?;
            saga.take(step).await?;
            environment.boundary(step.name(), When::After).await.map_err(JobError::retry)?;
            attempt.checkpointed();
            attempt.progress(Progress { done, total: Some(total), message: step.name().to_owned() });
            if attempt.is_cancelled() && step != Step::Certificate {
                let note = format!("stopped after the step {}; `tenure job retry` goes on", step.name());
                return Err(JobError::cancel(note));
            }
            if attempt.should_stop() && step != Step::Certificate {
                return Err(JobError::hand_back());
            }
        }
        Ok(Done::new().output(serde_json::json!({ "deletion": self.deletion })))
    }
}

/// What somebody has to set first.
#[derive(Debug, thiserror::Error)]
pub enum NotSet {
    /// There is no key to sign with.
    #[error("there is no key to sign with: set `audit.signing_key_file` and `audit.checkpoint_folder`")]
    Key,
    /// There is no place for tombstones.
    #[error("there is no place for tombstones: set `tenants.tombstone_folder`")]
    Tombstones,
}

fn of_database(error: sqlx::Error) -> JobError {
    match database::classify(&error) {
        Class::Transient => JobError::retry(error),
        Class::Configuration => JobError::fail(error, FailureClass::Configuration),
        Class::Permanent | Class::Fenced => JobError::fail(error, FailureClass::Poison),
    }
}

fn of_audit(error: AuditError) -> JobError {
    match error {
        AuditError::Database(error) => of_database(error),
        error => JobError::fail(error, FailureClass::Poison),
    }
}

fn of_deletion(error: DeletionError) -> JobError {
    match error {
        DeletionError::Database(error) | DeletionError::Control(ControlError::Database(error)) => {
            of_database(error)
        }
        error => JobError::fail(error, FailureClass::Configuration),
    }
}

fn of_provision(error: ProvisionError) -> JobError {
    match error.class() {
        Class::Fenced => JobError::fenced(),
        Class::Transient => JobError::retry(error),
        Class::Configuration => JobError::fail(error, FailureClass::Configuration),
        Class::Permanent => JobError::fail(error, FailureClass::Poison),
    }
}
