//! The end of a worker: nothing new, time for what runs, and the rest handed back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore, mpsc};

use super::support::{GUARD, Stage, act, bench, is_locked, never, quick, registry, soon, until};
use crate::{Attempt, Done, JobError, State, WaitReason, Worker, WorkerError, WorkerOptions};

#[tokio::test]
async fn q12_a_stopping_worker_claims_nothing_and_lets_what_runs_end() {
    let bench = bench().await;
    let (began, go) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (b, g) = (began.clone(), go.clone());
    let stage = Stage::new(move |_, _| {
        let (began, go) = (b.clone(), g.clone());
        async move {
            began.notify_one();
            go.acquire().await.unwrap().forget();
            Ok(Done::new())
        }
    });
    let worker = bench.start(stage, quick()).await;
    let running = bench.enqueue("running").await;
    soon(began.notified()).await;
    worker.tell_to_stop();
    // A claim that was under way may still take what it finds.
    until(async || {
        bench.count("select count(*) from pg_stat_activity where application_name = 'queue claim' and datname = current_database()").await == 0
    })
    .await;
    let waiting = bench.enqueue("waiting").await;
    never(async || bench.state(waiting).await != State::Ready).await;
    go.add_permits(2);
    worker.stop().await;
    assert_eq!(bench.state(running).await, State::Succeeded);
    assert_eq!(bench.state(waiting).await, State::Ready);
}

#[tokio::test]
async fn q12_what_outlasts_the_grace_time_is_handed_back_uncharged_and_claimable_at_once() {
    let bench = bench().await;
    let (sender, mut began) = mpsc::unbounded_channel::<Attempt>();
    let stage = Stage::new(move |_, attempt| {
        sender.send(attempt).unwrap();
        std::future::pending()
    });
    let worker = bench.start(stage, WorkerOptions { grace: Duration::from_millis(100), ..quick() }).await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(bench.enqueue("x").await);
        soon(began.recv()).await.unwrap();
    }
    let told = Instant::now();
    worker.stop().await;
    for id in &jobs {
        let record = bench.record(*id).await;
        assert_eq!((record.state, record.reason), (State::Ready, WaitReason::HandedBack));
        assert_eq!((record.failures, record.losses), (0, 0));
        assert!(bench.queue.attempts(*id).await.unwrap().is_empty());
    }
    bench.play(Stage::of_success()).await;
    println!("handed back and run after {:?}", told.elapsed());
    for id in jobs {
        assert_eq!(bench.state(id).await, State::Succeeded);
    }
    assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
}

