//! Candidates: automations for a path, and how far each may go.
//!
//! Owns the definition and its digest, the phase, and every move between phases. Promises: a candidate's digest covers
//! everything that can change its behaviour, so that any change is another candidate that starts without evidence; up
//! goes one phase at a time, on an eligible snapshot frozen since the last move, with a consumed approval that is bound
//! to that snapshot (G1, G7); down goes at once and needs nothing (G6); when both happen at a time, down wins (G8).
//!
//! Refuses: to decide. What is asked of the evidence is [`crate::promotion`]'s, and the schema counts the floors again.

mod consent;
mod create;
mod definition;
mod demote;
mod find;
mod gate;
mod phase;
mod promote;
mod rules;
#[cfg(test)]
pub(crate) mod tests;

pub use self::{
    consent::Approvals,
    create::create,
    definition::{Definition, ENGINE, Model, Policy},
    demote::demote,
    find::{
        Candidate, Move, SnapshotLine, SnapshotRecord, by_name, list, moves, snapshot, snapshot_of_job,
        snapshots,
    },
    gate::{Gate, freeze, look},
    phase::{NoPhase, Phase},
    promote::{Consent, ConsentError, Promotion, promote},
    rules::{ask_laxer, rules, set_rules},
};

use crate::{
    actor::ActorId,
    approval::{ConsumeError, RequestError},
    audit::AuditError,
    canonical::CanonicalError,
    digest::{Digest, NoDigest},
    promotion::{Answer, BadRules, SnapshotError},
};

/// A move that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// From this phase.
    pub from: Phase,
    /// To this one; the same where there was nothing to take away.
    pub to: Phase,
    /// How often the phase has been set, with this time.
    pub generation: i64,
    /// Who did it.
    pub by: ActorId,
}

/// Why something cannot be done with a candidate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CandidateError {
    /// There is none of this name.
    #[error("there is no candidate `{0}`")]
    NotFound(String),
    /// The name is taken by another definition.
    #[error(
        "the candidate `{0}` exists with another definition: a change is a new candidate, under a name of its own"
    )]
    NameTaken(String),
    /// The definition has a name already.
    #[error("this definition is the candidate `{0}` already")]
    DefinitionTaken(String),
    /// The name is none.
    #[error("`{0}` is no name: a letter a-z, then a-z, 0-9, - and _, at most 63 in all")]
    BadName(String),
    /// It is at the top.
    #[error("the candidate `{0}` is autonomous: there is no phase above")]
    AtTheTop(String),
    /// The candidate has no such snapshot.
    #[error("the candidate `{name}` has no snapshot {digest}")]
    NoSnapshot {
        /// The candidate.
        name: String,
        /// What was asked for.
        digest: Digest,
    },
    /// The gate said no.
    #[error("the gate says `{}` of this snapshot", .0.name())]
    NotEligible(Answer),
    /// The snapshot's stored answer is not what its bytes come to.
    #[error("the snapshot {0} does not come to the answer that is stored with it")]
    Contradiction(Digest),
    /// The phase was set after the snapshot was frozen, by a demotion perhaps.
    #[error("the phase of `{0}` was set after the snapshot was frozen: evaluate it again")]
    Overtaken(String),
    /// Another candidate writes to the path.
    #[error("another candidate of the path of `{0}` is active: demote it first")]
    PathTaken(String),
    /// No approval that is bound to this very promotion.
    #[error("the promotion is not approved")]
    Consent(#[from] ConsentError),
    /// Rules outside their ranges.
    #[error("the rules are refused")]
    Rules(#[from] BadRules),
    /// Rules that ask for less than those in force.
    #[error("the rules ask for less than those in force, which another person has to approve")]
    Laxer,
    /// Rules that ask for more have come into force since.
    #[error("the path asks for more than when the evidence of `{0}` was frozen: evaluate it again")]
    OlderRules(String),
    /// An approval cannot be asked for.
    #[error("the approval cannot be asked for")]
    Request(#[from] RequestError),
    /// An approval cannot be used.
    #[error("the approval cannot be used")]
    Consume(#[from] ConsumeError),
    /// The evidence cannot be frozen or read.
    #[error("the evidence cannot be frozen or read")]
    Snapshot(#[from] SnapshotError),
    /// A definition or a value without a canonical form.
    #[error("there is no canonical form")]
    Canonical(#[from] CanonicalError),
    /// What is stored is not what this program writes.
    #[error("the stored {0} is not what this program writes")]
    Stored(&'static str),
    /// The chain could not be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The database refused or was lost.
    #[error("the candidates cannot be used")]
    Database(#[from] sqlx::Error),
}

impl From<NoDigest> for CandidateError {
    fn from(_: NoDigest) -> Self {
        Self::Stored("digest")
    }
}

impl From<NoPhase> for CandidateError {
    fn from(_: NoPhase) -> Self {
        Self::Stored("phase")
    }
}

/// Whether the database refused by the constraint of this name.
fn is_refused_by(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::constraint) == Some(constraint)
}
