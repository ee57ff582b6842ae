//! awa with queue storage, its default engine, and what its documents and its own benchmarks set for speed.

use std::time::Duration;

use anyhow::Result;
use awa::{
    Client, InsertOpts, InsertParams, JobArgs, JobResult, QueueConfig, QueueStorage, QueueStorageConfig,
    model::{insert::params_with, migrations},
};
use protocol::System;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};

const CONNECTIONS_MAX: u32 = 20;
const WORKERS_MAX: u32 = 512;
const CLAIMERS: u16 = 4;
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const QUEUE_ROTATE: Duration = Duration::from_secs(1);
const LEASE_ROTATE: Duration = Duration::from_millis(250);
const STOP_MAX: Duration = Duration::from_secs(30);

#[derive(Serialize, Deserialize, JobArgs)]
struct Nothing {
    n: u64,
}

struct Awa;

impl System for Awa {
    type Producer = (PgPool, QueueStorage);
    type Worker = Client;

    async fn setup(url: &str) -> Result<()> {
        let pool = connect(url).await?;
        migrations::run(&pool).await?;
        QueueStorage::new(QueueStorageConfig::default())?.install(&pool).await?;
        Ok(())
    }

    async fn producer(url: &str) -> Result<Self::Producer> {
        Ok((connect(url).await?, QueueStorage::new(QueueStorageConfig::default())?))
    }

    async fn enqueue(
        (pool, storage): &mut Self::Producer,
        queue: &str,
        first: u64,
        count: u64,
        _: u64,
    ) -> Result<()> {
        let options = InsertOpts { queue: queue.into(), ..InsertOpts::default() };
        let jobs: Vec<InsertParams> = (first..first + count)
            .map(|n| params_with(&Nothing { n }, options.clone()))
            .collect::<Result<_, _>>()?;
        storage.enqueue_params_copy(pool, &jobs).await?;
        Ok(())
    }

    async fn start(url: &str, queue: &str) -> Result<Client> {
        let config = QueueConfig {
            max_workers: WORKERS_MAX,
            claimers: CLAIMERS,
            poll_interval: POLL_INTERVAL,
            // Without a deadline claims are written by the batch instead of by the row.
            deadline_duration: Duration::ZERO,
            ..QueueConfig::default()
        };
        let client = Client::builder(connect(url).await?)
            .queue(queue, config)
            .queue_storage(QueueStorageConfig::default(), QUEUE_ROTATE, LEASE_ROTATE)
            .register::<Nothing, _, _>(|_, _| async {
                protocol::began();
                Ok(JobResult::Completed)
            })
            .build()?;
        client.start().await?;
        Ok(client)
    }

    async fn stop(client: Client) -> Result<()> {
        client.shutdown(STOP_MAX).await;
        Ok(())
    }
}

async fn connect(url: &str) -> Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(CONNECTIONS_MAX).connect(url).await?)
}

#[tokio::main]
async fn main() -> Result<()> {
    protocol::run::<Awa>().await
}
