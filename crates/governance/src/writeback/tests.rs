//! What the schema holds whatever a program believes, and what a plan's digest covers.

use std::collections::BTreeSet;

use database::{control::Tenant, testing::TestTenants};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::*;
use crate::{actor, digest::Digest};

fn plan() -> Plan {
    Plan {
        tenant: Uuid::nil(),
        path: "email".into(),
        connector: "crm".into(),
        stream: "contacts".into(),
        key: "1".into(),
        class: "email_format".into(),
        before: Some(Values::from([("email".into(), json!("A@x.org"))])),
        validator: Some("7".into()),
        desired: Values::from([("email".into(), json!("a@x.org")), ("n".into(), json!(1.50))]),
        definition: Some(Digest::of(b"definition")),
        policy: (3, Digest::of(b"policy")),
        compensates: None,
    }
}

#[test]
fn p5_whatever_changes_in_a_plan_is_another_plan_and_another_key() {
    let other = |change: fn(&mut Plan)| {
        let mut plan = plan();
        change(&mut plan);
        plan
    };
    let plans = [
        plan(),
        other(|plan| plan.tenant = Uuid::max()),
        other(|plan| plan.path = "phone".into()),
        other(|plan| plan.connector = "erp".into()),
        other(|plan| plan.stream = "people".into()),
        other(|plan| plan.key = "2".into()),
        other(|plan| plan.class = "email_case".into()),
        other(|plan| plan.before = None),
        other(|plan| plan.before = Some(Values::from([("email".into(), json!("B@x.org"))]))),
        other(|plan| plan.validator = Some("8".into())),
        other(|plan| plan.validator = None),
        other(|plan| plan.desired.clear()),
        other(|plan| drop(plan.desired.insert("n".into(), json!("1.50")))),
        other(|plan| plan.definition = Some(Digest::of(b"other"))),
        other(|plan| plan.definition = None),
        other(|plan| plan.policy.0 = 4),
        other(|plan| plan.policy.1 = Digest::of(b"other")),
        other(|plan| plan.compensates = Some(WritebackId(9))),
    ];
    let digests: BTreeSet<_> = plans.iter().map(|plan| plan.digest().unwrap()).collect();
    let keys: BTreeSet<_> = plans.iter().map(|plan| plan.idempotency_key(WritebackId(1)).unwrap()).collect();
    assert_eq!((digests.len(), keys.len()), (plans.len(), plans.len()));
    assert_eq!(
        plan().idempotency_key(WritebackId(1)).unwrap(),
        plan().idempotency_key(WritebackId(1)).unwrap()
    );
    assert_ne!(
        plan().idempotency_key(WritebackId(1)).unwrap(),
        plan().idempotency_key(WritebackId(2)).unwrap()
    );
}

/// A planned writeback, as superuser: no privilege stands in the way of what the schema is to refuse.
async fn planned() -> (TestTenants, PgConnection, Writeback) {
    let tenants = TestTenants::create().await;
    let acme = tenants.add("acme").await;
    let mut conn = tenants.inside(&acme).await;
    let ada = actor::named(&mut conn, "ada").await.unwrap().id;
    let new = NewWriteback {
        plan: Plan { tenant: acme.id.0, ..plan() },
        confidence: 97,
        evidence: Digest::of(b"case"),
        requested_by: ada,
        accepted_by: Some(ada),
    };
    let entered = enter(&mut conn, &new).await.unwrap();
    assert_eq!((entered.plan.clone(), entered.state), (new.plan, State::Planned));
    (tenants, conn, entered)
}

/// The constraint by which the database refuses a statement.
async fn refused(conn: &mut PgConnection, sql: &str) -> String {
    let error = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap_err();
    let error = error.as_database_error().unwrap();
    error.constraint().unwrap_or_else(|| error.message()).to_owned()
}

#[tokio::test]
async fn w1_no_arrow_exists_but_those_of_the_machine() {
    let (_tenants, mut conn, _) = planned().await;
    let mut arrows = Vec::new();
    for from in State::ALL {
        for to in State::ALL {
            let exists = "select tenant.writeback_arrow_exists($1, $2)";
            let found: bool = sqlx::query_scalar(exists)
                .bind(from.name())
                .bind(to.name())
                .fetch_one(&mut conn)
                .await
                .unwrap();
            if found {
                arrows.push(format!("{from}>{to}"));
            }
        }
    }
    let to_verified: Vec<_> = arrows.iter().filter(|arrow| arrow.ends_with(">verified")).collect();
    assert_eq!(to_verified, ["sent>verified", "unknown>verified", "mismatch>verified"], "only by a read");
    let to_intent: Vec<_> = arrows.iter().filter(|arrow| arrow.ends_with(">intent")).collect();
    assert_eq!(to_intent, ["approved>intent", "held>intent", "unknown>intent"]);
    assert!(!arrows.iter().any(|arrow| arrow.starts_with("compensated") || arrow.starts_with("accepted")));
    assert_eq!(arrows.len(), 25);
}

