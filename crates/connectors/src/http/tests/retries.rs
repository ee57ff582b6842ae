//! Tries, pauses, budgets, refusals.

use std::time::Duration;

use super::server::{Server, answer, json};
use crate::{ErrorClass, SourceError};

const ONE_PAGE: &str = "pagination = { type = \"none\" }";

async fn refused(status: u16, headers: &'static [(&str, &str)]) -> (usize, SourceError) {
    let server = Server::start(move |_, _| answer(status, headers, "no")).await;
    let error =
        server.run("auth = { type = \"bearer\", token = \"planted-token\" }", ONE_PAGE).await.1.unwrap_err();
    (server.requests().len(), error)
}

#[tokio::test]
async fn an_outage_of_two_tries_is_not_noticed() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let server = Server::start(move |_, count| {
            if count < 2 { answer(status, &[("retry-after", "0")], "later") } else { json(r#"[{"id":1}]"#) }
        })
        .await;
        let (sink, ended) = server.run("", ONE_PAGE).await;
        ended.unwrap_or_else(|error| panic!("{status}: {error}"));
        assert_eq!((sink.records.len(), server.requests().len()), (1, 3), "{status}");
    }
}

#[tokio::test]
async fn a_lasting_outage_is_transient_after_three_tries() {
    let (requests, error) = refused(500, &[]).await;
    assert_eq!((requests, error.class()), (3, ErrorClass::Transient), "{error}");
    assert!(error.to_string().contains("500 Internal Server Error"), "{error}");
}

#[tokio::test]
async fn a_source_that_is_not_there_is_transient() {
    let server = Server::start(|_, _| json("[]")).await;
    let (source, definition) = server.source("", ONE_PAGE).await;
    drop(server);
    let mut reader = source
        .read(&definition.streams()[0], &crate::State::default(), crate::ReadOptions::default())
        .await
        .unwrap();
    let error = loop {
        // The listener closes when its task is gone, a moment after the abort.
        match reader.next().await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
}

#[tokio::test]
async fn a_long_pause_gives_the_slot_back_after_one_try() {
    let (requests, error) = refused(429, &[("retry-after", "60")]).await;
    assert_eq!((requests, error.class()), (1, ErrorClass::Throttled), "{error}");
    assert_eq!(error.retry_after(), Some(Duration::from_mins(1)));
    let (requests, error) = refused(503, &[("retry-after", "60")]).await;
    assert_eq!((requests, error.retry_after()), (1, Some(Duration::from_mins(1))), "{error}");
}

#[tokio::test]
async fn throttling_without_a_usable_pause_ends_as_throttled_after_three_tries() {
    for headers in [&[][..], &[("retry-after", "-5")], &[("retry-after", "soon")], &[("retry-after", "0")]] {
        let (requests, error) = refused(429, headers).await;
        assert_eq!((requests, error.class()), (3, ErrorClass::Throttled), "{headers:?} {error}");
        assert!(error.retry_after() > Some(Duration::ZERO));
    }
}

#[tokio::test]
async fn an_absurd_pause_is_capped_and_said_so() {
    let (_, error) = refused(429, &[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")]).await;
    assert_eq!(error.retry_after(), Some(Duration::from_hours(1)));
    assert!(error.to_string().contains("retry_after_max"), "{error}");
}

#[tokio::test]
async fn a_pause_is_told_to_everyone_who_shares_the_bucket() {
    let server = Server::start(|_, _| answer(429, &[("retry-after", "60")], "no")).await;
    let (source, definition) = server.source("rate_limit = { requests = 100, per = \"1s\" }", ONE_PAGE).await;
    let stream = &definition.streams()[0];
    for _ in 0..2 {
        let mut reader =
            source.read(stream, &crate::State::default(), crate::ReadOptions::default()).await.unwrap();
        assert_eq!(reader.next().await.unwrap_err().class(), ErrorClass::Throttled);
    }
    assert_eq!(server.requests().len(), 1, "the second reader must not ask");
}

#[tokio::test]
async fn a_refused_credential_names_its_key_in_the_file() {
    for status in [401, 403] {
        let (requests, error) = refused(status, &[]).await;
        assert_eq!((requests, error.class()), (1, ErrorClass::Configuration), "{error}");
        assert!(error.to_string().contains("http.auth.token"), "{error}");
    }
    // Forbidden, but only for a while.
    let (_, error) = refused(403, &[("retry-after", "60")]).await;
    assert_eq!(error.class(), ErrorClass::Throttled);
}

#[tokio::test]
async fn a_path_that_is_not_there_is_a_fault_of_the_definition() {
    let (requests, error) = refused(404, &[]).await;
    assert_eq!((requests, error.class()), (1, ErrorClass::Configuration), "{error}");
}

#[tokio::test]
async fn a_redirect_stays_on_its_origin() {
    let server = Server::start(|seen, _| {
        if seen.path == "/v1/rows" {
            answer(307, &[("location", "/v2/rows")], "")
        } else {
            json(r#"[{"id":1}]"#)
        }
    })
    .await;
    assert_eq!(server.run("", ONE_PAGE).await.0.records.len(), 1);

    let thief = Server::start(|_, _| json(r#"[{"id":"stolen"}]"#)).await;
    let to = format!("{}rows", thief.url);
    let server = Server::start(move |_, _| answer(307, &[("location", &to)], "")).await;
    let auth = "auth = { type = \"header\", name = \"X-Key\", value = \"planted-token\" }";
    let error = server.run(auth, ONE_PAGE).await.1.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Configuration, "{error}");
    assert!(thief.requests().is_empty(), "the credential went to another host");
}

#[tokio::test]
async fn a_page_token_that_has_expired_restarts_the_slice_once() {
    let server = Server::start(|seen, count| match (seen.param("after"), count) {
        (None, _) => json(r#"{"data":[{"id":1}],"next":"t2"}"#),
        // The reader that resumes finds its token gone; the one that began again does not.
        (Some(_), 1 | 2) => answer(410, &[], "expired"),
        _ => json(r#"{"data":[{"id":2}]}"#),
    })
    .await;
    let stream =
        "records = \"data\"\npagination = { type = \"cursor\", token = \"next\", param = \"after\" }";
    let (source, definition) = server.source("", stream).await;
    let stream = &definition.streams()[0];
    let mut sink = crate::testing::Sink::default();
    let mut reader = source.read(stream, &sink.state, sink.options(10)).await.unwrap();
    sink.commit(reader.next().await.unwrap().unwrap());
    // In one reader a token that is refused is an error: it was given a moment ago.
    assert_eq!(reader.next().await.unwrap_err().class(), ErrorClass::Configuration);
    let mut reader = source.read(stream, &sink.state, sink.options(10)).await.unwrap();
    sink.drain(&mut reader).await.unwrap();
    assert_eq!(sink.records.len(), 2);
    assert!(sink.warnings.iter().any(|warning| warning.contains("begins again")), "{:?}", sink.warnings);
}
