//! The promotion gate: whether a candidate may move one phase up, as a pure function of frozen evidence.
//!
//! Owns what evidence is ([`Snapshot`]), what is asked of it ([`Rules`]) and the answer ([`evaluate`]). The answer is a
//! function of the snapshot's bytes and of nothing else: no clock, no database, no floating point. Whoever has the
//! bytes can compute it again; `ops/proofs/gate` does so in another language.
//!
//! Promises (family G of the invariants): nothing is `eligible` below the floors of [`Rules`], whatever a path has set;
//! the order of the rows and repetitions of a case change nothing; what is missing never helps.
//!
//! How a run counts, and why:
//! - *One case, one run.* A case is an input's digest. Of several runs on one input the first stands, whatever came of
//!   it, so that trying again cannot wash away an error.
//! - *An error is a disagreement*, and so is a run whose human baseline is missing.
//! - *It agrees* if its verdict and its value are the person's **and ground truth does not refute it**. Two who agree on
//!   what turned out wrong are no evidence for either. Truth takes agreement away and never adds any: a candidate that
//!   was right against the person still disagrees. So each floor is at least as strict as one that is counted from the
//!   verdicts alone.
//! - *It is scored* if ground truth was known when the snapshot was frozen. What became known later does not count, for
//!   or against: then it is time for a new snapshot.
//!
//! Refuses: to promote. `eligible` is a proposal; see [`crate::candidate`].

mod bound;
mod evaluate;
mod export;
mod figures;
mod rules;
mod snapshot;
#[cfg(test)]
mod tests;

pub use self::{
    evaluate::{Answer, Evaluation, Finding, Outcome, Rule, evaluate},
    export::export,
    figures::Figures,
    rules::{AGREE_PERCENT_FLOOR, BadRules, ERROR_PER_MILLE_MAX, RUNS_FLOOR, Rules, SCORED_PERCENT_FLOOR},
    snapshot::{Frozen, Header, Opinion, RUNS_MAX, Run, Snapshot, SnapshotError, Source, Truth},
};
