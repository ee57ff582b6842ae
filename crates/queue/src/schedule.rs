//! Schedules: jobs that are enqueued at the times a cron line names in a time zone.
//!
//! There is no leader. Any worker may give a schedule its fires: it locks the schedule's row, inserts the fires, whose
//! key is (schedule, fire time), and their jobs, and moves the schedule on, in one transaction. A worker that is killed
//! anywhere leaves all of that or nothing, so that each fire time is enqueued once; the job then runs at least once, as
//! any other.
//!
//! The rules, each with its test:
//! - **Summer time**: see [`Timetable`].
//! - **Fire times that no worker saw**: see [`MissedFires`] and [`LATE_MAX`].
//! - **The clock** is the database's. Fire times are considered in order and only once: set back, the clock repeats
//!   none; set forward, what it jumped over was missed.
//! - **A pause is no gap**: fire times that pass while a schedule is paused are given nothing when it is resumed.
//! - **A change** of the cron line or the zone counts from the moment of the change: what the old line had not been given
//!   yet is dropped. A change of anything else keeps the fire times. Jobs that were enqueued stay as they are.
//! - **Jitter** moves a job, not its fire: the job's `run_at` is the fire time plus a share of the window that depends on
//!   the schedule's name and tenant only, the same every night.
//! - **A schedule that cannot fire** keeps its fault for everybody to read, is tried again after a few minutes, and stops
//!   no other.
//!
//! A job learns of its fire time from [`Attempt::fire_at`](crate::Attempt::fire_at). Fires are forgotten with the history
//! of their jobs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{EnqueueError, Intervention, JobId, NewJob, Queue};

pub(crate) mod fire;
mod look;
mod missed;
mod operate;
mod put;
mod timetable;

pub use self::{
    missed::{How, LATE_MAX, MISSED_MAX, MissedFires},
    timetable::{CRON_CHARS_MAX, Timetable, TimetableError, Upcoming},
};

/// The most fires of one backfill: each is a job, enqueued in one transaction.
pub const BACKFILL_MAX: usize = 10_000;

/// How far the fires of a refused backfill are counted.
pub const BACKFILL_COUNTED_MAX: usize = 100_000;

/// The most fires of one preview.
pub const PREVIEW_MAX: usize = 1_000;

/// Which schedule is meant: a name is unique per tenant, and among those of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleName {
    /// Whose it is; none: the platform's.
    pub tenant: Option<Uuid>,
    /// What it is called.
    pub name: String,
}

impl std::fmt::Display for ScheduleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// A schedule to be created or to take another's place.
#[derive(Debug, Clone)]
pub struct NewSchedule {
    name: String,
    timetable: Timetable,
    missed: MissedFires,
    jitter: Duration,
    job: NewJob,
}

impl NewSchedule {
    /// A schedule that enqueues this job. It belongs to the job's tenant; the job's `run_at` and trace are not used.
    ///
    /// A job with a unique key keeps fires from piling up: while one is live, further fires answer with it.
    #[must_use]
    pub fn new(name: impl Into<String>, timetable: Timetable, job: NewJob) -> Self {
        Self { name: name.into(), timetable, missed: MissedFires::default(), jitter: Duration::ZERO, job }
    }

    /// Its name and whose it is.
    #[must_use]
    pub fn name(&self) -> ScheduleName {
        ScheduleName { tenant: self.job.tenant, name: self.name.clone() }
    }

    /// When it fires.
    #[must_use]
    pub fn timetable(&self) -> &Timetable {
        &self.timetable
    }

    /// What it enqueues.
    #[must_use]
    pub fn job(&self) -> &NewJob {
        &self.job
    }

    /// Sets what is done about fire times that no worker saw.
    #[must_use]
    pub fn missed(mut self, missed: MissedFires) -> Self {
        self.missed = missed;
        self
    }

    /// Sets the window over which jobs are spread, in whole seconds; at most the shortest time between two fires.
    #[must_use]
    pub fn jitter(mut self, window: Duration) -> Self {
        self.jitter = window;
        self
    }
}

