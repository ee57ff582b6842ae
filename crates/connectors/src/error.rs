//! Why a read ended early: one class per thing that a caller does about it.
//!
//! Every message names the connector, the stream, what happened and what to do. Texts that quote a source
//! pass through [`Scrubber`](crate::secret::Scrubber) first, so no variant can show a credential (I7).

use std::fmt;
use std::time::Duration;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Where it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The connector's name.
    pub connector: String,
    /// The stream's name, if it concerns one.
    pub stream: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stream {
            Some(stream) => write!(f, "connector {}, stream {stream}", self.connector),
            None => write!(f, "connector {}", self.connector),
        }
    }
}

/// What a caller does about a [`SourceError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Try again later; the attempt counts.
    Transient,
    /// Give the slot back and try again at the stated time; the attempt does not count.
    Throttled,
    /// A person must change something.
    Configuration,
    /// The source answers with something that no retry makes readable.
    Poison,
    /// A bound was reached; the committed state is kept and the next run goes on from it.
    Incomplete,
}

impl ErrorClass {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Configuration => "configuration",
            Self::Poison => "poison",
            Self::Incomplete => "incomplete",
        }
    }
}

/// A read, check or discovery that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source could not be reached or failed; three tries have been made where that is possible.
    #[error("{place}: {what}; it is tried again later")]
    Transient {
        /// Where.
        place: Place,
        /// What happened.
        what: String,
        /// The error below.
        #[source]
        cause: Option<Cause>,
    },
    /// The source, or the shared budget, asks for a wait that is too long to hold a slot for.
    #[error("{place}: {what}; the next request may be sent in {} s", after.as_secs())]
    Throttled {
        /// Where.
        place: Place,
        /// What happened.
        what: String,
        /// How long to wait.
        after: Duration,
    },
    /// The definition, a credential or the source's set-up is wrong.
    #[error("{place}: {what}; {advice}")]
    Configuration {
        /// Where.
        place: Place,
        /// What happened.
        what: String,
        /// What to do.
        advice: String,
        /// The error below.
        #[source]
        cause: Option<Cause>,
    },
    /// The source answered with something that cannot be read and will not get better by asking again.
    #[error("{place}: {what}; {advice}")]
    Poison {
        /// Where.
        place: Place,
        /// What happened.
        what: String,
        /// What to do.
        advice: String,
    },
    /// A bound of the run was reached. What was committed stays; the next run goes on from there.
    #[error("{place}: incomplete: {why}; {advice}")]
    Incomplete {
        /// Where.
        place: Place,
        /// Which bound, with its value.
        why: String,
        /// What to do.
        advice: String,
    },
}

impl SourceError {
    /// What to do about it.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Transient { .. } => ErrorClass::Transient,
            Self::Throttled { .. } => ErrorClass::Throttled,
            Self::Configuration { .. } => ErrorClass::Configuration,
            Self::Poison { .. } => ErrorClass::Poison,
            Self::Incomplete { .. } => ErrorClass::Incomplete,
        }
    }

    /// How long the source asked to be left alone, if it did.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { after, .. } => Some(*after),
            _ => None,
        }
    }
}

impl Place {
    /// The same connector, at one of its streams.
    pub(crate) fn at(&self, stream: &str) -> Self {
        Self { connector: self.connector.clone(), stream: Some(stream.to_owned()) }
    }

    pub(crate) fn transient(&self, what: impl Into<String>) -> SourceError {
        SourceError::Transient { place: self.clone(), what: what.into(), cause: None }
    }

    pub(crate) fn transient_by(&self, what: impl Into<String>, cause: impl Into<Cause>) -> SourceError {
        SourceError::Transient { place: self.clone(), what: what.into(), cause: Some(cause.into()) }
    }

    pub(crate) fn throttled(&self, what: impl Into<String>, after: Duration) -> SourceError {
        SourceError::Throttled { place: self.clone(), what: what.into(), after }
    }

    pub(crate) fn configuration(&self, what: impl Into<String>, advice: impl Into<String>) -> SourceError {
        let (what, advice) = (what.into(), advice.into());
        SourceError::Configuration { place: self.clone(), what, advice, cause: None }
    }

    pub(crate) fn configuration_by(
        &self,
        what: impl Into<String>,
        advice: impl Into<String>,
        cause: impl Into<Cause>,
    ) -> SourceError {
        let (what, advice) = (what.into(), advice.into());
        SourceError::Configuration { place: self.clone(), what, advice, cause: Some(cause.into()) }
    }

    pub(crate) fn poison(&self, what: impl Into<String>, advice: impl Into<String>) -> SourceError {
        SourceError::Poison { place: self.clone(), what: what.into(), advice: advice.into() }
    }

    pub(crate) fn incomplete(&self, why: impl Into<String>, advice: impl Into<String>) -> SourceError {
        SourceError::Incomplete { place: self.clone(), why: why.into(), advice: advice.into() }
    }
}
