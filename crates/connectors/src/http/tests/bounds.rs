//! Every run ends (I8).

use axum::body::{Body, Bytes};
use futures_util::stream;

use super::server::{Server, answer, json};
use crate::testing::Sink;
use crate::{ErrorClass, ReadOptions, SourceError, State};

const TOKENS: &str =
    "records = \"data\"\npagination = { type = \"cursor\", token = \"next\", param = \"after\" }";

async fn fails(server: &Server, http: &str, stream: &str) -> SourceError {
    server.run(http, stream).await.1.unwrap_err()
}

#[tokio::test]
async fn i8_a_page_token_that_comes_again_is_named() {
    let server = Server::start(|seen, _| {
        let n = seen.number("after");
        json(format!(r#"{{"data":[{{"id":{n}}}],"next":"{}"}}"#, if n == 4 { 2 } else { n + 1 }))
    })
    .await;
    let error = fails(&server, "", TOKENS).await;
    assert_eq!(error.class(), ErrorClass::Poison);
    assert!(error.to_string().contains("\"2\""), "{error}");
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn i8_a_circle_of_tokens_ends_even_if_every_reader_sees_one_page() {
    let server = Server::start(|seen, _| {
        let n = (seen.number("after") + 1) % 3;
        json(format!(r#"{{"data":[{{"id":1}}],"next":"{n}"}}"#))
    })
    .await;
    let (source, definition) = server.source("", TOKENS).await;
    let mut state = State::default();
    let mut found = None;
    for _ in 0..100 {
        let reader = source.read(&definition.streams()[0], &state, ReadOptions::default()).await;
        match reader.unwrap().next().await {
            Ok(batch) => state = batch.unwrap().state,
            Err(error) => {
                found = Some(error);
                break;
            }
        }
    }
    assert_eq!(found.expect("the circle is noticed").class(), ErrorClass::Poison);
}

#[tokio::test]
async fn i8_a_next_link_to_itself_is_noticed() {
    let server =
        Server::start(|_, _| answer(200, &[("link", "</v1/rows?page=2>; rel=next")], r#"[{"id":1}]"#)).await;
    let error = fails(&server, "", "pagination = { type = \"link\" }").await;
    assert!(error.to_string().contains("page=2"), "{error}");
}

#[tokio::test]
async fn i8_pages_that_are_the_same_are_legal_under_tokens_and_not_under_numbers() {
    let server = Server::start(|seen, _| {
        let n = seen.number("after") + 1;
        let next = if n < 5 { format!("\"{n}\"") } else { "null".into() };
        json(format!(r#"{{"data":[{{"id":1}}],"next":{next}}}"#))
    })
    .await;
    server.run("", TOKENS).await.1.unwrap();

    let server = Server::start(|_, _| json(r#"[{"id":1},{"id":2}]"#)).await;
    for pagination in ["{ type = \"page\", param = \"p\" }", "{ type = \"offset\", param = \"p\" }"] {
        let error = fails(&server, "", &format!("pagination = {pagination}")).await;
        assert_eq!(error.class(), ErrorClass::Poison);
        assert!(error.to_string().contains("ignore the parameter \"p\""), "{error}");
    }
}

#[tokio::test]
async fn i8_pages_bytes_and_time_are_bounded_and_the_state_is_kept() {
    let server = Server::start(|seen, _| {
        let n = seen.number("after") + 1;
        json(format!(r#"{{"data":[{{"id":{n}}}],"next":"{n}"}}"#))
    })
    .await;
    for (bound, named) in [
        ("pages_max = 3", "pages_max"),
        ("run_bytes_max = \"100B\"", "run_bytes_max"),
        ("run_deadline = \"100ms\"", "run_deadline"),
    ] {
        let (sink, ended) = server.run(bound, TOKENS).await;
        let error = ended.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Incomplete, "{error}");
        assert!(error.to_string().contains(named), "{error}");
        assert!(sink.state.is_mid_run() && !sink.records.is_empty());
    }
}

#[tokio::test]
async fn i8_an_incomplete_run_goes_on_where_it_stopped() {
    let server = Server::start(|seen, _| {
        let n = seen.number("after") + 1;
        let next = if n < 10 { format!("\"{n}\"") } else { "null".into() };
        json(format!(r#"{{"data":[{{"id":{n}}}],"next":{next}}}"#))
    })
    .await;
    let (source, definition) = server.source("pages_max = 4", TOKENS).await;
    let mut sink = Sink::default();
    let mut runs = 1;
    while let Err(error) = sink.run(&source, &definition.streams()[0], 10).await {
        assert_eq!(error.class(), ErrorClass::Incomplete);
        runs += 1;
    }
    assert_eq!((sink.records.len(), runs, server.requests().len()), (10, 3, 10));
}

#[tokio::test]
async fn i8_a_silent_source_is_left() {
    // Headers come, then nothing.
    let server = Server::start(|_, _| {
        answer(200, &[], Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()))
    })
    .await;
    let error = fails(&server, "idle_timeout = \"50ms\"", "pagination = { type = \"none\" }").await;
    assert_eq!(error.class(), ErrorClass::Transient);
    assert!(error.to_string().contains("idle_timeout"), "{error}");
}

#[tokio::test]
async fn i8_a_source_that_never_answers_is_left() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let text = format!(
        "name = \"people\"\nkind = \"http\"\n[http]\nbase_url = \"{url}\"\nrequest_timeout = \"50ms\"\n\
         [[streams]]\nname = \"rows\"\npath = \"rows\"\nkey = [\"id\"]\npagination = {{ type = \"none\" }}"
    );
    let definition = crate::Definition::parse(&text, "people.toml").unwrap();
    let mut source = crate::testing::source(&definition).await;
    source.without_pauses();
    let error = Sink::default().run(&source, &definition.streams()[0], 10).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient);
    assert!(error.to_string().contains("request_timeout"), "{error}");
}

#[tokio::test]
async fn i8_an_endless_line_is_cut_at_the_bound_of_a_page() {
    // A record without end, a megabyte at a time: nothing of it may be kept beyond the bound.
    let server = Server::start(|_, _| {
        let chunk = Bytes::from(vec![b'x'; 1 << 20]);
        let chunks = stream::iter((0..300).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
        answer(200, &[("content-type", "application/json")], Body::from_stream(chunks))
    })
    .await;
    let error = fails(&server, "page_bytes_max = \"4MiB\"", "pagination = { type = \"none\" }").await;
    assert_eq!(error.class(), ErrorClass::Configuration);
    assert!(error.to_string().contains("page_bytes_max"), "{error}");
    assert_eq!(server.requests().len(), 1);
}
