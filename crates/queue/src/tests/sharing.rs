//! Turns between tenants: by their weights, round after round, whoever has how many jobs.

use std::{collections::HashMap, time::Duration};

use chrono::TimeDelta;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use super::{
    capping::tenant,
    support::{Bench, Hand, act, bench},
};
use crate::{CapOn, JobId, Limit, Priority, outcome::Outcome};

async fn fair() -> Bench {
    let bench = bench().await;
    bench.queue.set_limit(&Limit::Fair { queue: "default".into() }).await.unwrap();
    bench
}

/// Jobs of a tenant, as an enqueue would have put them in.
async fn flood(bench: &Bench, of: Uuid, count: i32) {
    sqlx::query(
        "insert into queue.job (queue, kind, payload, tenant, governed)
         select 'default', 'act', '{\"name\":\"x\"}', $1, true from generate_series(1, $2)",
    )
    .bind(of)
    .bind(count)
    .execute(&bench.pool)
    .await
    .unwrap();
}

async fn enqueue(bench: &Bench, of: Uuid, count: usize) {
    let jobs: Vec<_> = (0..count).map(|_| act("x").tenant(of)).collect();
    bench.queue.enqueue_all(&jobs).await.unwrap();
}

/// Whose jobs are claimed, in claims of this size.
async fn drawn(hand: &mut Hand, claims: usize, size: usize) -> Vec<Option<Uuid>> {
    let mut tenants = Vec::new();
    for _ in 0..claims {
        tenants.extend(hand.claim(size).await.iter().map(|job| job.tenant));
    }
    tenants
}

