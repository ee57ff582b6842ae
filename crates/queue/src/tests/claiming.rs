//! Taking due jobs: in order, never twice, whatever lies in front of them.

use std::{collections::HashSet, time::Duration};

use chrono::TimeDelta;
use sqlx::Connection;
use tokio::sync::Semaphore;

use super::support::{Bench, GUARD, Hand, Stage, act, bench, never, quick, until};
use crate::{Done, JobId, Priority, State, WorkerOptions, outcome::Outcome};

async fn enqueue(bench: &Bench, priority: Priority, age_secs: i64) -> JobId {
    let run_at = bench.now().await - TimeDelta::seconds(age_secs);
    bench.queue.enqueue(act("x").priority(priority).run_at(run_at)).await.unwrap().id
}

async fn drawn(hand: &mut Hand) -> Vec<JobId> {
    let mut ids = Vec::new();
    while let Some(job) = hand.claim(1).await.pop() {
        ids.push(job.id);
    }
    ids
}

#[tokio::test]
async fn jobs_are_drawn_by_priority_then_by_their_time() {
    let bench = bench().await;
    let low = enqueue(&bench, Priority::Low, 0).await;
    let normal_late = enqueue(&bench, Priority::Normal, 10).await;
    let normal_early = enqueue(&bench, Priority::Normal, 20).await;
    let high = enqueue(&bench, Priority::High, 0).await;
    let urgent = enqueue(&bench, Priority::Urgent, 0).await;
    let order = drawn(&mut Hand::new(&bench).await).await;
    assert_eq!(order, [urgent, high, normal_early, normal_late, low]);
}

#[tokio::test]
async fn q9_a_low_job_has_its_turn_in_an_endless_stream_of_urgent_ones() {
    let bench = bench().await;
    let low = enqueue(&bench, Priority::Low, 0).await;
    let mut hand = Hand::new(&bench).await;
    for _ in 0..10 {
        enqueue(&bench, Priority::Urgent, 0).await;
        assert_ne!(hand.claim_one().await.id, low, "it is not its turn yet");
    }
    // Three steps of aging lie between the two.
    bench.sql("update queue.job set run_at = now() - interval '181 s' where state = 0").await;
    enqueue(&bench, Priority::Urgent, 0).await;
    let mut drawn = Vec::new();
    for _ in 0..3 {
        enqueue(&bench, Priority::Urgent, 0).await;
        drawn.push(hand.claim_one().await.id);
    }
    assert!(drawn.contains(&low), "it has aged into its turn");
}

#[tokio::test]
async fn q1_a_job_committed_late_with_an_earlier_time_is_found() {
    let bench = bench().await;
    let mut hand = Hand::new(&bench).await;
    let mut conn = bench.db.connect().await;
    let mut tx = conn.begin().await.unwrap();
    let (late, _ring) = bench.queue.enqueue_in(&mut tx, &[act("late")]).await.unwrap();
    for _ in 0..3 {
        bench.enqueue("early").await;
        hand.claim_one().await;
    }
    tx.commit().await.unwrap();
    // The full look comes within twenty times the cost of the last one; a backlog goes on being claimed meanwhile.
    let found = async {
        loop {
            bench.enqueue("more").await;
            if hand.claim(1).await.iter().any(|job| job.id == late[0].id) {
                return;
            }
        }
    };
    tokio::time::timeout(GUARD, found).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q2_eight_claimers_never_hold_the_same_job() {
    let bench = bench().await;
    let jobs: Vec<_> = (0..400).map(|i| act(&i.to_string())).collect();
    bench.queue.enqueue_all(&jobs).await.unwrap();
    let claimers = (0..8).map(async |_| {
        let mut hand = Hand::new(&bench).await;
        let mut mine = Vec::new();
        loop {
            let claimed = hand.claim(7).await;
            // A lane's rows may all be locked by the others for a moment: the table says when it is over.
            if claimed.is_empty() && bench.count("select count(*) from queue.job where state = 0").await == 0
            {
                return mine;
            }
            mine.extend(claimed.into_iter().map(|job| job.id));
        }
    });
    let all: Vec<JobId> = futures_util::future::join_all(claimers).await.concat();
    assert_eq!(all.len(), 400);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 400);
}

