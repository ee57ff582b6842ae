//! A path from its creation to certified and down again, and a tenant's readiness, by the command line alone.

use std::sync::atomic::{AtomicU64, Ordering};

use database::testing::TestDatabase;
use sqlx::AssertSqlSafe;

use crate::support::Bench;

const POLICY: &str = r#"
path = "email"
[[rules]]
name = "format"
when = 'email(record.email) != record.email'
verdict = "fix"
value = { email = 'email(record.email)' }
class = "email_format"
"#;

async fn sql(source: &TestDatabase, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut source.connect().await).await.unwrap();
}

/// A source that is read by one role and written by another, and the file of its connector.
async fn source(bench: &Bench) -> (TestDatabase, String) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let reader = format!("cli_reader_{}_{number}", std::process::id());
    let source = TestDatabase::create().await;
    sql(
        &source,
        &format!(
            "create table people (id int primary key, email text);
            insert into people values (1, 'Ada@Example.com'), (2, 'eve@example.com');
            create role {reader} login; grant select on people to {reader}"
        ),
    )
    .await;
    let url = source.url();
    let text = format!(
        "name = \"hr\"\nkind = \"postgres\"\n[postgres]\nurl = \"{url}&user={reader}\"\n[target]\nurl = \"{url}\"\n\
         [[streams]]\nname = \"people\"\ntable = \"people\"\nkey = [\"id\"]\nfields = [\"email\"]\n\
         [streams.target]\nowned = [\"email\"]\n"
    );
    let file = bench.file("hr.toml", &text);
    (source, file)
}

fn refused(bench: &Bench, arguments: &[&str], code: i32, says: &str) {
    let ran = bench.run(arguments);
    assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:#?}");
    assert!(ran.stderr.contains(says) && ran.stderr.contains("help:"), "{arguments:?}: {ran:#?}");
}

