//! What people do is in the chain: operators' deeds in the platform's, reads in the tenant's.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::support::Bench;

/// The entries of the control database's chain, or of the only tenant's.
async fn chain(conn: &mut PgConnection) -> Vec<Value> {
    let all = "select content from governance.audit_entry order by seq";
    let contents: Vec<Vec<u8>> = sqlx::query_scalar(all).fetch_all(conn).await.unwrap();
    contents.iter().map(|content| serde_json::from_slice(content).unwrap()).collect()
}

fn kinds(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect()
}

/// A connection to the only tenant's database as superuser.
async fn tenant(bench: &Bench) -> PgConnection {
    let name: String = sqlx::query_scalar("select database_name from control.tenant")
        .fetch_one(&mut bench.connect().await)
        .await
        .unwrap();
    PgConnection::connect_with(&bench.database().options().database(&name)).await.unwrap()
}

/// The places in these schemas, as `table.column`, where the word stands in any text or bytes.
pub(super) async fn places(conn: &mut PgConnection, schemas: &[&str], word: &str) -> Vec<String> {
    let columns = "select format('%I.%I', n.nspname, c.relname), a.attname
        from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = any($1) and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
        order by 1, 2";
    let columns = sqlx::query(columns).bind(schemas).fetch_all(&mut *conn).await.unwrap();
    assert!(columns.len() > 20, "the schemas {schemas:?} have {} columns", columns.len());
    let mut found = Vec::new();
    for column in columns {
        let (table, column): (String, String) = (column.get(0), column.get(1));
        // Bytes as text show letters as they are.
        let count = format!(
            "select count(*) from {table} where position($1 in encode(convert_to({column}::text, 'UTF8'), 'escape')) > 0
                or position(encode(convert_to($1, 'UTF8'), 'hex') in {column}::text) > 0"
        );
        let count: i64 =
            sqlx::query_scalar(AssertSqlSafe(count)).bind(word).fetch_one(&mut *conn).await.unwrap();
        if count > 0 {
            found.push(format!("{table}.{column}"));
        }
    }
    found
}

#[tokio::test]
async fn what_an_operator_does_to_jobs_queues_and_schedules_is_in_the_platforms_chain() {
    let bench = Bench::with_database().await;
    let job = bench.json(&["tenant", "create", "acme"])["job"].as_str().unwrap().to_owned();
    for dry in [&["queue", "pause", "local"][..], &["job", "cancel", &job], &["tenant", "thaw", "acme"]] {
        bench.ok(&[dry, &["--dry-run"]].concat());
    }
    bench.ok(&["queue", "pause", "local", "--reason", "Grace asked for it"]);
    bench.ok(&["job", "snooze", &job, "--for", "1h"]);
    bench.ok(&["job", "retry", &job]);
    bench.ok(&["job", "reprioritise", &job, "high"]);
    bench.ok(&["job", "cancel", &job]);
    assert_eq!(bench.run(&["job", "cancel", &job]).code, Some(4), "and is not on record");
    bench.ok(&["job", "retry", &job]);
    bench.ok(&["queue", "resume", "local"]);
    bench.ok(&["queue", "resume", "local"]);
    bench.ok(&["tenant", "freeze", "acme", "--reason", "Grace asked for it"]);
    bench.ok(&["tenant", "thaw", "acme"]);
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    bench.ok(&["queue", "limit", "set", "--key", "grace@example.com", "--rate", "1/1m"]);
    bench.ok(&["queue", "limit", "clear", "--key", "grace@example.com"]);
    let create = ["schedule", "create", "nightly", "audit_checkpoint", "--cron", "@daily", "--zone", "UTC"];
    bench.ok(&create);
    bench.ok(&create);
    bench.ok(&["schedule", "pause", "nightly", "--reason", "Grace asked for it"]);
    bench.ok(&["schedule", "resume", "nightly"]);
    bench.ok(&["schedule", "run", "nightly"]);
    let range = ["--from", "2025-01-01T00:00:00Z", "--to", "2025-01-03T00:00:00Z"];
    bench.ok(&[&["schedule", "backfill", "nightly", "--dry-run"][..], &range].concat());
    bench.ok(&[&["schedule", "backfill", "nightly"][..], &range].concat());
    bench.ok(&["schedule", "delete", "nightly"]);
    bench.ok(&["job", "enqueue", "audit_checkpoint"]);
    let preview = bench.json(&["job", "bulk", "cancel", "--kind", "audit_checkpoint"]);
    let confirm: Vec<_> = preview["confirm"].as_str().unwrap().split(' ').skip(1).collect();
    bench.ok(&[&confirm[..], &["--no-wait"]].concat());

    let entries = chain(&mut bench.connect().await).await;
    let expected = [
        "tenant.entered",
        "job.enqueued",
        "queue.paused",
        "job.snoozed",
        "job.retried",
        "job.reprioritised",
        "job.cancelled",
        "job.retried",
        "queue.resumed",
        "tenant.frozen",
        "tenant.thawed",
        "limit.set",
        "limit.cleared",
        "schedule.created",
        "schedule.changed",
        "schedule.paused",
        "schedule.resumed",
        "schedule.run",
        "schedule.backfilled",
        "schedule.deleted",
        "job.enqueued",
        "bulk.confirmed",
    ];
    assert_eq!(kinds(&entries), expected);
    let actors: BTreeSet<_> = entries.iter().map(|entry| entry["actor"].as_str()).collect();
    assert!(actors.len() == 1 && actors.first().is_some_and(Option::is_some), "{actors:?}");
    assert_eq!(entries[6]["body"]["job"], *job);
    // Neither who acted nor what they wrote is readable in it.
    let mut conn = bench.connect().await;
    for word in ["ada", "Grace", "grace@"] {
        let text: Vec<_> = entries.iter().map(|entry| entry["body"].to_string()).collect();
        assert!(!text.iter().any(|body| body.contains(word)), "{word}: {text:?}");
    }
    assert!(!places(&mut conn, &["governance"], "ada").await.is_empty(), "the name is beside the chain");
    assert_eq!(bench.run(&["audit", "verify", "--platform"]).code, Some(9));
}

