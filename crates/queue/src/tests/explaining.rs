//! Why a job does not run: each reason brought about, the order of precedence, and what is still known next morning.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::support::{Bench, Hand, Stage, act, bench, failure};
use crate::{Explanation, JobId, Reason, State, WaitReason, outcome::Outcome, rescue};

const TENANT: Uuid = Uuid::from_u128(7);

async fn explain(bench: &Bench, id: JobId) -> Explanation {
    bench.queue.explain(id).await.unwrap().expect("the job is there")
}

async fn reason(bench: &Bench, id: JobId) -> Reason {
    explain(bench, id).await.reason.expect("the job is live")
}

async fn of_tenant(bench: &Bench) -> JobId {
    bench.queue.enqueue(act("x").tenant(TENANT)).await.unwrap().id
}

/// Ends an attempt so that the job waits.
async fn put_back(bench: &Bench, outcome: Outcome) -> JobId {
    let id = bench.enqueue("x").await;
    let mut hand = Hand::new(bench).await;
    let claimed = hand.claim_one().await;
    assert!(hand.end(&claimed, outcome).await);
    id
}

fn later(reason: WaitReason) -> Outcome {
    Outcome::Later { after: Duration::from_mins(5), reason, note: "the note".to_owned() }
}

#[tokio::test]
async fn q13_a_job_that_was_put_back_says_why_and_until_when() {
    for (outcome, expected) in [
        (
            Outcome::Retry { failure: failure("the note"), after: Duration::from_mins(5) },
            Reason::RetryBackoff,
        ),
        (later(WaitReason::Throttled), Reason::Throttled),
        (later(WaitReason::Snoozed), Reason::Snoozed),
        (later(WaitReason::Approval), Reason::AwaitingApproval),
        (later(WaitReason::NoHandler), Reason::NoLiveWorker),
    ] {
        let bench = bench().await;
        let id = put_back(&bench, outcome).await;
        let explanation = explain(&bench, id).await;
        assert_eq!((explanation.state, explanation.reason), (State::Ready, Some(expected)));
        assert_eq!(explanation.until, Some(bench.record(id).await.run_at));
        assert_eq!(explanation.evidence["note"], "the note", "{explanation:?}");
    }
}

#[tokio::test]
async fn q13_a_job_that_waits_for_its_time_is_scheduled() {
    let bench = bench().await;
    let at = bench.now().await + Duration::from_hours(1);
    let id = bench.queue.enqueue(act("x").run_at(at)).await.unwrap().id;
    let explanation = explain(&bench, id).await;
    assert_eq!((explanation.reason, explanation.until), (Some(Reason::Scheduled), Some(at)));
}

#[tokio::test]
async fn q13_a_due_job_says_that_no_worker_claims_its_queue_or_knows_its_kind() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    assert_eq!(reason(&bench, id).await, Reason::NoLiveWorker);
    let _hand = Hand::new(&bench).await;
    assert_eq!(reason(&bench, id).await, Reason::Behind, "now there is one");
    bench.sql("update queue.worker set kinds = '{other}'").await;
    let explanation = explain(&bench, id).await;
    assert_eq!(explanation.reason, Some(Reason::NoLiveWorker));
    assert_eq!(explanation.evidence["workers_of_the_queue"], 1, "it claims, but does not know the kind");
    for gone in [
        "update queue.worker set kinds = '{act}', stopping = true",
        "update queue.worker set stopping = false, last_seen_at = now() - interval '31 s'",
        "update queue.worker set last_seen_at = now(), ended_at = now()",
    ] {
        bench.sql(gone).await;
        assert_eq!(reason(&bench, id).await, Reason::NoLiveWorker, "{gone}");
    }
}

#[tokio::test]
async fn q13_a_due_job_counts_those_that_are_served_before_it() {
    let bench = bench().await;
    let _hand = Hand::new(&bench).await;
    bench
        .sql("insert into queue.job (queue, kind, payload, priority, run_at) values
            ('default', 'act', '{}', 2, now() - interval '2 s'), ('default', 'act', '{}', 0, now() - interval '1 s'),
            ('default', 'act', '{}', 3, now() - interval '3 s'), ('default', 'act', '{}', 3, now() - interval '70 s'),
            ('default', 'act', '{}', 0, now() + interval '1 h'), ('other', 'act', '{}', 2, now() - interval '2 s')")
        .await;
    let id = bench.enqueue("x").await;
    let explanation = explain(&bench, id).await;
    assert_eq!(explanation.reason, Some(Reason::Behind));
    // The older one of its own lane, the urgent one, and the low one that has aged for more than a minute.
    assert_eq!(explanation.evidence["ahead"], 3, "{explanation:?}");
    assert!(explanation.to_string().contains("3 jobs stand before it"), "{explanation}");
    bench.sql("delete from queue.job where id < (select max(id) from queue.job)").await;
    assert!(explain(&bench, id).await.to_string().contains("it is next"));
}

#[tokio::test]
async fn q13_a_running_job_names_its_worker_and_its_lease() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let mut hand = Hand::new(&bench).await;
    hand.claim_one().await;
    let explanation = explain(&bench, id).await;
    assert_eq!((explanation.state, explanation.reason), (State::Running, Some(Reason::LeaseHeld)));
    assert_eq!(explanation.until, bench.record(id).await.lease_expires_at);
    let name: String =
        sqlx::query_scalar("select name from queue.worker").fetch_one(&bench.pool).await.unwrap();
    assert_eq!(explanation.evidence["worker"], json!(name));
}

