//! Cases for people, from stored records to a word that stands.

use serde_json::Value;
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
    insert into tenant.record (connector, stream, key, digest, data)
    select 'crm', 'contacts', key, md5(email), jsonb_build_object('email', email)
    from (values ('1', 'Ada@Example.com'), ('2', 'nobody'), ('3', 'Eve@Example.com')) as t (key, email);
"#;

/// Runs SQL in the tenant's database.
async fn inside(bench: &Bench, sql: &str) {
    let control = "select database_name from control.tenant";
    let name: String =
        sqlx::query_scalar(control).fetch_one(&mut bench.database().connect().await).await.unwrap();
    let options: PgConnectOptions = bench.database().options().database(&name);
    let mut conn = PgConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
}

async fn prepare(bench: &Bench) {
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    inside(bench, PREPARED).await;
}

fn refused(bench: &Bench, arguments: &[&str], code: i32, says: &str) {
    let ran = bench.run(arguments);
    assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:#?}");
    assert!(ran.stderr.contains(says) && ran.stderr.contains("help:"), "{arguments:?}: {ran:#?}");
}

/// The number of the case on this record, as `list` has it.
fn case(bench: &Bench, key: &str) -> String {
    let listed = bench.json(&["review", "list", "--all"]);
    let cases = listed["cases"].as_array().unwrap();
    let case = cases.iter().rev().find(|case| case["key"] == key).unwrap_or_else(|| panic!("{listed}"));
    case["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_case_is_opened_shown_assigned_and_decided_once() {
    let bench = Bench::with_database().await;
    prepare(&bench).await;
    assert_eq!(bench.run(&["review", "open", "--path", "pets"]).code, Some(3));
    let counts = |arguments: &[&str]| {
        let opened = bench.json(&[&["review", "open", "--path", "email"], arguments].concat());
        ["records", "opened", "known"].map(|name| opened[name].as_u64().unwrap())
    };
    assert_eq!(counts(&["--dry-run", "--fixes"]), [3, 3, 0]);
    assert_eq!(counts(&[]), [3, 1, 0], "the dry run opened nothing");
    assert_eq!(counts(&["--fixes"]), [3, 2, 1]);
    assert!(bench.ok(&["review", "list"]).contains("format"));

    let id = case(&bench, "1");
    let shown = bench.ok(&["review", "show", &id]);
    assert!(shown.contains("\"Ada@Example.com\"") && shown.contains("\"ada@example.com\""), "{shown}");
    assert!(shown.contains("--seen 1"), "{shown}");
    let assigned = bench.json(&["review", "assign", &id, "--seen", "1", "--to", "ben"]);
    assert_eq!(assigned["case"]["assignee"]["name"], "ben");
    assert_eq!(
        bench.json(&["review", "list", "--mine", "--as", "ben"])["cases"].as_array().unwrap().len(),
        1
    );
    let accept = |seen| ["review", "accept", &id, "--seen", seen, "--reason", "as in the contract"];
    refused(&bench, &accept("1"), 4, "it is version 2 now");
    refused(&bench, &accept("2"), 4, "assigned to ben");
    let as_ben = [&accept("2")[..], &["--as", "ben"]].concat();
    assert!(bench.ok(&[&as_ben[..], &["--dry-run"]].concat()).contains("nothing was done"));
    let seen = "do $$ begin assert exists (select from governance.audit_entry
        where convert_from(content, 'UTF8')::jsonb @> '{\"kind\": \"review.viewed\", \"body\": {\"blind\": true}}'); end $$";
    inside(&bench, seen).await;
    assert_eq!(bench.json(&as_ben)["case"]["value"]["email"], "ada@example.com");
    refused(&bench, &as_ben, 4, "decided by ben at 20");
    let error = object(&bench.run(&[&as_ben[..], &["--json"]].concat()).stdout)["error"].clone();
    assert_eq!(error["code"], "refused");
    let timeline = bench.ok(&["review", "show", &id]);
    assert!(timeline.contains("accepted: by ben") && timeline.contains("as in the contract"), "{timeline}");
}

