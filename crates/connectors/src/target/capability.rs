//! What a target was seen to do, and how that was found out.

use serde::{Deserialize, Serialize};

/// The class of a target, the safest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// It refuses a write whose validator is outdated.
    ConditionalWrite,
    /// It stores a write with a repeated idempotency key once.
    IdempotencyKey,
    /// It can only be read before and after a write.
    ReadCheck,
    /// It cannot be read: nothing is written to it.
    Blind,
}

/// The result of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// What was proved; never more than that.
    pub capability: Capability,
    /// Why no write can succeed, if that is so.
    pub obstacle: Option<String>,
    /// Each thing tried and what came of it, in sentences.
    pub evidence: Vec<String>,
}

impl Capability {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConditionalWrite => "conditional_write",
            Self::IdempotencyKey => "idempotency_key",
            Self::ReadCheck => "read_check",
            Self::Blind => "blind",
        }
    }
}

impl Probed {
    pub(crate) fn new(capability: Capability) -> Self {
        Self { capability, obstacle: None, evidence: Vec::new() }
    }

    pub(crate) fn saw(&mut self, what: impl Into<String>) {
        self.evidence.push(what.into());
    }

    /// No write can succeed.
    pub(crate) fn obstructed(mut self, by: impl Into<String>) -> Self {
        self.obstacle = Some(by.into());
        self
    }

    /// It was proved to be at least this good.
    pub(crate) fn proved(&mut self, capability: Capability) {
        self.capability = self.capability.min(capability);
    }
}
