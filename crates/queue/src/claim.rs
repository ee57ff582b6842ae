//! Taking due jobs: in batches, lane by lane, from the low-water mark.
//!
//! A lane is one (queue, priority). Each is probed for its first due job, and the lanes are drawn from in the order of
//! their `run_at + priority × step`, so that low priority ages into its turn. A single probe over all priorities would
//! scan every future job of the more urgent ones.
//!
//! Finished jobs leave dead entries in front of the live ones whenever an old snapshot keeps vacuum from removing them.
//! The claimers of a process therefore remember the first key of their last batch in each lane and start there. Rows behind that mark
//! (backdated, retried, committed late) are found by a full look from the beginning, as often as costs little.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    Fence, JobId, Priority,
    full_look::{self, FullLook},
    governed,
};

/// How long a job of the next lower priority waits before it counts as equally urgent.
pub(crate) const AGING_STEP_SECS: f64 = 60.0;

/// A job whose lease this process holds.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The job.
    pub id: JobId,
    /// The lease's number.
    pub fence: Fence,
    /// Its kind.
    pub kind: Arc<str>,
    /// What to do.
    pub payload: Box<RawValue>,
    /// The queue it was claimed from.
    pub queue: Arc<str>,
    /// For whom it runs.
    pub tenant: Option<Uuid>,
    /// The how-manieth execution this is, from 1.
    pub attempt: u16,
    /// How many attempts may fail.
    pub attempts_max: u16,
    /// How many have failed.
    pub failures: u16,
    /// The W3C trace context of its enqueueing.
    pub traceparent: Option<String>,
    /// It may have killed a worker: it runs with nothing beside it.
    pub suspect: bool,
    /// How long it had been due.
    pub waited: Duration,
}

/// Where a lane begins, as far as this claimer knows.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Mark(DateTime<Utc>, i64);

/// Before every job.
const BEGINNING: Mark = Mark(full_look::BEGINNING, 0);

/// The lanes of a queue, with what its claimers remember of them in common.
#[derive(Debug)]
pub(crate) struct Lanes {
    queue: Arc<str>,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    marks: [Mark; 4],
    full_look: FullLook,
    /// Whether the queue was governed when somebody last asked.
    governed: bool,
}

/// Who claims, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claimer {
    pub worker: i64,
    pub lease: Duration,
}

impl Lanes {
    pub(crate) fn new(queue: Arc<str>) -> Self {
        let memory = Memory { marks: [BEGINNING; 4], full_look: FullLook::due(), governed: false };
        Self { queue, memory: Mutex::new(memory) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no holder of this lock can panic")
    }

    /// Claims up to `limit` due jobs: lane by lane, or tenant by tenant where the queue is governed.
    ///
    /// Each claim gives nothing of a queue that the other one rules, so only an empty answer has to be asked about.
    pub(crate) async fn claim(
        &self,
        conn: &mut PgConnection,
        claimer: Claimer,
        limit: usize,
    ) -> Result<Vec<Claimed>, sqlx::Error> {
        loop {
            let was_governed = self.memory().governed;
            let rows = if was_governed {
                self.claim_governed(conn, claimer, limit).await?
            } else {
                self.claim_plain(conn, claimer, limit).await?
            };
            if rows.is_empty() {
                let governed = governed::is_governed(conn, &self.queue).await?;
                if governed != was_governed {
                    self.memory().change_sides(governed);
                    continue;
                }
            }
            return Ok(rows.into_iter().map(|row| row.into_claimed(&self.queue)).collect());
        }
    }

    async fn claim_plain(
        &self,
        conn: &mut PgConnection,
        claimer: Claimer,
        limit: usize,
    ) -> Result<Vec<Row>, sqlx::Error> {
        let (full, marks) = self.memory().begin();
        let began = Instant::now();
        let rows = draw(conn, &self.queue, &marks, claimer, limit).await?;
        self.memory().end(&rows, full.then(|| began.elapsed()));
        Ok(rows)
    }

    async fn claim_governed(
        &self,
        conn: &mut PgConnection,
        claimer: Claimer,
        limit: usize,
    ) -> Result<Vec<Row>, sqlx::Error> {
        if self.memory().full_look.begin() {
            let began = Instant::now();
            let full = governed::line_up(conn, &self.queue).await?;
            let mut memory = self.memory();
            // As long as there are more to line up, that is work and no look.
            memory.full_look = FullLook::due();
            if !full {
                memory.full_look.took(began.elapsed());
            }
        }
        governed::claim(conn, &self.queue, claimer, limit).await
    }

    /// Sets when the next full look is due.
    #[cfg(test)]
    pub(crate) fn look_from_the_beginning_in(&self, pause: Duration) {
        self.memory().full_look = FullLook::due_in(pause);
    }
}

impl Memory {
    /// On the other side everything is new.
    fn change_sides(&mut self, governed: bool) {
        *self = Self { marks: [BEGINNING; 4], full_look: FullLook::due(), governed };
    }

    /// Whether the next look is a full one, and where it begins in each lane.
    fn begin(&mut self) -> (bool, [Mark; 4]) {
        let full = self.full_look.begin();
        (full, if full { [BEGINNING; 4] } else { self.marks })
    }

