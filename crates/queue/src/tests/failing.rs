//! Failures: charged or not, with a pause or at once, kept to the letter.

use std::time::Duration;

use serde_json::value::RawValue;

use super::support::{BRIEF_BACKOFF, Bench, BriefAct, Stage, act, bench};
use crate::{Done, FailureClass, JobError, JobId, NewJob, State, WaitReason};

#[derive(Debug, thiserror::Error)]
#[error("while writing")]
struct Outer(#[source] Inner);

#[derive(Debug, thiserror::Error)]
#[error("the disk said \0")]
struct Inner;

/// The job's pause, measured from its last failure by the database.
async fn pause(bench: &Bench, id: JobId) -> f64 {
    sqlx::query_scalar(
        "select extract(epoch from j.run_at - (select max(finished_at) from queue.attempt where job = j.id))::float8
         from queue.job j where id = $1",
    )
    .bind(id.0)
    .fetch_one(&bench.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn q5_a_failing_job_is_tried_three_times_and_every_error_is_kept() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    bench
        .play(Stage::new(async |_, attempt| Err(JobError::retry(format!("error {}", attempt.number())))))
        .await;

    let record = bench.record(id).await;
    assert_eq!((record.state, record.attempt, record.failures), (State::Failed, 3, 3));
    assert_eq!(record.note.as_deref(), Some("error 3"));
    let attempts = bench.queue.attempts(id).await.unwrap();
    let seen: Vec<_> = attempts.iter().map(|a| (a.number, a.outcome, &*a.class, &*a.error)).collect();
    assert_eq!(
        seen,
        [
            (1, "failed", "transient", "error 1"),
            (2, "failed", "transient", "error 2"),
            (3, "failed", "transient", "error 3")
        ]
    );
}

#[tokio::test]
async fn q5_a_kind_may_ask_for_other_numbers_of_attempts() {
    let bench = bench().await;
    for most in [1, 5] {
        let id = bench.queue.enqueue(act("x").attempts_max(most)).await.unwrap().id;
        bench.play(Stage::new(async |_, _| Err(JobError::retry("no")))).await;
        assert_eq!(bench.record(id).await.failures.unsigned_abs(), most);
        assert_eq!(bench.queue.attempts(id).await.unwrap().len(), usize::from(most));
    }
}

#[tokio::test]
async fn q5_the_pause_is_drawn_between_zero_and_the_bound_of_the_kind() {
    let bench = bench().await;
    let mut jobs = Vec::new();
    for _ in 0..30 {
        jobs.push(bench.queue.enqueue(BriefAct::job("x")).await.unwrap().id);
    }
    bench.play(Stage::new(async |_, _| Err(JobError::retry("no")))).await;
    let mut shares = Vec::new();
    for id in jobs {
        let record = bench.record(id).await;
        assert_eq!(record.reason, WaitReason::Backoff);
        // A pause of nearly nothing is over while the others fail, and its job has a second one of twice the bound.
        let bound = BRIEF_BACKOFF.as_secs_f64() * f64::from(record.failures);
        shares.push(pause(&bench, id).await / bound);
    }
    assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{shares:?}");
    // Thirty uniform draws: the chance that none lies in a given half is one in a billion.
    assert!(shares.iter().any(|share| *share < 0.5) && shares.iter().any(|share| *share > 0.5), "{shares:?}");
}

#[tokio::test]
async fn q5_a_pause_that_the_job_asks_for_is_kept() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    bench.play(Stage::new(async |_, _| Err(JobError::retry_after("no", Duration::from_secs(90))))).await;
    assert!((pause(&bench, id).await - 90.0).abs() < 1e-6);
    assert_eq!(bench.record(id).await.failures, 1);
}

#[tokio::test]
async fn q5_what_is_put_off_is_not_charged() {
    let bench = bench().await;
    let minute = Duration::from_mins(1);
    for (name, reason) in [
        ("snooze", WaitReason::Snoozed),
        ("throttle", WaitReason::Throttled),
        ("unknown", WaitReason::NoHandler),
    ] {
        let payload = RawValue::from_string(format!(r#"{{"name":"{name}"}}"#)).unwrap();
        let kind = if name == "unknown" { "nobody_knows_it" } else { "act" };
        let id = bench.queue.enqueue(NewJob::raw(kind, payload)).await.unwrap().id;
        bench
            .play(Stage::new(move |name, _| async move {
                Err(match &*name {
                    "snooze" => JobError::snooze(minute, "until tomorrow"),
                    _ => JobError::throttled(minute, "429"),
                })
            }))
            .await;
        let record = bench.record(id).await;
        assert_eq!((record.state, record.reason, record.failures), (State::Ready, reason, 0), "{name}");
        assert!(record.run_at > bench.now().await, "{name}");
        assert!(record.note.is_some(), "{name}");
        assert!(bench.queue.attempts(id).await.unwrap().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn q5_a_handed_back_job_is_not_charged_and_keeps_its_place() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let before = bench.record(id).await.run_at;
    let stage = Stage::new(async |_, attempt| match attempt.number() {
        1 => Err(JobError::hand_back()),
        _ => Err(JobError::fail("seen", FailureClass::Conflict)),
    });
    bench.play(stage).await;
    let record = bench.record(id).await;
    assert_eq!((record.attempt, record.failures, record.run_at), (2, 1, before));
}

#[tokio::test]
async fn q5_a_timeout_is_contained_and_charged() {
    let bench = bench().await;
    let slow = bench.queue.enqueue(BriefAct::job("slow").attempts_max(1)).await.unwrap().id;
    let other = bench.enqueue("other").await;
    let stage = Stage::new(async |name, _| {
        if name == "slow" {
            std::future::pending::<()>().await;
        }
        Ok(Done::new())
    });
    bench.play(stage).await;
    assert_eq!(bench.state(other).await, State::Succeeded);
    assert_eq!(bench.state(slow).await, State::Failed);
    let attempts = bench.queue.attempts(slow).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].outcome), (1, "timed_out"));
}

#[tokio::test]
async fn q5_a_panic_is_contained_charged_and_paused_for_as_the_kind_says() {
    let bench = bench().await;
    let text = bench.enqueue("text").await;
    let thing = bench.enqueue("thing").await;
    let paused = bench.queue.enqueue(BriefAct::job("text")).await.unwrap().id;
    let other = bench.enqueue("other").await;
    let stage = Stage::new(async |name, _| match &*name {
        "text" => panic!("nobody expected {name}"),
        "thing" => std::panic::panic_any(7),
        _ => Ok(Done::new()),
    });
    bench.play(stage).await;

    assert_eq!(bench.state(other).await, State::Succeeded);
    for (id, says) in [(text, "nobody expected text"), (thing, "not text")] {
        // The kind's backoff is zero, so all its attempts have been made.
        let record = bench.record(id).await;
        assert_eq!((record.state, record.failures), (State::Failed, 3));
        let attempts = bench.queue.attempts(id).await.unwrap();
        assert!(attempts.iter().all(|a| a.outcome == "panicked" && a.error.contains(says)), "{attempts:?}");
    }
    assert_eq!(bench.record(paused).await.failures, 1);
}

#[tokio::test]
async fn q5_a_hopeless_job_fails_at_once_with_its_class() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    bench
        .play(Stage::new(async |_, _| Err(JobError::fail("no such column", FailureClass::Configuration))))
        .await;
    let record = bench.record(id).await;
    assert_eq!((record.state, record.attempt, record.failures), (State::Failed, 1, 1));
    assert_eq!(bench.queue.attempts(id).await.unwrap()[0].class, "configuration");
}

#[tokio::test]
async fn q5_a_payload_that_does_not_fit_its_kind_needs_a_person() {
    let bench = bench().await;
    let payload = RawValue::from_string(r#"{"nom":"x"}"#.to_owned()).unwrap();
    let id = bench.queue.enqueue(NewJob::raw("act", payload)).await.unwrap().id;
    bench.play(Stage::of_success()).await;
    assert_eq!(bench.state(id).await, State::Failed);
    let attempts = bench.queue.attempts(id).await.unwrap();
    assert_eq!((attempts.len(), &*attempts[0].class), (1, "configuration"));
    assert!(attempts[0].error.contains("missing field `name`"), "{}", attempts[0].error);
}

#[tokio::test]
async fn q5_an_error_is_kept_with_its_causes_and_without_what_postgres_cannot_hold() {
    let bench = bench().await;
    let id = bench.queue.enqueue(act("x").attempts_max(1)).await.unwrap().id;
    bench.play(Stage::new(async |_, _| Err(JobError::retry(Outer(Inner))))).await;
    assert_eq!(bench.queue.attempts(id).await.unwrap()[0].error, "while writing: the disk said \u{fffd}");
}

#[tokio::test]
async fn q5_a_pause_that_no_calendar_holds_fails_the_job_alone() {
    let bench = bench().await;
    let (endless, other) = (bench.enqueue("endless").await, bench.enqueue("other").await);
    let stage = Stage::new(async |name, _| match &*name {
        "endless" => Err(JobError::snooze(Duration::MAX, "for ever")),
        _ => Ok(Done::new()),
    });
    bench.play(stage).await;
    assert_eq!(bench.state(endless).await, State::Failed);
    assert_eq!(bench.queue.attempts(endless).await.unwrap()[0].class, "poison");
    assert_eq!(bench.state(other).await, State::Succeeded);
}

#[tokio::test]
async fn an_operators_retry_gives_all_the_attempts_anew() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    for round in 1..=2 {
        bench.play(Stage::new(async |_, _| Err(JobError::retry("no")))).await;
        let record = bench.record(id).await;
        assert_eq!((record.state, record.failures, record.attempt), (State::Failed, 3, 3 * round));
        bench.queue.retry(id).await.unwrap();
        assert_eq!(bench.state(id).await, State::Ready);
    }
    bench.play(Stage::of_success()).await;
    assert_eq!(bench.state(id).await, State::Succeeded);
    assert_eq!(bench.queue.attempts(id).await.unwrap().len(), 6);
    let refused = bench.queue.retry(id).await.unwrap_err();
    assert!(matches!(refused, crate::RetryRefused::State { state: State::Succeeded, .. }));
    let refused = bench.queue.retry(JobId(id.0 + 1000)).await.unwrap_err();
    assert!(matches!(refused, crate::RetryRefused::NotFound(_)));
}

#[tokio::test]
async fn q7_a_retried_job_does_not_come_back_beside_another_with_its_key() {
    let bench = bench().await;
    let old = bench.queue.enqueue(act("x").unique_key("one").attempts_max(1)).await.unwrap().id;
    bench.play(Stage::new(async |_, _| Err(JobError::retry("no")))).await;
    bench.queue.enqueue(act("y").unique_key("one")).await.unwrap();
    let refused = bench.queue.retry(old).await.unwrap_err();
    assert!(matches!(refused, crate::RetryRefused::KeyTaken { .. }), "{refused:?}");
    assert_eq!(bench.state(old).await, State::Failed, "it is where it was");
}

#[tokio::test]
async fn a_backing_off_job_is_retried_at_once_by_an_operators_word() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    let snooze = Stage::new(async |_, _| Err(JobError::snooze(Duration::from_hours(1), "later")));
    bench.play(snooze).await;
    bench.queue.retry(id).await.unwrap();
    bench.play(Stage::of_success()).await;
    assert_eq!(bench.state(id).await, State::Succeeded);
}
