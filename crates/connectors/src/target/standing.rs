//! How an observation compares with a change: the whole of verification, as a pure function.

use serde::{Deserialize, Serialize};

use super::change::{Change, Expected, Observed, differing};
use super::normalise::same;
use crate::definition::StreamTarget;

/// Where a record stands after a change was, or may have been, sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Every field holds what was wanted, as far as the target's normalisers tell.
    Desired,
    /// Every field holds what it held before: not applied, or not shown yet.
    Before,
    /// There is no record, and the change did not expect that.
    Gone,
    /// Fields hold a third value.
    Other(Vec<String>),
}

impl Standing {
    pub(super) fn of(target: &StreamTarget, change: &Change, observed: Option<&Observed>) -> Self {
        let Some(observed) = observed else {
            return if change.expected == Expected::Absent { Self::Before } else { Self::Gone };
        };
        let wrong: Vec<_> = change
            .desired
            .iter()
            .filter(|(name, value)| {
                let rules = target.normalise.get(*name).map(Vec::as_slice).unwrap_or_default();
                !observed.fields.get(*name).is_some_and(|seen| same(seen, value, rules))
            })
            .map(|(name, _)| name.clone())
            .collect();
        if wrong.is_empty() {
            return Self::Desired;
        }
        match &change.expected {
            Expected::Present { before, .. } if differing(before, observed).is_empty() => Self::Before,
            _ => Self::Other(wrong),
        }
    }
}
