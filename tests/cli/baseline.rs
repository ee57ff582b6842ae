//! A tenant's nights by the command line: a run, and what is shown of it.

use std::fs;

use database::testing::TestDatabase;
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};

use crate::support::{Bench, object};

const PREPARED: &str = r#"
    insert into tenant.path (name, connector, stream, fields, created_by)
    values ('email', 'crm', 'contacts', '{email}', gen_random_uuid());
    insert into tenant.policy (path, version, text, digest, created_by)
    select id, 1, text, sha256(convert_to(text, 'UTF8')), created_by from tenant.path, (values (
        e'path = "email"\n[[rules]]\nname = "invalid"\nwhen = \'email(record.email) == null\'\nverdict = "review"\n'
        '[[rules]]\nname = "format"\nwhen = \'email(record.email) != record.email\'\n'
        'verdict = "fix"\nvalue = { email = \'email(record.email)\' }\nclass = "email_format"\n'
    )) as t (text);
"#;

/// A tenant with a governed path, and a connector to three contacts: one to fix, one for people, one that is right.
async fn prepared() -> (Bench, TestDatabase) {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let control = "select database_name from control.tenant";
    let name: String = sqlx::query_scalar(control).fetch_one(&mut bench.connect().await).await.unwrap();
    let options: PgConnectOptions = bench.database().options().database(&name);
    let mut conn = PgConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(PREPARED)).execute(&mut conn).await.unwrap();

    let source = TestDatabase::create().await;
    let rows = "create table contacts (id int primary key, email text);
        insert into contacts values (1, 'Ada@Example.com'), (2, 'nobody'), (3, 'eve@example.com')";
    sqlx::raw_sql(rows).execute(&mut source.connect().await).await.unwrap();
    let file = bench.file(
        "crm.toml",
        &format!(
            "name = \"crm\"\nkind = \"postgres\"\n[postgres]\nurl = \"{}\"\n\
             [[streams]]\nname = \"contacts\"\ntable = \"contacts\"\nkey = [\"id\"]\n",
            source.url()
        ),
    );
    bench.ok(&["connector", "sync", &file]);
    (bench, source)
}

#[tokio::test]
async fn a_night_is_run_and_shown_as_a_table_as_json_and_as_a_page() {
    let (bench, _source) = prepared().await;
    let none = bench.ok(&["baseline", "show"]);
    assert!(none.contains("no baseline was run in these days: `tenure baseline run`"), "{none}");
    let dry = bench.json(&["baseline", "run", "--dry-run"]);
    assert_eq!((&dry["tenant"], &dry["connectors"][0]), (&"acme".into(), &"crm".into()));

    let ran = bench.json(&["baseline", "run", "--timeout", "1m"]);
    let (path, stream) = (&ran["report"]["paths"][0], &ran["report"]["streams"][0]);
    assert_eq!(ran["report"]["outcome"], "complete", "{ran}");
    assert_eq!((&stream["connector"], &stream["outcome"]), (&"crm".into(), &"complete".into()));
    let counts =
        ["records", "fix", "review", "block", "issue_rate_bp"].map(|name| path[name].as_i64().unwrap());
    assert_eq!(counts, [3, 1, 1, 0, 6_667]);
    assert_eq!(bench.json(&["review", "list"])["cases"].as_array().unwrap().len(), 1);

    let shown = bench.json(&["baseline", "show", "--days", "7"]);
    assert_eq!(shown["nights"].as_array().unwrap().len(), 7);
    assert_eq!(shown["nights"][6]["report"], ran["report"]);
    assert_eq!(
        (&shown["paths"][0]["path"], &shown["paths"][0]["trend"]["direction"]),
        (&"email".into(), &"unknown".into())
    );
    let text = bench.ok(&["baseline", "show"]);
    assert!(text.contains("66.67 %") && text.contains("the run wrote nothing to any target"), "{text}");
    assert!(text.contains("·············█"), "{text}");

    let page = bench.path("page.html");
    let name = page.display().to_string();
    let written = bench.run(&["baseline", "show", "--html", &name]);
    assert!(written.code == Some(0) && written.stderr.contains("the page is in"), "{written:#?}");
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n") && html.contains("66.67 %"));
}

#[tokio::test]
async fn a_page_never_takes_a_folders_place_and_a_window_has_two_days() {
    let (bench, _source) = prepared().await;
    let folder = bench.folder.path().display().to_string();
    let refused = bench.run(&["baseline", "show", "--html", &folder]);
    assert!(refused.code == Some(4) && refused.stderr.contains("baseline.html"), "{refused:#?}");
    let nowhere = bench.run(&["baseline", "show", "--html", "none/page.html"]);
    assert!(nowhere.code == Some(1) && nowhere.stderr.contains("make its folder first"), "{nowhere:#?}");
    assert_eq!(bench.run(&["baseline", "show", "--days", "1"]).code, Some(2));
    assert_eq!(bench.run(&["baseline", "show", "--tenant", "nobody"]).code, Some(3));
}

#[tokio::test]
async fn a_source_that_is_gone_is_8_and_named() {
    let (bench, source) = prepared().await;
    sqlx::raw_sql("drop table contacts").execute(&mut source.connect().await).await.unwrap();
    let ran = bench.run(&["baseline", "run", "--json"]);
    assert_eq!(ran.code, Some(8), "{ran:#?}");
    let report = object(&ran.stdout)["report"].clone();
    assert_eq!(report["outcome"], "incomplete");
    assert_eq!(report["streams"][0]["class"], "configuration");
    assert_eq!(report["paths"][0]["records"], 3, "what was read before is still decided on");
    let again = bench.run(&["baseline", "run"]);
    assert!(
        again.stdout.contains("failed: stream crm/contacts: failed (configuration): "),
        "{}",
        again.stdout
    );
}

#[tokio::test]
async fn a_run_that_was_left_to_workers_is_followed_from_where_it_is() {
    let (bench, _source) = prepared().await;
    let job = || bench.json(&["baseline", "run", "--detach"])["job"].clone();
    let first = job();
    assert_eq!(first, job(), "while it lives, another is that one");
    assert_eq!(bench.json(&["baseline", "run"])["report"]["run"], first);
}
