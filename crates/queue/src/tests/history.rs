//! The partitions of history: there when they are needed, gone when their time is over, in nobody's way.

use std::time::Duration;

use chrono::Days;
use sqlx::{AssertSqlSafe, Connection};

use super::support::{Bench, GUARD, Hand, Stage, bench, quick};
use crate::{Done, Retention, State, WorkerOptions, history, outcome::Outcome};

async fn partitions(bench: &Bench) -> i64 {
    bench.count("select count(*) from pg_inherits where inhparent in ('queue.job_history'::regclass, 'queue.attempt'::regclass)").await
}

/// Leaves no day to finish on.
pub(super) async fn drop_partitions(bench: &Bench) {
    let names: Vec<String> = sqlx::query_scalar(
        "select inhrelid::regclass::text from pg_inherits
         where inhparent in ('queue.job_history'::regclass, 'queue.attempt'::regclass)",
    )
    .fetch_all(&bench.pool)
    .await
    .unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("drop table {}", names.join(", "))))
        .execute(&bench.pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn yesterday_today_and_a_week_ahead_have_their_partition() {
    let bench = bench().await;
    assert_eq!(partitions(&bench).await, 2 * 9);
    bench.queue.prepare_history().await.unwrap();
    assert_eq!(partitions(&bench).await, 2 * 9);
}

#[tokio::test]
async fn a_job_that_finishes_on_a_day_without_a_partition_makes_it() {
    let bench = bench().await;
    let worker = bench.start(Stage::new(async |_, _| Err(crate::JobError::retry("no"))), quick()).await;
    drop_partitions(&bench).await;
    let id = bench.enqueue("x").await;
    bench.await_state(id, State::Failed).await;
    assert_eq!(bench.queue.attempts(id).await.unwrap().len(), 3);
    assert_eq!(bench.record(id).await.attempt, 3, "no outcome was thrown away");
    worker.stop().await;
}

#[tokio::test]
async fn q11_a_job_can_be_cancelled_on_a_day_without_a_partition() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    drop_partitions(&bench).await;
    assert_eq!(bench.queue.cancel(id, "ada").await.unwrap(), crate::Cancelled::Never);
    assert_eq!(bench.state(id).await, State::Cancelled);
}

#[tokio::test]
async fn a_job_that_ends_at_the_turn_of_a_utc_day_lies_in_that_day_whatever_the_sessions_time_zone() {
    let bench = bench().await;
    drop_partitions(&bench).await;
    let mut conn = bench.conn().await;
    sqlx::query("set time zone 'Pacific/Kiritimati'").execute(&mut conn).await.unwrap();
    history::ensure_partitions(&mut conn).await.unwrap();
    let bounds: Vec<String> = sqlx::query_scalar(
        "select pg_get_expr(relpartbound, oid) from pg_class where relname = 'job_history_' || to_char(now() at time zone 'UTC', 'YYYYMMDD')",
    )
    .fetch_all(&bench.pool)
    .await
    .unwrap();
    let today = bench.now().await.date_naive();
    assert!(bounds[0].contains(&format!("'{today} 00:00:00+00'")), "{bounds:?}");
}

async fn add_old_partition(bench: &Bench, days_ago: u64) -> String {
    let day = bench.now().await.date_naive() - Days::new(days_ago);
    let name = format!("queue.job_history_{}", day.format("%Y%m%d"));
    let statement = format!(
        "create table {name} partition of queue.job_history for values from ('{day} 00:00:00+00') to ('{} 00:00:00+00')",
        day + Days::new(1)
    );
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&bench.pool).await.unwrap();
    name
}

async fn exists(bench: &Bench, name: &str) -> bool {
    sqlx::query_scalar("select to_regclass($1) is not null").bind(name).fetch_one(&bench.pool).await.unwrap()
}

#[tokio::test]
async fn days_past_their_retention_are_dropped_and_no_others() {
    let bench = bench().await;
    let (kept, dropped) = (add_old_partition(&bench, 30).await, add_old_partition(&bench, 31).await);
    // A process died between taking it out and dropping it: what was promised to be gone must not lie there for ever.
    let orphan = add_old_partition(&bench, 40).await;
    let detach = format!("alter table queue.job_history detach partition {orphan}");
    sqlx::raw_sql(AssertSqlSafe(detach)).execute(&bench.pool).await.unwrap();
    bench.sql("insert into queue.idempotency_key values ('s', 'old', 1, '', now() - interval '1 s'), ('s', 'new', 2, '', now() + interval '1 h')").await;

    bench.queue.drop_expired(Retention { days: 30 }).await.unwrap();

    assert!(exists(&bench, &kept).await);
    assert!(!exists(&bench, &dropped).await);
    assert!(!exists(&bench, &orphan).await);
    assert_eq!(partitions(&bench).await, 2 * 9 + 1);
    assert_eq!(bench.count("select sum(job)::bigint from queue.idempotency_key").await, 2);
}

#[tokio::test]
async fn workers_that_drop_the_same_days_at_the_same_time_all_succeed() {
    let bench = bench().await;
    for days in 31..36 {
        add_old_partition(&bench, days).await;
    }
    let drops = (0..4).map(|_| bench.queue.drop_expired(Retention { days: 30 }));
    for dropped in futures_util::future::join_all(drops).await {
        dropped.unwrap();
    }
    assert_eq!(partitions(&bench).await, 2 * 9);
}

#[tokio::test]
async fn a_partition_is_brought_in_while_a_reader_holds_the_table_and_jobs_go_on_finishing() {
    let bench = bench().await;
    let mut hand = Hand::new(&bench).await;
    let id = bench.enqueue("x").await;
    let claimed = hand.claim_one().await;
    let tomorrow = bench.now().await.date_naive() + Days::new(1);
    let name = tomorrow.format("%Y%m%d");
    let drop_it = format!("drop table queue.job_history_{name}, queue.attempt_{name}");
    sqlx::raw_sql(AssertSqlSafe(drop_it)).execute(&bench.pool).await.unwrap();
    let mut reader = bench.db.connect().await;
    let mut tx = reader.begin().await.unwrap();
    sqlx::query("select from queue.job_history, queue.attempt").execute(&mut *tx).await.unwrap();

    let made = tokio::time::timeout(GUARD / 4, bench.queue.prepare_history()).await;
    made.expect("it waits for no reader").unwrap();
    assert!(hand.end(&claimed, Outcome::Succeeded(Done::new())).await);
    assert_eq!(partitions(&bench).await, 2 * 9);
    assert_eq!(bench.state(id).await, State::Succeeded);
    tx.rollback().await.unwrap();
}

#[tokio::test]
async fn a_worker_drops_old_days_by_itself() {
    let bench = bench().await;
    let old = add_old_partition(&bench, 9).await;
    let options =
        WorkerOptions { retention: Retention { days: 7 }, poll_max: Duration::from_millis(20), ..quick() };
    let worker = bench.start(Stage::of_success(), options).await;
    super::support::until(async || !exists(&bench, &old).await).await;
    worker.stop().await;
}
