//! Taking jobs back from workers that are gone, and from them alone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore};

use super::{
    child::ChildWorker,
    support::{Hand, Stage, act, bench, cut, is_locked, lock_holder, quick, soon, until},
};
use crate::{Done, State, WaitReason, WorkerOptions, outcome::Outcome, rescue};

fn elsewhere() -> WorkerOptions {
    WorkerOptions { queues: vec!["elsewhere".to_owned()], ..quick() }
}

#[tokio::test]
async fn q3_a_lease_that_has_ended_frees_the_job_and_the_loss_is_recorded() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let mut hand = Hand::new(&bench).await;
    hand.claimer.lease = Duration::from_millis(300);
    let lost = hand.claim_one().await;
    let rescuer = bench.start(Stage::of_success(), elsewhere()).await;
    until(async || bench.state(id).await == State::Ready).await;
    rescuer.stop().await;

    let record = bench.record(id).await;
    assert_eq!((record.reason, record.losses, record.crashes, record.failures), (WaitReason::Lost, 1, 0, 0));
    let attempts = bench.queue.attempts(id).await.unwrap();
    assert_eq!((attempts[0].outcome, attempts[0].fence), ("lost", lost.fence.0));
    assert!(attempts[0].error.contains("did not renew"), "{}", attempts[0].error);
}

#[tokio::test]
async fn q3_a_lease_that_stands_is_left_alone() {
    let bench = bench().await;
    bench.enqueue("x").await;
    let mut hand = Hand::new(&bench).await;
    let held = hand.claim_one().await;
    assert!(bench.rescue(&[]).await.is_empty());
    assert!(hand.renew(&held).await);
}

#[tokio::test]
async fn q3_a_job_whose_worker_is_unknown_is_rescued() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    Hand::new(&bench).await.claim_one().await;
    bench.sql("delete from queue.worker").await;
    bench.expire(id).await;
    assert_eq!(bench.rescue(&[]).await[0].id, id);
}

#[tokio::test]
async fn q3_the_first_loss_costs_no_time_and_later_ones_a_growing_pause() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let mut hand = Hand::new(&bench).await;
    let mut widest = 0.0_f64;
    for loss in 1..=12 {
        hand.claim_one().await;
        bench.expire(id).await;
        bench.rescue(&[]).await;
        let pause: f64 = sqlx::query_scalar(
            "select extract(epoch from j.run_at - (select max(finished_at) from queue.attempt))::float8 from queue.job j",
        )
        .fetch_one(&bench.pool)
        .await
        .unwrap();
        let bound = if loss == 1 { 0.0 } else { f64::from(1 << loss.min(6)).min(60.0) };
        assert!((0.0..=bound).contains(&pause), "loss {loss}: {pause} s");
        widest = widest.max(pause);
        bench.sql("update queue.job set run_at = now()").await;
    }
    assert!(widest > 1.0, "twelve draws of up to a minute cannot all be short");
}

#[tokio::test]
async fn q3_a_dead_workers_leases_shrink_to_half_a_second_and_a_living_ones_stay() {
    let bench = bench().await;
    let (dying, living) = (bench.enqueue("1").await, bench.enqueue("2").await);
    let (mut one, mut other) = (Hand::new(&bench).await, Hand::new(&bench).await);
    one.claim_one().await;
    other.claim_one().await;
    let mut conn = bench.conn().await;
    assert!(rescue::census(&mut conn).await.unwrap().dead.is_empty());
    let dead = one.die().await;
    until(async || rescue::census(&mut bench.conn().await).await.unwrap().dead == [dead]).await;
    assert_eq!(rescue::bury(&mut conn, &[dead]).await.unwrap(), 1);

    let left = |id: crate::JobId| {
        let pool = bench.pool.clone();
        async move {
            sqlx::query_scalar::<_, f64>(
                "select extract(epoch from lease_expires_at - now())::float8 from queue.job where id = $1",
            )
            .bind(id.0)
            .fetch_one(&pool)
            .await
            .unwrap()
        }
    };
    assert!(left(dying).await <= 0.5);
    assert!(left(living).await > 20.0);
    assert_eq!(
        rescue::bury(&mut conn, &[dead]).await.unwrap(),
        0,
        "nothing is ever lengthened or shortened twice"
    );
}

