//! Looking at jobs, queues and workers without moving them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{JobId, State, WaitReason, outcome::AttemptOutcome};

/// A job as an operator sees it, live or finished.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns carry their names; their meaning is in the migration")]
pub struct JobRecord {
    pub id: JobId,
    pub kind: String,
    pub queue: String,
    pub state: State,
    pub tenant: Option<Uuid>,
    pub priority: i16,
    pub attempt: i16,
    pub attempts_max: i16,
    pub failures: i16,
    pub losses: i16,
    pub crashes: i16,
    pub fence: i64,
    pub reason: WaitReason,
    pub note: Option<String>,
    pub cancel_requested: bool,
    pub created_at: DateTime<Utc>,
    pub run_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub lease_expires_at: Option<DateTime<Utc>>,
    pub worker: Option<i64>,
    pub unique_key: Option<String>,
    pub progress: Option<serde_json::Value>,
    pub payload: serde_json::Value,
    pub output: Option<serde_json::Value>,
}

/// An attempt that did not succeed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns carry their names; their meaning is in the migration")]
pub struct AttemptRecord {
    pub number: i16,
    pub fence: i64,
    pub worker: Option<i64>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: DateTime<Utc>,
    pub outcome: &'static str,
    pub class: String,
    pub error: String,
}

/// A queue and what stands in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns carry their names")]
pub struct QueueRecord {
    pub name: String,
    pub paused_at: Option<DateTime<Utc>>,
    pub paused_by: Option<String>,
    pub pause_reason: Option<String>,
    /// It has a limit, or one for all queues binds it.
    pub governed: bool,
    /// The cap of the queue as a whole.
    pub running_max: Option<i32>,
    /// Ready and due.
    pub ready: i64,
    /// Ready at a later time.
    pub scheduled: i64,
    pub running: i64,
    pub waiting: i64,
    pub quarantined: i64,
    /// How long the job that is due longest has been so; seconds.
    pub oldest_ready_secs: Option<f64>,
}

/// A process that claims.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns carry their names")]
pub struct WorkerRecord {
    pub id: i64,
    pub name: String,
    pub host: String,
    pub pid: i32,
    pub version: String,
    pub queues: Vec<String>,
    pub slots: i32,
    pub running: i64,
    pub stopping: bool,
    pub started_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// Which jobs to list; what is not set does not narrow.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only this state.
    pub state: Option<State>,
    /// Only this queue.
    pub queue: Option<String>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this tenant.
    pub tenant: Option<Uuid>,
    /// Only jobs with smaller ids, for the next page.
    pub before: Option<JobId>,
}

struct Row {
    id: i64,
    kind: String,
    queue: String,
    state: i16,
    live: bool,
    tenant: Option<Uuid>,
    priority: i16,
    attempt: i16,
    attempts_max: i16,
    failures: i16,
    losses: i16,
    crashes: i16,
    fence: i64,
    reason: i16,
    note: Option<String>,
    cancel_requested: bool,
    created_at: DateTime<Utc>,
    run_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    lease_expires_at: Option<DateTime<Utc>>,
    worker: Option<i64>,
    unique_key: Option<String>,
    progress: Option<serde_json::Value>,
    payload: serde_json::Value,
    output: Option<serde_json::Value>,
}

impl From<Row> for JobRecord {
    fn from(row: Row) -> Self {
        Self {
            id: JobId(row.id),
            kind: row.kind,
            queue: row.queue,
            state: if row.live { State::live(row.state) } else { State::finished(row.state) },
            tenant: row.tenant,
            priority: row.priority,
            attempt: row.attempt,
            attempts_max: row.attempts_max,
            failures: row.failures,
            losses: row.losses,
            crashes: row.crashes,
            fence: row.fence,
            reason: WaitReason::of(row.reason),
            note: row.note,
            cancel_requested: row.cancel_requested,
            created_at: row.created_at,
            run_at: row.run_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            lease_expires_at: row.lease_expires_at,
            worker: row.worker,
            unique_key: row.unique_key,
            progress: row.progress,
            payload: row.payload,
            output: row.output,
        }
    }
}

