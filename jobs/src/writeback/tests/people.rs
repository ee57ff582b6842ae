//! People who edit beside us, and the undoing of what we wrote.

use governance::writeback::{State, WritebackError};

use super::{
    house::House,
    server::{Lie, Server},
};
use crate::writeback::{PlanError, accept, compensate, job};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w4_p5_an_edit_between_plan_and_send_is_a_conflict_and_the_approval_is_not_used() {
    let house = House::postgres().await;
    let id = house.approved("1", "old@x.org").await;
    house.at_target("update contacts set email = 'a person''s' where id = 1").await;
    let row = house.run(id).await;
    assert_eq!((row.state, row.reason.as_deref(), row.sends), (State::Conflict, Some("plan_changed"), 0));
    assert_eq!(house.end(id).await, "conflict conflict 0 a person's 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w4_an_edit_between_the_look_and_the_write_is_never_overwritten() {
    let house = House::http(Server::start(Lie::None).await).await;
    let id = house.approved("1", "old@x.org").await;
    house.server().lies(Lie::IsEdited);
    let row = house.run(id).await;
    assert_eq!((row.state, row.reason.as_deref()), (State::Conflict, Some("precondition")));
    assert_eq!(house.server().record("1")["email"], "a person's");
    assert_eq!(house.server().stored(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w5_other_fields_are_as_they_were() {
    let house = House::postgres().await;
    let before = house.target("select n::text || seen from contacts where id = 1").await;
    let id = house.approved("1", "old@x.org").await;
    let row = house.run(id).await;
    assert_eq!(row.rest.0, row.rest.1);
    assert!(row.rest.0.is_some());
    assert_eq!(house.target("select n::text || seen from contacts where id = 1").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w4_a_record_has_one_open_change_at_a_time() {
    let house = House::postgres().await;
    house.plan(&house.wish("1", "one@x.org").await).await.unwrap();
    let second = house.plan(&house.wish("1", "two@x.org").await).await;
    assert!(matches!(second, Err(PlanError::Writeback(WritebackError::RecordBusy(_)))), "{second:?}");
}

/// Undoes a writeback and sees it through.
async fn undo(house: &House, id: governance::writeback::WritebackId) -> governance::writeback::Writeback {
    let ada = house.actor("ada").await;
    let (planned, asked) =
        compensate(&house.stage.as_request().await, &house.stage.vault, id, ada, false).await.unwrap();
    house.approve(asked).await;
    house.run(planned.id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w7_what_was_written_is_put_back() {
    let house = House::postgres().await;
    let id = house.approved("1", "old@x.org").await;
    house.run(id).await;
    assert_eq!(undo(&house, id).await.state, State::Verified);
    assert_eq!(house.row(id).await.state, State::Compensated);
    assert_eq!(house.end(id).await, "compensated applied,applied,compensated 2 OLD@x.org 2");
    let ada = house.actor("ada").await;
    let again = compensate(&house.stage.as_request().await, &house.stage.vault, id, ada, false).await;
    assert!(matches!(again, Err(PlanError::State { .. })), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w7_a_later_edit_of_a_person_is_never_undone() {
    let house = House::postgres().await;
    let id = house.approved("1", "old@x.org").await;
    house.run(id).await;
    let ada = house.actor("ada").await;
    // Between the plan of the undoing and its send …
    let db = house.stage.as_request().await;
    let (planned, asked) = compensate(&db, &house.stage.vault, id, ada, false).await.unwrap();
    house.approve(asked).await;
    house.at_target("update contacts set email = 'a person''s' where id = 1").await;
    assert_eq!(house.run(planned.id).await.state, State::Conflict);
    assert_eq!(house.row(id).await.state, State::Verified);
    // … and before its plan.
    let refused = compensate(&db, &house.stage.vault, id, ada, false).await;
    assert!(matches!(refused, Err(PlanError::NotOurs(_))), "{refused:?}");
    assert_eq!(house.target("select email from contacts where id = 1").await, "a person's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_takes_a_conflict_for_what_it_is_once() {
    let house = House::postgres().await;
    let id = house.approved("1", "old@x.org").await;
    house.at_target("update contacts set email = 'a person''s' where id = 1").await;
    house.run(id).await;
    let (db, ada) = (house.stage.as_request().await, house.actor("ada").await);
    assert_eq!(accept(&db, id, ada, "she is right").await.unwrap().state, State::Accepted);
    assert!(matches!(accept(&db, id, ada, "again").await, Err(PlanError::State { .. })));
    let reason = "select convert_from(content, 'UTF8') like '%she is right%' from governance.audit_entry order by seq desc";
    assert_eq!(house.tenant(&format!("select ({reason} limit 1)::text")).await, "false");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_record_that_is_not_there_or_changes_nothing_is_not_planned() {
    let house = House::postgres().await;
    let none = house.plan(&house.wish("77", "x@x.org").await).await;
    assert!(matches!(none, Err(PlanError::NoRecord(_))), "{none:?}");
    let same = house.plan(&house.wish("1", "OLD@x.org").await).await;
    assert!(matches!(same, Err(PlanError::Nothing(_))), "{same:?}");
    let job = job(&house.stage.tenant, governance::writeback::WritebackId(99)).unwrap();
    assert_eq!(house.stage.run(job).await.state, queue::State::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_a_record_is_created_once_and_a_creation_is_not_undone() {
    let house = House::postgres().await;
    house
        .inside("insert into tenant.record (connector, stream, key, digest, data) values ('crm', 'rows', '1', '', '{}')")
        .await;
    let wish = crate::writeback::Wish { creates: true, ..house.wish("77", "new@x.org").await };
    let (id, asked) = house.plan(&wish).await.unwrap();
    house.approve(asked).await;
    let row = house.run(id).await;
    assert_eq!((row.state, row.sends), (State::Verified, 1));
    assert_eq!(house.target("select email from contacts where id = 77").await, "new@x.org");
    let again = house.plan(&wish).await;
    assert!(matches!(again, Err(PlanError::Exists(_))), "{again:?}");
    let ada = house.actor("ada").await;
    let undone = compensate(&house.stage.as_request().await, &house.stage.vault, id, ada, false).await;
    assert!(matches!(undone, Err(PlanError::State { .. })), "{undone:?}");
}
