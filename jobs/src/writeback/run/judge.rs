//! What an error means for the job.

use connectors::{ErrorClass, SourceError};
use database::tenant::TenantError;
use governance::{audit::AuditError, writeback::WritebackError};
use queue::{FailureClass, JobError};

use crate::{describe, environment::into_job_error};

pub(crate) fn judge(error: WritebackError) -> JobError {
    match error {
        WritebackError::Database(error) | WritebackError::Audit(AuditError::Database(error)) => {
            into_job_error(TenantError::Database(error))
        }
        // Somebody moved it meanwhile, or a database below was lost: the next attempt sees how it stands.
        error @ (WritebackError::Moved { .. }
        | WritebackError::Consent(_)
        | WritebackError::Receipt(_)
        | WritebackError::Path(_)
        | WritebackError::Candidate(_)) => JobError::retry(error),
        error => JobError::fail(error, FailureClass::Poison),
    }
}

/// What a target that could not be read or reached means. The row stands where it is: a later job goes on from there.
pub(crate) fn source(error: &SourceError) -> JobError {
    let what = describe(error);
    match error.class() {
        ErrorClass::Throttled => JobError::throttled(error.retry_after().unwrap_or_default(), what),
        ErrorClass::Transient | ErrorClass::Incomplete => JobError::retry(what),
        ErrorClass::Configuration => JobError::fail(what, FailureClass::Configuration),
        ErrorClass::Poison => JobError::fail(what, FailureClass::Poison),
    }
}
