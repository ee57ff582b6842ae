//! `export_sweep`: removes a bundle whose time is over. Enqueued by the export that made it, to run when it expires; one
//! that may stay longer by then, since the configuration says so now, is looked at again.

use std::{
    io,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, TimeDelta};
use database::{control::Tenant, tenant::Begun};
use governance::audit::{self, Event};
use queue::{Attempt, Done, FailureClass, Job, JobError, NewJob};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Environment,
    environment::into_job_error,
    queue_of,
    tenant_bundle::{self, Exports},
};

/// The name of the one step.
const STEP: &str = "sweep";

/// The longest sleep between two looks.
const PAUSE_MAX: Duration = Duration::from_hours(24);

/// The payload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportSweep {
    /// The file's name, in the worker's folder of the tenant's bundles.
    pub file: String,
    /// What names the bundle in the chain.
    pub bundle: String,
}

/// The job that sweeps this bundle of the tenant, so long after it was taken (RFC 3339).
pub fn job(
    tenant: &Tenant,
    file: &str,
    bundle: &str,
    keep: TimeDelta,
    taken_at: &str,
) -> Result<NewJob, NoSweep> {
    let payload = ExportSweep { file: file.to_owned(), bundle: bundle.to_owned() };
    Ok(NewJob::of(&payload)?
        .queue(queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .run_at(DateTime::parse_from_rfc3339(taken_at)?.to_utc() + keep))
}

/// Why no sweep can be enqueued.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "a mistake of ours, either way")]
pub enum NoSweep {
    #[error("the payload cannot be written")]
    Payload(#[from] serde_json::Error),
    #[error("the time of the snapshot is none")]
    Time(#[from] chrono::ParseError),
}

impl Job for ExportSweep {
    const KIND: &'static str = "export_sweep";
    const TIMEOUT: Duration = Duration::from_mins(10);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let db = environment.enter(&attempt).await?;
        let exports = environment.exports().ok_or(NoFolder);
        let exports = exports.map_err(|error| JobError::fail(error, FailureClass::Configuration))?;
        if !tenant_bundle::is_name(&self.file) {
            return Err(JobError::fail(NoName(self.file), FailureClass::Configuration));
        }
        let path = exports.of(db.tenant().id).join(&self.file);
        let was_there = match left(&path, exports) {
            Ok(Some(left)) => {
                return Err(JobError::snooze(left.min(PAUSE_MAX), "the bundle may stay longer"));
            }
            Ok(None) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(JobError::retry(error)),
        };
        // On record first: an attempt that is cut off here is made good by the next, which finds its step done.
        if was_there
            && let Begun::Fresh(mut effect) = environment.effect(&db, STEP).await.map_err(into_job_error)?
        {
            let body = json!({ "bundle": self.bundle });
            let event = Event { kind: "tenant.export_swept", actor: None, job: Some(attempt.job().0), body };
            audit::append(&mut effect, &event).await.map_err(JobError::retry)?;
            environment.commit(STEP, effect).await.map_err(into_job_error)?;
        }
        tenant_bundle::remove(&path).map_err(JobError::retry)?;
        Ok(Done::new().output(json!({ "file": self.file, "was_there": was_there })))
    }
}

/// How long the bundle may stay; none when its time is over.
fn left(path: &std::path::Path, exports: &Exports) -> io::Result<Option<Duration>> {
    let expires_at = std::fs::metadata(path)?.modified()? + exports.keep();
    Ok(expires_at.duration_since(SystemTime::now()).ok().filter(|left| !left.is_zero()))
}

#[derive(Debug, thiserror::Error)]
#[error("this worker has no folder for bundles: set `exports.folder` to that of the worker which wrote them")]
struct NoFolder;

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no name of a bundle")]
struct NoName(String);

#[cfg(test)]
mod tests {
    use std::fs;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::testing::{Stage, Subject, battery};

    const FILE: &str = "acme-1.zip";

    fn sweep(stage: &Stage) -> NewJob {
        let folder = stage.exports.made(stage.tenant.id).unwrap();
        fs::write(folder.join(FILE), "a bundle").unwrap();
        fs::File::options()
            .write(true)
            .open(folder.join(FILE))
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        fs::write(folder.join("another.zip"), "another").unwrap();
        job(&stage.tenant, FILE, "5e1f", TimeDelta::zero(), "2026-01-01T00:00:00Z").unwrap()
    }

    struct Sweep;

    impl Subject for Sweep {
        fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
            Box::pin(async { sweep(stage) })
        }

        fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
            Box::pin(async {
                let mut conn = stage.tenant_connection().await;
                let swept: Vec<String> = sqlx::query_scalar(
                    "select convert_from(content, 'UTF8')::json -> 'body' ->> 'bundle' from governance.audit_entry",
                )
                .fetch_all(&mut conn)
                .await
                .unwrap();
                let left = stage.exports.list(stage.tenant.id).unwrap();
                let left: Vec<_> = left.iter().map(|bundle| bundle.path.file_name().unwrap()).collect();
                format!("{swept:?} {left:?}")
            })
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn export_sweep_passes_the_battery() {
        battery(&Sweep, true).await;
    }
}
