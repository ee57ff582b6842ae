//! What columns of every kind become, and rows that cannot be stored.

use crate::RejectReason;
use crate::testing::{Database, Sink, source};

async fn read(database: &Database, stream: &str) -> Sink {
    let definition = database.definition(stream);
    let mut sink = Sink::default();
    sink.run(&source(&definition).await, &definition.streams()[0], 10).await.unwrap();
    sink
}

#[tokio::test]
async fn every_kind_of_column_is_kept_to_the_last_digit() {
    let mut database = Database::new().await;
    let digits = format!("{}.{}", "9".repeat(500), "1".repeat(500));
    database
        .run(&format!(
            "create type mood as enum ('sad', 'happy'); create type pair as (a int, b text);
             create table rows (id int primary key, n numeric, f float8, nan numeric, inf float4, bytes bytea, at timestamptz,
               forever timestamptz, j json, jb jsonb, m mood, list int[], p pair, span int4range, every interval, u uuid, t text);
             insert into rows values (1, {digits}, 0.1, 'NaN', '-Infinity', '\\x00ff', '2020-01-01 12:00+02', 'infinity',
               '{{\"b\": 1.500, \"a\": [1]}}', '{{\"b\": 1.500}}', 'happy', '{{1,null,3}}', (1, 'x'), '[1,5)', '1 day 2 hours',
               '00000000-0000-0000-0000-000000000001', E'quote \" back \\\\ tab \\t é')"
        ))
        .await;
    let sink = read(&database, "table = \"rows\"").await;
    let expected = format!(
        "{{\"id\":1,\"n\":{digits},\"f\":0.1,\"nan\":\"NaN\",\"inf\":\"-Infinity\",\"bytes\":\"\\\\x00ff\",\
         \"at\":\"2020-01-01T10:00:00+00:00\",\"forever\":\"infinity\",\"j\":{{\"b\": 1.500, \"a\": [1]}},\
         \"jb\":{{\"b\": 1.500}},\"m\":\"happy\",\"list\":[1,null,3],\"p\":{{\"a\":1,\"b\":\"x\"}},\"span\":\"[1,5)\",\
         \"every\":\"P1DT2H\",\"u\":\"00000000-0000-0000-0000-000000000001\",\"t\":\"quote \\\" back \\\\ tab \\t é\"}}"
    );
    assert_eq!(sink.records["1"], expected);
    assert!(database.holds_jsonb(&expected).await);
}

