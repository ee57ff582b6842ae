//! What the hot statements cost and which indexes they take, whatever lies dead before them and whatever the statistics say.
//!
//! The plans are those of the very statements that the code prepared: they are asked for by name on its connection.

use std::time::Duration;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Row, Transaction};

use super::support::{Bench, Hand, act, bench, failure};
use crate::{
    Claimed, Done, Progress, Until, WaitReason, dependency, full_look, governed, lease, outcome::Outcome,
    release, rescue, schedule::fire,
};

/// Buffers a claim of ten may touch: ten rows in three indexes and the heap, four lanes' heads, and some.
const CLAIM_BUFFERS_MAX: i64 = 400;

async fn bulk(bench: &Bench, statement: &'static str) {
    sqlx::query(statement).execute(&bench.pool).await.unwrap();
}

const DUE: &str = "insert into queue.job (queue, kind, payload, priority, run_at)
    select 'default', 'act', '{\"name\":\"x\"}', 2, now() - interval '1 h' + i * interval '1 ms'
    from generate_series(1, 200000) as i";

const RUNNING: &str = "insert into queue.job (queue, kind, payload, state, worker, lease_expires_at)
    select 'default', 'act', '{}', 1, 0, now() - interval '1 h' from generate_series(1, 200000)";

/// Keeps vacuum from removing what is deleted from now on, as long as it is held.
async fn pin(conn: &mut PgConnection) -> Transaction<'_, Postgres> {
    let mut snapshot = conn.begin().await.unwrap();
    sqlx::raw_sql("set transaction isolation level repeatable read; select count(*) from queue.job")
        .execute(&mut *snapshot)
        .await
        .unwrap();
    snapshot
}

/// What the statement on top of a plan touched.
fn buffers(plan: &Value) -> i64 {
    let top = &plan[0]["Plan"];
    top["Shared Hit Blocks"].as_i64().unwrap() + top["Shared Read Blocks"].as_i64().unwrap()
}

/// Explains the claim as the worker would send it, from this mark in the lane of normal priority, and rolls it back.
async fn claim_buffers(conn: &mut PgConnection, mark: Option<&Claimed>) -> i64 {
    let (at, id) = match mark {
        None => ("'1970-01-01+00'".to_owned(), 0),
        Some(job) => {
            let at: String = sqlx::query_scalar("select run_at::text from queue.job where id = $1")
                .bind(job.id.0)
                .fetch_one(&mut *conn)
                .await
                .unwrap();
            (format!("'{at}'"), job.id.0)
        }
    };
    let prepare = format!("deallocate all; prepare claim_probe as {}", include_str!("../claim.sql"));
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *conn).await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    let explain = format!(
        "explain (analyze, buffers, format json) execute claim_probe('default', '{{0,1,2,3}}',
            array['1970-01-01+00', '1970-01-01+00', {at}, '1970-01-01+00']::timestamptz[], '{{0,0,{id},0}}', 60, 10, 1, 30)"
    );
    let plan = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(&mut *tx).await.unwrap();
    let plan: Value = plan.get(0);
    tx.rollback().await.unwrap();
    let top = &plan[0]["Plan"];
    assert_eq!(top["Actual Rows"], serde_json::json!(10), "{top}");
    buffers(&plan)
}

#[tokio::test]
async fn q14_a_claim_does_not_walk_over_dead_rows_that_a_snapshot_pins() {
    let bench = bench().await;
    let mut holder = bench.db.connect().await;
    let snapshot = pin(&mut holder).await;
    bulk(&bench, DUE).await;
    bulk(&bench, "delete from queue.job").await;
    let live: Vec<_> = (0..100).map(|_| act("x")).collect();
    bench.queue.enqueue_all(&live).await.unwrap();

    let mut hand = Hand::new(&bench).await;
    let first = hand.claim(10).await;
    let mark = first.iter().min_by_key(|job| job.id).unwrap();
    let from_the_mark = claim_buffers(&mut hand.conn, Some(mark)).await;
    let from_the_beginning = claim_buffers(&mut hand.conn, None).await;
    println!("buffers from the mark {from_the_mark}, from the beginning {from_the_beginning}");
    assert!(from_the_mark < CLAIM_BUFFERS_MAX);
    assert!(from_the_beginning > 5 * CLAIM_BUFFERS_MAX, "the dead rows were there");
    snapshot.rollback().await.unwrap();
}

