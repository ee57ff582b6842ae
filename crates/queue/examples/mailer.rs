//! A shop that sends mail in the background: the queue in a program of its own, with nothing else of Tenure.
//!
//! It enqueues in the transaction that takes an order, so that a mail is sent if and only if the order was taken. One
//! mail fails at first and is tried again; another one is not due yet and asks to go on later; a digest follows a mail in
//! the very statement that finishes it.
//!
//! ```sh
//! SQLX_OFFLINE=true DATABASE_URL=postgres:///shop cargo run -p queue --example mailer
//! ```

use std::{env, time::Duration};

use anyhow::Context;
use queue::{
    Attempt, Backoff, Done, Job, JobError, JobId, JobRecord, NewJob, Queue, Registry, Worker, WorkerOptions,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// What jobs may use: here the shop's database.
#[derive(Clone)]
struct Shop {
    pool: PgPool,
}

/// Thanks a customer for an order.
#[derive(Serialize, Deserialize)]
struct SendMail {
    to: String,
    order: i64,
}

impl Job for SendMail {
    const KIND: &'static str = "send_mail";
    const ATTEMPTS_MAX: u16 = 5;
    const BACKOFF: Backoff = Backoff { base: Duration::from_millis(200), cap: Duration::from_mins(10) };
    type Environment = Shop;

    async fn run(self, attempt: Attempt, shop: Shop) -> Result<Done, JobError> {
        println!("mail to {} about order {}, attempt {}", self.to, self.order, attempt.number());
        if self.to == "bob@example.org" && attempt.number() == 1 {
            return Err(JobError::retry("the mail server hung up"));
        }
        if self.to == "eve@example.org" && attempt.number() == 1 {
            return Err(JobError::snooze(
                Duration::from_millis(500),
                "the customer asked for mail after six",
            ));
        }
        // The note is written only while the lease stands: a second worker cannot leave it twice.
        sqlx::query(
            "insert into shop_mail (order_id, sent_to)
             select $1, $2 from queue.job where id = $3 and fence = $4 for share
             on conflict (order_id) do nothing",
        )
        .bind(self.order)
        .bind(&self.to)
        .bind(attempt.job().0)
        .bind(attempt.fence().0)
        .execute(&shop.pool)
        .await
        .map_err(JobError::retry)?;
        let digest = NewJob::of(&Digest {}).map_err(JobError::retry)?.unique_key("digest");
        Ok(Done::new().output(serde_json::json!({ "sent_to": self.to })).follow_up(digest))
    }
}

/// Counts what was sent; however many mails ask for it, one waits at a time.
#[derive(Serialize, Deserialize)]
struct Digest {}

impl Job for Digest {
    const KIND: &'static str = "digest";
    type Environment = Shop;

    async fn run(self, _attempt: Attempt, shop: Shop) -> Result<Done, JobError> {
        let sent: i64 = sqlx::query_scalar("select count(*) from shop_mail")
            .fetch_one(&shop.pool)
            .await
            .map_err(JobError::retry)?;
        println!("{sent} mails sent so far");
        Ok(Done::new())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr).init();
    let url = env::var("DATABASE_URL").context("DATABASE_URL names the database to use")?;
    let options: sqlx::postgres::PgConnectOptions = url.parse().context("while reading DATABASE_URL")?;
    let queue = Queue::connect(options.clone(), 4).await?;
    queue.install().await?;
    prepare(queue.pool()).await?;

    let mut jobs = Vec::new();
    for customer in ["ada@example.org", "bob@example.org", "eve@example.org"] {
        jobs.push(take_order(&queue, customer).await?);
    }
    let registry = Registry::new(Shop { pool: queue.pool().clone() }).with::<SendMail>().with::<Digest>();
    let worker = Worker::start(options, registry, WorkerOptions::default()).await?;
    let stop = CancellationToken::new();
    // A service would stop at SIGTERM; this program stops when its mails are out.
    let sent = async {
        let sent = all_ended(&queue, &jobs).await;
        stop.cancel();
        sent
    };
    let ((), sent) = tokio::join!(worker.run(stop.clone()), sent);
    for job in sent? {
        println!("job {} {} after {} attempts", job.id, job.state, job.attempt);
    }
    Ok(())
}

async fn prepare(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::raw_sql(
        "create table if not exists shop_order (id bigint generated always as identity primary key, customer text not null);
         create table if not exists shop_mail (order_id bigint primary key, sent_to text not null)",
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The order and its mail stand or fall together.
async fn take_order(queue: &Queue, customer: &str) -> anyhow::Result<JobId> {
    let mut tx = queue.pool().begin().await?;
    let order: i64 = sqlx::query_scalar("insert into shop_order (customer) values ($1) returning id")
        .bind(customer)
        .fetch_one(&mut *tx)
        .await?;
    let mail = NewJob::of(&SendMail { to: customer.to_owned(), order })?;
    let (enqueued, ring) = queue.enqueue_in(&mut tx, &[mail]).await?;
    tx.commit().await?;
    // Only now is there something to wake for.
    queue.ring(ring).await;
    Ok(enqueued[0].id)
}

async fn all_ended(queue: &Queue, jobs: &[JobId]) -> anyhow::Result<Vec<JobRecord>> {
    loop {
        let mut ended = Vec::new();
        for id in jobs {
            ended.push(queue.get(*id).await?.context("a job cannot vanish")?);
        }
        if ended.iter().all(|job| job.state.is_final()) {
            return Ok(ended);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
