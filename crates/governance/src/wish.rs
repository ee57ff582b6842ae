//! Changes that are wanted: what stands between a decision and its writeback.
//!
//! A person who accepts or corrects a case wants its values written, and so does the policy of an autonomous candidate.
//! Whether the target can take them is known only by reading it, and that is no part of the transaction in which the
//! word is given. So the wish is a row of that transaction, and a job plans it afterwards.
//!
//! Promises: a wish commits with the word that it rests on; one decision has one wish, and a wish comes to one writeback
//! or to a reason why there is none, once. A path that was off when the word was given never writes for it, whatever it
//! becomes later. What policy alone wants is about the record as it is now, by the version that the candidate was
//! promoted with and the evidence of now, and about nothing that a person has been asked.
//!
//! Refuses: to plan. That takes a look at the target; see [`crate::writeback`] for what follows.

mod enter;
mod errand;
mod find;
mod settle;
mod take_up;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::{
    enter::of_case,
    errand::{CORRECTION, Errand, Found, errand},
    find::{Wish, due, due_of_policy, find, taken_up},
    settle::{hold, planned, refuse},
    take_up::take_up,
};
use crate::{
    actor::ActorError, audit::AuditError, digest::NoDigest, path::PathError, policy::PolicyError,
    writeback::WritebackError,
};

/// A wish's number: that of its decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct WishId(pub i64);

impl fmt::Display for WishId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is no wish's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a wish is named by the number of its decision")]
pub struct NoWishId;

impl FromStr for WishId {
    type Err = NoWishId;

    fn from_str(text: &str) -> Result<Self, NoWishId> {
        text.parse().ok().filter(|id| *id > 0).map(Self).ok_or(NoWishId)
    }
}

// As text: JSON's readers lose digits of 64-bit numbers.
impl Serialize for WishId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WishId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What has become of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The path wrote nothing when the word was given: the word counts, and nothing is written.
    Off,
    /// It is to be planned.
    Due,
    /// It has its writeback.
    Planned,
    /// Nothing is written, for a reason that is kept with it.
    Refused,
}

impl State {
    /// Its name in rows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Due => "due",
            Self::Planned => "planned",
            Self::Refused => "refused",
        }
    }

    fn read(text: &str) -> Result<Self, WishError> {
        let all = [Self::Off, Self::Due, Self::Planned, Self::Refused];
        all.into_iter().find(|state| state.name() == text).ok_or(WishError::Stored("state"))
    }
}

/// Why a wish cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WishError {
    /// There is none.
    #[error("nothing is wanted of decision {0}")]
    NotFound(WishId),
    /// Policy alone wants it.
    #[error("the change of decision {0} is wanted already, by policy alone")]
    WantedAlready(WishId),
    /// It came to its end meanwhile.
    #[error("the wish of decision {0} is settled already")]
    Settled(WishId),
    /// What is stored is not what this program writes.
    #[error("the stored {0} is not what this program writes")]
    Stored(&'static str),
    /// The path's rules cannot be read.
    #[error(transparent)]
    Writeback(#[from] WritebackError),
    /// The path cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The path's policy cannot be read.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Who acts cannot be read.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// The chain could not be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The database refused or was lost.
    #[error("the wishes cannot be used")]
    Database(#[from] sqlx::Error),
}

impl From<NoDigest> for WishError {
    fn from(_: NoDigest) -> Self {
        Self::Stored("digest")
    }
}