fn counts(tenants: &[Option<Uuid>]) -> HashMap<Option<Uuid>, usize> {
    let mut counts = HashMap::new();
    for tenant in tenants {
        *counts.entry(*tenant).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn q8_t3_a_hundred_thousand_jobs_of_one_tenant_delay_anothers_first_by_one_round() {
    let bench = fair().await;
    let (big, small) = (tenant(1), tenant(2));
    flood(&bench, big, 100_000).await;
    let mut hands = [Hand::new(&bench).await, Hand::new(&bench).await, Hand::new(&bench).await];
    for hand in &mut hands {
        hand.claim(10).await;
    }
    enqueue(&bench, small, 5).await;
    let mut order = Vec::new();
    for hand in &mut hands {
        order.extend(drawn(hand, 1, 1).await);
    }
    assert_eq!(order, [Some(small), Some(big), Some(small)], "whoever claims, they take turns");
}

#[tokio::test]
async fn q8_a_backlog_from_before_the_queue_was_governed_is_shared_too() {
    let bench = bench().await;
    enqueue(&bench, tenant(1), 800).await;
    enqueue(&bench, tenant(2), 5).await;
    bench.queue.set_limit(&Limit::Fair { queue: "default".into() }).await.unwrap();
    let batch = counts(&drawn(&mut Hand::new(&bench).await, 1, 10).await);
    assert_eq!((batch[&Some(tenant(1))], batch[&Some(tenant(2))]), (5, 5));
}

#[tokio::test]
async fn q8_weights_of_three_to_one_give_three_to_one() {
    let bench = fair().await;
    let (heavy, light) = (tenant(1), tenant(2));
    bench.queue.set_limit(&Limit::Weight { tenant: heavy, weight: 3 }).await.unwrap();
    flood(&bench, heavy, 1_000).await;
    flood(&bench, light, 1_000).await;
    let mut hand = Hand::new(&bench).await;
    for (claims, size) in [(40, 1), (1, 40), (8, 5), (20, 2)] {
        let drawn = counts(&drawn(&mut hand, claims, size).await);
        assert_eq!((drawn[&Some(heavy)], drawn[&Some(light)]), (30, 10), "{claims} claims of {size}");
    }
}

#[tokio::test]
async fn jobs_without_a_tenant_are_one_more_participant() {
    let bench = fair().await;
    enqueue(&bench, tenant(1), 20).await;
    let jobs: Vec<_> = (0..20).map(|_| act("x")).collect();
    bench.queue.enqueue_all(&jobs).await.unwrap();
    let drawn = counts(&drawn(&mut Hand::new(&bench).await, 10, 1).await);
    assert_eq!((drawn[&Some(tenant(1))], drawn[&None]), (5, 5));
}

#[tokio::test]
async fn what_one_tenant_leaves_the_others_take() {
    let bench = fair().await;
    flood(&bench, tenant(1), 1_000).await;
    for n in 2..12 {
        enqueue(&bench, tenant(n), 1).await;
    }
    let drawn = counts(&drawn(&mut Hand::new(&bench).await, 1, 100).await);
    assert_eq!((drawn.len(), drawn[&Some(tenant(1))]), (11, 90), "no slot stays empty");
}

#[tokio::test]
async fn q9_a_low_job_of_a_governed_queue_ages_into_its_turn() {
    let bench = fair().await;
    let add = async |priority: Priority, age_secs: i64| -> JobId {
        let run_at = bench.now().await - TimeDelta::seconds(age_secs);
        bench.queue.enqueue(act("x").tenant(tenant(1)).priority(priority).run_at(run_at)).await.unwrap().id
    };
    let young = add(Priority::Low, 0).await;
    let mut hand = Hand::new(&bench).await;
    add(Priority::Urgent, 0).await;
    assert_ne!(hand.claim_one().await.id, young, "it is not its turn yet");
    // Three steps of aging lie between the two.
    let old = add(Priority::Low, 181).await;
    add(Priority::Urgent, 0).await;
    assert_eq!(hand.claim_one().await.id, old);
}

/// What a governed claim touches, all that its function does included.
async fn claim_buffers(conn: &mut PgConnection, limit: usize) -> i64 {
    sqlx::raw_sql("begin").execute(&mut *conn).await.unwrap();
    let mut touched = 0;
    // The first claim of a session also reads the catalog.
    for _ in 0..2 {
        let explain = format!(
            "explain (analyze, buffers, format json) select from queue.claim_governed('default', 1, 30, {limit}, 60)"
        );
        let plan: Value = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(&mut *conn).await.unwrap().get(0);
        let top = &plan[0]["Plan"];
        assert_eq!(top["Actual Rows"], serde_json::json!(limit), "{top}");
        touched = top["Shared Hit Blocks"].as_i64().unwrap() + top["Shared Read Blocks"].as_i64().unwrap();
    }
    sqlx::raw_sql("rollback").execute(conn).await.unwrap();
    touched
}

/// Buffers a governed claim of ten may touch: some probes for each participant it serves, ten rows, and some.
const CLAIM_BUFFERS_MAX: i64 = 1_500;

#[tokio::test]
async fn q14_q15_a_governed_claim_does_not_grow_with_the_backlog_or_the_tenants() {
    let bench = fair().await;
    // Statistics of the empty table.
    bench.sql("analyze queue.job").await;
    let mut conn = bench.conn().await;
    flood(&bench, tenant(1), 100).await;
    let few = claim_buffers(&mut conn, 10).await;
    flood(&bench, tenant(1), 100_000).await;
    let deep = claim_buffers(&mut conn, 10).await;
    bench
        .sql(
            "insert into queue.job (queue, kind, payload, tenant, governed)
             select 'default', 'act', '{\"name\":\"x\"}', gen_random_uuid(), true from generate_series(1, 10000)",
        )
        .await;
    let wide = claim_buffers(&mut conn, 10).await;
    bench.sql("update queue.job set run_at = now() + interval '1 h', governed = null where id % 2 = 0").await;
    bench.sql("analyze queue.job").await;
    let fresh = claim_buffers(&mut bench.conn().await, 10).await;
    println!(
        "buffers: few {few}, 100,000 of one tenant {deep}, 10,000 tenants {wide}, half in the future {fresh}"
    );
    assert!([few, deep, wide, fresh].iter().all(|&touched| touched < CLAIM_BUFFERS_MAX));
}

#[tokio::test]
async fn q14_full_tenants_are_passed_over_without_reading_their_jobs() {
    let bench = fair().await;
    let each = Limit::Cap { queue: Some("default".into()), on: CapOn::EachTenant, running_max: 1 };
    bench.queue.set_limit(&each).await.unwrap();
    for n in 1..=20 {
        flood(&bench, tenant(n), 1_000).await;
    }
    let mut hand = Hand::new(&bench).await;
    assert_eq!(hand.claim(50).await.len(), 20);
    for n in 101..=110 {
        enqueue(&bench, tenant(n), 1).await;
    }
    let touched = claim_buffers_once(&mut hand.conn).await;
    println!("buffers past 20 full tenants with 20,000 jobs: {touched}");
    assert!(touched < 3_000);
}

async fn claim_buffers_once(conn: &mut PgConnection) -> i64 {
    let explain =
        "explain (analyze, buffers, format json) select from queue.claim_governed('default', 1, 30, 10, 60)";
    let plan: Value = sqlx::raw_sql(explain).fetch_one(conn).await.unwrap().get(0);
    assert_eq!(plan[0]["Plan"]["Actual Rows"], serde_json::json!(10));
    plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
}

#[tokio::test]
async fn q8_finished_jobs_make_room_at_once() {
    let bench = fair().await;
    let cap = Limit::Cap { queue: Some("default".into()), on: CapOn::Queue, running_max: 2 };
    bench.queue.set_limit(&cap).await.unwrap();
    flood(&bench, tenant(1), 50).await;
    flood(&bench, tenant(2), 50).await;
    let mut hand = Hand::new(&bench).await;
    let mut held = hand.claim(5).await;
    for _ in 0..20 {
        assert_eq!(held.len(), 2);
        let done = held.remove(0);
        let later = Outcome::Later {
            after: Duration::from_mins(1),
            reason: crate::WaitReason::Snoozed,
            note: String::new(),
        };
        assert!(hand.end(&done, later).await);
        held.extend(hand.claim(5).await);
    }
    assert_eq!(bench.count("select count(*) from queue.turn").await, 1, "one row says whose turn it is");
}
