//! `tenure dev` from an empty folder: a private Postgres, a source, a sync, and the story of a governed field.

use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::support::{Bench, object, ran};

/// Read, written and rejected of each stream.
fn counts(report: &Value) -> Vec<(&str, [u64; 3])> {
    let results = report["results"].as_array().unwrap();
    let number = |result: &Value, name: &str| result["report"][name].as_u64().unwrap();
    let counts = |result| ["read", "written", "rejected"].map(|name| number(result, name));
    results.iter().map(|result| (result["stream"].as_str().unwrap(), counts(result))).collect()
}

#[test]
fn dev_reads_its_sample_once_and_then_only_what_changed() {
    let bench = Bench::without_database();
    let first = bench.run(&["dev", "--once", "--json"]);
    assert_eq!(first.code, Some(0), "{first:#?}");
    let report = object(&first.stdout);
    let expected =
        [("accounts", [400, 400, 0]), ("contacts", [5_000, 4_997, 3]), ("legacy-leads", [250, 238, 12])];
    assert_eq!(counts(&report), expected);

    // Of the three contacts that the story touches, each was changed in the CRM: by us, by a person, and by a liar that
    // stamps the row all the same.
    let second = object(&bench.run(&["dev", "--once", "--json"]).stdout);
    let expected = [("accounts", [0, 0, 0]), ("contacts", [3, 3, 0]), ("legacy-leads", [0, 0, 0])];
    assert_eq!(counts(&second), expected, "{second}");
    assert_eq!(told(&second), told(&report), "what is there is kept");

    // What it says to type next works as it stands, without our environment.
    for next in report["next"].as_array().unwrap() {
        let command = next["command"].as_str().unwrap();
        let mut shell = std::process::Command::new("sh");
        let typed = ran(shell.args(["-c", command]).current_dir("/").env_remove("DATABASE_URL"));
        assert_eq!(typed.code, Some(0), "{command}: {typed:#?}");
    }
    assert!(!bench.path("data/data/postmaster.pid").exists(), "the private Postgres is stopped");
}

/// What can be told again: all but what reading it put on record.
fn told(report: &Value) -> [&Value; 4] {
    ["governed", "words", "promotion", "changes"].map(|part| &report["story"][part])
}

#[tokio::test]
async fn dev_plays_its_story_from_shadow_runs_to_a_proved_change() {
    let bench = Bench::without_database();
    let ran = bench.run(&["dev", "--once", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let report = object(&ran.stdout);
    let story = &report["story"];
    let promotion = &story["promotion"];
    assert_eq!(promotion["evaluation"]["answer"], "eligible", "{promotion}");
    let figure = |name: &str| promotion["evaluation"]["figures"][name].as_i64().unwrap();
    let (runs, agree, scored) = (figure("runs"), figure("agree"), figure("scored"));
    assert!(runs >= 30 && 100 * agree >= 85 * runs && 2 * scored >= runs, "{promotion}");
    assert!(agree < runs, "the rules are wrong about some: {promotion}");
    assert_eq!((&promotion["from"], &promotion["to"]), (&"off".into(), &"assist".into()));
    assert_ne!(promotion["asked_by"], promotion["approved_by"]);

    let changes = story["changes"].as_array().unwrap();
    let states: Vec<_> = changes.iter().map(|change| change["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["verified", "conflict", "mismatch"], "{story}");
    assert_eq!(changes[0]["observed"], changes[0]["desired"]);
    assert_ne!(changes[2]["observed"], changes[2]["desired"]);
    assert_eq!(story["proof"]["verdict"], "verified");
    assert_eq!(story["proof"]["entries"], story["proof"]["anchored"]);

    // The CRM itself says the same.
    let mut running = bench.start(&["dev"]);
    running.says("a worker is up");
    assert_eq!(phones(&bench).await, ["+4930123456", changes[1]["edit"].as_str().unwrap(), "030 / 123456"]);
    running.signal("TERM");
    assert_eq!(running.ends(), Some(0));
}

/// The numbers of the contacts that the story changes, as the sample's own database has them.
async fn phones(bench: &Bench) -> Vec<String> {
    let definition = std::fs::read_to_string(bench.path("data/connectors/crm-sample.toml")).unwrap();
    let url = definition.lines().find_map(|line| line.strip_prefix("url = \"")?.strip_suffix('"')).unwrap();
    let mut crm = PgConnection::connect(url).await.unwrap();
    let phones = "select phone from crm.contacts where id in (4720, 4816, 4912) order by id";
    sqlx::query_scalar(phones).fetch_all(&mut crm).await.unwrap()
}

#[test]
fn dev_stays_until_it_is_told_to_stop_and_tells_its_story_on_a_page() {
    let bench = Bench::without_database();
    let mut running = bench.start(&["dev"]);
    running.says("a worker is up");
    // Another command finds the same server and its worker.
    assert_eq!(bench.json(&["worker", "list"])["workers"].as_array().unwrap().len(), 1);
    running.signal("TERM");
    assert_eq!(running.ends(), Some(0));
    assert!(!bench.path("data/data/postmaster.pid").exists(), "the private Postgres is stopped");
    let screen = bench.ok(&["dev", "--once"]);
    assert!(screen.lines().count() <= 66, "{screen}");
}

#[test]
fn production_refuses_sample_data() {
    let bench = Bench::without_database();
    let key = bench.file("key", "");
    let mut command = bench.command(&["dev", "--once"]);
    command.env("TENURE_ENVIRONMENT", "production").env("TENURE_TENANTS_PASSWORD_KEY_FILE", key);
    command.env("DATABASE_URL", "postgres://ada:b3tter@db.invalid/app?sslmode=verify-full");
    let refused = ran(&mut command);
    assert_eq!(refused.code, Some(4), "{refused:#?}");
}
