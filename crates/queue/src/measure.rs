//! Measures the engine on a given database, beside its own statements run bare: what this machine could do at most.
//!
//! All figures of a measurement come from one run on one database, alternating the sides, so that they may be compared.
//! It works in a queue of its own and deletes what it made.

mod bare;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Attempt, Done, EnqueueError, Job, JobError, NewJob, Queue, QueueError, Registry, Worker, WorkerError,
    WorkerOptions, worker::has_work,
};

/// What to measure.
#[derive(Debug, Clone)]
pub struct MeasureOptions {
    /// Jobs of a round.
    pub jobs: u64,
    /// Workers that drain, all in this process.
    pub workers: usize,
    /// Jobs that each worker runs at a time.
    pub slots: usize,
    /// Rounds of each side; the median is reported.
    pub rounds: usize,
    /// Lone jobs whose pick-up is timed.
    pub lone_jobs: usize,
    /// Jobs that pass under a held snapshot before the figure under it is taken.
    pub held_snapshot: Option<u64>,
}

impl Default for MeasureOptions {
    fn default() -> Self {
        Self { jobs: 100_000, workers: 1, slots: 2_000, rounds: 3, lone_jobs: 200, held_snapshot: None }
    }
}

/// What was measured. Rates are jobs per second, medians over the rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Jobs of a round.
    pub jobs: u64,
    /// Bulk enqueue, a thousand jobs to a transaction.
    pub enqueue_per_sec: f64,
    /// From the beginning of the first job until the last is in history.
    pub claim_to_finish_per_sec: f64,
    /// The same statements over the same number of jobs, with nothing around them.
    pub bare_per_sec: f64,
    /// `claim_to_finish_per_sec / bare_per_sec`.
    pub of_bare: f64,
    /// Write-ahead log of a job's whole life.
    pub wal_bytes_per_job: f64,
    /// From the call that enqueues a lone job to the start of its handler; milliseconds.
    pub lone_pick_up_ms: Percentiles,
    /// The figures under a held snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_snapshot: Option<HeldSnapshot>,
    /// The largest resident memory of this process so far; absent where `/proc` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
}

/// Points of a distribution.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "they are named after their percentage")]
pub struct Percentiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
}

/// What is left of the speed while an old snapshot keeps vacuum from working.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct HeldSnapshot {
    /// Jobs that had passed under the snapshot.
    pub after_jobs: u64,
    /// Claim to finish under it.
    pub claim_to_finish_per_sec: f64,
    /// Compared with the clean figure.
    pub of_clean: f64,
}

/// Why a measurement broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the part that failed")]
pub enum MeasureError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Enqueue(#[from] EnqueueError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error("the database failed during the measurement")]
    Database(#[from] sqlx::Error),
}

/// The job that does nothing but say when it began.
#[derive(Debug, Serialize, Deserialize)]
struct Nothing {
    n: u64,
}

/// What the measurement sees of the jobs.
#[derive(Clone, Default)]
struct Seen {
    count: Arc<AtomicU64>,
    began: Option<mpsc::UnboundedSender<(u64, Instant)>>,
}

impl Job for Nothing {
    const KIND: &'static str = "measure";
    type Environment = Seen;

    async fn run(self, _: Attempt, seen: Seen) -> Result<Done, JobError> {
        seen.count.fetch_add(1, Ordering::Relaxed);
        if let Some(began) = seen.began {
            // The measurement listens until it has heard of every job.
            began.send((self.n, Instant::now())).map_err(|error| JobError::retry(error.to_string()))?;
        }
        Ok(Done::new())
    }
}

/// Takes the measurement, telling `say` what it is at.
pub async fn measure(
    connect: PgConnectOptions,
    options: &MeasureOptions,
    say: impl Fn(&str),
) -> Result<Measured, MeasureError> {
    let bench = Bench::new(connect, options).await?;
    let measured = bench.run(say).await;
    bench.clean_up().await?;
    measured
}

struct Bench<'a> {
    connect: PgConnectOptions,
    queue: Queue,
    name: String,
    options: &'a MeasureOptions,
    next: AtomicU64,
}

