use futures_util::future::BoxFuture;
use queue::State;
use sqlx::Row;

use super::*;
use crate::{
    shadow_run::{
        self,
        tests::{CANDIDATE, prepare},
    },
    testing::{Stage, Subject, battery},
};

struct NoRuns;

impl Subject for NoRuns {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            prepare(stage, 1, 2).await;
            job(&stage.tenant, CANDIDATE).unwrap()
        })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async {
            // A cancelled job may have frozen before the next one did: then there are two, of two jobs.
            let row = sqlx::query(
                "select string_agg(distinct answer || ' ' || from_phase || ' ' || to_phase, ','),
                    count(*) = count(distinct job),
                    count(*) = (select count(*) from governance.audit_entry
                                where convert_from(content, 'UTF8')::json ->> 'kind' = 'gate.evaluated'),
                    (select string_agg(phase, ',') from tenant.candidate)
                from tenant.gate_snapshot",
            )
            .fetch_one(&mut stage.tenant_connection().await)
            .await
            .unwrap();
            let (answers, phases): (String, String) = (row.get(0), row.get(3));
            format!(
                "{answers}; once a job: {}; on record: {}; {phases}",
                row.get::<bool, _>(1),
                row.get::<bool, _>(2)
            )
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotion_evaluation_passes_the_battery() {
    battery(&NoRuns, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_thirty_shadow_runs_with_truth_are_proposed_and_nothing_moves() {
    let stage = Stage::provisioned().await;
    prepare(&stage, 1, 30).await;
    let early = stage.run(job(&stage.tenant, CANDIDATE).unwrap()).await;
    assert_eq!(early.output.unwrap()["answer"], "insufficient");
    let ran = stage.run(shadow_run::job(&stage.tenant, CANDIDATE).unwrap()).await;
    assert_eq!(ran.output.unwrap()["runs"], 30);
    let proposed = stage.run(job(&stage.tenant, CANDIDATE).unwrap()).await;
    assert_eq!(proposed.state, State::Succeeded);
    let output = proposed.output.unwrap();
    assert_eq!((&output["answer"], &output["to"]), (&json!("eligible"), &json!("assist")), "{output}");
    let phase: String = sqlx::query_scalar("select phase from tenant.candidate")
        .fetch_one(&mut stage.tenant_connection().await)
        .await
        .unwrap();
    assert_eq!(phase, "off");
}
