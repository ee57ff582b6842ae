//! Jobs that kill their worker: suspected with others, convicted alone, and then set aside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, mpsc};

use super::{
    child::ChildWorker,
    support::{Bench, Hand, Running, Stage, act, bench, never, quick, soon, until},
};
use crate::{Attempt, Done, JobId, State, WaitReason, WorkerOptions, outcome::Outcome, rescue};

/// A worker of another queue, for its rescuer.
async fn rescuer(bench: &Bench) -> Running {
    bench.start(Stage::of_success(), WorkerOptions { queues: vec!["elsewhere".to_owned()], ..quick() }).await
}

/// Starts one worker process after the other until nothing is left that could run.
async fn live_and_die(bench: &Bench) -> usize {
    let mut deaths = 0;
    loop {
        let child = ChildWorker::spawn(bench);
        let died = child.died();
        tokio::pin!(died);
        let settled =
            until(async || bench.count("select count(*) from queue.job where state in (0, 1)").await == 0);
        tokio::select! {
            () = &mut died => deaths += 1,
            () = settled => return deaths,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q6_a_job_that_kills_its_worker_alone_twice_is_quarantined_until_an_operators_word() {
    let bench = bench().await;
    let rescuer = rescuer(&bench).await;
    let id = bench.enqueue("abort").await;
    assert_eq!(live_and_die(&bench).await, 2);

    let record = bench.record(id).await;
    assert_eq!(
        (record.state, record.crashes, record.failures, record.attempt),
        (State::Quarantined, 2, 0, 2)
    );
    let evidence = record.note.unwrap();
    assert!(
        evidence.contains("died") && evidence.contains("alone") && evidence.contains("no checkpoint"),
        "{evidence}"
    );
    let attempts = bench.queue.attempts(id).await.unwrap();
    assert_eq!(attempts.iter().map(|a| a.outcome).collect::<Vec<_>>(), ["crashed", "crashed"]);
    assert!(Hand::new(&bench).await.claim(1).await.is_empty());

    bench.queue.release(id, "ada").await.unwrap();
    bench.play(Stage::of_success()).await;
    assert_eq!(bench.state(id).await, State::Succeeded);
    rescuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q6_the_neighbours_of_a_killer_are_not_charged_and_end_well() {
    let bench = bench().await;
    let rescuer = rescuer(&bench).await;
    let killer = bench.enqueue("abort beside others").await;
    let mut neighbours = Vec::new();
    for _ in 0..3 {
        neighbours.push(bench.enqueue("hang at first").await);
    }
    // Once beside the others, twice alone.
    let began = Instant::now();
    assert_eq!(live_and_die(&bench).await, 3);
    println!("settled after {:?}", began.elapsed());

    let record = bench.record(killer).await;
    assert_eq!((record.state, record.crashes), (State::Quarantined, 2));
    let outcomes: Vec<_> = bench.queue.attempts(killer).await.unwrap().iter().map(|a| a.outcome).collect();
    assert_eq!(outcomes, ["lost", "crashed", "crashed"]);
    for id in neighbours {
        let record = bench.record(id).await;
        assert_eq!((record.state, record.crashes, record.failures), (State::Succeeded, 0, 0));
        let attempts = bench.queue.attempts(id).await.unwrap();
        assert_eq!((attempts.len(), attempts[0].outcome), (1, "lost"));
        assert!(attempts[0].error.contains("beside 3 others"), "{}", attempts[0].error);
    }
    rescuer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q6_a_job_that_makes_a_checkpoint_before_each_death_is_never_quarantined() {
    let bench = bench().await;
    let rescuer = rescuer(&bench).await;
    let id = bench.enqueue("checkpoint, then abort").await;
    for life in 1..=4 {
        ChildWorker::spawn(&bench).died().await;
        until(async || bench.state(id).await == State::Ready).await;
        let record = bench.record(id).await;
        assert_eq!((record.crashes, record.attempt, record.reason), (0, life, WaitReason::Lost));
        assert!(record.note.unwrap().contains("it had made a checkpoint"));
    }
    assert_eq!(bench.count("select count(*) from queue.job where suspect").await, 0);
    rescuer.stop().await;
}

/// One job's worth of evidence: claimed by a hand that dies with it.
async fn die_with(bench: &Bench, jobs: &[JobId]) -> i64 {
    let mut hand = Hand::new(bench).await;
    assert_eq!(hand.claim(jobs.len()).await.len(), jobs.len());
    hand.die().await
}

#[tokio::test]
async fn q6_jobs_of_one_death_are_not_charged_even_if_their_leases_end_at_different_times() {
    let bench = bench().await;
    let jobs = [bench.enqueue("1").await, bench.enqueue("2").await];
    let dead = die_with(&bench, &jobs).await;
    rescue::bury(&mut bench.conn().await, &[dead]).await.unwrap();
    bench.expire(jobs[0]).await;
    bench.rescue(&[dead]).await;
    bench.expire(jobs[1]).await;
    bench.rescue(&[dead]).await;
    for id in jobs {
        let record = bench.record(id).await;
        assert_eq!((record.state, record.crashes), (State::Ready, 0));
        assert!(record.note.unwrap().contains("beside 1 others"));
    }
    assert_eq!(bench.count("select count(*) from queue.job where suspect").await, 2);
}

#[tokio::test]
async fn q6_a_lease_that_ended_without_a_death_is_no_crash_but_clears_no_suspect() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    for suspect in [false, true] {
        let mut hand = Hand::new(&bench).await;
        if suspect {
            bench.sql("update queue.job set suspect = true, run_at = now()").await;
            let claimed =
                crate::claim::claim_suspect(&mut hand.conn, &"default".into(), hand.claimer).await.unwrap();
            assert_eq!(claimed.unwrap().id, id);
        } else {
            hand.claim_one().await;
        }
        bench.expire(id).await;
        bench.rescue(&[]).await;
        assert_eq!(bench.record(id).await.crashes, 0);
        let suspects = bench.count("select count(*) from queue.job where suspect").await;
        assert_eq!(suspects, i64::from(suspect));
    }
}

#[tokio::test]
async fn q6_an_orderly_end_clears_a_suspect_and_being_handed_back_does_not() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    bench.sql("update queue.job set suspect = true").await;
    let mut hand = Hand::new(&bench).await;
    let common = bench.enqueue("common").await;
    let claimed = hand.claim(10).await;
    assert_eq!(claimed.len(), 1, "no common claim takes a suspect");
    assert_eq!(claimed[0].id, common);
    for (reason, suspects) in [(WaitReason::HandedBack, 1), (WaitReason::Snoozed, 0)] {
        let queue = "default".into();
        let claimed =
            crate::claim::claim_suspect(&mut hand.conn, &queue, hand.claimer).await.unwrap().unwrap();
        assert!(claimed.suspect && claimed.id == id);
        let outcome = Outcome::Later { after: Duration::ZERO, reason, note: String::new() };
        assert!(hand.end(&claimed, outcome).await);
        assert_eq!(bench.count("select count(*) from queue.job where suspect").await, suspects, "{reason:?}");
    }
}

#[tokio::test]
async fn q6_an_operators_retry_leaves_a_suspect_under_suspicion() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    bench.sql("update queue.job set suspect = true, run_at = now() + interval '1 h'").await;
    bench.queue.retry(id).await.unwrap();
    assert_eq!(bench.count("select count(*) from queue.job where suspect and run_at <= now()").await, 1);
}

/// Acts that wait for a permit; a suspect makes a checkpoint when it is told to.
struct Theatre {
    began: mpsc::UnboundedReceiver<(String, Attempt)>,
    go: Arc<Semaphore>,
}

fn theatre() -> (Stage, Theatre) {
    let (sender, began) = mpsc::unbounded_channel();
    let go = Arc::new(Semaphore::new(0));
    let gate = go.clone();
    let stage = Stage::new(move |name, attempt| {
        sender.send((name, attempt)).unwrap();
        let go = gate.clone();
        async move {
            go.acquire().await.unwrap().forget();
            Ok(Done::new())
        }
    });
    (stage, Theatre { began, go })
}

async fn enqueue_suspect(bench: &Bench, queue: &str) -> JobId {
    let later = bench.now().await + Duration::from_hours(1);
    let id = bench.queue.enqueue(act("suspect").queue(queue).run_at(later)).await.unwrap().id;
    bench.sql("update queue.job set suspect = true, run_at = now() where payload->>'name' = 'suspect'").await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q6_nothing_runs_beside_a_suspect_until_it_has_made_a_checkpoint() {
    let bench = bench().await;
    let (stage, mut theatre) = theatre();
    let queues = vec!["default".to_owned(), "other".to_owned()];
    let worker = bench.start(stage, WorkerOptions { queues, ..quick() }).await;
    let suspect = enqueue_suspect(&bench, "default").await;
    let (name, attempt) = soon(theatre.began.recv()).await.unwrap();
    assert_eq!(name, "suspect");
    for queue in ["default", "other", "other"] {
        bench.queue.enqueue(act("common").queue(queue)).await.unwrap();
    }
    never(async || bench.count("select count(*) from queue.job where state = 1").await > 1).await;

    attempt.checkpointed();
    for _ in 0..3 {
        assert_eq!(soon(theatre.began.recv()).await.unwrap().0, "common");
    }
    assert_eq!(bench.state(suspect).await, State::Running);
    theatre.go.add_permits(4);
    until(async || bench.count("select count(*) from queue.job_history").await == 4).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q6_suspects_run_one_after_the_other_even_with_one_slot() {
    for slots in [1, 4] {
        let bench = bench().await;
        let alone = Arc::new(AtomicBool::new(true));
        let running = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (ok, count, pool) = (alone.clone(), running.clone(), bench.pool.clone());
        let stage = Stage::new(move |_, _| {
            let (ok, count, pool) = (ok.clone(), count.clone(), pool.clone());
            async move {
                if count.fetch_add(1, Ordering::SeqCst) > 0 {
                    ok.store(false, Ordering::SeqCst);
                }
                sqlx::query("select").execute(&pool).await.unwrap();
                count.fetch_sub(1, Ordering::SeqCst);
                Ok(Done::new())
            }
        });
        for _ in 0..3 {
            enqueue_suspect(&bench, "default").await;
        }
        let worker = bench.start(stage, WorkerOptions { slots, ..quick() }).await;
        until(async || bench.count("select count(*) from queue.job_history").await == 3).await;
        assert!(alone.load(Ordering::SeqCst));
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q6_a_suspect_that_has_waited_long_gets_a_busy_worker_to_itself() {
    let bench = bench().await;
    let (stage, mut theatre) = theatre();
    let worker = bench.start(stage, quick()).await;
    bench.enqueue("first").await;
    assert_eq!(soon(theatre.began.recv()).await.unwrap().0, "first");
    enqueue_suspect(&bench, "default").await;
    bench.sql("update queue.job set run_at = now() - interval '1 h' where suspect").await;
    never(async || theatre.began.try_recv().is_ok()).await;
    // By now the worker has closed itself to others for the suspect's sake; it opens again when that has had its turn.
    never(async || theatre.began.try_recv().is_ok()).await;
    bench.enqueue("second").await;
    never(async || theatre.began.try_recv().is_ok()).await;
    for next in ["suspect", "second"] {
        theatre.go.add_permits(1);
        assert_eq!(soon(theatre.began.recv()).await.unwrap().0, next);
    }
    theatre.go.add_permits(1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q6_a_suspect_that_nobody_may_run_does_not_hold_up_the_worker() {
    let bench = bench().await;
    let (stage, mut theatre) = theatre();
    let queues = vec!["default".to_owned(), "paused".to_owned()];
    bench.queue.pause("paused", "ada", None).await.unwrap();
    enqueue_suspect(&bench, "paused").await;
    bench.sql("update queue.job set run_at = now() - interval '1 h' where suspect").await;
    let worker = bench.start(stage, WorkerOptions { queues, ..quick() }).await;
    bench.enqueue("first").await;
    soon(theatre.began.recv()).await.unwrap();
    // The isolator has looked several times by then.
    never(async || false).await;
    bench.enqueue("second").await;
    let second = tokio::time::timeout(Duration::from_secs(2), theatre.began.recv()).await;
    assert_eq!(second.expect("it runs beside the first").unwrap().0, "second");
    theatre.go.add_permits(2);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q6_a_busy_worker_gives_up_solitude_when_another_takes_the_suspect() {
    let bench = bench().await;
    let (stage, mut theatre) = theatre();
    let worker = bench.start(stage, quick()).await;
    bench.enqueue("first").await;
    soon(theatre.began.recv()).await.unwrap();
    enqueue_suspect(&bench, "default").await;
    bench.sql("update queue.job set run_at = now() - interval '1 h' where suspect").await;
    never(async || false).await;
    never(async || false).await;
    // Another worker was idle and has it.
    let mut hand = Hand::new(&bench).await;
    let queue = "default".into();
    assert!(crate::claim::claim_suspect(&mut hand.conn, &queue, hand.claimer).await.unwrap().is_some());
    bench.enqueue("second").await;
    let second = tokio::time::timeout(Duration::from_secs(3), theatre.began.recv()).await;
    assert_eq!(second.expect("the first still runs, and the second beside it").unwrap().0, "second");
    theatre.go.add_permits(2);
    worker.stop().await;
}
