//! Asking for a deletion, and calling it off.

use std::time::Duration;

use database::{
    control::{
        ControlError, Tenant, TenantId, TenantName, TenantState,
        deletion::{self, Deletion, DeletionError, DeletionId, DeletionState, NewDeletion},
        hold::{self, Hold},
    },
    tenant::{TenantDb, TenantError},
};
use governance::{
    actor::{self, ActorError, ActorId},
    approval::{self, ApprovalError, ApprovalId, Terms, WithdrawError},
    gate::{self, ActionClass, Gate, GateError},
};
use queue::{EnqueueError, Enqueued, Intervention, JobId, NewJob};
use serde_json::json;
use sqlx::PgConnection;

use super::{job, tables};

/// A deletion that was asked for, now or before.
#[derive(Debug)]
pub struct Requested {
    /// Its number.
    pub deletion: DeletionId,
    /// The platform's approval that it needs.
    pub approval: ApprovalId,
    /// The job that waits for it and carries the deletion out: a new one, where the one before is at rest.
    pub job: Enqueued,
    /// That job, as it was enqueued.
    pub new_job: NewJob,
    /// False for a deletion that lived already.
    pub is_new: bool,
}

/// Why nothing is asked for, or called off.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The tenant is held.
    #[error("the tenant {tenant} is under legal hold")]
    Held {
        /// The tenant.
        tenant: TenantName,
        /// Its holds.
        holds: Vec<Hold>,
    },
    /// There is nothing to call off.
    #[error("no deletion of the tenant can be called off")]
    Nothing,
    /// It has begun, and what has begun is finished.
    #[error("deletion {} has begun: there is no way back", .0.id)]
    TooLate(Box<Deletion>),
    /// The control database has tables of which nobody knows whether they know tenants.
    #[error("nobody has said what becomes of these tables of the control database: {}", .0.join(", "))]
    Unclassified(Vec<String>),
    /// The tenant is being deleted or gone.
    #[error("the catalogue of tenants refused")]
    Control(#[from] ControlError),
    /// The deletions cannot be used.
    #[error("the deletion cannot be entered or ended")]
    Deletion(#[from] DeletionError),
    /// Nobody can be asked.
    #[error("the approval cannot be asked for")]
    Approval(#[from] approval::RequestError),
    /// The approval cannot be taken back.
    #[error("the approval cannot be taken back")]
    Withdraw(#[from] WithdrawError),
    /// The approvals cannot be read.
    #[error("the approvals cannot be read")]
    Approvals(#[from] ApprovalError),
    /// The job cannot be enqueued.
    #[error("the job cannot be enqueued")]
    Enqueue(#[from] EnqueueError),
    /// The job has no payload.
    #[error("the job cannot be written")]
    Payload(#[from] serde_json::Error),
    /// The database refused or was lost.
    #[error("the deletion cannot be asked for")]
    Database(#[from] sqlx::Error),
}

/// What a yes is bound to: this deletion of this tenant, with this cooling-off.
pub(super) fn terms(tenant: &Tenant, deletion: DeletionId, cooling_off_secs: i64) -> Terms {
    let plan = json!({
        "change": "delete a tenant for good", "deletion": deletion, "tenant": tenant.id, "name": tenant.name,
        "region": tenant.region, "database": tenant.database_name, "cooling_off_secs": cooling_off_secs,
        "removes": ["database and role", "rows of the control database", "files", "key"],
        "remains": ["tombstone and certificate", "audit chain", "backups until they expire"],
    });
    let (name, target) = (tenant.name.to_string(), format!("tenant/{}", tenant.id));
    Terms {
        limits: json!({ "tenants": 1 }),
        ..Terms::new(ActionClass::tenant_delete(), name, vec![target], plan)
    }
}

/// Asks for the deletion: an approval of the platform, a row, and the job that waits. One that lives is found, and gets a job
/// if its own is at rest. Refused while the tenant is held, and while the control database has a table that nobody has
/// classified.
pub async fn request(
    intervention: &mut Intervention,
    tenant: TenantId,
    by: ActorId,
    cooling_off: Duration,
    traceparent: Option<String>,
) -> Result<Requested, RequestError> {
    let conn = intervention.connection();
    let tenant = hold::lock(conn, tenant).await?;
    if let Some(live) = living(conn, tenant.id).await? {
        let new_job = job(&tenant, live.id)?.traceparent(traceparent);
        let job = intervention.enqueue(std::slice::from_ref(&new_job)).await?[0];
        let approval = ApprovalId(live.approval);
        return Ok(Requested { deletion: live.id, approval, job, new_job, is_new: false });
    }
    if deletion::is_doomed(tenant.state) {
        return Err(ControlError::WrongState { name: tenant.name, state: tenant.state }.into());
    }
    let holds = hold::in_force(conn, tenant.id).await?;
    if !holds.is_empty() {
        return Err(RequestError::Held { tenant: tenant.name, holds });
    }
    let unknown = tables::unclassified(conn).await?;
    if !unknown.is_empty() {
        return Err(RequestError::Unclassified(unknown));
    }
    let deletion = deletion::reserve(conn).await?;
    let new_job = job(&tenant, deletion)?.traceparent(traceparent);
    // Before the approval, whose entry locks the chain.
    let job = intervention.enqueue(std::slice::from_ref(&new_job)).await?[0];
    let conn = intervention.connection();
    let approval = enter(conn, &tenant, deletion, by, cooling_off, Some(job.id)).await?;
    Ok(Requested { deletion, approval, job, new_job, is_new: true })
}

/// Asks for the approval and enters the deletion under its [reserved](deletion::reserve) number; [`request`] does it with
/// everything that belongs to it.
pub async fn enter(
    conn: &mut PgConnection,
    tenant: &Tenant,
    id: DeletionId,
    by: ActorId,
    cooling_off: Duration,
    job: Option<JobId>,
) -> Result<ApprovalId, RequestError> {
    let cooling_off_secs = i64::try_from(cooling_off.as_secs()).unwrap_or(i64::MAX);
    let terms = terms(tenant, id, cooling_off_secs);
    let asked = approval::request(conn, &terms, by, job.map(|job| job.0)).await?;
    let new =
        NewDeletion { id, tenant: tenant.id, approval: asked.id.0, requested_by: by.0, cooling_off_secs };
    deletion::enter(conn, &new).await?;
    Ok(asked.id)
}

async fn living(conn: &mut PgConnection, tenant: TenantId) -> Result<Option<Deletion>, DeletionError> {
    let newest = deletion::newest_of(conn, tenant).await?;
    Ok(newest.filter(|newest| newest.state.may_be_called_off() || newest.state == DeletionState::Begun))
}

/// Calls the tenant's deletion off, if it has not begun: its job is cancelled and its approval taken back. `name` is how
/// the job's record names who did.
pub async fn call_off(
    intervention: &mut Intervention,
    tenant: TenantId,
    by: ActorId,
    name: &str,
) -> Result<Deletion, RequestError> {
    let conn = intervention.connection();
    hold::lock(conn, tenant).await?;
    let live = living(conn, tenant).await?.ok_or(RequestError::Nothing)?;
    if !live.state.may_be_called_off() {
        return Err(RequestError::TooLate(Box::new(live)));
    }
    deletion::give_up(conn, live.id, DeletionState::CalledOff, Some(by.0), "called off").await?;
    let id = ApprovalId(live.approval);
    let asked = approval::get(conn, id).await?;
    if let Some(job) = asked.as_ref().and_then(|asked| asked.waiting_job) {
        intervention.cancel(JobId(job), name).await?;
    }
    // Last: its entry locks the chain. One that is used up or over has nothing to be taken back.
    if asked.is_some_and(|asked| asked.state.is_live()) {
        approval::withdraw(intervention.connection(), id, by).await?;
    }
    Ok(deletion::by_id(intervention.connection(), live.id).await?)
}

/// The tenant's own gate asks for more than the platform's, which is the one that a deletion passes.
#[derive(Debug, thiserror::Error)]
pub enum GateGap {
    /// In this respect.
    #[error("the tenant's own gate for tenant_delete {0}")]
    Wider(String),
    /// The gates cannot be read.
    #[error("the gates cannot be compared")]
    Gate(#[from] GateError),
    /// The names of the approvers cannot be read.
    #[error("the approvers of the gates cannot be compared")]
    Actor(#[from] ActorError),
    /// The tenant's database cannot be used.
    #[error("the tenant's own gate cannot be read")]
    Tenant(#[from] TenantError),
}

/// Refuses to go on where the tenant's own gate asks for more than the platform's: a deletion's approval is the platform's,
/// and what was promised to the tenant may not get lost on the way.
pub async fn gates(control: &mut PgConnection, db: &TenantDb) -> Result<(), GateGap> {
    let class = ActionClass::tenant_delete();
    let ours = gate::get(control, &class).await?;
    let mut read = db.read().await?;
    let theirs = gate::get(&mut read, &class).await?;
    let names = (approvers(control, &ours).await?, approvers(&mut read, &theirs).await?);
    read.finish().await?;
    if theirs.persons > ours.persons {
        let gap = format!("asks for {} persons, the platform's for {}", theirs.persons, ours.persons);
        return Err(GateGap::Wider(gap));
    }
    if theirs.window_secs < ours.window_secs {
        let gap = format!("has a window of {}s, the platform's of {}s", theirs.window_secs, ours.window_secs);
        return Err(GateGap::Wider(gap));
    }
    match names {
        (_, None) => Ok(()),
        (Some(ours), Some(theirs)) if ours.iter().all(|name| theirs.contains(name)) => Ok(()),
        (_, Some(theirs)) => {
            let gap = format!("lets {} say yes, the platform's others too", theirs.join(", "));
            Err(GateGap::Wider(gap))
        }
    }
}

/// The names of those who may say yes; none for everybody. Whoever was erased says nothing any more.
async fn approvers(conn: &mut PgConnection, gate: &Gate) -> Result<Option<Vec<String>>, ActorError> {
    let Some(ids) = &gate.approvers else { return Ok(None) };
    let mut names = Vec::with_capacity(ids.len());
    for id in ids {
        names.extend(actor::by_id(conn, *id).await?.and_then(|actor| actor.name));
    }
    Ok(Some(names))
}

/// Whether the tenant has a database whose gate can be asked.
pub(super) fn has_gate(tenant: &Tenant) -> bool {
    tenant.state == TenantState::Active
}
