//! Putting jobs in: all or nothing, and at most once per key.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use sqlx::Connection;

use super::support::{Hand, Stage, act, bench};
use crate::{EnqueueError, JobId, NewJob, PAYLOAD_BYTES_MAX, State, WaitReason, outcome::Outcome};

const HOUR: Duration = Duration::from_hours(1);

fn raw(kind: &str, json: &str) -> NewJob {
    NewJob::raw(kind, RawValue::from_string(json.to_owned()).unwrap())
}

#[tokio::test]
async fn q1_a_committed_job_runs_and_a_rolled_back_one_never_does() {
    let bench = bench().await;
    let mut conn = bench.db.connect().await;
    let mut tx = conn.begin().await.unwrap();
    let (gone, ring) = bench.queue.enqueue_in(&mut tx, &[act("rolled back")]).await.unwrap();
    tx.rollback().await.unwrap();
    bench.queue.ring(ring).await;
    let mut tx = conn.begin().await.unwrap();
    let (kept, ring) = bench.queue.enqueue_in(&mut tx, &[act("committed")]).await.unwrap();
    tx.commit().await.unwrap();
    bench.queue.ring(ring).await;

    bench.play(Stage::of_success()).await;

    assert_eq!(bench.state(kept[0].id).await, State::Succeeded);
    assert_eq!(bench.queue.get(gone[0].id).await.unwrap(), None);
}

#[tokio::test]
async fn q1_one_bad_payload_keeps_the_whole_bulk_out() {
    let bench = bench().await;
    for bad in [r#""\u0000""#, r#""\ud800""#, "1e999999"] {
        let error = bench.queue.enqueue_all(&[act("good"), raw("act", bad), act("good")]).await.unwrap_err();
        assert!(matches!(error, EnqueueError::PayloadUnstorable(_)), "{bad}: {error:?}");
    }
    let large = raw("act", &format!("{:?}", "x".repeat(PAYLOAD_BYTES_MAX)));
    let error = bench.queue.enqueue_all(&[act("good"), large]).await.unwrap_err();
    assert!(matches!(error, EnqueueError::PayloadTooLarge { .. }));
    assert_eq!(bench.count("select count(*) from queue.job").await, 0);
}

#[tokio::test]
async fn q1_a_connection_killed_before_the_commit_leaves_nothing() {
    let bench = bench().await;
    let mut conn = bench.db.connect().await;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut conn).await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    let jobs: Vec<NewJob> = (0..100).map(|i| act(&i.to_string())).collect();
    let _unrung = bench.queue.enqueue_in(&mut tx, &jobs).await.unwrap();
    sqlx::query("select pg_terminate_backend($1)").bind(pid).execute(&bench.pool).await.unwrap();

    assert!(tx.commit().await.is_err());
    assert_eq!(bench.count("select count(*) from queue.job").await, 0);
    assert_eq!(bench.queue.enqueue_all(&jobs).await.unwrap().len(), 100);
}

#[tokio::test]
async fn q1_the_answers_of_a_bulk_stand_in_its_order() {
    let bench = bench().await;
    let jobs: Vec<NewJob> = (0..200).map(|i| raw("numbered", &i.to_string())).collect();
    let enqueued = bench.queue.enqueue_all(&jobs).await.unwrap();
    for (i, job) in enqueued.iter().enumerate().step_by(23) {
        assert_eq!(bench.record(job.id).await.payload, serde_json::json!(i));
    }
}

#[tokio::test]
async fn q1_a_job_dated_long_ago_is_claimed() {
    let bench = bench().await;
    let mut hand = Hand::new(&bench).await;
    for year in ["1969-12-31T00:00:00Z", "0001-01-01T00:00:00Z"] {
        let at: DateTime<Utc> = year.parse().unwrap();
        let job = bench.queue.enqueue(act("old").run_at(at)).await.unwrap();
        hand.lanes.look_from_the_beginning_in(Duration::ZERO);
        assert_eq!(hand.claim_one().await.id, job.id, "{year}");
    }
}

#[tokio::test]
async fn q1_a_job_is_not_claimed_before_its_time() {
    let bench = bench().await;
    let mut hand = Hand::new(&bench).await;
    let later =
        bench.queue.enqueue(act("later").run_at(bench.now().await + TimeDelta::hours(1))).await.unwrap().id;
    assert!(hand.claim(10).await.is_empty());
    bench.sql("update queue.job set run_at = now()").await;
    assert_eq!(hand.claim_one().await.id, later);
}

#[tokio::test]
async fn q7_twenty_tasks_with_one_unique_key_make_one_job() {
    let bench = bench().await;
    let tasks: Vec<_> = (0..20)
        .map(|i| {
            let queue = bench.queue.clone();
            tokio::spawn(async move { queue.enqueue(act(&i.to_string()).unique_key("one")).await.unwrap() })
        })
        .collect();
    let answers = futures_util::future::join_all(tasks).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();

    assert_eq!(answers.iter().filter(|answer| !answer.existing).count(), 1);
    assert_eq!(answers.iter().map(|answer| answer.id).collect::<HashSet<_>>().len(), 1);
    assert_eq!(bench.count("select count(*) from queue.job").await, 1);
}

