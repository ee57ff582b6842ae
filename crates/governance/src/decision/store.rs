//! Decisions as rows.

use sqlx::PgConnection;

use super::{Decision, receipts};
use crate::{digest::NoDigest, path::Path, receipt::ReceiptError};

/// Why decisions could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// The database refused or was lost.
    #[error("the decisions cannot be stored")]
    Database(#[from] sqlx::Error),
    /// A stored digest is none.
    #[error("a stored digest is none")]
    Digest(#[from] NoDigest),
    /// Their receipts could not be issued.
    #[error("the receipts of the decisions cannot be issued")]
    Receipt(#[from] ReceiptError),
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

/// Stores decisions of one policy version in one statement, and issues a receipt for each new one, all in one batch.
/// The caller's transaction may be a later one than the one that read the records. The last call of its transaction.
pub async fn store(
    conn: &mut PgConnection,
    path: &Path,
    version: i32,
    decisions: &[Decision],
) -> Result<Stored, DecisionError> {
    let (stored, new) = insert(conn, path, version, decisions).await?;
    receipts::issue(conn, path, version, decisions, &new).await?;
    Ok(stored)
}

/// A decision that is new: its number, by its input.
#[derive(Debug)]
pub(crate) struct New {
    pub(super) id: i64,
    pub(super) input_digest: Vec<u8>,
}

/// Stores decisions, and leaves it to the caller to issue the receipts of the new ones at the end of its transaction.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    path: &Path,
    version: i32,
    decisions: &[Decision],
) -> Result<(Stored, Vec<New>), DecisionError> {
    let texts = |of: fn(&Decision) -> &str| decisions.iter().map(|it| of(it).to_owned()).collect::<Vec<_>>();
    let optional =
        |of: fn(&Decision) -> Option<&String>| decisions.iter().map(|it| of(it).cloned()).collect::<Vec<_>>();
    let digests = |of: fn(&Decision) -> Vec<u8>| decisions.iter().map(of).collect::<Vec<_>>();
    let confidence: Vec<_> = decisions.iter().map(|it| i16::from(it.judged.confidence)).collect();
    let proposed: Vec<_> =
        decisions.iter().map(|it| it.judged.proposed.clone().map(serde_json::Value::Object)).collect();
    let rows = sqlx::query!(
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
            returning id, input_digest
        )
        select current.count as "current!", inserted.id as "id?", inserted.input_digest as "input_digest?"
        from (select count(*) from current) as current left join inserted on true order by inserted.id"#,
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
    .fetch_all(conn)
    .await?;
    let current = rows.first().map_or(0, |row| row.current.unsigned_abs());
    let new: Vec<_> = rows
        .into_iter()
        .filter_map(|row| Some(New { id: row.id?, input_digest: row.input_digest? }))
        .collect();
    let count = new.len() as u64;
    Ok((Stored { new: count, known: current - count, stale: decisions.len() as u64 - current }, new))
}