/// Jobs to a transaction of the bulk enqueue.
const BULK: u64 = 1_000;

/// Jobs that pass before anything is timed: caches, plans and files that only the first run has to make.
const WARM_UP: u64 = 10_000;

/// Between two lone jobs: long enough for the worker's polling to have slowed down.
const LONE_PAUSE: Duration = Duration::from_millis(40);

impl<'a> Bench<'a> {
    async fn new(connect: PgConnectOptions, options: &'a MeasureOptions) -> Result<Self, MeasureError> {
        let queue = Queue::connect(connect.clone(), 4).await?;
        let name = format!("measure-{}", uuid::Uuid::new_v4().simple());
        Ok(Self { connect, queue, name, options, next: AtomicU64::new(0) })
    }

    async fn run(&self, say: impl Fn(&str)) -> Result<Measured, MeasureError> {
        let jobs = self.options.jobs;
        say("warming up");
        self.fill(WARM_UP).await?;
        self.drain(WARM_UP).await?;
        self.fill(WARM_UP).await?;
        self.drain_bare(WARM_UP).await?;
        let (mut enqueues, mut drains, mut bares, mut wal) = (vec![], vec![], vec![], vec![]);
        for round in 1..=self.options.rounds {
            say(&format!("round {round} of {}: {jobs} jobs through the engine", self.options.rounds));
            let before = self.wal_position().await?;
            enqueues.push(rate(jobs, self.fill(jobs).await?));
            drains.push(rate(jobs, self.drain(jobs).await?));
            wal.push(self.wal_since(before).await? / as_f64(jobs));
            say(&format!("round {round} of {}: the same statements bare", self.options.rounds));
            self.fill(jobs).await?;
            bares.push(rate(jobs, self.drain_bare(jobs).await?));
        }
        say("lone jobs");
        let lone_pick_up_ms = self.lone_pick_ups().await?;
        let (clean, bare) = (median(drains), median(bares));
        let held_snapshot = match self.options.held_snapshot {
            Some(after_jobs) => {
                say(&format!("{after_jobs} jobs under a held snapshot"));
                Some(self.under_held_snapshot(after_jobs, clean).await?)
            }
            None => None,
        };
        Ok(Measured {
            jobs,
            enqueue_per_sec: median(enqueues),
            claim_to_finish_per_sec: clean,
            bare_per_sec: bare,
            of_bare: clean / bare,
            wal_bytes_per_job: median(wal),
            lone_pick_up_ms,
            held_snapshot,
            memory_peak_bytes: memory_peak(),
        })
    }

    async fn fill(&self, jobs: u64) -> Result<Duration, MeasureError> {
        let began = Instant::now();
        let mut left = jobs;
        while left > 0 {
            let count = left.min(BULK);
            let first = self.next.fetch_add(count, Ordering::Relaxed);
            let batch: Vec<NewJob> = (first..first + count).map(|n| self.nothing(n)).collect();
            self.queue.enqueue_all(&batch).await?;
            left -= count;
        }
        Ok(began.elapsed())
    }

    fn nothing(&self, n: u64) -> NewJob {
        NewJob::of(&Nothing { n }).expect("a number is JSON").queue(self.name.as_str())
    }

    fn worker_options(&self, slots: usize) -> WorkerOptions {
        WorkerOptions { queues: vec![self.name.clone()], slots, ..WorkerOptions::default() }
    }

