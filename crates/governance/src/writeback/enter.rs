//! A new writeback, in state planned.

use serde_json::json;
use sqlx::{PgConnection, types::Json};

use super::{Plan, State, Writeback, WritebackError, WritebackId, find, is_refused_by};
use crate::{
    actor::ActorId,
    audit::{self, Event},
    digest::Digest,
    gate,
};

/// A change that somebody, or a policy, wants made.
#[derive(Clone, Debug)]
pub struct NewWriteback {
    /// What exactly.
    pub plan: Plan,
    /// How sure the decision is, 0 to 100.
    pub confidence: u8,
    /// What it was decided on: the digest of the case's input.
    pub evidence: Digest,
    /// Who asks for it.
    pub requested_by: ActorId,
    /// The person who accepted this very change; none where policy alone asks.
    pub accepted_by: Option<ActorId>,
}

/// Enters a change. Refused while another change of the record has not ended.
pub async fn enter(conn: &mut PgConnection, new: &NewWriteback) -> Result<Writeback, WritebackError> {
    // Whoever asks for the approval in the same transaction needs the gates, and they come before the chain.
    gate::hold_all(conn).await?;
    let plan = &new.plan;
    let bytes = plan.to_bytes()?;
    let digest = Digest::of(&bytes);
    let inserted = sqlx::query_scalar!(
        "-- writeback.enter
        insert into tenant.writeback (path, connector, stream, key, class, plan, digest, before, validator, desired,
            policy_version, policy_digest, confidence, evidence, requested_by, accepted_by, compensates, definition)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
        returning id",
        plan.path,
        plan.connector,
        plan.stream,
        plan.key as _,
        plan.class,
        bytes,
        digest.as_bytes(),
        plan.before.as_ref().map(Json) as _,
        plan.validator,
        Json(&plan.desired) as _,
        plan.policy.0,
        plan.policy.1.as_bytes(),
        i16::from(new.confidence),
        new.evidence.as_bytes(),
        new.requested_by as ActorId,
        new.accepted_by as Option<ActorId>,
        plan.compensates.map(|id| id.0),
        plan.definition.map(Digest::to_vec),
    )
    .fetch_one(&mut *conn)
    .await;
    let id = WritebackId(inserted.map_err(|error| refusal(error, plan))?);
    sqlx::query!(
        "-- writeback.first_step
        insert into tenant.writeback_step (writeback, number, to_state, actor) values ($1, 0, 'planned', $2)",
        id.0,
        new.requested_by as ActorId,
    )
    .execute(&mut *conn)
    .await?;
    let entered = find(conn, id).await?;
    let body = json!({
        "writeback": id, "plan": digest, "policy": plan.policy.0, "class": plan.class,
        "accepted_by": new.accepted_by, "compensates": plan.compensates,
    });
    let event = Event { kind: State::Planned.event(), actor: Some(new.requested_by), job: None, body };
    audit::append(conn, &event).await?;
    Ok(entered)
}

fn refusal(error: sqlx::Error, plan: &Plan) -> WritebackError {
    match plan.compensates {
        Some(original) if is_refused_by(&error, "writeback_compensated_once") => {
            WritebackError::CompensatedAlready(original)
        }
        _ if is_refused_by(&error, "writeback_one_open_per_record") => {
            WritebackError::RecordBusy(plan.key.clone())
        }
        _ => error.into(),
    }
}