#[tokio::test]
async fn q13_a_suspect_waits_to_run_alone_and_a_quarantined_job_shows_how_its_attempts_ended() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let witness = Hand::new(&bench).await;
    for expected in [Reason::Isolation, Reason::Quarantined] {
        let mut hand = Hand::new(&bench).await;
        match crate::claim::claim_suspect(&mut hand.conn, &"default".into(), hand.claimer).await.unwrap() {
            Some(_) => {}
            None => drop(hand.claim_one().await),
        }
        let dead = hand.die().await;
        rescue::bury(&mut bench.conn().await, &[dead]).await.unwrap();
        bench.expire(id).await;
        bench.rescue(&[dead]).await;
        assert_eq!(reason(&bench, id).await, expected);
    }
    let explanation = explain(&bench, id).await;
    assert_eq!(explanation.evidence["crashes"], 2);
    assert_eq!(explanation.evidence["attempts"].as_array().unwrap().len(), 2, "{explanation:?}");
    assert!(bench.queue.retry(id).await.is_err(), "only a release brings it back");
    bench.queue.release(id, "ada").await.unwrap();
    assert_eq!(reason(&bench, id).await, Reason::Isolation, "and alone");
    assert_eq!(bench.record(id).await.crashes, 0);
    assert!(bench.queue.release(id, "ada").await.is_err(), "once");
    drop(witness);
}

#[tokio::test]
async fn q13_of_several_reasons_the_one_that_only_a_person_ends_is_told() {
    let bench = bench().await;
    let id = of_tenant(&bench).await;
    bench.sql("update queue.job set run_at = now() + interval '1 h'").await;
    assert_eq!(reason(&bench, id).await, Reason::Scheduled, "and no worker lives");
    bench.queue.pause("default", "ada", Some("the source is down")).await.unwrap();
    let explanation = explain(&bench, id).await;
    assert_eq!((explanation.reason, explanation.until), (Some(Reason::QueuePaused), None));
    assert_eq!(explanation.to_string(), "its queue is paused by ada: the source is down");
    bench.queue.freeze(TENANT, "ada", "they asked us to").await.unwrap();
    let explanation = explain(&bench, id).await;
    assert_eq!((explanation.state, explanation.reason), (State::Waiting, Some(Reason::TenantFrozen)));
    assert_eq!(explanation.to_string(), "its tenant is frozen by ada: they asked us to");
}

