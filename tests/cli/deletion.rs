//! The end of a tenant: holds, the deletion with everything it needs, its certificate, and a backup that brings it back.

use std::{fs, path::Path, process::Command};

use database::testing::TestDatabase;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{connector::source, record::places};
use crate::support::{Bench, Ran, ran};

/// Planted wherever a tenant's data may come to lie.
const CANARY: &str = "canary-6f1d";

/// Runs it with hardly any cooling-off.
fn hasty(bench: &Bench, arguments: &[&str]) -> Ran {
    ran(bench.command(arguments).env("TENURE_TENANTS_DELETION_COOLING_OFF", "1ms"))
}

fn refused(bench: &Bench, arguments: &[&str], code: i32, says: &str) {
    let ran = bench.run(arguments);
    assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:#?}");
    assert!(ran.stderr.contains(says), "{arguments:?}: {ran:#?}");
}

/// Ada asks for acme's deletion; answers its approval and its job.
fn asked(bench: &Bench) -> (String, String) {
    let asked = hasty(bench, &["tenant", "delete", "acme", "--confirm", "acme", "--json"]);
    assert_eq!(asked.code, Some(0), "{asked:#?}");
    let asked = crate::support::object(&asked.stdout);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&asked["deletion"]["approval"]), text(&asked["job"]))
}

/// Ben says yes.
fn approve(bench: &Bench, approval: &str) {
    let shown = bench.json(&["approval", "show", approval, "--platform", "--as", "ben"]);
    let digest = shown["approval"]["digest"].as_str().unwrap();
    let approve = ["approval", "approve", approval, "--platform", "--digest", digest, "--as", "ben"];
    refused(bench, &approve, 2, "wants the name `acme` typed");
    bench.ok(&[&approve[..], &["--confirm", "acme"]].concat());
}

/// Works until the job is at rest; waits for nothing but the work.
fn carried_out(bench: &Bench, job: &str) -> Value {
    loop {
        hasty(bench, &["work", "--until-empty"]);
        let record = bench.json(&["job", "get", job])["job"].take();
        match record["state"].as_str().unwrap() {
            "succeeded" | "failed" | "cancelled" => return record,
            _ => bench.ok(&["job", "retry", job]),
        };
    }
}

fn deleted(bench: &Bench) {
    let (approval, job) = asked(bench);
    approve(bench, &approval);
    let record = carried_out(bench, &job);
    assert_eq!(record["state"], "succeeded", "{record}\n{}", bench.ok(&["job", "get", &job]));
}

/// The files below the folder in which the word stands.
fn files_with(folder: &Path, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let is_named = entry.display().to_string().contains(word);
        if entry.is_dir() {
            found.extend(files_with(&entry, word));
        }
        let holds = || {
            let bytes = fs::read(&entry).unwrap_or_default();
            bytes.windows(word.len()).any(|window| window == word.as_bytes())
        };
        if is_named || (entry.is_file() && holds()) {
            found.push(entry.display().to_string());
        }
    }
    found
}

async fn one(conn: &mut PgConnection, statement: String) -> String {
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(conn).await.unwrap()
}

