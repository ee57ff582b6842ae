//! What a job is: its identity, its type, its states.

use std::{fmt, future::Future, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{Attempt, Backoff, Done, JobError, Parent, Until};

/// Names a job for its whole life, in the live table and in history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// 64-bit ids are text in JSON: a reader with 53-bit numbers would round them.
impl Serialize for JobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is not a job's id")))
    }
}

/// The number of one attempt's lease. Of two attempts of a job, the later one has the larger fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence(pub i64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which job is drawn first among those that are due. A lower one ages into its turn, so that none starves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before everything else.
    Urgent = 0,
    /// Before normal work.
    High = 1,
    /// What a job has that asks for nothing.
    #[default]
    Normal = 2,
    /// When nothing else is due, or when it has waited long enough.
    Low = 3,
}

impl Priority {
    pub(crate) const ALL: [Self; 4] = [Self::Urgent, Self::High, Self::Normal, Self::Low];

    pub(crate) fn code(self) -> i16 {
        self as i16
    }

    /// The name used in JSON and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// A state of a job, live (the first four) or finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It may be claimed from `run_at` on.
    Ready,
    /// A worker holds its lease.
    Running,
    /// It waits for something named and cannot be claimed.
    Waiting,
    /// It kept killing its worker; only an operator's word runs it again.
    Quarantined,
    /// It ended well.
    Succeeded,
    /// Its attempts are used up, or it said that trying again is useless.
    Failed,
    /// It was called off.
    Cancelled,
}

impl State {
    pub(crate) const ALL: [Self; 7] = [
        Self::Ready,
        Self::Running,
        Self::Waiting,
        Self::Quarantined,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The code in its table.
    pub(crate) fn code(self) -> i16 {
        match self {
            Self::Ready => 0,
            Self::Running | Self::Succeeded => 1,
            Self::Waiting | Self::Failed => 2,
            Self::Quarantined | Self::Cancelled => 3,
        }
    }

    pub(crate) fn live(code: i16) -> Self {
        match code {
            0 => Self::Ready,
            1 => Self::Running,
            2 => Self::Waiting,
            3 => Self::Quarantined,
            _ => unreachable!("the check job_state_known admits 0 to 3"),
        }
    }

    pub(crate) fn finished(code: i16) -> Self {
        match code {
            1 => Self::Succeeded,
            2 => Self::Failed,
            3 => Self::Cancelled,
            _ => unreachable!("the check job_history_outcome_known admits 1 to 3"),
        }
    }

    /// Whether the job has come to rest and only an operator's retry could move it.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The name used in JSON, metrics and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Quarantined => "quarantined",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a ready job's `run_at` lies where it lies, or what a waiting one waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// Nothing holds it back but its `run_at`.
    None = 0,
    /// An attempt failed; the next follows after a backoff.
    Backoff = 1,
    /// The other side asked for a pause.
    Throttled = 2,
    /// The job, or an operator, asked that it go on later.
    Snoozed = 3,
    /// Its worker was told to stop.
    HandedBack = 4,
    /// The worker that claimed it does not know its kind.
    NoHandler = 5,
    /// Its worker was lost.
    Lost = 6,
    /// Jobs for which it waits have not ended.
    Dependency = 7,
    /// Its tenant's jobs are frozen.
    Frozen = 8,
    /// A person has to agree first.
    Approval = 9,
    /// The rate of its key is used up.
    RateLimited = 10,
}

impl WaitReason {
    pub(crate) fn code(self) -> i16 {
        self as i16
    }

    pub(crate) fn of(code: i16) -> Self {
        match code {
            1 => Self::Backoff,
            2 => Self::Throttled,
            3 => Self::Snoozed,
            4 => Self::HandedBack,
            5 => Self::NoHandler,
            6 => Self::Lost,
            7 => Self::Dependency,
            8 => Self::Frozen,
            9 => Self::Approval,
            10 => Self::RateLimited,
            _ => Self::None,
        }
    }
}

/// A type of job: its payload is the struct, its work is [`run`](Job::run).
///
/// `run` may be called more than once for one job (a worker may die in the middle of it), never twice at the same time
/// with both calls able to write: what it does must check the fence or be harmless when repeated.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The kind's name, unique in a [`Registry`](crate::Registry).
    const KIND: &'static str;
    /// How often it may fail before it rests as `failed`.
    const ATTEMPTS_MAX: u16 = 3;
    /// How long one attempt may take; then it ends as timed out, which counts as a failure.
    const TIMEOUT: Duration = Duration::from_hours(1);
    /// The pause between a failure and the next attempt.
    const BACKOFF: Backoff = Backoff::DEFAULT;
    /// What a job of this kind has unless its enqueuer says otherwise.
    const PRIORITY: Priority = Priority::Normal;