/// What the look for ended leases touches from this mark on.
async fn rescue_buffers(conn: &mut PgConnection, mark: &str) -> i64 {
    let prepare = format!("deallocate all; prepare rescue_probe as {}", include_str!("../rescue.sql"));
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *conn).await.unwrap();
    let explain =
        format!("explain (analyze, buffers, format json) execute rescue_probe('{{}}', 2, {mark}, 1000)");
    let plan = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(conn).await.unwrap();
    buffers(&plan.get(0))
}

#[tokio::test]
async fn q14_a_look_for_ended_leases_does_not_walk_over_dead_rows_that_a_snapshot_pins() {
    let bench = bench().await;
    let mut holder = bench.db.connect().await;
    let snapshot = pin(&mut holder).await;
    bulk(&bench, RUNNING).await;
    bulk(&bench, "delete from queue.job").await;

    let mut hand = Hand::new(&bench).await;
    let from_the_mark = rescue_buffers(&mut hand.conn, "now() - interval '1 s'").await;
    let from_the_beginning = rescue_buffers(&mut hand.conn, "'1970-01-01+00'").await;
    println!("buffers from the mark {from_the_mark}, from the beginning {from_the_beginning}");
    assert!(from_the_mark < 20);
    assert!(from_the_beginning > 2_000, "the dead rows were there");
    snapshot.rollback().await.unwrap();
}

#[tokio::test]
async fn q14_a_claimer_starts_at_its_mark_between_full_looks() {
    let bench = bench().await;
    let mut hand = Hand::new(&bench).await;
    let jobs: Vec<_> = (0..3).map(|_| act("x")).collect();
    bench.queue.enqueue_all(&jobs).await.unwrap();
    hand.lanes.look_from_the_beginning_in(Duration::ZERO);
    let marked = hand.claim_one().await;
    hand.lanes.look_from_the_beginning_in(Duration::from_hours(1));
    sqlx::query(
        "update queue.job set run_at = now() - interval '1 h' where id = (select max(id) from queue.job)",
    )
    .execute(&bench.pool)
    .await
    .unwrap();
    let rest = hand.claim(10).await;
    assert_eq!(rest.len(), 1, "what was backdated lies before the mark");
    hand.lanes.look_from_the_beginning_in(Duration::ZERO);
    let backdated = hand.claim_one().await;
    assert!(backdated.id > rest[0].id && rest[0].id > marked.id);
}

#[tokio::test]
async fn q14_a_claim_does_not_walk_over_future_or_finished_jobs() {
    let bench = bench().await;
    bulk(
        &bench,
        "insert into queue.job (queue, kind, payload, priority, run_at)
        select 'default', 'act', '{}', i % 4, now() + interval '1 h' from generate_series(1, 200000) as i",
    )
    .await;
    bulk(&bench, "insert into queue.job_history (id, fence, run_at, created_at, finished_at, outcome, priority, attempt,
            attempts_max, failures, losses, crashes, queue, kind, payload)
        select -i, i, now(), now(), now(), 1, 2, 1, 3, 0, 0, 0, 'default', 'act', '{}' from generate_series(1, 100000) as i")
    .await;
    let live: Vec<_> = (0..10).map(|_| act("x")).collect();
    bench.queue.enqueue_all(&live).await.unwrap();
    let buffers = claim_buffers(&mut bench.conn().await, None).await;
    println!("buffers beside 200,000 future jobs: {buffers}");
    assert!(buffers < CLAIM_BUFFERS_MAX);
}

