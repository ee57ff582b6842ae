//! What each step does. A step that stands on record is not done again; one that does not may have been done all the same,
//! and is harmless to repeat.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use database::{
    control::{
        self, ControlError, Tenant,
        deletion::{self, Deletion, DeletionError, DeletionId, DeletionState, StepRecord},
        hold::Hold,
    },
    tenant::TenantError,
    tombstone::TombstoneError,
};
use governance::{
    actor::ActorId,
    approval::{self, ApprovalId, ConsumeError},
    audit::{self, Event},
    canonical::CanonicalError,
    digest::Digest,
};
use queue::{Attempt, CapOn, FailureClass, Intervention, JobError, Limit, LimitError};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::{Connection, PgPool};
use vault::{KeyReference, Vendor};

use super::{
    Deletions, NotSet, Step,
    certificate::{self, Certificate, ChainEnd, Remains, Removed},
    chain, files, of_audit, of_database, of_deletion, of_provision, paper,
    request::{self, GateGap},
    tables,
};
use crate::{
    Environment,
    audit_checkpoint::{Checkpoints, of_approval},
    environment::into_job_error,
    key_rotation::of_service,
};

/// How long the job waits before it looks for a yes again.
const APPROVAL_PAUSE: Duration = Duration::from_secs(15);

/// How long it waits for jobs of the tenant that still run: they are told within a heartbeat.
const QUIET_PAUSE: Duration = Duration::from_secs(1);

/// An attempt at a deletion.
pub(super) struct Saga<'a> {
    attempt: &'a Attempt,
    environment: &'a Environment,
    checkpoints: &'a Checkpoints,
    deletions: &'a Deletions,
    id: DeletionId,
    tenant: Tenant,
}

impl<'a> Saga<'a> {
    /// Of a deletion that nobody has called off, by a process that has what it takes.
    pub(super) async fn of(
        attempt: &'a Attempt,
        environment: &'a Environment,
        id: DeletionId,
    ) -> Result<Self, JobError> {
        let set = |missing| JobError::fail(missing, FailureClass::Configuration);
        let checkpoints = environment.checkpoints().ok_or_else(|| set(NotSet::Key))?;
        let deletions = environment.deletions().ok_or_else(|| set(NotSet::Tombstones))?;
        // Before anything goes: what is left of the tenant must have a place.
        let place = deletions.tombstones().check().await;
        place.map_err(|error| JobError::fail(error, FailureClass::Configuration))?;
        let mut conn = environment.queue().pool().acquire().await.map_err(of_database)?;
        let found = deletion::by_id(&mut conn, id).await.map_err(of_deletion)?;
        must_live(&found)?;
        let tenant =
            control::by_id(&mut conn, found.tenant).await.map_err(|error| of_deletion(error.into()))?;
        let tenant = tenant.ok_or_else(|| of_deletion(ControlError::NoSuchTenant(found.tenant).into()))?;
        if tenant.region != *environment.region() {
            let (theirs, ours) = (tenant.region, environment.region().clone());
            let error = TenantError::OtherRegion { tenant: tenant.name, theirs, ours };
            return Err(into_job_error(error));
        }
        Ok(Self { attempt, environment, checkpoints, deletions, id, tenant })
    }

    fn pool(&self) -> &PgPool {
        self.environment.queue().pool()
    }

    /// Does the step, unless an earlier attempt has put it on record.
    pub(super) async fn take(&self, step: Step) -> Result<(), JobError> {
        if self.found(step).await?.is_none()
            && let Err(error) = self.act(step).await
            // Another attempt may have done it meanwhile, and have left nothing for this one to find.
            && self.found(step).await?.is_none()
        {
            return Err(error);
        }
        // What is outside of the database follows what is committed, so an attempt that was killed between the two is made
        // good by the next.
        match step {
            Step::Files => self.sweep_files().await,
            Step::Tombstone => self.put_tombstone().await,
            Step::Certificate => self.put_certificate().await,
            _ => Ok(()),
        }
    }

