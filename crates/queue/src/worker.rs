//! A process that claims jobs and runs them.
//!
//! One apalis worker per queue runs the handlers under one apalis monitor; around them stand tasks of our own: two
//! claimers per queue, the heartbeat, two flushers, the rescuer, the isolator for suspects, the scheduler, the sweeper of
//! dependencies, the keeper of history, and the presence connection. Each holds a database connection and waits out a
//! database that is down: nothing here ends because Postgres restarts.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{Span, info, warn};

use crate::{
    Retention,
    acquit::acquit,
    attempt::Orders,
    connection::{Dedicated, within},
    history,
    presence::{self, Identity, Presence, Wakes},
};

mod adapter;
mod assignment;
mod claimer;
mod flusher;
mod heartbeat;
mod held;
mod isolator;
mod keeper;
mod registry;
mod rescuer;
mod scheduler;
mod sweeper;

pub use registry::Registry;

use self::{
    assignment::Assignment, claimer::ClaimerTask, flusher::Flusher, held::Held, isolator::Isolator,
    registry::Dispatcher,
};

/// How a worker behaves.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The queues it claims from.
    pub queues: Vec<String>,
    /// How many jobs it runs at the same time, over all its queues.
    pub slots: usize,
    /// How long a claim is good for without renewal: how late a job may be taken back from a worker that hangs.
    pub lease: Duration,
    /// How often leases are renewed; at most a third of the lease.
    pub heartbeat: Duration,
    /// How long running jobs may go on after the worker was told to stop.
    pub grace: Duration,
    /// The longest pause between two looks for work.
    pub poll_max: Duration,
    /// How long finished jobs are kept.
    pub retention: Retention,
    /// The program's version, shown to operators.
    pub version: String,
    /// Connects an attempt's span to the trace in which its job was enqueued (its W3C trace context).
    pub on_attempt: fn(&Span, Option<&str>),
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            queues: vec![crate::job::DEFAULT_QUEUE.to_owned()],
            slots: 16,
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(10),
            grace: Duration::from_secs(25),
            poll_max: Duration::from_secs(1),
            retention: Retention::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            on_attempt: |_, _| {},
        }
    }
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// A lease must survive two lost heartbeats.
    #[error(
        "a lease of {lease:?} is shorter than three heartbeats of {heartbeat:?}: raise the lease or shorten the heartbeat"
    )]
    LeaseTooShort {
        /// The lease asked for.
        lease: Duration,
        /// The heartbeat asked for.
        heartbeat: Duration,
    },
    /// There must be something to run with.
    #[error("a worker needs at least one queue and one slot")]
    Nothing,
    /// The database failed while the worker registered.
    #[error("the worker could not register")]
    Database(#[from] sqlx::Error),
}

/// A registered worker; [`run`](Worker::run) makes it claim.
pub struct Worker {
    pub(crate) id: i64,
    name: String,
    connect: PgConnectOptions,
    pool: PgPool,
    options: WorkerOptions,
    dispatcher: Dispatcher,
    presence: Presence,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Worker {
    /// Registers a worker under a new name and takes its lock.
    ///
    /// Behind a transaction pooler `connect` must name the server itself: the lock lives in a session.
    pub async fn start<E: Clone + Send + Sync + 'static>(
        connect: PgConnectOptions,
        registry: Registry<E>,
        options: WorkerOptions,
    ) -> Result<Self, WorkerError> {
        if options.queues.is_empty() || options.slots == 0 {
            return Err(WorkerError::Nothing);
        }
        if options.lease < options.heartbeat * 3 {
            return Err(WorkerError::LeaseTooShort { lease: options.lease, heartbeat: options.heartbeat });
        }
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .min_connections(0)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(connect.clone())
            .await?;
        let mut conn = pool.acquire().await?;
        history::ensure_partitions(&mut conn).await?;
        let identity = identity(&options, registry.kinds());
        let id = presence::register(&mut conn, &identity).await?;
        let presence = Presence::take(&connect, id).await?;
        let dispatcher = registry.into_dispatcher();
        Ok(Self { id, name: identity.name, connect, pool: pool.clone(), options, dispatcher, presence })
    }

