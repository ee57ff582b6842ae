//! Reading candidates, their moves and their snapshots.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{CandidateError, Definition, Phase};
use crate::{
    actor::ActorId,
    digest::Digest,
    promotion::{Answer, Evaluation},
};

/// A candidate as it is now.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its number in this database.
    pub id: i64,
    /// What people call it.
    pub name: String,
    /// What it is: the digest of its definition.
    pub digest: Digest,
    /// The definition.
    pub definition: Definition,
    /// How far it may go.
    pub phase: Phase,
    /// How often its phase was set.
    pub generation: i64,
    /// The evidence that its phase rests on.
    pub snapshot: Option<Digest>,
    /// When it was entered.
    pub created_at: DateTime<Utc>,
}

/// A time when the phase was set.
#[derive(Clone, Debug)]
pub struct Move {
    /// The how-manieth.
    pub generation: i64,
    /// From here.
    pub from: Phase,
    /// To there.
    pub to: Phase,
    /// Who did it.
    pub actor: ActorId,
    /// On which evidence.
    pub snapshot: Option<Digest>,
    /// With whose yes.
    pub approval: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub moved_at: DateTime<Utc>,
}

/// A snapshot as it is kept.
#[derive(Clone, Debug)]
pub struct SnapshotRecord {
    /// The SHA-256 of the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// From this phase.
    pub from: Phase,
    /// To that one.
    pub to: Phase,
    /// The candidate's generation then.
    pub generation: i64,
    /// What the gate said.
    pub evaluation: Evaluation,
    /// When it was frozen.
    pub frozen_at: DateTime<Utc>,
}

/// The same without the bytes.
#[derive(Clone, Debug)]
pub struct SnapshotLine {
    /// The SHA-256 of the bytes.
    pub digest: Digest,
    /// What the gate said.
    pub answer: Answer,
    /// When it was frozen.
    pub frozen_at: DateTime<Utc>,
}

