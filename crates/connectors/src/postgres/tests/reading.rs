//! Cursors, settle windows, crashes, deletions.

use crate::testing::{Database, Sink, source};

const BY_TIME: &str = "table = \"rows\"\nkey = [\"id\"]\ncursor = { field = \"at\", type = \"timestamp\" }\n";

#[tokio::test]
async fn a_second_run_reads_only_what_changed() {
    let mut database = Database::new().await;
    database.run("create table rows (id int primary key, at timestamptz, name text);
        insert into rows select n, timestamptz '2020-01-01' + n % 7 * interval '1 hour', 'n' || n from generate_series(1, 100) n").await;
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