#[tokio::test]
async fn q12_a_job_that_watches_for_the_stop_hands_itself_back_early() {
    let bench = bench().await;
    let (sender, mut began) = mpsc::unbounded_channel::<Attempt>();
    let stage = Stage::new(move |_, attempt| {
        sender.send(attempt.clone()).unwrap();
        async move {
            attempt.stopped().await;
            assert!(attempt.should_stop() && !attempt.is_cancelled());
            Err(JobError::hand_back())
        }
    });
    let worker = bench.start(stage, WorkerOptions { grace: Duration::from_hours(1), ..quick() }).await;
    let id = bench.enqueue("x").await;
    soon(began.recv()).await.unwrap();
    worker.stop().await;
    let record = bench.record(id).await;
    assert_eq!((record.state, record.reason, record.failures), (State::Ready, WaitReason::HandedBack, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q12_a_stop_in_the_middle_of_a_busy_queue_loses_nothing() {
    let bench = bench().await;
    let jobs: Vec<_> = (0..600).map(|i| act(&i.to_string())).collect();
    bench.queue.enqueue_all(&jobs).await.unwrap();
    let mut rounds = 0;
    while bench.count("select count(*) from queue.job").await > 0 {
        let worker = bench.start(Stage::of_success(), WorkerOptions { slots: 20, ..quick() }).await;
        let before = bench.count("select count(*) from queue.job_history").await;
        until(async || bench.count("select count(*) from queue.job_history").await > before).await;
        worker.stop().await;
        assert_eq!(bench.count("select count(*) from queue.job where state = 1").await, 0);
        rounds += 1;
    }
    println!("{rounds} workers");
    assert_eq!(
        bench.count("select count(*) from queue.job_history where outcome = 1 and attempt = 1").await,
        600
    );
}

#[tokio::test]
async fn q12_a_job_that_blocks_its_thread_does_not_keep_the_worker_from_stopping() {
    let bench = bench().await;
    let release = Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
    let gate = release.clone();
    let (sender, mut began) = mpsc::unbounded_channel();
    // The worker has a runtime of its own, so that the blocked thread is not the test's.
    let options = bench.db.options();
    let stop = tokio_util::sync::CancellationToken::new();
    let told = stop.clone();
    let thread = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
        runtime.block_on(async {
            let stage = Stage::new(move |_, _| {
                sender.send(()).unwrap();
                let gate = gate.clone();
                async move {
                    drop(gate.1.wait_while(gate.0.lock().unwrap(), |open| !*open).unwrap());
                    Ok(Done::new())
                }
            });
            let brief = WorkerOptions { grace: Duration::from_millis(50), ..quick() };
            let worker = Worker::start(options, registry(stage), brief).await.unwrap();
            worker.run(told).await;
        });
    });
    let id = bench.enqueue("x").await;
    soon(began.recv()).await.unwrap();
    stop.cancel();
    let left = until(async || {
        bench.count("select count(*) from queue.worker where ended_at is not null").await == 1
    });
    left.await;
    assert_eq!(bench.state(id).await, State::Running, "its lease runs out, unless the job ends before");
    *release.0.lock().unwrap() = true;
    release.1.notify_all();
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn q3_a_worker_that_is_dropped_midway_frees_its_lock_and_drops_its_jobs() {
    let bench = bench().await;
    let (sender, mut began) = mpsc::unbounded_channel();
    let (alive, mut dropped) = mpsc::unbounded_channel::<()>();
    let stage = Stage::new(move |_, _| {
        let alive = alive.clone();
        sender.send(()).unwrap();
        async move {
            std::future::pending::<()>().await;
            drop(alive);
            Ok(Done::new())
        }
    });
    let worker = bench.start(stage, quick()).await;
    let id = worker.id;
    bench.enqueue("x").await;
    soon(began.recv()).await.unwrap();
    worker.abandon().await;
    until(async || !is_locked(&bench, id).await).await;
    // The stage and its attempts are all gone: nobody can send any more.
    assert_eq!(tokio::time::timeout(GUARD, dropped.recv()).await.unwrap(), None);
}

#[tokio::test]
async fn a_run_until_empty_ends_with_the_error_that_blinds_it() {
    let bench = bench().await;
    let worker = Worker::start(bench.db.options(), registry(Stage::of_success()), quick()).await.unwrap();
    bench.sql("alter table queue.job rename to jobs_of_another_program").await;
    let ended = tokio::time::timeout(GUARD, worker.run_until_empty()).await.expect("it ends");
    assert!(matches!(ended, Err(WorkerError::Database(_))), "{ended:?}");
}

#[tokio::test]
async fn a_run_until_empty_does_not_wait_for_a_paused_queue_or_for_later_jobs() {
    let bench = bench().await;
    let paused = bench.queue.enqueue(act("x").queue("paused")).await.unwrap().id;
    bench.queue.pause("paused", "ada", None).await.unwrap();
    let later = bench.now().await + chrono::TimeDelta::hours(1);
    bench.queue.enqueue(act("later").run_at(later)).await.unwrap();
    let due = bench.enqueue("due").await;
    let queues = vec!["paused".to_owned(), "default".to_owned()];
    let options = WorkerOptions { queues, ..quick() };
    let worker = Worker::start(bench.db.options(), registry(Stage::of_success()), options).await.unwrap();
    tokio::time::timeout(GUARD, worker.run_until_empty()).await.expect("it ends").unwrap();
    assert_eq!(bench.state(due).await, State::Succeeded);
    assert_eq!(bench.state(paused).await, State::Ready);
}

#[tokio::test]
async fn a_worker_that_could_not_do_its_work_is_refused() {
    let bench = bench().await;
    let start = |options| Worker::start(bench.db.options(), registry(Stage::of_success()), options);
    let short = WorkerOptions { lease: Duration::from_secs(2), heartbeat: Duration::from_secs(1), ..quick() };
    assert!(matches!(start(short).await, Err(WorkerError::LeaseTooShort { .. })));
    assert!(matches!(start(WorkerOptions { slots: 0, ..quick() }).await, Err(WorkerError::Nothing)));
    assert!(matches!(start(WorkerOptions { queues: vec![], ..quick() }).await, Err(WorkerError::Nothing)));
    assert!(bench.queue.workers(true).await.unwrap().is_empty());
}