    async fn act(&self, step: Step) -> Result<(), JobError> {
        let provisioner = self.environment.provisioner();
        match step {
            Step::Approve => self.approve().await,
            Step::Freeze => self.freeze().await,
            Step::Quiesce => self.quiesce().await,
            Step::Close => {
                let closed = provisioner.close(self.tenant.id).await.map_err(of_provision)?;
                self.record(step, json!({ "sessions": closed.sessions })).await
            }
            Step::Chain => self.take_out_chain().await,
            Step::Database => {
                provisioner.drop(self.tenant.id).await.map_err(of_provision)?;
                self.record(step, json!({ "database": self.tenant.database_name })).await
            }
            Step::Rows => self.remove_rows().await,
            Step::Files => self.count_files().await,
            Step::Key => self.destroy_keys().await,
            Step::Tombstone => self.bury().await,
            Step::Probe => self.probe().await,
            Step::Certificate => self.certify().await,
        }
    }

    async fn steps(&self) -> Result<Vec<StepRecord>, JobError> {
        let mut conn = self.pool().acquire().await.map_err(of_database)?;
        deletion::steps(&mut conn, self.id).await.map_err(of_database)
    }

    async fn found(&self, step: Step) -> Result<Option<Value>, JobError> {
        let steps = self.steps().await?;
        Ok(steps.into_iter().find(|record| record.step == step.name()).map(|record| record.evidence))
    }

    async fn record(&self, step: Step, evidence: Value) -> Result<(), JobError> {
        let mut conn = self.pool().acquire().await.map_err(of_database)?;
        deletion::record(&mut conn, self.id, step.name(), &evidence).await.map_err(of_database)
    }

    fn event(&self, kind: &'static str, actor: Option<ActorId>, body: Value) -> Event {
        Event { kind, actor, job: Some(self.attempt.job().0), body }
    }

    /// Uses the approval up, which starts the cooling-off; without one that stands, waits or gives up.
    async fn approve(&self) -> Result<(), JobError> {
        self.compare_gates().await?;
        let mut tx = self.pool().begin().await.map_err(of_database)?;
        let found = deletion::lock(&mut tx, self.id).await.map_err(of_deletion)?;
        must_live(&found)?;
        if found.state != DeletionState::Requested {
            // Another attempt was faster: it has used the approval up, and its record is committed with that.
            return Ok(());
        }
        let terms = request::terms(&self.tenant, self.id, found.cooling_off_secs);
        let digest = terms.digest(&mut tx).await;
        let digest = digest.map_err(|error| JobError::fail(error, FailureClass::Poison))?;
        let (approval, by) = (ApprovalId(found.approval), ActorId(found.requested_by));
        let job = Some(self.attempt.job().0);
        match approval::consume(&mut tx, approval, &digest, Some(by), job).await {
            Ok(consumed) => {
                let until = deletion::cool_off(&mut tx, self.id).await.map_err(of_deletion)?;
                let evidence = json!({
                    "approval": consumed.id, "persons": consumed.persons, "alone": consumed.alone,
                    "cooled_at": certificate::time(until),
                });
                deletion::record(&mut tx, self.id, Step::Approve.name(), &evidence)
                    .await
                    .map_err(of_database)?;
                tx.commit().await.map_err(of_database)
            }
            Err(undecided @ ConsumeError::Undecided { .. }) => {
                Err(JobError::await_approval(APPROVAL_PAUSE, undecided.to_string()))
            }
            Err(ConsumeError::Approval(error)) => Err(of_approval(error)),
            Err(refusal) => {
                // A lapse is on record by this commit too.
                let refused = DeletionState::Refused;
                deletion::give_up(&mut tx, self.id, refused, None, &refusal.to_string())
                    .await
                    .map_err(of_deletion)?;
                tx.commit().await.map_err(of_database)?;
                Err(JobError::cancel(refusal.to_string()))
            }
        }
    }