    /// Runs the queue's jobs, this many, and answers how long it took from the beginning of the first until the last
    /// was in history. How long the workers take to connect and to stop is not counted.
    async fn drain(&self, jobs: u64) -> Result<Duration, MeasureError> {
        let seen = Seen::default();
        let mut workers = Vec::new();
        for _ in 0..self.options.workers {
            let registry = Registry::new(seen.clone()).with::<Nothing>();
            workers.push(
                Worker::start(self.connect.clone(), registry, self.worker_options(self.options.slots))
                    .await?,
            );
        }
        let stop = CancellationToken::new();
        let running: JoinSet<()> = workers.into_iter().map(|worker| worker.run(stop.clone())).collect();
        while seen.count.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let began = Instant::now();
        // The queue is asked only once its last job has begun: the answer costs more the more dead rows there are.
        while seen.count.load(Ordering::Relaxed) < jobs
            || has_work(self.queue.pool(), std::slice::from_ref(&self.name)).await?
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = began.elapsed();
        stop.cancel();
        running.join_all().await;
        Ok(took)
    }

    async fn drain_bare(&self, jobs: u64) -> Result<Duration, MeasureError> {
        Ok(bare::drain(&self.connect, &self.name, jobs).await?)
    }

    async fn lone_pick_ups(&self) -> Result<Percentiles, MeasureError> {
        let (sender, mut begun) = mpsc::unbounded_channel();
        let registry = Registry::new(Seen { began: Some(sender), ..Seen::default() }).with::<Nothing>();
        let worker = Worker::start(self.connect.clone(), registry, self.worker_options(16)).await?;
        let stop = CancellationToken::new();
        let running = tokio::spawn(worker.run(stop.clone()));
        let mut waits = Vec::with_capacity(self.options.lone_jobs);
        for n in 0..self.options.lone_jobs as u64 {
            tokio::time::sleep(LONE_PAUSE.mul_f64(rand::random_range(0.5..2.0))).await;
            let called = Instant::now();
            self.queue.enqueue(self.nothing(n)).await?;
            if let Some((_, began)) = begun.recv().await {
                waits.push(began.duration_since(called).as_secs_f64() * 1_000.0);
            }
        }
        stop.cancel();
        running.await.map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
        Ok(percentiles(waits))
    }

    async fn under_held_snapshot(&self, after_jobs: u64, clean: f64) -> Result<HeldSnapshot, MeasureError> {
        let mut holder = PgConnection::connect_with(&self.connect).await?;
        sqlx::raw_sql("begin isolation level repeatable read; select count(*) from queue.queue")
            .execute(&mut holder)
            .await?;
        let mut passed = 0;
        while passed < after_jobs {
            let jobs = self.options.jobs.min(after_jobs - passed);
            self.fill(jobs).await?;
            self.drain(jobs).await?;
            passed += jobs;
        }
        self.fill(self.options.jobs).await?;
        let under = rate(self.options.jobs, self.drain(self.options.jobs).await?);
        holder.close().await?;
        Ok(HeldSnapshot { after_jobs, claim_to_finish_per_sec: under, of_clean: under / clean })
    }

    async fn wal_position(&self) -> Result<String, sqlx::Error> {
        sqlx::query_scalar!(r#"select pg_current_wal_insert_lsn()::text as "lsn!""#)
            .fetch_one(self.queue.pool())
            .await
    }

    async fn wal_since(&self, position: String) -> Result<f64, sqlx::Error> {
        sqlx::query_scalar!(
            r#"select (pg_current_wal_insert_lsn() - ($1::text)::pg_lsn)::float8 as "bytes!""#,
            position
        )
        .fetch_one(self.queue.pool())
        .await
    }

    async fn clean_up(&self) -> Result<(), sqlx::Error> {
        for table in ["job", "job_history"] {
            let statement = format!("delete from queue.{table} where queue = '{}'", self.name);
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(self.queue.pool()).await?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

fn rate(jobs: u64, took: Duration) -> f64 {
    as_f64(jobs) / took.as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn percentiles(mut figures: Vec<f64>) -> Percentiles {
    figures.sort_by(f64::total_cmp);
    let at = |percent: usize| figures[((figures.len() - 1) * percent).div_ceil(100)];
    Percentiles { p50: at(50), p95: at(95), p99: at(99) }
}

/// `VmHWM` of `/proc/self/status`, which is given in kB.
fn memory_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