#[tokio::test]
async fn a_deed_that_cannot_be_put_on_record_is_not_done() {
    let bench = Bench::with_database().await;
    let job = bench.json(&["tenant", "create", "acme"])["job"].as_str().unwrap().to_owned();
    let broken = "create function public.refuse() returns trigger language plpgsql as
            'begin raise exception ''the chain is full''; end';
        create trigger refuse before insert on governance.audit_entry for each row execute function public.refuse()";
    sqlx::raw_sql(broken).execute(&mut bench.connect().await).await.unwrap();
    assert_eq!(bench.run(&["job", "cancel", &job]).code, Some(1));
    assert_eq!(bench.json(&["job", "get", &job])["job"]["state"], "ready");
    assert_eq!(bench.run(&["queue", "pause", "local"]).code, Some(1));
    assert!(bench.json(&["queue", "list"])["queues"][0]["paused_at"].is_null());
    assert_eq!(bench.run(&["tenant", "create", "globex"]).code, Some(1));
    assert_eq!(bench.json(&["tenant", "list"])["tenants"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn t6_a_denied_scope_is_on_record_with_who_asked() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let before = chain(&mut bench.connect().await).await.len();
    let mut elsewhere = bench.command(&["receipt", "show", "1.0", "--tenant", "acme"]);
    let denied = crate::support::ran(elsewhere.env("TENURE_REGION", "elsewhere"));
    assert_ne!(denied.code, Some(0), "{denied:#?}");
    let entries = chain(&mut bench.connect().await).await;
    assert_eq!(kinds(&entries[before..]), ["scope.denied"], "{denied:#?}");
    let denial = &entries[before];
    assert_eq!(
        (&denial["body"]["why"], denial["body"]["region"].as_str()),
        (&"other_region".into(), Some("elsewhere"))
    );
    assert!(denial["actor"].is_string() && denial["job"].is_null(), "{denial}");
}

#[tokio::test]
async fn what_people_read_and_take_and_configure_is_in_the_tenants_chain() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let (_source, file) = super::connector::source(&bench).await;
    bench.ok(&["connector", "sync", &file]);
    bench.ok(&["connector", "sync", &file]);
    bench.ok(&["connector", "sync", "hr", "--reset"]);
    bench.ok(&["connector", "rejected", "hr"]);
    bench.ok(&["writeback", "list"]);
    bench.ok(&["writeback", "drift"]);
    let file = bench.path("acme.ndjson").display().to_string();
    let exported = bench.json(&["audit", "export", "--out", &file]);
    let mut conn = tenant(&bench).await;
    let entries = chain(&mut conn).await;
    let expected = [
        "connector.registered",
        "connector.reset",
        "record.rejected_viewed",
        "writeback.listed",
        "writeback.listed",
        "audit.exported",
    ];
    assert_eq!(kinds(&entries), expected);
    assert_eq!(entries[2]["body"]["records"], 1);
    assert_eq!(
        (&entries[5]["body"]["size"], &entries[5]["body"]["hash"]),
        (&exported["size"], &exported["hash"])
    );
    assert!(entries[1]["job"].is_string(), "a reset is its job's: {}", entries[1]);
}

#[tokio::test]
async fn an_erased_name_is_nowhere_and_the_chain_verifies() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let as_mallory = |arguments: &[&str]| bench.ok(&[arguments, &["--as", "mallory-7"]].concat());
    let job = bench.json(&["job", "enqueue", "audit_checkpoint"])["id"].as_str().unwrap().to_owned();
    as_mallory(&["job", "snooze", &job, "--for", "1h"]);
    as_mallory(&["job", "cancel", &job]);
    as_mallory(&["queue", "pause", "eu"]);
    as_mallory(&["queue", "resume", "eu"]);
    as_mallory(&["queue", "pause", "local"]);
    as_mallory(&["tenant", "freeze", "acme", "--reason", "a test"]);
    as_mallory(&["gate", "set", "promotion", "--persons", "2", "--tenant", "acme"]);
    as_mallory(&["writeback", "list"]);
    let places_of_all = async || {
        let mut found = places(&mut tenant(&bench).await, &["governance", "tenant"], "mallory-7").await;
        found.extend(
            places(&mut bench.connect().await, &["governance", "control", "queue"], "mallory-7").await,
        );
        found
    };
    assert!(places_of_all().await.len() > 4, "{:?}", places_of_all().await);

    let erase = ["actor", "erase", "mallory-7", "--tenant", "acme"];
    assert_eq!(bench.run(&erase).code, Some(2), "the name is wanted twice");
    assert_eq!(bench.run(&[&erase[..], &["--confirm", "mallory"]].concat()).code, Some(2));
    bench.ok(&[&erase[..], &["--dry-run"]].concat());
    let pseudonym = bench.json(&[&erase[..], &["--confirm", "mallory-7"]].concat())["actor"].clone();
    assert_eq!(bench.run(&[&erase[..], &["--confirm", "mallory-7"]].concat()).code, Some(3));
    bench.ok(&["actor", "erase", "mallory-7", "--confirm", "mallory-7", "--platform", "--dry-run"]);
    assert!(!places_of_all().await.is_empty(), "the platform's was a dry run");
    bench.ok(&["actor", "erase", "mallory-7", "--confirm", "mallory-7", "--platform"]);

    assert_eq!(places_of_all().await, [""; 0]);
    let listed = bench.json(&["actor", "list", "--tenant", "acme"]);
    let actors = listed["actors"].as_array().unwrap();
    assert!(actors.iter().any(|actor| actor["id"] == pseudonym && actor["name"].is_null()), "{listed}");
    let entries = chain(&mut tenant(&bench).await).await;
    assert!(entries.iter().any(|entry| entry["actor"] == pseudonym), "what they did stays");
    assert_eq!(entries.last().unwrap()["kind"], "actor.erased");
    for place in [&["--tenant", "acme"][..], &["--platform"]] {
        bench.ok(&[&["audit", "checkpoint"], place].concat());
        bench.ok(&[&["audit", "verify"], place].concat());
    }
}

