//! `tenant_export`: everything held on a tenant, as one file, once those have agreed whom the tenant's gate asks.
//!
//! Nothing is read before the yes is there. The yes is used up in the transaction that puts on record which bundle is handed
//! out, and only then does the file get its name: so an approval gives one bundle, and whoever has one finds its digest
//! in the chain. A snapshot dies with its session, so an attempt that was cut off is not resumed; the next one begins
//! anew.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::TimeDelta;
use database::{
    Class,
    control::Tenant,
    tenant::{Begun, TenantDb},
};
use governance::{
    actor::ActorId,
    approval::{self, Approval, ApprovalId, ConsumeError, RequestError, Requested, State, Terms},
    audit::{self, Event},
    gate::ActionClass,
};
use queue::{Attempt, Done, FailureClass, Job, JobError, NewJob, Progress};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;

use crate::{
    Environment,
    environment::{When, into_job_error},
    export_sweep, queue_of,
    tenant_bundle::{self, About, Bundle, BundleError, Exports, Partial},
};

/// How long until an approval is looked for again.
const APPROVAL_PAUSE: Duration = Duration::from_secs(15);

/// The payload. What is approved is this with the tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantExport {
    /// The approval that was asked for.
    pub approval: String,
    /// The folder that the bundle is put into, as the worker sees it; none is the worker's own, where it is swept in time.
    pub to: Option<PathBuf>,
}

/// What exactly is approved.
fn terms(tenant: &Tenant, to: Option<&Path>) -> Terms {
    let plan = json!({
        "contents": "everything that is held on the tenant, without credentials",
        "tenant": tenant.id,
        "to": to.map(|to| to.to_string_lossy().into_owned()),
    });
    let target = format!("tenant/{}", tenant.id);
    Terms::new(ActionClass::tenant_export(), tenant.name.to_string(), vec![target], plan)
}

/// Asks for the approval of an export, in a transaction of the tenant's database. The same is asked for once at a time.
pub async fn ask(
    conn: &mut PgConnection,
    tenant: &Tenant,
    to: Option<&Path>,
    by: ActorId,
) -> Result<Requested, RequestError> {
    approval::request(conn, &terms(tenant, to), by, None).await
}

/// The job that waits for this approval and then exports; at most one at a time.
pub fn job(tenant: &Tenant, approval: ApprovalId, to: Option<&Path>) -> Result<NewJob, serde_json::Error> {
    let payload = TenantExport { approval: approval.to_string(), to: to.map(Path::to_owned) };
    Ok(NewJob::of(&payload)?
        .queue(queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .unique_key(format!("{}/{approval}", tenant.id)))
}

impl Job for TenantExport {
    const KIND: &'static str = "tenant_export";
    const TIMEOUT: Duration = Duration::from_hours(12);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let db = environment.enter(&attempt).await?;
        let place = Place::of(&self, &db, &environment)?;
        // Before anybody is asked: a folder that cannot be used is no reason to wait for a person.
        let partial = Partial::new(&place.folder, &place.name, attempt.fence().0);
        let partial = partial.map_err(|error| of_io(&place.folder, error))?;
        match self.consent(&db).await? {
            Consent::Given => {}
            Consent::Undecided => {
                return Err(JobError::await_approval(APPROVAL_PAUSE, "a person has to approve the export"));
            }
            // It gave a bundle: by an attempt that was cut off afterwards, or by another job for the same approval.
            Consent::UsedUp(_) if place.is_there()? => return done(&db, &place.offered().await?, &place),
            Consent::UsedUp(Some(job)) if job == attempt.job().0 => {}
            Consent::UsedUp(_) => {
                let what = format!("approval {} was used up before: ask for the export again", self.approval);
                return Err(refused(what));
            }
        }
        let bundle = export(&attempt, &environment, &db, &partial).await?;
        self.put_on_record(&attempt, &environment, &db, &bundle).await?;
        let file = partial.offer().map_err(|error| of_io(&place.folder, error))?;
        tracing::info!(file = %file.display(), "exported");
        done(&db, &bundle, &place)
    }
}

