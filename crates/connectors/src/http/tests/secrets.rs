//! I7: a planted credential is found in nothing that is said.

use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use super::server::{Server, answer, json};
use crate::testing::Sink;

const TOKEN: &str = "planted+token/42";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn auths() -> [String; 4] {
    [
        format!("{{ type = \"bearer\", token = \"{TOKEN}\" }}"),
        format!("{{ type = \"basic\", username = \"u\", password = \"{TOKEN}\" }}"),
        format!("{{ type = \"header\", name = \"X-Key\", value = \"{TOKEN}\" }}"),
        format!("{{ type = \"query\", name = \"key\", value = \"{TOKEN}\" }}"),
    ]
}

/// The token in every form in which it was sent.
fn assert_clean(said: &str) {
    for form in [TOKEN, "planted%2Btoken%2F42", "dTpwbGFudGVkK3Rva2VuLzQy"] {
        assert!(!said.contains(form), "{form} in: {said}");
    }
}

#[tokio::test]
async fn i7_no_error_debug_or_log_line_shows_the_credential() {
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_writer(log.clone()).with_max_level(tracing::Level::TRACE).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    // A server that repeats what it was sent, in each way in which an answer is quoted.
    let server = Server::start(|seen, count| {
        let echo = format!("{:?} {:?} {TOKEN}", seen.headers, seen.query);
        match count % 6 {
            0 => answer(401, &[], echo),
            1 => answer(200, &[("content-type", "text/html")], echo),
            2 => json(format!("{{ NaN {echo}")),
            3 => answer(302, &[("location", &format!("https://x.example/?k={TOKEN}"))], ""),
            4 => answer(429, &[("retry-after", "99")], echo),
            _ => answer(200, &[("link", &format!("<https://{TOKEN}.example/>; rel=next"))], "[]"),
        }
    })
    .await;
    for auth in auths() {
        let (source, definition) =
            server.source(&format!("auth = {auth}"), "pagination = { type = \"link\" }").await;
        assert_clean(&format!("{source:?} {definition:?}"));
        for _ in 0..6 {
            let mut reader = source
                .read(&definition.streams()[0], &crate::State::default(), crate::ReadOptions::default())
                .await
                .unwrap();
            assert_clean(&format!("{reader:?}"));
            let error = reader.next().await.unwrap_err();
            assert_clean(&format!("{error} {error:?}"));
        }
        let report = source.check(definition.streams()).await;
        assert_clean(&format!("{report} {report:?}"));
    }
    drop(guard);
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(said.len() > 100, "nothing was logged, so nothing was tested");
    assert_clean(&said);
}

#[tokio::test]
async fn i7_a_source_that_cannot_be_reached_does_not_show_the_query() {
    let server = Server::raw(Vec::new()).await;
    for auth in auths() {
        let (_, ended) = server.run(&format!("auth = {auth}"), "pagination = { type = \"none\" }").await;
        let error = ended.unwrap_err();
        assert_clean(&format!("{error} {error:?}"));
    }
}

#[tokio::test]
async fn i7_a_link_is_kept_in_the_state_without_the_credential() {
    let server = Server::start(|seen, _| {
        assert_eq!(seen.param("key"), Some(TOKEN), "the credential is sent with every page");
        let n = seen.number("page");
        if n >= 3 {
            return json("[]");
        }
        let link = format!("</v1/rows?page={}&key=planted%2Btoken%2F42>; rel=next", n + 1);
        answer(200, &[("link", &link)], format!(r#"[{{"id":{n}}}]"#))
    })
    .await;
    let auth = format!("auth = {{ type = \"query\", name = \"key\", value = \"{TOKEN}\" }}");
    let (source, definition) = server.source(&auth, "pagination = { type = \"link\" }").await;
    let mut sink = Sink::default();
    let mut reader = source.read(&definition.streams()[0], &sink.state, sink.options(10)).await.unwrap();
    while let Some(batch) = reader.next().await.unwrap() {
        assert_clean(&serde_json::to_string(&batch.state).unwrap());
        sink.commit(batch);
    }
    assert_eq!(sink.records.len(), 3);
}

#[tokio::test]
async fn a_secret_file_is_read_without_its_line_break() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let server = Server::start(|seen, _| {
        let sent = seen.headers.get("authorization").unwrap().to_str().unwrap().to_owned();
        json(format!(r#"[{{"id":"{}"}}]"#, if sent == format!("Bearer {TOKEN}") { "right" } else { "wrong" }))
    })
    .await;
    let auth = format!("auth = {{ type = \"bearer\", token_file = {:?} }}", file.to_str().unwrap());
    let (sink, ended) = server.run(&auth, "pagination = { type = \"none\" }").await;
    ended.unwrap();
    assert_eq!(sink.records.keys().collect::<Vec<_>>(), ["right"]);
}
