//! Things that do not break but hang: a row that somebody keeps locked, a server process that answers no more, a network
//! that swallows everything.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    Connection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UnixStream},
    sync::{Notify, Semaphore},
};

use super::support::{Bench, Hand, Stage, bench, lock_holder, quick, soon, start_on, until};
use crate::{Done, JobId, State, WorkerOptions, full_look, rescue};

/// Acts that wait for a permit, and the bell that each rings when it begins.
fn gated() -> (Stage, Arc<Notify>, Arc<Semaphore>) {
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
    (stage, began, go)
}

fn brief() -> WorkerOptions {
    WorkerOptions { lease: Duration::from_millis(1200), heartbeat: Duration::from_millis(400), ..quick() }
}

async fn pass(time: Duration) {
    let began = Instant::now();
    until(async || began.elapsed() > time).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q3_a_row_that_somebody_keeps_locked_costs_no_other_job_its_lease() {
    let bench = bench().await;
    let (stage, began, go) = gated();
    let worker = bench.start(stage, brief()).await;
    let locked = bench.enqueue("locked").await;
    soon(began.notified()).await;
    let free = bench.enqueue("free").await;
    soon(began.notified()).await;
    let mut tx = bench.pool.begin().await.unwrap();
    sqlx::query("select from queue.job where id = $1 for share")
        .bind(locked.0)
        .execute(&mut *tx)
        .await
        .unwrap();
    pass(brief().lease * 2).await;
    let record = bench.record(free).await;
    assert_eq!((record.state, record.attempt), (State::Running, 1));
    assert_eq!(bench.record(locked).await.state, State::Running, "no rescuer can take it either");
    tx.rollback().await.unwrap();
    go.add_permits(100);
    bench.await_state(free, State::Succeeded).await;
    bench.await_state(locked, State::Succeeded).await;
    assert_eq!(bench.record(free).await.attempt, 1);
    worker.stop().await;
}

fn signal_all(pids: &[i32], name: &str) {
    let pids = pids.iter().map(i32::to_string);
    let sent = std::process::Command::new("kill").args(["-s", name]).args(pids).status().unwrap();
    assert!(sent.success());
}

async fn sessions(bench: &Bench, application: &str) -> Vec<i32> {
    sqlx::query_scalar(
        "select pid from pg_stat_activity where application_name = $1 and datname = current_database()",
    )
    .bind(application)
    .fetch_all(&bench.pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q3_a_renewal_that_gets_no_answer_is_repeated_on_another_connection() {
    let bench = bench().await;
    let (stage, began, go) = gated();
    let worker = bench.start(stage, brief()).await;
    let id = bench.enqueue("x").await;
    soon(began.notified()).await;
    until(async || !sessions(&bench, "queue renew").await.is_empty()).await;
    let frozen = sessions(&bench, "queue renew").await;
    signal_all(&frozen, "STOP");
    pass(brief().lease * 2).await;
    signal_all(&frozen, "CONT");
    let record = bench.record(id).await;
    assert_eq!((record.state, record.attempt), (State::Running, 1));
    go.add_permits(1);
    bench.await_state(id, State::Succeeded).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_and_outcomes_that_get_no_answer_are_repeated_on_other_connections() {
    let bench = bench().await;
    let (stage, _began, go) = gated();
    let worker = bench.start(stage, brief()).await;
    // The flushers take turns: after a few jobs both have their connection.
    until(async || {
        go.add_permits(1);
        let id = bench.enqueue("warm").await;
        bench.await_state(id, State::Succeeded).await;
        sessions(&bench, "queue finish").await.len() == 2
    })
    .await;
    let first = bench.enqueue("first").await;
    bench.await_state(first, State::Running).await;
    let mut frozen = sessions(&bench, "queue claim").await;
    frozen.extend(sessions(&bench, "queue finish").await);
    assert_eq!(frozen.len(), 3);
    signal_all(&frozen, "STOP");
    let second = bench.enqueue("second").await;
    go.add_permits(2);
    for id in [first, second] {
        bench.await_state(id, State::Succeeded).await;
        assert_eq!(bench.record(id).await.failures, 0);
    }
    signal_all(&frozen, "CONT");
    worker.stop().await;
}

/// A way to the server through a network that can be told to forget the connections there are: the server sees them
/// closed, the client sees nothing at all.
struct Network {
    forget: Arc<Notify>,
    options: PgConnectOptions,
}

impl Network {
    async fn before(bench: &Bench) -> Self {
        let options = bench.db.options();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let forget = Arc::new(Notify::new());
        let through = options.clone().ssl_mode(PgSslMode::Disable);
        let server = (through.get_host().to_owned(), through.get_port(), through.get_socket().cloned());
        let told = forget.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (server, told) = (server.clone(), told.clone());
                tokio::spawn(async move {
                    let mut client = client;
                    match server.2 {
                        Some(folder) => {
                            let socket = folder.join(format!(".s.PGSQL.{}", server.1));
                            pump(&mut client, UnixStream::connect(socket).await.unwrap(), &told).await;
                        }
                        None => {
                            pump(&mut client, TcpStream::connect((server.0, server.1)).await.unwrap(), &told)
                                .await;
                        }
                    }
                });
            }
        });
        let options = tcp(&through, port);
        Self { forget, options }
    }

    fn forget_all(&self) {
        self.forget.notify_waiters();
    }
}

fn tcp(options: &PgConnectOptions, port: u16) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(options.get_username())
        .database(options.get_database().unwrap())
        .ssl_mode(PgSslMode::Disable)
}

