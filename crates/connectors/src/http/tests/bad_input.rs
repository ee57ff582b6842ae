//! Answers that no careful server would send: each is either set aside alone or ends with a clear error.

use super::server::{Server, answer, json};
use crate::{ErrorClass, RejectReason, SourceError};

const ONE_PAGE: &str = "pagination = { type = \"none\" }";

/// Runs over one page with this body.
async fn page(body: impl Into<Vec<u8>>) -> (crate::testing::Sink, Result<(), SourceError>) {
    page_of(body, ONE_PAGE).await
}

async fn page_of(body: impl Into<Vec<u8>>, stream: &str) -> (crate::testing::Sink, Result<(), SourceError>) {
    let body = body.into();
    let server =
        Server::start(move |_, _| answer(200, &[("content-type", "application/json")], body.clone())).await;
    server.run("", stream).await
}

/// The bad record lies between two good ones: they must come through.
async fn reason_of(record: &str) -> RejectReason {
    let (sink, ended) = page(format!(r#"[{{"id":1}},{record},{{"id":3}}]"#)).await;
    ended.unwrap();
    assert_eq!(sink.records.keys().collect::<Vec<_>>(), ["1", "3"], "{record}");
    assert_eq!(sink.rejected.len(), 1, "{record}");
    sink.rejected[0].reason
}

#[tokio::test]
async fn a_record_that_postgres_cannot_hold_is_set_aside_alone() {
    assert_eq!(reason_of(r#"{"id":2,"a":"\u0000"}"#).await, RejectReason::BadText);
    assert_eq!(reason_of(r#"{"id":2,"a":"\ud800"}"#).await, RejectReason::BadText);
    assert_eq!(reason_of(r#"{"id":2,"a":1e400000}"#).await, RejectReason::NumberOutOfRange);
    assert_eq!(reason_of(r#"{"id":2,"a":1,"a":2}"#).await, RejectReason::DuplicateField);
    assert_eq!(reason_of(r#"{"id":null}"#).await, RejectReason::MissingKey);
    assert_eq!(reason_of(r#"{"name":"x"}"#).await, RejectReason::MissingKey);
    assert_eq!(reason_of("7").await, RejectReason::NotAnObject);
}

#[tokio::test]
async fn a_record_of_five_megabytes_is_set_aside_alone() {
    let record = format!(r#"{{"id":2,"a":"{}"}}"#, "x".repeat(5 << 20));
    assert_eq!(reason_of(&record).await, RejectReason::TooLarge);
}

#[tokio::test]
async fn a_record_without_a_usable_cursor_is_set_aside_alone() {
    let stream = "pagination = { type = \"none\" }\ncursor = { field = \"at\", type = \"timestamp\" }";
    let body = r#"[{"id":1,"at":"2020-01-01T00:00:00Z"},{"id":2},{"id":3,"at":null},{"id":4,"at":"soon"}]"#;
    let (sink, ended) = page_of(body, stream).await;
    ended.unwrap();
    let reasons: Vec<_> = sink.rejected.iter().map(|rejected| rejected.reason).collect();
    assert_eq!(reasons, [RejectReason::MissingCursor, RejectReason::MissingCursor, RejectReason::BadCursor]);
    assert_eq!(sink.rejected[2].key.as_deref(), Some("4"));
    assert_eq!(sink.records.len(), 1);
}

#[tokio::test]
async fn bytes_that_are_not_utf8_cost_only_their_record() {
    let (sink, ended) = page(b"[{\"id\":1},{\"id\":2,\"a\":\"\xff\xfe\"},{\"id\":3}]".to_vec()).await;
    ended.unwrap();
    assert_eq!(sink.records.len(), 2);
    assert_eq!(sink.rejected[0].reason, RejectReason::InvalidUtf8);
}

#[tokio::test]
async fn numbers_keep_every_digit() {
    let (sink, ended) = page(r#"[{"id":1,"a":27500.000000,"b":12345678901234567890.123456789}]"#).await;
    ended.unwrap();
    assert_eq!(sink.records["1"], r#"{"id":1,"a":27500.000000,"b":12345678901234567890.123456789}"#);
}

#[tokio::test]
async fn a_page_with_nan_fails_with_its_place_and_is_not_asked_for_again() {
    let server = Server::start(|_, _| json(r#"[{"id":1,"a":NaN}]"#)).await;
    let error = server.run("", ONE_PAGE).await.1.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Poison, "{error}");
    assert!(error.to_string().contains("column 14"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn json_that_is_cut_off_is_tried_three_times() {
    let server = Server::start(|_, _| json(r#"[{"id":1},{"id"#)).await;
    let error = server.run("", ONE_PAGE).await.1.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_transient() {
    let bytes =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n[{\"id\":1}]";
    let server = Server::raw(bytes.to_vec()).await;
    let error = server.run("", ONE_PAGE).await.1.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
}

#[tokio::test]
async fn gzip_that_is_cut_off_is_transient() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n";
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x8b\xae";
    let server = Server::raw([head.as_slice(), gzip.as_slice()].concat()).await;
    let error = server.run("", ONE_PAGE).await.1.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
}

#[tokio::test]
async fn what_is_not_http_is_transient() {
    let server = Server::raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()).await;
    let error = server.run("", ONE_PAGE).await.1.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
}

#[tokio::test]
async fn a_page_of_html_is_quoted_with_its_status() {
    let server =
        Server::start(|_, _| answer(200, &[("content-type", "text/html")], "<html>Please log in")).await;
    let error = server.run("", ONE_PAGE).await.1.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Configuration);
    let said = error.to_string();
    assert!(
        said.contains("200 OK") && said.contains("Please log in") && said.contains("people, stream rows"),
        "{said}"
    );
}

#[tokio::test]
async fn another_charset_is_named() {
    let server =
        Server::start(|_, _| answer(200, &[("content-type", "application/json; charset=ISO-8859-1")], "[]"))
            .await;
    let error = server.run("", ONE_PAGE).await.1.unwrap_err();
    assert!(error.to_string().contains("iso-8859-1"), "{error}");
}

#[tokio::test]
async fn an_error_that_is_answered_with_200_is_quoted() {
    let stream = "records = \"data\"\npagination = { type = \"none\" }";
    let error = page_of(r#"{"error":"no such account"}"#, stream).await.1.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Configuration);
    assert!(error.to_string().contains("no such account"), "{error}");
}

#[tokio::test]
async fn a_broken_line_of_ndjson_costs_only_itself() {
    let stream = "format = \"ndjson\"\npagination = { type = \"none\" }";
    let body = b"{\"id\":1}\n{\"id\":oops}\n\n{\"id\":\xff}\n{\"id\":4}\n".to_vec();
    let (sink, ended) = page_of(body, stream).await;
    ended.unwrap();
    assert_eq!(sink.records.keys().collect::<Vec<_>>(), ["1", "4"]);
    let reasons: Vec<_> = sink.rejected.iter().map(|rejected| rejected.reason).collect();
    assert_eq!(reasons, [RejectReason::InvalidJson, RejectReason::InvalidUtf8]);
}

#[tokio::test]
async fn ndjson_that_is_cut_off_is_transient() {
    let stream = "format = \"ndjson\"\npagination = { type = \"none\" }";
    let error = page_of("{\"id\":1}\n{\"id\":", stream).await.1.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
}

#[tokio::test]
async fn fields_that_were_not_agreed_are_not_kept_not_even_of_a_rejected_record() {
    let stream = "fields = [\"name\", \"at.city\"]\npagination = { type = \"none\" }";
    let body = r#"[{"id":1,"name":"A","ssn":"078-05-1120","at":{"city":"X","street":"S1"}},
                   {"id":2,"name":"\u0000","ssn":"078-05-1121"},{"ssn":"078-05-1122"},["078-05-1123"]]"#;
    let (sink, ended) = page_of(body, stream).await;
    ended.unwrap();
    assert_eq!(sink.records["1"], r#"{"id":1,"name":"A","at":{"city":"X"}}"#);
    assert_eq!(sink.rejected.len(), 3);
    assert!(!format!("{sink:?}").contains("078-05"), "{sink:?}");
}

#[tokio::test]
async fn a_row_set_aside_is_set_aside_once() {
    let server = Server::start(|_, _| json(r#"[{"id":1},{"id":2,"a":"\u0000"},{"name":"no key"}]"#)).await;
    let (source, definition) = server.source("", ONE_PAGE).await;
    let mut sink = crate::testing::Sink::default();
    sink.run(&source, &definition.streams()[0], 10).await.unwrap();
    assert_eq!((sink.read, sink.repeated), (3, 0));
    sink.run(&source, &definition.streams()[0], 10).await.unwrap();
    assert_eq!((sink.read, sink.repeated), (0, 3));
}
