//! Approvals and gates as people and scripts meet them.

use sqlx::AssertSqlSafe;

use crate::support::Bench;

const PLATFORM: &str = "--platform";

/// Ada asks to lower the gate of promotions, which she has raised.
fn asked(bench: &Bench) -> (String, String) {
    bench.ok(&["gate", "set", "promotion", "--persons", "2", PLATFORM]);
    let asked = bench.json(&["gate", "set", "promotion", "--persons", "1", PLATFORM, "--request"]);
    let member = |name: &str| asked["request"][name].as_str().unwrap().to_owned();
    (member("id"), member("digest"))
}

fn refused(bench: &Bench, arguments: &[&str], code: i32, says: &str) {
    let ran = bench.run(arguments);
    assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:#?}");
    assert!(ran.stderr.contains(says) && ran.stderr.contains("help:"), "{arguments:?}: {ran:#?}");
}

#[tokio::test]
async fn p7_a_lowering_is_asked_for_shown_approved_by_a_second_person_and_done_once() {
    let bench = Bench::with_database().await;
    let (id, digest) = asked(&bench);
    let lower = ["gate", "set", "promotion", "--persons", "1", PLATFORM];
    refused(&bench, &lower, 4, "--request");
    refused(&bench, &[&lower[..], &["--approval", &id]].concat(), 4, "0 of the 1 yeses");
    let approve = ["approval", "approve", &id, "--digest", &digest[..12], PLATFORM];
    refused(&bench, &approve, 5, "somebody else must decide");
    let other = ["approval", "approve", &id, "--digest", "000000000000", PLATFORM, "--as", "ben"];
    refused(&bench, &other, 4, "not what you saw");
    let shown = bench.ok(&["approval", "show", &id, PLATFORM, "--as", "ben"]);
    assert!(shown.contains(&digest) && shown.contains(r#""target":"promotion""#), "{shown}");
    assert!(shown.contains("asked by   ada"), "{shown}");
    let as_ben = [&approve[..], &["--as", "ben"]].concat();
    bench.ok(&[&as_ben[..], &["--dry-run"]].concat());
    assert_eq!(bench.json(&["approval", "show", &id, PLATFORM])["approval"]["state"], "open");
    let approved = bench.ok(&as_ben);
    assert!(approved.contains("approved") && approved.contains(&digest), "{approved}");
    let changed =
        ["gate", "set", "promotion", "--persons", "1", "--window", "48h", PLATFORM, "--approval", &id];
    refused(&bench, &changed, 4, "must be asked for anew");
    let done = bench.json(&[&lower[..], &["--approval", &id]].concat());
    assert_eq!(done["direction"], "lowered");
    refused(&bench, &["approval", "withdraw", &id, PLATFORM], 4, "consumed already");
    assert_eq!(bench.json(&["approval", "list", PLATFORM])["approvals"].as_array().unwrap().len(), 0);
    assert_eq!(bench.json(&["approval", "list", PLATFORM, "--all"])["approvals"][0]["state"], "consumed");
    let gates = bench.ok(&["gate", "list", PLATFORM]);
    assert!(gates.contains("everybody but the requester"), "{gates}");
}

#[tokio::test]
async fn p4_an_expired_approval_is_told_so_and_what_to_do() {
    let bench = Bench::with_database().await;
    let (id, digest) = asked(&bench);
    let age = format!(
        "set session_replication_role = replica;
         update governance.approval set requested_at = clock_timestamp() - interval '24 hours' where id = {id}"
    );
    sqlx::raw_sql(AssertSqlSafe(age)).execute(&mut bench.connect().await).await.unwrap();
    let approve = ["approval", "approve", &id, "--digest", &digest, PLATFORM, "--as", "ben"];
    refused(&bench, &approve, 4, "ask for it anew");
    assert_eq!(bench.json(&["approval", "show", &id, PLATFORM])["approval"]["state"], "lapsed");
}

#[tokio::test]
async fn p6_a_request_is_withdrawn_or_denied_and_that_is_the_end_of_it() {
    let bench = Bench::with_database().await;
    let (id, digest) = asked(&bench);
    let listed = bench.json(&["approval", "list", PLATFORM])["approvals"][0].take();
    assert_eq!(
        (&listed["digest"], listed.get("plan"), listed.get("content")),
        (&digest[..].into(), None, None)
    );
    let viewed = "select count(*) from governance.audit_entry
        where convert_from(content, 'UTF8')::json ->> 'kind' = 'approval.viewed'";
    let viewed =
        async || sqlx::query_scalar::<_, i64>(viewed).fetch_one(&mut bench.connect().await).await.unwrap();
    let before = viewed().await;
    bench.ok(&["approval", "withdraw", &id, PLATFORM, "--dry-run"]);
    assert_eq!(viewed().await, before + 1, "who only tries is shown the plan");
    assert_eq!(bench.json(&["approval", "withdraw", &id, PLATFORM])["approval"]["state"], "withdrawn");
    let approve = ["approval", "approve", &id, "--digest", &digest, PLATFORM, "--as", "ben"];
    refused(&bench, &approve, 4, "withdrawn already");
    let again = bench.json(&["gate", "set", "promotion", "--persons", "1", PLATFORM, "--request"]);
    let id = again["request"]["id"].as_str().unwrap();
    refused(&bench, &["approval", "deny", id, PLATFORM], 5, "withdraw");
    assert_eq!(bench.json(&["approval", "deny", id, PLATFORM, "--as", "ben"])["approval"]["state"], "denied");
    refused(&bench, &["approval", "show", "99", PLATFORM], 3, "approval list");
    refused(&bench, &["gate", "set", "promotion", "--persons", "0", PLATFORM], 2, "at least one person");
    assert_eq!(bench.run(&["approval", "list"]).code, Some(2), "whose approvals must be said");
}