#[tokio::test]
async fn a_locked_job_does_not_hold_up_the_other_lanes() {
    let bench = bench().await;
    let locked = enqueue(&bench, Priority::Urgent, 0).await;
    let free = enqueue(&bench, Priority::Normal, 0).await;
    let mut conn = bench.db.connect().await;
    let mut tx = conn.begin().await.unwrap();
    sqlx::query("select from queue.job where id = $1 for update")
        .bind(locked.0)
        .execute(&mut *tx)
        .await
        .unwrap();

    let mut hand = Hand::new(&bench).await;
    assert_eq!(hand.claim_one().await.id, free);
    tx.rollback().await.unwrap();
    assert_eq!(hand.claim_one().await.id, locked);
}

#[tokio::test]
async fn a_job_run_more_often_than_a_smallint_counts_does_not_stop_the_queue() {
    let bench = bench().await;
    let often = bench.enqueue("often").await;
    let other = bench.enqueue("other").await;
    bench.sql("update queue.job set attempt = 32767, losses = 32767").await;
    let mut hand = Hand::new(&bench).await;
    let claimed: HashSet<_> = hand.claim(2).await.iter().map(|job| job.id).collect();
    assert_eq!(claimed, HashSet::from([often, other]));
    bench.expire(often).await;
    assert_eq!(bench.rescue(&[]).await.len(), 1);
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_out_until_it_is_resumed() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    bench.queue.pause("default", "ada", Some("a look first")).await.unwrap();
    let mut hand = Hand::new(&bench).await;
    assert!(hand.claim(1).await.is_empty());
    let paused = &bench.queue.queues().await.unwrap()[0];
    assert_eq!((paused.paused_by.as_deref(), paused.ready), (Some("ada"), 1));

    assert!(bench.queue.resume("default").await.unwrap());
    assert!(!bench.queue.resume("default").await.unwrap(), "it was open");
    assert_eq!(hand.claim_one().await.id, id);
}

#[tokio::test]
async fn a_full_worker_claims_nothing() {
    let bench = bench().await;
    let gate = std::sync::Arc::new(Semaphore::new(0));
    for i in 0..10 {
        bench.enqueue(&i.to_string()).await;
    }
    let held = gate.clone();
    let stage = Stage::new(move |_, _| {
        let gate = held.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(Done::new())
        }
    });
    let worker = bench.start(stage, WorkerOptions { slots: 2, ..quick() }).await;
    until(async || bench.count("select count(*) from queue.job where state = 1").await == 2).await;
    never(async || bench.count("select count(*) from queue.job where state = 1").await > 2).await;
    gate.add_permits(10);
    until(async || bench.count("select count(*) from queue.job").await == 0).await;
    worker.stop().await;
}

#[tokio::test]
async fn one_slot_serves_several_queues() {
    let bench = bench().await;
    let queues: Vec<String> = (0..5).map(|i| format!("queue {i}")).collect();
    for (i, queue) in queues.iter().cycle().take(25).enumerate() {
        bench.queue.enqueue(act(&i.to_string()).queue(queue)).await.unwrap();
    }
    let worker = bench.start(Stage::of_success(), WorkerOptions { slots: 1, queues, ..quick() }).await;
    until(async || bench.count("select count(*) from queue.job_history where outcome = 1").await == 25).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_bell_wakes_a_worker_that_polls_seldom() {
    let bench = bench().await;
    let options = WorkerOptions { poll_max: Duration::from_mins(5), ..quick() };
    let worker = bench.start(Stage::of_success(), options).await;
    for _ in 0..3 {
        // Idle for a second and a half, it looks again only after another one.
        for _ in 0..5 {
            never(async || false).await;
        }
        let began = std::time::Instant::now();
        let id = bench.enqueue("x").await;
        bench.await_state(id, State::Succeeded).await;
        assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_finished_job_makes_room_for_the_next_in_its_lane() {
    let bench = bench().await;
    let mut hand = Hand::new(&bench).await;
    for _ in 0..50 {
        let id = bench.enqueue("x").await;
        let claimed = hand.claim_one().await;
        assert_eq!(claimed.id, id);
        assert!(hand.end(&claimed, Outcome::Succeeded(Done::new())).await);
    }
}

#[test]
#[should_panic(expected = "two kinds are called act")]
fn a_kind_registered_twice_is_refused_at_the_start() {
    let _ = super::support::registry(Stage::of_success()).with::<super::support::Act>();
}
