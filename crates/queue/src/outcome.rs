//! How an attempt ended: what a job returns, and what the engine does about it.

use std::{error::Error, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{DEPENDENCIES_MAX, NewJob, Parent, Until, WaitReason};

type Cause = Box<dyn Error + Send + Sync>;

/// A job that ended well, with what it leaves behind.
#[derive(Debug, Default)]
pub struct Done {
    pub(crate) output: Option<serde_json::Value>,
    pub(crate) follow_ups: Vec<NewJob>,
}

impl Done {
    /// Nothing but success.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a result with the finished job.
    #[must_use]
    pub fn output(mut self, output: serde_json::Value) -> Self {
        self.output = Some(output);
        self
    }

    /// Enqueues another job in the very statement that finishes this one: both happen or neither.
    ///
    /// A follow-up may [wait](NewJob::after): positions are those of the follow-ups of this job, in their order. Such
    /// follow-ups are written in the same transaction rather than the same statement.
    #[must_use]
    pub fn follow_up(mut self, job: NewJob) -> Self {
        self.follow_ups.push(job);
        self
    }

    /// Enqueues children in the transaction that finishes this job, and one job that waits for them all.
    ///
    /// `then` carries how far they have come as its progress, and `job get` leads to it from this job and back. A child
    /// whose unique key is taken is counted as the live job that has it: `then` waits for that one. Without children
    /// `then` is ready at once. One child that cannot be stored fails this job and enqueues none.
    pub fn fan_out(
        mut self,
        children: impl IntoIterator<Item = NewJob>,
        then: NewJob,
        until: Until,
    ) -> Result<Self, FanOutTooLarge> {
        let first = self.follow_ups.len();
        self.follow_ups.extend(children);
        let next = self.follow_ups.len();
        if next - first > DEPENDENCIES_MAX {
            return Err(FanOutTooLarge(next - first));
        }
        self.follow_ups.push(then.after((first..next).map(Parent::Position), until));
        Ok(self)
    }
}

/// A fan-out is one transaction, so it must have an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a job fans out into at most {DEPENDENCIES_MAX} children, and this would be {0}: let children fan out in their turn"
)]
pub struct FanOutTooLarge(pub usize);

impl From<FanOutTooLarge> for JobError {
    fn from(error: FanOutTooLarge) -> Self {
        Self::fail(error, FailureClass::Configuration)
    }
}

/// What kind of failure it was, which decides what may be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// It may work next time.
    Transient,
    /// A person has to change something first.
    Configuration,
    /// Somebody else changed what it wanted to change; blind repetition would do harm.
    Conflict,
    /// The input itself cannot be processed.
    Poison,
}

impl FailureClass {
    /// The name used in JSON, metrics and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Configuration => "configuration",
            Self::Conflict => "conflict",
            Self::Poison => "poison",
        }
    }
}

/// Why a job did not end well, chosen where the cause is known.
#[derive(Debug)]
pub struct JobError(pub(crate) Verdict);

#[derive(Debug)]
pub(crate) enum Verdict {
    Retry { cause: Cause, after: Option<Duration> },
    Fail { cause: Cause, class: FailureClass },
    Later { after: Duration, reason: WaitReason, note: String },
    Cancel { note: String },
    Fenced,
}

impl JobError {
    /// Try again after the kind's backoff; charged against the attempts.
    pub fn retry(cause: impl Into<Cause>) -> Self {
        Self(Verdict::Retry { cause: cause.into(), after: None })
    }

    /// Try again after this long; charged against the attempts.
    pub fn retry_after(cause: impl Into<Cause>, after: Duration) -> Self {
        Self(Verdict::Retry { cause: cause.into(), after: Some(after) })
    }

    /// Trying again is useless: the job rests as `failed` at once.
    pub fn fail(cause: impl Into<Cause>, class: FailureClass) -> Self {
        Self(Verdict::Fail { cause: cause.into(), class })
    }

    /// Go on later, for a reason of the job's own; not charged.
    pub fn snooze(after: Duration, note: impl Into<String>) -> Self {
        Self(Verdict::Later { after, reason: WaitReason::Snoozed, note: note.into() })
    }

    /// The other side asked for a pause: the slot is given back meanwhile; not charged.
    pub fn throttled(after: Duration, note: impl Into<String>) -> Self {
        Self(Verdict::Later { after, reason: WaitReason::Throttled, note: note.into() })
    }

    /// A person has to agree first: the slot is given back, and the job looks again after this long; not charged.
    pub fn await_approval(after: Duration, note: impl Into<String>) -> Self {
        Self(Verdict::Later { after, reason: WaitReason::Approval, note: note.into() })
    }

    /// The worker is stopping and the job has put its progress in order: claimable again at once; not charged.
    #[must_use]
    pub fn hand_back() -> Self {
        Self(Verdict::Later { after: Duration::ZERO, reason: WaitReason::HandedBack, note: String::new() })
    }

    /// The job is no longer wanted.
    pub fn cancel(note: impl Into<String>) -> Self {
        Self(Verdict::Cancel { note: note.into() })
    }

    /// A newer attempt has taken over: leave without a word.
    #[must_use]
    pub fn fenced() -> Self {
        Self(Verdict::Fenced)
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Verdict::Retry { cause, .. } | Verdict::Fail { cause, .. } => f.write_str(&chain(cause.as_ref())),
            Verdict::Later { note, .. } | Verdict::Cancel { note } => f.write_str(note),
            Verdict::Fenced => f.write_str("a newer attempt has taken over"),
        }
    }
}

/// An error with all its sources, outermost first.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// An ended attempt on its way to the database.
#[derive(Debug)]
pub(crate) enum Outcome {
    Succeeded(Done),
    /// Terminal, with the attempt's own record unless the failure was only a wish to stop.
    Failed(Failure),
    /// Charged, and ready again after the delay.
    Retry {
        failure: Failure,
        after: Duration,
    },
    /// Not charged, and ready again after the delay.
    Later {
        after: Duration,
        reason: WaitReason,
        note: String,
    },
    Cancelled {
        note: String,
    },
    /// Nothing to say: the lease is somebody else's.
    Fenced,
}

impl Outcome {
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Failed(_) => "failed",
            Self::Retry { .. } => "retried",
            Self::Later { reason: WaitReason::Throttled, .. } => "throttled",
            Self::Later { reason: WaitReason::HandedBack, .. } => "handed_back",
            Self::Later { reason: WaitReason::Approval, .. } => "awaiting_approval",
            Self::Later { .. } => "snoozed",
            Self::Cancelled { .. } => "cancelled",
            Self::Fenced => "fenced",
        }
    }
}

/// What the attempt's record will say.
#[derive(Debug)]
pub(crate) struct Failure {
    pub how: AttemptOutcome,
    pub class: FailureClass,
    pub error: String,
}

/// Codes of `queue.attempt.outcome` that workers write; lost and crashed attempts are written by the rescue's SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttemptOutcome {
    Failed = 1,
    TimedOut = 2,
    Panicked = 3,
}

impl AttemptOutcome {
    pub(crate) fn code(self) -> i16 {
        self as i16
    }

    pub(crate) fn name(code: i16) -> &'static str {
        match code {
            1 => "failed",
            2 => "timed_out",
            3 => "panicked",
            4 => "lost",
            5 => "crashed",
            6 => "cancelled",
            _ => unreachable!("the check attempt_outcome_known admits 1 to 6"),
        }
    }
}
