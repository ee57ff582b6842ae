//! Where a writeback is, and how each place is called in the chain.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where a writeback is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Entered; it waits for leave.
    Planned,
    /// It may be sent.
    Approved,
    /// The approval is consumed and bytes may be on their way.
    Intent,
    /// The intent stands, and provably nothing of it took effect: it will be sent again under the same key.
    Held,
    /// The target answered; what it stored is to be read.
    Sent,
    /// Nobody knows whether it took effect: the only legal move is to read.
    Unknown,
    /// A read on another connection saw the wanted values.
    Verified,
    /// The target said yes, and holds something else.
    Mismatch,
    /// The record, or its target, is not as it was when the change was planned, or leave ended while nobody knew what
    /// became of it: what is there stays.
    Conflict,
    /// It ended, and nothing was changed by it.
    NotApplied,
    /// It was verified, and the values before it were put back.
    Compensated,
    /// A person took a mismatch or a conflict for what it is.
    Accepted,
}

/// The text names no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a writeback is planned, approved, intent, held, sent, unknown, verified, mismatch, conflict, not_applied, compensated or accepted"
)]
pub struct NoState;

impl State {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Planned,
        Self::Approved,
        Self::Intent,
        Self::Held,
        Self::Sent,
        Self::Unknown,
        Self::Verified,
        Self::Mismatch,
        Self::Conflict,
        Self::NotApplied,
        Self::Compensated,
        Self::Accepted,
    ];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Approved => "approved",
            Self::Intent => "intent",
            Self::Held => "held",
            Self::Sent => "sent",
            Self::Unknown => "unknown",
            Self::Verified => "verified",
            Self::Mismatch => "mismatch",
            Self::Conflict => "conflict",
            Self::NotApplied => "not_applied",
            Self::Compensated => "compensated",
            Self::Accepted => "accepted",
        }
    }

    /// Whether the job has nothing left to do.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Verified
                | Self::Mismatch
                | Self::Conflict
                | Self::NotApplied
                | Self::Compensated
                | Self::Accepted
        )
    }

    /// The kind of the chain's entry for coming here.
    pub(super) const fn event(self) -> &'static str {
        match self {
            Self::Planned => "writeback.planned",
            Self::Approved => "writeback.approved",
            Self::Intent => "writeback.intent",
            Self::Held => "writeback.held",
            Self::Sent => "writeback.sent",
            Self::Unknown => "writeback.unknown",
            Self::Verified => "writeback.verified",
            Self::Mismatch => "writeback.mismatch",
            Self::Conflict => "writeback.conflict",
            Self::NotApplied => "writeback.not_applied",
            Self::Compensated => "writeback.compensated",
            Self::Accepted => "writeback.accepted",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for State {
    type Err = NoState;

    fn from_str(text: &str) -> Result<Self, NoState> {
        Self::ALL.into_iter().find(|state| state.name() == text).ok_or(NoState)
    }
}
