//! Finds receipts, and proves that the chain knows them.

use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use verifier::{chain, merkle};

use super::{ReceiptError, ReceiptId};
use crate::digest::Digest;

/// A receipt as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub id: ReceiptId,
    /// Its bytes.
    pub content: Vec<u8>,
    /// The entry that anchors its batch.
    pub seq: i64,
}

/// What shows that a receipt was issued: with its content, enough for somebody who trusts the chain's head alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// The hash of the receipt as a leaf.
    pub leaf: Digest,
    /// Its position in the batch.
    pub position: i32,
    /// The number of receipts in the batch.
    pub size: i32,
    /// The hashes beside it on the way up.
    pub path: Vec<Digest>,
    /// Where they lead: the root that the entry carries.
    pub root: Digest,
    /// The entry's number.
    pub seq: i64,
    /// The chain's hash with the entry.
    pub hash: Digest,
}

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The receipt is not what was issued.
    #[error("the receipt was altered: its hash is not the leaf of its batch")]
    Altered,
    /// The path does not lead to the root that the chain carries.
    #[error("the receipt's path does not lead to the root that entry {0} carries")]
    Root(i64),
    /// The chain has no such entry, or the entry is another's.
    #[error("entry {0} of the audit chain does not anchor this receipt's batch")]
    NotAnchored(i64),
    /// The entry is not what was chained.
    #[error("entry {0} of the audit chain was altered: its hash does not follow")]
    Entry(i64),
}

/// The receipt of this number.
pub async fn find(conn: &mut PgConnection, id: ReceiptId) -> Result<Stored, ReceiptError> {
    let row = sqlx::query!(
        "-- receipt.find
        select content, seq
          from tenant.receipt join tenant.receipt_batch using (batch)
         where batch = $1 and position = $2",
        id.batch,
        id.position,
    )
    .fetch_optional(conn)
    .await?;
    let row = row.ok_or(ReceiptError::NotFound(id))?;
    Ok(Stored { id, content: row.content, seq: row.seq })
}

/// The receipts that go on from this one.
pub async fn later(conn: &mut PgConnection, id: ReceiptId) -> Result<Vec<ReceiptId>, ReceiptError> {
    let rows = sqlx::query!(
        "-- receipt.later
        select batch, position from tenant.receipt where former = $1 order by batch, position",
        id.to_string(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ReceiptId { batch: row.batch, position: row.position }).collect())
}

/// Recomputes the receipt's path to the root and looks for the root in the chain.
pub async fn prove(conn: &mut PgConnection, id: ReceiptId) -> Result<Result<Proof, Flaw>, ReceiptError> {
    let stored = find(conn, id).await?;
    let leaves = leaves(conn, id.batch).await?;
    let (hash, root, size) = match anchor(conn, id.batch, stored.seq).await? {
        Ok(anchor) => anchor,
        Err(flaw) => return Ok(Err(flaw)),
    };
    let leaf = merkle::leaf(&stored.content);
    let position = usize::try_from(id.position).unwrap_or(usize::MAX);
    if leaves.get(position) != Some(&leaf) {
        return Ok(Err(Flaw::Altered));
    }
    let path = merkle::path(&leaves, position).unwrap_or_default();
    if leaves.len() != size || merkle::root_of_path(leaf, position, size, &path) != Some(root.0) {
        return Ok(Err(Flaw::Root(stored.seq)));
    }
    Ok(Ok(Proof {
        leaf: Digest(leaf),
        position: id.position,
        size: i32::try_from(size).unwrap_or(i32::MAX),
        path: path.into_iter().map(Digest).collect(),
        root,
        seq: stored.seq,
        hash,
    }))
}

async fn leaves(conn: &mut PgConnection, batch: i64) -> Result<Vec<[u8; 32]>, ReceiptError> {
    let leaves = sqlx::query_scalar!(
        "-- receipt.leaves
        select leaf from tenant.receipt where batch = $1 order by position",
        batch,
    )
    .fetch_all(conn)
    .await?;
    Ok(leaves.into_iter().filter_map(|leaf| leaf.try_into().ok()).collect())
}

/// The hash, the root and the size that the entry carries, once the entry itself is found to be what was chained.
async fn anchor(
    conn: &mut PgConnection,
    batch: i64,
    seq: i64,
) -> Result<Result<(Digest, Digest, usize), Flaw>, ReceiptError> {
    let row = sqlx::query!(
        r#"-- receipt.entry
        select e.content, e.hash, coalesce(p.hash, governance.genesis(h.origin)) as "previous!"
          from governance.audit_entry e
         cross join governance.audit_head h
          left join governance.audit_entry p on p.seq = e.seq - 1
         where e.seq = $1"#,
        seq,
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else {
        return Ok(Err(Flaw::NotAnchored(seq)));
    };
    let previous = row.previous.try_into().unwrap_or_default();
    if chain::chain_hash(&row.content, &previous).as_slice() != row.hash.as_slice() {
        return Ok(Err(Flaw::Entry(seq)));
    }
    let entry: Value = serde_json::from_slice(&row.content)?;
    let body = &entry["body"];
    let root = body["root"].as_str().and_then(|root| root.parse().ok());
    let size = body["size"].as_u64().and_then(|size| usize::try_from(size).ok());
    match (root, size, Digest::try_from(row.hash)) {
        (Some(root), Some(size), Ok(hash))
            if entry["kind"] == "receipt.issued" && body["batch"].as_i64() == Some(batch) =>
        {
            Ok(Ok((hash, root, size)))
        }
        _ => Ok(Err(Flaw::NotAnchored(seq))),
    }
}
