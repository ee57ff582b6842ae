//! I3 over random tables: whatever the ties, the nulls, the batches and the settle window.

use proptest::prelude::*;

use crate::testing::{Database, Sink, source};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn i3_any_table_read_with_crashes_gives_the_rows_of_an_undisturbed_run(
        versions in prop::collection::vec(prop::option::of(0i32..5), 0..20),
        batch in 1usize..5,
        settle in 0i64..3,
        changed in 0usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(compare(versions, batch, settle, changed));
    }
}

async fn compare(versions: Vec<Option<i32>>, batch: usize, settle: i64, changed: usize) {
    let mut database = Database::new().await;
    database.run("create table rows (id int primary key, version int, name text)").await;
    for (id, version) in versions.iter().enumerate() {
        let version = version.map_or("null".to_owned(), |version| version.to_string());
        database.run(&format!("insert into rows values ({id}, {version}, 'a')")).await;
    }
    let definition = database.definition(&format!(
        "table = \"rows\"\ndeletions = \"keys\"\ncursor = {{ field = \"version\", type = \"integer\" }}\nsettle = {settle}"
    ));
    let (source, stream) = (source(&definition).await, &definition.streams()[0]);
    let (mut whole, mut crashed) = (Sink::default(), Sink::default());
    for round in 0..2 {
        whole.run(&source, stream, batch).await.unwrap();
        crashed.run_with_crashes(&source, stream, batch).await;
        assert_eq!(whole.records.len(), versions.len(), "round {round}");
        assert_eq!(whole.records, crashed.records, "round {round}");
        assert_eq!(whole.state.cursor(), crashed.state.cursor(), "round {round}");
        // A change as an honest source makes one: with a newer version.
        database.run(&format!("update rows set version = 9, name = 'b' where id = {changed}")).await;
    }
}
