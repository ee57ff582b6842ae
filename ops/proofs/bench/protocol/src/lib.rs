//! How the driver of the comparison talks with the system that it measures: a program per system, driven by lines.
//!
//! | started as | hears | says |
//! |---|---|---|
//! | `setup` | | nothing; it ends when the schema is there |
//! | `enqueue QUEUE JOBS TENANTS` | `go` | `ready`, then `done` |
//! | `lone QUEUE` | `go`, repeatedly | `ready`, then `sent MICROS` for each |
//! | `work QUEUE count` | `stop` | `ready`, `first MICROS`, `ran COUNT` as it rises, `stopped` |
//! | `work QUEUE trace` | `stop` | `ready`, `began MICROS` for each job, `stopped` |
//!
//! Times are microseconds since 1970 on the machine's clock, so that processes can be compared. A `lone` job's time is
//! taken before the call that enqueues it. The database is named by `DATABASE_URL`.

use std::{
    env,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

/// Jobs to one call of a system's bulk enqueue.
pub const BATCH: u64 = 1_000;

/// How often a worker says how many jobs it has begun.
const TICK: Duration = Duration::from_millis(5);

/// A queue as the comparison sees it.
pub trait System {
    /// What enqueues.
    type Producer;
    /// What claims and runs.
    type Worker;

    /// Makes the schema.
    fn setup(url: &str) -> impl Future<Output = Result<()>>;
    /// Connects a producer.
    fn producer(url: &str) -> impl Future<Output = Result<Self::Producer>>;
    /// Enqueues jobs with the payloads `{"n": first}` and following, spread over so many tenants where there are any.
    fn enqueue(
        producer: &mut Self::Producer,
        queue: &str,
        first: u64,
        count: u64,
        tenants: u64,
    ) -> impl Future<Output = Result<()>>;
    /// Starts a worker whose handler does nothing but call [`began`].
    fn start(url: &str, queue: &str) -> impl Future<Output = Result<Self::Worker>>;
    /// Stops it once its jobs have ended and their ends are written.
    fn stop(worker: Self::Worker) -> impl Future<Output = Result<()>>;
}

static BEGUN: AtomicU64 = AtomicU64::new(0);
static IS_TRACED: LazyLock<bool> = LazyLock::new(|| env::args().nth(3).is_some_and(|mode| mode == "trace"));

/// Counts a job whose handler has begun.
pub fn began() {
    if *IS_TRACED {
        println!("began {}", micros());
    } else if BEGUN.fetch_add(1, Ordering::Relaxed) == 0 {
        println!("first {}", micros());
    }
}

/// Does what the command line says.
pub async fn run<S: System>() -> Result<()> {
    let url = env::var("DATABASE_URL").context("DATABASE_URL names the database")?;
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    match arguments[..] {
        ["setup"] => S::setup(&url).await,
        ["enqueue", queue, jobs, tenants] => {
            enqueue::<S>(&url, queue, jobs.parse()?, tenants.parse()?, &mut orders).await
        }
        ["lone", queue] => lone::<S>(&url, queue, &mut orders).await,
        ["work", queue, _] => work::<S>(&url, queue, &mut orders).await,
        _ => bail!("usage: setup | enqueue QUEUE JOBS TENANTS | lone QUEUE | work QUEUE count|trace"),
    }
}

type Orders = Lines<BufReader<Stdin>>;

async fn enqueue<S: System>(
    url: &str,
    queue: &str,
    jobs: u64,
    tenants: u64,
    orders: &mut Orders,
) -> Result<()> {
    let mut producer = S::producer(url).await?;
    println!("ready");
    orders.next_line().await?;
    for first in (0..jobs).step_by(usize::try_from(BATCH)?) {
        S::enqueue(&mut producer, queue, first, BATCH.min(jobs - first), tenants).await?;
    }
    println!("done");
    Ok(())
}

async fn lone<S: System>(url: &str, queue: &str, orders: &mut Orders) -> Result<()> {
    let mut producer = S::producer(url).await?;
    println!("ready");
    let mut n = 0;
    while let Some("go") = orders.next_line().await?.as_deref() {
        let called = micros();
        S::enqueue(&mut producer, queue, n, 1, 0).await?;
        println!("sent {called}");
        n += 1;
    }
    Ok(())
}

async fn work<S: System>(url: &str, queue: &str, orders: &mut Orders) -> Result<()> {
    let worker = S::start(url, queue).await?;
    println!("ready");
    let mut tick = tokio::time::interval(TICK);
    let mut said = 0;
    loop {
        tokio::select! {
            // The end of the input is the end of the driver.
            _ = orders.next_line() => break,
            _ = tick.tick() => {
                let begun = BEGUN.load(Ordering::Relaxed);
                if begun > said {
                    println!("ran {begun}");
                    said = begun;
                }
            }
        }
    }
    S::stop(worker).await?;
    println!("stopped");
    Ok(())
}

fn micros() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is set after 1970").as_micros()
}
