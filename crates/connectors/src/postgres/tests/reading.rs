//! Cursors, settle windows and crashes.

use sqlx::Connection as _;

use crate::testing::{Database, Sink, source};

const BY_TIME: &str = "table = \"rows\"\nkey = [\"id\"]\ncursor = { field = \"at\", type = \"timestamp\" }\n";
const BY_NUMBER: &str =
    "table = \"rows\"\nkey = [\"id\"]\ncursor = { field = \"version\", type = \"integer\" }\n";
const WITHOUT: &str = "table = \"rows\"\n";

#[tokio::test]
async fn a_second_run_reads_only_what_changed() {
    let mut database = Database::new().await;
    database
        .run(
            "create table rows (id int primary key, at timestamptz, name text);
             insert into rows select n, timestamptz '2020-01-01' + n % 7 * interval '1 hour', 'n' || n
               from generate_series(1, 100) n",
        )
        .await;
    let definition = database.definition(BY_TIME);
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let mut sink = Sink::default();
    sink.run(&source, stream, 10).await.unwrap();
    assert_eq!((sink.records.len(), sink.read, sink.repeated), (100, 100, 0));
    sink.run(&source, stream, 10).await.unwrap();
    assert_eq!((sink.records.len(), sink.read), (100, 0));
    database.run("update rows set name = 'new', at = now() where id = 5").await;
    sink.run(&source, stream, 10).await.unwrap();
    assert_eq!(sink.read, 1);
    assert!(sink.records["5"].contains("new"));
}

/// Whether a second run of a table with these values of `at` reads nothing, and a third one change only.
async fn reads_only_changes(at: &str, stream: &str) {
    let mut database = Database::new().await;
    database
        .run(&format!(
            "create table rows (id int primary key, at timestamptz, name text);
             insert into rows select n, {at}, 'n' || n from generate_series(1, 200) n"
        ))
        .await;
    let definition = database.definition(stream);
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let mut sink = Sink::default();
    sink.run(&source, stream, 50).await.unwrap();
    assert_eq!((sink.records.len(), sink.read), (200, 200), "{at}");
    sink.run(&source, stream, 50).await.unwrap();
    assert_eq!((sink.read, sink.repeated), (0, 200), "{at}");
    database.run("update rows set name = 'new' where id = 7").await;
    sink.run(&source, stream, 50).await.unwrap();
    assert_eq!((sink.read, sink.repeated), (1, 199), "{at}");
    database.run("update rows set name = 'n7' where id = 7").await;
    sink.run(&source, stream, 50).await.unwrap();
    assert_eq!(sink.read, 1, "a row that changes back is read again: {at}");
}

#[tokio::test]
async fn a_second_run_reads_only_what_changed_whatever_the_cursors() {
    reads_only_changes("timestamptz '2020-01-01'", BY_TIME).await;
    reads_only_changes("now()", BY_TIME).await;
    reads_only_changes("null::timestamptz", BY_TIME).await;
    reads_only_changes("now()", WITHOUT).await;
}

