//! Calling jobs off, before they begin, while they run, and just as they end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::support::{Hand, Stage, act, bench, failure, quick, soon, until};
use crate::{Attempt, Cancelled, Done, JobError, JobId, State, WorkerOptions, outcome::Outcome};

#[tokio::test]
async fn q11_a_job_cancelled_before_its_start_never_starts() {
    let bench = bench().await;
    let id = bench.queue.enqueue(act("x").unique_key("k")).await.unwrap().id;
    assert_eq!(bench.queue.cancel(id, "ada").await.unwrap(), Cancelled::Never);
    assert_eq!(bench.queue.cancel(id, "ada").await.unwrap(), Cancelled::NotLive);
    assert_eq!(bench.queue.cancel(JobId(id.0 + 1), "ada").await.unwrap(), Cancelled::NotLive);
    assert!(Hand::new(&bench).await.claim(1).await.is_empty());
    let record = bench.record(id).await;
    assert_eq!((record.state, record.note.as_deref()), (State::Cancelled, Some("cancelled by ada")));

    bench.queue.retry(id).await.unwrap();
    bench.play(Stage::of_success()).await;
    assert_eq!(bench.state(id).await, State::Succeeded);
}

/// Acts that wait until they are told to stop, then say what their name tells.
fn obedient(began: mpsc::UnboundedSender<Attempt>) -> Stage {
    Stage::new(move |name, attempt| {
        began.send(attempt.clone()).unwrap();
        async move {
            attempt.stopped().await;
            match &*name {
                "done" => Ok(Done::new()),
                "deaf" => std::future::pending().await,
                _ => Err(JobError::retry("interrupted")),
            }
        }
    })
}

#[tokio::test]
async fn q11_a_running_job_is_told_long_before_the_next_heartbeat_and_ends_as_cancelled() {
    let bench = bench().await;
    let (sender, mut began) = mpsc::unbounded_channel();
    let slow = WorkerOptions { lease: Duration::from_mins(3), heartbeat: Duration::from_mins(1), ..quick() };
    let worker = bench.start(obedient(sender), slow).await;
    let id = bench.enqueue("interrupted").await;
    let attempt = soon(began.recv()).await.unwrap();
    assert!(!attempt.should_stop());
    let asked = Instant::now();
    assert_eq!(bench.queue.cancel(id, "ada").await.unwrap(), Cancelled::Told);
    bench.await_state(id, State::Cancelled).await;
    println!("cancelled after {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(3));
    assert!(attempt.is_cancelled());
    assert_eq!(bench.record(id).await.attempt, 1);
    worker.stop().await;
}

#[tokio::test]
async fn q11_a_cancelled_job_that_succeeds_all_the_same_ends_as_succeeded() {
    let bench = bench().await;
    let (sender, mut began) = mpsc::unbounded_channel();
    let worker = bench.start(obedient(sender), quick()).await;
    let id = bench.enqueue("done").await;
    soon(began.recv()).await.unwrap();
    bench.queue.cancel(id, "ada").await.unwrap();
    bench.await_state(id, State::Succeeded).await;
    worker.stop().await;
}

#[tokio::test]
async fn q11_a_cancelled_job_that_does_not_listen_is_dropped_after_its_grace() {
    let bench = bench().await;
    let (sender, mut began) = mpsc::unbounded_channel();
    let worker = bench.start(obedient(sender), quick()).await;
    let id = bench.enqueue("deaf").await;
    soon(began.recv()).await.unwrap();
    bench.queue.cancel(id, "ada").await.unwrap();
    bench.await_state(id, State::Cancelled).await;
    worker.stop().await;
}

#[tokio::test]
async fn q11_a_cancelled_job_whose_worker_dies_ends_as_cancelled() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let mut hand = Hand::new(&bench).await;
    let lost = hand.claim_one().await;
    assert_eq!(bench.queue.cancel(id, "ada").await.unwrap(), Cancelled::Told);
    bench.expire(id).await;
    assert!(bench.rescue(&[]).await.is_empty(), "it is not put back");
    assert_eq!(bench.state(id).await, State::Cancelled);
    assert!(!hand.end(&lost, Outcome::Succeeded(Done::new())).await);
    assert_eq!(bench.state(id).await, State::Cancelled);
}

#[tokio::test]
async fn q11_a_cancelled_job_that_would_wait_or_retry_does_not_start_again() {
    let bench = bench().await;
    for outcome in [
        Outcome::Retry { failure: failure("x"), after: Duration::ZERO },
        Outcome::Later { after: Duration::ZERO, reason: crate::WaitReason::HandedBack, note: String::new() },
    ] {
        let id = bench.enqueue("x").await;
        let mut hand = Hand::new(&bench).await;
        let claimed = hand.claim_one().await;
        bench.queue.cancel(id, "ada").await.unwrap();
        assert!(hand.end(&claimed, outcome).await);
        assert_eq!(bench.state(id).await, State::Cancelled);
    }
}

#[tokio::test]
async fn q11_a_cancelled_job_that_its_worker_does_not_know_of_does_not_start_again() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let mut hand = Hand::new(&bench).await;
    hand.claim_one().await;
    bench.queue.cancel(id, "ada").await.unwrap();
    let worker = hand.claimer.worker;
    crate::release::disown(&mut hand.conn, worker, "default", &[]).await.unwrap();
    assert!(hand.claim(1).await.is_empty());
    bench.expire(id).await;
    bench.rescue(&[]).await;
    assert_eq!(bench.state(id).await, State::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q11_a_cancellation_that_races_the_end_leaves_what_really_happened() {
    let bench = bench().await;
    let ran = Arc::new(AtomicUsize::new(0));
    let counter = ran.clone();
    let stage = Stage::new(move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok(Done::new()) }
    });
    let worker = bench.start(stage, quick()).await;
    let (mut never, mut over) = (0, 0);
    for _ in 0..100 {
        let id = bench.enqueue("x").await;
        match bench.queue.cancel(id, "ada").await.unwrap() {
            Cancelled::Never => {
                never += 1;
                assert_eq!(bench.state(id).await, State::Cancelled);
            }
            Cancelled::Told | Cancelled::NotLive => {
                over += 1;
                bench.await_state(id, State::Succeeded).await;
            }
        }
    }
    worker.stop().await;
    println!("{never} cancelled, {over} ran");
    assert_eq!(ran.load(Ordering::SeqCst), over);
    assert_eq!(bench.count("select count(*) from queue.job_history").await, 100);
}

#[tokio::test]
async fn q11_a_cancellation_told_by_the_heartbeat_alone_arrives() {
    let bench = bench().await;
    let (sender, mut began) = mpsc::unbounded_channel();
    let options = WorkerOptions { heartbeat: Duration::from_millis(200), ..quick() };
    let worker = bench.start(obedient(sender), options).await;
    let id = bench.enqueue("interrupted").await;
    soon(began.recv()).await.unwrap();
    // No bell is rung.
    bench.sql("update queue.job set cancel_requested = true").await;
    until(async || bench.state(id).await == State::Cancelled).await;
    worker.stop().await;
}