/// Roles as production has them: one that makes tenants and owns the control database, one that serves.
#[tokio::test]
async fn a5_the_services_own_role_works_on_the_control_database_and_cannot_rewrite_its_chain() {
    let bench = Bench::with_empty_database().await;
    let mut superuser = bench.connect().await;
    let database: String =
        sqlx::query_scalar("select current_database()").fetch_one(&mut superuser).await.unwrap();
    let (admin, service) = (format!("{database}_admin"), format!("{database}_service"));
    let roles = format!(
        "create role {admin} login createdb createrole; create role {service} login;
         alter database {database} owner to {admin}; revoke all on database {database} from public;
         grant connect on database {database} to {service}"
    );
    sqlx::raw_sql(AssertSqlSafe(roles)).execute(&mut superuser).await.unwrap();
    let key = bench.file("tenants.key", &"7".repeat(64));
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = bench.command(arguments);
        command.env("DATABASE_URL", bench.url_as(&service));
        command.env("TENURE_DATABASE_PROVISIONING_URL", bench.url_as(&admin));
        command.env("TENURE_TENANTS_PASSWORD_KEY_FILE", &key);
        let ran = crate::support::ran(&mut command);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:#?}");
    };
    run(&["db", "migrate"]);
    run(&["db", "migrate"]);
    run(&["tenant", "create", "acme", "--wait"]);
    run(&["queue", "pause", "local"]);
    run(&["audit", "checkpoint", "--platform"]);
    run(&["audit", "verify", "--platform"]);
    run(&["actor", "erase", "ada", "--confirm", "ada", "--platform"]);

    let options = bench.database().options().username(&service);
    let mut conn = PgConnection::connect_with(&options).await.unwrap();
    let entries = chain(&mut conn).await;
    assert!(entries.len() > 2, "{entries:?}");
    for rewrite in [
        "update governance.audit_entry set content = 'x'",
        "delete from governance.audit_entry",
        "truncate governance.audit_entry",
        "insert into governance.audit_entry (seq, at, content, hash) values (99, now(), '', sha256(''))",
        "alter table governance.audit_entry disable trigger all",
        "drop trigger audit_entry_only_grows on governance.audit_entry",
        "drop table governance.audit_entry cascade",
        "drop schema governance cascade",
        "update governance.audit_head set origin = 'x'",
        "delete from governance.audit_head",
        "update governance.checkpoint set note = 'x'",
        "delete from governance.checkpoint",
        "update governance.migration set version = 0",
        "create or replace function governance.refuse_change() returns trigger language plpgsql as 'begin return null; end'",
    ] {
        let error = sqlx::raw_sql(AssertSqlSafe(rewrite)).execute(&mut conn).await.expect_err(rewrite);
        let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
        assert_eq!(code.as_deref(), Some("42501"), "{rewrite}: {error}");
    }
    assert_eq!(chain(&mut conn).await, entries);
}