#[tokio::test]
async fn q13_a_job_that_has_ended_has_no_reason_and_an_unknown_one_no_answer() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    bench.queue.cancel(id, "ada").await.unwrap();
    let explanation = explain(&bench, id).await;
    assert_eq!((explanation.state, explanation.reason), (State::Cancelled, None));
    assert!(bench.queue.explain(JobId(i64::MAX)).await.unwrap().is_none());
    assert!(bench.queue.timeline(JobId(i64::MAX)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_frozen_tenants_jobs_wait_and_go_on_when_it_is_thawed() {
    let bench = bench().await;
    let (first, other) = (of_tenant(&bench).await, bench.enqueue("x").await);
    assert_eq!(bench.queue.freeze(TENANT, "ada", "why").await.unwrap(), 1);
    assert_eq!(bench.queue.freeze(TENANT, "ada", "why").await.unwrap(), 0, "again is harmless");
    let second = of_tenant(&bench).await;
    let third = bench.queue.enqueue(act("x").tenant(TENANT).unique_key("k")).await.unwrap().id;
    let parent = bench.enqueue("parent").await;
    let mut hand = Hand::new(&bench).await;
    for claimed in hand.claim(10).await {
        let follow_up = crate::Done::new().follow_up(act("follow-up").tenant(TENANT));
        assert!(claimed.id == other || claimed.id == parent);
        assert!(hand.end(&claimed, Outcome::Succeeded(follow_up)).await);
    }
    assert!(hand.claim(10).await.is_empty(), "what is enqueued meanwhile waits from the beginning");
    for id in [first, second, third] {
        assert_eq!(bench.state(id).await, State::Waiting);
    }
    assert_eq!(bench.queue.thaw(TENANT).await.unwrap(), Some(5), "three and two follow-ups");
    assert_eq!(bench.queue.thaw(TENANT).await.unwrap(), None);
    hand.lanes.look_from_the_beginning_in(Duration::ZERO);
    assert_eq!(hand.claim(10).await.len(), 5);
}

/// The reasons of a job's timeline with their length in minutes.
async fn minutes(bench: &Bench, id: JobId) -> Vec<(String, i64)> {
    let spans = bench.queue.timeline(id).await.unwrap();
    // To the nearest: statements that make a night up follow each other by milliseconds.
    let minutes = |span: &crate::Span| ((span.until - span.since).num_seconds() + 30) / 60;
    spans.iter().filter(|span| minutes(span) > 0).map(|span| (span.reason.clone(), minutes(span))).collect()
}

fn expected(spans: &[(&str, i64)]) -> Vec<(String, i64)> {
    spans.iter().map(|&(reason, minutes)| (reason.to_owned(), minutes)).collect()
}

#[tokio::test]
async fn q13_the_morning_after_it_is_known_what_kept_a_job() {
    let bench = bench().await;
    let id = bench.enqueue("late").await;
    let mut hand = Hand::new(&bench).await;
    let claimed = hand.claim_one().await;
    let later =
        Outcome::Later { after: Duration::ZERO, reason: WaitReason::Throttled, note: "429".to_owned() };
    assert!(hand.end(&claimed, later).await);
    let claimed = hand.claim_one().await;
    bench.queue.pause("default", "ada", None).await.unwrap();
    bench.queue.resume("default").await.unwrap();
    assert!(hand.end(&claimed, Outcome::Succeeded(crate::Done::new())).await);
    // It is told as if it had happened last night: enqueued an hour before it was due; then no worker for ten minutes, a
    // run of five, a pause of twenty that the source asked for, then a closed queue for a quarter of an hour.
    for aged in [
        "update queue.reason_change set due_at = now() - interval '100 min', started_at = now() - interval '90 min',
            at = now() - interval '85 min', until = now() - interval '65 min'",
        "update queue.job_history set created_at = now() - interval '160 min', run_at = now() - interval '65 min',
            started_at = now() - interval '48 min', finished_at = now() - interval '40 min'",
        "update queue.pause set paused_at = now() - interval '70 min', resumed_at = now() - interval '50 min'",
        "update queue.worker set started_at = now() - interval '90 min'",
    ] {
        assert_eq!(bench.sql(aged).await, 1, "{aged}");
    }
    let told = minutes(&bench, id).await;
    let kept = expected(&[
        ("scheduled", 60),
        ("no_live_worker", 10),
        ("running", 5),
        ("throttled", 20),
        ("queue_paused", 15),
        ("behind", 2),
        ("running", 8),
    ]);
    assert_eq!(told, kept);
    let spans = bench.queue.timeline(id).await.unwrap();
    let throttled = spans.iter().find(|span| span.reason == "throttled").unwrap();
    assert_eq!(throttled.evidence["note"], "429");
}

#[tokio::test]
async fn q13_a_job_that_waits_for_others_names_them() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let waiter = bench.queue.enqueue(act("x").after([parent], crate::Until::Ended)).await.unwrap().id;
    let explanation = explain(&bench, waiter).await;
    assert_eq!((explanation.state, explanation.reason), (State::Waiting, Some(Reason::WaitingOn)));
    let jobs = json!([{"job": parent.to_string(), "kind": "act", "state": "ready"}]);
    assert_eq!((&explanation.evidence["count"], &explanation.evidence["jobs"]), (&json!(1), &jobs));
    bench
        .sql(
            "update queue.job set created_at = now() - interval '30 min', run_at = now() - interval '30 min'",
        )
        .await;
    assert_eq!(minutes(&bench, waiter).await, expected(&[("waiting_on", 30)]), "it waits still");
    bench.play(Stage::of_success()).await;
    bench.await_state(waiter, State::Succeeded).await;
    assert_eq!(minutes(&bench, waiter).await, expected(&[("waiting_on", 30)]), "and is known to have waited");
}

#[tokio::test]
async fn q13_a_job_that_waits_still_has_a_timeline_up_to_now() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    bench
        .sql(
            "update queue.job set created_at = now() - interval '30 min', run_at = now() - interval '20 min'",
        )
        .await;
    assert_eq!(minutes(&bench, id).await, expected(&[("scheduled", 10), ("no_live_worker", 20)]));
    bench.queue.pause("default", "ada", None).await.unwrap();
    bench.sql("update queue.queue set paused_at = now() - interval '5 min'").await;
    let spans = expected(&[("scheduled", 10), ("no_live_worker", 15), ("queue_paused", 5)]);
    assert_eq!(minutes(&bench, id).await, spans);
}
