//! Up: one phase, on a snapshot, with a yes.

use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;

use super::{
    Candidate, CandidateError, Moved, Phase, SnapshotRecord, by_name, demote::lock, is_refused_by, rules,
    rules::lock_rules, snapshot,
};
use crate::{
    actor::ActorId,
    audit::{self, Event},
    canonical::CanonicalError,
    digest::Digest,
    promotion::{Answer, Rules, Snapshot, evaluate},
};

/// What an approval of a promotion says yes to; nothing else can be promoted with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Promotion {
    /// Always this.
    action: &'static str,
    /// The candidate's digest.
    pub candidate: Digest,
    /// From here.
    pub from: Phase,
    /// To there.
    pub to: Phase,
    /// How often the phase was set before.
    pub generation: i64,
    /// The digest of the evidence.
    pub snapshot: Digest,
}

impl Promotion {
    /// Of a candidate on the evidence of a snapshot.
    #[must_use]
    pub fn of(candidate: Digest, snapshot: &SnapshotRecord) -> Self {
        let SnapshotRecord { digest, from, to, generation, .. } = *snapshot;
        Self { action: "candidate.promote", candidate, from, to, generation, snapshot: digest }
    }

    /// What the approval is bound to.
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        Digest::of_canonical(self)
    }
}

/// Why there is no consent.
#[derive(Debug, thiserror::Error)]
#[error("no approval stands for this promotion")]
pub struct ConsentError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Whoever says yes: the approvals, or a test in their place.
pub trait Consent: Send + Sync {
    /// Consumes the approval that is bound to this promotion, in the transaction that executes it, and answers its id.
    /// An approval that is another's, stale or consumed is an error.
    fn consume(
        &self,
        conn: &mut PgConnection,
        promotion: &Promotion,
        by: ActorId,
    ) -> impl Future<Output = Result<String, ConsentError>> + Send;
}

/// Moves a candidate one phase up. All or nothing: after an error the transaction must be rolled back.
pub async fn promote(
    conn: &mut PgConnection,
    name: &str,
    evidence: Digest,
    by: ActorId,
    consent: &impl Consent,
) -> Result<Moved, CandidateError> {
    // Before anything is appended: a demotion may wait here, and may not fail because a promotion waits for it.
    lock(conn, name).await?;
    let candidate = by_name(conn, name).await?;
    let record = snapshot(conn, &candidate, Some(evidence)).await?;
    let record = record.ok_or(CandidateError::Stored("snapshot"))?;
    lock_rules(conn, &candidate.definition.path).await?;
    let in_force = rules(conn, &candidate.definition.path).await?;
    must_be_eligible(&record, &in_force, name)?;
    // Nobody is asked to approve what cannot be any more; `raise` looks again, since this may change until then.
    if (candidate.generation, candidate.phase) != (record.generation, record.from) {
        return Err(CandidateError::Overtaken(candidate.name));
    }
    let promotion = Promotion::of(candidate.digest, &record);
    let approval = consent.consume(conn, &promotion, by).await?;
    let generation = raise(conn, &candidate, &record).await?;
    note(conn, &candidate, &record, generation, by, &approval).await?;
    let body = json!({
        "candidate": candidate.digest, "from": record.from, "to": record.to, "generation": generation,
        "snapshot": record.digest, "approval": approval,
    });
    audit::append(conn, &Event { kind: "candidate.promoted", actor: Some(by), job: None, body }).await?;
    Ok(Moved { from: record.from, to: record.to, generation, by })
}

/// The stored answer is not taken on trust: it is computed again from the bytes.
fn must_be_eligible(record: &SnapshotRecord, in_force: &Rules, name: &str) -> Result<(), CandidateError> {
    let is_theirs = Digest::of(&record.bytes) == record.digest;
    let snapshot = Snapshot::read(&record.bytes)?;
    let evaluation = evaluate(&snapshot);
    if !is_theirs || evaluation != record.evaluation {
        return Err(CandidateError::Contradiction(record.digest));
    }
    if snapshot.header().rules.loosen(in_force) {
        return Err(CandidateError::OlderRules(name.to_owned()));
    }
    match evaluation.answer {
        Answer::Eligible => Ok(()),
        answer => Err(CandidateError::NotEligible(answer)),
    }
}

/// Sets the phase if nobody has set it since the snapshot was frozen.
async fn raise(
    conn: &mut PgConnection,
    candidate: &Candidate,
    record: &SnapshotRecord,
) -> Result<i64, CandidateError> {
    let raised = sqlx::query_scalar!(
        "-- candidate.promote
        update tenant.candidate set phase = $4, generation = generation + 1, snapshot = $5
        where id = $1 and generation = $2 and phase = $3 returning generation",
        candidate.id,
        record.generation,
        record.from.name(),
        record.to.name(),
        record.digest.as_bytes(),
    );
    match raised.fetch_optional(conn).await {
        Ok(generation) => generation.ok_or_else(|| CandidateError::Overtaken(candidate.name.clone())),
        Err(error) if is_refused_by(&error, "candidate_one_active_per_path") => {
            Err(CandidateError::PathTaken(candidate.name.clone()))
        }
        Err(error) => Err(error.into()),
    }
}

async fn note(
    conn: &mut PgConnection,
    candidate: &Candidate,
    record: &SnapshotRecord,
    generation: i64,
    by: ActorId,
    approval: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- candidate.note_promotion
        insert into tenant.candidate_move (candidate, generation, from_phase, to_phase, actor, snapshot, approval)
        values ($1, $2, $3, $4, $5, $6, $7)",
        candidate.id,
        generation,
        record.from.name(),
        record.to.name(),
        by as ActorId,
        record.digest.as_bytes(),
        approval,
    )
    .execute(conn)
    .await
    .map(drop)
}