#[tokio::test]
async fn a_stale_case_is_refused_and_decided_anew() {
    let bench = Bench::with_database().await;
    prepare(&bench).await;
    bench.ok(&["review", "open", "--path", "email", "--fixes"]);
    let id = case(&bench, "1");
    refused(&bench, &["review", "redecide", &id], 4, "is not stale");
    let change =
        "update tenant.record set digest = 'other', data = '{\"email\": \"A@Example.org\"}' where key = '1'";
    inside(&bench, change).await;
    assert!(bench.ok(&["review", "show", &id]).contains("stale: the record has changed"));
    let accept = ["review", "accept", &id, "--seen", "1", "--reason", "fine"];
    refused(&bench, &[&accept[..], &["--dry-run"]].concat(), 4, "redecide");
    refused(&bench, &accept, 4, "decided anew: `tenure review show");
    let next = case(&bench, "1");
    assert_ne!(next, id);
    refused(&bench, &accept, 4, "closed as stale at 20");
    assert!(bench.ok(&["review", "show", &id]).contains(&format!("case {next} took its place")));
    inside(&bench, "update tenant.record set deleted_at = now() where key = '3'").await;
    let gone = bench.json(&["review", "redecide", &case(&bench, "3")]);
    assert_eq!(gone["replaced_by"], Value::Null);
}

#[tokio::test]
async fn a_word_that_makes_no_sense_is_refused_with_what_to_write() {
    let bench = Bench::with_database().await;
    prepare(&bench).await;
    bench.ok(&["review", "open", "--path", "email"]);
    let id = case(&bench, "2");
    let refuse = |word: &[&str], code, says: &str| {
        refused(&bench, &[&["review"], word, &[&id, "--seen", "1"]].concat(), code, says);
    };
    refuse(&["accept", "--reason", "ok"], 4, "proposes no value");
    refuse(&["reject", "--reason", " "], 2, "a reason has 1 to 2000 characters");
    refuse(&["correct", "--reason", "x", "--set", "email=nobody"], 4, "changes nothing");
    refuse(&["correct", "--reason", "x", "--set", "phone=1"], 2, "one or more of email");
    assert_eq!(bench.run(&["review", "reject", "2", "--seen", "1"]).code, Some(2));
    refused(&bench, &["review", "show", "99"], 3, "no case 99");
    let correct =
        ["review", "correct", &id, "--seen", "1", "--reason", "she called", "--set", "email=n@example.com"];
    assert_eq!(bench.json(&correct)["case"]["state"], "corrected");
}

#[tokio::test]
async fn g1_a_second_word_is_blind_another_persons_and_settles_the_case() {
    let bench = Bench::with_database().await;
    prepare(&bench).await;
    bench.ok(&["review", "open", "--path", "email", "--fixes"]);
    let id = case(&bench, "1");
    let by = |name: &str, arguments: &[&str]| {
        let all: Vec<String> = arguments.iter().chain(&["--as", name]).map(|it| (*it).to_owned()).collect();
        all
    };
    let run = |name: &str, arguments: &[&str]| {
        let all = by(name, arguments);
        bench.run(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let confirm = ["review", "confirm", &id, "accept", "--reason", "as on the website"];
    let refuse = |name: &str, code, says: &str| {
        let ran = run(name, &confirm);
        assert!(
            ran.code == Some(code) && ran.stderr.contains(says) && ran.stderr.contains("help:"),
            "{ran:#?}"
        );
    };
    refuse("eve", 4, "nobody has decided case");
    let accepted = run("ben", &["review", "accept", &id, "--seen", "1", "--reason", "as in the contract"]);
    assert!(accepted.stdout.contains("the path email is off: nothing will be written"), "{accepted:#?}");
    refuse("ben", 5, "must be another person's");
    // Kim was shown the word; Eve sees the case as it was, and is told nothing by trying.
    run("kim", &["review", "show", &id]);
    refuse("kim", 5, "without knowing the first");
    let next = run("eve", &["review", "next", "--confirm"]).stdout;
    assert!(next.contains(&format!("review confirm {id}")) && !next.contains("ben"), "{next}");
    let blind = run("eve", &["review", "show", &id, "--blind"]).stdout;
    assert!(!blind.contains("accepted") && !blind.contains("contract"), "{blind}");
    let dry = run("eve", &[&confirm[..], &["--dry-run", "--json"]].concat());
    assert_eq!(object(&dry.stdout)["agreement"], Value::Null, "{dry:#?}");
    let settled = run("eve", &[&confirm[..], &["--json"]].concat());
    assert_eq!(object(&settled.stdout)["agreement"], "settled", "{settled:#?}");
    refuse("eve", 5, "must be another person's");
    refuse("lea", 4, "two persons have said the same");
    assert!(run("eve", &["review", "next", "--confirm"]).stdout.contains("nothing waits for you"));
    assert!(bench.ok(&["review", "show", &id]).contains("accepted by eve"));
}
