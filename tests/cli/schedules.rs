//! Schedules by the command line.

use serde_json::Value;

use crate::support::{Bench, Ran};

/// With a tenant in service.
async fn with_tenant() -> Bench {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    bench
}

/// What every tenant has from its first day.
const STANDING: [&str; 3] = ["audit_checkpoint", "drift_check", "nightly_baseline"];

/// The schedules that somebody made.
fn made(bench: &Bench) -> Vec<Value> {
    let listed = bench.json(&["schedule", "list", "--tenant", "acme"]);
    let all = listed["schedules"].as_array().unwrap();
    all.iter().filter(|it| !STANDING.contains(&it["name"].as_str().unwrap())).cloned().collect()
}

const NIGHTLY: [&str; 8] = [
    "schedule",
    "create",
    "nightly",
    "tenant_provision",
    "--cron",
    "30 2 * * *",
    "--zone",
    "Europe/Amsterdam",
];

fn create(bench: &Bench, more: &[&str]) -> Ran {
    bench.run(&[&NIGHTLY, more].concat())
}

#[tokio::test]
async fn a_schedule_goes_through_its_life() {
    let bench = with_tenant().await;
    let dry = bench.json(&[&NIGHTLY[..], &["--tenant", "acme", "--jitter", "1h", "--dry-run"]].concat());
    assert_eq!((dry["tenant"].as_str(), dry["queue"].as_str()), (Some("acme"), Some("local")));
    assert_eq!(dry["fires"].as_array().map(Vec::len), Some(3));
    assert!(made(&bench).is_empty(), "a dry run does nothing");

    let created = create(&bench, &["--tenant", "acme", "--missed", "all", "--missed-max", "5"]);
    assert_eq!(created.code, Some(0), "{created:#?}");
    assert!(
        created
            .stdout
            .starts_with("the schedule nightly was created: tenant_provision for tenant acme in local")
    );
    assert!(create(&bench, &[]).stdout.contains("was replaced"));
    let schedule = &made(&bench)[0];
    assert_eq!((schedule["tenant"].as_str(), schedule["missed"].as_str()), (Some("acme"), Some("once")));
    let text = bench.ok(&["schedule", "list"]);
    assert!(text.contains("(30 2 * * *, Europe/Amsterdam)") && text.contains("02:30:00 +0"), "{text}");

    bench.ok(&["schedule", "pause", "nightly", "--dry-run"]);
    bench.ok(&["schedule", "pause", "nightly", "--reason", "the source moves"]);
    let text = bench.ok(&["schedule", "list"]);
    assert!(text.contains("by ada by the command line: the source moves"), "{text}");
    assert_eq!(bench.ok(&["schedule", "pause", "nightly"]), "the schedule nightly was already paused\n");
    assert_eq!(
        bench.ok(&["schedule", "resume", "nightly", "--dry-run"]),
        "the schedule nightly would be active\n"
    );
    assert_eq!(bench.ok(&["schedule", "resume", "nightly"]), "the schedule nightly is now active\n");

    assert!(bench.json(&["schedule", "run", "nightly", "--dry-run"])["job"].is_null());
    let job = bench.json(&["schedule", "run", "nightly"])["job"].as_str().unwrap().to_owned();
    let waited = bench.run(&["job", "get", &job, "--json"]);
    assert!(waited.stdout.contains("tenant_provision"), "{waited:#?}");

    assert_eq!(
        bench.ok(&["schedule", "delete", "nightly", "--dry-run"]),
        "the schedule nightly would be deleted\n"
    );
    assert_eq!(bench.ok(&["schedule", "delete", "nightly"]), "the schedule nightly is now deleted\n");
    assert_eq!(bench.run(&["schedule", "delete", "nightly"]).code, Some(3));
}

#[tokio::test]
async fn a_tenant_has_its_nights_from_the_first_day_and_keeps_what_was_made_of_them() {
    let bench = with_tenant().await;
    let names = || -> Vec<String> {
        let listed = bench.json(&["schedule", "list", "--tenant", "acme"]);
        let all = listed["schedules"].as_array().unwrap();
        all.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(), STANDING);
    bench.ok(&["schedule", "delete", "drift_check", "--tenant", "acme"]);
    bench.ok(&["schedule", "pause", "nightly_baseline", "--tenant", "acme", "--reason", "the source moves"]);
    let change =
        ["schedule", "create", "audit_checkpoint", "audit_checkpoint", "--tenant", "acme", "--zone", "UTC"];
    bench.ok(&[&change[..], &["--cron", "@weekly"]].concat());
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    assert_eq!(names(), ["audit_checkpoint", "nightly_baseline"], "what was deleted does not come back");
    let text = bench.ok(&["schedule", "list"]);
    assert!(text.contains("the source moves") && text.contains("@weekly"), "{text}");
    bench.ok(&["tenant", "create", "globex", "--dry-run"]);
    bench.ok(&["tenant", "create", "globex"]);
    let all = bench.json(&["schedule", "list"])["schedules"].as_array().unwrap().len();
    assert_eq!(all, 5, "another tenant has its own");
}

