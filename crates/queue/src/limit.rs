//! Limits: how many jobs run at once, how often they start, and whose turn it is.
//!
//! A limit makes its queue *governed*: it is claimed through one function under one lock (see `governed`). A limit that
//! names no queue governs all of them. While there is none, nothing is paid for any.
//!
//! Limits are exact from the moment [`set`] returns: it waits until no plain claim is under way that has not seen them,
//! and counts what runs. A cap that is lowered ends nothing: no job begins until enough have ended.

use std::time::Duration;

use serde::Serialize;
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

mod settings;

pub(crate) use settings::{clear, list, set};

/// Stands for every queue.
const EVERY_QUEUE: &str = "*";

/// Whose jobs a cap counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CapOn {
    /// All jobs of the queue.
    Queue,
    /// Each tenant's, unless it has a cap of its own. Jobs without a tenant count as one more.
    EachTenant,
    /// This tenant's.
    Tenant(Uuid),
}

/// Names a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are those of `Limit`")]
pub enum LimitName {
    Cap { queue: Option<String>, on: CapOn },
    Rate { queue: Option<String>, key: String },
    Weight { tenant: Uuid },
    Fair { queue: String },
}

/// What holds jobs back beside priority and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "limit")]
pub enum Limit {
    /// At most so many run at once.
    Cap {
        /// The queue; without one, all queues counted together.
        queue: Option<String>,
        /// Whose jobs.
        on: CapOn,
        /// How many; at least 1.
        running_max: u32,
    },
    /// A token bucket for the jobs with a [`rate_key`](crate::NewJob::rate_key). In any span of length `w`, by the
    /// database's clock, at most `burst + w × starts / per` of them start: with a burst of 1, never more than `starts`
    /// in any `per`.
    Rate {
        /// The queue; without one, one bucket for all queues.
        queue: Option<String>,
        /// The jobs' key.
        key: String,
        /// How many; at least 1.
        starts: u32,
        /// In how long; at least a microsecond for each start.
        #[serde(rename = "per_secs", serialize_with = "as_secs")]
        per: Duration,
        /// How many may start at the same moment after a quiet time; at least 1. What a claim cannot start at once waits
        /// for its token, so a rate of hundreds a second needs a burst of some.
        burst: u32,
    },
    /// How many jobs the tenant may start in one round of a governed queue; 1 to 1,000, and 1 where nothing is said.
    Weight {
        /// The tenant.
        tenant: Uuid,
        /// Its jobs in a round.
        weight: u32,
    },
    /// Turns between tenants, even without any cap.
    Fair {
        /// The queue.
        queue: String,
    },
}

/// Why a limit was not set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// A limit of nothing would hold jobs back for ever.
    #[error("a {0} of 0 would let nothing run: to stop a queue, pause it")]
    Zero(&'static str),
    /// It is larger than the engine counts.
    #[error("a {what} of {value} is too large: at most {max} is taken")]
    TooLarge {
        /// Which number.
        what: &'static str,
        /// What was asked for.
        value: u64,
        /// The largest.
        max: u64,
    },
    /// More than one start in a microsecond, or less than one in a century.
    #[error("{starts} starts in {per:?} is no rate: give each start between a microsecond and 100 years")]
    Rate {
        /// Starts asked for.
        starts: u32,
        /// In this time.
        per: Duration,
    },
    /// A cap on everything.
    #[error("a cap needs a queue or a tenant: to bound everything, give the workers fewer slots")]
    Everything,
    /// The name stands for all queues.
    #[error("`*` is no queue's name: leave the queue out to mean every queue")]
    QueueName,
    /// The database did not take it.
    #[error("the limit could not be changed")]
    Database(#[from] sqlx::Error),
}

const COUNT_MAX: u32 = i32::MAX.unsigned_abs();
const WEIGHT_MAX: u32 = 1_000;
const PER_MAX: Duration = Duration::from_hours(100 * 365 * 24);

fn as_secs<S: serde::Serializer>(per: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(per.as_secs_f64())
}

impl Limit {
    /// Its name, by which it is cleared.
    #[must_use]
    pub fn name(&self) -> LimitName {
        match self.clone() {
            Self::Cap { queue, on, .. } => LimitName::Cap { queue, on },
            Self::Rate { queue, key, .. } => LimitName::Rate { queue, key },
            Self::Weight { tenant, .. } => LimitName::Weight { tenant },
            Self::Fair { queue } => LimitName::Fair { queue },
        }
    }

    /// Whether it is a limit that could be set.
    ///
    /// # Errors
    /// All but [`LimitError::Database`].
    pub fn check(&self) -> Result<(), LimitError> {
        match self {
            Self::Cap { queue: None, on: CapOn::Queue, .. } => return Err(LimitError::Everything),
            Self::Cap { running_max, .. } => in_bounds("cap", *running_max, COUNT_MAX)?,
            Self::Rate { starts, per, burst, .. } => {
                in_bounds("rate", *starts, COUNT_MAX)?;
                in_bounds("burst", *burst, COUNT_MAX)?;
                spacing(*starts, *per)?;
            }
            Self::Weight { weight, .. } => in_bounds("weight", *weight, WEIGHT_MAX)?,
            Self::Fair { .. } => {}
        }
        match self.name().queue() {
            Some(EVERY_QUEUE) => Err(LimitError::QueueName),
            _ => Ok(()),
        }
    }
}

impl LimitName {
    /// The queue that it names.
    #[must_use]
    pub fn queue(&self) -> Option<&str> {
        match self {
            Self::Cap { queue, .. } | Self::Rate { queue, .. } => queue.as_deref(),
            Self::Fair { queue } => Some(queue),
            Self::Weight { .. } => None,
        }
    }
}

fn in_bounds(what: &'static str, value: u32, max: u32) -> Result<(), LimitError> {
    match value {
        0 => Err(LimitError::Zero(what)),
        value if value > max => Err(LimitError::TooLarge { what, value: value.into(), max: max.into() }),
        _ => Ok(()),
    }
}

/// The time between two starts, rounded up: a rate is never exceeded by rounding.
fn spacing(starts: u32, per: Duration) -> Result<PgInterval, LimitError> {
    let refused = LimitError::Rate { starts, per };
    if per > PER_MAX || per.as_micros() < u128::from(starts) {
        return Err(refused);
    }
    i64::try_from(per.as_micros().div_ceil(u128::from(starts))).map(micros).map_err(|_| refused)
}

fn micros(microseconds: i64) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds }
}