/// A schedule as an operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns carry their names; their meaning is in the migration")]
pub struct ScheduleRecord {
    pub name: String,
    pub tenant: Option<Uuid>,
    pub cron: String,
    /// The cron line in plain English.
    pub cron_in_words: String,
    pub zone: String,
    pub kind: String,
    pub queue: String,
    pub payload: serde_json::Value,
    pub priority: i16,
    pub attempts_max: i16,
    pub unique_key: Option<String>,
    pub missed: &'static str,
    pub missed_max: i32,
    pub jitter_secs: i32,
    /// This schedule's share of the jitter: how long after its fire time a job may run.
    pub offset_secs: f64,
    pub next_fire_at: Option<DateTime<Utc>>,
    pub last_fire_at: Option<DateTime<Utc>>,
    pub last_job: Option<JobId>,
    pub missed_total: i64,
    pub fault: Option<String>,
    pub paused_at: Option<DateTime<Utc>>,
    pub paused_by: Option<String>,
    pub pause_reason: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// One fire of a schedule.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns carry their names; their meaning is in the migration")]
pub struct FireRecord {
    pub fire_at: DateTime<Utc>,
    pub inserted_at: DateTime<Utc>,
    pub job: Option<JobId>,
    pub how: How,
}

/// How the schedules stand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScheduleFigures {
    /// How long the schedule that is due longest has been so, without having fired; seconds.
    pub lag_secs: f64,
    /// Schedules that could not fire when they were last tried.
    pub faulty: i64,
}

/// What became of a range of fire times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backfilled {
    /// The fire times that were, or in a dry run would be, enqueued.
    pub fires: Vec<DateTime<Utc>>,
    /// How many fire times of the range had been given a job before.
    pub existing: usize,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The cron line or the zone.
    #[error(transparent)]
    Timetable(#[from] TimetableError),
    /// There is no such schedule.
    #[error("there is no schedule {0}")]
    NotFound(ScheduleName),
    /// The name is empty, too long or has control characters.
    #[error("a schedule's name has 1 to 200 characters and no control characters")]
    BadName,
    /// Jobs would be spread past the next fire.
    #[error(
        "a jitter of {jitter_secs} s is longer than the shortest time between two fires, {interval_secs} s: choose a window of at most that"
    )]
    JitterTooLong {
        /// The window asked for.
        jitter_secs: u64,
        /// The most there is.
        interval_secs: i64,
    },
    /// The window has a fraction of a second.
    #[error("a jitter window is a whole number of seconds")]
    JitterNotWhole,
    /// Every fire's job stands alone.
    #[error("a schedule's job cannot wait for other jobs: let it enqueue them as its follow-ups")]
    JobWaits,
    /// More missed fires would be made up for at once than may be.
    #[error("at most {MISSED_MAX} missed fires are made up for at once, not {0}")]
    TooManyMissed(u16),
    /// The range ends before it begins, or has no fire time.
    #[error("there is no fire time of {schedule} from {from} to before {to}")]
    EmptyRange {
        /// The schedule.
        schedule: ScheduleName,
        /// The first instant of the range.
        from: DateTime<Utc>,
        /// The first instant after the range.
        to: DateTime<Utc>,
    },
    /// The range reaches past the present.
    #[error("a backfill ends at the present, {now}: fire times to come get their fires when they are due")]
    InFuture {
        /// The database's time.
        now: DateTime<Utc>,
    },
    /// The range has more fire times than one backfill takes.
    #[error(
        "the range has {}{count} fire times; one backfill takes at most {BACKFILL_MAX}: split the range", if *.more { "more than " } else { "" }
    )]
    TooManyFires {
        /// How many there are.
        count: usize,
        /// Whether there are more than were counted.
        more: bool,
    },
    /// The job cannot be enqueued, or the database failed.
    #[error(transparent)]
    Job(EnqueueError),
    /// The database failed.
    #[error("the queue's database failed")]
    Database(#[from] sqlx::Error),
}

impl From<EnqueueError> for ScheduleError {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Database(error) => Self::Database(error),
            other => Self::Job(other),
        }
    }
}

impl Queue {
    /// See [`Intervention::put_schedule`].
    pub async fn put_schedule(&self, schedule: &NewSchedule) -> Result<bool, ScheduleError> {
        let mut intervention = self.intervene().await?;
        let replaced = intervention.put_schedule(schedule).await?;
        intervention.commit().await?;
        Ok(replaced)
    }

    /// Checks a schedule as [`put_schedule`](Self::put_schedule) does, and writes nothing.
    pub async fn check_schedule(&self, schedule: &NewSchedule) -> Result<bool, ScheduleError> {
        self.intervene().await?.put_schedule(schedule).await
    }

    /// The schedules of a tenant, or all of them, by name.
    pub async fn schedules(&self, tenant: Option<Uuid>) -> Result<Vec<ScheduleRecord>, sqlx::Error> {
        look::list(&mut *self.pool().acquire().await?, tenant).await
    }

    /// One schedule.
    pub async fn schedule(&self, name: &ScheduleName) -> Result<ScheduleRecord, ScheduleError> {
        look::get(&mut *self.pool().acquire().await?, name).await
    }

    /// The newest fires of a schedule, newest first.
    pub async fn fires(&self, name: &ScheduleName, limit: u16) -> Result<Vec<FireRecord>, ScheduleError> {
        look::fires(&mut *self.pool().acquire().await?, name, limit).await
    }

