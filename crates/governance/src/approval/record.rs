//! An approval as it stands.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use crate::{actor::ActorId, digest::Digest, gate::ActionClass};

/// An approval's number in its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApprovalId(pub i64);

/// The text is no number of an approval.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an approval is named by its number, such as 12")]
pub struct NoApproval;

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ApprovalId {
    type Err = NoApproval;

    fn from_str(text: &str) -> Result<Self, NoApproval> {
        text.parse().map(Self).map_err(|_| NoApproval)
    }
}

/// As text: not every JSON reader keeps 64 bits.
impl Serialize for ApprovalId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It lacks persons' yeses.
    Open,
    /// It has them, and they are fresh.
    Approved,
    /// Somebody said no.
    Denied,
    /// It was taken back.
    Withdrawn,
    /// Its time was over.
    Lapsed,
    /// What it allowed has begun.
    Consumed,
}

impl State {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Withdrawn => "withdrawn",
            Self::Lapsed => "lapsed",
            Self::Consumed => "consumed",
        }
    }

    /// Whether anything can still become of it.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Open | Self::Approved)
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Open, Self::Approved, Self::Denied, Self::Withdrawn, Self::Lapsed, Self::Consumed]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A person's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Do it.
    Yes,
    /// Do not; ends the approval.
    No,
}

/// What one person decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Who.
    pub person: ActorId,
    /// What the person is called; none once erased.
    pub name: Option<String>,
    /// What.
    pub verdict: Verdict,
    /// The requester's own yes after the cooling-off.
    pub alone: bool,
    /// When, by the database's clock.
    pub given_at: DateTime<Utc>,
}

/// Why a requester may say yes after the cooling-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Alone {
    /// The database is in the mode of a single administrator.
    SingleAdmin,
    /// The switch into that mode is asked for, and nobody else was ever seen here.
    NobodyElse,
}

/// A request with all that became of it, by the database's clock at [`Approval::now`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// Its number.
    pub id: ApprovalId,
    /// The class of action.
    pub class: ActionClass,
    /// What the thing is called.
    pub name: String,
    /// What a yes is bound to: the SHA-256 of `content`.
    pub digest: Digest,
    /// Canonical JSON: tenant, action, targets, plan digest, validators, policy version, limits.
    pub content: String,
    /// Canonical JSON: what exactly is done.
    pub plan: String,
    /// Who asked.
    pub requested_by: ActorId,
    /// What that actor is called; none once erased.
    pub requested_by_name: Option<String>,
    /// The person behind it, or the same.
    pub requested_person: ActorId,
    /// What that person is called.
    pub requested_person_name: Option<String>,
    /// When, by the database's clock.
    pub requested_at: DateTime<Utc>,
    /// The job that waits for it.
    pub waiting_job: Option<i64>,
    /// How many persons must say yes.
    pub needed: i16,
    /// How many have who count.
    pub yeses: i64,
    /// Whether the requester's own yes counts after [`Approval::cooled_at`].
    pub alone: Option<Alone>,
    /// From when a requester alone may say yes.
    pub cooled_at: DateTime<Utc>,
    /// When the request lapses if it lacks yeses then.
    pub request_until: DateTime<Utc>,
    /// Until when there are enough fresh yeses.
    pub approved_until: Option<DateTime<Utc>>,
    /// Where it stands.
    pub state: State,
    /// When it ended; none for one whose end nobody has noticed yet.
    pub ended_at: Option<DateTime<Utc>>,
    /// Who ended it.
    pub ended_by: Option<ActorId>,
    /// What that actor is called.
    pub ended_by_name: Option<String>,
    /// The job that has begun what it allowed.
    pub consumed_by_job: Option<i64>,
    /// The database's time when this was read.
    pub now: DateTime<Utc>,
    /// What persons decided, the first first.
    pub decisions: Vec<Decision>,
}

impl Approval {
    /// When its time is over, unless something is decided.
    #[must_use]
    pub fn until(&self) -> DateTime<Utc> {
        self.approved_until.unwrap_or(self.request_until)
    }
}
