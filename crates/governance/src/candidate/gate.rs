//! The gate at work: gathers a candidate's evidence, and freezes it with the gate's answer.

use serde_json::json;
use sqlx::{PgConnection, types::Json};

use super::{Candidate, CandidateError, by_name, rules};
use crate::{
    audit::{self, Event},
    decision::Verdict,
    digest::Digest,
    promotion::{Evaluation, Header, Opinion, Run, Snapshot, Source, Truth, evaluate},
    shadow,
};

/// What a look at the gate shows.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The candidate.
    pub candidate: Candidate,
    /// The evidence.
    pub snapshot: Snapshot,
    /// The digest of its bytes.
    pub digest: Digest,
    /// What the gate says of it.
    pub evaluation: Evaluation,
}

/// What the gate would say now. Keeps nothing and changes nothing: a read-only transaction will do.
pub async fn look(conn: &mut PgConnection, name: &str) -> Result<Gate, CandidateError> {
    let candidate = by_name(conn, name).await?;
    let from = candidate.phase;
    let to = from.up().ok_or_else(|| CandidateError::AtTheTop(name.to_owned()))?;
    let rules = rules(conn, &candidate.definition.path).await?;
    let (frozen_at, runs) = gather(conn, candidate.id).await?;
    let header =
        Header { candidate: candidate.digest, from, to, generation: candidate.generation, frozen_at, rules };
    let snapshot = Snapshot::new(header, runs)?;
    let evaluation = evaluate(&snapshot);
    Ok(Gate { digest: snapshot.freeze()?.digest, candidate, snapshot, evaluation })
}

/// Freezes the evidence of this moment with what the gate says of it, in the transaction of `job`. Moves nothing.
pub async fn freeze(conn: &mut PgConnection, name: &str, job: i64) -> Result<Gate, CandidateError> {
    let gate = look(conn, name).await?;
    let header = gate.snapshot.header();
    let frozen = gate.snapshot.freeze()?;
    sqlx::query!(
        "-- candidate.freeze
        insert into tenant.gate_snapshot
            (digest, candidate, from_phase, to_phase, generation, answer, evaluation, bytes, frozen_at, job)
        values ($1, $2, $3, $4, $5, $6, $7, $8, to_timestamp($9::bigint / 1000000.0), $10)",
        frozen.digest.as_bytes(),
        gate.candidate.id,
        header.from.name(),
        header.to.name(),
        header.generation,
        gate.evaluation.answer.name(),
        Json(&gate.evaluation) as _,
        frozen.bytes,
        header.frozen_at,
        job,
    )
    .execute(&mut *conn)
    .await?;
    let body = json!({
        "candidate": gate.candidate.digest, "snapshot": frozen.digest, "answer": gate.evaluation.answer,
        "from": header.from, "to": header.to, "generation": header.generation,
        "runs": gate.evaluation.figures.runs, "agree": gate.evaluation.figures.agree,
        "scored": gate.evaluation.figures.scored,
    });
    audit::append(conn, &Event { kind: "gate.evaluated", actor: None, job: Some(job), body }).await?;
    Ok(gate)
}

/// All runs of a candidate with what is known of their cases, and when that was: one statement, so one moment.
///
/// Of two truths a reviewer's counts before an observation, which also has reasons of its own.
async fn gather(conn: &mut PgConnection, candidate: i64) -> Result<(i64, Vec<Run>), CandidateError> {
    let rows = sqlx::query!(
        r#"-- candidate.gather
        select c.input_digest, r.verdict, r.value, r.class, r.error,
            (extract(epoch from r.ran_at) * 1000000)::bigint as "ran_at!",
            b.verdict as "baseline?", b.value as baseline_value, a.verdict as "again?", a.value as again_value,
            t.verdict as "truth?", t.value as truth_value, t.source as "source?",
            (extract(epoch from t.known_at) * 1000000)::bigint as known_at
        from tenant.shadow_run r
            join tenant.shadow_case c on c.id = r.case_id
            left join tenant.shadow_baseline b on b.case_id = r.case_id and b.number = 1
            left join tenant.shadow_baseline a on a.case_id = r.case_id and a.number = 2
            left join lateral (
                select * from tenant.shadow_truth t where t.case_id = r.case_id
                order by t.source = 'reviewer' desc limit 1
            ) t on true
        where r.candidate = $1"#,
        candidate,
    )
    .fetch_all(&mut *conn)
    .await?;
    let frozen_at = sqlx::query_scalar!(
        r#"-- candidate.now
        select (extract(epoch from clock_timestamp()) * 1000000)::bigint as "now!""#
    );
    let frozen_at = frozen_at.fetch_one(conn).await?;
    let runs = rows.into_iter().map(|row| {
        let truth = opinion(row.truth, row.truth_value.as_ref())?;
        Ok(Run {
            input: row.input_digest.try_into()?,
            at: row.ran_at,
            candidate: opinion(row.verdict, row.value.as_ref())?,
            class: row.class,
            error: row.error,
            baseline: opinion(row.baseline, row.baseline_value.as_ref())?,
            again: opinion(row.again, row.again_value.as_ref())?,
            truth: match (truth, row.source.as_deref(), row.known_at) {
                (Some(opinion), Some(source), Some(at)) => Some(Truth { opinion, source: of(source)?, at }),
                _ => None,
            },
        })
    });
    Ok((frozen_at, runs.collect::<Result<_, CandidateError>>()?))
}

fn opinion(
    verdict: Option<String>,
    value: Option<&serde_json::Value>,
) -> Result<Option<Opinion>, CandidateError> {
    let Some(verdict) = verdict else { return Ok(None) };
    let verdict: Verdict = verdict.parse().map_err(|()| CandidateError::Stored("verdict"))?;
    let value = value.map(shadow::value_digest).transpose()?;
    Ok(Some(Opinion { verdict, value }))
}

fn of(source: &str) -> Result<Source, CandidateError> {
    match source {
        "reviewer" => Ok(Source::Reviewer),
        "observed" => Ok(Source::Observed),
        _ => Err(CandidateError::Stored("source")),
    }
}
