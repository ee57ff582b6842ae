//! riverqueue with the settings of its own `riverqueue bench`.

use std::{convert::Infallible, time::Duration};

use anyhow::Result;
use protocol::System;
use riverqueue::{
    Client, InsertOpts, Job, JobArgs, QueueConfig, RunHandle, WorkContext, WorkOutcome, Worker, Workers,
    migrate::PostgresMigrator,
    sqlx::{PgPool, postgres::PgPoolOptions},
};
use serde::{Deserialize, Serialize};

const CONNECTIONS_MAX: u32 = 50;
const WORKERS_MAX: usize = 2_000;
const FETCH_COOLDOWN: Duration = Duration::from_millis(2);
const FETCH_POLL_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Clone, Serialize, Deserialize, JobArgs)]
#[river(kind = "nothing")]
struct Nothing {
    n: u64,
}

struct Handler;

impl Worker<Nothing> for Handler {
    type Error = Infallible;

    async fn work(&self, _: WorkContext, _: Job<Nothing>) -> Result<WorkOutcome, Infallible> {
        protocol::began();
        Ok(WorkOutcome::Complete)
    }
}

struct River;

impl System for River {
    type Producer = Client;
    type Worker = RunHandle;

    async fn setup(url: &str) -> Result<()> {
        PostgresMigrator::new(connect(url).await?).migrate_up().await?;
        Ok(())
    }

    async fn producer(url: &str) -> Result<Client> {
        Ok(Client::builder(connect(url).await?).build()?)
    }

    async fn enqueue(producer: &mut Client, queue: &str, first: u64, count: u64, _: u64) -> Result<()> {
        let options = InsertOpts::default().with_queue(queue);
        let jobs: Vec<_> = (first..first + count).map(|n| (Nothing { n }, options.clone())).collect();
        producer.insert_many(jobs).await?;
        Ok(())
    }

    async fn start(url: &str, queue: &str) -> Result<RunHandle> {
        let mut workers = Workers::new();
        workers.add::<Nothing, _>(Handler)?;
        let config = QueueConfig::new(WORKERS_MAX)
            .with_fetch_cooldown(FETCH_COOLDOWN)
            .with_fetch_poll_interval(FETCH_POLL_INTERVAL);
        let client = Client::builder(connect(url).await?).workers(workers).queue(queue, config).build()?;
        let mut run = client.start()?;
        run.wait_ready().await?;
        Ok(run)
    }

    async fn stop(mut run: RunHandle) -> Result<()> {
        Ok(run.stop().await?)
    }
}

async fn connect(url: &str) -> Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(CONNECTIONS_MAX).connect(url).await?)
}

#[tokio::main]
async fn main() -> Result<()> {
    protocol::run::<River>().await
}
