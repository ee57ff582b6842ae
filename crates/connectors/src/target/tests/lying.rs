//! Servers that lie, stall or break off: what is known afterwards, and what was sent.

use serde_json::json;

use super::super::*;
use super::server::{Lie, Server, header};

const RECORD: &str = r#"{"id":"1","email":"old","n":1.50}"#;

#[tokio::test]
async fn w1_an_unclear_end_is_unknown_sent_once_and_resolved_by_reading() {
    for lie in
        [Lie::StoresAndSays(500), Lie::StoresAndSays(503), Lie::StoresAndSays(408), Lie::Hangs, Lie::Cuts]
    {
        let server = Server::start(RECORD, lie).await;
        let target = server.target("request_timeout = \"2s\"", "").await;
        let change = target.change("1", [("email", json!("new"))]).await;
        let answer = target.write(&change).await;
        assert!(matches!(answer, WriteAnswer::Unknown { .. }), "{lie:?}: {answer:?}");
        assert_eq!(target.standing(&change).await, Standing::Desired, "{lie:?}");
        let again = target.write(&change).await;
        assert!(matches!(again, WriteAnswer::Already), "{lie:?}: {again:?}");
        assert_eq!(server.writes().len(), 1, "{lie:?}");
    }
}

#[tokio::test]
async fn w1_an_answer_without_end_is_cut_and_its_head_counts() {
    let server = Server::start(RECORD, Lie::Floods).await;
    let target = server.target("", "").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    assert_eq!(server.writes().len(), 1);
}

#[tokio::test]
async fn w1_the_idempotency_key_goes_with_the_write() {
    let server = Server::start(RECORD, Lie::None).await;
    let target = server.target("", "idempotency_header = \"X-Once\"").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    assert_eq!(header(&server.writes()[0].head, "x-once").as_deref(), Some("a key"));
}

#[tokio::test]
async fn w1_nothing_is_sent_to_a_server_that_is_not_there() {
    let server = Server::start(RECORD, Lie::None).await;
    let target = server.target("", "").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    let url = server.url.clone();
    drop(server);
    let answer = target.write(&change).await;
    let WriteAnswer::NotApplied(error) = answer else { panic!("{url}: {answer:?}") };
    assert_eq!(error.class(), crate::ErrorClass::Transient);
}

#[tokio::test]
async fn w3_every_read_is_a_connection_of_its_own() {
    let server = Server::start(RECORD, Lie::None).await;
    let target = server.target("", "").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    assert_eq!(target.standing(&change).await, Standing::Desired);
    let (requests, connections) = server.now(|state| (state.requests.len(), state.connections));
    assert_eq!((requests, connections), (4, 4));
}

#[tokio::test]
async fn w3_w8_a_yes_that_shows_the_new_record_and_stores_nothing_is_found_out() {
    let server = Server::start(RECORD, Lie::OnlySays(200)).await;
    let target = server.target("", "").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    assert_eq!(target.standing(&change).await, Standing::Before);
}

#[tokio::test]
async fn w8_reads_that_lag_show_the_old_value_until_they_do_not() {
    let server = Server::start(RECORD, Lie::ShowsOld(10)).await;
    let target = server.target("", "convergence = { reads = 12, pause = \"1s\" }").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    assert!(matches!(target.write(&change).await, WriteAnswer::Accepted));
    let window = target.convergence();
    let mut seen = Vec::new();
    while window.pause_before(u32::try_from(seen.len()).unwrap()).is_some() {
        seen.push(target.standing(&change).await);
    }
    assert_eq!(seen[..10], vec![Standing::Before; 10]);
    assert_eq!(seen[10..], [Standing::Desired, Standing::Desired]);
}

#[tokio::test]
async fn w8_a_third_value_and_a_record_that_is_gone_are_told_apart() {
    let server = Server::start(RECORD, Lie::None).await;
    let target = server.target("", "normalise = { email = [\"trim\", \"case\"] }").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    server.edit("email", json!(" NEW "));
    assert_eq!(target.standing(&change).await, Standing::Desired);
    server.edit("email", json!("another"));
    assert_eq!(target.standing(&change).await, Standing::Other(vec!["email".into()]));
    server.now(|state| state.record = None);
    assert_eq!(target.standing(&change).await, Standing::Gone);
}

#[tokio::test]
async fn w4_an_edit_before_the_write_is_a_conflict_and_nothing_is_sent() {
    let server = Server::start(RECORD, Lie::None).await;
    let target = server.target("", "").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    server.edit("n", json!(2));
    assert!(matches!(target.write(&change).await, WriteAnswer::Conflict(Conflict::Version)));
    server.edit("email", json!("a person's"));
    let answer = target.write(&change).await;
    assert!(
        matches!(&answer, WriteAnswer::Conflict(Conflict::Fields(names)) if names == &["email"]),
        "{answer:?}"
    );
    server.now(|state| state.record = None);
    assert!(matches!(target.write(&change).await, WriteAnswer::Conflict(Conflict::Gone)));
    assert!(server.writes().is_empty());
}

#[tokio::test]
async fn w4_an_edit_between_the_look_and_the_write_is_never_overwritten() {
    let server = Server::start(RECORD, Lie::IsEdited).await;
    let target = server.target("", "").await;
    let mut change = target.change("1", [("email", json!("new"))]).await;
    // Also for a change that is bound to values alone: the version of the look is sent with it.
    let Expected::Present { validator, .. } = &mut change.expected else { panic!() };
    *validator = None;
    let answer = target.write(&change).await;
    assert!(matches!(answer, WriteAnswer::Conflict(Conflict::Precondition { .. })), "{answer:?}");
    assert_eq!(server.record()["email"], "a person's");
}

#[tokio::test]
async fn w4_a_precondition_that_always_fails_is_a_conflict_after_one_write() {
    for status in [409, 412] {
        let server = Server::start(RECORD, Lie::OnlySays(status)).await;
        let target = server.target("", "").await;
        let change = target.change("1", [("email", json!("new"))]).await;
        let answer = target.write(&change).await;
        assert!(matches!(answer, WriteAnswer::Conflict(Conflict::Precondition { .. })), "{answer:?}");
        assert_eq!(server.writes().len(), 1);
    }
}

#[tokio::test]
async fn w4_a_record_is_created_only_where_there_is_none() {
    let server = Server::start(RECORD, Lie::None).await;
    let target = server.target("", "").await;
    let create = Change {
        key: "1".into(),
        expected: Expected::Absent,
        desired: super::fields([("email", json!("new"))]),
        idempotency_key: "a key".into(),
    };
    assert!(matches!(target.write(&create).await, WriteAnswer::Conflict(Conflict::Exists)));
    assert!(server.writes().is_empty());
    server.now(|state| state.record = None);
    assert_eq!(target.standing(&create).await, Standing::Before);
    assert!(matches!(target.write(&create).await, WriteAnswer::Accepted));
    assert_eq!(header(&server.writes()[0].head, "if-none-match").as_deref(), Some("*"));
    assert_eq!(target.standing(&create).await, Standing::Desired);
}