/// Runs every hot statement once on the connection, as the worker does.
async fn run_hot_statements(bench: &Bench, hand: &mut Hand) {
    let worker = hand.claimer.worker;
    let claimed = hand.claim(4).await;
    assert_eq!(claimed.len(), 4);
    let (parents, until) = (hand.claim(2).await, Until::Succeeded);
    bench.queue.enqueue(act("waiter").after(parents.iter().map(|job| job.id), until)).await.unwrap();
    let fan = Done::new().fan_out([act("child")], act("then").after([parents[1].id], until), until).unwrap();
    let outcomes = [Outcome::Succeeded(fan), Outcome::Failed(failure("x"))];
    for (parent, outcome) in parents.iter().zip(outcomes) {
        assert!(hand.end(parent, outcome).await);
    }
    let progress = Some(Progress { done: 1, total: None, message: String::new() });
    let beat = lease::Beat { id: claimed[0].id, fence: claimed[0].fence, checkpointed: true, progress };
    assert_eq!(lease::renew(&mut hand.conn, Duration::from_secs(30), &[beat]).await.unwrap().len(), 1);
    let done = Done::new().follow_up(act("next"));
    assert!(hand.end(&claimed[0], Outcome::Succeeded(done)).await);
    assert!(hand.end(&claimed[1], Outcome::Retry { failure: failure("x"), after: Duration::ZERO }).await);
    let later = Outcome::Later { after: Duration::ZERO, reason: WaitReason::Snoozed, note: String::new() };
    assert!(hand.end(&claimed[2], later).await);
    bench.expire(claimed[3].id).await;
    rescue::bury(&mut hand.conn, &[worker]).await.unwrap();
    rescue::rescue(&mut hand.conn, &[worker], full_look::BEGINNING).await.unwrap();
    release::disown(&mut hand.conn, worker, "default", &[]).await.unwrap();
    dependency::sweep(&mut hand.conn, &mut dependency::Cursor::default()).await.unwrap();
    crate::claim::oldest_suspect(&mut hand.conn, "default").await.unwrap();
    crate::claim::claim_suspect(&mut hand.conn, &"default".into(), hand.claimer).await.unwrap();
    fire::next_due_in(&mut hand.conn).await.unwrap();
    fire::fire_due(&mut hand.conn).await.unwrap();
    governed::line_up(&mut hand.conn, "default").await.unwrap();
    governed::dissolve(&mut hand.conn).await.unwrap();
}

