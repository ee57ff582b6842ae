//! Changes that are sent to targets, as rows: what is planned, by whose leave, how far it is, and what became of it.
//!
//! Promises: every arrow of the state machine is one committed row, in the transaction of whoever takes it, with its
//! entry in the chain; no other arrow exists (the schema holds that too). The intent is durable before the first byte
//! leaves: only [`intend`] gives an idempotency key, and it consumes the approval in the same transaction (W2, P1). A
//! plan never changes: other values, another version of the record or of the policy, or another definition of the
//! connector are another plan (P5). Values stay
//! in these tables; the chain carries digests.
//!
//! Refuses: to send or to read anything. Which arrow follows what a target said is the job's to know.

mod admit;
mod advance;
mod breaker;
mod consent;
mod drift;
mod enter;
mod find;
mod intend;
mod plan;
mod receipt;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::admit::hold;
pub use self::{
    admit::{Active, Leave, Refusal, Rule, leave, rule},
    advance::{Move, advance, count_read},
    consent::{Asked, Consent, ask, look as look_for_consent, withdraw},
    drift::{Drift, DriftPage, Drifting, drifts, mark_checked, watched},
    enter::{NewWriteback, enter},
    find::{Filter, Step, Writeback, find, list, steps, to_resume},
    intend::{Intended, Intent, intend},
    plan::Plan,
    state::{NoState, State},
};
use crate::{audit::AuditError, canonical::CanonicalError, digest::NoDigest};

/// Values by field, its names joined by dots.
pub type Values = BTreeMap<String, Value>;

/// A writeback's number in its tenant's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WritebackId(pub i64);

impl std::fmt::Display for WritebackId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is no writeback's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a writeback is named by its number")]
pub struct NoWritebackId;

impl std::str::FromStr for WritebackId {
    type Err = NoWritebackId;

    fn from_str(text: &str) -> Result<Self, NoWritebackId> {
        text.parse().ok().filter(|id| *id > 0).map(Self).ok_or(NoWritebackId)
    }
}

// As text: JSON's readers lose digits of 64-bit numbers.
impl Serialize for WritebackId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WritebackId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a writeback cannot be entered, moved or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WritebackError {
    /// There is none of this number.
    #[error("there is no writeback {0}")]
    NotFound(WritebackId),
    /// Another change of the record has not ended.
    #[error("another change of the record {0:?} is under way: wait for its end, or withdraw its approval")]
    RecordBusy(String),
    /// It is compensated already, or about to be.
    #[error("writeback {0} is being compensated already")]
    CompensatedAlready(WritebackId),
    /// It is no longer where the caller saw it.
    #[error("writeback {id} is not {expected} any more")]
    Moved {
        /// The writeback.
        id: WritebackId,
        /// Where the caller saw it.
        expected: State,
    },
    /// A plan without a canonical form.
    #[error("the plan has no canonical form")]
    Canonical(#[from] CanonicalError),
    /// What is stored is not what this program writes.
    #[error("the stored {0} is not what this program writes")]
    Stored(&'static str),
    /// The approval is not what it has to be.
    #[error("the approval cannot be used: {0}")]
    Consent(String),
    /// The receipt could not be issued.
    #[error("the receipt could not be issued")]
    Receipt(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The candidate could not be demoted.
    #[error("the candidate could not be demoted")]
    Candidate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The path could not be moved.
    #[error("the path could not be moved")]
    Path(#[source] Box<crate::path::StepError>),
    /// The chain could not be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The database refused or was lost.
    #[error("the writebacks cannot be used")]
    Database(#[from] sqlx::Error),
}

impl From<NoDigest> for WritebackError {
    fn from(_: NoDigest) -> Self {
        Self::Stored("digest")
    }
}

impl From<NoState> for WritebackError {
    fn from(_: NoState) -> Self {
        Self::Stored("state")
    }
}

/// Whether the database refused by the constraint of this name.
fn is_refused_by(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::constraint) == Some(constraint)
}