#[tokio::test]
async fn q3_a_missing_lock_proves_nothing_on_another_start_of_the_server() {
    let bench = bench().await;
    let hand = Hand::new(&bench).await;
    bench.sql("update queue.worker set server_started_at = server_started_at - interval '1 day'").await;
    hand.die().await;
    until(async || {
        bench
            .count(
                "select count(*) from pg_locks where locktype = 'advisory' and database =
            (select oid from pg_database where datname = current_database())",
            )
            .await
            == 0
    })
    .await;
    assert!(rescue::census(&mut bench.conn().await).await.unwrap().dead.is_empty());
    bench.sql("update queue.worker set server_started_at = pg_postmaster_start_time()").await;
    assert_eq!(rescue::census(&mut bench.conn().await).await.unwrap().dead.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q3_a_living_worker_whose_lock_connection_is_cut_keeps_its_jobs() {
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
    // The heartbeat is too slow to save it: only the renewal that the cut itself sets off can.
    let slow = WorkerOptions { lease: Duration::from_mins(1), heartbeat: Duration::from_secs(20), ..quick() };
    let worker = bench.start(stage, slow).await;
    let rescuer = bench.start(Stage::of_success(), elsewhere()).await;
    let id = bench.enqueue("x").await;
    soon(began.notified()).await;
    let fence = bench.record(id).await.fence;
    for _ in 0..5 {
        let before = [lock_holder(&bench, worker.id).await, lock_holder(&bench, rescuer.id).await];
        assert_eq!(cut(&bench, "queue presence").await, 2);
        until(async || {
            let now = [lock_holder(&bench, worker.id).await, lock_holder(&bench, rescuer.id).await];
            now.iter().zip(before).all(|(now, before)| now.is_some() && *now != before)
        })
        .await;
    }
    // Two looks of the rescuer after the last cut.
    let seen = Instant::now();
    until(async || seen.elapsed() > Duration::from_millis(1200)).await;
    assert_eq!(bench.record(id).await.fence, fence);
    go.add_permits(1);
    bench.await_state(id, State::Succeeded).await;
    worker.stop().await;
    rescuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q3_a_living_worker_that_cannot_take_its_lock_anew_keeps_its_jobs() {
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
    let slow = WorkerOptions { lease: Duration::from_mins(1), heartbeat: Duration::from_secs(20), ..quick() };
    let worker = bench.start(stage, slow).await;
    let rescuer = bench.start(Stage::of_success(), elsewhere()).await;
    let id = bench.enqueue("x").await;
    soon(began.notified()).await;
    let fence = bench.record(id).await.fence;
    // Another session waits for the worker's lock and has it as soon as the connection is cut: the worker, alive, is in
    // vain after it, and is taken for dead the whole time.
    let mut usurper = bench.db.connect().await;
    let key = i32::try_from(worker.id).unwrap();
    let usurp = tokio::spawn(async move {
        let lock = "select pg_advisory_lock($1, $2)";
        sqlx::query(lock).bind(rescue::LOCK_CLASS).bind(key).execute(&mut usurper).await.unwrap();
        usurper
    });
    until(async || {
        bench
            .count(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted and objsubid = 2",
            )
            .await
            == 1
    })
    .await;
    cut(&bench, "queue presence").await;
    let usurper = usurp.await.unwrap();
    let since = Instant::now();
    until(async || {
        rescue::bury(&mut bench.conn().await, &[worker.id]).await.unwrap();
        since.elapsed() > Duration::from_millis(1500)
    })
    .await;
    assert_eq!(bench.record(id).await.fence, fence);
    drop(usurper);
    go.add_permits(1);
    bench.await_state(id, State::Succeeded).await;
    worker.stop().await;
    rescuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q3_a_killed_workers_job_runs_elsewhere_within_a_second_or_so() {
    let bench = bench().await;
    let mut child = ChildWorker::spawn(&bench);
    let id = bench.enqueue("hang").await;
    bench.await_state(id, State::Running).await;
    let worker = bench.start(Stage::of_success(), quick()).await;
    let killed = Instant::now();
    child.kill().await;
    bench.await_state(id, State::Succeeded).await;
    let took = killed.elapsed();
    println!("rescued and run after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q2_a_worker_frozen_past_its_lease_wakes_up_to_find_itself_fenced() {
    let bench = bench().await;
    let child = ChildWorker::with_lease(&bench, Duration::from_millis(1500));
    let id = bench.enqueue("gated").await;
    bench.await_state(id, State::Running).await;
    let zombie = bench.record(id).await.worker;
    // The kernel keeps its sockets open: only the lease tells.
    child.freeze();
    let (began, go) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (b, g) = (began.clone(), go.clone());
    let stage = Stage::new(move |_, _| {
        let (began, go) = (b.clone(), g.clone());
        async move {
            began.notify_one();
            go.acquire().await.unwrap().forget();
            Ok(Done::new().output(serde_json::json!("the newer")))
        }
    });
    let worker = bench.start(stage, quick()).await;
    soon(began.notified()).await;
    assert_ne!(bench.record(id).await.worker, zombie);

    // The gate lets the zombie's attempt succeed; its worker writes that, or learns of its loss, before it ends.
    bench.sql("create table gate ()").await;
    child.thaw();
    child.stop().await;
    assert_eq!(bench.state(id).await, State::Running);
    go.add_permits(1);
    bench.await_state(id, State::Succeeded).await;
    assert_eq!(bench.record(id).await.output, Some(serde_json::json!("the newer")));
    worker.stop().await;
}

#[tokio::test]
async fn q3_a_rescue_on_a_day_without_a_partition_makes_it() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let mut hand = Hand::new(&bench).await;
    let rescuer = bench.start(Stage::of_success(), elsewhere()).await;
    until(async || bench.count("select count(*) from queue.worker where ended_at is null").await == 2).await;
    super::history::drop_partitions(&bench).await;
    hand.claim_one().await;
    bench.expire(id).await;
    until(async || bench.state(id).await == State::Ready).await;
    rescuer.stop().await;
}

#[tokio::test]
async fn a_worker_that_ended_well_is_not_taken_for_dead() {
    let bench = bench().await;
    let worker = bench.start(Stage::of_success(), quick()).await;
    let id = worker.id;
    until(async || is_locked(&bench, id).await).await;
    worker.stop().await;
    until(async || !is_locked(&bench, id).await).await;
    assert!(rescue::census(&mut bench.conn().await).await.unwrap().dead.is_empty());
    assert!(bench.queue.workers(false).await.unwrap().is_empty());
    assert_eq!(bench.queue.workers(true).await.unwrap().len(), 1);
}

#[tokio::test]
async fn q3_a_claim_whose_answer_was_lost_is_given_back_at_once() {
    let bench = bench().await;
    let (known, unknown) = (bench.enqueue("1").await, bench.enqueue("2").await);
    let other = bench.queue.enqueue(act("3").queue("other")).await.unwrap().id;
    let mut hand = Hand::new(&bench).await;
    let claimed = hand.claim(2).await;
    let worker = hand.claimer.worker;
    let elsewhere =
        crate::claim::Lanes::new("other".into()).claim(&mut hand.conn, hand.claimer, 1).await.unwrap();
    assert_eq!((claimed.len(), elsewhere.len()), (2, 1));

    let disowned = crate::release::disown(&mut hand.conn, worker, "default", &[known.0]).await.unwrap();
    assert_eq!(disowned, 1);
    assert_eq!(bench.state(known).await, State::Running);
    assert_eq!(bench.state(other).await, State::Running);
    assert_eq!(bench.state(unknown).await, State::Ready);
    assert!(!hand.end(&claimed[1], Outcome::Succeeded(Done::new())).await);
}

#[tokio::test]
async fn a_worker_that_died_with_a_restart_of_the_server_is_struck_off_in_the_end() {
    let bench = bench().await;
    Hand::new(&bench).await.die().await;
    bench
        .sql("update queue.worker set server_started_at = 'epoch', last_seen_at = now() - interval '2 h'")
        .await;
    let worker = bench.start(Stage::of_success(), quick()).await;
    until(async || bench.queue.workers(false).await.unwrap().len() == 1).await;
    assert_eq!(bench.queue.workers(false).await.unwrap()[0].id, worker.id);
    worker.stop().await;
}
