//! `tenure dev` from an empty folder: a private Postgres, a source, a sync.

use serde_json::Value;

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

    let second = object(&bench.run(&["dev", "--once", "--json"]).stdout);
    assert_eq!(
        counts(&second).iter().map(|(_, [read, written, _])| read + written).sum::<u64>(),
        0,
        "{second}"
    );

    // What it says to type next works as it stands, without our environment.
    for next in report["next"].as_array().unwrap() {
        let command = next["command"].as_str().unwrap();
        let mut shell = std::process::Command::new("sh");
        let typed = ran(shell.args(["-c", command]).current_dir("/").env_remove("DATABASE_URL"));
        assert_eq!(typed.code, Some(0), "{command}: {typed:#?}");
    }
    assert!(!bench.path("data/data/postmaster.pid").exists(), "the private Postgres is stopped");
}

#[test]
fn dev_fits_on_a_screen_and_stays_until_it_is_told_to_stop() {
    let bench = Bench::without_database();
    let mut running = bench.start(&["dev"]);
    running.says("a worker is up");
    // Another command finds the same server and its worker.
    assert_eq!(bench.json(&["worker", "list"])["workers"].as_array().unwrap().len(), 1);
    running.signal("TERM");
    assert_eq!(running.ends(), Some(0));
    assert!(!bench.path("data/data/postmaster.pid").exists(), "the private Postgres is stopped");
    let screen = bench.ok(&["dev", "--once"]);
    assert!(screen.lines().count() <= 24, "{screen}");
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
