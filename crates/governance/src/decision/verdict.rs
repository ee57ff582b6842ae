//! The four verdicts.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What should happen with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Write the proposed value.
    Fix,
    /// Ask a person.
    Review,
    /// Let nothing be written to it.
    Block,
    /// Nothing.
    None,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fix, Self::Review, Self::Block, Self::None];

    /// As the database and the command line know it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fix => "fix",
            Self::Review => "review",
            Self::Block => "block",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Verdict {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == text).ok_or(())
    }
}
