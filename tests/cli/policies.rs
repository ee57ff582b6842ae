//! Paths and policies, from a file to what they would do to stored records.

use serde_json::Value;

use crate::support::{Bench, object};

const POLICY: &str = r#"
path = "people-email"

[[rules]]
name = "invalid"
when = 'record.email != null && email(record.email) == null'
verdict = "review"

[[rules]]
name = "format"
when = 'email(record.email) != record.email'
verdict = "fix"
value = { email = 'email(record.email)' }
class = "email_format"
"#;

/// A tenant with three records and a path over them.
async fn governed(bench: &Bench) {
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let source = database::testing::TestDatabase::create().await;
    let rows = "create table people (id int primary key, email text);
        insert into people values (1, 'Ada@Example.com'), (2, 'nobody'), (3, 'eve@example.com')";
    sqlx::raw_sql(rows).execute(&mut source.connect().await).await.unwrap();
    let file = bench.file(
        "hr.toml",
        &format!(
            "name = \"hr\"\nkind = \"postgres\"\n[postgres]\nurl = \"{}\"\n[[streams]]\nname = \"people\"\n\
             table = \"people\"\nkey = [\"id\"]\nfields = [\"email\"]\n",
            source.url()
        ),
    );
    bench.ok(&["connector", "sync", &file]);
    let create =
        ["path", "create", "people-email", "--connector", "hr", "--stream", "people", "--field", "email"];
    let dry: Vec<_> = create.iter().copied().chain(["--dry-run"]).collect();
    assert_eq!(bench.json(&dry)["dry_run"], true);
    assert_eq!(bench.json(&create)["path"]["state"], "catalogued");
    assert_eq!(bench.run(&create).code, Some(4), "the name is taken");
}

#[tokio::test]
async fn a_policy_is_tried_on_stored_records_without_effect_then_stored_in_versions() {
    let bench = Bench::with_database().await;
    governed(&bench).await;
    let file = bench.file("policy.toml", POLICY);
    let checked = bench.json(&["policy", "check", &file]);
    let counts = ["records", "fix", "review", "block", "none"].map(|name| checked[name].as_u64().unwrap());
    assert_eq!(counts, [3, 1, 1, 0, 1], "{checked}");
    assert_eq!(checked["decided"][1]["examples"][0]["proposed"]["email"], "ada@example.com");
    assert!(bench.ok(&["policy", "check", &file]).contains("format → fix"));

    assert_eq!(bench.json(&["policy", "list", "people-email"])["versions"], Value::Array(Vec::new()));
    assert_eq!(bench.json(&["policy", "add", &file, "--dry-run"])["new"], true);
    let added = |file: &str| {
        let added = bench.json(&["policy", "add", file]);
        (added["version"].as_u64().unwrap(), added["new"].as_bool().unwrap())
    };
    assert_eq!(added(&file), (1, true), "the dry run stored nothing");
    assert_eq!(added(&file), (1, false));
    let other = bench.file("other.toml", &POLICY.replace("format\"", "shape\""));
    assert_eq!(added(&other), (2, true));
    let first = bench.ok(&["policy", "show", "people-email", "--policy-version", "1"]);
    assert_eq!(first.trim(), POLICY.trim());
    assert_eq!(bench.run(&["policy", "show", "people-email", "--policy-version", "9"]).code, Some(3));
    let shown = bench.ok(&["path", "show", "people-email"]);
    assert!(shown.contains("missing for probed") && shown.contains("· certified"), "{shown}");
    assert!(bench.ok(&["path", "list"]).contains("hr/people"));
}

#[tokio::test]
async fn a_faulty_policy_is_78_with_its_places_and_an_unknown_path_3() {
    let bench = Bench::with_database().await;
    governed(&bench).await;
    for (from, to, place, what) in [
        (
            "'record.email != null && email(record.email) == null'",
            "'record.email =='",
            "policy.toml:6:24",
            "rule invalid",
        ),
        ("email(record.email) != record.email", "email(record.email)", "policy.toml:11:14", "gives"),
        ("record.email != null", "record.emial != null", "policy.toml:6:15", "no field emial"),
        ("value = { email", "value = { id", "policy.toml:13:16", "does not govern"),
    ] {
        let file = bench.file("policy.toml", &POLICY.replace(from, to));
        let refused = bench.run(&["policy", "check", &file, "--json"]);
        assert_eq!(refused.code, Some(78), "{refused:#?}");
        let fault = object(&refused.stdout)["error"]["faults"][0].clone();
        assert!(fault["place"].as_str().unwrap().ends_with(place), "{fault} is not at {place}");
        assert!(fault["what"].as_str().unwrap().contains(what), "{fault}");
        assert_eq!(bench.run(&["policy", "add", &file]).code, Some(78));
    }
    let elsewhere = bench.file("policy.toml", &POLICY.replace("people-email", "pets"));
    assert_eq!(bench.run(&["policy", "check", &elsewhere]).code, Some(3));
    assert_eq!(bench.run(&["policy", "check", "nowhere.toml"]).code, Some(78));
    assert_eq!(bench.run(&["path", "show", "pets"]).code, Some(3));
    let bad = ["path", "create", "Bad", "--connector", "hr", "--stream", "people", "--field", "email"];
    assert_eq!(bench.run(&bad).code, Some(2));
}