    /// The next fires of a schedule after an instant, at most [`PREVIEW_MAX`], whether or not it is paused.
    pub async fn next_fires(
        &self,
        name: &ScheduleName,
        after: Option<DateTime<Utc>>,
        count: usize,
    ) -> Result<Vec<Upcoming>, ScheduleError> {
        look::upcoming(&mut *self.pool().acquire().await?, name, after, count).await
    }

    /// The next fires that a schedule would have from now on, before it is created.
    pub async fn preview(
        &self,
        schedule: &NewSchedule,
        count: usize,
    ) -> Result<Vec<Upcoming>, ScheduleError> {
        let now = look::now(&mut *self.pool().acquire().await?).await?;
        let offset = fire::offset(schedule.job.tenant, &schedule.name, schedule.jitter.as_secs());
        Ok(look::preview(&schedule.timetable, now, offset, count))
    }

    /// See [`Intervention::pause_schedule`].
    pub async fn pause_schedule(
        &self,
        name: &ScheduleName,
        by: &str,
        reason: Option<&str>,
    ) -> Result<bool, ScheduleError> {
        let mut intervention = self.intervene().await?;
        let fired_before = intervention.pause_schedule(name, by, reason).await?;
        intervention.commit().await?;
        Ok(fired_before)
    }

    /// See [`Intervention::resume_schedule`].
    pub async fn resume_schedule(&self, name: &ScheduleName) -> Result<bool, ScheduleError> {
        let mut intervention = self.intervene().await?;
        let resumed = intervention.resume_schedule(name).await?;
        intervention.commit().await?;
        Ok(resumed)
    }

    /// See [`Intervention::delete_schedule`].
    pub async fn delete_schedule(&self, name: &ScheduleName) -> Result<(), ScheduleError> {
        let mut intervention = self.intervene().await?;
        intervention.delete_schedule(name).await?;
        Ok(intervention.commit().await?)
    }

    /// See [`Intervention::run_schedule`].
    pub async fn run_schedule(&self, name: &ScheduleName) -> Result<JobId, ScheduleError> {
        let mut intervention = self.intervene().await?;
        let job = intervention.run_schedule(name).await?;
        intervention.commit().await?;
        Ok(job)
    }

    /// See [`Intervention::backfill`]; a dry run writes nothing.
    pub async fn backfill(
        &self,
        name: &ScheduleName,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        dry_run: bool,
    ) -> Result<Backfilled, ScheduleError> {
        let mut intervention = self.intervene().await?;
        let backfilled = intervention.backfill(name, from, to).await?;
        if !dry_run {
            intervention.commit().await?;
        }
        Ok(backfilled)
    }

    /// How the schedules stand, for monitoring.
    pub async fn schedule_figures(&self) -> Result<ScheduleFigures, sqlx::Error> {
        fire::figures(&mut *self.pool().acquire().await?).await
    }
}

impl Intervention {
    /// Creates a schedule or replaces the one of the same name and tenant, and answers whether there was one.
    ///
    /// A schedule that is replaced stays paused if it was.
    pub async fn put_schedule(&mut self, schedule: &NewSchedule) -> Result<bool, ScheduleError> {
        put::put(self.connection(), schedule).await
    }

    /// Stops a schedule from firing and answers whether it did fire before.
    pub async fn pause_schedule(
        &mut self,
        name: &ScheduleName,
        by: &str,
        reason: Option<&str>,
    ) -> Result<bool, ScheduleError> {
        operate::pause(self.connection(), name, by, reason).await
    }

    /// Lets a schedule fire again, from now on, and answers whether it had been paused.
    pub async fn resume_schedule(&mut self, name: &ScheduleName) -> Result<bool, ScheduleError> {
        operate::resume(self.connection(), name).await
    }

    /// Deletes a schedule and the record of its fires. Jobs that it enqueued stay.
    pub async fn delete_schedule(&mut self, name: &ScheduleName) -> Result<(), ScheduleError> {
        operate::delete(self.connection(), name).await
    }

    /// Enqueues a schedule's job at once, beside its fire times and also when it is paused.
    pub async fn run_schedule(&mut self, name: &ScheduleName) -> Result<JobId, ScheduleError> {
        let (job, ring) = operate::run_now(self.connection(), name).await?;
        self.then_ring(ring);
        Ok(job)
    }

    /// Enqueues a job for each fire time from `from` to before `to` that was given none, all or nothing, at most
    /// [`BACKFILL_MAX`] and not past the present. The jobs may run at once, without jitter.
    ///
    /// What was fired is known as long as the history of the jobs is kept; older fire times are enqueued again.
    pub async fn backfill(
        &mut self,
        name: &ScheduleName,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Backfilled, ScheduleError> {
        let (backfilled, ring) = operate::backfill(self.connection(), name, from, to).await?;
        self.then_ring(ring);
        Ok(backfilled)
    }
}