    async fn compare_gates(&self) -> Result<(), JobError> {
        if !request::has_gate(&self.tenant) {
            return Ok(());
        }
        let db = match self.environment.as_request(self.tenant.id).await {
            Ok(db) => db,
            // Deleted before, and restored: its gate was passed then, and its database may not be opened.
            Err(TenantError::Tombstone(TombstoneError::Buried { .. })) => return Ok(()),
            Err(error) => return Err(into_job_error(error)),
        };
        let mut conn = self.pool().acquire().await.map_err(of_database)?;
        match request::gates(&mut conn, &db).await {
            Ok(()) => Ok(()),
            Err(GateGap::Tenant(error)) => Err(into_job_error(error)),
            Err(gap @ GateGap::Wider(_)) => Err(JobError::fail(gap, FailureClass::Configuration)),
            Err(error) => Err(JobError::retry(error)),
        }
    }

    /// Takes the tenant out of service for good, with all of its jobs; waits for the end of the cooling-off first.
    async fn freeze(&self) -> Result<(), JobError> {
        let mut intervention = self.environment.queue().intervene().await.map_err(of_database)?;
        match deletion::begin(intervention.connection(), self.id).await {
            Ok(()) => {}
            Err(DeletionError::CoolingOff { until, left, .. }) => {
                let note = format!("it can be called off until {}", until.format("%Y-%m-%d %H:%M UTC"));
                return Err(JobError::snooze(left, note));
            }
            Err(DeletionError::Held(holds)) => return self.refuse(intervention, &holds).await,
            Err(DeletionError::WrongState { state, .. }) => {
                return Err(JobError::cancel(format!("the deletion is {}", state.as_str())));
            }
            Err(error) => return Err(of_deletion(error)),
        }
        let by = format!("deletion {}", self.id);
        let waiting = intervention.freeze(self.tenant.id.0, &by, "the tenant is being deleted").await;
        let waiting = waiting.map_err(of_database)?;
        let conn = intervention.connection();
        let evidence = json!({ "jobs_held_back": waiting });
        deletion::record(conn, self.id, Step::Freeze.name(), &evidence).await.map_err(of_database)?;
        let body = json!({ "tenant": self.tenant.id, "deletion": self.id, "jobs": waiting });
        audit::append(conn, &self.event("tenant.deletion_begun", None, body)).await.map_err(of_audit)?;
        intervention.commit().await.map_err(of_database)
    }

    /// A hold that was placed meanwhile ends the deletion: its release, perhaps in years, may not let it go on by itself.
    async fn refuse(&self, mut intervention: Intervention, holds: &[Hold]) -> Result<(), JobError> {
        let ids: Vec<_> = holds.iter().map(|hold| hold.id.to_string()).collect();
        let note = format!("the tenant is under legal hold {}", ids.join(", "));
        let conn = intervention.connection();
        let refused = DeletionState::Refused;
        deletion::give_up(conn, self.id, refused, None, &note).await.map_err(of_deletion)?;
        let body = json!({ "tenant": self.tenant.id, "deletion": self.id, "holds": ids });
        audit::append(conn, &self.event("tenant.deletion_refused", None, body)).await.map_err(of_audit)?;
        intervention.commit().await.map_err(of_database)?;
        Err(JobError::cancel(note))
    }

    /// Tells the tenant's running jobs to stop, and goes on once none runs.
    async fn quiesce(&self) -> Result<(), JobError> {
        let queue = self.environment.queue();
        let running = sqlx::query_scalar!(
            "-- tenant_delete.running
            select id from queue.job where tenant = $1 and state = 1 order by id limit 1000",
            self.tenant.id.0,
        )
        .fetch_all(self.pool())
        .await
        .map_err(of_database)?;
        if running.is_empty() {
            return self.record(Step::Quiesce, json!({})).await;
        }
        for id in &running {
            let by = format!("deletion {}", self.id);
            queue.cancel(queue::JobId(*id), &by).await.map_err(of_database)?;
        }
        Err(JobError::snooze(QUIET_PAUSE, format!("{} jobs of the tenant still run", running.len())))
    }