#[tokio::test]
async fn w2_the_schema_refuses_a_shortcut_another_plan_and_a_send_without_an_intent() {
    let (_tenants, mut conn, _) = planned().await;
    for (statement, constraint) in [
        ("update tenant.writeback set state = 'sent', steps = 1", "writeback_arrow_exists"),
        ("update tenant.writeback set state = 'approved'", "writeback_arrow_exists"),
        ("update tenant.writeback set desired = '{\"email\": 1}'", "writeback_plan_is_fixed"),
        ("update tenant.writeback set accepted_by = null", "writeback_plan_is_fixed"),
        ("update tenant.writeback set sends = 1", "writeback_sends_follow_intent"),
        ("update tenant.writeback set idempotency_key = sha256('')", "writeback_intent_is_complete"),
        (
            "update tenant.writeback set state = 'approved', steps = 1;
             update tenant.writeback set state = 'intent', steps = 2",
            "writeback_intent_is_complete",
        ),
    ] {
        assert_eq!(refused(&mut conn, statement).await, constraint, "{statement}");
    }
    for statement in ["delete from tenant.writeback", "update tenant.writeback_step set to_state = 'sent'"] {
        assert!(refused(&mut conn, statement).await.contains("kept as they were"), "{statement}");
    }
}

#[tokio::test]
async fn w1_an_arrow_is_taken_once() {
    let (_tenants, mut conn, seen) = planned().await;
    let step = Move::by_job(7, State::Approved, "no_gate");
    assert_eq!(advance(&mut conn, &seen, &step).await.unwrap().steps, 1);
    let again = advance(&mut conn, &seen, &step).await;
    assert!(matches!(again, Err(WritebackError::Moved { .. })), "{again:?}");
    assert_eq!(steps(&mut conn, seen.id).await.unwrap().len(), 2);
}

/// Until the task waits for a lock; false if it ends before.
async fn waits<T>(tenants: &TestTenants, acme: &Tenant, task: &tokio::task::JoinHandle<T>) -> bool {
    let mut conn = tenants.inside(acme).await;
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut conn).await.unwrap() == 0 {
        if task.is_finished() {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

async fn is_head_free(tenants: &TestTenants, acme: &Tenant) -> bool {
    let mut conn = tenants.inside(acme).await;
    sqlx::raw_sql("select from governance.audit_head for update nowait").execute(&mut conn).await.is_ok()
}

#[tokio::test]
async fn a_change_is_entered_behind_the_gates_and_before_the_chain() {
    let tenants = TestTenants::create().await;
    let acme = tenants.add("acme").await;
    let mut own = tenants.inside(&acme).await;
    let ada = actor::named(&mut own, "ada").await.unwrap().id;
    let mut setter = tenants.inside(&acme).await;
    let hold = "begin; select from governance.gate_mode for update";
    sqlx::raw_sql(hold).execute(&mut setter).await.unwrap();
    let new = NewWriteback {
        plan: plan(),
        confidence: 97,
        evidence: Digest::of(b"case"),
        requested_by: ada,
        accepted_by: Some(ada),
    };
    let entering = tokio::spawn(async move {
        let mut own = own.begin().await.unwrap();
        let entered = enter(&mut own, &new).await?;
        ask(&mut own, &entered, None).await?;
        own.commit().await.unwrap();
        Ok::<_, WritebackError>(())
    });
    assert!(waits(&tenants, &acme, &entering).await);
    assert!(is_head_free(&tenants, &acme).await, "who changes a gate takes it");
    sqlx::raw_sql("commit").execute(&mut setter).await.unwrap();
    entering.await.unwrap().unwrap();
}

#[tokio::test]
async fn w7_an_undoing_takes_the_head_of_the_chain_after_the_original() {
    const SENT: &str = "set session_replication_role = replica;
        update tenant.writeback set idempotency_key = sha256(''), intent_at = now(), intent_job = 1, sends = 1,
            observed = desired, reads = 1, state = case when compensates is null then 'verified' else 'sent' end,
            ended_at = case when compensates is null then now() end;
        set session_replication_role = origin";
    let tenants = TestTenants::create().await;
    let acme = tenants.add("acme").await;
    let mut own = tenants.inside(&acme).await;
    let ada = actor::named(&mut own, "ada").await.unwrap().id;
    let of = |plan: Plan| NewWriteback {
        plan,
        confidence: 97,
        evidence: Digest::of(b"case"),
        requested_by: ada,
        accepted_by: Some(ada),
    };
    let original = enter(&mut own, &of(plan())).await.unwrap();
    sqlx::raw_sql(SENT).execute(&mut own).await.unwrap();
    let undoing = Plan { compensates: Some(original.id), ..plan() };
    let undoing = enter(&mut own, &of(undoing)).await.unwrap();
    sqlx::raw_sql(SENT).execute(&mut own).await.unwrap();
    let undoing = find(&mut own, undoing.id).await.unwrap();
    let mut checker = tenants.inside(&acme).await;
    let hold = "begin; select from tenant.writeback where compensates is null for no key update";
    sqlx::raw_sql(hold).execute(&mut checker).await.unwrap();
    let verifying = tokio::spawn(async move {
        let mut own = own.begin().await.unwrap();
        let moved = advance(&mut own, &undoing, &Move::by_job(1, State::Verified, "read_back")).await;
        own.commit().await.unwrap();
        moved
    });
    assert!(waits(&tenants, &acme, &verifying).await, "the original goes along with it");
    assert!(is_head_free(&tenants, &acme).await, "who checks the original takes it");
    sqlx::raw_sql("commit").execute(&mut checker).await.unwrap();
    verifying.await.unwrap().unwrap();
}
