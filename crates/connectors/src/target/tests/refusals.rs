//! What is refused, put off or wrong, and that nothing said shows a credential.

use serde_json::json;

use super::super::*;
use super::server::{Lie, Server};
use crate::{ErrorClass, LocalBudget};

const RECORD: &str = r#"{"id":"1","email":"old"}"#;
const TOKEN: &str = "planted+token/42";

async fn answered(status: u16, headers: &str) -> (WriteAnswer, Server) {
    let server = Server::start(RECORD, Lie::OnlySays(status)).await;
    server.now(|state| headers.clone_into(&mut state.headers));
    let target = server.target("", "").await;
    let change = target.change("1", [("email", json!("new"))]).await;
    let answer = target.write(&change).await;
    assert_eq!(server.writes().len(), 1, "{status}");
    (answer, server)
}

#[tokio::test]
async fn w1_each_status_says_what_is_known_and_nothing_more() {
    for status in [400, 405, 415, 422, 428] {
        let (answer, _) = answered(status, "").await;
        assert!(matches!(answer, WriteAnswer::Refused { .. }), "{status}: {answer:?}");
    }
    for status in [401, 403, 302, 308] {
        let (answer, _) = answered(status, "location: http://127.0.0.1:1/\r\n").await;
        let WriteAnswer::NotApplied(error) = answer else { panic!("{status}: {answer:?}") };
        assert_eq!(error.class(), ErrorClass::Configuration);
    }
    for status in [303, 500, 502, 503, 504] {
        let (answer, _) = answered(status, "retry-after: 1\r\n").await;
        assert!(matches!(answer, WriteAnswer::Unknown { .. }), "{status}: {answer:?}");
    }
    let (answer, _) = answered(429, "retry-after: 7\r\n").await;
    assert!(matches!(answer, WriteAnswer::Throttled { after } if after.as_secs() == 7), "{answer:?}");
    let (answer, _) = answered(404, "").await;
    assert!(matches!(answer, WriteAnswer::Conflict(Conflict::Gone)), "{answer:?}");
}

#[tokio::test]
async fn w5_a_field_that_is_not_owned_or_not_accounted_for_is_refused_unsent() {
    let server = Server::start(RECORD, Lie::None).await;
    let target = server.target("", "").await;
    let good = target.change("1", [("email", json!("new"))]).await;
    let foreign = Change { desired: super::fields([("id", json!("2"))]), ..good.clone() };
    let empty = Change { desired: Fields::new(), ..good.clone() };
    let expected = Expected::Present { before: Fields::new(), validator: None };
    let unaccounted = Change { expected, ..good };
    for change in [foreign, empty, unaccounted] {
        assert!(matches!(target.write(&change).await, WriteAnswer::Refused { .. }), "{change:?}");
    }
    assert!(server.writes().is_empty());
}

#[tokio::test]
async fn a_key_cannot_leave_its_place_in_the_address() {
    let server = Server::start(RECORD, Lie::None).await;
    let target = server.target("", "").await;
    for key in ["", ".", ".."] {
        assert_eq!(target.read(key).await.unwrap_err().class(), ErrorClass::Configuration, "{key}");
    }
    target.read("../a?b#c/%2e é").await.unwrap();
    let path = server.now(|state| state.requests[0].path.clone());
    assert_eq!(path, "/v1/rows/..%2Fa%3Fb%23c%2F%252e%20%C3%A9");
}

#[tokio::test]
async fn a_record_that_is_too_large_or_unreadable_is_an_error_and_not_an_absence() {
    let large = format!(r#"{{"email":"{}"}}"#, "x".repeat(200_000));
    for record in [large.as_str(), "[]", "not json", r#"{"email":"\ud800"}"#] {
        let server = Server::start(record, Lie::None).await;
        let text =
            server.text("", "").replace("[streams.target]", "record_bytes_max = \"1KiB\"\n[streams.target]");
        let target = super::target(&text).await;
        assert_eq!(target.read("1").await.unwrap_err().class(), ErrorClass::Poison, "{record:.20}");
    }
}

#[tokio::test]
async fn i7_nothing_that_is_said_of_a_target_shows_its_credential() {
    for auth in [
        format!("auth = {{ type = \"bearer\", token = \"{TOKEN}\" }}"),
        format!("auth = {{ type = \"basic\", username = \"u\", password = \"{TOKEN}\" }}"),
        format!("auth = {{ type = \"query\", name = \"key\", value = \"{TOKEN}\" }}"),
    ] {
        for status in [302, 401, 422, 500] {
            let server =
                Server::start(&format!(r#"{{"id":"1","email":"{TOKEN}"}}"#), Lie::OnlySays(status)).await;
            let target = server.target(&auth, "").await;
            let mut change = target.change("1", [("email", json!("new"))]).await;
            // The server repeats what it was sent.
            change.desired.insert("email".into(), json!(format!("{TOKEN} u")));
            let answer = target.write(&change).await;
            let definition = Definition::parse(&server.text(&auth, ""), "f").unwrap();
            let probed = target.probe(Some("1")).await;
            let said = format!("{answer:?} {target:?} {definition:?} {probed:?}");
            for form in [TOKEN, "planted%2Btoken%2F42", "dTpwbGFudGVkK3Rva2VuLzQy"] {
                assert!(!said.contains(form), "{form} in {said}");
            }
        }
    }
}

#[tokio::test]
async fn g5_a_source_never_opens_the_credential_of_the_target() {
    let server = Server::start(RECORD, Lie::None).await;
    let text = server.text("auth = { type = \"bearer\", token_file = \"/nowhere/writer\" }", "");
    let definition = Definition::parse(&text, "f").unwrap();
    let budget = || Arc::new(LocalBudget::default());
    crate::Source::connect(&definition, budget()).await.unwrap();
    let error = Target::connect(&definition, &definition.streams()[0], budget()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Configuration);
    assert!(error.to_string().contains("/nowhere/writer"), "{error}");
}
