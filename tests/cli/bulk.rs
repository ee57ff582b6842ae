//! Bulk operations, and the verbs for one job beside them.

use serde_json::{Value, json};

use crate::support::{Bench, object};

/// Three jobs that nobody runs, two of them cancelled; their ids.
async fn three_jobs() -> (Bench, Vec<String>) {
    let bench = Bench::with_database().await;
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        ids.push(bench.json(&["tenant", "create", name])["job"].as_str().unwrap().to_owned());
    }
    bench.ok(&["queue", "pause", "local"]);
    for id in &ids[..2] {
        bench.ok(&["job", "cancel", id]);
    }
    (bench, ids)
}

fn state(bench: &Bench, id: &str) -> Value {
    bench.json(&["job", "get", id])["job"]["state"].clone()
}

/// The arguments of a command that was printed for people to copy.
fn arguments(command: &str) -> Vec<&str> {
    command.strip_prefix("tenure ").unwrap().split(' ').collect()
}

const BULK: [&str; 5] = ["job", "bulk", "retry", "--state", "cancelled"];

#[tokio::test]
async fn a_bulk_operation_is_previewed_confirmed_and_reported() {
    let (bench, ids) = three_jobs().await;
    let previewed = bench.json(&[&BULK[..], &["--older-than", "0s"]].concat());
    assert_eq!((previewed["matched"].as_u64(), &previewed["states"]), (Some(2), &json!({ "cancelled": 2 })));
    assert_eq!(previewed["sample"]["jobs"][1]["id"], *ids[1]);
    assert_eq!(state(&bench, &ids[0]), "cancelled", "a preview does nothing");

    let confirm = previewed["confirm"].as_str().unwrap();
    assert!(confirm.contains(" --created-before 20"), "an age is printed as a time: {confirm}");
    let dry = bench.json(&[&arguments(confirm)[..], &["--dry-run"]].concat());
    assert_eq!(dry["matched"], 2, "also with a token a dry run is a preview");
    // The jobs' queue stays paused: the operation is not one of them.
    let ended = bench.json(&arguments(confirm));
    let counts = ["chosen", "acted", "skipped"].map(|name| ended[name].as_u64().unwrap());
    assert_eq!((ended["state"].as_str(), counts), (Some("succeeded"), [2, 2, 0]));
    assert_ne!(state(&bench, &ids[0]), "cancelled");
    let again = bench.json(&BULK);
    assert_eq!((again["matched"].as_u64(), again["confirm"].is_null()), (Some(0), true));
}

#[tokio::test]
async fn a_changed_filter_is_refused_with_4_and_an_empty_one_with_2() {
    let (bench, ids) = three_jobs().await;
    let previewed = bench.json(&BULK);
    let token = previewed["confirm"].as_str().unwrap().rsplit(' ').next().unwrap();
    let other = bench.run(&["job", "bulk", "retry", "--state", "failed", "--confirm", token, "--json"]);
    assert_eq!(other.code, Some(4), "{other:#?}");
    let error = &object(&other.stdout)["error"];
    assert!(error["message"].as_str().unwrap().contains("not what was previewed"), "{error}");
    for empty in
        [&["job", "bulk", "cancel", "--json"][..], &["job", "bulk", "cancel", "--confirm", "9-1", "--json"]]
    {
        let ran = bench.run(empty);
        assert_eq!(ran.code, Some(2), "{ran:#?}");
        assert!(object(&ran.stdout)["error"]["help"].as_str().unwrap().contains("`--state`"), "{ran:#?}");
    }
    assert_eq!(state(&bench, &ids[0]), "cancelled");
}

#[tokio::test]
async fn an_operation_need_not_be_waited_for_and_is_there_once() {
    let (bench, _) = three_jobs().await;
    let shown = bench.ok(&["job", "bulk", "reprioritise", "--to", "urgent", "--tenant", "three"]);
    assert!(shown.contains("the filter admits 1 jobs: 1 ready"), "{shown}");
    let confirm = shown.lines().last().unwrap().trim();
    let arguments = [&arguments(confirm)[..], &["--no-wait"]].concat();
    let (first, second) = (bench.json(&arguments), bench.json(&arguments));
    assert_eq!(first["operation"], second["operation"]);
    assert_eq!((first["existing"].as_bool(), second["existing"].as_bool()), (Some(false), Some(true)));
    let job = bench.json(&["job", "get", first["operation"].as_str().unwrap()]);
    assert_eq!((&job["job"]["kind"], &job["job"]["tenant"]), (&json!("bulk_operation"), &json!("three")));
}

#[tokio::test]
async fn one_job_is_snoozed_or_given_another_priority() {
    let (bench, ids) = three_jobs().await;
    bench.ok(&["job", "snooze", &ids[2], "--for", "2h", "--dry-run"]);
    bench.ok(&["job", "reprioritise", &ids[2], "low", "--dry-run"]);
    let job = |bench: &Bench| bench.json(&["job", "get", &ids[2]])["job"].clone();
    assert_eq!((&job(&bench)["reason"], &job(&bench)["priority"]), (&json!("none"), &json!(2)));
    bench.ok(&["job", "snooze", &ids[2], "--until", "2099-01-01T00:00:00Z"]);
    let told = bench.ok(&["job", "reprioritise", &ids[2], "low"]);
    assert!(told.contains("has the priority low"), "{told}");
    let after = job(&bench);
    assert_eq!((&after["run_at"], &after["priority"]), (&json!("2099-01-01T00:00:00Z"), &json!(3)));
    assert_eq!(after["note"], "snoozed by ada by the command line");
    for verb in [&["job", "snooze", &ids[0], "--for", "1h"][..], &["job", "reprioritise", &ids[0], "low"]] {
        let refused = bench.run(verb);
        assert_eq!(refused.code, Some(4), "{refused:#?}");
        assert!(refused.stderr.contains("is cancelled: only a job that is ready"), "{}", refused.stderr);
    }
    assert_eq!(bench.run(&["job", "snooze", "99", "--for", "1h"]).code, Some(3));
    assert_eq!(bench.run(&["job", "snooze", &ids[0]]).code, Some(2), "until when is not said");
}
