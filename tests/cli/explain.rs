//! `job explain`: every reason there is, the same from the SQL function, the terminal and JSON.

use queue::Reason;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::support::Bench;

/// A worker that lives and knows the kind, and one due job of a tenant: what each case starts from.
const SETTING: &str = "truncate queue.worker, queue.job, queue.queue, queue.frozen_tenant,
    queue.dependency, queue.governed, queue.cap;
    insert into queue.worker (name, host, pid, version, queues, slots, kinds)
    values ('w-1', 'here', 1, '1', '{local}', 4, '{tenant_provision}');
    insert into queue.job (id, queue, kind, tenant, payload, run_at)
    values (1, 'local', 'tenant_provision', '00000000-0000-0000-0000-000000000007', '{}', now() - interval '1 min')";

/// How each reason is brought about.
const CASES: &[(Reason, &str)] = &[
    (Reason::Quarantined, "update queue.job set state = 3, crashes = 2, note = 'it ran alone'"),
    (
        Reason::LeaseHeld,
        "update queue.job set state = 1, started_at = now(), lease_expires_at = now() + interval '30 s',
            worker = (select id from queue.worker)",
    ),
    (
        Reason::TenantFrozen,
        "insert into queue.frozen_tenant (tenant, frozen_by, reason)
            values ('00000000-0000-0000-0000-000000000007', 'ada', 'they asked us to');
         update queue.job set state = 2, reason = 8",
    ),
    (
        Reason::QueuePaused,
        "insert into queue.queue (name, paused_at, paused_by, pause_reason) values ('local', now(), 'ada', 'down')",
    ),
    (
        Reason::WaitingOn,
        "update queue.job set state = 2, reason = 7;
         insert into queue.job (id, queue, kind, payload) values (2, 'other', 'tenant_provision', '{}');
         insert into queue.dependency (waiter, parent, policy) values (1, 2, 0)",
    ),
    (Reason::Scheduled, "update queue.job set run_at = now() + interval '1 h'"),
    (
        Reason::RetryBackoff,
        "update queue.job set run_at = now() + interval '1 h', reason = 1, failures = 1, note = 'no answer'",
    ),
    (Reason::Throttled, "update queue.job set run_at = now() + interval '1 h', reason = 2, note = '429'"),
    (Reason::Snoozed, "update queue.job set run_at = now() + interval '1 h', reason = 3, note = 'not yet'"),
    (
        Reason::AwaitingApproval,
        "update queue.job set run_at = now() + interval '1 h', reason = 9, note = 'the owner decides'",
    ),
    (Reason::NoLiveWorker, "update queue.worker set ended_at = now()"),
    (Reason::Isolation, "update queue.job set suspect = true"),
    (
        Reason::CapFull,
        "insert into queue.governed (queue) values ('local');
         insert into queue.cap (queue, running_max) values ('local', 1);
         insert into queue.job (id, queue, kind, payload, state, governed, worker, lease_expires_at)
         values (3, 'local', 'tenant_provision', '{}', 1, true, (select id from queue.worker), now() + interval '30 s')",
    ),
    (Reason::Behind, "select 1"),
];

fn name_of(reason: Reason) -> String {
    serde_json::to_value(reason).unwrap().as_str().unwrap().to_owned()
}

async fn from_sql(conn: &mut PgConnection) -> Value {
    let asked = "select jsonb_build_object('state', state, 'reason', reason, 'since', since, 'until', until, 'evidence',
        evidence) from queue.explain(1)";
    sqlx::query_scalar(asked).fetch_one(conn).await.unwrap()
}

/// Two renderings of one time.
fn same_time(a: &Value, b: &Value) -> bool {
    let time =
        |value: &Value| value.as_str().map(|text| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap());
    time(a) == time(b)
}

#[tokio::test]
async fn q13_every_reason_is_the_same_in_sql_on_the_terminal_and_as_json() {
    let bench = Bench::with_database().await;
    let mut conn = bench.connect().await;
    for (reason, provoke) in CASES {
        let statements = AssertSqlSafe(format!("{SETTING}; {provoke}"));
        sqlx::raw_sql(statements).execute(&mut conn).await.unwrap();
        let name = name_of(*reason);
        let sql = from_sql(&mut conn).await;
        assert_eq!(sql["reason"], name, "{sql}");
        let json = bench.json(&["job", "explain", "1"]);
        for member in ["state", "reason", "evidence"] {
            assert_eq!(json[member], sql[member], "{name}: {member}");
        }
        for time in ["since", "until"] {
            assert!(same_time(&json[time], &sql[time]), "{name}: {time}: {json} {sql}");
        }
        let text = bench.ok(&["job", "explain", "1"]);
        let line = text.lines().find_map(|line| line.strip_prefix("reason")).unwrap();
        assert_eq!(line.trim(), name, "{text}");
        assert!(text.contains(json["said"].as_str().unwrap()), "{text}");
    }
    let all = Reason::ALL.map(name_of);
    let told: Vec<String> = CASES.iter().map(|(reason, _)| name_of(*reason)).collect();
    assert_eq!(told, all, "each reason has its case, in the order of precedence");
}

#[tokio::test]
async fn what_is_not_there_cannot_be_explained_or_released() {
    let bench = Bench::with_database().await;
    for verb in ["explain", "release"] {
        assert_eq!(bench.run(&["job", verb, "77"]).code, Some(3), "{verb}");
    }
    bench.ok(&["tenant", "create", "acme"]);
    let refused = bench.run(&["job", "release", "1"]);
    assert_eq!(refused.code, Some(4), "{refused:#?}");
    assert!(refused.stderr.contains("ready, not quarantined"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_frozen_tenant_is_thawed_by_its_name() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme"]);
    bench.ok(&["tenant", "freeze", "acme", "--reason", "why", "--dry-run"]);
    assert_eq!(bench.run(&["tenant", "thaw", "acme"]).code, Some(4), "a dry run does nothing");
    assert_eq!(bench.json(&["tenant", "freeze", "acme", "--reason", "why"])["jobs"], 1);
    assert_eq!(bench.json(&["job", "explain", "1"])["reason"], "tenant_frozen");
    assert_eq!(bench.json(&["tenant", "thaw", "acme"])["jobs"], 1);
    assert_eq!(bench.json(&["job", "get", "1"])["job"]["state"], "ready");
}
