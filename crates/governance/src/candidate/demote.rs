//! Down: at once, and without asking anything or anybody.

use serde_json::json;
use sqlx::PgConnection;

use super::{CandidateError, Moved, Phase};
use crate::{
    actor::ActorId,
    audit::{self, Event},
    digest::Digest,
};

/// Takes a candidate down to `to`, or leaves it where it is if it stands no higher. Either way every promotion that
/// rests on an earlier snapshot is void: one that is under way at this moment ends below, whoever comes first (G8).
///
/// Reads no evidence, no approval and no policy (G6). `reason` stays in the tenant's database and out of the chain.
pub async fn demote(
    conn: &mut PgConnection,
    name: &str,
    to: Phase,
    by: ActorId,
    reason: Option<&str>,
) -> Result<Moved, CandidateError> {
    // Locked first, so that the row that is read is the row that is written.
    let (id, digest, from) = lock(conn, name).await?;
    let to = from.min(to);
    let generation = sqlx::query_scalar!(
        "-- candidate.demote
        update tenant.candidate
        set phase = $2, generation = generation + 1, snapshot = case when $2 = 'off' then null else snapshot end
        where id = $1 returning generation",
        id,
        to.name(),
    );
    let generation = generation.fetch_one(&mut *conn).await?;
    sqlx::query!(
        "-- candidate.note_demotion
        insert into tenant.candidate_move (candidate, generation, from_phase, to_phase, actor, reason)
        values ($1, $2, $3, $4, $5, $6)",
        id,
        generation,
        from.name(),
        to.name(),
        by as ActorId,
        reason,
    )
    .execute(&mut *conn)
    .await?;
    let body = json!({ "candidate": digest, "from": from, "to": to, "generation": generation });
    audit::append(conn, &Event { kind: "candidate.demoted", actor: Some(by), job: None, body }).await?;
    Ok(Moved { from, to, generation, by })
}

/// Locks the candidate to the end of the transaction; its number, digest and phase as they are from then on. Whoever sets
/// a phase does it first, and before the chain: see [`audit::append`].
pub(super) async fn lock(
    conn: &mut PgConnection,
    name: &str,
) -> Result<(i64, Digest, Phase), CandidateError> {
    let row = sqlx::query!(
        "-- candidate.lock
        select id, digest, phase from tenant.candidate where name = $1 for no key update",
        name,
    );
    let row = row.fetch_optional(conn).await?;
    let row = row.ok_or_else(|| CandidateError::NotFound(name.to_owned()))?;
    Ok((row.id, Digest::try_from(row.digest)?, row.phase.parse()?))
}