async fn pump(
    client: &mut TcpStream,
    mut server: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    forget: &Notify,
) {
    let forgotten = tokio::select! {
        _ = copy_bidirectional(client, &mut server) => false,
        () = forget.notified() => true,
    };
    drop(server);
    if forgotten {
        std::future::pending::<()>().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q3_a_worker_whose_network_forgot_its_connections_comes_back_and_its_jobs_end() {
    let bench = bench().await;
    let network = Network::before(&bench).await;
    let (stage, began, go) = gated();
    let worker = start_on(network.options.clone(), stage, brief()).await;
    let id = bench.enqueue("x").await;
    soon(began.notified()).await;
    until(async || lock_holder(&bench, worker.id).await.is_some()).await;
    network.forget_all();
    until(async || lock_holder(&bench, worker.id).await.is_none()).await;
    let forgotten = Instant::now();
    until(async || lock_holder(&bench, worker.id).await.is_some()).await;
    println!("present again after {:?}", forgotten.elapsed());
    go.add_permits(100);
    bench.await_state(id, State::Succeeded).await;
    let next = bench.enqueue("next").await;
    bench.await_state(next, State::Succeeded).await;
    worker.stop().await;
}

/// Judges the job as if its worker had died and its lease had ended.
async fn judge_as_dead(bench: &Bench, id: JobId, worker: i64) {
    let mut conn = bench.conn().await;
    let mut judgement = conn.begin().await.unwrap();
    // In one transaction, so that neither a renewal nor the worker's own rescuer comes in between.
    sqlx::query("update queue.job set lease_expires_at = now() - interval '1 ms' where id = $1")
        .bind(id.0)
        .execute(&mut *judgement)
        .await
        .unwrap();
    rescue::rescue(&mut judgement, &[worker], full_look::BEGINNING).await.unwrap();
    judgement.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q6_a_worker_that_was_only_cut_off_takes_the_charge_of_a_crash_back() {
    let bench = bench().await;
    let (stage, began, go) = gated();
    let worker = start_on(bench.db.options(), stage, brief()).await;
    // The first is claimed again by the worker that still runs it, the second is set aside until the renewal misses it.
    for (setting, crashes) in
        [("update queue.job set crashes = 0", 0), ("update queue.job set crashes = 1", 1)]
    {
        let id = bench.enqueue("x").await;
        soon(began.notified()).await;
        bench.sql(setting).await;
        judge_as_dead(&bench, id, worker.id).await;
        until(async || bench.queue.attempts(id).await.unwrap()[0].outcome == "lost").await;
        soon(began.notified()).await;
        assert_eq!(bench.record(id).await.crashes, crashes);
        go.add_permits(1);
        bench.await_state(id, State::Succeeded).await;
    }
    worker.stop().await;
}

/// A job that the worker has claimed without knowing it, the answer having been lost with the connection, and that is
/// charged with its death.
async fn charge_unknown(bench: &Bench, id: JobId, worker: i64) {
    bench.sql("update queue.job set suspect = false, run_at = now()").await;
    let mut hand = Hand::new(bench).await;
    hand.claimer.worker = worker;
    assert_eq!(hand.claim_one().await.id, id);
    judge_as_dead(bench, id, worker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q6_a_worker_that_lives_clears_a_job_that_it_never_knew_of() {
    let bench = bench().await;
    let options = WorkerOptions { queues: vec!["elsewhere".to_owned()], ..brief() };
    let worker = bench.start(Stage::of_success(), options).await;
    let id = bench.enqueue("x").await;
    charge_unknown(&bench, id, worker.id).await;
    until(async || bench.queue.attempts(id).await.unwrap()[0].outcome == "lost").await;
    assert_eq!(bench.record(id).await.crashes, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q6_a_worker_that_leaves_clears_what_it_was_charged_with_since_its_last_beat() {
    let bench = bench().await;
    let (lease, heartbeat) = (Duration::from_hours(1), Duration::from_mins(20));
    let options = WorkerOptions { queues: vec!["elsewhere".to_owned()], lease, heartbeat, ..quick() };
    let worker = bench.start(Stage::of_success(), options).await;
    let id = bench.enqueue("x").await;
    for _ in 0..2 {
        charge_unknown(&bench, id, worker.id).await;
    }
    let record = bench.record(id).await;
    assert_eq!((record.state, record.crashes), (State::Quarantined, 2));
    worker.stop().await;
    let record = bench.record(id).await;
    assert_eq!((record.state, record.crashes), (State::Ready, 0));
    let outcomes: Vec<_> = bench.queue.attempts(id).await.unwrap().iter().map(|a| a.outcome).collect();
    assert_eq!(outcomes, ["lost", "lost"]);
    assert_eq!(bench.count("select count(*) from queue.crash_charge").await, 0);
}

#[tokio::test]
async fn a_bell_that_does_not_answer_holds_a_producer_up_for_a_moment_only() {
    let bench = bench().await;
    bench.enqueue("x").await;
    let frozen = sessions(&bench, "queue bell").await;
    assert_eq!(frozen.len(), 1);
    signal_all(&frozen, "STOP");
    let began = Instant::now();
    bench.enqueue("y").await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    signal_all(&frozen, "CONT");
}
