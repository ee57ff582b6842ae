//! What a person, or a decision, asks for: a change is planned on what the target shows now.

use std::sync::Arc;

use connectors::{
    Capability, Change, Expected, LocalBudget, Observed, RequestBudget, SourceError, Standing, Target,
};
use database::tenant::{TenantDb, TenantError};
use governance::{
    actor::ActorId,
    canonical::CanonicalError,
    digest::Digest,
    reading::{self, Reading},
    writeback::{
        self as rows, Asked, Move, NewWriteback, Plan, Refusal, State, Values, Writeback, WritebackError,
        WritebackId,
    },
};
use serde_json::json;
use vault::Vault;

use super::run::target::replanned;
use crate::{
    connector_registry::{self, RegistryError},
    connector_sync::budget::TenantBudget,
    target_capability,
};

/// A change that is wanted.
#[derive(Clone, Debug)]
pub struct Wish {
    /// On which path.
    pub path: String,
    /// Of which record.
    pub key: String,
    /// The new values.
    pub set: Values,
    /// The action class.
    pub class: String,
    /// Whether the record is to be created.
    pub creates: bool,
    /// The version of the policy that decided, and the digest of its text; none where nothing did, and the version in
    /// force counts.
    pub policy: Option<(i32, Digest)>,
    /// How sure whoever decided is, 0 to 100.
    pub confidence: u8,
    /// The digest of what was decided on; none where a person simply says so.
    pub evidence: Option<Digest>,
    /// Who asks.
    pub requested_by: ActorId,
    /// The person who accepted this very change; none where policy alone asks.
    pub accepted_by: Option<ActorId>,
}

