//! Which jobs: every field that is set narrows.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::plan::BulkRefused;
use crate::{Priority, State};

/// Which jobs an operation is about. A job must fit every field that is set, and at least one must be set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BulkFilter {
    /// In one of these states; none listed: in any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<State>,
    /// Of this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Of this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Uuid>,
    /// Of this priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Whose last error or note contains this text, to the letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Enqueued at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_from: Option<DateTime<Utc>>,
    /// Enqueued before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<DateTime<Utc>>,
    /// Due at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_from: Option<DateTime<Utc>>,
    /// Due before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_before: Option<DateTime<Utc>>,
    /// Finished at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_from: Option<DateTime<Utc>>,
    /// Finished before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_before: Option<DateTime<Utc>>,
}

impl BulkFilter {
    /// The same filter in the one form that is digested and carried out: each state once, in a fixed order.
    pub(super) fn normal(mut self) -> Self {
        self.states = State::ALL.into_iter().filter(|state| self.states.contains(state)).collect();
        self
    }

    /// Refuses what narrows nothing, and what nothing can fit.
    pub(super) fn check(&self) -> Result<(), BulkRefused> {
        let names_states =
            !self.states.is_empty() && State::ALL.iter().any(|state| !self.states.contains(state));
        let names_text = self.note.as_ref().is_some_and(|note| !note.is_empty());
        let names_more = self.queue.is_some() || self.kind.is_some() || self.tenant.is_some();
        let spans = [
            (self.created_from, self.created_before),
            (self.due_from, self.due_before),
            (self.finished_from, self.finished_before),
        ];
        let names_times = spans.iter().any(|(from, before)| from.is_some() || before.is_some());
        if !(names_states || names_text || names_more || names_times || self.priority.is_some()) {
            return Err(BulkRefused::Empty);
        }
        let nothing_fits =
            spans.iter().any(|span| matches!(span, (Some(from), Some(before)) if from >= before));
        if nothing_fits { Err(BulkRefused::Backwards) } else { Ok(()) }
    }
}
