//! Records that are gone at the source.

use crate::ErrorClass;
use crate::testing::{Database, Sink, source};

const BY_KEYS: &str =
    "table = \"rows\"\ndeletions = \"keys\"\ncursor = { field = \"version\", type = \"integer\" }\n";

async fn hundred() -> Database {
    let mut database = Database::new().await;
    database
        .run(
            "create table rows (id text primary key, version int not null, gone bool);
             insert into rows select case n % 3 when 0 then 'Z' when 1 then 'a' else 'é' end || n, n, false
               from generate_series(1, 100) n",
        )
        .await;
    database
}

#[tokio::test]
async fn keys_that_are_gone_are_found_in_byte_order_across_ranges() {
    let mut database = hundred().await;
    let definition = database.definition(BY_KEYS);
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let mut sink = Sink::default();
    // One record a batch makes ten keys a range: a hundred keys end exactly at a range.
    sink.run(&source, stream, 1).await.unwrap();
    assert_eq!((sink.records.len(), sink.deleted.len()), (100, 0));
    database.run("delete from rows where version % 10 = 3").await;
    sink.run(&source, stream, 1).await.unwrap();
    assert_eq!((sink.records.len(), sink.deleted.len()), (90, 10));
}

#[tokio::test]
async fn i3_ranges_of_keys_survive_a_crash_after_each() {
    let mut database = hundred().await;
    let definition = database.definition(BY_KEYS);
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let mut sink = Sink::default();
    sink.run(&source, stream, 1).await.unwrap();
    database.run("delete from rows where version % 10 = 3").await;
    sink.run_with_crashes(&source, stream, 1).await;
    assert_eq!((sink.records.len(), sink.deleted.len()), (90, 10));
}

#[tokio::test]
async fn a_source_that_is_empty_or_mostly_gone_is_refused() {
    let mut database = hundred().await;
    let definition = database.definition(BY_KEYS);
    let connected = source(&definition).await;
    let stream = &definition.streams()[0];
    let mut sink = Sink::default();
    sink.run(&connected, stream, 1000).await.unwrap();
    for sql in ["delete from rows where version > 49", "delete from rows"] {
        database.run(sql).await;
        let error = sink.run(&connected, stream, 1000).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Configuration);
        assert!(error.to_string().contains("deletions_percent_max"), "{error}");
        assert_eq!(sink.deleted.len(), 0);
    }
    let definition = database.definition(&format!("{BY_KEYS}deletions_percent_max = 100"));
    sink.run(&source(&definition).await, &definition.streams()[0], 1000).await.unwrap();
    assert_eq!(sink.deleted.len(), 100);
}

#[tokio::test]
async fn who_does_not_say_what_is_known_cannot_lose_it_to_an_empty_source() {
    let mut database = hundred().await;
    database.run("delete from rows").await;
    let definition = database.definition(BY_KEYS);
    let options = crate::ReadOptions { known_records: None, ..crate::ReadOptions::default() };
    let source = source(&definition).await;
    let mut reader = source.read(&definition.streams()[0], &crate::State::default(), options).await.unwrap();
    assert_eq!(reader.next().await.unwrap_err().class(), ErrorClass::Configuration);
}

#[tokio::test]
async fn a_flag_marks_a_record_as_deleted() {
    let mut database = hundred().await;
    database.run("update rows set gone = true where version <= 5").await;
    let definition = database.definition(
        "table = \"rows\"\ndeletions = { flag = \"gone\" }\nfields = [\"id\"]\ncursor = { field = \"version\", type = \"integer\" }",
    );
    let mut sink = Sink::default();
    sink.run(&source(&definition).await, &definition.streams()[0], 10).await.unwrap();
    assert_eq!((sink.records.len(), sink.deleted.len()), (95, 5));
}
