use futures_util::{StreamExt, future::BoxFuture};
use queue::{BulkAction, BulkFilter, JobId, State};
use serde_json::value::RawValue;
use sqlx::Row;

use super::*;
use crate::testing::{Stage, Subject, battery, until};

/// A queue that no worker here claims from: what is brought back stays where it can be seen.
const ELSEWHERE: &str = "elsewhere";

fn target() -> NewJob {
    NewJob::raw("anything", RawValue::from_string("{}".to_owned()).unwrap()).queue(ELSEWHERE)
}

/// This many cancelled jobs, and the plan to retry them.
async fn plan(stage: &Stage, jobs: usize) -> (Vec<JobId>, BulkPlan) {
    let made = stage.queue.enqueue_all(&vec![target(); jobs]).await.unwrap();
    let ids: Vec<JobId> = made.iter().map(|made| made.id).collect();
    let mut cancelling = futures_util::stream::iter(ids.clone())
        .map(|id| stage.queue.cancel(id, "the test"))
        .buffer_unordered(8);
    while let Some(cancelled) = cancelling.next().await {
        cancelled.unwrap();
    }
    let filter = BulkFilter {
        states: vec![State::Cancelled],
        queue: Some(ELSEWHERE.to_owned()),
        ..BulkFilter::default()
    };
    (ids, stage.queue.bulk_preview(filter, BulkAction::Retry).await.unwrap().plan)
}

fn operation(plan: BulkPlan) -> NewJob {
    job(plan, "ada").unwrap().queue("local")
}

struct Retrying;

impl Subject for Retrying {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        // Three pages, and the one that chooses.
        Box::pin(async { operation(plan(stage, 5).await.1) })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async {
            // How often an operation acted on each job, and what became of it.
            let rows = sqlx::query(
                "select count(*)::text, string_agg(times || ' ' || state, ', ' order by id) from (
                     select j.id, j.state, (select count(*) from queue.bulk_outcome o
                                            where o.job = j.id and o.outcome = 1) as times
                     from queue.job j where queue = 'elsewhere') as seen",
            )
            .fetch_one(stage.queue.pool())
            .await
            .unwrap();
            format!("{} jobs: {}", rows.get::<String, _>(0), rows.get::<String, _>(1))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_operation_passes_the_battery() {
    battery(&Retrying, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_tells_what_it_did_and_what_it_skipped_and_why() {
    let stage = Stage::new().await;
    let (ids, plan) = plan(&stage, 3).await;
    stage.queue.retry(ids[1]).await.unwrap();
    let ended = stage.run(operation(plan)).await;
    assert_eq!(ended.state, State::Succeeded);
    let expected = serde_json::json!({ "chosen": 2, "acted": 2, "skipped": 0, "skipped_because": [] });
    assert_eq!(ended.output.unwrap(), expected, "what was retried before it began is no longer chosen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_operation_stops_between_pages_and_says_how_far_it_came() {
    let stage = Stage::new().await;
    let (_, plan) = plan(&stage, 600).await;
    let id = stage.queue.enqueue(operation(plan)).await.unwrap().id;
    let _worker = stage.worker(stage.environment());
    let acted = async || stage.queue.bulk_progress(id).await.unwrap().map_or(0, |progress| progress.acted);
    until(async || (acted().await > 0).then_some(())).await;
    stage.queue.cancel(id, "ada").await.unwrap();
    let ended = stage.at_rest(id).await;
    let done = acted().await;
    assert_eq!(ended.state, State::Cancelled);
    assert!(done < 600, "it stopped before its end");
    let note = ended.note.unwrap();
    assert!(
        note.starts_with(&format!("aborted: {done} of 600 chosen jobs were acted on, 0 skipped")),
        "{note}"
    );
    let live = sqlx::query_scalar::<_, i64>("select count(*) from queue.job where queue = 'elsewhere'");
    assert_eq!(
        live.fetch_one(stage.queue.pool()).await.unwrap().unsigned_abs(),
        done,
        "the rest was left alone"
    );

    stage.queue.retry(id).await.unwrap();
    assert_eq!(stage.at_rest(id).await.state, State::Succeeded, "a retry of the operation does the rest");
    assert_eq!(acted().await, 600);
}

#[test]
fn a_payload_without_a_previewed_plan_is_refused() {
    let check = |payload: &str| serde_json::from_str::<BulkOperation>(payload).unwrap_err().to_string();
    let empty =
        r#"{"plan": {"filter": {}, "action": {"verb": "retry"}, "up_to": "9", "digest": ""}, "by": "ada"}"#;
    assert!(check(empty).contains("the filter is empty"), "{}", check(empty));
    let invented = r#"{"plan": {"filter": {"kind": "x"}, "action": {"verb": "retry"}, "up_to": "9", "digest": "0"}, "by": "ada"}"#;
    assert!(check(invented).contains("not what was previewed"), "{}", check(invented));
}
