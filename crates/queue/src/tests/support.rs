//! What the engine's tests share: a database of their own, a kind whose work each test writes, a worker that runs, and a
//! worker that is played by hand.

use std::{future::Future, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use database::testing::TestDatabase;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection, PgPool, Row, postgres::PgConnectOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    Attempt, Backoff, Claimed, Done, FailureClass, Job, JobError, JobId, JobRecord, NewJob, Queue, Registry,
    State, Worker, WorkerOptions,
    claim::{Claimer, Lanes},
    connection,
    finish::{self, Ended},
    full_look,
    lease::{self, Beat},
    outcome::{AttemptOutcome, Failure, Outcome},
    presence::{self, Identity},
    rescue::LOCK_CLASS,
};

/// Far longer than anything here takes: a test that reaches it has failed.
pub(super) const GUARD: Duration = Duration::from_secs(20);

/// A database with the queue's schema, and a handle on it.
pub(super) struct Bench {
    pub db: TestDatabase,
    pub queue: Queue,
    pub pool: PgPool,
}

pub(super) async fn bench() -> Bench {
    bench_on(TestDatabase::migrated(&[&crate::migrations()]).await).await
}

pub(super) async fn bench_on(db: TestDatabase) -> Bench {
    let pool = db.pool(16).await;
    let queue = Queue::new(pool.clone());
    queue.prepare_history().await.unwrap();
    Bench { db, queue, pool }
}

impl Bench {
    /// A connection as the worker's hot statements have it.
    pub(super) async fn conn(&self) -> PgConnection {
        connection::open(&self.db.options()).await.unwrap()
    }

    /// Enqueues an [`Act`] of this name.
    pub(super) async fn enqueue(&self, name: &str) -> JobId {
        self.queue.enqueue(act(name)).await.unwrap().id
    }

    pub(super) async fn record(&self, id: JobId) -> JobRecord {
        self.queue.get(id).await.unwrap().unwrap_or_else(|| panic!("there is no job {id}"))
    }

    pub(super) async fn state(&self, id: JobId) -> State {
        self.record(id).await.state
    }

    /// Runs a statement of the test's own.
    pub(super) async fn sql(&self, statement: &'static str) -> u64 {
        sqlx::query(statement).execute(&self.pool).await.unwrap().rows_affected()
    }

    /// The database's time.
    pub(super) async fn now(&self) -> DateTime<Utc> {
        sqlx::query_scalar("select now()").fetch_one(&self.pool).await.unwrap()
    }

    pub(super) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }

    /// Lets the job's lease have ended.
    pub(super) async fn expire(&self, id: JobId) {
        sqlx::query(
            "update queue.job set lease_expires_at = now() - interval '1 ms' where id = $1 and state = 1",
        )
        .bind(id.0)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Waits until the job is in this state.
    pub(super) async fn await_state(&self, id: JobId, state: State) {
        until(async || self.state(id).await == state).await;
    }

    /// Starts a worker that plays the stage.
    pub(super) async fn start(&self, stage: Stage, options: WorkerOptions) -> Running {
        start_on(self.db.options(), stage, options).await
    }

    /// Runs the stage until the queue is empty.
    pub(super) async fn play(&self, stage: Stage) {
        let worker = Worker::start(self.db.options(), registry(stage), quick()).await.unwrap();
        tokio::time::timeout(GUARD, worker.run_until_empty()).await.expect("the queue empties").unwrap();
    }

    /// Takes back what has expired, as a worker's rescuer would with these workers known to be dead.
    pub(super) async fn rescue(&self, dead: &[i64]) -> Vec<crate::rescue::Rescued> {
        crate::rescue::rescue(&mut self.conn().await, dead, full_look::BEGINNING).await.unwrap()
    }
}

/// Asks again and again until the answer is yes. For effects of other processes and tasks, which send no signal.
pub(super) async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let patience = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(GUARD, patience).await.expect("it becomes so in time");
}