#[tokio::test]
async fn only_the_agreed_fields_with_key_and_cursor_leave_the_source() {
    let mut database = Database::new().await;
    database
        .run(
            "create table rows (id int primary key, version int, ssn text, address jsonb, \"Odd \"\"Name\" int);
             insert into rows values (1, 2, '078-05-1120', '{\"city\": \"X\", \"street\": \"Y\", \"geo\": {\"lat\": 1.50, \"lon\": 2}}', 3),
               (2, 3, '078-05-1121', null, null)",
        )
        .await;
    let sink = read(
        &database,
        "table = \"rows\"\nfields = [\"address.city\", \"address.geo.lat\", 'Odd \"Name']\ncursor = { field = \"version\", type = \"integer\" }",
    )
    .await;
    let one: serde_json::Value = serde_json::from_str(&sink.records["1"]).unwrap();
    let expected = r#"{"Odd \"Name":3,"address":{"city":"X","geo":{"lat":1.50}},"id":1,"version":2}"#;
    assert_eq!(one, serde_json::from_str::<serde_json::Value>(expected).unwrap());
    let two: serde_json::Value = serde_json::from_str(&sink.records["2"]).unwrap();
    assert_eq!(two["address"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_row_that_cannot_be_stored_is_set_aside_alone_and_once() {
    let mut database = Database::new().await;
    database
        .run(
            "create table rows (id int, version int, j json, t text);
             insert into rows values (1, 1, null, 'good'), (2, 1, '{\"a\":\"\\u0000\"}', null), (3, 1, '\"\\ud800\"', null),
               (4, 1, '[1e400000]', null), (5, 1, '{\"a\":1,\"a\":2}', null), (6, 1, null, repeat('x', 2000)),
               (null, 1, null, 'no key'), (8, 1, null, 'good')",
        )
        .await;
    let definition = database.definition(
        "table = \"rows\"\nkey = [\"id\"]\nrecord_bytes_max = \"1KiB\"\ncursor = { field = \"version\", type = \"integer\" }",
    );
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let mut sink = Sink::default();
    sink.run(&source, stream, 3).await.unwrap();
    assert_eq!(sink.records.keys().collect::<Vec<_>>(), ["1", "8"]);
    let reasons: Vec<_> =
        sink.rejected.iter().map(|rejected| (rejected.key.as_deref(), rejected.reason)).collect();
    assert_eq!(
        reasons,
        [
            (Some("2"), RejectReason::BadText),
            (Some("3"), RejectReason::BadText),
            (Some("4"), RejectReason::NumberOutOfRange),
            (Some("5"), RejectReason::DuplicateField),
            (Some("6"), RejectReason::TooLarge),
            (None, RejectReason::MissingKey),
        ]
    );
    sink.run(&source, stream, 3).await.unwrap();
    assert_eq!((sink.read, sink.repeated, sink.rejected.len()), (0, 8, 6));
}

#[tokio::test]
async fn a_double_of_a_key_is_set_aside_and_a_later_one_wins() {
    let mut database = Database::new().await;
    database
        .run(
            "create table base (id int, version int, t text);
             insert into base values (1, 1, 'a'), (1, 1, 'b'), (2, 1, 'old'), (2, 2, 'new'), (3, 1, 'same'), (3, 1, 'same');
             create view rows as select * from base",
        )
        .await;
    let stream =
        "table = \"rows\"\nkey = [\"id\"]\ncursor = { field = \"version\", type = \"integer\" }\nsettle = 5";
    let definition = database.definition(stream);
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let mut sink = Sink::default();
    sink.run(&source, stream, 1).await.unwrap();
    let first = sink.records.clone();
    assert_eq!(
        sink.rejected.iter().map(|rejected| rejected.reason).collect::<Vec<_>>(),
        [RejectReason::DuplicateKey; 2]
    );
    assert!(first["2"].contains("new"));
    // All of it lies in the settle window and is read again: the later row of key 2 must win again.
    sink.run(&source, stream, 1).await.unwrap();
    assert_eq!((&sink.records, sink.rejected.len()), (&first, 2));
}

#[tokio::test]
async fn keys_of_several_columns_are_a_json_array() {
    let mut database = Database::new().await;
    database
        .run("create table rows (a text, b int, primary key (a, b)); insert into rows values ('x\"y', 1), ('x', 2)")
        .await;
    let sink = read(&database, "table = \"rows\"").await;
    assert_eq!(sink.records.keys().collect::<Vec<_>>(), ["[\"x\", 2]", "[\"x\\\"y\", 1]"]);
}

#[tokio::test]
async fn names_that_need_quotes_are_quoted() {
    let mut database = Database::new().await;
    database
        .run(
            "create schema \"Sche.ma\"; create table \"Sche.ma\".\"Ta\"\"ble; drop\" (\"Id\" int primary key, \"up'dated\" int);
             insert into \"Sche.ma\".\"Ta\"\"ble; drop\" values (1, 1)",
        )
        .await;
    let stream = "table = '\"Sche.ma\".\"Ta\"\"ble; drop\"'\nkey = [\"Id\"]\ndeletions = \"keys\"\n\
                  cursor = { field = \"up'dated\", type = \"integer\" }\nfields = [\"Id\"]";
    assert_eq!(read(&database, stream).await.records["1"], "{\"Id\":1,\"up'dated\":1}");
}
