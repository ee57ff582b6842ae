use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};
use sqlx::Connection;

use super::*;
use crate::{
    audit,
    digest::Digest,
    path::{self, tests::new, tests::tenant},
    policy::{self, Fields, Policy, PolicyError},
    receipt,
};

const POLICY: &str = r#"
path = "crm-email"
[evidence.duplicates]
field = "email"
[[evidence.sources]]
connector = "billing"
stream = "customers"
field = "phone"
matches = "tel"
compare = "digits"
[[evidence.references]]
name = "account"
field = "account_id"
connector = "crm"
stream = "accounts"

[[rules]]
name = "orphan"
when = '"account" in evidence.orphaned'
verdict = "block"

[[rules]]
name = "duplicate"
when = 'size(evidence.duplicates) > 0'
verdict = "review"

[[rules]]
name = "known"
when = 'record.email == null && size(evidence.sources) > 0'
verdict = "fix"
class = "email_from_billing"
value = { email = 'evidence.sources[0].record.mail' }

[[rules]]
name = "format"
when = 'email(record.email) != record.email'
verdict = "fix"
class = "email_format"
value = { email = 'email(record.email)' }
"#;

async fn put(conn: &mut PgConnection, connector: &str, stream: &str, key: &str, data: Value) {
    sqlx::query(
        "insert into tenant.record (connector, stream, key, digest, data) values ($1, $2, $3, md5($4::text), $4)
         on conflict (connector, stream, key) do update set digest = excluded.digest, data = excluded.data",
    )
    .bind(connector)
    .bind(stream)
    .bind(key)
    .bind(data)
    .execute(conn)
    .await
    .unwrap();
}

async fn contacts(conn: &mut PgConnection) {
    for (key, data) in [
        ("1", json!({"email": "Ada@Example.com", "account_id": "a1"})),
        ("2", json!({"email": "bob@example.com ", "account_id": "a1"})),
        ("3", json!({"email": "BOB@example.com", "account_id": ""})),
        ("4", json!({"email": "eve@example.com", "account_id": "gone"})),
        ("5", json!({"email": null, "phone": "+44 20 7946"})),
        ("6", json!({"email": "fine@example.com"})),
        ("7", json!({"email": "big@example.com", "note": "x".repeat(300_000)})),
    ] {
        put(conn, "crm", "contacts", key, data).await;
    }
    put(conn, "crm", "accounts", "a1", json!({"name": "A"})).await;
    put(conn, "billing", "customers", "c1", json!({"mail": "five@example.com", "tel": "44-20-7946"})).await;
}

fn policy() -> Policy {
    Policy::compile(POLICY, "p", &Fields::any(), None).unwrap()
}

async fn decided(conn: &mut PgConnection, path: &Path, policy: &Policy) -> Vec<Decision> {
    let decider = Decider::new(path, policy, DateTime::<Utc>::UNIX_EPOCH);
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = next_page(conn, path, after.as_deref(), 3).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = Some(last.key.clone());
        all.extend(decide_page(conn, path, &decider, &page).await.unwrap());
    }
}

#[tokio::test]
async fn evidence_of_other_records_reaches_the_rules() {
    let (_tenants, mut conn, ada) = tenant().await;
    contacts(&mut conn).await;
    let path = path::create(&mut conn, &new("crm-email"), &ada).await.unwrap();
    let decisions = decided(&mut conn, &path, &policy()).await;
    let said: Vec<_> =
        decisions.iter().map(|it| (it.key.as_str(), it.judged.verdict, it.judged.rule.as_deref())).collect();
    assert_eq!(
        said,
        [
            ("1", Verdict::Fix, Some("format")),
            ("2", Verdict::Review, Some("duplicate")),
            ("3", Verdict::Review, Some("duplicate")),
            ("4", Verdict::Block, Some("orphan")),
            ("5", Verdict::Fix, Some("known")),
            ("6", Verdict::None, None),
            ("7", Verdict::Review, None),
        ]
    );
    let proposed = decisions[4].judged.proposed.clone().unwrap();
    assert_eq!(Value::from(proposed), json!({"email": "five@example.com"}));
    assert!(decisions[6].judged.reason.contains("too large"), "{:?}", decisions[6]);
    let tally = decisions.iter().fold(Tally::default(), |mut tally, it| {
        tally.add(it);
        tally
    });
    assert_eq!((tally.records(), tally.of(Verdict::Review), tally.of(Verdict::Fix)), (7, 3, 2));
    let policy = policy();
    let rules: Vec<_> = policy.rules().collect();
    assert_eq!(tally.rows(&rules)[0].rule.as_deref(), Some("orphan"), "in the policy's order");
}

