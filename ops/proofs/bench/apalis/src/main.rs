//! apalis-postgres, woken by notifications and by an interval, with the batch and the concurrency at which it was
//! fastest.

use std::time::Duration;

use anyhow::{Result, anyhow};
use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage, queries::push_tasks};
use protocol::System;
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, task::JoinHandle};

const BATCH_SIZE: usize = 1_000;
const CONCURRENCY: usize = 1_000;
const POLL_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Nothing {
    n: u64,
}

async fn handle(_: Nothing) -> Result<(), BoxDynError> {
    protocol::began();
    Ok(())
}

struct Apalis;

struct Running {
    stop: oneshot::Sender<()>,
    worker: JoinHandle<Result<(), WorkerError>>,
}

impl System for Apalis {
    type Producer = PgPool;
    type Worker = Running;

    async fn setup(url: &str) -> Result<()> {
        Ok(PostgresStorage::setup(&PgPool::connect(url).await?).await?)
    }

    async fn producer(url: &str) -> Result<PgPool> {
        Ok(PgPool::connect(url).await?)
    }

    async fn enqueue(producer: &mut PgPool, queue: &str, first: u64, count: u64, _: u64) -> Result<()> {
        let tasks = (first..first + count)
            .map(|n| Ok(TaskBuilder::new(serde_json::to_vec(&Nothing { n })?).build()))
            .collect::<Result<Vec<_>>>()?;
        push_tasks(&mut *producer.acquire().await?, queue, tasks).await?;
        Ok(())
    }

    async fn start(url: &str, queue: &str) -> Result<Running> {
        let pool = PgPool::connect(url).await?;
        let config = Config::default().queue(queue).batch_size(BATCH_SIZE);
        let backend = PostgresStorage::<Nothing>::new(&pool)
            .with_config(config)
            .with_pubsub()
            .poll_with_interval(POLL_INTERVAL);
        // A name of its own for each start: a namesake would be taken for a worker that still lives.
        let worker = WorkerBuilder::new(format!("worker-{}", std::process::id()))
            .backend(backend)
            .concurrency(CONCURRENCY)
            .build(handle);
        let (stop, stopped) = oneshot::channel();
        let worker = tokio::spawn(worker.run_until(async {
            // A sender that is gone means the same.
            let _ = stopped.await;
            Ok::<(), WorkerError>(())
        }));
        Ok(Running { stop, worker })
    }

    async fn stop(running: Running) -> Result<()> {
        running.stop.send(()).map_err(|()| anyhow!("the worker had ended by itself"))?;
        Ok(running.worker.await??)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    protocol::run::<Apalis>().await
}