#[tokio::test]
async fn e5_after_deleted_a_planted_canary_is_found_in_no_database_row_or_file() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let (source, file) = source(&bench).await;
    let plant = format!("insert into people values (7, '{CANARY}', '2025-01-01')");
    sqlx::raw_sql(AssertSqlSafe(plant)).execute(&mut source.connect().await).await.unwrap();
    bench.ok(&["connector", "sync", &file]);
    let payload = format!(r#"{{"connector": "{CANARY}", "stream": "{CANARY}"}}"#);
    let enqueue = ["job", "enqueue", "connector_sync", "--tenant", "acme", "--payload", &payload];
    bench.ok(&[&enqueue[..], &["--idempotency-key", CANARY, "--wait"]].concat());
    let attempt = format!(
        "insert into queue.attempt (job, fence, finished_at, number, outcome, class, error)
         select id, fence, finished_at, 1, 1, 'transient', '{CANARY}' from queue.job_history where kind = 'connector_sync'"
    );
    sqlx::raw_sql(AssertSqlSafe(attempt)).execute(&mut bench.connect().await).await.unwrap();
    bench.ok(&[&enqueue[..], &["--unique-key", CANARY, "--run-at", "2099-01-01T00:00:00Z"]].concat());
    let line = ["--cron", "@yearly", "--zone", "UTC", "--tenant", "acme"];
    bench.ok(&[&["schedule", "create", "yearly", "audit_checkpoint"][..], &line].concat());
    bench.ok(&["schedule", "pause", "yearly", "--tenant", "acme", "--reason", CANARY]);
    bench.ok(&["tenant", "freeze", "acme", "--reason", CANARY]);
    bench.ok(&["tenant", "hold", "acme", "--reason", CANARY]);
    bench.ok(&["tenant", "release", "acme"]);
    let id = bench.json(&["tenant", "show", "acme"])["id"].as_str().unwrap().to_owned();
    let bundles = bench.path("data/bundles").join(&id);
    fs::create_dir_all(&bundles).unwrap();
    fs::write(bundles.join("all.zip"), CANARY).unwrap();

    let mut conn = bench.connect().await;
    let schemas = ["queue", "control", "governance"];
    let planted = places(&mut conn, &schemas, CANARY).await;
    for place in [
        "queue.job.payload",
        "queue.job_history.payload",
        "queue.schedule.pause_reason",
        "control.legal_hold.reason",
    ] {
        assert!(planted.iter().any(|found| found == place), "{place} is not among {planted:?}");
    }
    assert!(planted.iter().any(|found| found.starts_with("queue.attempt")), "{planted:?}");
    let database = format!("tenant_{}", id.replace('-', ""));
    let mut inside =
        PgConnection::connect_with(&bench.database().options().database(&database)).await.unwrap();
    let records = places(&mut inside, &["tenant"], CANARY).await;
    assert!(!records.is_empty());
    drop(inside);

    let would = bench.ok(&["tenant", "delete", "acme", "--dry-run"]);
    assert!(would.contains("rows of queue.job_history") && would.contains("1 files"), "{would}");
    assert!(would.contains("nobody has set `tenants.backup_days`"), "{would}");
    assert_eq!(planted, places(&mut conn, &schemas, CANARY).await, "a dry run does nothing");

    deleted(&bench);
    assert_eq!(places(&mut conn, &schemas, CANARY).await, Vec::<String>::new());
    assert_eq!(files_with(bench.folder.path(), CANARY), Vec::<String>::new());
    let left = format!(
        "select (select count(*) from pg_database where datname = '{database}')
             || ' ' || (select count(*) from pg_roles where rolname = '{database}')"
    );
    assert_eq!(one(&mut conn, left).await, "0 0");
    // Nobody gives it anything any more.
    refused(&bench, &["tenant", "create", "acme"], 4, "never used again");
    refused(&bench, &["queue", "limit", "set", "--tenant", "acme", "--running", "2"], 4, "is deleted");
    // Only the tombstone, the record of the deletion and the chain know the tenant.
    let knowing: Vec<_> = places(&mut conn, &schemas, &id)
        .await
        .into_iter()
        .map(|place| place.rsplit_once('.').unwrap().0.to_owned())
        .collect();
    let may = [
        "control.tenant",
        "control.deletion",
        "control.deletion_step",
        "control.tombstone",
        "governance.audit_entry",
        "governance.approval",
    ];
    assert!(knowing.iter().all(|table| may.contains(&table.as_str())), "{knowing:?}");
    let beside: Vec<_> = files_with(bench.folder.path(), &id);
    let may = |file: &String| file.contains("data/tombstones/") || file.contains("data/checkpoints/tenant-");
    assert!(!beside.is_empty() && beside.iter().all(may), "{beside:?}");
    refused(&bench, &["tenant", "delete", "acme", "--confirm", "acme"], 4, "is deleted");
    refused(&bench, &["tenant", "thaw", "acme"], 4, "is deleted");
    refused(&bench, &["tenant", "hold", "acme", "--reason", "late"], 4, "is deleted");
    refused(&bench, &["connector", "sync", "hr", "--tenant", "acme"], 4, "is deleted");
    assert_eq!(bench.run(&["audit", "verify", "--platform"]).code, Some(9), "the chain holds");
}

#[tokio::test]
async fn e7_a_certificate_is_shown_in_plain_words_and_one_changed_byte_is_exit_7() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    refused(&bench, &["tenant", "certificate", "acme"], 3, "there is no certificate");
    deleted(&bench);
    let words = bench.ok(&["tenant", "certificate", "acme"]);
    for sentence in ["Tenant acme", "Nobody has configured how long they are kept", "verified"] {
        assert!(words.contains(sentence), "{sentence}: {words}");
    }
    let shown = bench.json(&["tenant", "certificate", "acme"]);
    let id = shown["certificate"]["tenant"].as_str().unwrap();
    assert_eq!(bench.json(&["tenant", "certificate", id])["note"], shown["note"]);
    let (note, key) = (shown["note"].as_str().unwrap(), shown["key"].as_str().unwrap());
    let true_copy = bench.file("certificate.note", note);
    let elsewhere = Bench::without_database();
    let verified = elsewhere.run(&["tenant", "certificate", "--file", &true_copy, "--key", key]);
    assert_eq!(verified.code, Some(0), "no database is needed: {verified:#?}");
    let changed = bench.file("changed.note", &note.replacen("acme", "acne", 1));
    refused(&bench, &["tenant", "certificate", "--file", &changed], 7, "not to be trusted");
    let spoil = "update control.tombstone set certificate = replace(certificate, 'acme', 'acne')";
    sqlx::raw_sql(spoil).execute(&mut bench.connect().await).await.unwrap();
    refused(&bench, &["tenant", "certificate", "acme"], 7, "not to be trusted");
}