#[tokio::test]
async fn deciding_needs_no_transaction_that_can_write() {
    let (_tenants, mut conn, ada) = tenant().await;
    contacts(&mut conn).await;
    let path = path::create(&mut conn, &new("crm-email"), &ada).await.unwrap();
    sqlx::raw_sql("begin transaction isolation level repeatable read, read only")
        .execute(&mut conn)
        .await
        .unwrap();
    assert_eq!(decided(&mut conn, &path, &policy()).await.len(), 7);
    let fields = fields(&mut conn, "crm", "contacts", &["title".to_owned()]).await.unwrap();
    let unknown = Policy::compile(&POLICY.replace("record.email", "record.emial"), "p", &fields, None);
    assert!(unknown.unwrap_err().to_string().contains("did you mean email?"));
    assert!(Policy::compile(POLICY, "p", &fields, None).is_ok());
}

#[tokio::test]
async fn a_decision_is_stored_once_and_not_on_a_record_that_vanished_or_changed() {
    let (_tenants, mut conn, ada) = tenant().await;
    contacts(&mut conn).await;
    let path = path::create(&mut conn, &new("crm-email"), &ada).await.unwrap();
    let policy = policy();
    let (version, is_new) = policy::add(&mut conn, &path, &policy, &ada).await.unwrap();
    assert_eq!((version, is_new), (1, true));
    let decisions = decided(&mut conn, &path, &policy).await;
    // Between reading and storing one goes and one changes.
    sqlx::raw_sql("update tenant.record set deleted_at = now() where key = '1'")
        .execute(&mut conn)
        .await
        .unwrap();
    put(&mut conn, "crm", "contacts", "6", json!({"email": "New@example.com"})).await;
    let stored = store(&mut conn, &path, version, &decisions).await.unwrap();
    assert_eq!(stored, Stored { new: 5, known: 0, stale: 2 });
    let again = store(&mut conn, &path, version, &decisions).await.unwrap();
    assert_eq!(again, Stored { new: 0, known: 5, stale: 2 });
    assert_eq!(of_keys(&mut conn, &path, &["1".to_owned(), "2".to_owned()]).await.unwrap().len(), 1);
    let anew = decided(&mut conn, &path, &policy).await;
    let stored = store(&mut conn, &path, version, &anew).await.unwrap();
    assert_eq!(stored, Stored { new: 1, known: 5, stale: 0 }, "only the changed one is decided anew");
}

#[tokio::test]
async fn a3_each_decision_has_one_receipt_and_a_page_one_entry() {
    let (_tenants, mut conn, ada) = tenant().await;
    contacts(&mut conn).await;
    let path = path::create(&mut conn, &new("crm-email"), &ada).await.unwrap();
    let policy = policy();
    let (version, _) = policy::add(&mut conn, &path, &policy, &ada).await.unwrap();
    let decisions = decided(&mut conn, &path, &policy).await;
    let before = audit::head(&mut conn).await.unwrap().size;
    store(&mut conn, &path, version, &decisions).await.unwrap();
    store(&mut conn, &path, version, &decisions).await.unwrap();
    assert_eq!(audit::head(&mut conn).await.unwrap().size, before + 1, "what is known has its receipt");
    let rows: Vec<(i64, String, Vec<u8>)> =
        sqlx::query_as("select id, verdict, input_digest from tenant.decision order by id")
            .fetch_all(&mut conn)
            .await
            .unwrap();
    assert_eq!(rows.len(), decisions.len());
    for (id, verdict, input) in rows {
        let about = receipt::about(&mut conn, receipt::Subject::Decision(id)).await.unwrap();
        let [about] = about[..] else { panic!("{id}: {about:?}") };
        receipt::prove(&mut conn, about).await.unwrap().unwrap();
        let content = receipt::find(&mut conn, about).await.unwrap().content;
        let content: Value = serde_json::from_slice(&content).unwrap();
        let receipt = &content["receipt"];
        assert_eq!(receipt["decision"]["verdict"], verdict);
        assert_eq!(receipt["evidence"][0], Digest::try_from(input).unwrap().to_string());
        assert_eq!((&receipt["policy"]["version"], &receipt["outcome"]), (&json!(version), &json!("none")));
        assert!(!content.to_string().contains("example"), "{content}");
    }
    // What is rolled back leaves neither.
    let mut tx = conn.begin().await.unwrap();
    put(&mut tx, "crm", "contacts", "8", json!({"email": "New@example.com"})).await;
    let anew = decided(&mut tx, &path, &policy).await;
    assert_eq!(store(&mut tx, &path, version, &anew).await.unwrap().new, 1);
    tx.rollback().await.unwrap();
    assert_eq!(audit::head(&mut conn).await.unwrap().size, before + 1);
}

