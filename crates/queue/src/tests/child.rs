//! A worker in a process of its own, for what cannot be done to a thread: killing it, freezing it, letting a job abort it.
//!
//! The process is this very test binary, told to run one ignored test.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::support::{Bench, GUARD, Stage, await_count, quick, registry};
use crate::{Attempt, Done, JobError, Worker, WorkerOptions};

const DATABASE: &str = "QUEUE_TEST_CHILD_DATABASE";
const LEASE: &str = "QUEUE_TEST_CHILD_LEASE_MS";
const TEST: &str = "tests::child::a_worker_in_a_process_of_its_own";

pub(super) struct ChildWorker(Child);

impl ChildWorker {
    /// A worker whose leases outlast the test: only its death tells of it.
    pub(super) fn spawn(bench: &Bench) -> Self {
        Self::with_lease(bench, Duration::from_mins(1))
    }

    pub(super) fn with_lease(bench: &Bench, lease: Duration) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", TEST, "--ignored", "--nocapture"]).env(DATABASE, bench.db.url());
        command.env(LEASE, lease.as_millis().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Self(command.spawn().unwrap())
    }

    pub(super) async fn kill(&mut self) {
        self.0.kill().await.unwrap();
    }

    /// Waits until it has died of its own.
    pub(super) async fn died(mut self) {
        let status = tokio::time::timeout(GUARD, self.0.wait()).await.expect("the child dies").unwrap();
        assert!(!status.success());
    }

    /// Tells it to stop and waits until it has.
    pub(super) async fn stop(mut self) {
        self.signal("TERM");
        let status = tokio::time::timeout(GUARD, self.0.wait()).await.expect("the child stops").unwrap();
        assert!(status.success());
    }

    pub(super) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(super) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().expect("the child runs").to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }
}

/// What the jobs of the child do.
async fn play(pool: sqlx::PgPool, name: String, attempt: Attempt) -> Result<Done, JobError> {
    match name.as_str() {
        "hang" => std::future::pending::<()>().await,
        "abort" => std::process::abort(),
        "checkpoint, then abort" => {
            attempt.checkpointed();
            await_count(&pool, "select count(*) from queue.job where state = 1 and checkpointed", 1).await;
            std::process::abort()
        }
        "abort beside others" => {
            if attempt.number() == 1 {
                await_count(&pool, "select count(*) from queue.job where state = 1", 4).await;
            }
            std::process::abort()
        }
        "hang at first" if attempt.number() == 1 => std::future::pending::<()>().await,
        "gated" => await_count(&pool, "select count(*) from pg_class where relname = 'gate'", 1).await,
        _ => {}
    }
    Ok(Done::new().output(serde_json::json!("the child")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process for other tests, not a test"]
async fn a_worker_in_a_process_of_its_own() {
    let Ok(url) = std::env::var(DATABASE) else { return };
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    let pool =
        sqlx::postgres::PgPoolOptions::new().max_connections(4).connect_with(options.clone()).await.unwrap();
    let stage = Stage::new(move |name, attempt| play(pool.clone(), name, attempt));
    let lease = Duration::from_millis(std::env::var(LEASE).unwrap().parse().unwrap());
    let leased = WorkerOptions { lease, heartbeat: lease / 3, ..quick() };
    let worker = Worker::start(options, registry(stage), leased).await.unwrap();
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        let kind = tokio::signal::unix::SignalKind::terminate();
        tokio::signal::unix::signal(kind).unwrap().recv().await;
        told.cancel();
    });
    worker.run(stop).await;
}