    /// The worker's name in the database, new with every start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Claims and runs until nothing in its open queues is due or running, then stops.
    pub async fn run_until_empty(self) -> Result<(), WorkerError> {
        let stop = CancellationToken::new();
        let (pool, queues) = (self.pool.clone(), self.options.queues.clone());
        let watch = async {
            // Also when the look fails: the worker stops either way.
            let _stop = stop.clone().drop_guard();
            while has_work(&pool, &queues).await? {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<(), WorkerError>(())
        };
        let (watched, ()) = tokio::join!(watch, self.run(stop.clone()));
        watched
    }

    /// Claims and runs until `stop` fires, then gives running jobs the grace time and hands back what is left.
    pub async fn run(self, stop: CancellationToken) {
        let Self { id, name, connect, pool, options, dispatcher, presence } = self;
        info!(worker = name, queues = ?options.queues, slots = options.slots, "the worker claims");
        let shared = Arc::new(Shared::new(id, connect, pool, options, stop.clone()));
        let wakes = Wakes { claimers: shared.wakes.clone(), renew_all: shared.held.renew_all() };
        let (ended, to_flush) = mpsc::unbounded_channel();
        let drained = CancellationToken::new();
        // A caller that drops this future in the middle leaves no handler running and no lock held.
        let _dropped = (shared.orders.abort.clone().drop_guard(), drained.clone().drop_guard());
        let present = tokio::spawn(presence.hold(wakes, drained.clone()));

        let mut flushers = JoinSet::new();
        let to_flush = Arc::new(tokio::sync::Mutex::new(to_flush));
        for _ in 0..FLUSHERS {
            flushers.spawn(Flusher::new(&shared, to_flush.clone()).run(drained.clone()));
        }
        let mut services = JoinSet::new();
        services.spawn(heartbeat::run(shared.clone(), drained.clone()));
        services.spawn(rescuer::run(shared.clone(), drained.clone()));
        services.spawn(keeper::run(shared.clone(), drained.clone()));
        services.spawn(sweeper::run(shared.clone(), drained.clone()));
        services.spawn(scheduler::run(shared.clone()));

        let mut claimers = JoinSet::new();
        let mut lanes = HashMap::new();
        let mut receivers = Vec::new();
        for queue in &shared.options.queues {
            // As many as there are slots: a claimer never waits to hand over what it claimed.
            let (sender, receiver) = mpsc::channel::<Assignment>(shared.options.slots);
            let queue: Arc<str> = queue.as_str().into();
            for claimer in ClaimerTask::pair(&shared, &queue, &sender) {
                claimers.spawn(claimer.run());
            }
            lanes.insert(queue.clone(), sender);
            receivers.push((queue, receiver));
        }
        claimers.spawn(Isolator::new(&shared, lanes).run());
        let monitor = adapter::run(&name, &shared, receivers, dispatcher, &ended, drained.clone());
        let mut monitor = tokio::spawn(monitor);

        claimers.join_all().await;
        shared.wind_down().await;
        drained.cancel();
        match tokio::time::timeout(HANDLERS_END_MAX, &mut monitor).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = &error as &dyn std::error::Error, "the monitor ended badly"),
            Err(_elapsed) => warn!("a job blocks its thread: the worker stops without it"),
        }
        flushers.join_all().await;
        services.join_all().await;
        depart(&shared).await;
        // The lock goes last: a worker that still had leases would be taken for dead.
        if let Err(error) = present.await {
            warn!(error = &error as &dyn std::error::Error, "the presence ended badly");
        }
        info!(worker = name, "the worker has stopped");
    }
}

/// Two connections finish jobs: while one waits for the disk the other gathers.
const FLUSHERS: usize = 2;