/// The same for a count, for use inside an act; a database that is down has not counted yet.
pub(super) async fn await_count(pool: &PgPool, query: &'static str, wanted: i64) {
    let patience = async {
        while sqlx::query_scalar::<_, i64>(query).fetch_one(pool).await.ok() != Some(wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(GUARD, patience).await.expect("it becomes so in time");
}

/// What comes at once, or else the test has failed.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, future).await.expect("it comes in time")
}

/// Looks for a third of a second, long enough for dozens of polls, whether what must not happen happens.
pub(super) async fn never(mut is_so: impl AsyncFnMut() -> bool) {
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        assert!(!is_so().await, "it happened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A job whose work is what the test's [`Stage`] says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Act {
    pub name: String,
}

type Play = dyn Fn(String, Attempt) -> BoxFuture<'static, Result<Done, JobError>> + Send + Sync;

/// What an [`Act`] of each name does.
#[derive(Clone)]
pub(super) struct Stage(Arc<Play>);

impl Stage {
    pub(super) fn new<F>(play: impl Fn(String, Attempt) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Done, JobError>> + Send + 'static,
    {
        Self(Arc::new(move |name, attempt| Box::pin(play(name, attempt))))
    }

    /// Every act succeeds at once.
    pub(super) fn of_success() -> Self {
        Self::new(async |_, _| Ok(Done::new()))
    }
}

impl Job for Act {
    const KIND: &'static str = "act";
    const BACKOFF: Backoff = Backoff { base: Duration::ZERO, cap: Duration::ZERO };
    type Environment = Stage;
    async fn run(self, attempt: Attempt, stage: Stage) -> Result<Done, JobError> {
        (stage.0)(self.name, attempt).await
    }
}

/// The same with a short timeout and a long backoff.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BriefAct(Act);

/// The bound of the first pause of a [`BriefAct`]: so long that no draw is over while a test goes on, but one in ten
/// thousand.
pub(super) const BRIEF_BACKOFF: Duration = Duration::from_hours(10);

impl BriefAct {
    pub(super) fn job(name: &str) -> NewJob {
        NewJob::of(&Self(Act { name: name.to_owned() })).unwrap()
    }
}

impl Job for BriefAct {
    const KIND: &'static str = "brief_act";
    const TIMEOUT: Duration = Duration::from_millis(50);
    const BACKOFF: Backoff = Backoff { base: BRIEF_BACKOFF, cap: Duration::from_hours(100) };
    type Environment = Stage;
    async fn run(self, attempt: Attempt, stage: Stage) -> Result<Done, JobError> {
        (stage.0)(self.0.name, attempt).await
    }
}

pub(super) fn act(name: &str) -> NewJob {
    NewJob::of(&Act { name: name.to_owned() }).unwrap()
}

pub(super) fn registry(stage: Stage) -> Registry<Stage> {
    Registry::new(stage).with::<Act>().with::<BriefAct>()
}

/// A worker that polls often, so that no test waits for it, and holds leases long enough for a slow machine.
pub(super) fn quick() -> WorkerOptions {
    WorkerOptions {
        slots: 4,
        lease: Duration::from_secs(6),
        heartbeat: Duration::from_secs(1),
        grace: Duration::from_secs(10),
        poll_max: Duration::from_millis(20),
        ..WorkerOptions::default()
    }
}

/// A worker at work.
pub(super) struct Running {
    pub id: i64,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub(super) async fn start_on(database: PgConnectOptions, stage: Stage, options: WorkerOptions) -> Running {
    let worker = Worker::start(database, registry(stage), options).await.unwrap();
    let stop = CancellationToken::new();
    let id = worker.id;
    let task = tokio::spawn(worker.run(stop.clone()));
    Running { id, stop, task }
}

impl Running {
    /// What SIGTERM does.
    pub(super) fn tell_to_stop(&self) {
        self.stop.cancel();
    }

    /// Tells it to stop and waits until it has.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(GUARD, self.task).await.expect("the worker stops").unwrap();
    }

    /// Drops the worker in the middle of everything, as a program that does not wait for it would.
    pub(super) async fn abandon(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// A worker played by hand: it does nothing but what the test says. It holds its lock until it dies.
pub(super) struct Hand {
    pub conn: PgConnection,
    pub claimer: Claimer,
    pub lanes: Lanes,
    lock: PgConnection,
}

impl Hand {
    pub(super) async fn new(bench: &Bench) -> Self {
        Self::of_queue(bench, "default").await
    }

    pub(super) async fn of_queue(bench: &Bench, queue: &str) -> Self {
        let mut conn = bench.conn().await;
        let who = Identity {
            name: uuid::Uuid::new_v4().to_string(),
            host: "here".to_owned(),
            pid: 1,
            version: "1".to_owned(),
            queues: vec![queue.to_owned()],
            kinds: vec!["act".to_owned()],
            slots: 1,
        };
        let worker = presence::register(&mut conn, &who).await.unwrap();
        let mut lock = bench.db.connect().await;
        sqlx::query("select pg_advisory_lock($1, $2)")
            .bind(LOCK_CLASS)
            .bind(i32::try_from(worker).unwrap())
            .execute(&mut lock)
            .await
            .unwrap();
        let claimer = Claimer { worker, lease: Duration::from_secs(30) };
        Self { conn, claimer, lanes: Lanes::new(queue.into()), lock }
    }

    pub(super) async fn claim(&mut self, limit: usize) -> Vec<Claimed> {
        self.lanes.claim(&mut self.conn, self.claimer, limit).await.unwrap()
    }

    /// Claims exactly one job.
    pub(super) async fn claim_one(&mut self) -> Claimed {
        let mut claimed = self.claim(1).await;
        claimed.pop().expect("a job is due")
    }

    /// Ends an attempt and answers whether that was written.
    pub(super) async fn end(&mut self, claimed: &Claimed, outcome: Outcome) -> bool {
        let settled = self.end_and_die(claimed, outcome).await;
        settled.dependents.let_go(&mut self.conn).await.unwrap();
        settled.lost.is_empty()
    }

    /// The same without what follows for those that wait.
    pub(super) async fn end_and_die(&mut self, claimed: &Claimed, outcome: Outcome) -> finish::Settled {
        let mut ended = [ended(claimed, self.claimer.worker, outcome)];
        finish::settle(&mut self.conn, &mut ended).await.unwrap()
    }

    /// Renews a lease and answers whether it stood.
    pub(super) async fn renew(&mut self, claimed: &Claimed) -> bool {
        let beat = Beat { id: claimed.id, fence: claimed.fence, checkpointed: false, progress: None };
        !lease::renew(&mut self.conn, self.claimer.lease, &[beat]).await.unwrap().is_empty()
    }

    /// Frees the lock, as the kernel does when a process has died.
    pub(super) async fn die(self) -> i64 {
        self.lock.close().await.unwrap();
        self.claimer.worker
    }
}

pub(super) fn ended(claimed: &Claimed, worker: i64, outcome: Outcome) -> Ended {
    Ended {
        id: claimed.id,
        fence: claimed.fence,
        worker,
        queue: claimed.queue.clone(),
        kind: claimed.kind.clone(),
        ran: Duration::ZERO,
        waited: claimed.waited,
        outcome,
    }
}

pub(super) fn failure(error: &str) -> Failure {
    Failure { how: AttemptOutcome::Failed, class: FailureClass::Transient, error: error.to_owned() }
}

/// Ends the sessions with this name in the bench's database and answers how many there were.
pub(super) async fn cut(bench: &Bench, application: &str) -> usize {
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where application_name = $1 and datname = current_database()",
    )
    .bind(application)
    .fetch_all(&bench.pool)
    .await
    .unwrap()
    .iter()
    .filter(|row| row.get::<bool, _>(0))
    .count()
}

/// The session that holds the worker's lock.
pub(super) async fn lock_holder(bench: &Bench, worker: i64) -> Option<i32> {
    sqlx::query_scalar(
        "select pid from pg_locks where locktype = 'advisory' and classid::bigint = $1 and objid::bigint = $2 and granted
            and database = (select oid from pg_database where datname = current_database())",
    )
    .bind(i64::from(LOCK_CLASS))
    .bind(worker)
    .fetch_optional(&bench.pool)
    .await
    .unwrap()
}

pub(super) async fn is_locked(bench: &Bench, worker: i64) -> bool {
    lock_holder(bench, worker).await.is_some()
}