/// The generic plans of all statements that are prepared on the connection, by the name in their first line.
async fn plans(conn: &mut PgConnection) -> Vec<(String, Value)> {
    let prepared = sqlx::raw_sql(
        "select name, statement, cardinality(parameter_types) as parameters from pg_prepared_statements
         where statement like '-- queue.%' order by name",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let mut plans = Vec::new();
    for row in prepared {
        let (name, statement): (String, String) = (row.get("name"), row.get("statement"));
        let nulls = vec!["null"; usize::try_from(row.get::<i32, _>("parameters")).unwrap()].join(", ");
        let arguments = if nulls.is_empty() { String::new() } else { format!("({nulls})") };
        let explain = format!("explain (format json) execute {name}{arguments}");
        let plan = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(&mut *conn).await.unwrap();
        let title = statement.lines().next().unwrap().trim_start_matches("-- ").to_owned();
        plans.push((title, plan.get(0)));
    }
    plans
}

/// Every node of a plan.
fn nodes(plan: &Value) -> Vec<&Value> {
    let below = plan["Plans"].as_array().into_iter().flatten().flat_map(nodes);
    std::iter::once(plan).chain(below).collect()
}

fn check_plan(title: &str, plan: &Value) {
    let mut indexes = Vec::new();
    for node in nodes(&plan[0]["Plan"]) {
        let (kind, relation) = (node["Node Type"].as_str().unwrap(), node["Relation Name"].as_str());
        if let Some(relation @ ("job" | "dependency")) = relation
            && kind != "ModifyTable"
        {
            assert!(
                matches!(kind, "Index Scan" | "Index Only Scan"),
                "{title}: {kind} of {relation}\n{plan:#}"
            );
            // A scan without a condition reads the whole index.
            assert!(
                node.get("Index Cond").is_some()
                    || node["Index Name"] == "job_lease"
                    || node["Index Name"] == "job_line",
                "{title}\n{plan:#}"
            );
        }
        // One side of it would be gone through again for each row of the other.
        assert!(node.get("Join Filter").is_none(), "{title}: joins by trying every pair\n{plan:#}");
        if let Some(index) = node["Index Name"].as_str() {
            indexes.push(index.to_owned());
        }
        if kind == "Sort" {
            // The four lanes are put in order by a sum; a lane's jobs must come in order from their index.
            let mut keys = node["Sort Key"].as_array().unwrap().iter().map(|key| key.as_str().unwrap());
            assert!(!keys.any(|key| key.ends_with("run_at")), "{title}: sorts a lane\n{plan:#}");
        }
    }
    let wanted: &[&str] = match title {
        "queue.claim" | "queue.line_up" => &["job_ready", "job_pkey"],
        "queue.claim_suspect" => &["job_suspect", "job_pkey"],
        "queue.oldest_suspect" => &["job_suspect"],
        "queue.finish" | "queue.renew" | "queue.release" => &["job_pkey"],
        "queue.rescue" | "queue.rescue_cancelled" => &["job_lease", "job_pkey"],
        "queue.next_due" | "queue.lock_due" => &["schedule_due"],
        "queue.bury" | "queue.disown" => &["job_lease"],
        "queue.find_waiters" => &["dependency_parent"],
        "queue.sweep" | "queue.watch" | "queue.look_after_waiters" => &["dependency_open", "job_pkey"],
        "queue.dissolve" => &["job_line", "job_pkey"],
        _ => &[],
    };
    for index in wanted {
        assert!(indexes.iter().any(|used| used == index), "{title} does not use {index}\n{plan:#}");
    }
}

async fn check_plans(bench: &Bench) {
    let mut hand = Hand::new(bench).await;
    run_hot_statements(bench, &mut hand).await;
    let plans = plans(&mut hand.conn).await;
    let titles: Vec<&str> = plans.iter().map(|(title, _)| title.as_str()).collect();
    let engine = [
        "claim",
        "finish",
        "renew",
        "release",
        "rescue",
        "rescue_cancelled",
        "bury",
        "disown",
        "line_up",
        "dissolve",
    ];
    let of_dependencies = ["find_waiters", "settle_dependencies", "sweep", "watch", "look_after_waiters"];
    let of_schedules = ["next_due", "lock_due"];
    for hot in engine.into_iter().chain(of_dependencies).chain(of_schedules) {
        assert!(titles.contains(&&*format!("queue.{hot}")), "{hot} is not among {titles:?}");
    }
    for (title, plan) in &plans {
        check_plan(title, plan);
    }
}

const BULK: &str = "insert into queue.job (queue, kind, payload, run_at)
    select 'default', 'act', '{\"name\":\"x\"}', now() - interval '1 h' from generate_series(1, 30000)";

#[tokio::test]
async fn q15_statistics_of_an_empty_table_mislead_no_hot_statement() {
    let bench = bench().await;
    bulk(&bench, "analyze queue.job").await;
    bulk(&bench, BULK).await;
    check_plans(&bench).await;
}

/// Autovacuum leaves them behind when it meets the table between two bursts: pages, and not one row in them. The planner
/// then takes any scan of the table to be free.
#[tokio::test]
async fn q15_statistics_of_pages_without_rows_mislead_no_hot_statement() {
    let bench = bench().await;
    bulk(&bench, BULK).await;
    bulk(&bench, "delete from queue.job").await;
    bulk(&bench, "vacuum (analyze, truncate off) queue.job").await;
    bulk(&bench, BULK).await;
    check_plans(&bench).await;
}

#[tokio::test]
async fn q15_statistics_of_a_table_whose_jobs_all_run_mislead_no_hot_statement() {
    let bench = bench().await;
    bulk(&bench, BULK).await;
    bulk(&bench, "update queue.job set state = 1, worker = 0, lease_expires_at = now() + interval '1 h'")
        .await;
    bulk(&bench, "analyze queue.job").await;
    bulk(&bench, BULK).await;
    check_plans(&bench).await;
}

#[tokio::test]
async fn q15_statistics_of_a_table_of_ready_jobs_mislead_no_hot_statement() {
    let bench = bench().await;
    bulk(&bench, BULK).await;
    bulk(&bench, "analyze queue.job").await;
    check_plans(&bench).await;
}

/// 30,000 jobs, each of which waits for one that is there, and one that waits for a thousand.
const WAITERS: &str = "with waiter as (
        insert into queue.job (queue, kind, payload, state, reason)
        select 'default', 'act', '{}', 2, 7 from generate_series(1, 30000) returning id
    ), parent as (
        insert into queue.job (queue, kind, payload, awaited)
        select 'default', 'act', '{}', true from generate_series(1, 1000) returning id
    ), wide as (
        insert into queue.job (id, queue, kind, payload, state, reason) values (-1, 'default', 'act', '{}', 2, 7)
    )
    insert into queue.dependency (waiter, parent, policy)
    select waiter.id, parent, 0 from waiter, lateral (select id as parent from parent offset waiter.id % 7 limit 1) as p
    union all select -1, id, 0 from parent";

