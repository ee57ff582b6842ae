//! Servers that lie.

use governance::writeback::State;

use super::{
    house::House,
    server::{Lie, Server},
};

/// Plans honestly, then lies.
async fn lied_to(lie: Lie) -> (House, governance::writeback::Writeback) {
    let house = House::http(Server::start(Lie::None).await).await;
    let id = house.approved("1", "old@x.org").await;
    house.server().lies(lie);
    let row = house.run(id).await;
    (house, row)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w6_an_error_after_storing_is_resolved_by_reading_and_sent_once() {
    let (house, row) = lied_to(Lie::StoresAndSays(500)).await;
    assert_eq!((row.state, row.sends), (State::Verified, 1));
    assert_eq!((house.server().stored(), house.server().writes().len()), (1, 1));
    let unknown = "select count(*)::text from tenant.writeback_step where to_state = 'unknown'";
    assert_eq!(house.tenant(unknown).await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w6_an_error_without_storing_is_sent_again_under_the_same_key_and_comes_to_an_end() {
    let (house, row) = lied_to(Lie::OnlySays(500)).await;
    assert_eq!((row.state, row.reason.as_deref()), (State::Mismatch, Some("not_stored")));
    let keys = house.server().writes();
    assert_eq!(keys.len(), 6);
    assert!(keys.iter().all(|key| *key == row.idempotency_key.unwrap().to_string()), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w6_what_has_no_clear_answer_is_sent_again_only_with_leave() {
    for (then, ends, writes) in [
        ("select", (State::Verified, Some("read_back")), 1),
        // It has counted already.
        ("update tenant.path set daily_cap = 0", (State::Verified, Some("read_back")), 1),
        (
            "update tenant.candidate set phase = 'off', generation = 2, snapshot = null",
            (State::Conflict, Some("phase_off")),
            0,
        ),
        ("update tenant.path set state = 'probed'", (State::Conflict, Some("not_certified")), 0),
    ] {
        let house = House::http(Server::start(Lie::None).await).await;
        let id = house.approved("1", "old@x.org").await;
        house.was_sent(id, "unknown").await;
        house.inside(then).await;
        let row = house.run(id).await;
        assert_eq!(
            ((row.state, row.reason.as_deref()), house.server().writes().len()),
            (ends, writes),
            "{then}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w3_w8_a_yes_without_storing_ends_as_mismatch() {
    let (house, row) = lied_to(Lie::OnlySays(200)).await;
    assert_eq!((row.state, row.reason.as_deref(), row.sends), (State::Mismatch, Some("not_stored"), 1));
    assert_eq!(house.end(row.id).await.split(' ').take(3).collect::<Vec<_>>(), ["mismatch", "mismatch", "1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w4_a_precondition_that_always_fails_is_a_conflict_after_one_write() {
    let (house, row) = lied_to(Lie::OnlySays(412)).await;
    assert_eq!((row.state, row.sends), (State::Conflict, 1));
    assert_eq!(house.server().writes().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w8_reads_that_lag_are_waited_for() {
    let (house, row) = lied_to(Lie::ShowsOld(10)).await;
    assert_eq!((row.state, row.sends), (State::Verified, 1));
    assert_eq!(row.reads, 11);
    assert_eq!(house.server().stored(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_a_refusal_of_the_values_changes_nothing() {
    let (house, row) = lied_to(Lie::OnlySays(422)).await;
    assert_eq!((row.state, row.reason.as_deref()), (State::NotApplied, Some("refused")));
    assert_eq!(house.server().writes().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w8_mismatches_in_a_row_demote_the_candidate() {
    let house = House::http(Server::start(Lie::None).await).await;
    house.open_gate().await;
    let mut planned = Vec::new();
    for key in ["1", "2", "3", "4"] {
        planned.push(house.plan(&house.wish(key, "new@x.org").await).await.unwrap().0);
    }
    house.server().lies(Lie::OnlySays(200));
    let phase = "select phase || ' ' || generation from tenant.candidate";
    for id in &planned[..3] {
        assert_eq!(house.tenant(phase).await, "assist 1");
        assert_eq!(house.run(*id).await.state, State::Mismatch);
    }
    assert_eq!(house.tenant(phase).await, "off 2");
    let last = house.run(planned[3]).await;
    assert_eq!((last.state, last.reason.as_deref()), (State::NotApplied, Some("phase_off")));
    let demoted = "select count(*)::text from governance.audit_entry \
                   where convert_from(content, 'UTF8')::json ->> 'kind' = 'candidate.demoted'";
    assert_eq!(house.tenant(demoted).await, "1");
}