#[tokio::test]
async fn a_path_is_probed_certified_by_a_second_person_and_lowered() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let (_source, file) = source(&bench).await;
    let of_file = bench.json(&["connector", "check", &file]);
    assert_eq!(of_file["targets"][0]["probed_at"], serde_json::Value::Null, "a file is nobody's");
    bench.ok(&["connector", "sync", &file]);
    bench.ok(&["path", "create", "email", "--connector", "hr", "--stream", "people", "--field", "email"]);
    refused(&bench, &["path", "certify", "email"], 4, "does not become certified in one step");
    let shown = bench.ok(&["path", "show", "email"]);
    assert!(shown.contains("never probed") && shown.contains("missing for probed"), "{shown}");

    let probe = ["path", "probe", "email"];
    let dry = bench.json(&[&probe[..], &["--dry-run"]].concat());
    assert_eq!((&dry["to"], &dry["dry_run"]), (&"probed".into(), &true.into()));
    assert_eq!(bench.json(&["path", "show", "email"])["probe"], serde_json::Value::Null);
    assert!(bench.json(&["connector", "check", "hr", "--dry-run"]).get("targets").is_none());
    assert!(bench.ok(&["connector", "check", "hr"]).contains("kept     target people: conditional_write"));
    assert_eq!(bench.json(&["path", "show", "email"])["probe"]["capability"], "conditional_write");
    assert_eq!(bench.json(&probe)["to"], "probed");
    assert_eq!(bench.json(&probe)["to"], "probed", "again: its target is tried anew, and it stays");

    let certify = ["path", "certify", "email"];
    refused(&bench, &certify, 4, "there is no policy");
    let policy = bench.file("policy.toml", POLICY);
    bench.ok(&["policy", "add", &policy]);
    refused(&bench, &certify, 4, "no baseline: version 1 of its policy has decided over 0 of 2 records");
    bench.ok(&["review", "open", "--path", "email"]);
    let would = bench.json(&[&certify[..], &["--dry-run"]].concat());
    assert_eq!((&would["asks"], &would["approval"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!(bench.json(&["approval", "list", "--tenant", "acme"])["approvals"], serde_json::json!([]));
    let (asked, again) = (bench.json(&certify), bench.json(&certify));
    assert_eq!((&asked["to"], &asked["approval"]), (&"probed".into(), &again["approval"]));
    let id = asked["approval"].as_str().unwrap();
    let shown = bench.json(&["approval", "show", id, "--tenant", "acme"]);
    assert_eq!(shown["approval"]["class"], "certification");
    let digest = shown["approval"]["digest"].as_str().unwrap();
    let approve = ["approval", "approve", id, "--digest", digest, "--tenant", "acme"];
    refused(&bench, &approve, 5, "somebody else must decide");
    bench.ok(&[&approve[..], &["--as", "ben"]].concat());
    let certified = bench.ok(&certify);
    assert_eq!(certified, "took email from probed to certified\n");
    refused(&bench, &certify, 4, "a path that is certified does not become certified");
    let shown = bench.ok(&["path", "show", "email"]);
    assert!(shown.contains(&format!("by approval {id}")) && shown.contains("missing for live"), "{shown}");
    let timeline = bench.ok(&["audit", "timeline", "--approval", id, "--tenant", "acme"]);
    assert!(timeline.contains("path.stepped"), "{timeline}");

    let lower = ["path", "lower", "email", "--to", "catalogued"];
    assert_eq!(bench.json(&[&lower[..], &["--dry-run"]].concat())["to"], "catalogued");
    assert_eq!(bench.json(&["path", "show", "email"])["path"]["state"], "certified");
    assert_eq!(bench.ok(&lower), "took email from certified to catalogued\n");
    assert_eq!(bench.run(&lower).code, Some(4));
    bench.ok(&["path", "probe", "email"]);
    bench.file("hr.toml", &format!("{}# elsewhere\n", std::fs::read_to_string(&file).unwrap()));
    let synced = bench.run(&["connector", "sync", &file, "--json"]);
    assert!(
        synced.stderr.contains("email was probed and is catalogued")
            && synced.stderr.contains("tenure path probe email"),
        "{synced:#?}"
    );
    let answer: serde_json::Value = serde_json::from_str(&synced.stdout).unwrap();
    assert_eq!(answer["to_certify"], serde_json::json!(["email"]));
    assert_eq!(bench.json(&["path", "show", "email"])["path"]["state"], "catalogued");
    assert_eq!(bench.run(&["path", "lower", "email", "--to", "live"]).code, Some(2));
    assert_eq!(bench.run(&["path", "lower", "nobody", "--to", "probed"]).code, Some(3));
    assert_eq!(bench.run(&["path", "probe", "nobody"]).code, Some(3));
}

#[tokio::test]
async fn a_scan_says_what_stands_in_the_way_and_its_exit_code_whether_something_does() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let (source, file) = source(&bench).await;
    refused(&bench, &["readiness", "show"], 3, "never scanned");
    let nothing = bench.run(&["readiness", "scan"]);
    assert!(nothing.code == Some(1) && nothing.stdout.contains("connectors: there is none"), "{nothing:#?}");
    bench.ok(&["connector", "sync", &file]);
    let dry = bench.json(&["readiness", "scan", "--dry-run"]);
    assert_eq!((&dry["connectors"], &dry["dry_run"]), (&serde_json::json!(["hr"]), &true.into()));
    let scanned = bench.json(&["readiness", "scan", "--tenant", "acme"]);
    assert_eq!((&scanned["blocks"], &scanned["proven"]), (&0.into(), &true.into()), "{scanned:#}");
    assert_eq!(bench.json(&["readiness", "show"]), scanned);

    sql(&source, "alter table people rename email to mail").await;
    let blocked = bench.run(&["readiness", "scan"]);
    assert_eq!(blocked.code, Some(1), "{blocked:#?}");
    assert!(blocked.stdout.contains("blocks  hr/people: agreed fields are not there: email"), "{blocked:#?}");
    let shown = bench.run(&["readiness", "show"]);
    assert_eq!((shown.code, shown.stdout), (Some(1), blocked.stdout));
}
