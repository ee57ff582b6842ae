//! What a sync says of itself at its end: kept as the job's output and with the run in the tenant's database.

use connectors::ErrorClass;
use queue::Done;
use serde::{Deserialize, Serialize};

use super::store::Run;

/// What the attempts of a run have done together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records that the source delivered.
    pub read: u64,
    /// Of these, new ones and changed ones.
    pub written: u64,
    /// Of these, those that were here already, just so.
    pub unchanged: u64,
    /// Delivered again because the lower bound is inclusive, recognised and dropped; not counted as read.
    pub repeated: u64,
    /// Set aside, with a reason.
    pub rejected: u64,
    /// No longer in the source.
    pub deleted: u64,
    /// Read although they have no cursor; such rows are read in every run.
    pub null_cursor: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The stream was read to its end.
    Complete,
    /// The source failed on the way; the next run goes on from the checkpoint.
    Incomplete {
        /// What kind of failure it was.
        class: ErrorClass,
        /// What happened, and what to do.
        why: String,
    },
    /// It cannot go on before somebody changes something.
    Failed {
        /// What kind of failure it was.
        class: ErrorClass,
        /// What happened, and what to do.
        why: String,
    },
}

impl Outcome {
    pub(super) fn incomplete(class: ErrorClass, why: impl Into<String>) -> Self {
        Self::Incomplete { class, why: why.into() }
    }

    pub(super) fn failed(class: ErrorClass, why: impl Into<String>) -> Self {
        Self::Failed { class, why: why.into() }
    }
}

/// A sync's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The connector's name.
    pub connector: String,
    /// The stream's name.
    pub stream: String,
    /// `complete`, `incomplete` or `failed`.
    pub outcome: String,
    /// The class of what stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What stopped it, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What was done.
    #[serde(flatten)]
    pub counts: Counts,
    /// What a person should know of the source.
    pub warnings: Vec<String>,
    /// From the first attempt's begin to now, pauses included; milliseconds.
    pub duration_ms: u64,
}

impl Report {
    pub(super) fn of(run: &Run, outcome: Outcome) -> Self {
        let (name, class, why) = match outcome {
            Outcome::Complete => ("complete", None, None),
            Outcome::Incomplete { class, why } => ("incomplete", Some(class), Some(why)),
            Outcome::Failed { class, why } => ("failed", Some(class), Some(why)),
        };
        Self {
            connector: run.connector.clone(),
            stream: run.stream.clone(),
            outcome: name.to_owned(),
            class: class.map(|class| class.name().to_owned()),
            why,
            counts: run.counts.clone(),
            warnings: run.warnings.clone(),
            duration_ms: u64::try_from((run.age + run.loaded_at.elapsed()).as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn into_done(self) -> Done {
        Done::new().output(serde_json::to_value(self).expect("a report is plain data"))
    }

    /// Whether the stream was read to its end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.outcome == "complete"
    }
}