    async fn take_out_chain(&self) -> Result<(), JobError> {
        let inside = self.environment.provisioner().inside_doomed(self.tenant.id).await;
        let Some(mut conn) = inside.map_err(of_provision)? else {
            return self.record(Step::Chain, json!({ "bytes": null, "chain": null, "keys": [] })).await;
        };
        let bytes = sqlx::query_scalar!(
            r#"-- tenant_delete.size
            select pg_database_size(current_database()) as "bytes!""#
        )
        .fetch_one(&mut conn)
        .await
        .map_err(of_database)?;
        let folder = self.folder();
        let job = self.attempt.job().0;
        let end = chain::take_out(&mut conn, (self.id, job), self.checkpoints, &folder).await?;
        // They are named in this database alone, which is dropped before they are destroyed.
        let keys = vault::references(&mut conn).await.map_err(of_database)?;
        conn.close().await.map_err(of_database)?;
        self.record(Step::Chain, json!({ "bytes": bytes, "chain": end, "keys": keys })).await
    }

    /// Destroys the tenant's keys that are ours to destroy; the customer's own are told.
    async fn destroy_keys(&self) -> Result<(), JobError> {
        let keys: Vec<KeyReference> = self.evidence(Step::Chain, "keys").await?;
        let (ours, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.vendor == Vendor::Local);
        for key in &ours {
            self.environment.vault().destroy(key).await.map_err(of_service)?;
        }
        let others: Vec<_> = others.iter().map(ToString::to_string).collect();
        self.record(Step::Key, json!({ "keys": ours.len(), "others": others })).await
    }

    fn folder(&self) -> PathBuf {
        self.deletions.tombstones().folder_of(self.tenant.id)
    }

    /// All of the tenant's rows in one transaction, together with the record of how many there were.
    async fn remove_rows(&self) -> Result<(), JobError> {
        self.clear_limits().await?;
        let mut tx = self.pool().begin().await.map_err(of_database)?;
        let unknown = tables::unclassified(&mut tx).await.map_err(of_database)?;
        if !unknown.is_empty() {
            let error = request::RequestError::Unclassified(unknown);
            return Err(JobError::fail(error, FailureClass::Configuration));
        }
        let rows = tables::remove(&mut tx, self.tenant.id).await.map_err(of_database)?;
        deletion::record(&mut tx, self.id, Step::Rows.name(), &json!({ "rows": rows }))
            .await
            .map_err(of_database)?;
        tx.commit().await.map_err(of_database)
    }

    /// The tenant's own limits, by the engine's verb: a queue without any is claimed plainly again.
    async fn clear_limits(&self) -> Result<(), JobError> {
        let queue = self.environment.queue();
        let tenant = self.tenant.id.0;
        for limit in queue.limits().await.map_err(of_database)? {
            let is_its_own = match &limit {
                Limit::Cap { on, .. } => *on == CapOn::Tenant(tenant),
                Limit::Weight { tenant: whose, .. } => *whose == tenant,
                Limit::Rate { .. } | Limit::Fair { .. } => false,
            };
            if is_its_own {
                queue.clear_limit(&limit.name()).await.map_err(|error| match error {
                    LimitError::Database(error) => of_database(error),
                    error => JobError::fail(error, FailureClass::Poison),
                })?;
            }
        }
        Ok(())
    }

    /// Counts the files before the first one goes: who is killed among them has no second chance to.
    async fn count_files(&self) -> Result<(), JobError> {
        let tenant = self.tenant.id;
        let counted =
            self.on_files(move |folders| files::measure(&files::of_tenant(folders, tenant)?)).await?;
        self.record(Step::Files, json!({ "swept": counted })).await
    }

    async fn sweep_files(&self) -> Result<(), JobError> {
        let tenant = self.tenant.id;
        self.on_files(move |folders| files::sweep(folders, tenant)).await.map(drop)
    }

