//! Audit chains and receipts by the command line.

use std::fs;

use governance::{
    audit::{self, Event},
    receipt::{self, By, Decision, PolicyUse, Receipt},
};
use sqlx::Connection;

use crate::support::{Bench, Ran, object};

/// A bench with a tenant whose chain has this many entries.
async fn bench(entries: i64) -> Bench {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let mut conn = tenant(&bench).await;
    for n in 0..entries {
        let body = serde_json::json!({ "approval": format!("a-{}", n % 2), "n": n });
        let event = Event { kind: "approval.requested", actor: None, job: None, body };
        audit::append(&mut conn, &event).await.unwrap();
    }
    bench
}

/// A connection to the tenant's database as superuser.
async fn tenant(bench: &Bench) -> sqlx::PgConnection {
    let name: String = sqlx::query_scalar("select database_name from control.tenant")
        .fetch_one(&mut bench.connect().await)
        .await
        .unwrap();
    sqlx::PgConnection::connect_with(&bench.database().options().database(&name)).await.unwrap()
}

/// What `audit verify` says of a file: exit code, verdict and line.
fn verified(bench: &Bench, file: &str, more: &[&str]) -> (i32, String, Option<u64>) {
    let ran: Ran = bench.run(&[&["audit", "verify", "--json", "--file", file], more].concat());
    let said = object(&ran.stdout);
    (ran.code.unwrap(), said["verdict"].as_str().unwrap_or_default().to_owned(), said["line"].as_u64())
}

#[tokio::test]
async fn a4_a_chain_is_exported_signed_and_verified_with_and_without_the_database() {
    let bench = bench(20).await;
    let unanchored = bench.run(&["audit", "verify", "--json"]);
    assert_eq!(
        (unanchored.code, object(&unanchored.stdout)["verdict"].as_str()),
        (Some(9), Some("unanchored"))
    );
    let signed = bench.json(&["audit", "checkpoint"]);
    assert_eq!((signed["size"].as_i64(), signed["is_new"].as_bool()), (Some(20), Some(true)));
    let (note, key) = (signed["file"].as_str().unwrap(), signed["key"].as_str().unwrap());
    let live = bench.json(&["audit", "verify"]);
    assert_eq!((live["verdict"].as_str(), live["chain"]["anchored"].as_u64()), (Some("verified"), Some(20)));
    let file = bench.path("acme.ndjson").display().to_string();
    let head = bench.json(&["audit", "head"]);
    let exported = bench.json(&["audit", "export", "--out", &file]);
    assert_eq!((&exported["hash"], exported["size"].as_i64()), (&head["hash"], Some(20)));
    // The next one holds one entry more: that the first was taken.
    let (first, next) = (fs::read_to_string(&file).unwrap(), bench.ok(&["audit", "export"]));
    let entries = |export: &str| export.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let (first, next) = (entries(&first), entries(&next));
    assert_eq!((first.len(), next.len()), (21, 22));
    assert_eq!(first[..20], next[..20]);
    let offline = Bench::without_database();
    let signed_by = ["--checkpoint", note, "--key", key];
    assert_eq!(verified(&offline, &file, &signed_by), (0, "verified".to_owned(), None));
    assert_eq!(verified(&offline, &file, &[]), (9, "unanchored".to_owned(), None));
}

#[tokio::test]
async fn a1_a_missing_line_a_doubled_line_and_a_cut_tail_are_named() {
    let bench = bench(20).await;
    let signed = bench.json(&["audit", "checkpoint"]);
    let note = ["--checkpoint", signed["file"].as_str().unwrap()];
    let export = bench.ok(&["audit", "export"]);
    let lines: Vec<&str> = export.split_inclusive('\n').collect();
    for (verdict, line, lines) in [
        ("missing", 8, [&lines[..7], &lines[8..]].concat()),
        ("doubled", 9, [&lines[..8], &lines[7..]].concat()),
        ("truncated", 13, lines[..12].to_vec()),
    ] {
        let file = bench.path(verdict).display().to_string();
        fs::write(&file, lines.concat()).unwrap();
        assert_eq!(verified(&bench, &file, &note), (7, verdict.to_owned(), Some(line)));
    }
    let text = bench.run(&[
        "audit",
        "verify",
        "--file",
        &bench.path("missing").display().to_string(),
        note[0],
        note[1],
    ]);
    assert!(text.stdout.starts_with("BROKEN missing at line 8 (entry 7)"), "{}", text.stdout);
}

#[tokio::test]
async fn a1_tampering_in_the_database_is_found_and_not_signed() {
    let bench = bench(5).await;
    bench.ok(&["audit", "checkpoint"]);
    let tamper = "alter table governance.audit_entry disable trigger all;
        update governance.audit_entry set content = set_byte(content, 20, 1) where seq = 3";
    sqlx::raw_sql(tamper).execute(&mut tenant(&bench).await).await.unwrap();
    let found = bench.run(&["audit", "verify", "--json"]);
    assert_eq!((found.code, object(&found.stdout)["line"].as_u64()), (Some(7), Some(4)));
}

#[tokio::test]
async fn a_timeline_shows_what_belongs_to_an_approval_and_the_platform_has_its_own_chain() {
    let bench = bench(6).await;
    let found = bench.json(&["audit", "timeline", "--approval", "a-1"]);
    let numbers: Vec<_> =
        found["events"].as_array().unwrap().iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [2, 4, 6]);
    assert_eq!(bench.run(&["audit", "timeline", "--approval", "none"]).code, Some(3));
    let platform = bench.json(&["audit", "head", "--platform"]);
    assert!(platform["origin"].as_str().unwrap().starts_with("platform/"), "{platform}");
    let both = bench.run(&["audit", "head", "--platform", "--tenant", "acme"]);
    assert_eq!(both.code, Some(2));
}

#[tokio::test]
async fn a_receipt_is_shown_and_verified_until_it_is_altered() {
    let bench = bench(0).await;
    let mut conn = tenant(&bench).await;
    let receipt = Receipt {
        approval: None,
        candidate: None,
        decision: Decision { class: None, confidence: 50, verdict: "review".into() },
        evidence: Vec::new(),
        former: None,
        model: None,
        outcome: "none".into(),
        policy: PolicyUse { digest: governance::digest::Digest::of(b""), path: "p".into(), version: 1 },
        verification: None,
        writeback: None,
    };
    let issued = receipt::issue(&mut conn, &[receipt.clone(), receipt], By::default()).await.unwrap();
    let id = issued.id(1).to_string();
    let shown = bench.json(&["receipt", "show", &id]);
    assert_eq!(shown["content"]["receipt"]["decision"]["verdict"], "review");
    assert!(bench.ok(&["receipt", "show", &id]).contains("decision.verdict"));
    assert_eq!(bench.json(&["receipt", "verify", &id])["proof"]["size"], 2);
    sqlx::raw_sql("update tenant.receipt set content = set_byte(content, 40, 1)")
        .execute(&mut conn)
        .await
        .unwrap();
    assert_eq!(bench.run(&["receipt", "verify", &id]).code, Some(7));
    assert_eq!(bench.run(&["receipt", "show", "9.9"]).code, Some(3));
    assert_eq!(bench.run(&["receipt", "show", "9"]).code, Some(2));
}
