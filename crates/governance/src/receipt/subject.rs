//! What a receipt is about, where one looks for it from there.

use std::fmt;

use sqlx::PgConnection;

use super::{ReceiptError, ReceiptId};

/// What a receipt is about. A writeback keeps its receipt itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A decision of a policy, by its number.
    Decision(i64),
    /// A case of the review queue, by its number: each word on it has a receipt.
    Review(i64),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decision(id) => write!(f, "decision/{id}"),
            Self::Review(id) => write!(f, "review/{id}"),
        }
    }
}

/// The receipts about this, the first first.
pub async fn about(conn: &mut PgConnection, subject: Subject) -> Result<Vec<ReceiptId>, ReceiptError> {
    let rows = sqlx::query!(
        "-- receipt.about
        select batch, position from tenant.receipt where subject = $1 order by batch, position",
        subject.to_string(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ReceiptId { batch: row.batch, position: row.position }).collect())
}
