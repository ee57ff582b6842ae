//! What is asked of a candidate: three floors that hold for everybody, and what a path asks on top.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Runs on distinct inputs, at least.
pub const RUNS_FLOOR: i64 = 30;

/// Of the runs, those that agree, in percent, at least.
pub const AGREE_PERCENT_FLOOR: i64 = 85;

/// Of the runs, those scored against ground truth, in percent, at least.
pub const SCORED_PERCENT_FLOOR: i64 = 50;

/// How likely the lower bound may ever be wrong, in thousandths, at most.
pub const ERROR_PER_MILLE_MAX: i64 = 50;

/// More runs than this are not asked for: a snapshot would not hold them.
const RUNS_ASKED_MAX: i64 = 50_000;

/// What a path asks. It can be stricter than the floors, never laxer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Runs on distinct inputs, at least; from [`RUNS_FLOOR`].
    pub runs_min: i64,
    /// Agreeing runs in percent of all, at least; from [`AGREE_PERCENT_FLOOR`].
    pub agree_percent_min: i64,
    /// Scored runs in percent of all, at least; from [`SCORED_PERCENT_FLOOR`].
    pub scored_percent_min: i64,
    /// What the true rate of agreement must at least be, in percent, with an error of at most
    /// [`error_per_mille`](Self::error_per_mille) over all looks together. See [`Figures`](super::Figures).
    pub bound_percent_min: Option<i64>,
    /// That error; from 1 to [`ERROR_PER_MILLE_MAX`].
    pub error_per_mille: i64,
    /// Cohen's kappa in hundredths, at least.
    pub kappa_percent_min: Option<i64>,
    /// Of the scored runs, those that were right, in percent, at least.
    pub right_percent_min: Option<i64>,
    /// Action classes of which a candidate must have done nothing at all: one such run vetoes.
    pub veto_classes: BTreeSet<String>,
}

impl Default for Rules {
    /// The floors alone.
    fn default() -> Self {
        Self {
            runs_min: RUNS_FLOOR,
            agree_percent_min: AGREE_PERCENT_FLOOR,
            scored_percent_min: SCORED_PERCENT_FLOOR,
            bound_percent_min: None,
            error_per_mille: ERROR_PER_MILLE_MAX,
            kappa_percent_min: None,
            right_percent_min: None,
            veto_classes: BTreeSet::new(),
        }
    }
}

/// A rule outside its range: laxer than its floor, or asking for what cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule} must be from {from} to {to}, not {given}")]
pub struct BadRules {
    /// Its name.
    pub rule: &'static str,
    /// What was asked for.
    pub given: i64,
    /// The least that may be.
    pub from: i64,
    /// The most that may be.
    pub to: i64,
}

impl Rules {
    /// Refuses rules that are laxer than the floors.
    pub fn check(&self) -> Result<(), BadRules> {
        for (rule, given, from, to) in [
            ("runs_min", Some(self.runs_min), RUNS_FLOOR, RUNS_ASKED_MAX),
            ("agree_percent_min", Some(self.agree_percent_min), AGREE_PERCENT_FLOOR, 100),
            ("scored_percent_min", Some(self.scored_percent_min), SCORED_PERCENT_FLOOR, 100),
            ("bound_percent_min", self.bound_percent_min, 1, 99),
            ("error_per_mille", Some(self.error_per_mille), 1, ERROR_PER_MILLE_MAX),
            ("kappa_percent_min", self.kappa_percent_min, 1, 100),
            ("right_percent_min", self.right_percent_min, 1, 100),
        ] {
            if let Some(given) = given.filter(|given| !(from..=to).contains(given)) {
                return Err(BadRules { rule, given, from, to });
            }
        }
        Ok(())
    }

    /// Whether these ask for less than `before` in any point.
    #[must_use]
    pub fn loosen(&self, before: &Self) -> bool {
        self.runs_min < before.runs_min
            || self.agree_percent_min < before.agree_percent_min
            || self.scored_percent_min < before.scored_percent_min
            // None is less than any number.
            || self.bound_percent_min < before.bound_percent_min
            || self.error_per_mille > before.error_per_mille
            || self.kappa_percent_min < before.kappa_percent_min
            || self.right_percent_min < before.right_percent_min
            || !self.veto_classes.is_superset(&before.veto_classes)
    }
}
