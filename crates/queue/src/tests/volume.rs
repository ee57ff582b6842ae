//! Many jobs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};

use super::support::{Stage, act, bench, quick, until};
use crate::{Done, NewJob, WorkerOptions};

const JOBS: usize = 20_000;

/// The memory of this process that is in use; bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q1_q2_two_workers_run_each_of_twenty_thousand_jobs_once() {
    let bench = bench().await;
    let runs: Arc<Vec<AtomicU8>> = Arc::new((0..JOBS).map(|_| AtomicU8::new(0)).collect());
    let counted = runs.clone();
    let stage = Stage::new(move |name, _| {
        counted[name.parse::<usize>().unwrap()].fetch_add(1, Ordering::SeqCst);
        async { Ok(Done::new()) }
    });
    let options = WorkerOptions { slots: 200, ..quick() };
    let workers = [bench.start(stage.clone(), options.clone()).await, bench.start(stage, options).await];
    let began = Instant::now();
    let jobs: Vec<NewJob> = (0..JOBS).map(|i| act(&i.to_string())).collect();
    for chunk in jobs.chunks(2_000) {
        bench.queue.enqueue_all(chunk).await.unwrap();
    }
    drop(jobs);
    until(async || bench.count("select count(*) from queue.job").await == 0).await;
    println!("{:.0} jobs a second", 20_000.0 / began.elapsed().as_secs_f64());
    for worker in workers {
        worker.stop().await;
    }
    assert!(runs.iter().all(|count| count.load(Ordering::SeqCst) == 1));
    assert_eq!(
        bench.count("select count(*) from queue.job_history where outcome = 1 and attempt = 1").await,
        20_000
    );
    assert!(resident_bytes() < 500 << 20, "{} MB", resident_bytes() >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_does_not_grow_with_the_jobs_it_has_run() {
    let bench = bench().await;
    let worker = bench.start(Stage::of_success(), WorkerOptions { slots: 100, ..quick() }).await;
    let mut sizes = Vec::new();
    for _ in 0..4 {
        let jobs: Vec<NewJob> = (0..2_500).map(|_| act("x")).collect();
        bench.queue.enqueue_all(&jobs).await.unwrap();
        until(async || bench.count("select count(*) from queue.job").await == 0).await;
        sizes.push(resident_bytes() >> 20);
    }
    println!("resident, in MB: {sizes:?}");
    // The first rounds fill caches and arenas; other tests may run in this process.
    assert!(sizes[3] < sizes[1] + 100, "{sizes:?}");
    worker.stop().await;
}