/// How long a stopping worker waits for the database to take its last outcomes; what it cannot write is rescued.
const LAST_FLUSH_MAX: Duration = Duration::from_secs(5);

/// How long a stopping worker waits for handlers that it has dropped. One that blocks its thread cannot be dropped.
const HANDLERS_END_MAX: Duration = Duration::from_secs(1);

/// What the tasks of one worker share.
struct Shared {
    id: i64,
    connect: PgConnectOptions,
    pool: PgPool,
    options: WorkerOptions,
    held: Arc<Held>,
    wakes: Arc<HashMap<String, Arc<Notify>>>,
    /// No new claims; the attempts hear of it too.
    stop: CancellationToken,
    orders: Arc<Orders>,
}

impl Shared {
    fn new(
        id: i64,
        connect: PgConnectOptions,
        pool: PgPool,
        options: WorkerOptions,
        stop: CancellationToken,
    ) -> Self {
        let wakes = options.queues.iter().map(|queue| (queue.clone(), Arc::default())).collect();
        Self {
            id,
            connect,
            pool,
            held: Arc::new(Held::new(options.slots)),
            wakes: Arc::new(wakes),
            options,
            orders: Arc::new(Orders { stop: stop.clone(), abort: CancellationToken::new() }),
            stop,
        }
    }

    fn dedicated(&self, name: &'static str) -> Dedicated {
        Dedicated::new(name, &self.connect)
    }

    /// Wakes this worker's claimers of the queues in which something has become ready.
    fn wake<'a>(&self, queues: impl IntoIterator<Item = &'a str>) {
        for claimer in queues.into_iter().filter_map(|queue| self.wakes.get(queue)) {
            claimer.notify_one();
        }
    }

    /// Lets running jobs end within the grace time, then drops them and hands them back.
    async fn wind_down(&self) {
        if tokio::time::timeout(self.options.grace, self.held.emptied()).await.is_ok() {
            return;
        }
        info!(running = self.held.len(), "the grace time is over: running jobs are handed back");
        self.orders.abort.cancel();
        if tokio::time::timeout(LAST_FLUSH_MAX, self.held.emptied()).await.is_err() {
            warn!(
                held = self.held.len(),
                "the database did not take the last outcomes: their leases will be rescued"
            );
            self.held.forget_all();
        }
    }
}

async fn depart(shared: &Shared) {
    let mut conn = shared.dedicated("leave");
    let left = within(LAST_FLUSH_MAX, async {
        let conn = conn.get().await?;
        // In this order: one that is struck off is taken for dead by nobody.
        presence::leave(conn, shared.id).await?;
        acquit(conn, shared.id).await
    });
    if let Err(error) = left.await {
        warn!(
            worker = shared.id,
            error = &error as &dyn std::error::Error,
            "the worker could not strike itself off"
        );
    }
}

fn identity(options: &WorkerOptions, kinds: Vec<String>) -> Identity {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned());
    let pid = std::process::id();
    // A name is never used twice: a restarted process must not be taken for its predecessor.
    let start = &uuid::Uuid::new_v4().simple().to_string()[..8];
    Identity {
        name: format!("{host}-{pid}-{start}"),
        host,
        pid,
        version: options.version.clone(),
        queues: options.queues.clone(),
        kinds,
        slots: options.slots,
    }
}

pub(crate) async fn has_work(pool: &PgPool, queues: &[String]) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- queue.has_work
        select exists (
            select from queue.job j where queue = any($1) and (state = 1 or (state = 0
                -- Read after the snapshot was taken: what that shows was due before.
                and run_at <= (select clock_timestamp())
                and not exists (select from queue.queue q where q.name = j.queue and q.paused_at is not null)))
        ) or exists (
            -- About to be let go: what it waited for has just ended.
            select from queue.dependency d join queue.job w on w.id = d.waiter
            where d.settled_at is null and w.queue = any($1) and w.state = 2
              and not exists (select from queue.job p where p.id = d.parent)
        ) as "work!""#,
        queues
    )
    .fetch_one(pool)
    .await
}
