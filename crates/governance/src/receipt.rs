//! Receipts: the record of each governed decision.
//!
//! Promises: a receipt commits with the decision or effect it speaks of. Receipts are issued in batches: the audit
//! chain carries the root of the Merkle tree (RFC 6962) over a batch's receipts, so that a receipt for each of 50,000
//! decisions costs one entry, and each can be proved by a path of a few hashes. A receipt of an effect is a batch of
//! its own, with its own entry. Nothing is updated: a later status is a new receipt that names the former.
//!
//! Refuses: personal data. A receipt holds ids, digests, integers and words of ours.

mod issue;
mod proof;
mod subject;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::{
    issue::{By, Issued, issue, issue_about},
    proof::{Flaw, Proof, Stored, find, later, prove},
    subject::{Subject, about},
};
use crate::{actor::ActorId, audit::AuditError, digest::Digest};

/// A receipt's number: that of its batch and its position there, as in `42.17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiptId {
    /// The batch.
    pub batch: i64,
    /// The position in it, from 0.
    pub position: i32,
}

impl fmt::Display for ReceiptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.batch, self.position)
    }
}

/// The text is no receipt's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a receipt's number is that of its batch, a dot, and its position, as in 42.17")]
pub struct NoReceiptId;

impl FromStr for ReceiptId {
    type Err = NoReceiptId;

    fn from_str(text: &str) -> Result<Self, NoReceiptId> {
        let (batch, position) = text.split_once('.').ok_or(NoReceiptId)?;
        let id = Self {
            batch: batch.parse().map_err(|_| NoReceiptId)?,
            position: position.parse().map_err(|_| NoReceiptId)?,
        };
        // A sign or a leading zero would be a second name of the same receipt.
        if id.to_string() == text && id.batch > 0 && id.position >= 0 { Ok(id) } else { Err(NoReceiptId) }
    }
}

impl Serialize for ReceiptId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReceiptId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

// The fields of everything serialized here stand in the order of their names, so that serde writes canonical JSON at
// once; a test compares it with `canonical`.

/// What is to be recorded of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// The approval behind it.
    pub approval: Option<ApprovalUse>,
    /// The digest of the automation that decided, if one did.
    pub candidate: Option<Digest>,
    /// What was decided.
    pub decision: Decision,
    /// Digests of what it was decided on; first the case's input digest.
    pub evidence: Vec<Digest>,
    /// The receipt that this one goes on from.
    pub former: Option<ReceiptId>,
    /// How a model took part.
    pub model: Option<ModelUse>,
    /// What came of it, as a word of ours: `none` while nothing has, `applied`, `conflict`, `compensated` …
    pub outcome: String,
    /// Under which policy.
    pub policy: PolicyUse,
    /// How it was verified, as a word of ours: `verified`, `mismatch` …; none without a writeback.
    pub verification: Option<String>,
    /// Its writeback.
    pub writeback: Option<WritebackUse>,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The action class, e.g. `email_format`.
    pub class: Option<String>,
    /// 0 to 100.
    pub confidence: u8,
    /// `fix`, `review`, `block` or `none`.
    pub verdict: String,
}

/// The policy that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyUse {
    /// The digest of its text.
    pub digest: Digest,
    /// The path that it rules.
    pub path: String,
    /// Its version.
    pub version: u32,
}

/// The approval that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApprovalUse {
    /// Its id.
    pub id: String,
    /// How a second person was had: `second_person`, or `cooling_off` where there is a single administrator.
    pub mode: String,
}

/// A model's part: advice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelUse {
    /// The digest of its answer.
    pub answer: Digest,
    /// Its name.
    pub model: String,
    /// The digest of what it was asked.
    pub prompt: Digest,
}

/// The writeback of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WritebackUse {
    /// Its id.
    pub id: String,
    /// Its state, as a word of ours: `planned`, `sent`, `verified`, `mismatch`, `conflict`, `unknown` …
    pub status: String,
}

/// Why receipts cannot be issued or read.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// A batch without receipts.
    #[error("a batch has at least one receipt and at most {max}", max = issue::BATCH_MAX)]
    BatchSize,
    /// There is no such receipt.
    #[error("there is no receipt {0}")]
    NotFound(ReceiptId),
    /// A receipt cannot be written as JSON.
    #[error("the receipt cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The audit chain refused.
    #[error("the receipts cannot be anchored")]
    Audit(#[from] AuditError),
    /// The database refused or was lost.
    #[error("the receipts cannot be written or read")]
    Database(#[from] sqlx::Error),
}

/// The bytes of a receipt: what the decision was, by whom, when, and which receipt it is.
#[derive(Serialize)]
struct Content<'a> {
    actor: Option<ActorId>,
    at: &'a str,
    id: ReceiptId,
    job: Option<String>,
    receipt: &'a Receipt,
    tag: &'static str,
}

/// The domain tag of receipts.
const TAG: &str = "tenure.receipt.v1";