struct Row {
    id: i64,
    name: String,
    digest: Vec<u8>,
    definition: Vec<u8>,
    phase: String,
    generation: i64,
    snapshot: Option<Vec<u8>>,
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for Candidate {
    type Error = CandidateError;

    fn try_from(row: Row) -> Result<Self, CandidateError> {
        let definition = Definition::read(&row.definition);
        Ok(Self {
            id: row.id,
            name: row.name,
            digest: row.digest.try_into()?,
            definition: definition.map_err(|_| CandidateError::Stored("definition"))?,
            phase: row.phase.parse()?,
            generation: row.generation,
            snapshot: row.snapshot.map(TryInto::try_into).transpose()?,
            created_at: row.created_at,
        })
    }
}

/// The candidate of this name.
pub async fn by_name(conn: &mut PgConnection, name: &str) -> Result<Candidate, CandidateError> {
    let row = sqlx::query_as!(
        Row,
        "-- candidate.by_name
        select id, name, digest, definition, phase, generation, snapshot, created_at
        from tenant.candidate where name = $1",
        name,
    );
    let row = row.fetch_optional(conn).await?;
    row.ok_or_else(|| CandidateError::NotFound(name.to_owned()))?.try_into()
}

/// All candidates, of one path if that is given.
pub async fn list(conn: &mut PgConnection, path: Option<&str>) -> Result<Vec<Candidate>, CandidateError> {
    let rows = sqlx::query_as!(
        Row,
        "-- candidate.list
        select id, name, digest, definition, phase, generation, snapshot, created_at
        from tenant.candidate where $1::text is null or path = $1 order by path, name",
        path,
    );
    rows.fetch_all(conn).await?.into_iter().map(TryInto::try_into).collect()
}

/// The moves of a candidate, the latest first.
pub async fn moves(
    conn: &mut PgConnection,
    candidate: &Candidate,
    limit: i64,
) -> Result<Vec<Move>, CandidateError> {
    let rows = sqlx::query!(
        r#"-- candidate.moves
        select generation, from_phase, to_phase, actor as "actor: ActorId", snapshot, approval, reason, moved_at
        from tenant.candidate_move where candidate = $1 order by generation desc limit $2"#,
        candidate.id,
        limit,
    );
    let rows = rows.fetch_all(conn).await?;
    let moves = rows.into_iter().map(|row| {
        Ok(Move {
            generation: row.generation,
            from: row.from_phase.parse()?,
            to: row.to_phase.parse()?,
            actor: row.actor,
            snapshot: row.snapshot.map(TryInto::try_into).transpose()?,
            approval: row.approval,
            reason: row.reason,
            moved_at: row.moved_at,
        })
    });
    moves.collect()
}

/// Which snapshot of a candidate.
enum Which {
    Latest,
    Of(Digest),
    OfJob(i64),
}

/// A snapshot of a candidate: the one of this digest, else the latest; none if there is none yet.
pub async fn snapshot(
    conn: &mut PgConnection,
    candidate: &Candidate,
    digest: Option<Digest>,
) -> Result<Option<SnapshotRecord>, CandidateError> {
    let found = find(conn, candidate, &digest.map_or(Which::Latest, Which::Of)).await?;
    match digest {
        Some(digest) if found.is_none() => {
            Err(CandidateError::NoSnapshot { name: candidate.name.clone(), digest })
        }
        _ => Ok(found),
    }
}

/// The snapshot that a job has frozen.
pub async fn snapshot_of_job(
    conn: &mut PgConnection,
    candidate: &Candidate,
    job: i64,
) -> Result<SnapshotRecord, CandidateError> {
    let found = find(conn, candidate, &Which::OfJob(job)).await?;
    found.ok_or(CandidateError::Stored("snapshot of the job"))
}

async fn find(
    conn: &mut PgConnection,
    candidate: &Candidate,
    which: &Which,
) -> Result<Option<SnapshotRecord>, CandidateError> {
    let (digest, job) = match which {
        Which::Latest => (None, None),
        Which::Of(digest) => (Some(digest.to_vec()), None),
        Which::OfJob(job) => (None, Some(*job)),
    };
    let row = sqlx::query!(
        "-- candidate.snapshot
        select digest, bytes, from_phase, to_phase, generation, evaluation, frozen_at
        from tenant.gate_snapshot
        where candidate = $1 and ($2::bytea is null or digest = $2) and ($3::bigint is null or job = $3)
        order by frozen_at desc, digest limit 1",
        candidate.id,
        digest,
        job,
    );
    let Some(row) = row.fetch_optional(conn).await? else { return Ok(None) };
    let evaluation = serde_json::from_value(row.evaluation);
    Ok(Some(SnapshotRecord {
        digest: row.digest.try_into()?,
        bytes: row.bytes,
        from: row.from_phase.parse()?,
        to: row.to_phase.parse()?,
        generation: row.generation,
        evaluation: evaluation.map_err(|_| CandidateError::Stored("evaluation"))?,
        frozen_at: row.frozen_at,
    }))
}

/// The snapshots of a candidate, the latest first, without their bytes.
pub async fn snapshots(
    conn: &mut PgConnection,
    candidate: &Candidate,
    limit: i64,
) -> Result<Vec<SnapshotLine>, CandidateError> {
    let rows = sqlx::query!(
        "-- candidate.snapshots
        select digest, evaluation -> 'answer' as answer, frozen_at
        from tenant.gate_snapshot where candidate = $1 order by frozen_at desc, digest limit $2",
        candidate.id,
        limit,
    );
    let lines = rows.fetch_all(conn).await?.into_iter().map(|row| {
        let answer = serde_json::from_value(row.answer.unwrap_or_default());
        Ok(SnapshotLine {
            digest: row.digest.try_into()?,
            answer: answer.map_err(|_| CandidateError::Stored("evaluation"))?,
            frozen_at: row.frozen_at,
        })
    });
    lines.collect()
}
