//! Jobs that fan out: children and one job after them, with their progress.

use serde_json::value::RawValue;

use super::support::{Bench, Hand, Stage, act, bench, failure, quick, until};
use crate::{
    DEPENDENCIES_MAX, Done, FanOutTooLarge, JobError, JobId, NewJob, State, Until, outcome::Outcome,
};

fn children(count: usize) -> impl Iterator<Item = NewJob> {
    (0..count).map(|i| act(&format!("child {i}")))
}

/// The job named `parent` fans out, everything else succeeds.
fn fan_out(count: usize, until: Until) -> Stage {
    Stage::new(move |name, _| async move {
        match &*name {
            "parent" => Ok(Done::new().fan_out(children(count), act("then"), until)?),
            _ => Ok(Done::new()),
        }
    })
}

async fn then_of(bench: &Bench, parent: JobId) -> JobId {
    let dependencies = bench.queue.dependencies(parent).await.unwrap();
    assert_eq!(dependencies.fanned_out_into.len(), 1, "{dependencies:?}");
    let then = dependencies.fanned_out_into[0].id;
    assert_eq!(bench.queue.dependencies(then).await.unwrap().fanned_out_by, Some(parent));
    then
}

async fn progress(bench: &Bench, id: JobId) -> (i64, i64) {
    let progress = bench.record(id).await.progress.expect("who waits has progress");
    (progress["done"].as_i64().unwrap(), progress["total"].as_i64().unwrap())
}

#[tokio::test]
async fn q1_a_fan_out_shows_its_progress_and_ends_with_one_follow_up() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let mut hand = Hand::new(&bench).await;
    let claimed = hand.claim_one().await;
    let done = Done::new().fan_out(children(10), act("then"), Until::Ended).unwrap();
    assert!(hand.end(&claimed, Outcome::Succeeded(done)).await);
    let writers = "select count(distinct w) from (
        select d.waiter as w from queue.dependency d where policy = 3) as w";
    assert_eq!(bench.count(writers).await, 1);
    let then = then_of(&bench, parent).await;
    for done in 0..10 {
        assert_eq!(progress(&bench, then).await, (done, 10));
        assert_eq!(bench.state(then).await, State::Waiting);
        let child = hand.claim_one().await;
        let outcome =
            if done % 2 == 0 { Outcome::Failed(failure("x")) } else { Outcome::Succeeded(Done::new()) };
        assert!(hand.end(&child, outcome).await);
    }
    let counts = bench.queue.dependencies(then).await.unwrap().waits_for;
    assert_eq!((counts.total, counts.done, counts.succeeded, counts.failed), (10, 10, 5, 5));
    assert_eq!(hand.claim_one().await.id, then);
}

#[tokio::test]
async fn q1_a_lost_lease_fans_out_into_nothing() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let mut hand = Hand::new(&bench).await;
    let lost = hand.claim_one().await;
    bench.expire(parent).await;
    bench.rescue(&[]).await;
    let done = || Done::new().fan_out(children(3), act("then"), Until::Succeeded).unwrap();
    assert!(!hand.end(&lost, Outcome::Succeeded(done())).await);
    assert_eq!(bench.count("select count(*) from queue.job").await, 1);
    let held = hand.claim_one().await;
    assert!(hand.end(&held, Outcome::Succeeded(done())).await);
    assert!(!hand.end(&held, Outcome::Succeeded(done())).await, "written twice it counts once");
    assert_eq!(bench.count("select count(*) from queue.job").await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q1_a_thousand_children_run_before_the_one_that_waits_for_them() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let worker = bench.start(fan_out(1_000, Until::Succeeded), quick()).await;
    let began = std::time::Instant::now();
    bench.await_state(parent, State::Succeeded).await;
    let then = then_of(&bench, parent).await;
    bench.await_state(then, State::Succeeded).await;
    println!("1,000 children and the job after them: {:?}", began.elapsed());
    worker.stop().await;
    let early = "select count(*) from queue.job_history child, queue.job_history last
        where last.payload->>'name' = 'then' and child.payload->>'name' like 'child%'
          and child.finished_at > last.started_at";
    assert_eq!(bench.count(early).await, 0);
    assert_eq!(bench.count("select count(*) from queue.job_history where outcome = 1").await, 1_002);
    let counts = bench.queue.dependencies(then).await.unwrap().waits_for;
    assert_eq!((counts.total, counts.succeeded), (1_000, 1_000));
}