    /// What the work may use: clients, pools, settings. One value per worker, cloned for each attempt.
    type Environment: Clone + Send + Sync + 'static;

    /// Does the work.
    fn run(
        self,
        attempt: Attempt,
        environment: Self::Environment,
    ) -> impl Future<Output = Result<Done, JobError>> + Send;
}

/// The queue of a job that names none.
pub(crate) const DEFAULT_QUEUE: &str = "default";

/// A job to be enqueued.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub(crate) kind: String,
    pub(crate) payload: Box<serde_json::value::RawValue>,
    pub(crate) queue: String,
    pub(crate) tenant: Option<Uuid>,
    pub(crate) priority: Priority,
    pub(crate) attempts_max: u16,
    pub(crate) run_at: Option<DateTime<Utc>>,
    pub(crate) unique_key: Option<String>,
    pub(crate) rate_key: Option<String>,
    pub(crate) traceparent: Option<String>,
    pub(crate) after: Vec<(Parent, Until)>,
}

impl NewJob {
    /// A job with its type's settings, due at once, in the queue `default`.
    pub fn of<J: Job>(job: &J) -> Result<Self, serde_json::Error> {
        Ok(Self::raw(J::KIND, serde_json::value::to_raw_value(job)?)
            .attempts_max(J::ATTEMPTS_MAX)
            .priority(J::PRIORITY))
    }

    /// A job whose type this program need not know. The payload is checked when the job runs.
    #[must_use]
    pub fn raw(kind: impl Into<String>, payload: Box<serde_json::value::RawValue>) -> Self {
        Self {
            kind: kind.into(),
            payload,
            queue: DEFAULT_QUEUE.to_owned(),
            tenant: None,
            priority: Priority::Normal,
            attempts_max: 3,
            run_at: None,
            unique_key: None,
            rate_key: None,
            traceparent: None,
            after: Vec::new(),
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The tenant that it is for.
    #[must_use]
    pub fn owner(&self) -> Option<Uuid> {
        self.tenant
    }

    /// Puts it into the queue of this name.
    #[must_use]
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queue = name.into();
        self
    }

    /// Says for whom it runs. The engine does not interpret the id.
    #[must_use]
    pub fn tenant(mut self, tenant: Uuid) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// Sets the priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets how often it may fail before it rests as `failed`; at least once.
    #[must_use]
    pub fn attempts_max(mut self, attempts_max: u16) -> Self {
        self.attempts_max = attempts_max.clamp(1, i16::MAX.unsigned_abs());
        self
    }

    /// Not before this time, by the database's clock.
    #[must_use]
    pub fn run_at(mut self, run_at: DateTime<Utc>) -> Self {
        self.run_at = Some(run_at);
        self
    }

    /// While a live job of the same kind has this key, enqueueing another answers with that job.
    #[must_use]
    pub fn unique_key(mut self, key: impl Into<String>) -> Self {
        self.unique_key = Some(key.into());
        self
    }

    /// It starts no more often than the rate of this key admits, if there is one (see [`Limit::Rate`](crate::Limit::Rate)).
    #[must_use]
    pub fn rate_key(mut self, key: impl Into<String>) -> Self {
        self.rate_key = Some(key.into());
        self
    }

    /// The W3C trace context in which it was enqueued.
    #[must_use]
    pub fn traceparent(mut self, traceparent: Option<String>) -> Self {
        self.traceparent = traceparent;
        self
    }

    /// Lets it wait for other jobs: for ones that exist, and for others of the same bulk. It waits for all that are
    /// named, in one call or in several; of one that is named twice the stricter word counts.
    ///
    /// What has ended already counts at once, so a job may be enqueued and fail in the same moment. What history holds
    /// no longer is not found, and neither is a job of another tenant; a job without a tenant may wait for any. Where
    /// its own unique key is taken the job that has it goes on as it is and waits for nothing more.
    #[must_use]
    pub fn after<P: Into<Parent>>(mut self, parents: impl IntoIterator<Item = P>, until: Until) -> Self {
        self.after.extend(parents.into_iter().map(|parent| (parent.into(), until)));
        self
    }

    /// The payload's JSON.
    #[must_use]
    pub fn payload(&self) -> &str {
        self.payload.get()
    }
}
