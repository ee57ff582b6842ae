//! Every way to ask for the next page, cursors across runs, and crashes between any two batches.

use super::server::{Seen, Server, answer, json};
use crate::ErrorClass;
use crate::testing::Sink;

/// Rows `id` 1 to `count` with rising `at`, cut by `skip` and `take`.
fn rows(count: usize, skip: usize, take: usize) -> Vec<String> {
    (1..=count)
        .skip(skip)
        .take(take)
        .map(|n| format!(r#"{{"id":{n},"at":"2020-01-01T00:00:{:02}Z"}}"#, n % 60))
        .collect()
}

fn list(rows: &[String]) -> String {
    format!("[{}]", rows.join(","))
}

#[tokio::test]
async fn page_numbers_end_at_an_empty_page_however_short_the_others_are() {
    // The server caps the size at 3 although 10 are asked for.
    let server = Server::start(|seen, _| json(list(&rows(10, (seen.number("page") - 1) * 3, 3)))).await;
    let stream = "pagination = { type = \"page\", param = \"page\", size_param = \"size\", size = 10 }";
    let (sink, ended) = server.run("", stream).await;
    ended.unwrap();
    assert_eq!(sink.records.len(), 10);
    assert_eq!(server.requests()[0].param("size"), Some("10"));
}

#[tokio::test]
async fn page_numbers_may_end_with_404_but_only_if_the_first_page_is_still_there() {
    let stream = "pagination = { type = \"page\", param = \"page\" }";
    let server = Server::start(|seen, _| match seen.number("page") {
        page @ (1 | 2) => json(list(&rows(6, (page - 1) * 3, 3))),
        _ => answer(404, &[], "no such page"),
    })
    .await;
    let (source, definition) = server.source("", stream).await;
    let mut sink = Sink::default();
    sink.run_with_crashes(&source, &definition.streams()[0], 10).await;
    assert_eq!(sink.records.len(), 6);

    let server =
        Server::start(
            |_, count| {
                if count == 0 { json(list(&rows(3, 0, 3))) } else { answer(404, &[], "gone") }
            },
        )
        .await;
    assert_eq!(server.run("", stream).await.1.unwrap_err().class(), ErrorClass::Configuration);
}

#[tokio::test]
async fn offsets_count_what_came_and_not_what_was_asked_for() {
    let server = Server::start(|seen, _| json(list(&rows(10, seen.number("skip"), 3)))).await;
    let stream = "pagination = { type = \"offset\", param = \"skip\", size_param = \"limit\", size = 5 }";
    let (sink, ended) = server.run("", stream).await;
    ended.unwrap();
    assert_eq!(sink.records.len(), 10);
}

#[tokio::test]
async fn links_and_header_tokens_lead_to_the_end() {
    let server = Server::start(|seen, _| {
        let skip = seen.number("from");
        let body = list(&rows(7, skip, 3));
        if skip + 3 >= 7 {
            return json(body);
        }
        let link = format!("</v1/rows?from={}>; rel=\"next\"", skip + 3);
        let next = (skip + 3).to_string();
        answer(200, &[("link", &link), ("x-next", &next)], body)
    })
    .await;
    for pagination in
        ["{ type = \"link\" }", "{ type = \"cursor\", token = \"header:X-Next\", param = \"from\" }"]
    {
        let (sink, ended) = server.run("", &format!("pagination = {pagination}")).await;
        ended.unwrap();
        assert_eq!(sink.records.len(), 7, "{pagination}");
    }
}

#[tokio::test]
async fn a_link_to_another_host_is_refused() {
    let server = Server::start(|_, _| {
        answer(200, &[("link", "<https://elsewhere.example/rows>; rel=next")], list(&rows(1, 0, 1)))
    })
    .await;
    let error = server.run("", "pagination = { type = \"link\" }").await.1.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Configuration);
    assert!(error.to_string().contains("elsewhere.example"), "{error}");
}

#[tokio::test]
async fn a_search_by_post_sends_its_parameters_in_the_body() {
    let server = Server::start(|seen, _| {
        let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
        assert_eq!(body["filter"], "active");
        let skip = body["paging"]["skip"].as_u64().unwrap();
        json(format!(r#"{{"data":{{"items":{}}}}}"#, list(&rows(5, usize::try_from(skip).unwrap(), 2))))
    })
    .await;
    let stream = "method = \"POST\"\nbody = '{\"filter\": \"active\"}'\nparams_in = \"body\"\n\
                  records = \"data.items\"\npagination = { type = \"offset\", param = \"paging.skip\" }";
    let (sink, ended) = server.run("", stream).await;
    ended.unwrap();
    assert_eq!(sink.records.len(), 5);
}

#[tokio::test]
async fn the_next_run_asks_from_the_committed_cursor_and_drops_what_it_knows() {
    let server = Server::start(|_, _| {
        json(r#"[{"id":1,"at":"2020-01-01T10:00:00+02:00"},{"id":2,"at":"2020-01-01T08:30:00Z"},{"id":3,"at":"2020-01-01T08:30:00Z"}]"#)
    })
    .await;
    for (format, sent) in [
        ("rfc3339", "2020-01-01T08:30:00Z"),
        ("unix", "1577867400"),
        ("unix_ms", "1577867400000"),
        ("raw", "2020-01-01T08:30:00Z"),
    ] {
        let stream = format!(
            "pagination = {{ type = \"none\" }}\ncursor = {{ field = \"at\", type = \"timestamp\" }}\n\
             cursor_param = {{ name = \"since\", format = \"{format}\" }}"
        );
        let (source, definition) = server.source("", &stream).await;
        let mut sink = Sink::default();
        sink.run(&source, &definition.streams()[0], 10).await.unwrap();
        assert_eq!((sink.read, sink.repeated), (3, 0));
        sink.run(&source, &definition.streams()[0], 10).await.unwrap();
        assert_eq!((sink.read, sink.repeated), (0, 3), "{format}");
        assert_eq!(server.requests().last().unwrap().param("since"), Some(sent), "{format}");
    }
}

#[tokio::test]
async fn i1_the_start_of_the_run_is_the_sources_own_date() {
    // By the source's clock it is noon on New Year's Day, whatever ours says.
    let server = Server::start(|_, _| {
        let body = r#"[{"id":1,"at":"2020-01-01T11:59:00Z"},{"id":2,"at":"2020-01-01T11:59:58Z"}]"#;
        answer(200, &[("date", "Wed, 01 Jan 2020 12:00:00 GMT")], body)
    })
    .await;
    let stream = "pagination = { type = \"none\" }\ncursor = { field = \"at\", type = \"timestamp\" }\nsettle = \"5s\"";
    let (sink, ended) = server.run("", stream).await;
    ended.unwrap();
    assert_eq!(sink.state.cursor().unwrap().text(), "2020-01-01T11:59:00Z");
}

#[tokio::test]
async fn i2_records_out_of_order_stop_checkpoints_and_the_run_ends_well() {
    let server = Server::start(|seen, _| {
        let seconds = [10, 20, 15, 30, 40];
        let at = seen.number("skip");
        json(
            seconds
                .get(at)
                .map_or("[]".into(), |s| format!(r#"[{{"id":{at},"at":"2020-01-01T00:00:{s}Z"}}]"#)),
        )
    })
    .await;
    let stream = "order = \"ascending\"\npagination = { type = \"offset\", param = \"skip\" }\n\
                  cursor = { field = \"at\", type = \"timestamp\" }";
    let (source, definition) = server.source("", stream).await;
    let mut sink = Sink::default();
    let mut reader = source.read(&definition.streams()[0], &sink.state, sink.options(10)).await.unwrap();
    let mut cursors = Vec::new();
    while let Some(batch) = reader.next().await.unwrap() {
        sink.commit(batch);
        cursors.push(sink.state.cursor().map(|cursor| cursor.text()[17..19].to_owned()));
    }
    let expected = [None, Some("10"), Some("10"), Some("10"), Some("10"), Some("40")];
    assert_eq!(cursors, expected.map(|cursor| cursor.map(str::to_owned)));
    assert_eq!(sink.records.len(), 5);
}

#[tokio::test]
async fn i2_going_on_within_a_page_is_not_taken_for_disorder() {
    let server = Server::start(|_, _| json(list(&rows(5, 0, 5)))).await;
    let stream = "order = \"ascending\"\npagination = { type = \"none\" }\n\
                  cursor = { field = \"at\", type = \"timestamp\" }";
    let (source, definition) = server.source("", stream).await;
    let mut sink = Sink::default();
    let mut cursors = Vec::new();
    while !sink.finished {
        let mut reader = source.read(&definition.streams()[0], &sink.state, sink.options(1)).await.unwrap();
        sink.commit(reader.next().await.unwrap().unwrap());
        cursors.push(sink.state.cursor().map(|cursor| cursor.text()[18..19].to_owned()));
    }
    // One behind the row at hand, whose ties may still come; at the end, all.
    assert_eq!(
        cursors,
        [None, Some("1"), Some("2"), Some("3"), Some("5")].map(|cursor| cursor.map(str::to_owned))
    );
    assert_eq!((sink.read, sink.repeated), (5, 0));
}

#[tokio::test]
async fn records_marked_as_deleted_are_handed_on_as_deleted() {
    let server = Server::start(|_, _| {
        json(r#"[{"id":1,"gone":false},{"id":2,"gone":true},{"id":3,"gone":"2020-01-01"},{"id":4,"gone":null}]"#)
    })
    .await;
    let stream = "pagination = { type = \"none\" }\ndeletions = { flag = \"gone\" }\nfields = [\"id\"]";
    let (sink, ended) = server.run("", stream).await;
    ended.unwrap();
    assert_eq!(sink.deleted, ["2", "3"]);
    assert_eq!(sink.records.keys().collect::<Vec<_>>(), ["1", "4"]);
}

/// A source whose pages have every size, with ties, by token.
fn tokens(seen: &Seen) -> axum::http::Response<axum::body::Body> {
    let skip = seen.number("after");
    let since = seen.param("since").unwrap_or("").to_owned();
    let all: Vec<_> = (0..50).map(|n| (n, format!("2020-01-01T00:00:{:02}Z", n / 4))).collect();
    let fitting: Vec<_> = all.iter().filter(|(_, at)| *at >= since).collect();
    let take = 1 + skip % 7;
    let page: Vec<_> =
        fitting.iter().skip(skip).take(take).map(|(n, at)| format!(r#"{{"id":{n},"at":"{at}"}}"#)).collect();
    let next = skip + page.len();
    let next = if next < fitting.len() { format!("\"{next}\"") } else { "null".into() };
    json(format!(r#"{{"data":[{}],"next":{next}}}"#, page.join(",")))
}

#[tokio::test]
async fn i3_a_run_that_crashes_after_every_batch_ends_like_an_undisturbed_one() {
    let server = Server::start(|seen, _| tokens(seen)).await;
    for order in ["ascending", "unordered"] {
        for batch in [1, 3, 1000] {
            let stream = format!(
                "records = \"data\"\npagination = {{ type = \"cursor\", token = \"next\", param = \"after\" }}\n\
                 cursor = {{ field = \"at\", type = \"timestamp\" }}\norder = \"{order}\"\n\
                 cursor_param = {{ name = \"since\" }}"
            );
            let (source, definition) = server.source("", &stream).await;
            let stream = &definition.streams()[0];
            let (mut whole, mut crashed) = (Sink::default(), Sink::default());
            whole.run(&source, stream, batch).await.unwrap();
            crashed.run_with_crashes(&source, stream, batch).await;
            assert_eq!(whole.records, crashed.records, "{order} {batch}");
            assert_eq!(whole.records.len(), 50);
            assert_eq!(whole.state.cursor(), crashed.state.cursor(), "{order} {batch}");
            crashed.run(&source, stream, batch).await.unwrap();
            assert_eq!(crashed.records, whole.records);
        }
    }
}
