//! How far a candidate may go.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A candidate's phase. The order is that of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is evaluated and changes nothing.
    Off,
    /// What a person accepts is written.
    Assist,
    /// What policy allows is written.
    Autonomous,
}

/// The text names no phase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no phase `{0}`; there are off, assist and autonomous")]
pub struct NoPhase(pub String);

impl Phase {
    /// All, from the least powerful.
    pub const ALL: [Self; 3] = [Self::Off, Self::Assist, Self::Autonomous];

    /// Its name in rows and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Assist => "assist",
            Self::Autonomous => "autonomous",
        }
    }

    /// The next one up; none from the top.
    #[must_use]
    pub fn up(self) -> Option<Self> {
        match self {
            Self::Off => Some(Self::Assist),
            Self::Assist => Some(Self::Autonomous),
            Self::Autonomous => None,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Phase {
    type Err = NoPhase;

    fn from_str(text: &str) -> Result<Self, NoPhase> {
        let named = Self::ALL.into_iter().find(|phase| phase.name() == text);
        named.ok_or_else(|| NoPhase(text.to_owned()))
    }
}
