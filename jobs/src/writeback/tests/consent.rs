//! Leave: approvals, phases, caps.

use governance::{
    approval::{self, ApprovalId},
    writeback::{Asked, Refusal, State},
};
use queue::{State as JobState, WaitReason};

use super::house::House;
use crate::writeback::{PlanError, Wish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_p1_nothing_is_sent_before_the_approval_and_it_is_used_once() {
    let house = House::postgres().await;
    let (id, asked) = house.plan(&house.wish("1", "old@x.org").await).await.unwrap();
    let waiting =
        house.run_until(id, |job| job.state == JobState::Ready && job.reason == WaitReason::Approval).await;
    assert_eq!(house.row(id).await.state, State::Planned);
    assert_eq!(house.target("select count(*)::text from contacts_log").await, "0");
    house.approve(asked).await;
    // Nobody here wants to wait for the next look.
    house.stage.queue.retry(waiting.id).await.ok();
    let row = house.run(id).await;
    assert_eq!((row.state, row.sends), (State::Verified, 1));
    let used = "select state || ' ' || (consumed_by_job is not null) from governance.approval";
    assert_eq!(house.tenant(used).await, "consumed true");
    assert_eq!(house.end(id).await, "verified applied 1 old@x.org 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_where_the_gate_asks_for_nobody_none_is_asked() {
    let house = House::postgres().await;
    house.open_gate().await;
    let (id, asked) = house.plan(&house.wish("1", "old@x.org").await).await.unwrap();
    assert_eq!(asked, Asked::Nobody);
    house.run(id).await;
    assert_eq!(house.end(id).await, "verified applied 0 old@x.org 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_gate_that_is_raised_after_the_plan_counts() {
    let house = House::postgres().await;
    house.open_gate().await;
    let (id, _) = house.plan(&house.wish("1", "old@x.org").await).await.unwrap();
    house.inside("delete from governance.gate").await;
    house.run_until(id, |job| job.state == JobState::Ready && job.reason == WaitReason::Approval).await;
    assert!(house.row(id).await.approval.is_some());
    assert_eq!(house.target("select count(*)::text from contacts_log").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_gate_that_is_raised_once_the_change_has_leave_asks_a_person() {
    let house = House::postgres().await;
    house.open_gate().await;
    let (id, _) = house.plan(&house.wish("1", "old@x.org").await).await.unwrap();
    house.inside("update tenant.writeback set state = 'approved', steps = 1").await;
    house.inside("delete from governance.gate").await;
    let waiting =
        house.run_until(id, |job| job.state == JobState::Ready && job.reason == WaitReason::Approval).await;
    let asked = house.row(id).await;
    assert_eq!((asked.state, asked.sends), (State::Approved, 0));
    house.approve(Asked::Approval(asked.approval.expect("somebody is asked"))).await;
    house.stage.queue.retry(waiting.id).await.ok();
    assert_eq!(house.run(id).await.state, State::Verified);
    assert_eq!(house.end(id).await, "verified applied 1 old@x.org 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_a_withdrawal_before_the_intent_stops_the_send() {
    let house = House::postgres().await;
    let id = house.approved("1", "old@x.org").await;
    let mut conn = house.stage.tenant_connection().await;
    let (ada, approval) = (house.actor("ada").await, house.row(id).await.approval.unwrap());
    approval::withdraw(&mut conn, ApprovalId(approval), ada).await.unwrap();
    let row = house.run(id).await;
    assert_eq!((row.state, row.reason.as_deref(), row.sends), (State::NotApplied, Some("withdrawn"), 0));
    assert_eq!(house.end(id).await, "not_applied not_applied 0 OLD@x.org 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_changed_policy_voids_the_approval() {
    let house = House::postgres().await;
    let id = house.approved("1", "old@x.org").await;
    house
        .inside(
            "insert into tenant.policy (path, version, text, digest, created_by)
             select id, 2, 'other', sha256('other'), gen_random_uuid() from tenant.path",
        )
        .await;
    let row = house.run(id).await;
    assert_eq!((row.state, row.reason.as_deref()), (State::NotApplied, Some("policy_changed")));
    assert_eq!(house.end(id).await, "not_applied not_applied 0 OLD@x.org 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_off_writes_nothing_and_assist_only_what_a_person_accepted() {
    let house = House::postgres().await;
    let wish = house.wish("1", "old@x.org").await;
    let by_policy = Wish { accepted_by: None, ..wish.clone() };
    let refused = house.plan(&by_policy).await;
    assert!(matches!(refused, Err(PlanError::Refused(Refusal::NotAccepted(_)))), "{refused:?}");
    house.inside("update tenant.candidate set phase = 'off', generation = 2, snapshot = null").await;
    let refused = house.plan(&wish).await;
    assert!(matches!(refused, Err(PlanError::Refused(Refusal::Off(_)))), "{refused:?}");
    house.inside("update tenant.path set state = 'probed'").await;
    let refused = house.plan(&wish).await;
    assert!(matches!(refused, Err(PlanError::Refused(Refusal::NotCertified { .. }))), "{refused:?}");
    assert_eq!(house.tenant("select count(*)::text from tenant.writeback").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_a_demotion_before_the_intent_stops_the_send() {
    let house = House::postgres().await;
    let id = house.approved("1", "old@x.org").await;
    house.inside("update tenant.candidate set phase = 'off', generation = 2, snapshot = null").await;
    let row = house.run(id).await;
    assert_eq!((row.state, row.reason.as_deref()), (State::NotApplied, Some("phase_off")));
    assert_eq!(house.end(id).await, "not_applied not_applied 0 OLD@x.org 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_a_path_sends_no_more_in_a_day_than_its_cap() {
    let house = House::postgres().await;
    house.open_gate().await;
    house.inside("update tenant.path set daily_cap = 1").await;
    let (first, _) = house.plan(&house.wish("1", "one@x.org").await).await.unwrap();
    let (second, _) = house.plan(&house.wish("2", "two@x.org").await).await.unwrap();
    assert_eq!(house.run(first).await.state, State::Verified);
    let waiting = house
        .run_until(second, |job| job.state == JobState::Ready && job.reason == WaitReason::Snoozed)
        .await;
    assert_eq!(waiting.state, JobState::Ready);
    assert_eq!(house.row(second).await.state, State::Approved);
    assert_eq!(house.target("select count(*)::text from contacts_log").await, "1");
}
