//! A source read by the command line alone.

use database::testing::TestDatabase;

use crate::support::{Bench, object};

/// A source with three rows, one of which is too large, and the file of a connector to it.
pub(super) async fn source(bench: &Bench) -> (TestDatabase, String) {
    let source = TestDatabase::create().await;
    let rows = "create table people (id int primary key, name text, updated_at timestamptz not null);
        insert into people values (1, 'Ada', '2025-01-01'), (2, 'Zoë', '2025-01-02'),
            (3, repeat('x', 100000), '2025-01-03')";
    sqlx::raw_sql(rows).execute(&mut source.connect().await).await.unwrap();
    let file = bench.file(
        "hr.toml",
        &format!(
            "name = \"hr\"\nkind = \"postgres\"\n[postgres]\nurl = \"{}\"\n[[streams]]\nname = \"people\"\n\
             table = \"people\"\nkey = [\"id\"]\ncursor = {{ field = \"updated_at\", type = \"timestamp\" }}\n\
             record_bytes_max = \"10KiB\"\n",
            source.url()
        ),
    );
    (source, file)
}

#[tokio::test]
async fn a_source_is_synced_from_a_file_and_the_second_time_only_what_changed() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let (source, file) = source(&bench).await;
    assert_eq!(bench.json(&["connector", "check", &file])["connector"], "hr");
    assert!(bench.ok(&["connector", "discover", &file]).contains("[[streams]]"));
    let dry = bench.json(&["connector", "sync", &file, "--dry-run"]);
    assert_eq!((dry["tenant"].as_str(), dry["dry_run"].as_bool()), (Some("acme"), Some(true)));

    let counts = |synced: &serde_json::Value| {
        let report = &synced["results"][0]["report"];
        ["read", "written", "rejected"].map(|name| report[name].as_u64().unwrap())
    };
    assert_eq!(counts(&bench.json(&["connector", "sync", &file])), [3, 2, 1]);
    assert_eq!(counts(&bench.json(&["connector", "sync", "hr"])), [0, 0, 0]);
    let change = "update people set name = 'Ada Lovelace', updated_at = '2025-02-01' where id = 1";
    sqlx::raw_sql(change).execute(&mut source.connect().await).await.unwrap();
    assert_eq!(counts(&bench.json(&["connector", "sync", "hr", "--stream", "people"])), [1, 1, 0]);

    let rejected = bench.json(&["connector", "rejected", "hr"]);
    assert_eq!(
        (rejected["rejected"][0]["key"].as_str(), &rejected["rejected"][1]),
        (Some("3"), &serde_json::Value::Null)
    );
    assert_eq!(bench.run(&["connector", "sync", "hr", "--stream", "pets"]).code, Some(3));
    assert_eq!(bench.run(&["connector", "rejected", "crm"]).code, Some(3));
}

#[tokio::test]
async fn a_sync_that_fails_is_8_with_its_class_and_what_to_do() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let (source, file) = source(&bench).await;
    sqlx::raw_sql("drop table people").execute(&mut source.connect().await).await.unwrap();
    let synced = bench.run(&["connector", "sync", &file, "--json"]);
    assert_eq!(synced.code, Some(8), "{synced:#?}");
    let report = object(&synced.stdout)["results"][0]["report"].clone();
    assert_eq!(
        (report["outcome"].as_str(), report["class"].as_str()),
        (Some("failed"), Some("configuration"))
    );
    assert!(report["why"].as_str().unwrap().contains("people"), "{report}");
    let again = bench.run(&["connector", "sync", "hr"]);
    assert!(again.stdout.contains("failed: people: configuration: "), "{}", again.stdout);
}

#[tokio::test]
async fn which_tenant_must_be_said_when_there_are_two() {
    let bench = Bench::with_database().await;
    let (_source, file) = source(&bench).await;
    let none = bench.run(&["connector", "sync", &file]);
    assert!(none.code == Some(2) && none.stderr.contains("tenure tenant create"), "{none:#?}");
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    bench.ok(&["tenant", "create", "globex", "--wait"]);
    let two = bench.run(&["connector", "sync", &file]);
    assert!(two.code == Some(2) && two.stderr.contains("`--tenant`: acme, globex"), "{two:#?}");
    bench.ok(&["connector", "sync", &file, "--tenant", "globex"]);
}
