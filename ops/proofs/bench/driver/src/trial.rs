//! One system measured once, in one mode, in a database of its own.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    adapter::{Adapter, Said},
    cpu,
    figure::{Figure, Figures, as_f64, percentile},
    server::Server,
    system::{Since, System},
};

/// Under which conditions jobs are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// An empty queue.
    Clean,
    /// Behind the measured jobs wait many more.
    Backlog,
    /// A snapshot has been held while jobs passed, so that vacuum could remove nothing.
    Held,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Backlog => "backlog",
            Self::Held => "held",
        }
    }
}

/// How much of everything.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sizes {
    /// Measured jobs.
    pub(crate) jobs: u64,
    /// Jobs that wait behind them in the mode `backlog`.
    pub(crate) backlog: u64,
    /// How long the snapshot is held before the measurement in the mode `held`.
    pub(crate) held: Duration,
    /// Lone jobs whose pick-up is timed.
    pub(crate) lone: u64,
    /// Jobs that pass before anything is measured.
    pub(crate) warm_up: u64,
    /// Tenants over which the jobs are spread; 0 for jobs of nobody.
    pub(crate) tenants: u64,
    /// Worker processes of graphile-worker; the others have one.
    pub(crate) graphile_processes: usize,
    /// The longest that one step may take.
    pub(crate) step_max: Duration,
}

const QUEUE: &str = "bench";
const LONE_QUEUE: &str = "lone";

/// Between two looks at whether all jobs have finished.
const LOOK: Duration = Duration::from_millis(5);

/// Lone jobs that are not counted: the first ones open connections.
const LONE_SKIPPED: u64 = 3;

/// Before a lone job, drawn evenly: long enough for a worker's polling to have slowed down.
const LONE_PAUSE_MS: std::ops::Range<f64> = 20.0..80.0;

/// A trial under way.
pub(crate) struct Trial<'a> {
    server: &'a Server,
    system: System,
    sizes: &'a Sizes,
    database: String,
    conn: PgConnection,
    postmaster: u32,
    passed: u64,
}

/// What a stretch of work took.
struct Stretch {
    jobs: u64,
    took: Duration,
    wal_bytes: f64,
    postgres: Duration,
    worker: Duration,
}

/// Where log and processors stood.
struct Before {
    wal: String,
    postgres: Duration,
}

