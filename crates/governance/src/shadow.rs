//! Shadow runs: what a candidate would have said, beside what people said and what turned out right.
//!
//! Owns the frozen cases, people's verdicts on them, ground truth, and the runs. The first person's word on a case is
//! the *baseline* that a candidate is compared with. *Ground truth* is never that word alone: it is what a second person
//! said alike, or what a later sync observed that people really changed (`truth.rs` has the rule). Promises: a case
//! keeps what was to be decided, so that each candidate is tried on the same; a candidate runs once on a case, and the
//! first run stands; a run that fails, hangs or panics is kept as what it is; a run can read and never write, and an attempt
//! to is refused, kept as an error of the run, and put on record (G5).
//!
//! Refuses: to say what the runs are worth; that is [`crate::promotion`]'s. It knows no target and no connector: a
//! credential that can write to one is nowhere in this crate's reach.

mod baseline;
mod case;
mod judge;
mod rules;
mod run;
#[cfg(test)]
mod tests;
mod truth;
mod value;

pub use self::{
    baseline::say,
    case::{Case, CaseId, NewCase, freeze, hold, written},
    judge::{Fault, Hands, Judge, Said},
    rules::{Ruled, shown},
    run::{Ran, RunError, attempt, pending, record},
    truth::{is_settled, settled},
    value::value_digest,
};

use crate::{audit::AuditError, canonical::CanonicalError};

/// Why a case or what is known of it cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShadowError {
    /// There is no such case.
    #[error("there is no case {0}")]
    NoCase(CaseId),
    /// A fix without a value, or a value without a fix.
    #[error("a fix has a value for fields of its path, and nothing else has one")]
    BadValue,
    /// A value without a canonical form.
    #[error("a value has no canonical form")]
    Canonical(#[from] CanonicalError),
    /// The chain could not be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The database refused or was lost.
    #[error("the cases cannot be used")]
    Database(#[from] sqlx::Error),
}
