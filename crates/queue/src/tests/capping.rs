//! Caps: never more leases than allowed, with any number of claimers, whatever happens to the queue meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection, Executor};
use uuid::Uuid;

use super::support::{Bench, Hand, Stage, act, bench, failure, never, quick, soon, until};
use crate::{CapOn, Done, JobId, Limit, LimitError, LimitName, WorkerOptions, claim, outcome::Outcome};

pub(super) fn tenant(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn cap(on: CapOn, running_max: u32) -> Limit {
    Limit::Cap { queue: Some("default".into()), on, running_max }
}

fn cap_everywhere(on: CapOn, running_max: u32) -> Limit {
    Limit::Cap { queue: None, on, running_max }
}

async fn set(bench: &Bench, limit: Limit) {
    bench.queue.set_limit(&limit).await.unwrap();
}

async fn enqueue(bench: &Bench, count: usize, queue: &str, of: Option<Uuid>) {
    let jobs: Vec<_> = (0..count)
        .map(|i| {
            let job = act(&i.to_string()).queue(queue);
            of.map_or_else(|| job.clone(), |tenant| job.clone().tenant(tenant))
        })
        .collect();
    bench.queue.enqueue_all(&jobs).await.unwrap();
}

/// As many as there ever were at the same time, by the rows of history.
async fn most_at_once(bench: &Bench) -> i64 {
    bench
        .count(
            "select max(running) from (
                select sum(step) over (order by at, step) as running from (
                    select started_at as at, 1 as step from queue.job_history
                    union all select finished_at, -1 from queue.job_history) as steps) as counted",
        )
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q8_hammering_workers_never_run_more_than_the_cap() {
    let bench = bench().await;
    set(&bench, cap(CapOn::Queue, 3)).await;
    let (running, most) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let seen = most.clone();
    let stage = Stage::new(move |_, _| {
        let (running, most) = (running.clone(), seen.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(Done::new())
        }
    });
    let options = WorkerOptions { slots: 8, poll_max: Duration::from_millis(2), ..quick() };
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(bench.start(stage.clone(), options.clone()).await);
    }
    for n in 0..6 {
        enqueue(&bench, 50, "default", Some(tenant(n))).await;
    }
    until(async || {
        let held = bench.count("select count(*) from queue.job where state = 1").await;
        assert!(held <= 3, "{held} leases");
        bench.count("select count(*) from queue.job").await == 0
    })
    .await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(bench.count("select count(*) from queue.job_history where outcome = 1").await, 300);
    assert!(most.load(Ordering::SeqCst) <= 3, "by the handlers: {most:?}");
    assert!(most_at_once(&bench).await <= 3, "by the rows: {}", most_at_once(&bench).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q8_a_claim_waits_for_the_one_before_it_and_counts_what_that_took() {
    let bench = bench().await;
    set(&bench, cap(CapOn::Queue, 1)).await;
    enqueue(&bench, 2, "default", None).await;
    let (mut first, mut second) = (Hand::new(&bench).await, Hand::new(&bench).await);
    first.conn.execute("begin").await.unwrap();
    first.claim_one().await;
    let waiting = tokio::spawn(async move { second.claim(1).await.len() });
    until(async || {
        let waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted
                     and database = (select oid from pg_database where datname = current_database())";
        waiting.is_finished() || bench.count(waits).await == 1
    })
    .await;
    first.conn.execute("commit").await.unwrap();
    assert_eq!(soon(waiting).await.unwrap(), 0, "the cap is full");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q8_a_limit_waits_for_the_plain_claim_under_way_and_counts_it() {
    let bench = bench().await;
    enqueue(&bench, 3, "default", None).await;
    let mut early = Hand::new(&bench).await;
    early.conn.execute("begin").await.unwrap();
    early.claim_one().await;
    let queue = bench.queue.clone();
    let setting = tokio::spawn(async move { queue.set_limit(&cap(CapOn::Queue, 1)).await });
    until(async || {
        let waits =
            "select count(*) from pg_locks where relation = 'queue.governed'::regclass and not granted";
        assert!(!setting.is_finished(), "it does not wait");
        bench.count(waits).await == 1
    })
    .await;
    early.conn.execute("commit").await.unwrap();
    soon(setting).await.unwrap().unwrap();
    assert!(Hand::new(&bench).await.claim(5).await.is_empty(), "what ran before counts");
}

#[tokio::test]
async fn q8_a_backup_that_reads_every_table_holds_up_no_limit() {
    let bench = bench().await;
    let mut backup = bench.db.connect().await;
    let mut tx = backup.begin().await.unwrap();
    sqlx::raw_sql("lock table queue.governed, queue.job in access share mode")
        .execute(&mut *tx)
        .await
        .unwrap();
    soon(Box::pin(set(&bench, cap(CapOn::Queue, 1)))).await;
    tx.rollback().await.unwrap();
}

#[tokio::test]
async fn q8_caps_of_a_queue_of_a_tenant_and_of_both_hold_together() {
    let bench = bench().await;
    let (ada, bob) = (tenant(1), tenant(2));
    set(&bench, cap(CapOn::EachTenant, 4)).await;
    set(&bench, cap(CapOn::Tenant(bob), 2)).await;
    set(&bench, cap_everywhere(CapOn::Tenant(ada), 5)).await;
    for queue in ["default", "other"] {
        for of in [Some(ada), Some(bob), None] {
            enqueue(&bench, 10, queue, of).await;
        }
    }
    let mut hand = Hand::new(&bench).await;
    let claimed = hand.claim(30).await;
    let of = |tenant| claimed.iter().filter(|job| job.tenant == tenant).count();
    assert_eq!((of(Some(ada)), of(Some(bob)), of(None)), (4, 2, 4), "each its own, or the one for each");
    let other = Hand::of_queue(&bench, "other").await.claim(30).await;
    let of = |tenant| other.iter().filter(|job| job.tenant == tenant).count();
    assert_eq!(
        (of(Some(ada)), of(Some(bob)), of(None)),
        (1, 10, 10),
        "one is left of ada's five, over all queues"
    );

    set(&bench, cap(CapOn::Queue, 11)).await;
    let done = claimed.iter().find(|job| job.tenant == Some(bob)).unwrap();
    assert!(hand.end(done, Outcome::Succeeded(Done::new())).await);
    let next = hand.claim(30).await;
    assert_eq!(next.iter().map(|job| job.tenant).collect::<Vec<_>>(), [Some(bob)], "his place is free again");
}

#[tokio::test]
async fn a_cap_changes_at_run_time() {
    let bench = bench().await;
    enqueue(&bench, 10, "default", None).await;
    let mut hand = Hand::new(&bench).await;
    assert_eq!(hand.claim(4).await.len(), 4);
    set(&bench, cap(CapOn::Queue, 2)).await;
    assert!(hand.claim(4).await.is_empty(), "what ran before counts");
    set(&bench, cap(CapOn::Queue, 5)).await;
    assert_eq!(hand.claim(4).await.len(), 1);
    let name = LimitName::Cap { queue: Some("default".into()), on: CapOn::Queue };
    assert!(bench.queue.clear_limit(&name).await.unwrap());
    assert!(!bench.queue.clear_limit(&name).await.unwrap(), "it was gone");
    let mut fresh = Hand::new(&bench).await;
    until(async || {
        crate::governed::dissolve(&mut fresh.conn).await.unwrap();
        bench.count("select count(*) from queue.job where state = 0 and governed").await == 0
    })
    .await;
    assert_eq!(fresh.claim(10).await.len(), 5, "the rest is claimed plainly");
}

#[tokio::test]
async fn q1_no_job_is_lost_between_the_two_claims() {
    let bench = bench().await;
    let worker = bench.start(Stage::of_success(), quick()).await;
    let name = LimitName::Fair { queue: "default".into() };
    let fair = Limit::Fair { queue: "default".into() };
    let all_done = async || {
        until(async || bench.count("select count(*) from queue.job").await == 0).await;
    };
    // Each of these transactions sees the queue on one side and commits when the worker is on the other.
    for _ in 0..2 {
        let mut conn = bench.db.connect().await;
        let mut tx = conn.begin().await.unwrap();
        let (_jobs, _ring) =
            bench.queue.enqueue_in(&mut tx, &[act("enqueued plain, committed governed")]).await.unwrap();
        set(&bench, fair.clone()).await;
        bench.enqueue("shows the worker the queue's side").await;
        all_done().await;
        tx.commit().await.unwrap();
        all_done().await;
        let mut tx = conn.begin().await.unwrap();
        let (_jobs, _ring) =
            bench.queue.enqueue_in(&mut tx, &[act("enqueued governed, committed plain")]).await.unwrap();
        bench.queue.clear_limit(&name).await.unwrap();
        bench.enqueue("shows the worker the queue's side").await;
        all_done().await;
        tx.commit().await.unwrap();
        all_done().await;
    }
    worker.stop().await;
}

#[tokio::test]
async fn q1_what_comes_back_to_a_governed_queue_is_claimed_again() {
    let bench = bench().await;
    set(&bench, cap(CapOn::Queue, 1)).await;
    let id = bench.enqueue("x").await;
    let mut hand = Hand::new(&bench).await;
    let again = |failed| Outcome::Retry { failure: failure(failed), after: Duration::ZERO };
    // Coming back it stands outside its line until the next full look.
    hand.lanes.look_from_the_beginning_in(Duration::ZERO);
    let first = hand.claim_one().await;
    assert!(hand.end(&first, again("1")).await);
    hand.lanes.look_from_the_beginning_in(Duration::ZERO);
    assert_eq!(hand.claim_one().await.id, id, "after a failure");
    bench.expire(id).await;
    bench.rescue(&[]).await;
    hand.lanes.look_from_the_beginning_in(Duration::ZERO);
    assert_eq!(hand.claim_one().await.id, id, "after a loss");
    crate::release::disown(&mut hand.conn, hand.claimer.worker, "default", &[]).await.unwrap();
    hand.lanes.look_from_the_beginning_in(Duration::ZERO);
    let last = hand.claim_one().await;
    assert!(hand.end(&last, Outcome::Cancelled { note: "enough".into() }).await);
    bench.queue.retry(id).await.unwrap();
    hand.lanes.look_from_the_beginning_in(Duration::ZERO);
    assert_eq!(hand.claim_one().await.id, id, "after its end");
}

#[tokio::test]
async fn q8_a_suspect_does_not_pass_a_full_cap() {
    let bench = bench().await;
    set(&bench, cap(CapOn::EachTenant, 1)).await;
    enqueue(&bench, 2, "default", Some(tenant(1))).await;
    let mut hand = Hand::new(&bench).await;
    let running = hand.claim_one().await;
    bench.sql("update queue.job set suspect = true where state = 0").await;
    let queue: Arc<str> = "default".into();
    assert!(claim::oldest_suspect(&mut hand.conn, &queue).await.unwrap().is_none(), "nobody runs dry for it");
    assert!(claim::claim_suspect(&mut hand.conn, &queue, hand.claimer).await.unwrap().is_none());
    assert!(hand.end(&running, Outcome::Succeeded(Done::new())).await);
    assert!(claim::oldest_suspect(&mut hand.conn, &queue).await.unwrap().is_some());
    let suspect = claim::claim_suspect(&mut hand.conn, &queue, hand.claimer).await.unwrap().unwrap();
    assert!(suspect.suspect);
    enqueue(&bench, 1, "default", Some(tenant(1))).await;
    assert!(hand.claim(1).await.is_empty(), "it counts like any other");
}

#[tokio::test]
async fn a_paused_governed_queue_gives_nothing_out() {
    let bench = bench().await;
    set(&bench, cap(CapOn::Queue, 1)).await;
    bench.enqueue("x").await;
    bench.queue.pause("default", "ada", None).await.unwrap();
    let mut hand = Hand::new(&bench).await;
    never(async || !hand.claim(1).await.is_empty()).await;
    bench.queue.resume("default").await.unwrap();
    hand.claim_one().await;
}

#[tokio::test]
async fn a_job_that_a_cap_holds_back_can_be_told_by_whom() {
    let bench = bench().await;
    set(&bench, cap(CapOn::EachTenant, 1)).await;
    enqueue(&bench, 2, "default", Some(tenant(1))).await;
    let running = Hand::new(&bench).await.claim_one().await;
    let (allowed, held_by): (i32, Vec<i64>) = sqlx::query_as(
        "select allowed, held_by from queue.job j, queue.blocked_by_limit(j.id) where j.state = 0 and each_tenant",
    )
    .fetch_one(&bench.pool)
    .await
    .unwrap();
    assert_eq!((allowed, held_by.as_slice()), (1, &[running.id.0][..]));
    assert_eq!(JobId(held_by[0]), running.id);
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused() {
    let bench = bench().await;
    let refused = async |limit| bench.queue.set_limit(&limit).await.unwrap_err();
    let zero = refused(cap(CapOn::Queue, 0)).await;
    assert_eq!(zero.to_string(), "a cap of 0 would let nothing run: to stop a queue, pause it");
    assert!(matches!(refused(cap(CapOn::Queue, u32::MAX)).await, LimitError::TooLarge { .. }));
    assert!(matches!(refused(cap_everywhere(CapOn::Queue, 5)).await, LimitError::Everything));
    assert!(matches!(refused(Limit::Fair { queue: "*".into() }).await, LimitError::QueueName));
    assert!(matches!(
        refused(Limit::Weight { tenant: tenant(1), weight: 0 }).await,
        LimitError::Zero("weight")
    ));
    let rate = |starts, per| Limit::Rate { queue: None, key: "k".into(), starts, per, burst: 1 };
    assert!(matches!(refused(rate(0, Duration::from_secs(1))).await, LimitError::Zero("rate")));
    assert!(matches!(refused(rate(2, Duration::from_micros(1))).await, LimitError::Rate { .. }));
    assert!(matches!(refused(rate(1, Duration::MAX)).await, LimitError::Rate { .. }));
    assert!(bench.queue.limits().await.unwrap().is_empty());
}

#[tokio::test]
async fn limits_are_listed_as_they_were_set() {
    let bench = bench().await;
    let limits = [
        cap_everywhere(CapOn::EachTenant, 3),
        cap(CapOn::Queue, 7),
        cap(CapOn::Tenant(tenant(1)), 2),
        Limit::Rate { queue: None, key: "k".into(), starts: 3, per: Duration::from_mins(1), burst: 2 },
        Limit::Weight { tenant: tenant(2), weight: 3 },
        Limit::Fair { queue: "eu".into() },
    ];
    for limit in &limits {
        set(&bench, limit.clone()).await;
    }
    let mut listed = bench.queue.limits().await.unwrap();
    for limit in &limits {
        assert!(listed.contains(limit), "{limit:?} is not in {listed:?}");
        listed.retain(|other| other != limit);
        assert!(bench.queue.clear_limit(&limit.name()).await.unwrap());
    }
    assert!(listed.is_empty() && bench.queue.limits().await.unwrap().is_empty());
    assert_eq!(bench.count("select count(*) from queue.governed").await, 0, "nothing is governed any more");
}