    /// A batch's first key in a lane is where the lane begins now: whatever lay before it was claimed or is dead.
    fn end(&mut self, rows: &[Row], full_look_took: Option<Duration>) {
        if let Some(took) = full_look_took {
            self.full_look.took(took);
        }
        let mut firsts = [None; 4];
        for row in rows {
            let lane = usize::try_from(row.priority).expect("the check job_priority_known admits 0 to 3");
            let key = Mark(row.run_at, row.id);
            if firsts[lane].is_none_or(|first| key < first) {
                firsts[lane] = Some(key);
            }
        }
        for (mark, first) in self.marks.iter_mut().zip(firsts) {
            *mark = first.unwrap_or(*mark);
        }
    }
}

/// A job as a claim answers it.
pub(crate) struct Row {
    pub id: i64,
    pub fence: i64,
    pub kind: String,
    pub payload: Json<Box<RawValue>>,
    pub tenant: Option<Uuid>,
    pub priority: i16,
    pub attempt: i16,
    pub attempts_max: i16,
    pub failures: i16,
    pub traceparent: Option<String>,
    pub suspect: bool,
    pub run_at: DateTime<Utc>,
    pub waited_secs: f64,
}

impl Row {
    fn into_claimed(self, queue: &Arc<str>) -> Claimed {
        Claimed {
            id: JobId(self.id),
            fence: Fence(self.fence),
            kind: self.kind.into(),
            payload: self.payload.0,
            queue: queue.clone(),
            tenant: self.tenant,
            attempt: self.attempt.unsigned_abs(),
            attempts_max: self.attempts_max.unsigned_abs(),
            failures: self.failures.unsigned_abs(),
            traceparent: self.traceparent,
            suspect: self.suspect,
            waited: Duration::from_secs_f64(self.waited_secs.max(0.0)),
        }
    }
}

async fn draw(
    conn: &mut PgConnection,
    queue: &str,
    marks: &[Mark; 4],
    claimer: Claimer,
    limit: usize,
) -> Result<Vec<Row>, sqlx::Error> {
    let priorities = Priority::ALL.map(Priority::code);
    let times = marks.map(|mark| mark.0);
    let ids = marks.map(|mark| mark.1);
    sqlx::query_file_as!(
        Row,
        "src/claim.sql",
        queue,
        &priorities[..],
        &times[..],
        &ids[..],
        AGING_STEP_SECS,
        i64::try_from(limit).unwrap_or(i64::MAX),
        claimer.worker,
        claimer.lease.as_secs_f64()
    )
    .fetch_all(conn)
    .await
}

/// Claims the suspect that has been due longest, if there is one.
pub(crate) async fn claim_suspect(
    conn: &mut PgConnection,
    queue: &Arc<str>,
    claimer: Claimer,
) -> Result<Option<Claimed>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"-- queue.claim_suspect
        with picked as materialized (
            select id from queue.job
            where queue = $1 and state = 0 and suspect and run_at <= now()
              and not exists (select from queue.queue q where q.name = $1 and q.paused_at is not null)
              and not exists (select from queue.governed g where g.queue in ($1, '*') for share)
            order by run_at, id limit 1 for update skip locked
        )
        update queue.job j
        set state = 1, fence = nextval('queue.fence'), attempt = least(j.attempt, 32766) + 1, worker = $2, started_at = now(),
            lease_expires_at = now() + make_interval(secs => $3), checkpointed = false, reason = 0, note = null
        where j.id = any(array(select id from picked))
        returning j.id, j.fence, j.kind, j.payload as "payload: Json<Box<RawValue>>", j.tenant, j.priority, j.attempt,
            j.attempts_max, j.failures, j.traceparent, j.suspect, j.run_at,
            extract(epoch from now() - j.run_at)::float8 as "waited_secs!""#,
        &**queue,
        claimer.worker,
        claimer.lease.as_secs_f64()
    )
    .fetch_optional(&mut *conn)
    .await?;
    let row = match row {
        None => governed::claim_suspect(conn, queue, claimer).await?,
        row => row,
    };
    Ok(row.map(|row| row.into_claimed(queue)))
}

/// How long the oldest due suspect of the queue has been waiting among those that could run: the queue is open, and no cap
/// is in the way. A worker must not run dry for one that may not begin.
pub(crate) async fn oldest_suspect(
    conn: &mut PgConnection,
    queue: &str,
) -> Result<Option<Duration>, sqlx::Error> {
    let waited = sqlx::query_scalar!(
        r#"-- queue.oldest_suspect
        select extract(epoch from now() - run_at)::float8 as "waited!" from queue.job
        where queue = $1 and state = 0 and suspect and run_at <= now()
          and not exists (select from queue.queue q where q.name = $1 and q.paused_at is not null)
          and (not exists (select from queue.governed g where g.queue in ($1, '*'))
               or coalesce(least(queue.queue_room($1),
                   queue.tenant_room($1, coalesce(tenant, '00000000-0000-0000-0000-000000000000'))), 1) > 0)
        order by run_at limit 1"#,
        queue
    )
    .fetch_optional(conn)
    .await?;
    Ok(waited.map(|secs| Duration::from_secs_f64(secs.max(0.0))))
}
