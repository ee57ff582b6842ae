//! The path's last rung: reached by the first change that was written and read back.

use governance::{
    actor,
    path::{self, PathState},
    writeback::State,
};

use super::house::House;
use crate::writeback::compensate;

async fn state(house: &House) -> PathState {
    path::by_name(&mut house.stage.tenant_connection().await, "email").await.unwrap().state
}

async fn lower(house: &House, to: PathState) {
    let mut conn = house.stage.tenant_connection().await;
    let ada = actor::named(&mut conn, "ada").await.unwrap();
    path::lower(&mut conn, "email", to, &ada).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certified_path_becomes_live_with_its_first_verified_change() {
    let house = House::postgres().await;
    let id = house.approved("1", "old@x.org").await;
    assert_eq!(state(&house).await, PathState::Certified);
    let verified = house.run(id).await;
    assert_eq!((verified.state, state(&house).await), (State::Verified, PathState::Live));
    let mut conn = house.stage.tenant_connection().await;
    let path = path::by_name(&mut conn, "email").await.unwrap();
    let steps = path::steps(&mut conn, &path).await.unwrap();
    assert_eq!((steps.len(), steps[0].to), (1, PathState::Live));
    assert_eq!(steps[0].evidence["plan"], verified.digest.to_string());
    let together = "select (count(distinct e.xmin::text) = 1 and count(*) = 2)::text
        from governance.audit_entry e where convert_from(content, 'UTF8')::json ->> 'kind'
            in ('path.stepped', 'writeback.verified')";
    assert_eq!(house.tenant(together).await, "true", "both in one transaction");
    // A second one finds it live.
    let second = house.approved("2", "b@x.org").await;
    house.run(second).await;
    assert_eq!(path::steps(&mut conn, &path).await.unwrap().len(), 1);
    assert_eq!(house.tenant(super::house::CHAIN_HOLDS).await, "true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_written_and_what_was_undone_make_no_path_live() {
    let house = House::postgres().await;
    let refused = house.approved("1", "old@x.org").await;
    house.at_target("update contacts set email = 'a person''s' where id = 1").await;
    assert_eq!(house.run(refused).await.state, State::Conflict);
    assert_eq!(state(&house).await, PathState::Certified);
    let id = house.approved("2", "b@x.org").await;
    house.run(id).await;
    lower(&house, PathState::Certified).await;
    let ada = house.actor("ada").await;
    let (planned, asked) =
        compensate(&house.stage.as_request().await, &house.stage.vault, id, ada, false).await.unwrap();
    house.approve(asked).await;
    assert_eq!(house.run(planned.id).await.state, State::Verified);
    assert_eq!(state(&house).await, PathState::Certified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w2_a_path_that_is_lowered_before_the_intent_sends_nothing() {
    let house = House::postgres().await;
    let id = house.approved("1", "old@x.org").await;
    lower(&house, PathState::Probed).await;
    let row = house.run(id).await;
    assert_eq!((row.state, row.reason.as_deref(), row.sends), (State::NotApplied, Some("not_certified"), 0));
    assert_eq!(house.end(id).await, "not_applied not_applied 0 OLD@x.org 0");
}
