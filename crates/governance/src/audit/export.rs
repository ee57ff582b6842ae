//! The chain as lines that a verifier reads, and as entries that people read.

use std::io;

use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::PgConnection;
use verifier::chain;

use super::{AuditError, Head, head};
use crate::digest::Digest;

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The chain cannot be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The other side cannot be written to.
    #[error("the export cannot be written")]
    Write(#[from] io::Error),
}

/// Writes the chain as `FORMAT.md` says, up to the head as it is now. Memory does not grow with the chain. What was
/// tampered with is exported as it is: finding it is the verifier's part.
pub async fn export(conn: &mut PgConnection, to: &mut impl io::Write) -> Result<Head, ExportError> {
    let head = head(conn).await?;
    to.write_all(chain::first_line(&head.origin).as_bytes())?;
    let mut entries = sqlx::query!(
        "-- audit.export
        select content, hash from governance.audit_entry where seq <= $1 order by seq",
        head.size,
    )
    .fetch(conn);
    while let Some(entry) = entries.try_next().await.map_err(AuditError::from)? {
        let hash = Digest::try_from(entry.hash).map_err(AuditError::from)?;
        to.write_all(&chain::entry_line(&entry.content, &hash.0))?;
    }
    to.write_all(chain::last_line(head.size.unsigned_abs(), &head.hash.0).as_bytes())?;
    to.flush()?;
    Ok(head)
}

/// An entry, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its number.
    pub seq: i64,
    /// When, UTC with microseconds.
    pub at: String,
    /// What happened.
    pub kind: String,
    /// Who did it: the id, and the name unless it was erased.
    pub actor: Option<String>,
    /// The actor's name.
    pub name: Option<String>,
    /// The job in which it happened.
    pub job: Option<String>,
    /// The ids, digests and integers of it.
    pub body: Value,
}

/// What the chain knows of an approval, in order.
pub async fn of_approval(conn: &mut PgConnection, approval: &str) -> Result<Vec<Recorded>, AuditError> {
    let rows = sqlx::query!(
        r#"-- audit.of_approval
        select e.seq, e.content, a.name as "name?"
          from governance.audit_entry e
          left join governance.actor a on a.id::text = convert_from(e.content, 'UTF8')::json ->> 'actor'
         where e.approval = $1
         order by e.seq"#,
        approval,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| recorded(row.seq, &row.content, row.name)).collect())
}

/// What an entry says; of one that is no JSON any more, its number alone.
fn recorded(seq: i64, content: &[u8], name: Option<String>) -> Recorded {
    let content: Value = serde_json::from_slice(content).unwrap_or_default();
    let text = |member: &str| content[member].as_str().map(str::to_owned);
    Recorded {
        seq,
        at: text("at").unwrap_or_default(),
        kind: text("kind").unwrap_or_default(),
        actor: text("actor"),
        name,
        job: text("job"),
        body: content["body"].clone(),
    }
}
