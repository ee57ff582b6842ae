//! The receipt of a writeback's end.

use sqlx::PgConnection;

use super::{Move, State, Writeback, WritebackError};
use crate::{
    approval::{self, ApprovalId},
    digest::Digest,
    receipt::{self, ApprovalUse, By, Decision, PolicyUse, Receipt, WritebackUse},
};

/// Issues it, in the transaction of the end. A later end, such as a compensation, names the former receipt.
pub(super) async fn issue(
    conn: &mut PgConnection,
    ended: &Writeback,
    step: &Move<'_>,
) -> Result<(), WritebackError> {
    let approval = approval_used(conn, ended).await?;
    let former = former(conn, ended).await?;
    let (version, digest) = &ended.plan.policy;
    let state = ended.state;
    let receipt = Receipt {
        approval,
        candidate: candidate(conn, ended).await?,
        decision: Decision {
            class: Some(ended.plan.class.clone()),
            confidence: ended.confidence,
            verdict: "fix".to_owned(),
        },
        evidence: vec![ended.evidence, ended.digest],
        former: former.as_deref().and_then(|id| id.parse().ok()),
        model: None,
        outcome: outcome(ended).to_owned(),
        policy: PolicyUse {
            digest: *digest,
            path: ended.plan.path.clone(),
            version: u32::try_from(*version).map_err(|_| WritebackError::Stored("policy version"))?,
        },
        verification: verification(state).map(str::to_owned),
        writeback: Some(WritebackUse { id: ended.id.to_string(), status: state.name().to_owned() }),
    };
    let used = receipt.approval.as_ref().map(|used| used.id.clone());
    let by = By { actor: step.actor, job: step.job, approval: used.as_deref() };
    let issued = receipt::issue(conn, &[receipt], by).await.map_err(|e| WritebackError::Receipt(e.into()))?;
    sqlx::query!(
        "-- writeback.note_receipt
        update tenant.writeback set receipt = $2 where id = $1",
        ended.id.0,
        issued.id(0).to_string(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

const fn outcome(ended: &Writeback) -> &'static str {
    match ended.state {
        State::Verified if ended.sent_nothing => "already_so",
        State::Verified => "applied",
        State::Compensated => "compensated",
        State::Mismatch => "mismatch",
        State::Conflict => "conflict",
        State::Accepted => "accepted",
        _ => "not_applied",
    }
}

/// How the effect was verified; none where nothing was sent that could be.
const fn verification(state: State) -> Option<&'static str> {
    match state {
        State::Verified | State::Compensated => Some("verified"),
        State::Mismatch => Some("mismatch"),
        _ => None,
    }
}

/// The writeback's own former receipt, or else that of the word or the decision that wanted it.
async fn former(conn: &mut PgConnection, ended: &Writeback) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- writeback.former
        select coalesce(b.receipt, (
            select r.batch || '.' || r.position from tenant.wish w
            join tenant.receipt r on r.subject = coalesce('review/' || w.review_case, 'decision/' || w.decision)
            where w.writeback = b.id order by r.batch, r.position limit 1))
        from tenant.writeback b where b.id = $1",
        ended.id.0
    )
    .fetch_one(conn)
    .await
}

async fn candidate(conn: &mut PgConnection, ended: &Writeback) -> Result<Option<Digest>, WritebackError> {
    let Some((name, _)) = &ended.candidate else { return Ok(None) };
    let digest = sqlx::query_scalar!(
        "-- writeback.candidate_digest
        select digest from tenant.candidate where name = $1",
        name,
    );
    Ok(digest.fetch_optional(conn).await?.map(Digest::try_from).transpose()?)
}

/// The approval, if it was used.
async fn approval_used(
    conn: &mut PgConnection,
    ended: &Writeback,
) -> Result<Option<ApprovalUse>, WritebackError> {
    let (Some(id), Some(_)) = (ended.approval, ended.idempotency_key) else { return Ok(None) };
    let found = approval::get(conn, ApprovalId(id)).await.map_err(|e| WritebackError::Receipt(e.into()))?;
    Ok(found.map(|approval| {
        let alone = approval.decisions.iter().any(|decision| decision.alone);
        let mode = if alone { "cooling_off" } else { "second_person" };
        ApprovalUse { id: id.to_string(), mode: mode.to_owned() }
    }))
}