#[tokio::test]
async fn a_backfill_shows_its_size_first_and_a_million_fires_are_refused() {
    let bench = with_tenant().await;
    assert_eq!(create(&bench, &[]).code, Some(0));
    let range =
        ["schedule", "backfill", "nightly", "--from", "2026-03-01T00:00:00Z", "--to", "2026-04-01T00:00:00Z"];
    let dry = bench.json(&[&range[..], &["--dry-run"]].concat());
    assert_eq!((dry["enqueued"].as_u64(), dry["first"].as_str()), (Some(31), Some("2026-03-01T01:30:00Z")));
    assert_eq!(bench.json(&range)["enqueued"], 31, "the dry run did nothing");
    let again = bench.json(&range);
    assert_eq!((again["enqueued"].as_u64(), again["existing"].as_u64()), (Some(0), Some(31)));
    let second = ["schedule", "create", "tick", "tenant_provision", "--cron", "* * * * * *", "--zone", "UTC"];
    bench.ok(&second);
    let many = bench.run(&["schedule", "backfill", "tick", "--from", "2026-01-01T00:00:00Z"]);
    assert_eq!(many.code, Some(2), "{many:#?}");
    assert!(
        many.stderr.contains("more than 100000 fire times; one backfill takes at most 10000"),
        "{}",
        many.stderr
    );
}

#[tokio::test]
async fn bad_schedules_say_what_to_write() {
    let bench = with_tenant().await;
    let of = |cron: &str, zone: &str, more: &[&str]| {
        let start = ["schedule", "create", "s", "tenant_provision", "--cron", cron, "--zone", zone];
        let ran = bench.run(&[&start[..], more].concat());
        assert_eq!(ran.code, Some(2), "{ran:#?}");
        ran.stderr
    };
    let said = [
        of("30 2 30 2 *", "UTC", &[]),
        of("61 * * * *", "UTC", &[]),
        of("0-99999999999 * * * *", "UTC", &[]),
        of("@reboot", "UTC", &[]),
        of("@daily", "Europe/Amsterdm", &[]),
        of("@daily", "Amsterdam", &[]),
        of("@hourly", "UTC", &["--jitter", "2h"]),
        of("@hourly", "UTC", &["--jitter", "1500ms"]),
        of("@hourly", "UTC", &["--missed", "all", "--missed-max", "2000"]),
        of("@hourly", "UTC", &["--payload", r#"{"streem": 1}"#]),
    ];
    insta::assert_snapshot!(said.join(""));
    let unknown = bench.run(&[&NIGHTLY[..], &["--tenant", "nobody"]].concat());
    assert_eq!(unknown.code, Some(3), "{unknown:#?}");
    assert!(made(&bench).is_empty());
}

#[tokio::test]
async fn a_preview_shows_utc_local_time_and_offset() {
    let bench = with_tenant().await;
    assert_eq!(create(&bench, &["--jitter", "1h"]).code, Some(0));
    let next = ["schedule", "next", "nightly", "--after", "2026-10-23T12:00:00Z", "--count", "3", "--json"];
    let fires = bench.json(&next[..7])["fires"].clone();
    assert_eq!(fires[1]["fire_at"], "2026-10-25T00:30:00Z");
    assert_eq!(fires[1]["local"], "2026-10-25T02:30:00+02:00");
    assert_eq!(fires[2]["local"], "2026-10-26T02:30:00+01:00");
    assert_ne!(fires[1]["run_at"], fires[1]["fire_at"]);
    let tried = bench.ok(&[
        "schedule",
        "next",
        "--cron",
        "0 12 29 2 *",
        "--zone",
        "America/New_York",
        "--count",
        "1",
    ]);
    assert!(tried.contains("02-29 12:00:00 -05:00"), "{tried}");
    assert_eq!(bench.run(&["schedule", "next", "nobody"]).code, Some(3));
    assert_eq!(bench.run(&["schedule", "next"]).code, Some(2));
}