/// Why a change cannot be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The path does not let it pass.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The path has no policy, and a change without a rule behind it is none that can be accounted for.
    #[error("the path {0:?} has no policy: add one first")]
    NoPolicy(String),
    /// The stream has no target.
    #[error("the stream {stream} of {connector} has no `[streams.target]`")]
    NoTarget {
        /// The connector.
        connector: String,
        /// The stream.
        stream: String,
    },
    /// The target cannot be written.
    #[error("nothing can be written to the target: {0}")]
    Unwritable(String),
    /// There is no such record.
    #[error("the target has no record {0:?}")]
    NoRecord(String),
    /// There is one already.
    #[error("the target has a record {0:?} already")]
    Exists(String),
    /// The record holds the wanted values already.
    #[error("the record {0:?} holds these values already")]
    Nothing(String),
    /// The record is not as it was when somebody, or a policy, decided on it.
    #[error("the record {0:?} has changed since it was judged: it is decided anew after the next sync")]
    Changed(String),
    /// The writeback is in no state for this.
    #[error("writeback {id} is {state}: {what}")]
    State {
        /// Which.
        id: WritebackId,
        /// Where it is.
        state: State,
        /// What it would have to be.
        what: &'static str,
    },
    /// The value at the target is no longer the one that was written.
    #[error("the record {0:?} no longer holds what was written: somebody else's values stay")]
    NotOurs(String),
    /// The target could not be read.
    #[error("the target could not be read")]
    Source(#[from] SourceError),
    /// The connector could not be loaded.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The writebacks refused.
    #[error(transparent)]
    Writeback(#[from] WritebackError),
    /// What it was decided on has no canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The tenant's database failed.
    #[error("the tenant's database failed")]
    Tenant(#[from] TenantError),
}

/// Plans a change on what the target shows now, and asks for the approval that its gate wants. With `dry_run` nothing is
/// kept. The caller enqueues the job.
pub async fn plan(
    db: &TenantDb,
    vault: &Vault,
    wish: &Wish,
    dry_run: bool,
) -> Result<(Writeback, Asked), PlanError> {
    let new = prepare(db, vault, wish, None).await?;
    enter(db, &new, dry_run).await
}

/// The plan, on what the target shows now. `judged` is what the fields held when it was decided; a record that holds
/// something else is [`PlanError::Changed`].
pub(crate) async fn prepare(
    db: &TenantDb,
    vault: &Vault,
    wish: &Wish,
    judged: Option<&Values>,
) -> Result<NewWriteback, PlanError> {
    let rule = rule(db, &wish.path).await?;
    let in_force = rule.policy.ok_or_else(|| PlanError::NoPolicy(wish.path.clone()))?;
    let mut plan = Plan {
        tenant: db.tenant().id.0,
        path: wish.path.clone(),
        connector: rule.connector.clone(),
        stream: rule.stream.clone(),
        key: wish.key.clone(),
        class: wish.class.clone(),
        before: None,
        definition: None,
        validator: None,
        desired: wish.set.clone(),
        // Where it is not the one in force, the path refuses.
        policy: wish.policy.unwrap_or(in_force),
        compensates: None,
    };
    rule.admits(&plan, wish.accepted_by, wish.confidence)?;
    let (target, definition, observed) = look(db, vault, &plan, wish.creates).await?;
    if let Some(judged) = judged {
        compare(&target, &plan, judged, observed.as_ref())?;
    }
    plan = replanned(&plan, definition, observed.as_ref());
    if plan.before.as_ref() == Some(&plan.desired) {
        return Err(PlanError::Nothing(wish.key.clone()));
    }
    let evidence = match wish.evidence {
        Some(evidence) => evidence,
        None => Digest::of_canonical(&json!({
            "connector": plan.connector, "stream": plan.stream, "key": plan.key,
            "rest": observed.as_ref().map(|seen| &seen.rest), "plan": plan.digest()?,
        }))?,
    };
    Ok(NewWriteback {
        plan,
        confidence: wish.confidence,
        evidence,
        requested_by: wish.requested_by,
        accepted_by: wish.accepted_by,
    })
}

/// Refuses a record that does not hold what was judged, by the target's own notion of what is the same.
fn compare(
    target: &Target,
    plan: &Plan,
    judged: &Values,
    observed: Option<&Observed>,
) -> Result<(), PlanError> {
    let change = Change {
        key: plan.key.clone(),
        expected: Expected::Present { before: judged.clone(), validator: None },
        desired: plan.desired.clone(),
        idempotency_key: String::new(),
    };
    match target.compare(&change, observed) {
        Standing::Before => Ok(()),
        Standing::Desired => Err(PlanError::Nothing(plan.key.clone())),
        Standing::Gone => Err(PlanError::NoRecord(plan.key.clone())),
        Standing::Other(_) => Err(PlanError::Changed(plan.key.clone())),
    }
}

/// Plans the undoing of a verified change: only while the record still holds what was written (W7).
pub async fn compensate(
    db: &TenantDb,
    vault: &Vault,
    id: WritebackId,
    by: ActorId,
    dry_run: bool,
) -> Result<(Writeback, Asked), PlanError> {
    let original = find(db, id).await?;
    let (State::Verified, Some(before)) = (original.state, original.plan.before.clone()) else {
        let what = "only a verified change of an existing record can be undone";
        return Err(PlanError::State { id, state: original.state, what });
    };
    if original.sent_nothing {
        let what = "somebody else had written these values before, so there is nothing of ours to undo";
        return Err(PlanError::State { id, state: original.state, what });
    }
    let undo = Plan { desired: before, compensates: Some(id), ..original.plan.clone() };
    let (_, definition, observed) = look(db, vault, &undo, false).await?;
    let plan = replanned(&undo, definition, observed.as_ref());
    // What the read-back saw is our post-image, to the byte.
    let ours = original.observed.as_ref().is_some_and(|seen| {
        plan.before.as_ref().is_some_and(|now| now.iter().all(|(name, value)| seen.get(name) == Some(value)))
    });
    if !ours {
        return Err(PlanError::NotOurs(original.plan.key));
    }
    let new = NewWriteback {
        plan,
        confidence: original.confidence,
        evidence: original.digest,
        requested_by: by,
        accepted_by: Some(by),
    };
    enter(db, &new, dry_run).await
}

/// Takes a mismatch or a conflict for what it is.
pub async fn accept(db: &TenantDb, id: WritebackId, by: ActorId, why: &str) -> Result<Writeback, PlanError> {
    let seen = find(db, id).await?;
    if !matches!(seen.state, State::Mismatch | State::Conflict) {
        let what = "only a mismatch or a conflict is accepted";
        return Err(PlanError::State { id, state: seen.state, what });
    }
    let mut write = db.write().await?;
    let step = Move::by_person(by, State::Accepted, "accepted").detail(why);
    let accepted = rows::advance(&mut write, &seen, &step).await?;
    write.commit().await?;
    Ok(accepted)
}

async fn enter(db: &TenantDb, new: &NewWriteback, dry_run: bool) -> Result<(Writeback, Asked), PlanError> {
    let mut write = db.write().await?;
    let entered = rows::enter(&mut write, new).await?;
    let asked = rows::ask(&mut write, &entered, None).await?;
    let entered = rows::find(&mut write, entered.id).await?;
    if dry_run {
        drop(write);
        tried(db, new).await?;
    } else {
        write.commit().await?;
    }
    Ok((entered, asked))
}

/// Whoever only tries is shown the record's values all the same.
async fn tried(db: &TenantDb, new: &NewWriteback) -> Result<(), PlanError> {
    let mut write = db.write().await?;
    let reading = match new.plan.compensates {
        Some(original) => Reading::Writeback(original),
        None => Reading::Trial { path: &new.plan.path, plan: new.plan.digest()? },
    };
    reading::record(&mut write, &reading, new.requested_by).await.map_err(WritebackError::from)?;
    Ok(write.commit().await?)
}

async fn find(db: &TenantDb, id: WritebackId) -> Result<Writeback, PlanError> {
    let mut read = db.read().await?;
    let found = rows::find(&mut read, id).await?;
    read.finish().await?;
    Ok(found)
}

async fn rule(db: &TenantDb, path: &str) -> Result<rows::Rule, PlanError> {
    let mut read = db.read().await?;
    let rule = rows::rule(&mut read, path).await?;
    read.finish().await?;
    rule.ok_or_else(|| Refusal::NoPath(path.to_owned()).into())
}

/// The record as the target shows it, and by which definition. A target that was never tried as it is defined now is
/// tried first.
async fn look(
    db: &TenantDb,
    vault: &Vault,
    plan: &Plan,
    creates: bool,
) -> Result<(Target, Digest, Option<Observed>), PlanError> {
    let definition = connector_registry::open(db, vault, &plan.connector).await?;
    let none = || PlanError::NoTarget { connector: plan.connector.clone(), stream: plan.stream.clone() };
    let stream = definition.stream(&plan.stream).ok_or_else(none)?;
    let budget: Arc<dyn RequestBudget> = match db.scope().claim() {
        Some(_) => Arc::new(TenantBudget::new(db.clone(), &plan.connector)),
        None => Arc::new(LocalBudget::default()),
    };
    let target = Target::connect(&definition, stream, budget).await?.ok_or_else(none)?;
    let observed = target.read(&plan.key).await?;
    match (&observed, creates) {
        (None, false) => return Err(PlanError::NoRecord(plan.key.clone())),
        (Some(_), true) => return Err(PlanError::Exists(plan.key.clone())),
        _ => {}
    }
    let kept = target_capability::load(db, &definition, &plan.stream).await?;
    // What could not be tried then may be tried now.
    if kept.is_none_or(|kept| kept.probed.capability == Capability::Blind) {
        let sample = match &observed {
            Some(_) => Some(plan.key.clone()),
            None => target_capability::sample(db, &plan.connector, &plan.stream).await?,
        };
        let probed = target.probe(sample.as_deref()).await;
        if probed.capability == Capability::Blind {
            let why = probed.obstacle.unwrap_or_else(|| "it cannot be read".to_owned());
            return Err(PlanError::Unwritable(why));
        }
        target_capability::store(db, &definition, &plan.stream, &probed).await?;
    }
    Ok((target, target_capability::digest(&definition), observed))
}
