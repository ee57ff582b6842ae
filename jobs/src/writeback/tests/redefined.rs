//! Connectors that are defined anew: another definition is another target.

use governance::{
    path::{Fallen, PathState},
    writeback::{Refusal, State},
};

use super::{
    house::House,
    server::{Lie, Server},
};
use crate::{target_capability, writeback::PlanError};

const STATE: &str = "select state || ' ' || (select count(*) from tenant.path_step) from tenant.path";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_another_definition_takes_the_certification_back_and_the_same_one_does_not() {
    let house = House::http(Server::start(Lie::None).await).await;
    assert_eq!(house.redefine(house.server()).await, []);
    assert_eq!(house.tenant(STATE).await, "certified 0");
    let other = Server::start(Lie::None).await;
    let fell = Fallen { path: "email".to_owned(), from: PathState::Certified };
    assert_eq!(house.redefine(&other).await, [fell]);
    assert_eq!(house.tenant(STATE).await, "catalogued 1");
    assert_eq!(house.redefine(&other).await, []);
    let refused = house.plan(&house.wish("1", "old@x.org").await).await;
    assert!(matches!(refused, Err(PlanError::Refused(Refusal::NotCertified { .. }))), "{refused:?}");
    let told = "select string_agg(convert_from(content, 'UTF8')::json ->> 'kind', ' ' order by seq)
        from (select * from governance.audit_entry order by seq desc limit 2) as last";
    assert_eq!(house.tenant(told).await, "path.stepped connector.registered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_an_approval_is_not_used_for_another_target_though_it_holds_the_same() {
    let house = House::http(Server::start(Lie::None).await).await;
    let id = house.approved("1", "old@x.org").await;
    let other = Server::start(Lie::None).await;
    house.redefine(&other).await;
    // Tried and certified anew, as it is now.
    house
        .inside(
            "insert into tenant.record (connector, stream, key, digest, data) values ('crm', 'rows', '1', '', '{}');
             set session_replication_role = replica; update tenant.path set state = 'certified'",
        )
        .await;
    target_capability::find_out(&house.stage.as_request().await, &house.stage.vault, "crm", "rows")
        .await
        .unwrap();
    let row = house.run(id).await;
    assert_eq!((row.state, row.reason.as_deref(), row.sends), (State::Conflict, Some("redefined"), 0));
    assert_eq!(house.tenant("select state from governance.approval").await, "open", "it is not used");
    assert_eq!((other.stored(), house.server().stored()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w3_what_was_sent_is_not_verified_by_another_target() {
    for state in ["sent", "unknown"] {
        let house = House::http(Server::start(Lie::None).await).await;
        let id = house.approved("1", "old@x.org").await;
        house.was_sent(id, state).await;
        let other = Server::start(Lie::None).await;
        house.redefine(&other).await;
        let row = house.run(id).await;
        assert_eq!((row.state, row.reason.as_deref()), (State::Conflict, Some("redefined")), "{state}");
    }
}
