//! What can go wrong with one try, sorted by what is done about it.

use std::time::Duration;

use super::retry_after::RetryAfter;
use crate::error::SourceError;
use crate::secret::Scrubbed;

/// One try that failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may work next time.
    Again {
        what: String,
        cause: Option<Scrubbed>,
        /// The source said "too often".
        throttled: bool,
        /// What it asked for.
        pause: Option<RetryAfter>,
    },
    /// The request itself was refused: wrong, unless it was a page token that has expired or a page behind
    /// the last.
    Refused { status: u16, error: SourceError },
    /// The shared budget wants a pause.
    Budget(Duration),
    /// Trying again is no use.
    Final(SourceError),
}

impl Trouble {
    pub(super) fn again(what: impl Into<String>) -> Self {
        Self::Again { what: what.into(), cause: None, throttled: false, pause: None }
    }

    pub(super) fn again_by(what: impl Into<String>, cause: Scrubbed) -> Self {
        Self::Again { what: what.into(), cause: Some(cause), throttled: false, pause: None }
    }

    /// How long the source asked to be left alone.
    pub(super) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Again { pause: Some(pause), .. } => pause.pause,
            _ => None,
        }
    }

    /// What was odd about that.
    pub(super) fn warning(&self) -> Option<&str> {
        match self {
            Self::Again { pause: Some(pause), .. } => pause.warning.as_deref(),
            _ => None,
        }
    }
}
