//! The rungs.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// How far a path has come. Only certified and live paths may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathState {
    /// It is known, and nothing more.
    Catalogued,
    /// What its target can do has been tried.
    Probed,
    /// A named person has approved it, after a clean baseline.
    Certified,
    /// A change of it has been written and verified.
    Live,
}

impl PathState {
    /// The rungs from the ground up.
    pub const ALL: [Self; 4] = [Self::Catalogued, Self::Probed, Self::Certified, Self::Live];

    /// As the database and the command line know it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Catalogued => "catalogued",
            Self::Probed => "probed",
            Self::Certified => "certified",
            Self::Live => "live",
        }
    }

    /// The next rung.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Catalogued => Some(Self::Probed),
            Self::Probed => Some(Self::Certified),
            Self::Certified => Some(Self::Live),
            Self::Live => None,
        }
    }
}

impl fmt::Display for PathState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PathState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}
