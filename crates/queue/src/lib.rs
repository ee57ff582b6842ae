//! A durable, lease-based job queue on Postgres.
//!
//! A job is a row. A worker holds it under a *lease* that it renews; every attempt carries a *fence*, a number that only
//! rises, and every write about the job names it: an attempt that lost its lease writes nothing. Jobs run at least
//! once; an effect happens once where it is written in a transaction that checks the fence (see [`Attempt::confirm`]).
//!
//! The queue promises that a committed job is never lost, that a crashed worker's jobs run again (within about a second
//! when its socket dies, at latest when the lease ends), that failures are retried with exponential backoff and full
//! jitter, and that a job which keeps killing its worker is set aside. It knows no tenant rule and no kind of job: a
//! tenant is an opaque id to it, and it never looks into a payload.
//!
//! ```no_run
//! use queue::{Attempt, Done, Job, JobError, NewJob, Queue, Registry, Worker, WorkerOptions};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct SendMail { to: String }
//!
//! impl Job for SendMail {
//!     const KIND: &'static str = "send_mail";
//!     type Environment = ();
//!     async fn run(self, _attempt: Attempt, (): ()) -> Result<Done, JobError> {
//!         println!("to {}", self.to);
//!         Ok(Done::new())
//!     }
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options: sqlx::postgres::PgConnectOptions = "postgres:///mail".parse()?;
//! let queue = Queue::connect(options.clone(), 4).await?;
//! queue.install().await?;
//! queue.enqueue(NewJob::of(&SendMail { to: "ada@example.org".into() })?).await?;
//! let registry = Registry::new(()).with::<SendMail>();
//! Worker::start(options, registry, WorkerOptions::default()).await?.run_until_empty().await?;
//! # Ok(()) }
//! ```
//!
//! A larger runnable example is `examples/mailer.rs`.

mod acquit;
mod attempt;
mod backoff;
mod bell;
mod bulk;
mod cancel;
mod claim;
mod connection;
mod dependency;
mod enqueue;
mod explain;
mod finish;
mod forget;
mod freeze;
mod full_look;
mod governed;
mod history;
mod inspect;
mod intervention;
mod job;
mod lease;
mod limit;
mod measure;
mod outcome;
mod pause;
mod presence;
mod queue;
mod refusal;
mod release;
mod reprioritise;
mod rescue;
mod retry;
mod schedule;
mod snooze;
mod worker;

#[cfg(test)]
mod tests;

pub use attempt::{Attempt, Progress};
pub use backoff::Backoff;
pub use bell::Ring;
pub use bulk::{
    BulkAction, BulkError, BulkFilter, BulkOutcome, BulkPlan, BulkPreview, BulkProgress, BulkRefused,
};
pub use cancel::Cancelled;
pub use claim::Claimed;
pub use dependency::{
    DEPENDENCIES_IN_BULK_MAX, DEPENDENCIES_MAX, Dependencies, DependencyError, Parent, Parents, Related,
    Until,
};
pub use enqueue::{EnqueueError, Enqueued, PAYLOAD_BYTES_MAX};
pub use explain::{Explanation, Reason, Span};
pub use history::Retention;
pub use inspect::{AttemptRecord, JobFilter, JobRecord, QueueRecord, WorkerRecord};
pub use intervention::Intervention;
pub use job::{Fence, Job, JobId, NewJob, Priority, State, WaitReason};
pub use limit::{CapOn, Limit, LimitError, LimitName};
pub use measure::{HeldSnapshot, MeasureError, MeasureOptions, Measured, Percentiles, measure};
pub use outcome::{Done, FailureClass, FanOutTooLarge, JobError};
pub use queue::{Queue, QueueError};
pub use refusal::ChangeRefused;
pub use retry::RetryRefused;
pub use schedule::{
    BACKFILL_COUNTED_MAX, BACKFILL_MAX, Backfilled, CRON_CHARS_MAX, FireRecord, How, LATE_MAX, MISSED_MAX,
    MissedFires, NewSchedule, PREVIEW_MAX, ScheduleError, ScheduleFigures, ScheduleName, ScheduleRecord,
    Timetable, TimetableError, Upcoming,
};
pub use worker::{Registry, Worker, WorkerError, WorkerOptions};

/// The migrations of the schema `queue`, with their bookkeeping in that schema.
///
/// A host with migrations of its own may run them beside these: the two share no table.
#[must_use]
pub fn migrations() -> sqlx::migrate::Migrator {
    let mut migrator = sqlx::migrate!("../../migrations/queue");
    migrator.create_schema("queue");
    migrator.dangerous_set_table_name("queue.migration");
    migrator
}