    /// Works on the data folders of this machine; none if there is none.
    async fn on_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&[PathBuf]) -> io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, JobError> {
        let folders = self.deletions.folders().to_vec();
        if folders.is_empty() {
            return Ok(None);
        }
        let worked = tokio::task::spawn_blocking(move || work(&folders)).await.map_err(JobError::retry)?;
        worked.map(Some).map_err(JobError::retry)
    }

    async fn bury(&self) -> Result<(), JobError> {
        let end: Option<ChainEnd> = self.evidence(Step::Chain, "chain").await?;
        let mut tx = self.pool().begin().await.map_err(of_database)?;
        let found = deletion::lock(&mut tx, self.id).await.map_err(of_deletion)?;
        let chain = end.map(|end| json!({ "origin": end.origin, "size": end.size, "head": end.head }));
        let text = json!({
            "tenant": self.tenant.id, "name": self.tenant.name, "deletion": self.id,
            "at": certificate::time(found.now), "chain": chain,
        });
        let note = paper::sign(self.checkpoints.key(), paper::TOMBSTONE, &text).map_err(unwritable)?;
        deletion::bury(&mut tx, self.tenant.id, self.id, &note).await.map_err(of_database)?;
        let evidence = json!({ "note": Digest::of(note.as_bytes()) });
        deletion::record(&mut tx, self.id, Step::Tombstone.name(), &evidence).await.map_err(of_database)?;
        tx.commit().await.map_err(of_database)
    }

    /// Looks for everything once more. What has come in since it was removed is removed again; what then is still there
    /// keeps the certificate from being written (E5, E7).
    async fn probe(&self) -> Result<(), JobError> {
        let mut found = self.look_around().await?;
        if !found.is_empty() {
            tracing::warn!(deletion = %self.id, found = ?found, "what came in since it was removed is removed again");
            self.remove_again().await?;
            found = self.look_around().await?;
        }
        if !found.is_empty() {
            return Err(JobError::retry(Remaining(found)));
        }
        let mut looked = vec![
            "the database, the role and sessions in it".to_owned(),
            "its rows in the control database, table by table".to_owned(),
        ];
        if !self.deletions.folders().is_empty() {
            looked.push("files in the data folders of this machine".to_owned());
        }
        self.record(Step::Probe, json!({ "looked": looked })).await
    }

    async fn look_around(&self) -> Result<Vec<String>, JobError> {
        let tenant = self.tenant.id;
        let mut found = self.environment.provisioner().remains(tenant).await.map_err(of_provision)?;
        let mut conn = self.pool().acquire().await.map_err(of_database)?;
        found.extend(tables::unclassified(&mut conn).await.map_err(of_database)?);
        found.extend(tables::remains(&mut conn, tenant).await.map_err(of_database)?);
        let files =
            self.on_files(move |folders| files::of_tenant(folders, tenant)).await?.unwrap_or_default();
        found.extend(files.iter().map(|file| file.display().to_string()));
        Ok(found)
    }

    async fn remove_again(&self) -> Result<(), JobError> {
        let tenant = self.tenant.id;
        self.environment.provisioner().drop(tenant).await.map_err(of_provision)?;
        let mut tx = self.pool().begin().await.map_err(of_database)?;
        tables::remove(&mut tx, tenant).await.map_err(of_database)?;
        tx.commit().await.map_err(of_database)?;
        self.sweep_files().await
    }

    /// Writes down what the steps have left, signs it, and ends the tenant, all in one transaction.
    async fn certify(&self) -> Result<(), JobError> {
        let mut tx = self.pool().begin().await.map_err(of_database)?;
        let found = deletion::lock(&mut tx, self.id).await.map_err(of_deletion)?;
        let certificate =
            self.certificate(&found, &deletion::steps(&mut tx, self.id).await.map_err(of_database)?)?;
        let note = certificate.sign(self.checkpoints.key()).map_err(unwritable)?;
        deletion::certify(&mut tx, self.tenant.id, &note).await.map_err(of_database)?;
        deletion::finish(&mut tx, self.id).await.map_err(of_deletion)?;
        let digest = Digest::of(note.as_bytes());
        let evidence = json!({ "certificate": digest });
        deletion::record(&mut tx, self.id, Step::Certificate.name(), &evidence).await.map_err(of_database)?;
        let chain = certificate.chain.as_ref().map(|end| {
            let checkpoint = end.checkpoint.as_ref().map(|note| Digest::of(note.as_bytes()));
            json!({ "size": end.size, "head": end.head, "checkpoint": checkpoint })
        });
        let body = json!({
            "tenant": self.tenant.id, "deletion": self.id, "certificate": digest, "chain": chain,
        });
        audit::append(&mut tx, &self.event("tenant.deleted", None, body)).await.map_err(of_audit)?;
        tx.commit().await.map_err(of_database)
    }

    fn certificate(&self, found: &Deletion, steps: &[StepRecord]) -> Result<Certificate, JobError> {
        let of = |step: Step, member: &str| -> Value {
            let record = steps.iter().find(|record| record.step == step.name());
            record.map_or(Value::Null, |record| record.evidence[member].clone())
        };
        let ended: DateTime<Utc> = found.now;
        Ok(Certificate {
            tenant: self.tenant.id,
            name: self.tenant.name.to_string(),
            region: self.tenant.region.to_string(),
            deletion: self.id,
            requested_by: ActorId(found.requested_by),
            requested_at: certificate::time(found.requested_at),
            approval: found.approval.to_string(),
            approved_by: read(of(Step::Approve, "persons"))?,
            begun_at: found.begun_at.map(certificate::time).unwrap_or_default(),
            ended_at: certificate::time(ended),
            removed: Removed {
                database: self.tenant.database_name.clone(),
                database_bytes: read(of(Step::Chain, "bytes"))?,
                sessions: read(of(Step::Close, "sessions"))?,
                rows: read::<BTreeMap<String, i64>>(of(Step::Rows, "rows"))?,
                files: read(of(Step::Files, "swept"))?,
                keys: read(of(Step::Key, "keys"))?,
            },
            probed: read(of(Step::Probe, "looked"))?,
            chain: read(of(Step::Chain, "chain"))?,
            remains: Remains::of(self.deletions.backup_days(), ended, read(of(Step::Key, "others"))?),
        })
    }

    async fn evidence<T: DeserializeOwned>(&self, step: Step, member: &str) -> Result<T, JobError> {
        read(self.found(step).await?.map_or(Value::Null, |evidence| evidence[member].clone()))
    }

    async fn put_tombstone(&self) -> Result<(), JobError> {
        let note = self.tombstone().await?.note;
        self.put(database::tombstone::FILE.to_owned(), note).await
    }

    async fn put_certificate(&self) -> Result<(), JobError> {
        let note = self.tombstone().await?.certificate.ok_or_else(|| unreadable("certificate"))?;
        let certificate = certificate::verify(&note, &self.checkpoints.key().public())
            .map_err(|error| JobError::fail(error, FailureClass::Poison))?;
        // After a restore a tenant is deleted once more: each deletion has papers of its own.
        let name: String =
            certificate.ended_at.chars().filter(|c| c.is_ascii_digit() || *c == 'T').take(15).collect();
        self.put(format!("certificate-{name}Z.txt"), certificate.words().join("\n") + "\n").await?;
        self.put(format!("certificate-{name}Z.note"), note).await
    }

    async fn tombstone(&self) -> Result<deletion::Tombstone, JobError> {
        let mut conn = self.pool().acquire().await.map_err(of_database)?;
        let found = deletion::tombstone(&mut conn, self.tenant.id).await.map_err(of_database)?;
        found.ok_or_else(|| unreadable("tombstone"))
    }

    async fn put(&self, name: String, text: String) -> Result<(), JobError> {
        paper::put_text(self.folder(), name, text).await.map_err(JobError::retry).map(drop)
    }
}

/// Ends the job of a deletion that came to nothing.
fn must_live(found: &Deletion) -> Result<(), JobError> {
    match found.state {
        DeletionState::CalledOff | DeletionState::Refused => {
            let why = found.note.as_deref().unwrap_or(found.state.as_str());
            Err(JobError::cancel(format!("deletion {} came to nothing: {why}", found.id)))
        }
        _ => Ok(()),
    }
}

/// Something of the tenant was found that should be gone.
#[derive(Debug, thiserror::Error)]
#[error("still there: {}", .0.join(", "))]
struct Remaining(Vec<String>);

#[derive(Debug, thiserror::Error)]
#[error("the record of a step lacks what the certificate is made of: {0}")]
struct Unreadable(&'static str);

fn unreadable(what: &'static str) -> JobError {
    JobError::fail(Unreadable(what), FailureClass::Poison)
}

fn unwritable(error: CanonicalError) -> JobError {
    JobError::fail(error, FailureClass::Poison)
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, JobError> {
    serde_json::from_value(value).map_err(|error| JobError::fail(error, FailureClass::Poison))
}
