//! What a probe finds at honest and lying servers, and that it changes nothing.

use serde_json::json;

use super::super::*;
use super::server::{Lie, Server};

const RECORD: &str = r#"{"id":"1","email":"old","n":1.50}"#;

async fn probed(server: &Server, stream: &str) -> Probed {
    let before = server.record();
    let probed = server.target("", stream).await.probe(Some("1")).await;
    assert_eq!(server.record(), before, "a probe changes nothing: {probed:?}");
    probed
}

#[tokio::test]
async fn w4_a_server_that_checks_the_version_is_found_to_and_one_that_does_not_is_not() {
    for stream in ["", "probe_key = \"1\"", "probe_key = \"1\"\nwrite = \"put\""] {
        let server = Server::start(RECORD, Lie::None).await;
        let found = probed(&server, stream).await;
        assert_eq!((found.capability, &found.obstacle), (Capability::ConditionalWrite, &None), "{found:?}");
        let server = Server::start(RECORD, Lie::IgnoresPrecondition).await;
        let found = probed(&server, stream).await;
        assert_eq!((found.capability, &found.obstacle), (Capability::ReadCheck, &None), "{found:?}");
        assert!(found.evidence[0].contains("accepted"), "{found:?}");
    }
}

#[tokio::test]
async fn w4_without_a_designated_record_no_value_is_sent() {
    let server = Server::start(RECORD, Lie::IgnoresPrecondition).await;
    probed(&server, "").await;
    assert_eq!(server.writes().iter().map(|write| write.body.as_str()).collect::<Vec<_>>(), ["{}"]);
    let server = Server::start(RECORD, Lie::IgnoresPrecondition).await;
    let found = probed(&server, "write = \"put\"").await;
    assert_eq!((found.capability, server.writes().len()), (Capability::ReadCheck, 0));
}

#[tokio::test]
async fn w4_what_is_always_refused_or_cannot_be_read_is_an_obstacle() {
    let server = Server::start(RECORD, Lie::OnlySays(412)).await;
    let found = probed(&server, "probe_key = \"1\"").await;
    assert!(found.obstacle.is_some(), "{found:?}");
    let target = server.target("", "").await;
    server.now(|state| state.record = None);
    for sample in [None, Some("1")] {
        let found = target.probe(sample).await;
        assert_eq!(found.capability, Capability::Blind);
        assert!(found.obstacle.is_some());
    }
}

#[tokio::test]
async fn w4_without_an_etag_nothing_is_sent_and_nothing_claimed() {
    let server = Server::start(RECORD, Lie::None).await;
    server.now(|state| state.has_etag = false);
    let found = probed(&server, "probe_key = \"1\"").await;
    assert_eq!((found.capability, server.writes().len()), (Capability::ReadCheck, 0));
}

#[tokio::test]
async fn w1_an_idempotency_key_counts_only_if_a_second_write_under_it_is_not_stored() {
    let stream = "idempotency_header = \"Idempotency-Key\"\n\
                  idempotency_probe = { key = \"1\", field = \"email\", values = [\"a\", \"b\"] }";
    for (keys, capability) in [(Some(Vec::new()), Capability::IdempotencyKey), (None, Capability::ReadCheck)]
    {
        let server = Server::start(RECORD, Lie::None).await;
        server.now(|state| (state.has_etag, state.keys) = (false, keys));
        let found = server.target("", stream).await.probe(Some("1")).await;
        assert_eq!(found.capability, capability, "{found:?}");
        // The scratch record is the only one that is given a value, and only one of the two.
        assert_eq!(server.record()["email"], json!("b"));
    }
    // A server that stores nothing at all does not honour the key.
    let server = Server::start(RECORD, Lie::OnlySays(200)).await;
    server.now(|state| state.has_etag = false);
    assert_eq!(probed(&server, stream).await.capability, Capability::ReadCheck);
}
