//! Tenure's queue: history and fences on, the worker as it is, with as many slots as `tenure bench` uses.

use std::str::FromStr;

use anyhow::Result;
use protocol::System;
use queue::{Attempt, Done, Job, JobError, NewJob, Queue, Registry, Worker, WorkerOptions};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SLOTS: usize = 2_000;
const CONNECTIONS_MAX: u32 = 4;

#[derive(Serialize, Deserialize)]
struct Nothing {
    n: u64,
}

impl Job for Nothing {
    const KIND: &'static str = "nothing";
    type Environment = ();

    async fn run(self, _: Attempt, (): ()) -> Result<Done, JobError> {
        protocol::began();
        Ok(Done::new())
    }
}

struct Tenure;

struct Running {
    stop: CancellationToken,
    worker: JoinHandle<()>,
}

impl System for Tenure {
    type Producer = Queue;
    type Worker = Running;

    async fn setup(url: &str) -> Result<()> {
        Ok(connect(url).await?.install().await?)
    }

    async fn producer(url: &str) -> Result<Queue> {
        connect(url).await
    }

    async fn enqueue(producer: &mut Queue, queue: &str, first: u64, count: u64, tenants: u64) -> Result<()> {
        let jobs: Vec<NewJob> = (first..first + count)
            .map(|n| {
                let job = NewJob::of(&Nothing { n }).expect("a number is JSON").queue(queue);
                if tenants == 0 { job } else { job.tenant(Uuid::from_u128(u128::from(n % tenants) + 1)) }
            })
            .collect();
        producer.enqueue_all(&jobs).await?;
        Ok(())
    }

    async fn start(url: &str, queue: &str) -> Result<Running> {
        let options =
            WorkerOptions { queues: vec![queue.to_owned()], slots: SLOTS, ..WorkerOptions::default() };
        let registry = Registry::new(()).with::<Nothing>();
        let worker = Worker::start(PgConnectOptions::from_str(url)?, registry, options).await?;
        let stop = CancellationToken::new();
        Ok(Running { worker: tokio::spawn(worker.run(stop.clone())), stop })
    }

    async fn stop(running: Running) -> Result<()> {
        running.stop.cancel();
        Ok(running.worker.await?)
    }
}

async fn connect(url: &str) -> Result<Queue> {
    Ok(Queue::connect(PgConnectOptions::from_str(url)?, CONNECTIONS_MAX).await?)
}

#[tokio::main]
async fn main() -> Result<()> {
    protocol::run::<Tenure>().await
}
