//! The battery, and what a look finds.

use futures_util::future::BoxFuture;
use governance::writeback::{State as Row, WritebackId};
use queue::State;

use super::*;
use crate::{
    testing::{Stage, Subject, battery},
    writeback::tests::house::{House, one},
};

const DRIFTS: &str = "select coalesce(string_agg(writeback || standing || (ended_at is null), ',' order by first_seen_at), '') \
                      from tenant.writeback_drift";

/// Two verified changes, of which one was edited since.
struct Drifted;

impl Subject for Drifted {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| runtime.block_on(House::verified(stage)));
            job(&stage.tenant, &DriftCheck { days: 90 }).unwrap()
        })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async { one(&mut stage.tenant_connection().await, DRIFTS).await })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w3_drift_check_passes_the_battery() {
    battery(&Drifted, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w3_a_change_that_does_not_last_is_written_down_until_it_holds_again() {
    let house = House::postgres().await;
    let id = house.approved("1", "old@x.org").await;
    house.run(id).await;
    let check = async || {
        let record = house.stage.run(job(&house.stage.tenant, &DriftCheck { days: 90 }).unwrap()).await;
        assert_eq!(record.state, State::Succeeded, "{:?}", record.note);
        (record.output.unwrap()["drifted"].clone(), house.tenant(DRIFTS).await)
    };
    assert_eq!(check().await, (0.into(), String::new()));
    house.at_target("update contacts set email = 'a person''s' where id = 1").await;
    assert_eq!(check().await, (1.into(), "1othertrue".into()));
    assert_eq!(check().await, (1.into(), "1othertrue".into()));
    house.at_target("update contacts set email = 'OLD@x.org' where id = 1").await;
    assert_eq!(check().await, (1.into(), "1otherfalse,1beforetrue".into()));
    house.at_target("delete from contacts").await;
    check().await;
    house.at_target("insert into contacts values (1, 'old@x.org')").await;
    assert_eq!(check().await, (0.into(), "1otherfalse,1beforefalse,1gonefalse".into()));
    assert_eq!(house.row(id).await.state, Row::Verified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w6_a_change_whose_job_was_lost_is_taken_up() {
    let house = House::postgres().await;
    house.approved("1", "old@x.org").await;
    let _worker = house.stage.worker(house.stage.environment());
    let check = job(&house.stage.tenant, &DriftCheck { days: 90 }).unwrap();
    house.stage.queue.enqueue(check).await.unwrap();
    crate::testing::until(async || {
        let row = house.row(WritebackId(1)).await;
        (row.state == Row::Verified).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w6_what_may_be_on_its_way_is_taken_up_before_all_that_waits_to_begin() {
    let house = House::postgres().await;
    let id = house.approved("1", "old@x.org").await;
    let of_others = |keys: &str| {
        format!(
            "insert into tenant.writeback (path, connector, stream, key, class, plan, digest, desired, policy_version,
                 policy_digest, confidence, evidence, requested_by)
             select path, connector, 'others', n, class, plan, digest, desired, 1, policy_digest, 0, evidence,
                 requested_by
             from tenant.writeback, generate_series({keys}) n where id = 1"
        )
    };
    house.inside(&of_others(&format!("1, {RESUMED_MAX}"))).await;
    house.inside(&of_others("2001, 2001")).await;
    house.was_sent(id, "unknown").await;
    let first = rows::to_resume(&mut house.stage.tenant_connection().await, 3).await.unwrap();
    assert_eq!(first, [WritebackId(1), WritebackId(2), WritebackId(3)]);
    house.was_sent(WritebackId(RESUMED_MAX + 2), "sent").await;
    let first = rows::to_resume(&mut house.stage.tenant_connection().await, 3).await.unwrap();
    assert_eq!(first, [WritebackId(1), WritebackId(RESUMED_MAX + 2), WritebackId(2)]);
    let _worker = house.stage.worker(house.stage.environment());
    let check = job(&house.stage.tenant, &DriftCheck { days: 90 }).unwrap();
    house.stage.queue.enqueue(check).await.unwrap();
    crate::testing::until(async || (house.row(id).await.state == Row::Verified).then_some(())).await;
}