#[tokio::test]
async fn a_policy_version_never_changes() {
    let (_tenants, mut conn, ada) = tenant().await;
    let path = path::create(&mut conn, &new("crm-email"), &ada).await.unwrap();
    policy::add(&mut conn, &path, &policy(), &ada).await.unwrap();
    assert_eq!(policy::add(&mut conn, &path, &policy(), &ada).await.unwrap(), (1, false), "the same text");
    let other =
        Policy::compile(&POLICY.replace("\"format\"", "\"shape\""), "p", &Fields::any(), None).unwrap();
    assert_eq!(policy::add(&mut conn, &path, &other, &ada).await.unwrap(), (2, true));
    for change in
        ["update tenant.policy set text = 'x'", "delete from tenant.policy", "truncate tenant.policy cascade"]
    {
        let refused = sqlx::raw_sql(change).execute(&mut conn).await.expect_err(change);
        assert!(refused.to_string().contains("never change"), "{change}: {refused}");
    }
    let (first, compiled) = policy::load(&mut conn, &path, Some(1)).await.unwrap();
    assert_eq!((first.digest, first.text.as_str()), (policy().digest(), POLICY));
    assert_eq!(compiled.rules().nth(3), Some("format"));
    assert_eq!(policy::load(&mut conn, &path, None).await.unwrap().0.version, 2);
    let unknown = policy::load(&mut conn, &path, Some(3)).await;
    assert!(matches!(unknown, Err(PolicyError::Unknown { .. })));
    let elsewhere = path::create(&mut conn, &new("other"), &ada).await.unwrap();
    let refused = policy::add(&mut conn, &elsewhere, &other, &ada).await;
    assert!(matches!(refused, Err(PolicyError::OtherPath(_))));
    assert_eq!(policy::list(&mut conn, &path).await.unwrap().len(), 2);
}

#[test]
fn a_run_of_the_bench_decides_every_record() {
    let measured = measure(2_500).unwrap();
    assert_eq!((measured.records, measured.rules), (2_500, 6));
    // One in twenty each: two e-mails (one invalid), a phone (risky) and a country.
    assert_eq!((measured.fixes, measured.reviews), (250, 250));
}

fn record(key: &str, data: &Value) -> Record {
    let digest = crate::digest::Digest::of(data.to_string().as_bytes()).to_string();
    Record { key: key.to_owned(), digest, data: data.as_object().cloned(), changed_at: DateTime::UNIX_EPOCH }
}

proptest! {
    /// Whatever the record holds, it is decided on, twice the same, and a fix is its own end.
    #[test]
    fn any_record_is_decided_on_and_a_fix_leaves_nothing_to_fix(
        email in "(\\PC{0,20}|[A-Za-z]{1,5}@[A-Za-z]{1,5}\\.com)", phone in "[+0-9 ]{0,14}", number: i64,
    ) {
        let policy = Policy::compile(MEASURED_POLICY, "p", &Fields::any(), None).unwrap();
        let path = Path {
            id: 1, name: "measured".into(), connector: "crm".into(), stream: "contacts".into(),
            fields: vec![], state: path::PathState::Catalogued, daily_cap: 1, breaker_limit: 1,
            created_at: DateTime::UNIX_EPOCH,
        };
        let decider = Decider::new(&path, &policy, DateTime::UNIX_EPOCH);
        let data = json!({"email": email, "phone": phone, "n": number, "country": email});
        let first = decider.decide(&record("1", &data), &Evidence::none());
        prop_assert_eq!(&first, &decider.decide(&record("1", &data), &Evidence::none()));
        let other = decider.decide(&record("2", &data), &Evidence::none());
        prop_assert_ne!(first.input_digest, other.input_digest);
        if let Some(proposed) = first.judged.proposed {
            let mut fixed = data.as_object().cloned().unwrap();
            fixed.extend(proposed);
            let next = decider.decide(&record("1", &fixed.into()), &Evidence::none());
            prop_assert_ne!(next.judged.rule, first.judged.rule);
        }
    }
}
