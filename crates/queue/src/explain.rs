//! Why a job is not running: one reason out of a closed list, with its evidence and the time before which nothing changes
//! by itself.
//!
//! The answer is made by the SQL functions `queue.explain` and `queue.timeline`, which anybody with a database client can
//! ask as well; here they only get types and sentences.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;

use crate::{JobId, State};

/// Why a live job is not running, or who runs it. In the order of precedence: of several, the first is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It kept killing its worker; an operator has to release it.
    Quarantined,
    /// A worker holds its lease.
    LeaseHeld,
    /// All jobs of its tenant are held back.
    TenantFrozen,
    /// Its queue is closed.
    QueuePaused,
    /// It waits for other jobs to end.
    WaitingOn,
    /// Its time has not come.
    Scheduled,
    /// An attempt failed or was lost; the next follows after a pause.
    RetryBackoff,
    /// The other side asked for a pause, or the rate of its key is used up.
    Throttled,
    /// It asked to go on later, or an operator did.
    Snoozed,
    /// A person has to agree first.
    AwaitingApproval,
    /// No living worker claims from its queue and knows its kind.
    NoLiveWorker,
    /// It was running when a worker died, and waits to run alone.
    Isolation,
    /// As many jobs run as a limit allows.
    CapFull,
    /// It is due, and others are served first; perhaps none, then it is next.
    Behind,
}

impl Reason {
    /// All of them, in the order of precedence.
    pub const ALL: [Self; 14] = [
        Self::Quarantined,
        Self::LeaseHeld,
        Self::TenantFrozen,
        Self::QueuePaused,
        Self::WaitingOn,
        Self::Scheduled,
        Self::RetryBackoff,
        Self::Throttled,
        Self::Snoozed,
        Self::AwaitingApproval,
        Self::NoLiveWorker,
        Self::Isolation,
        Self::CapFull,
        Self::Behind,
    ];
}

/// What the engine says of one job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The job.
    pub job: JobId,
    /// Its state.
    pub state: State,
    /// The one reason; none for a job that has ended.
    pub reason: Option<Reason>,
    /// Since when this reason holds, as far as that is known.
    pub since: Option<DateTime<Utc>>,
    /// Nothing changes by itself before this time; without it, it may change at any moment.
    pub until: Option<DateTime<Utc>>,
    /// The facts behind the reason; which ones depends on it.
    pub evidence: Value,
}

/// What kept a job for a while. Spans of one wait may overlap.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Span {
    /// Its beginning.
    pub since: DateTime<Utc>,
    /// Its end.
    pub until: DateTime<Utc>,
    /// A [`Reason`], or `running`.
    pub reason: String,
    /// The facts behind it.
    pub evidence: Value,
}

pub(crate) async fn explain(conn: &mut PgConnection, id: JobId) -> Result<Option<Explanation>, sqlx::Error> {
    let row = sqlx::query!(
        r#"-- queue.explain
        select state as "state!", reason, since, until, evidence as "evidence!" from queue.explain($1)"#,
        id.0
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(Explanation {
            job: id,
            state: named(&row.state)?,
            reason: row.reason.as_deref().map(named).transpose()?,
            since: row.since,
            until: row.until,
            evidence: row.evidence,
        })
    })
    .transpose()
}

/// A newer schema may know a name that this program does not.
fn named<T: serde::de::DeserializeOwned>(name: &str) -> Result<T, sqlx::Error> {
    serde_json::from_value(name.into()).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(crate) async fn timeline(conn: &mut PgConnection, id: JobId) -> Result<Vec<Span>, sqlx::Error> {
    sqlx::query_as!(
        Span,
        r#"-- queue.timeline
        select since as "since!", until as "until!", reason as "reason!", evidence as "evidence!" from queue.timeline($1)"#,
        id.0
    )
    .fetch_all(conn)
    .await
}

impl Explanation {
    fn fact(&self, name: &str) -> Option<String> {
        match self.evidence.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// A fact with words before it, or nothing.
    fn with(&self, words: &str, name: &str) -> String {
        self.fact(name)
            .filter(|fact| !fact.is_empty())
            .map(|fact| format!("{words}{fact}"))
            .unwrap_or_default()
    }

    fn ahead(&self) -> String {
        let more = if self.fact("more").as_deref() == Some("true") { "more than " } else { "" };
        match self.fact("ahead").as_deref() {
            None | Some("0") => "it is next: no due job stands before it".to_owned(),
            Some("1") => "one job stands before it".to_owned(),
            Some(count) => format!("{more}{count} jobs stand before it"),
        }
    }
}

/// One sentence for people, without the times.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(reason) = self.reason else {
            return write!(f, "it has ended: {}{}", self.state, self.with(", ", "note"));
        };
        match reason {
            Reason::Quarantined => {
                let why = self.with(": ", "note");
                write!(f, "it is quarantined{why}; only `job release` runs it again")
            }
            Reason::LeaseHeld => write!(f, "it is running{}", self.with(" on worker ", "worker")),
            Reason::TenantFrozen => {
                write!(f, "its tenant is frozen{}{}", self.with(" by ", "by"), self.with(": ", "why"))
            }
            Reason::WaitingOn => write!(f, "it waits for other jobs to end{}", self.with(": ", "count")),
            Reason::QueuePaused => {
                write!(f, "its queue is paused{}{}", self.with(" by ", "by"), self.with(": ", "why"))
            }
            Reason::Scheduled => f.write_str("its time has not come"),
            Reason::RetryBackoff => write!(f, "it is tried again after a pause{}", self.with(": ", "note")),
            Reason::Throttled => write!(f, "it was asked to wait{}", self.with(": ", "note")),
            Reason::Snoozed => write!(f, "it goes on later{}", self.with(": ", "note")),
            Reason::AwaitingApproval => write!(f, "a person has to agree first{}", self.with(": ", "note")),
            Reason::NoLiveWorker => {
                let (queue, kind) =
                    (self.with(" from queue ", "queue"), self.with(" for jobs of kind ", "kind"));
                write!(f, "no living worker claims{queue}{kind}")
            }
            Reason::Isolation => f.write_str("it ran when a worker died, and waits to run alone"),
            Reason::CapFull => {
                let of_queue = self.with(" in the queue ", "queue");
                let of_tenant = self.with(" for the tenant ", "tenant");
                write!(f, "as many run as are allowed{of_queue}{of_tenant}{}", self.with(": ", "allowed"))
            }
            Reason::Behind => {
                let free = self.with(", free slots: ", "free_slots");
                write!(
                    f,
                    "{}; living workers: {}{free}",
                    self.ahead(),
                    self.fact("workers").unwrap_or_default()
                )
            }
        }
    }
}
