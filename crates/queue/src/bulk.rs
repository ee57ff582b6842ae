//! One operation on many jobs, chosen by a filter.
//!
//! A filter is looked at before anything is done ([`BulkPreview`]): how many jobs it admits, a sample, and a
//! [`BulkPlan`], whose digest binds filter, action and the newest id there was. Only a plan can be carried out, so what
//! is confirmed is what was seen: another filter has another digest, and jobs made after the preview are beyond its bound.
//!
//! A plan is carried out by a job, page by page (`run.rs`). The first pages choose: they write down every job that the
//! filter admits. The others act on the chosen jobs, in the order of their ids, each page in one transaction with the
//! record of what became of each job, under the fence of the operation's own job. A job is therefore acted on once,
//! however often the operation is killed; one that moved since it was chosen is skipped, with the reason.
//!
//! An empty filter is refused, always: at least one field must narrow.

mod filter;
mod matching;
mod plan;
mod preview;
mod run;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Priority, State, reprioritise, snooze};

pub use filter::BulkFilter;
pub use plan::{BulkPlan, BulkRefused};
pub use preview::BulkPreview;
pub use run::{BulkError, BulkOutcome, BulkProgress};

pub(crate) use preview::preview;
pub(crate) use run::{Operation, forget, outcomes, progress, step};

/// What to do with each job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum BulkAction {
    /// Make it run again, as [`Queue::retry`](crate::Queue::retry) does.
    Retry,
    /// Call it off, as [`Queue::cancel`](crate::Queue::cancel) does.
    Cancel,
    /// Give it another priority.
    Reprioritise {
        /// The priority.
        to: Priority,
    },
    /// Let it run no earlier than this.
    Snooze {
        /// The time, by the database's clock.
        until: DateTime<Utc>,
    },
}

impl BulkAction {
    /// The verb used in JSON and on the command line.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Reprioritise { .. } => "reprioritise",
            Self::Snooze { .. } => "snooze",
        }
    }

    /// Whether a job in this state can be acted on.
    #[must_use]
    pub fn admits(self, state: State) -> bool {
        match self {
            Self::Retry => matches!(state, State::Ready | State::Failed | State::Cancelled),
            Self::Cancel => !state.is_final(),
            Self::Reprioritise { .. } => matches!(state, State::Ready | State::Waiting),
            Self::Snooze { .. } => state == State::Ready,
        }
    }

    /// What a person should read of a job whose state does not admit the action.
    fn only(self) -> &'static str {
        match self {
            Self::Retry => "only a job that failed, was cancelled or waits for its time can be retried",
            Self::Cancel => "only a live job can be cancelled",
            Self::Reprioritise { .. } => reprioritise::ONLY,
            Self::Snooze { .. } => snooze::ONLY,
        }
    }
}
