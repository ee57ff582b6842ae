//! `check` and `discover`.

use crate::testing::{Database, source};
use crate::{Definition, Outcome};

async fn office() -> Database {
    let mut database = Database::new().await;
    database
        .run(
            "create table contacts (id int primary key, email text not null, created_at timestamptz, updated_at timestamptz not null);
             create index on contacts (updated_at);
             insert into contacts select n, 'e', now(), now() from generate_series(1, 50) n;
             create table notes (body text, at timestamp);
             insert into notes values ('x', null);
             create view active as select * from contacts; analyze",
        )
        .await;
    database
}

#[tokio::test]
async fn discover_shows_what_there_is_and_its_snippets_can_be_pasted() {
    let database = office().await;
    let definition = database.definition("table = \"contacts\"");
    let source = source(&definition).await;
    let found = source.discover().await.unwrap();
    assert_eq!(
        found.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>(),
        ["public.active", "public.contacts", "public.notes"]
    );
    let contacts = &found[1];
    assert_eq!(contacts.key, ["id"]);
    assert_eq!(contacts.cursor_candidates, ["updated_at", "created_at"]);
    assert_eq!(contacts.rows_estimated, Some(50));
    assert!(found[2].problems.iter().any(|problem| problem.contains("key")));

    let head = definition.text().split("[[streams]]").next().unwrap().to_owned();
    let pasted = Definition::parse(&format!("{head}{}", contacts.snippet), "pasted.toml").unwrap();
    let report = source.check(pasted.streams()).await;
    assert_ne!(report.outcome(), Outcome::Failed, "{report}");
}

#[tokio::test]
async fn check_names_each_drawback_and_goes_on_after_a_fault() {
    let database = office().await;
    let definition = database.definition(
        "table = \"nothing\"\n[[streams]]\nname = \"notes\"\ntable = \"notes\"\nkey = [\"body\"]\n\
         cursor = { field = \"at\", type = \"timestamp\" }\n[[streams]]\nname = \"good\"\ntable = \"contacts\"\n\
         cursor = { field = \"updated_at\", type = \"timestamp\" }",
    );
    let report = source(&definition).await.check(definition.streams()).await;
    let of = |name: &str, outcome| {
        report
            .checks
            .iter()
            .filter(|c| c.stream.as_deref() == Some(name) && c.outcome == outcome)
            .map(|c| c.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("rows", Outcome::Failed), ["read"], "{report}");
    assert_eq!(
        of("notes", Outcome::Warning),
        ["key", "cursor", "cursor", "cursor", "privileges"],
        "{report}"
    );
    assert_eq!(of("good", Outcome::Ok), ["table", "key", "cursor", "read"], "{report}");
    assert_eq!(report.outcome(), Outcome::Failed);
}

#[tokio::test]
async fn check_writes_nothing() {
    let database = office().await;
    let definition = database.definition("table = \"contacts\"");
    let source = source(&definition).await;
    let mut conn = database.connect().await;
    let written = async |conn: &mut sqlx::PgConnection| {
        let sql = "select pg_current_wal_insert_lsn()::text from pg_stat_database where datname = current_database()";
        let xact =
            "select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::text from pg_stat_user_tables";
        let _: String = sqlx::query_scalar(sql).fetch_one(&mut *conn).await.unwrap();
        sqlx::query_scalar::<_, String>(xact).fetch_one(conn).await.unwrap()
    };
    let before = written(&mut conn).await;
    source.check(definition.streams()).await;
    source.discover().await.unwrap();
    assert_eq!(written(&mut conn).await, before);
}
