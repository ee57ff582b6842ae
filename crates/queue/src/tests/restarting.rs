//! Postgres going away under a working worker.

use std::time::Duration;

use database::{embedded::ShutdownMode, testing::OwnServer};
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::support::{Stage, act, await_count, bench_on, quick, until};
use crate::{Attempt, Done, JobError, State, WorkerOptions};

/// Writes the job's effect if the attempt's lease stands, in one statement; waits out a database that is down.
async fn apply(pool: &PgPool, attempt: &Attempt) -> Result<(), JobError> {
    loop {
        let written = sqlx::query(
            "with mine as (select id, fence from queue.job where id = $1 and fence = $2 for share)
             insert into effect (job, fence) select id, fence from mine on conflict (job, fence) do nothing",
        )
        .bind(attempt.job().0)
        .bind(attempt.fence().0)
        .execute(pool)
        .await;
        match written {
            Ok(_) => return Ok(()),
            Err(_) if attempt.should_stop() => return Err(JobError::fenced()),
            Err(_down) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q1_q2_restarts_of_postgres_lose_no_job_no_lease_and_repeat_no_effect() {
    let mut server = OwnServer::start().await;
    let bench = bench_on(server.database(&[&crate::migrations()]).await).await;
    bench.sql("create table effect (job bigint, fence bigint, primary key (job, fence))").await;
    let pool = PgPoolOptions::new()
        .max_connections(20)
        .acquire_timeout(Duration::from_secs(1))
        .connect_lazy_with(bench.db.options());
    let stage = Stage::new(move |name, attempt| {
        let pool = pool.clone();
        async move {
            apply(&pool, &attempt).await?;
            if name == "long" {
                await_count(&pool, "select count(*) from pg_class where relname = 'over'", 1).await;
            }
            Ok(Done::new())
        }
    });
    let options = WorkerOptions {
        slots: 40,
        lease: Duration::from_secs(15),
        heartbeat: Duration::from_secs(2),
        ..quick()
    };
    let worker = bench.start(stage, options).await;
    let mut jobs: Vec<_> = (0..20).map(|_| act("long")).collect();
    jobs.extend((0..180).map(|_| act("short")));
    let jobs = bench.queue.enqueue_all(&jobs).await.unwrap();
    for mode in [ShutdownMode::Fast, ShutdownMode::Immediate, ShutdownMode::Fast, ShutdownMode::Immediate] {
        let before = bench.count("select count(*) from queue.job_history").await;
        let more: Vec<_> = (0..50).map(|_| act("short")).collect();
        bench.queue.enqueue_all(&more).await.unwrap();
        until(async || bench.count("select count(*) from queue.job_history").await > before).await;
        server.restart(mode).await;
        // The pool of the test finds its connections broken one by one.
        until(async || sqlx::query("select").execute(&bench.pool).await.is_ok()).await;
        until(async || bench.queue.queues().await.is_ok()).await;
    }
    until(async || sqlx::query("create table over ()").execute(&bench.pool).await.is_ok()).await;
    until(async || bench.queue.queues().await.is_ok_and(|queues| queues.is_empty())).await;

    for job in &jobs {
        assert_eq!(bench.state(job.id).await, State::Succeeded);
    }
    assert_eq!(bench.count("select count(*) from queue.job_history where outcome = 1").await, 400);
    assert_eq!(
        bench.count("select count(*) from (select from effect group by job having count(*) > 1) as t").await,
        0
    );
    assert_eq!(bench.count("select count(*) from effect").await, 400);
    // A claim whose answer was lost is given back and claimed again: that is a second claim, but no lost lease.
    assert_eq!(bench.count("select count(*) from queue.job_history where losses > 0").await, 0);
    assert_eq!(bench.count("select count(*) from queue.attempt").await, 0);
    until(async || super::support::is_locked(&bench, worker.id).await).await;
    worker.stop().await;
}
