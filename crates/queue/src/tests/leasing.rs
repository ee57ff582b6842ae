//! The fence: an attempt that lost its lease writes nothing, learns of it and stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, Semaphore, mpsc};

use super::support::{Hand, Stage, act, bench, failure, quick, soon, until};
use crate::{
    Attempt, Done, Fence, JobError, Progress, State, WaitReason, WorkerOptions, lease, outcome::Outcome,
};

/// Counts the ends of attempts, by whatever way they end.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn every_outcome() -> Vec<Outcome> {
    vec![
        Outcome::Succeeded(Done::new().follow_up(act("follow-up"))),
        Outcome::Failed(failure("no")),
        Outcome::Retry { failure: failure("again"), after: Duration::ZERO },
        Outcome::Later { after: Duration::ZERO, reason: WaitReason::Snoozed, note: String::new() },
        Outcome::Cancelled { note: String::new() },
        Outcome::Fenced,
    ]
}

#[tokio::test]
async fn q2_after_a_newer_claim_nothing_of_the_older_attempt_is_written() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let (mut old, mut new) = (Hand::new(&bench).await, Hand::new(&bench).await);
    let lost = old.claim_one().await;
    assert!(old.renew(&lost).await);
    bench.expire(id).await;
    assert_eq!(bench.rescue(&[]).await.len(), 1);
    let held = new.claim_one().await;
    assert!(held.fence > lost.fence);
    let before = bench.record(id).await;

    for outcome in every_outcome() {
        let label = outcome.label();
        assert!(!old.end(&lost, outcome).await, "{label}");
    }
    assert!(!old.renew(&lost).await);
    assert!(!lease::confirm(&bench.pool, id, lost.fence).await.unwrap());
    assert!(lease::confirm(&bench.pool, id, held.fence).await.unwrap());
    assert_eq!(bench.record(id).await, before);
    assert_eq!(bench.count("select count(*) from queue.job").await, 1, "no follow-up was enqueued");
    assert_eq!(bench.count("select count(*) from queue.attempt").await, 1, "only the rescue left a record");
    assert!(new.end(&held, Outcome::Succeeded(Done::new())).await);
}

#[tokio::test]
async fn q2_after_the_rescue_alone_the_older_attempt_writes_nothing() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let mut hand = Hand::new(&bench).await;
    for outcome in every_outcome() {
        let lost = hand.claim_one().await;
        bench.expire(id).await;
        bench.rescue(&[]).await;
        assert!(!hand.end(&lost, outcome).await);
        assert!(!hand.renew(&lost).await);
        bench.sql("update queue.job set run_at = now()").await;
    }
}

#[tokio::test]
async fn q2_every_way_out_of_running_and_every_claim_raises_the_fence() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let mut hand = Hand::new(&bench).await;
    let mut last = Fence(0);
    for step in 0..4 {
        let claimed = hand.claim_one().await;
        assert!(claimed.fence > last);
        match step {
            0 => assert!(
                hand.end(&claimed, Outcome::Retry { failure: failure("x"), after: Duration::ZERO }).await
            ),
            1 => {
                bench.expire(id).await;
                bench.rescue(&[]).await;
            }
            2 => {
                let known: [i64; 0] = [];
                let worker = hand.claimer.worker;
                assert_eq!(
                    crate::release::disown(&mut hand.conn, worker, "default", &known).await.unwrap(),
                    1
                );
            }
            _ => {
                assert!(hand.end(&claimed, Outcome::Failed(failure("x"))).await);
                bench.queue.retry(id).await.unwrap();
            }
        }
        let after = Fence(bench.record(id).await.fence);
        assert!(after > claimed.fence, "step {step}");
        last = after;
        bench.sql("update queue.job set run_at = now()").await;
    }
}

#[tokio::test]
async fn q2_an_outcome_written_twice_counts_once() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let mut hand = Hand::new(&bench).await;
    let claimed = hand.claim_one().await;
    assert!(hand.end(&claimed, Outcome::Succeeded(Done::new().follow_up(act("next")))).await);
    assert!(!hand.end(&claimed, Outcome::Succeeded(Done::new().follow_up(act("next")))).await);
    assert_eq!(bench.state(id).await, State::Succeeded);
    assert_eq!(bench.count("select count(*) from queue.job").await, 1);
}

/// A stage whose acts run until they are told to stop, and say when they begin and that they were dropped.
fn waiting(began: mpsc::UnboundedSender<Attempt>, dropped: Arc<AtomicUsize>) -> Stage {
    Stage::new(move |_, attempt| {
        let (began, dropped) = (began.clone(), Dropped(dropped.clone()));
        async move {
            let _dropped = dropped;
            began.send(attempt.clone()).unwrap();
            std::future::pending::<()>().await;
            Err(JobError::hand_back())
        }
    })
}

