use database::testing::TestTenants;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use super::*;
use crate::{actor, audit, canonical};

fn receipt(number: usize) -> Receipt {
    Receipt {
        approval: None,
        candidate: None,
        decision: Decision { class: Some("email_format".into()), confidence: 97, verdict: "fix".into() },
        evidence: vec![Digest::of(&number.to_be_bytes())],
        former: None,
        model: None,
        outcome: "none".into(),
        policy: PolicyUse { digest: Digest::of(b"policy"), path: "crm/contacts/email".into(), version: 3 },
        verification: None,
        writeback: None,
    }
}

fn full(former: ReceiptId) -> Receipt {
    Receipt {
        approval: Some(ApprovalUse { id: "a-1".into(), mode: "cooling_off".into() }),
        candidate: Some(Digest::of(b"candidate")),
        former: Some(former),
        model: Some(ModelUse {
            answer: Digest::of(b"yes"),
            model: "a \"model\"\n".into(),
            prompt: Digest::of(b"?"),
        }),
        outcome: "applied".into(),
        verification: Some("verified".into()),
        writeback: Some(WritebackUse { id: "w-1".into(), status: "verified".into() }),
        ..receipt(0)
    }
}

async fn tenant() -> (TestTenants, PgConnection) {
    let tenants = TestTenants::create().await;
    let acme = tenants.add("acme").await;
    let inside = tenants.inside(&acme).await;
    (tenants, inside)
}

async fn run(conn: &mut PgConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(conn).await.unwrap();
}

#[tokio::test]
async fn ten_thousand_receipts_are_one_entry_and_each_is_proved() {
    let (_tenants, mut conn) = tenant().await;
    let receipts: Vec<_> = (0..10_007).map(receipt).collect();
    let mut tx = conn.begin().await.unwrap();
    let issued = issue(&mut tx, &receipts, By { job: Some(5), ..By::default() }).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(audit::head(&mut conn).await.unwrap().size, 1);
    for position in [0, 4_999, 5_000, 8_191, 8_192, 10_006] {
        let proof = prove(&mut conn, issued.id(position)).await.unwrap().unwrap();
        assert_eq!((proof.seq, proof.size, proof.hash), (1, 10_007, issued.entry.hash));
        let stored: Value =
            serde_json::from_slice(&find(&mut conn, issued.id(position)).await.unwrap().content).unwrap();
        assert_eq!(stored["receipt"]["evidence"][0], Digest::of(&position.to_be_bytes()).to_string());
    }
    let beyond = find(&mut conn, issued.id(10_007)).await;
    assert!(matches!(beyond, Err(ReceiptError::NotFound(_))));
}

#[tokio::test]
async fn the_stored_bytes_are_canonical() {
    let (_tenants, mut conn) = tenant().await;
    let ada = actor::named(&mut conn, "ada").await.unwrap();
    let by = By { actor: Some(ada.id), job: Some(7), approval: Some("a-1") };
    let former = ReceiptId { batch: 9, position: 1 };
    let issued = issue(&mut conn, &[full(former), receipt(1)], by).await.unwrap();
    for position in 0..2 {
        let content = find(&mut conn, issued.id(position)).await.unwrap().content;
        let value: Value = serde_json::from_slice(&content).unwrap();
        assert_eq!(canonical::to_bytes(&value).unwrap(), content);
        assert_eq!(value["id"], issued.id(position).to_string());
    }
    assert_eq!(later(&mut conn, former).await.unwrap(), [issued.id(0)]);
}

#[tokio::test]
async fn a1_a_receipt_that_was_altered_or_slipped_in_is_found_out() {
    let (_tenants, mut conn) = tenant().await;
    let issued = issue(&mut conn, &[receipt(0), receipt(1), receipt(2)], By::default()).await.unwrap();
    run(&mut conn, "begin").await;
    run(&mut conn, "update tenant.receipt set content = set_byte(content, 40, 1) where position = 1").await;
    assert_eq!(prove(&mut conn, issued.id(1)).await.unwrap(), Err(Flaw::Altered));
    // The others do not answer for it.
    assert!(prove(&mut conn, issued.id(0)).await.unwrap().is_ok());
    run(&mut conn, "rollback; begin").await;
    run(&mut conn, "update tenant.receipt set content = 'x', leaf = sha256('\\x0078') where position = 1")
        .await;
    assert_eq!(prove(&mut conn, issued.id(1)).await.unwrap(), Err(Flaw::Root(1)));
    run(&mut conn, "rollback; begin").await;
    run(&mut conn, "insert into tenant.receipt select batch, 3, null, leaf, content from tenant.receipt where position = 0").await;
    assert_eq!(prove(&mut conn, issued.id(3)).await.unwrap(), Err(Flaw::Root(1)));
    run(&mut conn, "rollback; begin").await;
    run(&mut conn, "delete from tenant.receipt where position = 2").await;
    assert_eq!(prove(&mut conn, issued.id(0)).await.unwrap(), Err(Flaw::Root(1)));
    run(&mut conn, "rollback; begin; alter table governance.audit_entry disable trigger all").await;
    run(&mut conn, "update governance.audit_entry set content = set_byte(content, 30, 1)").await;
    assert_eq!(prove(&mut conn, issued.id(0)).await.unwrap(), Err(Flaw::Entry(1)));
    run(&mut conn, "delete from governance.audit_entry").await;
    assert_eq!(prove(&mut conn, issued.id(0)).await.unwrap(), Err(Flaw::NotAnchored(1)));
    run(&mut conn, "rollback").await;
    assert!(prove(&mut conn, issued.id(0)).await.unwrap().is_ok());
}

#[tokio::test]
async fn a3_receipts_vanish_with_their_transaction() {
    let (_tenants, mut conn) = tenant().await;
    let mut tx = conn.begin().await.unwrap();
    let issued = issue(&mut tx, &[receipt(0)], By::default()).await.unwrap();
    tx.rollback().await.unwrap();
    assert!(matches!(find(&mut conn, issued.id(0)).await, Err(ReceiptError::NotFound(_))));
    assert_eq!(audit::head(&mut conn).await.unwrap().size, 0);
    assert!(matches!(issue(&mut conn, &[], By::default()).await, Err(ReceiptError::BatchSize)));
}

#[tokio::test]
async fn a_tenants_role_can_issue_and_prove() {
    let tenants = TestTenants::create().await;
    let acme = tenants.add("acme").await;
    let mut write = tenants.for_request(&acme).await.unwrap().write().await.unwrap();
    let issued = issue(&mut write, &[receipt(0)], By::default()).await.unwrap();
    write.commit().await.unwrap();
    let mut read = tenants.for_request(&acme).await.unwrap().read().await.unwrap();
    assert!(prove(&mut read, issued.id(0)).await.unwrap().is_ok());
}

#[test]
fn a_receipts_number_has_one_form() {
    let id = ReceiptId { batch: 42, position: 17 };
    assert_eq!(("42.17".parse(), id.to_string()), (Ok(id), "42.17".to_owned()));
    for bad in ["", "42", "42.", ".17", "042.17", "+42.17", "42.-1", "0.1", "42.1.7"] {
        assert_eq!(bad.parse::<ReceiptId>(), Err(NoReceiptId), "{bad}");
    }
}
