//! A candidate from its creation to the gate, by the command line alone.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};

use crate::support::Bench;

/// A path with rules, and 30 cases that a person judged as the rules do, of which half are scored.
const PREPARED: &str = r#"
    insert into tenant.path (name, connector, stream, fields, created_by)
    values ('email', 'crm', 'contacts', '{email}', gen_random_uuid());
    insert into tenant.policy (path, version, text, digest, created_by)
    select id, 1, text, sha256(convert_to(text, 'UTF8')), created_by from tenant.path, (values (
        e'path = "email"\n[[rules]]\nname = "unnormalised"\nwhen = \'email(record.email) != record.email\'\n'
        'verdict = "fix"\nvalue = { email = \'email(record.email)\' }\nconfidence = 95\nclass = "email_format"\n'
    )) as t (text);
    insert into tenant.shadow_case (path, input_digest, connector, stream, key, original, input)
    select 'email', sha256(convert_to(n::text, 'UTF8')), 'crm', 'contacts', n::text, record, jsonb_build_object(
        'key', n::text, 'record', record, 'history', '[]'::jsonb, 'evidence',
        '{"duplicates": [], "sources": [], "orphaned": []}'::jsonb,
        'changed_at', '2026-01-01T00:00:00Z', 'now', '2026-01-02T00:00:00Z')
    from (select n, jsonb_build_object('email', 'Person' || n || '@Example.COM') as record
          from generate_series(1, 30) as n) as cases;
    insert into tenant.shadow_baseline (case_id, number, verdict, value, actor)
    select id, 1, 'fix', jsonb_build_object('email', 'person' || key || '@example.com'), gen_random_uuid()
    from tenant.shadow_case;
    insert into tenant.shadow_truth (case_id, source, verdict, value)
    select case_id, 'observed', verdict, value from tenant.shadow_baseline where case_id % 2 = 0;
"#;

async fn prepare(bench: &Bench) {
    let control = "select database_name from control.tenant";
    let name: String =
        sqlx::query_scalar(control).fetch_one(&mut bench.database().connect().await).await.unwrap();
    let options: PgConnectOptions = bench.database().options().database(&name);
    let mut conn = PgConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(PREPARED)).execute(&mut conn).await.unwrap();
}

#[tokio::test]
async fn g1_a_candidate_is_tried_judged_and_recomputed_by_another_program() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    prepare(&bench).await;
    assert_eq!(bench.run(&["candidate", "create", "rules", "--path", "nowhere"]).code, Some(3));
    assert_eq!(bench.run(&["candidate", "create", "Rules", "--path", "email"]).code, Some(2));
    let created = bench.json(&["--as", "ada", "candidate", "create", "rules", "--path", "email"]);
    assert_eq!(created["policy"], 1);
    assert!(bench.ok(&["candidate", "list"]).contains("rules"));
    let payload = r#"{"candidate": "rules"}"#;
    let missing = bench.run(&["candidate", "export", "rules"]);
    assert!(missing.code == Some(3) && missing.stderr.contains("promotion_evaluation"), "{missing:#?}");

    for kind in ["shadow_run", "promotion_evaluation"] {
        bench.ok(&["job", "enqueue", kind, "--tenant", "acme", "--payload", payload, "--wait"]);
    }
    let shown = bench.ok(&["candidate", "show", "rules"]);
    assert!(shown.contains("eligible for assist") && shown.contains("15 of 30 (50.0 %)"), "{shown}");
    assert_eq!(bench.json(&["candidate", "show", "rules"])["gate"]["answer"], "eligible", "{shown}");
    let exported = bench.ok(&["candidate", "export", "rules"]);
    let claim: serde_json::Value = serde_json::from_str(exported.lines().next().unwrap()).unwrap();
    assert_eq!(claim["answer"], "eligible");
    assert!(recomputed(&exported), "{exported}");
    assert!(!recomputed(&exported.replacen("eligible", "disagree", 1)));

    let dry = bench.json(&["candidate", "promote", "rules", "--dry-run"]);
    assert_eq!((&dry["moved"], &dry["approval"]), (&false.into(), &serde_json::Value::Null), "{dry}");
    let promote = ["--as", "ada", "candidate", "promote", "rules"];
    let (asked, again) = (bench.json(&promote), bench.json(&promote));
    assert_eq!((&asked["moved"], &asked["approval"]), (&false.into(), &again["approval"]), "{asked}");
    let id = asked["approval"].as_str().unwrap();
    let digest = bench.json(&["approval", "show", id, "--tenant", "acme"])["approval"]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let approve = ["approval", "approve", id, "--digest", &digest, "--tenant", "acme"];
    assert_eq!(bench.run(&[&["--as", "ada"], &approve[..]].concat()).code, Some(5), "her own request");
    bench.ok(&[&["--as", "ben"], &approve[..]].concat());
    assert_eq!(bench.json(&promote)["moved"], true);
    assert_eq!(bench.run(&promote).code, Some(4), "the evidence was for the move that is done");
    let timeline = bench.ok(&["audit", "timeline", "--approval", id, "--tenant", "acme"]);
    assert!(timeline.contains("approval.requested") && timeline.contains("candidate.promoted"), "{timeline}");

    let demoted = bench.json(&["candidate", "demote", "rules", "--reason", "to be sure"]);
    assert_eq!((&demoted["from"], &demoted["to"]), (&"assist".into(), &"off".into()));
    assert_eq!(bench.run(&["candidate", "demote", "nobody"]).code, Some(3));
}

#[tokio::test]
async fn p7_a_path_asks_for_more_at_once_and_for_less_once_a_second_person_agrees() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    prepare(&bench).await;
    let runs = |options: &[&str]| {
        let ruled =
            bench.json(&[&["--as", "ada", "candidate", "rules", "--path", "email"], options].concat());
        (ruled["rules"]["runs_min"].as_i64().unwrap(), ruled["changed"].as_bool().unwrap(), ruled)
    };
    assert_eq!(runs(&[]).0, 30);
    assert_eq!((runs(&["--runs", "50", "--dry-run"]).0, runs(&[]).0), (50, 30));
    assert!(runs(&["--runs", "50", "--veto", "email_format"]).1);
    let below = bench.run(&["candidate", "rules", "--path", "email", "--runs", "10"]);
    assert!(below.code == Some(2) && below.stderr.contains("30"), "{below:#?}");
    assert_eq!(bench.run(&["candidate", "rules", "--path", "nowhere"]).code, Some(3));

    let (_, changed, asked) = runs(&["--runs", "40"]);
    assert!(!changed && runs(&[]).0 == 50, "{asked}");
    let id = asked["approval"].as_str().unwrap();
    let shown = bench.json(&["approval", "show", id, "--tenant", "acme"]);
    assert_eq!(shown["approval"]["class"], "gate_lower", "{shown}");
    let digest = shown["approval"]["digest"].as_str().unwrap();
    bench.ok(&["--as", "ben", "approval", "approve", id, "--digest", digest, "--tenant", "acme"]);
    let (left, changed, ruled) = runs(&["--runs", "40"]);
    assert!(changed && left == 40, "{ruled}");
    assert_eq!(ruled["rules"]["veto_classes"], serde_json::json!(["email_format"]), "the rest stays");
}

/// Whether the independent program agrees.
fn recomputed(exported: &str) -> bool {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/proofs/gate/gate.py");
    let mut python = Command::new("python3")
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 is installed");
    python.stdin.take().unwrap().write_all(exported.as_bytes()).unwrap();
    python.wait().unwrap().success()
}