#[tokio::test]
async fn q4_a_worker_that_lost_a_lease_drops_the_attempt_at_its_next_renewal() {
    let bench = bench().await;
    let (sender, mut began) = mpsc::unbounded_channel();
    let dropped = Arc::new(AtomicUsize::new(0));
    let options = WorkerOptions { queues: vec!["theirs".to_owned()], ..quick() };
    let worker = bench.start(waiting(sender, dropped.clone()), options).await;
    let id = bench.queue.enqueue(act("x").queue("theirs")).await.unwrap().id;
    let attempt = soon(began.recv()).await.unwrap();
    assert!(!attempt.should_stop() && attempt.confirm().await.unwrap());

    // Taken back and claimed anew where the worker does not look.
    bench.sql("update queue.job set queue = 'ours'").await;
    bench.expire(id).await;
    bench.rescue(&[]).await;
    let mut hand = Hand::of_queue(&bench, "ours").await;
    let held = hand.claim_one().await;

    until(async || dropped.load(Ordering::SeqCst) == 1).await;
    assert!(attempt.should_stop() && !attempt.confirm().await.unwrap());
    worker.stop().await;
    assert_eq!(bench.record(id).await.fence, held.fence.0);
    assert!(hand.renew(&held).await);
}

#[tokio::test]
async fn q4_a_job_that_comes_back_to_the_same_worker_ends_its_older_attempt() {
    let bench = bench().await;
    let (sender, mut began) = mpsc::unbounded_channel();
    let dropped = Arc::new(AtomicUsize::new(0));
    // No renewal comes within this test: the worker learns of the loss from its own claim.
    let long = Duration::from_mins(5);
    let options = WorkerOptions { lease: long * 3, heartbeat: long, grace: Duration::ZERO, ..quick() };
    let worker = bench.start(waiting(sender, dropped.clone()), options).await;
    let id = bench.enqueue("x").await;
    let older = soon(began.recv()).await.unwrap();
    bench.expire(id).await;
    let newer = soon(began.recv()).await.unwrap();
    assert!(newer.fence() > older.fence());

    until(async || dropped.load(Ordering::SeqCst) == 1).await;
    assert!(older.should_stop() && !newer.should_stop());
    worker.stop().await;
    assert_eq!(bench.record(id).await.reason, WaitReason::HandedBack);
}

#[tokio::test]
async fn q4_an_attempt_that_ends_after_its_loss_reports_nothing() {
    let bench = bench().await;
    let (began, go) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (b, g) = (began.clone(), go.clone());
    let stage = Stage::new(move |_, _| {
        let (began, go) = (b.clone(), g.clone());
        async move {
            began.notify_one();
            go.acquire().await.unwrap().forget();
            Ok(Done::new().follow_up(act("follow-up").queue("elsewhere")))
        }
    });
    let long = Duration::from_mins(5);
    let worker = bench.start(stage, WorkerOptions { lease: long * 3, heartbeat: long, ..quick() }).await;
    let id = bench.enqueue("x").await;
    soon(began.notified()).await;
    // A rescue and a newer claim by another worker, in one stroke.
    bench.sql("update queue.job set fence = nextval('queue.fence'), worker = 0").await;
    go.add_permits(1);
    worker.stop().await;

    assert_eq!(bench.state(id).await, State::Running);
    assert_eq!(bench.count("select count(*) from queue.job").await, 1);
}

#[tokio::test]
async fn q3_a_running_job_is_renewed_for_longer_than_its_lease() {
    let bench = bench().await;
    let go = Arc::new(Semaphore::new(0));
    let held = go.clone();
    let stage = Stage::new(move |_, _| {
        let go = held.clone();
        async move {
            go.acquire().await.unwrap().forget();
            Ok(Done::new())
        }
    });
    let options =
        WorkerOptions { lease: Duration::from_millis(600), heartbeat: Duration::from_millis(200), ..quick() };
    let worker = bench.start(stage, options).await;
    let id = bench.enqueue("x").await;
    bench.await_state(id, State::Running).await;
    let first = bench.record(id).await.lease_expires_at.unwrap();
    until(async || bench.now().await > first + chrono::TimeDelta::seconds(1)).await;
    go.add_permits(1);
    bench.await_state(id, State::Succeeded).await;
    assert_eq!(bench.record(id).await.attempt, 1);
    worker.stop().await;
}

#[tokio::test]
async fn q3_progress_that_cannot_be_stored_costs_nobody_a_lease() {
    let bench = bench().await;
    let go = Arc::new(Semaphore::new(0));
    let held = go.clone();
    let stage = Stage::new(move |_, attempt: Attempt| {
        let go = held.clone();
        async move {
            let report = async {
                loop {
                    attempt.progress(Progress { done: 1, total: None, message: "half\0way".to_owned() });
                    tokio::task::yield_now().await;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::select! {
                () = report => {}
                permit = go.acquire() => permit.unwrap().forget(),
            }
            Ok(Done::new())
        }
    });
    let options =
        WorkerOptions { lease: Duration::from_millis(900), heartbeat: Duration::from_millis(300), ..quick() };
    let worker = bench.start(stage, options).await;
    let id = bench.enqueue("x").await;
    until(async || bench.queue.get(id).await.unwrap().is_some_and(|job| job.progress.is_some())).await;
    assert_eq!(bench.record(id).await.progress.unwrap()["message"], "half\u{fffd}way");
    go.add_permits(4);
    bench.await_state(id, State::Succeeded).await;
    assert_eq!(bench.record(id).await.attempt, 1);
    worker.stop().await;
}