#[tokio::test]
async fn i1_a_commit_that_comes_late_is_found_within_the_settle_window() {
    let mut database = Database::new().await;
    database.run("create table rows (id int primary key, at timestamptz)").await;
    database.run("insert into rows values (1, now() - interval '1 minute')").await;
    // The transaction stamps its row now and commits after the run.
    let mut late = database.connect().await;
    let mut late = late.begin().await.unwrap();
    sqlx::query("insert into rows values (2, now())").execute(&mut *late).await.unwrap();
    database.run("insert into rows values (3, clock_timestamp())").await;
    let definition = database.definition(BY_TIME);
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let mut sink = Sink::default();
    sink.run(&source, stream, 10).await.unwrap();
    assert_eq!(sink.records.keys().collect::<Vec<_>>(), ["1", "3"]);
    late.commit().await.unwrap();
    sink.run(&source, stream, 10).await.unwrap();
    assert_eq!(sink.records.keys().collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!((sink.read, sink.repeated), (1, 2));
}

#[tokio::test]
async fn i1_a_number_that_is_committed_late_is_found_within_the_settle_window() {
    let mut database = Database::new().await;
    database.run("create table rows (id int primary key, version bigint); insert into rows values (1, 95), (2, 100)").await;
    let definition = database.definition(&format!("{BY_NUMBER}settle = 10"));
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let mut sink = Sink::default();
    sink.run(&source, stream, 10).await.unwrap();
    assert_eq!(sink.state.cursor().unwrap().text(), "90");
    database.run("insert into rows values (3, 91)").await;
    sink.run(&source, stream, 10).await.unwrap();
    assert_eq!(sink.records.len(), 3);
}

#[tokio::test]
async fn i2_the_cursor_rests_only_on_values_whose_ties_are_all_committed() {
    let mut database = Database::new().await;
    database
        .run(
            "create table rows (id int primary key, version int not null);
             insert into rows select n, n / 4 from generate_series(0, 19) n",
        )
        .await;
    let definition = database.definition(BY_NUMBER);
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let mut sink = Sink::default();
    let mut reader = source.read(stream, &sink.state, sink.options(3)).await.unwrap();
    while let Some(batch) = reader.next().await.unwrap() {
        sink.commit(batch);
        if let Some(cursor) = sink.state.cursor() {
            let cursor: usize = cursor.text().parse().unwrap();
            assert!(
                sink.records.len() >= (cursor + 1) * 4,
                "cursor {cursor} with {} rows",
                sink.records.len()
            );
        }
    }
    assert_eq!(sink.state.cursor().unwrap().text(), "4");
}

#[tokio::test]
async fn i3_a_run_that_crashes_after_every_batch_ends_like_an_undisturbed_one() {
    let mut database = Database::new().await;
    database
        .run(
            "create table rows (id int, part text, at timestamptz, version int, primary key (part, id));
             insert into rows select n, 'p' || n % 3, case when n % 10 > 0 then timestamptz '2020-01-01' + n / 9 * interval '1 day' end, n / 5
               from generate_series(1, 60) n",
        )
        .await;
    for stream in [
        "table = \"rows\"\ncursor = { field = \"at\", type = \"timestamp\" }",
        "table = \"rows\"\ncursor = { field = \"version\", type = \"integer\" }\nsettle = 3",
        "table = \"rows\"\ncursor = { field = \"part\", type = \"text\" }\ndeletions = \"keys\"",
        "table = \"rows\"\ndeletions = \"keys\"",
    ] {
        let definition = database.definition(stream);
        let (source, stream) = (source(&definition).await, &definition.streams()[0]);
        for batch in [1, 4, 1000] {
            let (mut whole, mut crashed) = (Sink::default(), Sink::default());
            whole.run(&source, stream, batch).await.unwrap();
            crashed.run_with_crashes(&source, stream, batch).await;
            // Without cursor a run goes on behind the last key, not from the beginning.
            assert!(stream.cursor().is_some() || crashed.repeated == 0, "{} repeated", crashed.repeated);
            assert_eq!(whole.records.len(), 60);
            assert_eq!(whole.records, crashed.records);
            assert_eq!(whole.state.cursor(), crashed.state.cursor());
            crashed.run(&source, stream, batch).await.unwrap();
            assert_eq!((crashed.records.len(), crashed.deleted.len()), (60, 0));
        }
    }
}

#[tokio::test]
async fn i4_a_run_that_finds_nothing_keeps_the_cursor() {
    let mut database = Database::new().await;
    database.run("create table rows (id int primary key, version int); insert into rows values (1, 7)").await;
    let definition = database.definition(BY_NUMBER);
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let mut sink = Sink::default();
    sink.run(&source, stream, 10).await.unwrap();
    database.run("delete from rows").await;
    sink.run(&source, stream, 10).await.unwrap();
    assert_eq!(sink.state.cursor().unwrap().text(), "7");
}

#[tokio::test]
async fn rows_without_a_usable_cursor_are_read_in_every_run_and_counted() {
    let mut database = Database::new().await;
    database
        .run(
            "create table rows (id int primary key, at timestamptz, name text);
             insert into rows values (1, null, 'a'), (2, 'infinity', 'a'), (3, '-infinity', 'a'),
               (4, '0044-03-15 BC', 'a'), (5, '12000-01-01', 'a'), (6, '2020-01-01', 'a')",
        )
        .await;
    let definition = database.definition(BY_TIME);
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let mut sink = Sink::default();
    sink.run(&source, stream, 2).await.unwrap();
    assert_eq!((sink.records.len(), sink.null_cursor), (6, 5));
    assert_eq!(sink.state.cursor().unwrap().text(), "2020-01-01T00:00:00.000000Z");
    database.run("update rows set name = 'b' where id in (1, 3)").await;
    sink.run(&source, stream, 2).await.unwrap();
    assert_eq!((sink.read, sink.repeated, sink.null_cursor), (2, 4, 5));
}

#[tokio::test]
async fn every_type_of_cursor_column_is_read_from_its_bound_on() {
    for (column, kind, older, newer) in [
        ("timestamptz", "timestamp", "'2020-01-01 00:00+02'", "'2020-01-02'"),
        ("timestamp", "timestamp", "'2020-01-01 00:00:00.123456'", "'2020-01-02'"),
        ("date", "timestamp", "'2020-01-01'", "'2020-01-02'"),
        ("smallint", "integer", "1", "2"),
        ("bigint", "integer", "-9223372036854775808", "9223372036854775807"),
        ("numeric(20, 2)", "integer", "9", "10"),
        ("text", "text", "'Zebra'", "'apple'"),
        ("uuid", "text", "'00000000-0000-0000-0000-000000000001'", "'f0000000-0000-0000-0000-000000000001'"),
    ] {
        let mut database = Database::new().await;
        database
            .run(&format!(
                "create table rows (id int primary key, c {column}); insert into rows values (1, {older})"
            ))
            .await;
        let cursor = format!("table = \"rows\"\ncursor = {{ field = \"c\", type = \"{kind}\" }}");
        let definition = database.definition(&cursor);
        let (source, stream) = (source(&definition).await, &definition.streams()[0]);
        let mut sink = Sink::default();
        sink.run(&source, stream, 10).await.unwrap();
        database.run(&format!("insert into rows values (2, {newer})")).await;
        sink.run(&source, stream, 10).await.unwrap();
        assert_eq!((sink.records.len(), sink.read, sink.repeated), (2, 1, 1), "{column}");
        sink.run(&source, stream, 10).await.unwrap();
        assert_eq!((sink.read, sink.repeated), (0, 1), "{column}: the older row lies below the bound");
    }
}

#[tokio::test]
async fn a_state_of_another_key_or_cursor_is_refused() {
    let mut database = Database::new().await;
    database.run("create table rows (id int primary key, version int, at timestamptz); insert into rows values (1, 1, now())").await;
    let definition = database.definition(BY_NUMBER);
    let mut sink = Sink::default();
    sink.run(&source(&definition).await, &definition.streams()[0], 10).await.unwrap();
    let definition = database.definition(BY_TIME);
    let error = sink.run(&source(&definition).await, &definition.streams()[0], 10).await.unwrap_err();
    assert_eq!(error.class(), crate::ErrorClass::Configuration);
    assert!(error.to_string().contains("reset"), "{error}");
}

#[tokio::test]
async fn a_run_sees_one_moment_however_long_it_takes() {
    let mut database = Database::new().await;
    database.run("create table rows (id int primary key, version int); insert into rows select n, n from generate_series(1, 10) n").await;
    let definition = database.definition(BY_NUMBER);
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let mut sink = Sink::default();
    let mut reader = source.read(stream, &sink.state, sink.options(2)).await.unwrap();
    sink.commit(reader.next().await.unwrap().unwrap());
    database.run("insert into rows values (11, 11); delete from rows where id = 9").await;
    sink.drain(&mut reader).await.unwrap();
    assert_eq!(sink.records.len(), 10);
    assert_eq!(sink.state.cursor().unwrap().text(), "10");
}