#[tokio::test]
async fn q1_a_fan_out_without_children_goes_on_at_once_and_one_too_large_fails() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    bench.play(fan_out(0, Until::Succeeded)).await;
    assert_eq!(bench.count("select count(*) from queue.job_history where outcome = 1").await, 2);
    assert_eq!(bench.state(parent).await, State::Succeeded);

    let refused = Done::new().fan_out(children(DEPENDENCIES_MAX + 1), act("then"), Until::Ended);
    assert_eq!(refused.unwrap_err(), FanOutTooLarge(DEPENDENCIES_MAX + 1));
    let parent = bench.enqueue("parent").await;
    bench.play(fan_out(DEPENDENCIES_MAX + 1, Until::Ended)).await;
    assert_eq!(bench.state(parent).await, State::Failed);
    let error = &bench.queue.attempts(parent).await.unwrap()[0].error;
    assert!(error.contains("10001") && error.contains("at most 10000"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q1_a_child_that_cannot_be_stored_fails_its_parent_alone() {
    let bench = bench().await;
    let ids: Vec<JobId> = {
        let jobs: Vec<NewJob> = (0..20).map(|i| act(&i.to_string())).collect();
        bench.queue.enqueue_all(&jobs).await.unwrap().into_iter().map(|e| e.id).collect()
    };
    let stage = Stage::new(async |name, _| {
        let bad = NewJob::raw("act", RawValue::from_string(r#""\u0000""#.to_owned()).unwrap());
        let child = if name == "7" { bad } else { act("child").queue("other") };
        let lost = act("then").queue("other");
        // One that waits for a job that never was cannot be stored either.
        let lost = if name == "9" { lost.after([JobId(999_999)], Until::Ended) } else { lost };
        Ok(Done::new().fan_out([act("child").queue("other"), child], lost, Until::Succeeded)?)
    });
    bench.play(stage).await;
    for (i, id) in ids.iter().enumerate() {
        let expected = if i == 7 || i == 9 { State::Failed } else { State::Succeeded };
        assert_eq!(bench.state(*id).await, expected, "{i}");
    }
    let error = &bench.queue.attempts(ids[9]).await.unwrap()[0].error;
    assert!(error.contains("there is no such job"), "{error}");
    assert_eq!(bench.count("select count(*) from queue.job").await, 18 * 3);
}

#[tokio::test]
async fn q7_a_child_whose_key_is_taken_counts_as_the_job_that_has_it() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let mut hand = Hand::new(&bench).await;
    let claimed = hand.claim_one().await;
    let holder = bench.queue.enqueue(act("holder").unique_key("k")).await.unwrap().id;
    let twins = ["k", "new", "new"].map(|key| act("child").unique_key(key));
    let done = Done::new().fan_out(twins, act("then"), Until::Succeeded).unwrap();
    assert!(hand.end(&claimed, Outcome::Succeeded(done)).await);
    let then = then_of(&bench, parent).await;
    assert_eq!(progress(&bench, then).await, (0, 2), "two keys are two jobs");
    let first = hand.claim_one().await;
    assert_eq!(first.id, holder);
    assert!(hand.end(&first, Outcome::Succeeded(Done::new())).await);
    assert_eq!(progress(&bench, then).await, (1, 2));
    let second = hand.claim_one().await;
    assert!(hand.end(&second, Outcome::Succeeded(Done::new())).await);
    assert_eq!(bench.state(then).await, State::Ready);
}

#[tokio::test]
async fn q1_children_may_fan_out_in_their_turn_and_a_failure_reaches_the_job_after_them() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let stage = Stage::new(async |name, _| match &*name {
        "parent" => Ok(Done::new().fan_out([act("inner"), act("leaf")], act("then"), Until::Succeeded)?),
        "inner" => Ok(Done::new().fan_out([act("bad")], act("inner then"), Until::Succeeded)?),
        "bad" => Err(JobError::fail("no", crate::FailureClass::Conflict)),
        _ => Ok(Done::new()),
    });
    let worker = bench.start(stage, quick()).await;
    until(async || bench.count("select count(*) from queue.job_history").await == 6).await;
    worker.stop().await;
    let then = then_of(&bench, parent).await;
    assert_eq!(bench.state(then).await, State::Succeeded, "it waited for the children, not for theirs");
    let failed =
        "select count(*) from queue.job_history where payload->>'name' = 'inner then' and outcome = 2";
    assert_eq!(bench.count(failed).await, 1);
}