#[tokio::test]
async fn q7_unique_jobs_that_finish_meanwhile_are_never_answered_with_nothing() {
    let bench = bench().await;
    let finisher = async {
        let mut hand = Hand::new(&bench).await;
        let mut finished = 0;
        while finished < 60 {
            for job in hand.claim(10).await {
                assert!(hand.end(&job, Outcome::Succeeded(crate::Done::new())).await);
                finished += 1;
            }
        }
    };
    let producers = futures_util::future::join_all((0..4).map(|_| async {
        let mut made = 0;
        while made < 15 {
            made += usize::from(!bench.queue.enqueue(act("again").unique_key("one")).await.unwrap().existing);
        }
    }));
    let both = async { tokio::join!(finisher, producers) };
    tokio::time::timeout(super::support::GUARD, both).await.unwrap();
}

#[tokio::test]
async fn q7_a_bulk_with_a_key_twice_makes_the_first_and_answers_with_it() {
    let bench = bench().await;
    let before = bench.queue.enqueue(act("0").unique_key("a")).await.unwrap().id;
    let jobs = [
        act("1").unique_key("b"),
        act("2"),
        act("3").unique_key("b"),
        act("4").unique_key("a"),
        raw("other", "1").unique_key("b"),
    ];
    let answers = bench.queue.enqueue_all(&jobs).await.unwrap();

    assert_eq!(answers.iter().map(|a| a.existing).collect::<Vec<_>>(), [false, false, true, true, false]);
    assert_eq!(answers[2].id, answers[0].id);
    assert_eq!(answers[3].id, before);
    assert_eq!(bench.record(answers[0].id).await.payload["name"], "1");
    assert_eq!(bench.record(answers[1].id).await.payload["name"], "2");
}

#[tokio::test]
async fn q7_bulks_with_the_same_keys_in_other_orders_do_not_deadlock() {
    let bench = bench().await;
    let bulk = |reversed: bool| -> Vec<NewJob> {
        let mut jobs: Vec<NewJob> = (0..50).map(|i| act("x").unique_key(format!("key {i}"))).collect();
        if reversed {
            jobs.reverse();
        }
        jobs
    };
    let (forth, back) = (bulk(false), bulk(true));
    for _ in 0..20 {
        let (a, b) = tokio::join!(bench.queue.enqueue_all(&forth), bench.queue.enqueue_all(&back));
        let (a, mut b) = (a.unwrap(), b.unwrap());
        b.reverse();
        assert!(a.iter().zip(&b).all(|(a, b)| a.id == b.id && a.existing != b.existing));
        bench.sql("delete from queue.job").await;
    }
}

#[tokio::test]
async fn q7_a_unique_key_is_free_again_when_its_job_has_ended() {
    let bench = bench().await;
    let first = bench.queue.enqueue(act("1").unique_key("one")).await.unwrap();
    bench.play(Stage::of_success()).await;
    let second = bench.queue.enqueue(act("2").unique_key("one")).await.unwrap();
    assert!(!second.existing && second.id != first.id);
}

async fn once(bench: &super::support::Bench, key: &str, json: &str) -> Result<(JobId, bool), EnqueueError> {
    let enqueued = bench.queue.enqueue_once("scope", key, HOUR, raw("act", json)).await?;
    Ok((enqueued.id, enqueued.existing))
}

#[tokio::test]
async fn q7_an_idempotency_key_answers_with_its_job_and_refuses_another_request() {
    let bench = bench().await;
    let (id, existing) = once(&bench, "k", r#"{"name":"x","n":1}"#).await.unwrap();
    assert!(!existing);
    assert_eq!(once(&bench, "k", "{ \"n\": 1, \"name\": \"x\" }").await.unwrap(), (id, true));
    let refused = once(&bench, "k", r#"{"name":"x","n":2}"#).await.unwrap_err();
    assert!(matches!(refused, EnqueueError::KeyReused { job, .. } if job == id), "{refused:?}");

    bench.play(Stage::of_success()).await;
    assert_eq!(once(&bench, "k", r#"{"name":"x","n":1}"#).await.unwrap(), (id, true), "it has finished");

    bench.sql("update queue.idempotency_key set expires_at = now()").await;
    let (second, existing) = once(&bench, "k", r#"{"name":"x","n":2}"#).await.unwrap();
    assert!(!existing && second != id, "the window is over");
}

#[tokio::test]
async fn q7_twenty_requests_with_one_idempotency_key_make_one_job() {
    let bench = bench().await;
    let answers = futures_util::future::join_all((0..20).map(|_| once(&bench, "k", r#"{"name":"x"}"#))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|(_, existing)| !existing).count(), 1);
    assert!(answers.iter().all(|(id, _)| *id == answers[0].0));
    assert_eq!(bench.count("select count(*) from queue.job").await, 1);
}

#[tokio::test]
async fn q7_a_refused_job_leaves_no_idempotency_key_behind() {
    let bench = bench().await;
    once(&bench, "k", r#""\u0000""#).await.unwrap_err();
    let (_, existing) = once(&bench, "k", r#"{"name":"x"}"#).await.unwrap();
    assert!(!existing);
}

#[tokio::test]
async fn a_new_job_waits_for_nothing() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let record = bench.record(id).await;
    assert_eq!((record.state, record.reason, record.attempt), (State::Ready, WaitReason::None, 0));
}
