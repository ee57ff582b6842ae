//! Decisions as rows.

use sqlx::PgConnection;

use super::Decision;
use crate::path::Path;

/// Why decisions could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// The database refused or was lost.
    #[error("the decisions cannot be stored")]
    Database(#[from] sqlx::Error),
}

/// What became of the decisions handed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// New rows.
    pub new: u64,
    /// Made before from the same input.
    pub known: u64,
    /// Their record has vanished or changed since it was read: nothing is stored.
    pub stale: u64,
}

/// Stores decisions of one policy version in one statement. The caller's transaction may be a later one than the one
/// that read the records.
pub async fn store(
    conn: &mut PgConnection,
    path: &Path,
    version: i32,
    decisions: &[Decision],
) -> Result<Stored, DecisionError> {
    let texts = |of: fn(&Decision) -> &str| decisions.iter().map(|it| of(it).to_owned()).collect::<Vec<_>>();
    let optional =
        |of: fn(&Decision) -> Option<&String>| decisions.iter().map(|it| of(it).cloned()).collect::<Vec<_>>();
    let digests = |of: fn(&Decision) -> Vec<u8>| decisions.iter().map(of).collect::<Vec<_>>();
    let confidence: Vec<_> = decisions.iter().map(|it| i16::from(it.judged.confidence)).collect();
    let proposed: Vec<_> =
        decisions.iter().map(|it| it.judged.proposed.clone().map(serde_json::Value::Object)).collect();
    let row = sqlx::query!(
        r#"-- decision.store
        with given as (
            select * from unnest($3::bytea[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::text[], $9::text[],
                $10::smallint[], $11::jsonb[], $12::text[], $15::boolean[])
                as given (input_digest, key, record_digest, evidence_digest, verdict, rule, class, confidence,
                    proposed, reason, failed)
        ), current as (
            select given.* from given
            join tenant.record r on r.connector = $13 and r.stream = $14 and r.key = given.key
                and r.key = any($4) and r.digest = given.record_digest and r.deleted_at is null
        ), inserted as (
            insert into tenant.decision (path, policy_version, input_digest, key, record_digest, evidence_digest,
                verdict, rule, class, confidence, proposed, reason, failed)
            select $1, $2, input_digest, key, record_digest, evidence_digest, verdict, rule, class, confidence,
                proposed, reason, failed
            from current order by input_digest
            on conflict on constraint decision_once do nothing
            returning 1
        )
        select (select count(*) from current) as "current!", (select count(*) from inserted) as "new!""#,
        path.id,
        version,
        &digests(|it| it.input_digest.to_vec()),
        &texts(|it| &it.key),
        &texts(|it| &it.record_digest),
        &digests(|it| it.evidence_digest.to_vec()),
        &texts(|it| it.judged.verdict.as_str()),
        &optional(|it| it.judged.rule.as_ref()) as &[Option<String>],
        &optional(|it| it.judged.class.as_ref()) as &[Option<String>],
        &confidence,
        &proposed as &[Option<serde_json::Value>],
        &texts(|it| &it.judged.reason),
        path.connector,
        path.stream,
        &decisions.iter().map(|it| it.failed.is_some()).collect::<Vec<_>>()
    )
    .fetch_one(conn)
    .await?;
    let (current, new) = (row.current.unsigned_abs(), row.new.unsigned_abs());
    Ok(Stored { new, known: current - new, stale: decisions.len() as u64 - current })
}
