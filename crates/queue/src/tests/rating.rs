//! Rates: no span of time sees more starts than its budget, and what has to wait is in nobody's way.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    capping::tenant,
    support::{Bench, Hand, Stage, act, bench, quick, until},
};
use crate::{Done, JobId, Limit, State, WaitReason, outcome::Outcome};

fn rate(queue: Option<&str>, starts: u32, per: Duration, burst: u32) -> Limit {
    Limit::Rate { queue: queue.map(str::to_owned), key: "crm".into(), starts, per, burst }
}

async fn enqueue(bench: &Bench, count: usize) -> Vec<JobId> {
    let jobs: Vec<_> = (0..count).map(|_| act("x").tenant(tenant(1)).rate_key("crm")).collect();
    bench.queue.enqueue_all(&jobs).await.unwrap().iter().map(|job| job.id).collect()
}

/// The starts by the database's clock, in their order.
async fn starts(bench: &Bench) -> Vec<DateTime<Utc>> {
    sqlx::query_scalar("select started_at from queue.job_history where rate_key is not null order by 1")
        .fetch_all(&bench.pool)
        .await
        .unwrap()
}

/// Works the jobs off with several workers and answers the starts.
async fn run(bench: &Bench, count: usize) -> Vec<DateTime<Utc>> {
    enqueue(bench, count).await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(bench.start(Stage::of_success(), quick()).await);
    }
    until(async || bench.count("select count(*) from queue.job").await == 0).await;
    for worker in workers {
        worker.stop().await;
    }
    starts(bench).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q8_no_window_sees_more_starts_than_the_rate() {
    let bench = bench().await;
    bench.queue.set_limit(&rate(None, 3, Duration::from_millis(300), 1)).await.unwrap();
    let starts = run(&bench, 16).await;
    assert_eq!(starts.len(), 16);
    for window in starts.windows(4) {
        let took = (window[3] - window[0]).to_std().unwrap();
        assert!(took >= Duration::from_millis(300), "four starts in {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q8_no_window_sees_more_starts_than_the_burst_and_what_was_earned() {
    let bench = bench().await;
    bench.queue.set_limit(&rate(Some("default"), 1, Duration::from_millis(100), 5)).await.unwrap();
    let starts = run(&bench, 15).await;
    for (first, from) in starts.iter().enumerate() {
        for (last, to) in starts.iter().enumerate().skip(first) {
            let earned = (*to - *from).num_milliseconds() / 100;
            let seen = i64::try_from(last - first + 1).unwrap();
            assert!(seen <= 5 + earned, "{seen} starts from {from} to {to}");
        }
    }
}

#[tokio::test]
async fn q8_a_burst_starts_at_once_and_nothing_beyond_it() {
    let bench = bench().await;
    bench.queue.set_limit(&rate(Some("default"), 1, Duration::from_mins(1), 5)).await.unwrap();
    enqueue(&bench, 15).await;
    let mut hand = Hand::new(&bench).await;
    assert_eq!(hand.claim(10).await.len(), 5);
    assert!(hand.claim(10).await.is_empty());
}

#[tokio::test]
async fn a_job_without_a_token_waits_for_the_next_and_is_in_nobodys_way() {
    let bench = bench().await;
    bench.queue.set_limit(&rate(None, 1, Duration::from_mins(1), 1)).await.unwrap();
    let limited = enqueue(&bench, 300).await;
    let free = bench.queue.enqueue(act("x").tenant(tenant(1))).await.unwrap().id;
    let mut hand = Hand::new(&bench).await;
    let claimed: Vec<JobId> = hand.claim(2).await.iter().map(|job| job.id).collect();
    assert_eq!(claimed, [limited[0], free], "two slots are filled at once");

    let put_off = bench.record(limited[1]).await;
    assert_eq!((put_off.reason, put_off.state), (WaitReason::RateLimited, State::Ready));
    let wait = (put_off.run_at - bench.now().await).num_seconds();
    assert!((55..=60).contains(&wait), "the next token is its: {wait}");
    let last = bench.record(limited[299]).await;
    assert!((last.run_at - bench.now().await).num_seconds() <= 6 * 60, "never far ahead of the next token");
    let until: DateTime<Utc> = sqlx::query_scalar("select until from queue.blocked_by_limit($1)")
        .bind(limited[1].0)
        .fetch_one(&bench.pool)
        .await
        .unwrap();
    assert_eq!(until, put_off.run_at);
    assert_eq!(
        bench.count("select count(*) from queue.job where state = 0 and governed").await,
        0,
        "none is looked at again"
    );
}

#[tokio::test]
async fn a_bucket_for_all_queues_and_one_for_a_queue_bind_together() {
    let bench = bench().await;
    bench.queue.set_limit(&rate(None, 1, Duration::from_mins(1), 3)).await.unwrap();
    bench.queue.set_limit(&rate(Some("default"), 1, Duration::from_mins(1), 2)).await.unwrap();
    enqueue(&bench, 5).await;
    let jobs: Vec<_> = (0..5).map(|_| act("x").rate_key("crm").queue("other")).collect();
    bench.queue.enqueue_all(&jobs).await.unwrap();
    assert_eq!(Hand::new(&bench).await.claim(10).await.len(), 2);
    assert_eq!(Hand::of_queue(&bench, "other").await.claim(10).await.len(), 1, "one token is left for all");
}

#[tokio::test]
async fn a_jobs_key_outlives_its_end_and_goes_to_its_follow_up() {
    let bench = bench().await;
    bench.queue.set_limit(&rate(None, 1, Duration::from_mins(1), 1)).await.unwrap();
    let id = enqueue(&bench, 1).await[0];
    let mut hand = Hand::new(&bench).await;
    let job = hand.claim_one().await;
    assert!(hand.end(&job, Outcome::Cancelled { note: String::new() }).await);
    bench.queue.retry(id).await.unwrap();
    assert!(hand.claim(1).await.is_empty(), "revived, it waits for a token");
    bench.sql("update queue.rate set full_at = '-infinity'").await;
    bench.sql("update queue.job set run_at = now()").await;
    hand.lanes.look_from_the_beginning_in(Duration::ZERO);
    let job = hand.claim_one().await;
    let done = Done::new().follow_up(act("next").rate_key("crm"));
    assert!(hand.end(&job, Outcome::Succeeded(done)).await);
    hand.lanes.look_from_the_beginning_in(Duration::ZERO);
    assert!(hand.claim(1).await.is_empty(), "so does the follow-up");
}
