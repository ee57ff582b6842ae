//! The intent: the last thing that is committed before a byte leaves.

use serde_json::json;
use sqlx::PgConnection;

use super::{
    Leave, Move, Refusal, State, Writeback, WritebackError, WritebackId,
    advance::{self, advance},
    consent, find, leave,
};
use crate::{
    audit::{self, Event},
    digest::Digest,
    shadow,
};

/// What is about to be done, as it was found a moment ago.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    /// The digest of the plan made anew from what the target shows now.
    pub plan: Digest,
    /// The digest of the record's other fields.
    pub rest: Option<&'a str>,
    /// The job that sends.
    pub job: i64,
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum Intended {
    /// It may be sent, once the transaction has committed.
    Intent(Box<Writeback>),
    /// It ended, with this transaction: there is no leave, or no approval, for it.
    Ended(Box<Writeback>),
    /// Not now; nothing was written.
    Later(Refusal),
    /// Yeses are lacking; nothing was written.
    Undecided,
}

/// Writes the intent to send a change: asks the path, consumes the approval (W2, P1), and gives the key. The approval
/// was consumed before if something of it was held or lost on the way; then the same key is given again, and the path is
/// asked all the same.
pub async fn intend(
    conn: &mut PgConnection,
    seen: &Writeback,
    intent: Intent<'_>,
) -> Result<Intended, WritebackError> {
    if intent.plan != seen.digest {
        let step = Move::by_job(intent.job, State::Conflict, "plan_changed");
        return ended(conn, seen, &step).await;
    }
    let leave = match leave(conn, &seen.plan, seen.accepted_by, seen.confidence).await? {
        Ok(leave) => leave,
        Err(refusal @ Refusal::CapReached { .. }) if seen.idempotency_key.is_none() => {
            return Ok(Intended::Later(refusal));
        }
        // It has counted already.
        Err(Refusal::CapReached { .. }) => Leave { candidate: seen.candidate.clone() },
        Err(refusal) => {
            let detail = refusal.to_string();
            // What was sent without a clear answer may yet arrive: nobody can say that it changed nothing.
            let end = if seen.state == State::Unknown { State::Conflict } else { State::NotApplied };
            let step = Move::by_job(intent.job, end, refusal.reason()).detail(&detail);
            return ended(conn, seen, &step).await;
        }
    };
    if seen.state == State::Unknown {
        return write(conn, seen, intent, &leave, "not_stored").await;
    }
    if seen.idempotency_key.is_some() {
        return write(conn, seen, intent, &leave, "held").await;
    }
    // The approval's end is in the chain, and the cases come before the chain.
    shadow::hold(conn, &seen.plan.connector, &seen.plan.stream, &seen.plan.key).await?;
    match consent::consume(conn, seen, intent.job).await? {
        consent::Consent::NotNeeded => write(conn, seen, intent, &leave, "no_gate").await,
        consent::Consent::Given => write(conn, seen, intent, &leave, "approved").await,
        consent::Consent::Undecided => Ok(Intended::Undecided),
        consent::Consent::Refused { reason, detail } => {
            let step = Move::by_job(intent.job, State::NotApplied, reason).detail(&detail);
            ended(conn, seen, &step).await
        }
    }
}

async fn ended(
    conn: &mut PgConnection,
    seen: &Writeback,
    step: &Move<'_>,
) -> Result<Intended, WritebackError> {
    Ok(Intended::Ended(Box::new(advance(conn, seen, step).await?)))
}

async fn write(
    conn: &mut PgConnection,
    seen: &Writeback,
    intent: Intent<'_>,
    leave: &Leave,
    reason: &'static str,
) -> Result<Intended, WritebackError> {
    let key = seen.plan.idempotency_key(seen.id)?;
    // What a sync brings of this record from now on may be our own doing.
    shadow::written(conn, &seen.plan.connector, &seen.plan.stream, &seen.plan.key).await?;
    let (candidate, generation) = leave.candidate.clone().unzip();
    let number = sqlx::query_scalar!(
        "-- writeback.intend
        update tenant.writeback
        set state = 'intent', steps = steps + 1, sends = sends + 1, reads = 0, reason = $4, detail = null,
            idempotency_key = $5, intent_job = coalesce(intent_job, $6),
            intent_at = coalesce(intent_at, clock_timestamp()),
            candidate = coalesce(candidate, $7), generation = coalesce(generation, $8),
            rest_before = coalesce(rest_before, $9)
        where id = $1 and state = $2 and steps = $3
        returning steps",
        seen.id.0,
        seen.state.name(),
        seen.steps,
        reason,
        key.as_bytes(),
        intent.job,
        candidate,
        generation,
        intent.rest,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let number = number.ok_or(WritebackError::Moved { id: seen.id, expected: seen.state })?;
    let step = Move::by_job(intent.job, State::Intent, reason);
    advance::note(conn, seen, number, &step).await?;
    let written = find(conn, seen.id).await?;
    let body = json!({
        "writeback": WritebackId(seen.id.0), "plan": seen.digest, "from": seen.state, "reason": reason, "step": number,
        "key": key, "send": written.sends, "approval": written.approval.map(|id| id.to_string()),
        "candidate": written.candidate.as_ref().map(|(name, _)| name),
        "generation": written.candidate.as_ref().map(|(_, generation)| generation),
    });
    let event = Event { kind: State::Intent.event(), actor: None, job: Some(intent.job), body };
    audit::append(conn, &event).await?;
    Ok(Intended::Intent(Box::new(written)))
}
