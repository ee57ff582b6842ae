//! The audit chain of one database: `chain_hash = sha256(content || previous.chain_hash)`.
//!
//! Owns the entries and the head row. Promises: an entry commits with the business transaction that appends it, or not
//! at all (A3); any number of sessions that append make one chain without gaps (A2); no entry changes (A5). What the
//! bytes are is said by `FORMAT.md` of the crate `verifier`.
//!
//! Refuses: to look into a body. Whoever appends answers for its holding ids, digests and integers only.

mod export;
pub mod kinds;
#[cfg(test)]
mod tests;

use serde_json::Value;
use sqlx::PgConnection;

pub use self::export::{ExportError, Recorded, export, of_approval};
use crate::{
    actor::ActorId,
    canonical::{self, CanonicalError},
    digest::{Digest, NoDigest},
};

/// A body's canonical text is at most so long; with the members around it an entry stays within 64 KiB.
pub const BODY_BYTES_MAX: usize = 60 * 1024;

/// Something that happened, to be put on record.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened, e.g. `approval.requested`: one of [`kinds::ALL`].
    pub kind: &'static str,
    /// Who did it; none for what the service does of itself.
    pub actor: Option<ActorId>,
    /// The job in which it happened.
    pub job: Option<i64>,
    /// An object of ids, digests and integers, never of personal data. What belongs to an approval has its id as the
    /// member `approval`.
    pub body: Value,
}

/// An entry that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1 without gaps.
    pub seq: i64,
    /// The chain's hash with it.
    pub hash: Digest,
}

/// Where the chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose chain it is: `tenant/` and its id, or `platform/` and the installation's.
    pub origin: String,
    /// The number of entries.
    pub size: i64,
    /// The hash of the last one, or the genesis of an empty chain.
    pub hash: Digest,
}

/// Why the chain could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The body has no canonical form.
    #[error("the body of a {kind} entry has no canonical form")]
    Body {
        /// The entry's kind.
        kind: &'static str,
        /// What is wrong with it.
        source: CanonicalError,
    },
    /// The body is no object, or too long.
    #[error("the body of a {0} entry is no object of at most {BODY_BYTES_MAX} bytes")]
    BadBody(&'static str),
    /// A hash in the database is none.
    #[error("the chain holds a hash that is none")]
    Hash(#[from] NoDigest),
    /// The database refused or was lost.
    #[error("the audit chain cannot be used")]
    Database(#[from] sqlx::Error),
}

/// Appends an entry. From here to the end of the transaction no other session appends to this database's chain: the
/// chain's head row is the last lock that a transaction takes. Every row that another transaction may lock before it
/// appends, candidates, paths, gates, approvals, cases, wishes and writebacks, is locked before the first entry.
pub async fn append(conn: &mut PgConnection, event: &Event) -> Result<Entry, AuditError> {
    let row = sqlx::query!(
        r#"-- audit.append
        select entry_seq as "seq!", entry_hash as "hash!" from governance.append($1, $2, $3, $4)"#,
        event.kind,
        event.actor as Option<ActorId>,
        event.job,
        body_of(event)?,
    )
    .fetch_one(conn)
    .await?;
    Ok(Entry { seq: row.seq, hash: row.hash.try_into()? })
}

/// The canonical text of an event's body.
pub(crate) fn body_of(event: &Event) -> Result<String, AuditError> {
    let body =
        canonical::to_text(&event.body).map_err(|source| AuditError::Body { kind: event.kind, source })?;
    if event.body.is_object() && body.len() <= BODY_BYTES_MAX {
        return Ok(body);
    }
    Err(AuditError::BadBody(event.kind))
}

/// Where the chain ends.
pub async fn head(conn: &mut PgConnection) -> Result<Head, AuditError> {
    let row = sqlx::query!(
        r#"-- audit.head
        select origin as "origin!", size as "size!", hash as "hash!" from governance.audit_tail"#
    )
    .fetch_one(conn)
    .await?;
    Ok(Head { origin: row.origin, size: row.size, hash: row.hash.try_into()? })
}
