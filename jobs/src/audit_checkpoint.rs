//! `audit_checkpoint`: a signed checkpoint of the tenant's audit chain, or of the platform's without a tenant, put
//! where the database cannot rewrite it.
//!
//! The checkpoint is an effect; its file is written after the commit and from what was committed, so that an attempt
//! that is killed between the two is made good by the next: a file that is there is left alone. The platform's chain
//! is not fenced: two attempts over the same entries make one checkpoint.
//!
//! Approvals whose time is over are put on record before, so that the checkpoint vouches for that too: an approval that
//! nobody looks at any more would else lapse without a word.

use std::{path::PathBuf, sync::Arc, time::Duration};

use database::{control::Tenant, tenant::Begun};
use governance::{
    approval::{self, ApprovalError},
    audit::{self, AuditError},
    checkpoint::{self, CheckpointError, Made},
};
use queue::{Attempt, Done, FailureClass, Job, JobError, NewJob};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use verifier::note::SecretKey;

use crate::{Environment, environment::When, environment::into_job_error, queue_of};

/// The name of the one step.
const STEP: &str = "checkpoint";

/// Approvals that are noticed to have lapsed in one go; the rest is tomorrow's.
const LAPSED_MAX: i64 = 10_000;

/// The payload: the chain is the job's tenant's, or the platform's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditCheckpoint {}

/// What signs checkpoints, and where they go; cheap to clone.
#[derive(Clone)]
pub struct Checkpoints(Arc<(SecretKey, PathBuf)>);

impl Checkpoints {
    /// Signed with this key, put into this folder.
    #[must_use]
    pub fn new(key: SecretKey, folder: PathBuf) -> Self {
        Self(Arc::new((key, folder)))
    }

    /// The key that signs.
    #[must_use]
    pub fn key(&self) -> &SecretKey {
        &self.0.0
    }

    /// Where the files of the chain of this origin go.
    #[must_use]
    pub fn folder(&self) -> &PathBuf {
        &self.0.1
    }
}

/// The job for a tenant's chain. One lives at a time.
pub fn job(tenant: &Tenant) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::of(&AuditCheckpoint {})?
        .queue(queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .unique_key(format!("{}/audit_checkpoint", tenant.id)))
}

impl Job for AuditCheckpoint {
    const KIND: &'static str = "audit_checkpoint";
    const TIMEOUT: Duration = Duration::from_mins(10);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let checkpoints = environment.checkpoints().ok_or(NoKey);
        let checkpoints = checkpoints.map_err(|error| JobError::fail(error, FailureClass::Configuration))?;
        let (origin, made) = match attempt.tenant() {
            Some(_) => of_tenant(&attempt, &environment, checkpoints).await?,
            None => of_platform(&environment, checkpoints).await?,
        };
        store(checkpoints, origin.clone(), made.clone()).await?;
        Ok(Done::new().output(json!({ "origin": origin, "size": made.size, "is_new": made.is_new })))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("there is no key to sign with: set `audit.signing_key_file` and `audit.checkpoint_folder`")]
struct NoKey;

async fn of_tenant(
    attempt: &Attempt,
    environment: &Environment,
    checkpoints: &Checkpoints,
) -> Result<(String, Made), JobError> {
    let db = environment.enter(attempt).await?;
    if let Begun::Fresh(mut effect) = environment.effect(&db, STEP).await.map_err(into_job_error)? {
        let (origin, made) = make(&mut effect, checkpoints).await?;
        environment.commit(STEP, effect).await.map_err(into_job_error)?;
        return Ok((origin, made));
    }
    let mut read = db.read().await.map_err(into_job_error)?;
    let found = committed(&mut read).await?;
    read.finish().await.map_err(into_job_error)?;
    Ok(found)
}

async fn of_platform(
    environment: &Environment,
    checkpoints: &Checkpoints,
) -> Result<(String, Made), JobError> {
    environment.boundary(STEP, When::Before).await.map_err(JobError::retry)?;
    let mut conn = environment.queue().pool().acquire().await.map_err(JobError::retry)?;
    let mut tx = conn.begin().await.map_err(JobError::retry)?;
    let made = make(&mut tx, checkpoints).await?;
    tx.commit().await.map_err(JobError::retry)?;
    environment.boundary(STEP, When::After).await.map_err(JobError::retry)?;
    Ok(made)
}

async fn make(conn: &mut PgConnection, checkpoints: &Checkpoints) -> Result<(String, Made), JobError> {
    approval::sweep(conn, LAPSED_MAX).await.map_err(of_approval)?;
    let made = checkpoint::make(conn, checkpoints.key()).await.map_err(failed)?;
    let head = audit::head(conn).await.map_err(JobError::retry)?;
    Ok((head.origin, made))
}

/// What an earlier attempt of this job has committed.
async fn committed(conn: &mut PgConnection) -> Result<(String, Made), JobError> {
    let latest = checkpoint::latest(conn).await.map_err(failed)?;
    let made = latest.ok_or_else(|| JobError::retry("the checkpoint that was committed is not there"))?;
    let head = audit::head(conn).await.map_err(JobError::retry)?;
    Ok((head.origin, made))
}

pub(crate) async fn store(checkpoints: &Checkpoints, origin: String, made: Made) -> Result<(), JobError> {
    let folder = checkpoints.folder().clone();
    let stored = tokio::task::spawn_blocking(move || checkpoint::store(&folder, &origin, &made)).await;
    stored.map_err(JobError::retry)?.map_err(JobError::retry).map(drop)
}

/// A chain that was tampered with needs a person, and no second try.
pub(crate) fn failed(error: CheckpointError) -> JobError {
    match &error {
        CheckpointError::Database(cause) => match database::classify(cause) {
            database::Class::Transient => JobError::retry(error),
            _ => JobError::fail(error, FailureClass::Configuration),
        },
        _ => JobError::fail(error, FailureClass::Poison),
    }
}

pub(crate) fn of_approval(error: ApprovalError) -> JobError {
    match error {
        ApprovalError::Database(cause) | ApprovalError::Audit(AuditError::Database(cause)) => {
            into_job_error(cause.into())
        }
        error => JobError::fail(error, FailureClass::Poison),
    }
}

#[cfg(test)]
mod tests;