/// What settling one edge of the job that waits for a thousand touches, inside of the function too.
async fn settle_buffers(conn: &mut PgConnection) -> i64 {
    let parent: i64 =
        sqlx::query_scalar("select max(parent) from queue.dependency where waiter = -1 and outcome is null")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
    let explain = format!(
        "explain (analyze, buffers, format json) select * from queue.settle_dependencies('{{-1}}', '{{{parent}}}', '{{1}}')"
    );
    let plan = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(conn).await.unwrap();
    buffers(&plan.get(0))
}

#[tokio::test]
async fn q15_settling_a_dependency_costs_the_same_beside_any_number_of_others() {
    let bench = bench().await;
    bulk(&bench, "analyze queue.job").await;
    bulk(&bench, "analyze queue.dependency").await;
    // An operator's cancellation comes over a connection without the worker's settings.
    let mut conns = [bench.conn().await, bench.db.connect().await];
    for conn in &mut conns {
        // The plans of a session are made while there is nothing.
        sqlx::raw_sql("select from queue.settle_dependencies('{-1}', '{-2}', '{1}')")
            .execute(conn)
            .await
            .unwrap();
    }
    bulk(&bench, WAITERS).await;
    for mut conn in conns {
        let mut looks = Vec::new();
        for _ in 0..21 {
            looks.push(settle_buffers(&mut conn).await);
        }
        // The middle one: whoever changes much of a catalogue, in any database of the server, makes every session
        // read it anew, some thousand buffers.
        looks.sort_unstable();
        println!("buffers for one of a thousand edges: {looks:?}");
        assert!(looks[10] < 80);
        // The other session settles with what an analysis leaves that saw the pages before their rows were committed.
        bulk(
            &bench,
            "update pg_class set reltuples = 0 where oid = 'queue.dependency'::regclass
                or oid in (select indexrelid from pg_index where indrelid = 'queue.dependency'::regclass)",
        )
        .await;
    }
}

#[tokio::test]
async fn q14_for_jobs_that_nobody_waits_for_no_statement_is_sent() {
    let bench = bench().await;
    for _ in 0..4 {
        bench.enqueue("x").await;
    }
    let mut hand = Hand::new(&bench).await;
    let outcomes = [
        Outcome::Succeeded(Done::new().follow_up(act("next").queue("other"))),
        Outcome::Failed(failure("x")),
        Outcome::Cancelled { note: String::new() },
    ];
    for outcome in outcomes {
        let claimed = hand.claim_one().await;
        assert!(hand.end(&claimed, outcome).await);
    }
    let prepared: Vec<String> = plans(&mut hand.conn).await.into_iter().map(|(title, _)| title).collect();
    let sent: std::collections::BTreeSet<&str> = prepared.iter().map(String::as_str).collect();
    assert_eq!(Vec::from_iter(sent), ["queue.claim", "queue.finish", "queue.register"]);
}
