//! People's reads: whoever is shown what records hold, or takes data out, is on record before the data leave.
//!
//! Reviews and approvals put their own reads on record, beside their states.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::{
    actor::ActorId,
    audit::{self, AuditError, Entry, Event, Head},
    digest::Digest,
    receipt::ReceiptId,
    review,
    writeback::WritebackId,
};

/// What a person was shown, or took.
#[derive(Clone, Debug)]
pub enum Reading<'a> {
    /// Parts of records that syncs have set aside.
    Rejected {
        /// The connector.
        connector: &'a str,
        /// One stream only.
        stream: Option<&'a str>,
        /// How many.
        records: usize,
    },
    /// Values that a policy proposes for records.
    Examples {
        /// The path.
        path: &'a str,
        /// The digest of the policy.
        policy: Digest,
        /// How many.
        records: usize,
    },
    /// One receipt.
    Receipt(ReceiptId),
    /// One writeback, with the record's values before and after.
    Writeback(WritebackId),
    /// Writebacks, with the keys of their records.
    Writebacks(&'a [WritebackId]),
    /// A change that was planned for once, with the record's values, and not kept.
    Trial {
        /// The path.
        path: &'a str,
        /// The digest of the plan.
        plan: Digest,
    },
    /// Frozen evidence of a candidate, taken out.
    Evidence {
        /// The candidate's name.
        candidate: &'a str,
        /// The evidence.
        snapshot: Digest,
    },
    /// This much of the chain, taken out.
    Chain(&'a Head),
}

impl Reading<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Rejected { .. } => "record.rejected_viewed",
            Self::Examples { .. } => "record.examples_viewed",
            Self::Receipt(_) => "receipt.viewed",
            Self::Writeback(_) => "writeback.viewed",
            Self::Writebacks(_) => "writeback.listed",
            Self::Trial { .. } => "writeback.tried",
            Self::Evidence { .. } => "candidate.exported",
            Self::Chain(_) => "audit.exported",
        }
    }

    fn body(&self) -> Value {
        match self {
            Self::Rejected { connector, stream, records } => {
                json!({"connector": connector, "stream": stream, "records": records})
            }
            Self::Examples { path, policy, records } => {
                json!({"path": path, "policy": policy, "records": records})
            }
            Self::Receipt(id) => json!({"receipt": id}),
            Self::Writeback(id) => json!({"writeback": id}),
            // An entry is bounded: of a long list the ends are named.
            Self::Writebacks(ids) => {
                json!({"count": ids.len(), "first": ids.iter().min(), "last": ids.iter().max()})
            }
            Self::Trial { path, plan } => json!({"path": path, "plan": plan}),
            Self::Evidence { candidate, snapshot } => json!({"candidate": candidate, "snapshot": snapshot}),
            Self::Chain(head) => json!({"size": head.size, "hash": head.hash}),
        }
    }
}

/// Puts it on record; also that whoever reads knows another's word now, if it is told.
pub async fn record(
    conn: &mut PgConnection,
    reading: &Reading<'_>,
    by: ActorId,
) -> Result<Entry, AuditError> {
    match reading {
        Reading::Receipt(id) => review::saw_receipt(conn, *id, by).await?,
        Reading::Writeback(id) => review::saw_writebacks(conn, &[*id], by).await?,
        Reading::Writebacks(ids) => review::saw_writebacks(conn, ids, by).await?,
        Reading::Rejected { .. }
        | Reading::Examples { .. }
        | Reading::Trial { .. }
        | Reading::Evidence { .. }
        | Reading::Chain(_) => {}
    }
    let (kind, body) = (reading.kind(), reading.body());
    audit::append(conn, &Event { kind, actor: Some(by), job: None, body }).await
}
