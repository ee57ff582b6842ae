//! What an attempt leaves behind when it ends: follow-ups, output, and nothing of its neighbours' troubles.

use serde_json::{json, value::RawValue};
use sqlx::{Connection, PgConnection};

use super::support::{Hand, Stage, act, bench, ended, failure};
use crate::{Done, NewJob, State, finish, outcome::Outcome};

fn unstorable() -> NewJob {
    NewJob::raw("act", RawValue::from_string(r#""\u0000""#.to_owned()).unwrap())
}

#[tokio::test]
async fn q1_follow_ups_are_enqueued_by_the_statement_that_finishes_the_job() {
    let bench = bench().await;
    let parent = bench.enqueue("parent").await;
    let mut hand = Hand::new(&bench).await;
    let claimed = hand.claim_one().await;
    let done = Done::new().follow_up(act("1")).follow_up(act("2").queue("other").unique_key("k"));
    assert!(hand.end(&claimed, Outcome::Succeeded(done)).await);

    // One transaction wrote them all.
    let writers = bench
        .count(
            "select count(distinct xmin::text) from (
                select xmin from queue.job union all select xmin from queue.job_history) as written",
        )
        .await;
    assert_eq!(writers, 1);
    assert_eq!(bench.state(parent).await, State::Succeeded);
    assert_eq!(
        bench.count("select count(*) from queue.job where queue = 'other' and unique_key = 'k'").await,
        1
    );
    assert_eq!(&*hand.claim_one().await.kind, "act");
}

#[tokio::test]
async fn q7_a_job_may_follow_itself_under_its_own_unique_key() {
    let bench = bench().await;
    bench.queue.enqueue(act("0").unique_key("nightly")).await.unwrap();
    let stage = Stage::new(async |name, _| {
        let number: u32 = name.parse().unwrap();
        let next = act(&(number + 1).to_string()).unique_key("nightly");
        Ok(if number < 20 { Done::new().follow_up(next) } else { Done::new() })
    });
    bench.play(stage).await;
    assert_eq!(bench.count("select count(*) from queue.job_history").await, 21);
}

#[tokio::test]
async fn q7_a_follow_up_whose_key_is_taken_is_left_out() {
    let bench = bench().await;
    bench.enqueue("parent").await;
    let mut hand = Hand::new(&bench).await;
    let claimed = hand.claim_one().await;
    bench.queue.enqueue(act("other").unique_key("k")).await.unwrap();
    let done = Done::new().follow_up(act("1").unique_key("k")).follow_up(act("2"));
    assert!(hand.end(&claimed, Outcome::Succeeded(done)).await);
    assert_eq!(bench.count("select count(*) from queue.job").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q1_a_follow_up_that_cannot_be_stored_fails_its_own_job_alone() {
    let bench = bench().await;
    let jobs: Vec<NewJob> = (0..100).map(|i| act(&i.to_string())).collect();
    let ids: Vec<_> = bench.queue.enqueue_all(&jobs).await.unwrap().into_iter().map(|e| e.id).collect();
    let stage = Stage::new(async |name, _| {
        let next = if name == "50" { unstorable() } else { act("follow-up").queue("other") };
        Ok(Done::new().follow_up(next))
    });
    bench.play(stage).await;

    assert_eq!(bench.count("select count(*) from queue.job").await, 99);
    assert_eq!(bench.count("select count(*) from queue.job_history where outcome = 1").await, 99);
    assert_eq!(bench.state(ids[50]).await, State::Failed);
    let attempts = bench.queue.attempts(ids[50]).await.unwrap();
    assert_eq!((attempts.len(), &*attempts[0].class), (1, "poison"));
    assert!(attempts[0].error.contains("cannot be stored"), "{}", attempts[0].error);
}

#[tokio::test]
async fn a_small_output_is_kept_and_a_large_one_noted() {
    let bench = bench().await;
    let (small, large) = (bench.enqueue("small").await, bench.enqueue("large").await);
    let stage = Stage::new(async |name, _| {
        let output = if name == "small" { json!({"rows": 7}) } else { json!("x".repeat(70_000)) };
        Ok(Done::new().output(output))
    });
    bench.play(stage).await;
    let (small, large) = (bench.record(small).await, bench.record(large).await);
    assert_eq!((small.output, small.note), (Some(json!({"rows": 7})), None));
    assert_eq!((large.state, large.output), (State::Succeeded, None));
    assert_eq!(large.note.as_deref(), Some("its output of 70002 bytes was not kept: at most 65536 are"));
}

#[tokio::test]
async fn an_output_that_cannot_be_stored_fails_its_job_and_says_so() {
    let bench = bench().await;
    let id = bench.enqueue("x").await;
    bench.play(Stage::new(async |_, _| Ok(Done::new().output(json!("\0"))))).await;
    assert_eq!(bench.state(id).await, State::Failed);
    assert!(bench.record(id).await.note.unwrap().contains("ended as succeeded"));
}

#[tokio::test]
async fn a_batch_of_every_outcome_is_written_and_the_lost_one_named() {
    let bench = bench().await;
    for i in 0..6 {
        bench.enqueue(&i.to_string()).await;
    }
    let mut hand = Hand::new(&bench).await;
    let mut claimed = hand.claim(6).await;
    claimed.sort_by_key(|job| std::cmp::Reverse(job.id));
    bench.sql("update queue.job set cancel_requested = true where payload->>'name' = '3'").await;
    bench.sql("update queue.job set fence = nextval('queue.fence') where payload->>'name' = '4'").await;
    let outcome = |name: &str| match name {
        "0" | "4" => Outcome::Succeeded(Done::new()),
        "1" => Outcome::Failed(failure("f")),
        "2" | "3" => Outcome::Retry { failure: failure("r"), after: std::time::Duration::ZERO },
        _ => Outcome::Cancelled { note: "c".to_owned() },
    };
    let name =
        |job: &crate::Claimed| serde_json::from_str::<super::support::Act>(job.payload.get()).unwrap().name;
    let mut batch: Vec<_> =
        claimed.iter().map(|job| ended(job, hand.claimer.worker, outcome(&name(job)))).collect();
    let lost = finish::settle(&mut hand.conn, &mut batch).await.unwrap().lost;

    let mut states = Vec::new();
    for job in claimed.iter().rev() {
        assert_eq!(lost.contains(&job.id), name(job) == "4");
        states.push(bench.state(job.id).await);
    }
    let expected =
        [State::Succeeded, State::Failed, State::Ready, State::Cancelled, State::Running, State::Cancelled];
    assert_eq!(states, expected);
    assert_eq!(bench.count("select count(*) from queue.attempt").await, 3);
}

#[tokio::test]
async fn q1_an_outcome_waits_for_a_database_that_takes_no_writes_or_no_connections() {
    let bench = bench().await;
    let go = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let gate = go.clone();
    let stage = Stage::new(move |_, _| {
        let go = gate.clone();
        async move {
            go.acquire().await.unwrap().forget();
            Ok(Done::new())
        }
    });
    let worker = bench.start(stage, super::support::quick()).await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&bench.pool).await.unwrap();
    for (trouble, relief) in [
        ("set default_transaction_read_only = on", "reset default_transaction_read_only"),
        ("allow_connections false", "allow_connections true"),
    ] {
        let id = bench.enqueue("x").await;
        bench.await_state(id, State::Running).await;
        let alter = |what: &str| sqlx::AssertSqlSafe(format!("alter database {name} {what}"));
        let mut conn = PgConnection::connect_with(&bench.db.options().database("postgres")).await.unwrap();
        sqlx::raw_sql(alter(trouble)).execute(&mut conn).await.unwrap();
        super::support::cut(&bench, "queue finish").await;
        go.add_permits(1);
        super::support::never(async || bench.state(id).await != State::Running).await;
        sqlx::raw_sql(alter(relief)).execute(&mut conn).await.unwrap();
        bench.await_state(id, State::Succeeded).await;
        assert_eq!(bench.record(id).await.attempt, 1, "{trouble}");
    }
    worker.stop().await;
}