/// Where the bundle goes.
struct Place {
    folder: PathBuf,
    name: String,
    /// The worker's own folder, where it is swept.
    own: Option<Exports>,
}

impl Place {
    fn of(payload: &TenantExport, db: &TenantDb, environment: &Environment) -> Result<Self, JobError> {
        let name = tenant_bundle::name(db.tenant(), payload.approval()?);
        match &payload.to {
            Some(folder) if folder.is_absolute() => Ok(Self { folder: folder.clone(), name, own: None }),
            Some(folder) => {
                Err(refused(format!("{} is no absolute path: name the folder from / on", folder.display())))
            }
            None => {
                let exports = environment.exports().ok_or_else(|| {
                    refused(
                        "this worker has no folder for bundles: set `exports.folder`, or export with --to",
                    )
                })?;
                let folder = exports.made(db.tenant().id);
                let folder = folder.map_err(|error| of_io(&exports.of(db.tenant().id), error))?;
                Ok(Self { folder, name, own: Some(exports.clone()) })
            }
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// The bundle that is there.
    async fn offered(&self) -> Result<Bundle, JobError> {
        let file = self.file();
        let read = tokio::task::spawn_blocking(move || tenant_bundle::offered(&file));
        let offered = read.await.map_err(JobError::retry)?;
        offered.map_err(|error| JobError::fail(error, FailureClass::Configuration))
    }

    fn is_there(&self) -> Result<bool, JobError> {
        self.file().try_exists().map_err(|error| of_io(&self.folder, error))
    }
}

/// Where the answer stands.
enum Consent {
    Given,
    Undecided,
    /// By this job.
    UsedUp(Option<i64>),
}

impl TenantExport {
    fn approval(&self) -> Result<ApprovalId, JobError> {
        self.approval.parse().map_err(|error| JobError::fail(error, FailureClass::Configuration))
    }

    async fn consent(&self, db: &TenantDb) -> Result<Consent, JobError> {
        let id = self.approval()?;
        let mut read = db.read().await.map_err(into_job_error)?;
        let found = approval::get(&mut read, id).await.map_err(JobError::retry)?;
        let digest =
            terms(db.tenant(), self.to.as_deref()).digest(&mut read).await.map_err(JobError::retry)?;
        read.finish().await.map_err(into_job_error)?;
        let Approval { state, consumed_by_job, .. } = match found {
            Some(found) if found.digest == digest => found,
            Some(_) => {
                return Err(refused(format!("approval {id} is not for this export: ask for it again")));
            }
            None => {
                return Err(refused(format!("the tenant has no approval {id}: ask for the export again")));
            }
        };
        match state {
            State::Open => Ok(Consent::Undecided),
            State::Approved => Ok(Consent::Given),
            State::Consumed => Ok(Consent::UsedUp(consumed_by_job)),
            state @ (State::Denied | State::Withdrawn | State::Lapsed) => {
                Err(refused(format!("approval {id} is {state}: nothing is exported")))
            }
        }
    }

    /// Uses the approval up, and names the bundle in the chain. An attempt that finds it used up by an earlier one of this
    /// job, which offered nothing, names its own.
    async fn put_on_record(
        &self,
        attempt: &Attempt,
        environment: &Environment,
        db: &TenantDb,
        bundle: &Bundle,
    ) -> Result<(), JobError> {
        let job = attempt.job().0;
        let step = format!("offer {}", attempt.fence());
        let Begun::Fresh(mut effect) = environment.effect(db, &step).await.map_err(into_job_error)? else {
            return Ok(());
        };
        let digest =
            terms(db.tenant(), self.to.as_deref()).digest(&mut effect).await.map_err(JobError::retry)?;
        match approval::consume(&mut effect, self.approval()?, &digest, None, Some(job)).await {
            Ok(_) => {}
            Err(ConsumeError::Ended { state: State::Consumed, job: Some(by), .. }) if by == job => {}
            Err(ConsumeError::Approval(error)) => return Err(JobError::retry(error)),
            Err(error) => return Err(JobError::fail(error, FailureClass::Configuration)),
        }
        let audit = &bundle.manifest.audit;
        let body = json!({
            "approval": self.approval, "bundle": bundle.digest, "files": bundle.manifest.files.len(),
            "rows": bundle.manifest.rows(), "size": audit.size, "head": audit.head,
        });
        let event = Event { kind: "tenant.exported", actor: None, job: Some(job), body };
        audit::append(&mut effect, &event).await.map_err(JobError::retry)?;
        environment.commit(&step, effect).await.map_err(into_job_error)
    }
}

/// Writes the bundle, from a snapshot of each database.
async fn export(
    attempt: &Attempt,
    environment: &Environment,
    db: &TenantDb,
    partial: &Partial,
) -> Result<Bundle, JobError> {
    environment.boundary("export", When::Before).await.map_err(JobError::retry)?;
    let mut inside = db.read().await.map_err(into_job_error)?;
    let control = environment.queue().pool().begin_with(SNAPSHOT).await.map_err(JobError::retry)?;
    let watch = |table: &str, rows: u64| {
        attempt.progress(Progress { done: rows, total: None, message: format!("{table}: {rows} rows") });
        !attempt.should_stop()
    };
    let about = About { tenant: db.tenant(), program: env!("CARGO_PKG_VERSION") };
    let bundle = tenant_bundle::write(about, &mut inside, Some(control), partial, &watch).await;
    let bundle = bundle.map_err(failed)?;
    inside.finish().await.map_err(into_job_error)?;
    environment.boundary("export", When::After).await.map_err(JobError::retry)?;
    Ok(bundle)
}

/// A transaction that reads one snapshot of the control database.
const SNAPSHOT: &str = "begin transaction isolation level repeatable read, read only";

fn done(db: &TenantDb, bundle: &Bundle, place: &Place) -> Result<Done, JobError> {
    let file = place.file();
    let bytes = std::fs::metadata(&file).map_err(|error| of_io(&place.folder, error))?.len();
    let output = json!({
        "file": file, "sha256": bundle.digest, "bytes": bytes, "rows": bundle.manifest.rows(),
        "files": bundle.manifest.files.len(), "taken_at": bundle.manifest.taken_at,
        "keep_secs": place.own.as_ref().map(|exports| exports.keep().as_secs()),
    });
    let mut done = Done::new().output(output);
    if let Some(exports) = &place.own {
        let keep = TimeDelta::from_std(exports.keep())
            .map_err(|error| JobError::fail(error, FailureClass::Configuration))?;
        let sweep =
            export_sweep::job(db.tenant(), &place.name, &bundle.digest, keep, &bundle.manifest.taken_at);
        done = done.follow_up(sweep.map_err(|error| JobError::fail(error, FailureClass::Poison))?);
    }
    Ok(done)
}

/// What only a person changes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

fn refused(what: impl Into<String>) -> JobError {
    JobError::fail(Refused(what.into()), FailureClass::Configuration)
}

/// A folder that is not there, is closed or is full needs a person; anything else may pass.
fn of_io(folder: &Path, error: io::Error) -> JobError {
    failed(BundleError::Write { folder: folder.to_owned(), source: error })
}

fn failed(error: BundleError) -> JobError {
    match &error {
        BundleError::Stopped => JobError::hand_back(),
        BundleError::Database(cause) => match database::classify(cause) {
            Class::Transient => JobError::retry(error),
            Class::Fenced => JobError::fenced(),
            Class::Configuration => JobError::fail(error, FailureClass::Configuration),
            Class::Permanent => JobError::fail(error, FailureClass::Poison),
        },
        BundleError::Write { source, .. } => match source.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::StorageFull => JobError::fail(error, FailureClass::Configuration),
            _ => JobError::retry(error),
        },
        BundleError::Unclassified(_) | BundleError::SecretInside { .. } => {
            JobError::fail(error, FailureClass::Configuration)
        }
        BundleError::Malformed { .. } | BundleError::Manifest(_) => {
            JobError::fail(error, FailureClass::Poison)
        }
        BundleError::Audit(_) => JobError::retry(error),
    }
}

#[cfg(test)]
mod tests;