#[tokio::test]
async fn e6_a_deletion_wants_the_name_typed_a_second_person_and_nobody_who_holds() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    refused(&bench, &["tenant", "delete", "acme"], 2, "--confirm");
    refused(&bench, &["tenant", "delete", "acme", "--confirm", "acne"], 2, "another one");
    refused(&bench, &["tenant", "delete", "acne", "--confirm", "acne"], 3, "there is no tenant acne");
    refused(&bench, &["tenant", "delete", "acme", "--call-off"], 4, "no deletion of the tenant");
    refused(&bench, &["tenant", "hold", "acme", "--reason", " "], 2, "a reason has");
    refused(
        &bench,
        &["tenant", "hold", "acme", "--reason", "x", "--until", "2020-01-01T00:00:00Z"],
        2,
        "in the past",
    );
    bench.ok(&["tenant", "hold", "acme", "--reason", "x", "--dry-run"]);
    bench.ok(&["tenant", "hold", "acme", "--reason", "Doe against Acme", "--as", "lea"]);
    let delete = ["tenant", "delete", "acme", "--confirm", "acme"];
    refused(&bench, &delete, 4, "hold 2 by lea since");
    refused(&bench, &["tenant", "delete", "acme", "--dry-run"], 4, "Doe against Acme");
    bench.ok(&["tenant", "hold", "acme", "--reason", "the tax office", "--until", "2099-01-01T00:00:00Z"]);
    refused(&bench, &["tenant", "release", "acme"], 2, "several legal holds");
    bench.ok(&["tenant", "release", "acme", "--hold", "2"]);
    refused(&bench, &["tenant", "release", "acme", "--hold", "2"], 4, "not in force");
    assert!(bench.ok(&["tenant", "show", "acme"]).contains("the tax office"));
    bench.ok(&["tenant", "release", "acme"]);

    let first = bench.ok(&delete);
    assert!(
        first.contains("can be called off for 24h") && first.contains("another person decides"),
        "{first}"
    );
    let queues = bench.json(&["queue", "list"])["queues"].take();
    let paced = queues.as_array().unwrap().iter().find(|queue| queue["name"] == "local/deletions").unwrap();
    assert_eq!(paced["running_max"], 1, "a drop forces a checkpoint");
    let deletion = bench.json(&["tenant", "show", "acme"])["deletion"].take();
    let approval = deletion["approval"].as_str().unwrap().to_owned();
    assert!(bench.ok(&delete).contains("was asked for before"));
    let shown = bench.json(&["approval", "show", &approval, "--platform"]);
    let digest = shown["approval"]["digest"].as_str().unwrap();
    let own = ["approval", "approve", &approval, "--platform", "--digest", digest, "--confirm", "acme"];
    refused(&bench, &own, 5, "somebody else must decide");
    // Approved, it cools off; a hold that comes meanwhile wins.
    approve(&bench, &approval);
    bench.ok(&["work", "--until-empty"]);
    assert_eq!(bench.json(&["tenant", "show", "acme"])["deletion"]["state"], "cooling");
    bench.ok(&["tenant", "delete", "acme", "--call-off", "--dry-run"]);
    assert_eq!(bench.json(&["tenant", "show", "acme"])["deletion"]["state"], "cooling");
    bench.ok(&["tenant", "delete", "acme", "--call-off"]);
    assert_eq!(bench.json(&["tenant", "show", "acme"])["deletion"]["state"], "called_off");
    let (approval, job) = asked(&bench);
    approve(&bench, &approval);
    bench.ok(&["tenant", "hold", "acme", "--reason", "the tax office"]);
    let record = carried_out(&bench, &job);
    assert!(
        record["state"] == "cancelled" && record["note"].as_str().unwrap().contains("legal hold 4"),
        "{record}"
    );
    assert_eq!(bench.json(&["tenant", "show", "acme"])["state"], "active");

    let kinds = "select string_agg(convert_from(content, 'UTF8')::json ->> 'kind', ' ' order by seq)
        from governance.audit_entry where convert_from(content, 'UTF8')::json ->> 'kind' like 'tenant.%'";
    let kinds = one(&mut bench.connect().await, kinds.to_owned()).await;
    let expected = "tenant.entered tenant.held tenant.held tenant.released tenant.released \
        tenant.deletion_requested tenant.deletion_called_off tenant.deletion_requested tenant.held tenant.deletion_refused";
    assert_eq!(kinds, expected);
}