/// The newest jobs that the filter admits, newest first.
pub(crate) async fn list(
    conn: &mut PgConnection,
    filter: &JobFilter,
    limit: i64,
) -> Result<Vec<JobRecord>, sqlx::Error> {
    let (live, finished) = match filter.state {
        None => (None, None),
        Some(State::Ready) => (Some(0), Some(-1)),
        Some(State::Running) => (Some(1), Some(-1)),
        Some(State::Waiting) => (Some(2), Some(-1)),
        Some(State::Quarantined) => (Some(3), Some(-1)),
        Some(State::Succeeded) => (Some(-1), Some(1)),
        Some(State::Failed) => (Some(-1), Some(2)),
        Some(State::Cancelled) => (Some(-1), Some(3)),
    };
    let rows = sqlx::query_file_as!(
        Row,
        "src/list.sql",
        filter.before.map(|id| id.0),
        filter.queue.as_deref(),
        filter.kind.as_deref(),
        filter.tenant,
        live,
        finished,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(JobRecord::from).collect())
}

pub(crate) async fn get(conn: &mut PgConnection, id: JobId) -> Result<Option<JobRecord>, sqlx::Error> {
    let next = JobId(id.0.saturating_add(1));
    let found = list(conn, &JobFilter { before: Some(next), ..JobFilter::default() }, 1).await?;
    Ok(found.into_iter().find(|job| job.id == id))
}

/// The attempts of a job that did not succeed, oldest first.
pub(crate) async fn attempts(conn: &mut PgConnection, id: JobId) -> Result<Vec<AttemptRecord>, sqlx::Error> {
    let rows = sqlx::query!(
        "-- queue.attempts
        select number, fence, worker, started_at, finished_at, outcome, class, error
        from queue.attempt where job = $1 order by fence",
        id.0
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| AttemptRecord {
            number: row.number,
            fence: row.fence,
            worker: row.worker,
            started_at: row.started_at,
            finished_at: row.finished_at,
            outcome: AttemptOutcome::name(row.outcome),
            class: row.class,
            error: row.error,
        })
        .collect())
}

pub(crate) async fn queues(conn: &mut PgConnection) -> Result<Vec<QueueRecord>, sqlx::Error> {
    sqlx::query_as!(
        QueueRecord,
        r#"-- queue.queues
        select coalesce(q.name, j.queue, g.queue) as "name!", q.paused_at, q.paused_by, q.pause_reason,
            (g.queue is not null or exists (select from queue.governed where queue = '*')) as "governed!",
            (select c.running_max from queue.cap c where c.queue = g.queue and c.tenant is null and not c.each_tenant),
            coalesce(j.ready, 0) as "ready!", coalesce(j.scheduled, 0) as "scheduled!",
            coalesce(j.running, 0) as "running!", coalesce(j.waiting, 0) as "waiting!",
            coalesce(j.quarantined, 0) as "quarantined!", j.oldest_ready_secs
        from queue.queue q full join (
            select queue,
                count(*) filter (where state = 0 and run_at <= now()) as ready,
                count(*) filter (where state = 0 and run_at > now()) as scheduled,
                count(*) filter (where state = 1) as running,
                count(*) filter (where state = 2) as waiting,
                count(*) filter (where state = 3) as quarantined,
                extract(epoch from max(now() - run_at) filter (where state = 0 and run_at <= now()))::float8
                    as oldest_ready_secs
            from queue.job group by queue
        ) j on j.queue = q.name
        full join (select queue from queue.governed where queue <> '*') g on g.queue = coalesce(q.name, j.queue)
        order by 1"#
    )
    .fetch_all(conn)
    .await
}

/// Living workers, and with `all` also those that ended.
pub(crate) async fn workers(conn: &mut PgConnection, all: bool) -> Result<Vec<WorkerRecord>, sqlx::Error> {
    sqlx::query_as!(
        WorkerRecord,
        r#"-- queue.workers
        select w.id, w.name, w.host, w.pid, w.version, w.queues, w.slots, w.stopping, w.started_at, w.last_seen_at,
            w.ended_at, (select count(*) from queue.job j where j.state = 1 and j.worker = w.id) as "running!"
        from queue.worker w where $1 or w.ended_at is null order by w.id desc limit 1000"#,
        all
    )
    .fetch_all(conn)
    .await
}
