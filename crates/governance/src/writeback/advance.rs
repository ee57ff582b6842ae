//! Taking an arrow: the row, its step, and the chain's entry, as one.

use serde_json::json;
use sqlx::{PgConnection, types::Json};

use super::{State, Values, Writeback, WritebackError, breaker, find, receipt};
use crate::{
    actor::ActorId,
    audit::{self, Event},
    digest::Digest,
    path,
};

/// An arrow, with what is known by taking it.
#[derive(Clone, Debug)]
pub struct Move<'a> {
    /// Where to.
    pub to: State,
    /// Why, as a word of ours; it goes into the chain.
    pub reason: &'static str,
    /// The same in words. May quote the target, so it stays here.
    pub detail: Option<&'a str>,
    /// The fields as a read-back saw them.
    pub observed: Option<&'a Values>,
    /// The digest of the record's other fields in that read-back.
    pub rest: Option<&'a str>,
    /// The values were there before anything was sent.
    pub sent_nothing: bool,
    /// Who takes it; none for the service itself.
    pub actor: Option<ActorId>,
    /// The job that takes it.
    pub job: Option<i64>,
}

impl<'a> Move<'a> {
    /// An arrow to here that a job takes, for this reason.
    #[must_use]
    pub const fn by_job(job: i64, to: State, reason: &'static str) -> Self {
        Self {
            to,
            reason,
            detail: None,
            observed: None,
            rest: None,
            sent_nothing: false,
            actor: None,
            job: Some(job),
        }
    }

    /// An arrow to here that a person takes.
    #[must_use]
    pub const fn by_person(actor: ActorId, to: State, reason: &'static str) -> Self {
        Self { actor: Some(actor), job: None, ..Self::by_job(0, to, reason) }
    }

    /// With words.
    #[must_use]
    pub fn detail(self, detail: &'a str) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// With what a read-back saw.
    #[must_use]
    pub fn observed(self, fields: &'a Values, rest: &'a str) -> Self {
        Self { observed: Some(fields), rest: Some(rest), ..self }
    }
}

/// Moves a writeback from where it was seen. An end also issues the receipt, a mismatch may trip the path's breaker, and
/// the first verified change makes a certified path live; all belong to the same transaction. The last statements of it: see [`audit::append`].
pub async fn advance(
    conn: &mut PgConnection,
    seen: &Writeback,
    step: &Move<'_>,
) -> Result<Writeback, WritebackError> {
    if let (State::Verified, Some(original)) = (step.to, seen.plan.compensates) {
        // It goes along after this arrow's entry, and whoever looks after it for drift locks it before one.
        sqlx::query!(
            "-- writeback.hold_original\nselect from tenant.writeback where id = $1 for no key update",
            original.0,
        )
        .execute(&mut *conn)
        .await?;
    }
    take(conn, seen, step).await?;
    let moved = find(conn, seen.id).await?;
    if moved.state == State::Mismatch {
        breaker::look(conn, &moved, step.job).await?;
    }
    if moved.state == State::Verified {
        live(conn, &moved, step.job).await?;
    }
    if moved.state.is_final() {
        receipt::issue(conn, &moved, step).await?;
    }
    let body = json!({
        "writeback": moved.id, "plan": moved.digest, "from": seen.state, "reason": step.reason, "step": moved.steps,
        "approval": moved.approval.map(|id| id.to_string()),
        "observed": step.observed.map(digest_of).transpose()?,
    });
    audit::append(conn, &Event { kind: step.to.event(), actor: step.actor, job: step.job, body }).await?;
    Ok(moved)
}

/// Something was written and read back, which an undoing of it or a value that was there before do not show.
async fn live(conn: &mut PgConnection, verified: &Writeback, job: Option<i64>) -> Result<(), WritebackError> {
    if verified.sent_nothing || verified.plan.compensates.is_some() {
        return Ok(());
    }
    let evidence = json!({ "writeback": verified.id, "plan": verified.digest });
    let lifted = path::lift(conn, &verified.plan.path, evidence, verified.requested_by, job).await;
    lifted.map_err(|error| WritebackError::Path(Box::new(error)))
}

async fn take(conn: &mut PgConnection, seen: &Writeback, step: &Move<'_>) -> Result<(), WritebackError> {
    let moved = sqlx::query_scalar!(
        "-- writeback.advance
        update tenant.writeback
        set state = $3, steps = steps + 1, reason = $4, detail = $5, observed = coalesce($6, observed),
            rest_after = coalesce($7, rest_after), sent_nothing = sent_nothing or $8,
            -- What is told by a read counts that read; any other place begins anew.
            reads = case when $3 in ('verified', 'mismatch') then reads + 1 else 0 end,
            ended_at = case when $9 then clock_timestamp() end
        where id = $1 and state = $2 and steps = $10
        returning steps",
        seen.id.0,
        seen.state.name(),
        step.to.name(),
        step.reason,
        step.detail,
        step.observed.map(Json) as _,
        step.rest,
        step.sent_nothing,
        step.to.is_final(),
        seen.steps,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let number = moved.ok_or(WritebackError::Moved { id: seen.id, expected: seen.state })?;
    note(conn, seen, number, step).await
}

pub(super) async fn note(
    conn: &mut PgConnection,
    seen: &Writeback,
    number: i32,
    step: &Move<'_>,
) -> Result<(), WritebackError> {
    sqlx::query!(
        "-- writeback.note_step
        insert into tenant.writeback_step (writeback, number, from_state, to_state, reason, detail, actor, job)
        values ($1, $2, $3, $4, $5, $6, $7, $8)",
        seen.id.0,
        number,
        seen.state.name(),
        step.to.name(),
        step.reason,
        step.detail,
        step.actor as Option<ActorId>,
        step.job,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts a read-back after which nothing is certain yet.
pub async fn count_read(
    conn: &mut PgConnection,
    seen: &Writeback,
    observed: Option<&Values>,
) -> Result<(), WritebackError> {
    let counted = sqlx::query!(
        "-- writeback.count_read
        update tenant.writeback set reads = reads + 1, observed = coalesce($4, observed)
        where id = $1 and state = $2 and steps = $3",
        seen.id.0,
        seen.state.name(),
        seen.steps,
        observed.map(Json) as _,
    )
    .execute(conn)
    .await?;
    match counted.rows_affected() {
        1 => Ok(()),
        _ => Err(WritebackError::Moved { id: seen.id, expected: seen.state }),
    }
}

/// Of values the chain carries a digest.
fn digest_of(values: &Values) -> Result<Digest, WritebackError> {
    let texts: std::collections::BTreeMap<_, _> =
        values.iter().map(|(name, value)| (name.as_str(), value.to_string())).collect();
    Ok(Digest::of_canonical(&texts)?)
}