impl<'a> Trial<'a> {
    /// Makes the database with the system's schema.
    pub(crate) async fn prepare(server: &'a Server, system: System, sizes: &'a Sizes) -> Result<Trial<'a>> {
        let database = format!("bench_{}", system.name());
        server.drop(&database).await?;
        server.create(&database).await?;
        Adapter::run(server, system, &database, &["setup"]).await.context("while the schema was made")?;
        let conn = server.connect(&database).await?;
        Ok(Self { server, system, sizes, database, conn, postmaster: server.pid()?, passed: 0 })
    }

    /// Takes the measurement.
    pub(crate) async fn run(&mut self, mode: Mode) -> Result<Figures> {
        self.pass(self.sizes.warm_up).await.context("while warming up")?;
        match mode {
            Mode::Clean => self.measure(0).await,
            Mode::Backlog => self.measure(self.sizes.backlog).await,
            Mode::Held => {
                let mut holder = self.server.connect(&self.database).await?;
                sqlx::raw_sql("begin isolation level repeatable read; select count(*) from pg_class")
                    .execute(&mut holder)
                    .await?;
                let began = Instant::now();
                while began.elapsed() < self.sizes.held {
                    self.pass(self.sizes.jobs).await.context("under the held snapshot")?;
                }
                let figures = self.measure(0).await.with_context(|| {
                    format!("after {} jobs under the held snapshot", self.passed - self.sizes.warm_up)
                });
                holder.close().await?;
                figures
            }
        }
    }

    /// Ends it and drops the database.
    pub(crate) async fn clean_up(self) -> Result<()> {
        self.conn.close().await?;
        self.server.drop(&self.database).await
    }

    /// A connection to the system's database.
    pub(crate) fn database(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// Counts jobs that came into history another way.
    pub(crate) fn count_passed(&mut self, jobs: u64) {
        self.passed += jobs;
    }

    async fn measure(&mut self, backlog: u64) -> Result<Figures> {
        let mark = self.mark().await?;
        if backlog > 0 {
            self.fill(backlog).await.context("while the backlog was enqueued")?;
        }
        sqlx::raw_sql("checkpoint").execute(&mut self.conn).await?;
        let enqueued = self.fill(self.sizes.jobs).await.context("while enqueueing")?;
        let worked = self.drain(&mark, backlog + self.sizes.jobs, self.sizes.jobs).await?;
        self.passed += worked.jobs;
        let table_bytes = self.table_bytes().await?;
        let lone = self.lone().await.context("while lone jobs were timed")?;
        let per_job = |of: fn(&Stretch) -> f64| {
            of(&enqueued) / as_f64(enqueued.jobs) + of(&worked) / as_f64(worked.jobs)
        };
        // Jobs that still wait take room too.
        let all = self.passed + (backlog + self.sizes.jobs).saturating_sub(worked.jobs);
        let millis_per_1000 = |per_job: f64| per_job * 1e6;
        let mut figures = Figures::from([
            (Figure::EnqueuePerSec, enqueued.rate()),
            (Figure::ClaimToFinishPerSec, worked.rate()),
            (Figure::WalBytesPerJob, per_job(|stretch| stretch.wal_bytes)),
            (
                Figure::PostgresCpuMsPer1000,
                millis_per_1000(per_job(|stretch| stretch.postgres.as_secs_f64())),
            ),
            (Figure::WorkerCpuMsPer1000, millis_per_1000(worked.worker.as_secs_f64() / as_f64(worked.jobs))),
            (Figure::TableBytesPerJob, table_bytes / as_f64(all)),
            (Figure::TableMib, table_bytes / f64::from(1 << 20)),
        ]);
        for (figure, percent) in [(Figure::LoneP50Ms, 50), (Figure::LoneP99Ms, 99)] {
            figures.extend(percentile(&lone, percent).map(|wait| (figure, wait)));
        }
        Ok(figures)
    }

    /// Sends jobs through the system without measuring.
    async fn pass(&mut self, jobs: u64) -> Result<()> {
        let mark = self.mark().await?;
        self.fill(jobs).await?;
        self.drain(&mark, jobs, jobs).await?;
        self.passed += jobs;
        Ok(())
    }

    async fn fill(&mut self, jobs: u64) -> Result<Stretch> {
        let (jobs_text, tenants) = (jobs.to_string(), self.sizes.tenants.to_string());
        let arguments = ["enqueue", QUEUE, &jobs_text, &tenants];
        let mut producer = Adapter::start(self.server, self.system, &self.database, 1, &arguments)?;
        producer.await_said(&Said::Ready).await?;
        let before = self.before().await?;
        let began = Instant::now();
        let step_max = self.sizes.step_max;
        let done = async {
            producer.tell("go").await?;
            producer.await_said(&Said::Done).await
        };
        let Ok(done) = tokio::time::timeout(step_max, done).await else {
            bail!("not done after {} s", step_max.as_secs());
        };
        done?;
        let took = began.elapsed();
        let (wal_bytes, postgres) = self.since(&before).await?;
        Ok(Stretch { jobs, took, wal_bytes, postgres, worker: Duration::ZERO })
    }

    /// Works until this many of the jobs enqueued since the mark have finished in the database.
    async fn drain(&mut self, mark: &str, enqueued: u64, wanted: u64) -> Result<Stretch> {
        let step_max = self.sizes.step_max;
        let drained = tokio::time::timeout(step_max, self.drain_unlimited(mark, enqueued, wanted)).await;
        if let Ok(stretch) = drained {
            return stretch;
        }
        let finished = self.finished(mark, enqueued).await?;
        bail!("{finished} of {wanted} jobs finished after {} s", step_max.as_secs())
    }

    async fn drain_unlimited(&mut self, mark: &str, enqueued: u64, wanted: u64) -> Result<Stretch> {
        let processes = if self.system == System::Graphile { self.sizes.graphile_processes } else { 1 };
        let arguments = ["work", QUEUE, "count"];
        let mut workers = Adapter::start(self.server, self.system, &self.database, processes, &arguments)?;
        let mut said = workers.hear().await?;
        // What it takes to connect is not the jobs' doing.
        let before = self.before().await?;
        let mut first: Option<(u64, Duration)> = None;
        let mut ran = vec![0; processes];
        while ran.iter().sum::<u64>() < wanted {
            match said {
                (_, Said::First(micros)) if first.is_none() => {
                    first = Some((micros, cpu::used(&workers.pids())?));
                }
                (index, Said::Ran(count)) => ran[index] = count,
                _ => {}
            }
            if ran.iter().sum::<u64>() < wanted {
                said = workers.hear().await?;
            }
        }
        let (first, worker_before) = first.context("jobs ran and none was the first")?;
        let (finished, ended) = loop {
            // The count is of the moment at which it was asked for.
            let asked = micros();
            let finished = self.finished(mark, enqueued).await?;
            if finished >= wanted {
                break (finished, asked);
            }
            tokio::time::sleep(LOOK).await;
        };
        let worker = cpu::used(&workers.pids())?.saturating_sub(worker_before);
        let (wal_bytes, postgres) = self.since(&before).await?;
        workers.stop().await?;
        let took = Duration::from_micros(ended.saturating_sub(first));
        Ok(Stretch { jobs: finished, took, wal_bytes, postgres, worker })
    }

    /// The waits of lone jobs in milliseconds, sorted: from before the call that enqueues until the handler's start.
    async fn lone(&mut self) -> Result<Vec<f64>> {
        let mut worker =
            Adapter::start(self.server, self.system, &self.database, 1, &["work", LONE_QUEUE, "trace"])?;
        worker.await_said(&Said::Ready).await?;
        let mut producer =
            Adapter::start(self.server, self.system, &self.database, 1, &["lone", LONE_QUEUE])?;
        producer.await_said(&Said::Ready).await?;
        let mut waits = Vec::new();
        for n in 0..self.sizes.lone + LONE_SKIPPED {
            let pause = Duration::from_secs_f64(rand::random_range(LONE_PAUSE_MS) / 1_000.0);
            tokio::time::sleep(pause).await;
            producer.tell("go").await?;
            let both =
                async { Ok::<_, anyhow::Error>((sent(&mut producer).await?, began(&mut worker).await?)) };
            let Ok(both) = tokio::time::timeout(self.sizes.step_max, both).await else {
                bail!("lone job {n} was not picked up within {} s", self.sizes.step_max.as_secs());
            };
            let (sent, began) = both?;
            if n >= LONE_SKIPPED {
                waits.push(as_f64(began.saturating_sub(sent)) / 1_000.0);
            }
        }
        producer.stop().await?;
        worker.stop().await?;
        waits.sort_by(f64::total_cmp);
        Ok(waits)
    }

    async fn mark(&mut self) -> Result<String> {
        Ok(sqlx::query_scalar(self.system.count().mark).bind(QUEUE).fetch_one(&mut self.conn).await?)
    }

    /// How many of the jobs enqueued since the mark have finished.
    async fn finished(&mut self, mark: &str, enqueued: u64) -> Result<u64> {
        let since = self.system.count().since;
        let (Since::Finished(statement) | Since::Unfinished(statement)) = since;
        let count: i64 =
            sqlx::query_scalar(statement).bind(QUEUE).bind(mark).fetch_one(&mut self.conn).await?;
        let count = u64::try_from(count).unwrap_or_default();
        Ok(if matches!(since, Since::Finished(_)) { count } else { enqueued.saturating_sub(count) })
    }

    async fn before(&mut self) -> Result<Before> {
        let wal = sqlx::query_scalar("select pg_current_wal_insert_lsn()::text").fetch_one(&mut self.conn);
        Ok(Before { wal: wal.await?, postgres: cpu::used_by_family(self.postmaster)? })
    }

    /// The log written and the processor time used by Postgres since then.
    async fn since(&mut self, before: &Before) -> Result<(f64, Duration)> {
        let postgres = cpu::used_by_family(self.postmaster)?.saturating_sub(before.postgres);
        let wal: f64 = sqlx::query_scalar("select (pg_current_wal_insert_lsn() - $1::pg_lsn)::float8")
            .bind(&before.wal)
            .fetch_one(&mut self.conn)
            .await?;
        Ok((wal, postgres))
    }

    /// All tables with their indexes, dead rows included.
    async fn table_bytes(&mut self) -> Result<f64> {
        let statement = "select coalesce(sum(pg_total_relation_size(oid)), 0)::float8 from pg_class
            where relkind in ('r', 'm') and relnamespace::regnamespace::text !~ '^(pg_|information_schema)'";
        Ok(sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(&mut self.conn).await?)
    }
}

impl Stretch {
    fn rate(&self) -> f64 {
        as_f64(self.jobs) / self.took.as_secs_f64()
    }
}

async fn sent(producer: &mut Adapter) -> Result<u64> {
    loop {
        if let (_, Said::Sent(micros)) = producer.hear().await? {
            return Ok(micros);
        }
    }
}

async fn began(worker: &mut Adapter) -> Result<u64> {
    loop {
        if let (_, Said::Began(micros)) = worker.hear().await? {
            return Ok(micros);
        }
    }
}

fn micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.expect("the clock is set after 1970").as_micros()).expect("this century")
}