/// Dumps a database into a file.
fn dump(url: &str, file: &Path) {
    let dumped = Command::new("pg_dump").args(["-Fc", "-f"]).arg(file).args(["-d", url]).output().unwrap();
    assert!(dumped.status.success(), "{dumped:?}");
}

fn restore(url: &str, file: &Path) {
    let restored = Command::new("pg_restore").args(["-d", url]).arg(file).output().unwrap();
    assert!(restored.status.success(), "{restored:?}");
}

#[tokio::test]
async fn e8_a_restored_backup_cannot_bring_a_deleted_tenant_back_into_service() {
    let bench = Bench::with_database().await;
    bench.ok(&["tenant", "create", "acme", "--wait"]);
    let (_source, file) = source(&bench).await;
    bench.ok(&["connector", "sync", &file]);
    bench.ok(&["job", "enqueue", "audit_checkpoint", "--tenant", "acme"]);
    let id = bench.json(&["tenant", "show", "acme"])["id"].as_str().unwrap().to_owned();
    let database = format!("tenant_{}", id.replace('-', ""));
    let control_url = bench.database().url();
    let name = bench.database().options().get_database().unwrap().to_owned();
    let tenant_url = control_url.replace(&name, &database);
    let (control_dump, tenant_dump) = (bench.path("control.dump"), bench.path("tenant.dump"));
    dump(&control_url, &control_dump);
    dump(&tenant_url, &tenant_dump);
    deleted(&bench);

    // All of it comes back from the backup: both databases, and the role.
    let restored = TestDatabase::create().await;
    let make = [format!("create role {database} login"), format!("create database {database}")];
    for statement in make {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut restored.connect().await).await.unwrap();
    }
    restore(&restored.url(), &control_dump);
    restore(&tenant_url, &tenant_dump);
    let run = |arguments: &[&str]| {
        let mut command = bench.command(arguments);
        command.env("TENURE_TENANTS_DELETION_COOLING_OFF", "1ms");
        ran(command.env("DATABASE_URL", restored.url()))
    };
    let listed = run(&["tenant", "list"]);
    assert!(listed.stdout.contains("acme") && listed.stdout.contains("active"), "{listed:#?}");
    for arguments in [
        &["connector", "sync", "hr"][..],
        &["connector", "rejected", "hr"],
        &["audit", "head", "--tenant", "acme"],
    ] {
        let refused = run(arguments);
        assert_eq!(refused.code, Some(4), "{arguments:?}: {refused:#?}");
        assert!(
            refused.stderr.contains("was deleted") && refused.stderr.contains("tombstone.note"),
            "{refused:#?}"
        );
    }
    let created = run(&["tenant", "create", "acme", "--wait"]);
    assert_eq!(created.code, Some(8), "{created:#?}");
    let worked = run(&["work", "--until-empty"]);
    assert!(
        worked.stderr.contains("acme: the tenant") && worked.stderr.contains("tenure tenant delete acme"),
        "{worked:#?}"
    );
    let jobs = crate::support::object(&run(&["job", "list", "--state", "failed", "--json"]).stdout);
    let kinds: Vec<_> =
        jobs["jobs"].as_array().unwrap().iter().map(|job| job["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"audit_checkpoint"), "the job of the backup came to nothing: {jobs}");
    assert!(
        run(&["tenant", "certificate", "acme"]).stdout.contains("verified"),
        "the paper outside is still there"
    );
    // Nothing can be seen of it, and it can be deleted again.
    let mut inside = PgConnection::connect(&tenant_url).await.unwrap();
    assert_ne!(
        one(&mut inside, "select count(*)::text from tenant.record".to_owned()).await,
        "0",
        "it did come back"
    );
    drop(inside);
    let asked =
        crate::support::object(&run(&["tenant", "delete", "acme", "--confirm", "acme", "--json"]).stdout);
    let (approval, job) = (asked["deletion"]["approval"].as_str().unwrap(), asked["job"].as_str().unwrap());
    let shown = crate::support::object(
        &run(&["approval", "show", approval, "--platform", "--as", "ben", "--json"]).stdout,
    );
    let digest = shown["approval"]["digest"].as_str().unwrap();
    let yes = [
        "approval",
        "approve",
        approval,
        "--platform",
        "--digest",
        digest,
        "--confirm",
        "acme",
        "--as",
        "ben",
    ];
    assert_eq!(run(&yes).code, Some(0));
    let state = || {
        crate::support::object(&run(&["job", "get", job, "--json"]).stdout)["job"]["state"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    while !["succeeded", "failed", "cancelled"].contains(&state().as_str()) {
        run(&["job", "retry", job]);
        run(&["work", "--until-empty"]);
    }
    assert_eq!(state(), "succeeded");
    let left = format!("select count(*)::text from pg_database where datname = '{database}'");
    assert_eq!(one(&mut restored.connect().await, left).await, "0");
}
