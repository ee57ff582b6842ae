//! The battery, and rotations with people and key services in between.

use std::{collections::BTreeMap, fs};

use connectors::{Definition, LocalBudget, Source};
use futures_util::future::BoxFuture;
use governance::{actor, approval};
use queue::{JobRecord, State};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use vault::{Cell, Owner, Sealed};

use super::*;
use crate::{
    connector_credential::{self, CredentialFault},
    connector_registry,
    testing::{Stage, Subject, battery, until},
    writeback::tests::house::CHAIN_HOLDS,
};

const RESEAL: KeyRotation =
    KeyRotation { action: Action::Reseal, approval: String::new(), older_than_secs: 0, page_rows: 3 };
const REWRAP: KeyRotation =
    KeyRotation { action: Action::Rewrap, approval: String::new(), older_than_secs: 0, page_rows: 3 };

/// Ada asks, and grace says yes.
async fn approved(scope: &KeyScope, rotation: &KeyRotation) -> KeyRotation {
    let Asked::Waits { id, .. } = ask(scope, &rotation.settings(), "ada").await.unwrap() else {
        panic!("nobody has said yes yet")
    };
    let mut tx = scope.write().await.unwrap();
    let grace = actor::named(&mut tx, "grace").await.unwrap().id;
    let digest = approval::get(&mut tx, id).await.unwrap().unwrap().digest;
    approval::approve(&mut tx, id, &digest, grace, None).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(ask(scope, &rotation.settings(), "ada").await.unwrap(), Asked::Done(id));
    KeyRotation { approval: id.to_string(), ..rotation.clone() }
}

async fn of_tenant(stage: &Stage) -> KeyScope {
    KeyScope::Tenant(stage.as_request().await)
}

async fn prepared(stage: &Stage, rotation: &KeyRotation) -> NewJob {
    let rotation = approved(&of_tenant(stage).await, rotation).await;
    job(Some(&stage.tenant), &rotation).unwrap()
}

async fn keep(stage: &Stage, credentials: usize) {
    for at in 0..credentials {
        set(stage, &format!("c{at:05}"), &format!("secret {at}")).await;
    }
}

async fn set(stage: &Stage, name: &str, text: &str) {
    let db = stage.as_request().await;
    connector_credential::set(&db, &stage.vault, name, &SecretString::from(text), "ada").await.unwrap();
}

/// All credentials as they open, by name.
async fn texts(stage: &Stage) -> BTreeMap<String, String> {
    let mut conn = stage.tenant_connection().await;
    let rows: Vec<(String, Sealed)> = sqlx::query_as("select name, value from tenant.connector_credential")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    let owner = Owner::Tenant(stage.tenant.id.0);
    let mut texts = BTreeMap::new();
    for (name, value) in rows {
        let key = [name.clone()];
        let cell = Cell { owner, relation: "tenant.connector_credential", column: "value", key: &key };
        let text = match stage.vault.open(&mut conn, &cell, &value).await {
            Ok(text) => String::from_utf8(text.expose_secret().to_vec()).unwrap(),
            Err(error) => error.to_string(),
        };
        texts.insert(name, text);
    }
    texts
}

/// The one text that a statement gives, if any.
async fn one(conn: &mut PgConnection, sql: &str) -> String {
    let found: Option<Option<String>> =
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_optional(conn).await.unwrap();
    found.flatten().unwrap_or_default()
}

async fn inside(stage: &Stage, sql: &str) -> String {
    one(&mut stage.tenant_connection().await, sql).await
}

/// How many values are under the active key and under others, and how many keys there are.
const UNDER: &str = "select (select string_agg(state || ' ' || n, ', ' order by state) from (
        select d.state, count(*) as n from tenant.connector_credential c
          join governance.dek d on d.id = governance.sealed_dek(c.value) group by 1) counted)
    || ' of ' || (select count(*) from governance.dek) || ' keys'";

const STANDS: &str =
    "select (progress -> 'counts')::text || ' ' || (ended_at is not null) from governance.key_rotation";
const CONSUMED: &str = "select count(*)::text from governance.approval where state = 'consumed'";
const TOLD: &str = "select string_agg(convert_from(content, 'UTF8')::json ->> 'kind', ',' order by seq)
    from governance.audit_entry where convert_from(content, 'UTF8')::json ->> 'kind' like 'key.%'";

fn succeeded(record: JobRecord) -> serde_json::Value {
    assert_eq!(record.state, State::Succeeded, "{:?}", record.note);
    record.output.unwrap()
}

struct Rotates(KeyRotation);

impl Subject for Rotates {
    fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
        Box::pin(async {
            keep(stage, 7).await;
            prepared(stage, &self.0).await
        })
    }

    fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
        Box::pin(async {
            let mut conn = stage.tenant_connection().await;
            assert_eq!(one(&mut conn, CHAIN_HOLDS).await, "true", "the audit chain does not verify");
            let versions =
                "select string_agg(distinct kek_version, ',') from governance.dek where state = 'active'";
            format!(
                "{:?} {} {} {} {} {}",
                texts(stage).await,
                one(&mut conn, UNDER).await,
                one(&mut conn, versions).await,
                one(&mut conn, STANDS).await,
                one(&mut conn, CONSUMED).await,
                one(&mut conn, TOLD).await,
            )
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k1_key_rotation_of_values_passes_the_battery() {
    battery(&Rotates(RESEAL), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k1_key_rotation_of_keys_passes_the_battery() {
    battery(&Rotates(REWRAP), true).await;
}

/// Kills the worker after every few pages while others write; nothing is lost, and everything is under the new key.
async fn killed_with_writers(credentials: usize, page_rows: u16, kills: usize) {
    let stage = Stage::provisioned().await;
    keep(&stage, credentials).await;
    let rotation = KeyRotation { page_rows, ..RESEAL };
    let rotate = prepared(&stage, &rotation).await;
    let id = stage.queue.enqueue(rotate).await.unwrap().id;
    let mut expected = texts(&stage).await;
    let mut writes = 0;
    for _ in 0..kills {
        let worker = stage.worker(stage.environment());
        let pages = || inside(&stage, "select progress ->> 'pages' from governance.key_rotation");
        let before: i64 = pages().await.parse().unwrap_or(0);
        // Writers go on until the worker has got further.
        while pages().await.parse().unwrap_or(0) <= before + 1 {
            let name = format!("c{:05}", (writes * 7) % credentials);
            let text = format!("written {writes}");
            set(&stage, &name, &text).await;
            expected.insert(name, text);
            writes += 1;
            if inside(&stage, STANDS).await.ends_with("true") {
                break;
            }
        }
        worker.kill();
        stage.expire_leases().await;
    }
    let _worker = stage.worker(stage.environment());
    succeeded(stage.at_rest(id).await);
    assert!(writes > 0, "nobody wrote");
    assert_eq!(texts(&stage).await, expected);
    assert_eq!(inside(&stage, UNDER).await, format!("active {credentials} of 2 keys"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k1_k5_killed_again_and_again_with_writers_beside_it_a_rotation_loses_nothing() {
    killed_with_writers(150, 9, 5).await;
}

/// `cargo nextest run --workspace --all-targets --run-ignored only -E 'test(fifty_thousand)'`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn k1_k5_killed_again_and_again_over_fifty_thousand_values() {
    killed_with_writers(50_000, 500, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k2_a_second_rotation_changes_no_byte() {
    let stage = Stage::provisioned().await;
    keep(&stage, 7).await;
    let first = succeeded(stage.run(prepared(&stage, &RESEAL).await).await);
    assert_eq!((&first["outcome"], &first["counts"]["rotated"]), (&json!("complete"), &json!(7)));
    let digest = "select md5(string_agg(c::text, '|' order by name)) from tenant.connector_credential c";
    let before = inside(&stage, digest).await;
    let again = KeyRotation { older_than_secs: day(), ..RESEAL };
    let second = succeeded(stage.run(prepared(&stage, &again).await).await);
    assert_eq!((&second["counts"]["rotated"], &second["counts"]["already"]), (&json!(0), &json!(7)));
    assert_eq!(inside(&stage, digest).await, before);
}

/// A statement that makes one that digests every table.
const DIGESTS: &str = "
select 'select string_agg(d, '' '' order by d) from (' || string_agg(
    format('select %L || md5(coalesce(string_agg(t::text, chr(10) order by t::text), %L)) from %I.%I t',
        n.nspname || '.' || c.relname || ' ', '', n.nspname, c.relname), ' union all ') || ') t (d)'
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname in ('tenant', 'governance')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k3_k4_a_dry_run_leaves_every_table_as_it_was_and_predicts_the_job() {
    let stage = Stage::provisioned().await;
    keep(&stage, 20).await;
    let corrupt = "update tenant.connector_credential
        set value = set_byte(value, 60, get_byte(value, 60) # 4) where name = 'c00011'";
    sqlx::raw_sql(corrupt).execute(&mut stage.tenant_connection().await).await.unwrap();
    let digests = inside(&stage, DIGESTS).await;
    let before = inside(&stage, &digests).await;
    assert!(before.contains("tenant.connector_credential "), "{before}");
    let scope = of_tenant(&stage).await;
    for rotation in [&RESEAL, &REWRAP] {
        predict(&scope, &stage.vault, rotation.settings(), |_| {}).await.unwrap();
        assert_eq!(inside(&stage, &digests).await, before);
    }
    let predicted = predict(&scope, &stage.vault, RESEAL.settings(), |_| {}).await.unwrap();
    let done = succeeded(stage.run(prepared(&stage, &RESEAL).await).await);
    assert_eq!(done["counts"], serde_json::to_value(predicted.counts).unwrap());
    assert_eq!(done["faults"], serde_json::to_value(&predicted.faults).unwrap());
    // The one row is named, and all others are rotated.
    assert_eq!((&done["outcome"], &done["faults"][0]["key"]), (&json!("faulty"), &json!(["c00011"])));
    assert_eq!(done["counts"]["rotated"], json!(19));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k8_a_key_that_is_gone_fails_the_job_at_once_and_once_it_is_back_the_job_goes_on() {
    let stage = Stage::provisioned().await;
    keep(&stage, 30).await;
    let before = texts(&stage).await;
    // A row that somebody holds stops the rotation midway, for as long as the key takes to go.
    let mut holder = stage.tenant_connection().await;
    let hold = "begin; update tenant.connector_credential set set_at = now() where name = 'c00015'";
    sqlx::raw_sql(hold).execute(&mut holder).await.unwrap();
    let rotate = prepared(&stage, &RESEAL).await;
    let id = stage.queue.enqueue(rotate).await.unwrap().id;
    let worker = stage.worker(stage.environment());
    let waits = "select count(*)::text from pg_locks where not granted and locktype = 'transactionid'";
    until(async || (inside(&stage, waits).await != "0").then_some(())).await;
    let aside = stage.keyring.with_extension("aside");
    fs::rename(&stage.keyring, &aside).unwrap();
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    let record = stage.at_rest(id).await;
    assert_eq!((record.state, record.attempt, record.failures), (State::Failed, 1, 1), "no try was burnt");
    let error = stage.queue.attempts(id).await.unwrap().pop().unwrap().error;
    assert!(error.contains("is not there"), "{error}");
    fs::rename(&aside, &stage.keyring).unwrap();
    assert_eq!(texts(&stage).await, before, "a partial value");
    let under = inside(&stage, UNDER).await;
    assert!(under.contains("active") && under.contains("former"), "it stopped midway: {under}");
    drop(worker);
    // Asked for again, it goes on, and nobody has to agree twice.
    let scope = of_tenant(&stage).await;
    let Asked::Done(same) = ask(&scope, &RESEAL.settings(), "ada").await.unwrap() else {
        panic!("it was begun")
    };
    let again = KeyRotation { approval: same.to_string(), ..RESEAL };
    let done = succeeded(stage.run(job(Some(&stage.tenant), &again).unwrap()).await);
    assert_eq!(done["counts"]["rotated"], json!(30));
    assert_eq!((texts(&stage).await, inside(&stage, UNDER).await), (before, "active 30 of 2 keys".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_rotation_without_its_approval_begins_nothing() {
    let stage = Stage::provisioned().await;
    keep(&stage, 3).await;
    let refused = async |rotation: KeyRotation| {
        let record = stage.run(job(Some(&stage.tenant), &rotation).unwrap()).await;
        assert_eq!((record.state, record.failures), (State::Failed, 1));
        stage.queue.attempts(record.id).await.unwrap().pop().unwrap().error
    };
    let none = refused(KeyRotation { approval: "7".into(), ..RESEAL }).await;
    assert!(none.contains("there is no approval 7"), "{none}");
    let scope = of_tenant(&stage).await;
    let Asked::Waits { id, .. } = ask(&scope, &RESEAL.settings(), "ada").await.unwrap() else {
        panic!("nobody has said yes")
    };
    let undecided = refused(KeyRotation { approval: id.to_string(), ..RESEAL }).await;
    assert!(undecided.contains("0 of the 1 yeses"), "{undecided}");
    let given = approved(&scope, &REWRAP).await;
    let other = refused(KeyRotation { action: Action::Reseal, ..given.clone() }).await;
    assert!(other.contains("it has changed and must be asked for anew"), "{other}");
    assert_eq!(inside(&stage, "select count(*)::text from governance.key_rotation").await, "0");
    succeeded(stage.run(job(Some(&stage.tenant), &given).unwrap()).await);
    // Once it was used, only the same rotation may go on with it.
    let used = refused(KeyRotation { action: Action::Reseal, ..given }).await;
    assert!(used.contains("allowed another rotation"), "{used}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k1_the_platforms_own_secrets_are_rotated_in_the_control_database() {
    let stage = Stage::new().await;
    let mut conn = stage.database.connect().await;
    let table = "create schema app; create table app.hook (id uuid primary key, secret governance.sealed)";
    sqlx::raw_sql(table).execute(&mut conn).await.unwrap();
    let key = [uuid::Uuid::new_v4().to_string()];
    let cell = Cell { owner: Owner::Platform, relation: "app.hook", column: "secret", key: &key };
    let sealed = stage.vault.seal(&mut conn, &cell, b"hook secret").await.unwrap();
    let insert = sqlx::query("insert into app.hook values ($1::uuid, $2)").bind(&key[0]).bind(&sealed);
    insert.execute(&mut conn).await.unwrap();
    let scope = KeyScope::Platform(stage.queue.pool().clone());
    let predicted = predict(&scope, &stage.vault, RESEAL.settings(), |_| {}).await.unwrap();
    assert_eq!(predicted.counts.rotated, 1);
    let rotation = approved(&scope, &RESEAL).await;
    let new = job(None, &rotation).unwrap().queue("local");
    let done = succeeded(stage.run(new).await);
    assert_eq!(done["counts"]["rotated"], json!(1));
    let fresh: Sealed = sqlx::query_scalar("select secret from app.hook").fetch_one(&mut conn).await.unwrap();
    assert_ne!(fresh.dek(), sealed.dek());
    let text = stage.vault.open(&mut conn, &cell, &fresh).await.unwrap();
    assert_eq!(text.expose_secret(), b"hook secret");
    assert_eq!(one(&mut conn, TOLD).await, "key.rotation_begun,key.rotated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k7_a_key_is_retired_once_nothing_needs_it_and_somebody_else_agrees() {
    let stage = Stage::provisioned().await;
    keep(&stage, 2).await;
    let scope = of_tenant(&stage).await;
    let old = census(&scope).await.unwrap().deks[0].id;
    let errand = Errand::RetireDek(old);
    let retire = async |kept| change(&scope, &stage.vault, &errand, kept, "ada", false).await;
    let active = retire(Duration::ZERO).await;
    assert!(matches!(active, Err(KeyFault::Retire(vault::RetireRefused::Active(_)))), "{active:?}");
    succeeded(stage.run(prepared(&stage, &RESEAL).await).await);
    let backups = retire(OLDER_THAN).await;
    assert!(matches!(backups, Err(KeyFault::Retire(vault::RetireRefused::Backups { .. }))), "{backups:?}");
    let Asked::Waits { id, .. } = retire(Duration::ZERO).await.unwrap() else {
        panic!("nobody has said yes")
    };
    let mut tx = scope.write().await.unwrap();
    let grace = actor::named(&mut tx, "grace").await.unwrap().id;
    let digest = approval::get(&mut tx, id).await.unwrap().unwrap().digest;
    approval::approve(&mut tx, id, &digest, grace, None).await.unwrap();
    tx.commit().await.unwrap();
    let retired = vault::Retired { is_new: true, destroyed: false };
    assert_eq!(retire(Duration::ZERO).await.unwrap(), Asked::Done(Changed::Retired(retired)));
    assert_eq!(inside(&stage, TOLD).await, "key.rotation_begun,key.rotated,key.retired");
    assert_eq!(texts(&stage).await["c00001"], "secret 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k9_a_credential_is_opened_when_a_source_connects_and_shown_by_nothing() {
    let stage = Stage::provisioned().await;
    let db = stage.as_request().await;
    let text = "name = \"crm\"\nkind = \"http\"\n[http]\nbase_url = \"http://127.0.0.1:9/\"\n\
        auth = { type = \"bearer\", token_credential = \"crm-reader\" }\n[[streams]]\nname = \"rows\"\n\
        path = \"people\"\nkey = [\"id\"]\npagination = { type = \"none\" }\n";
    let definition = Definition::parse(text, "crm.toml").unwrap();
    assert_eq!(definition.credentials(), ["crm-reader"]);
    connector_registry::register(&db, &definition, "ada").await.unwrap();
    let connect = async |definition: &Definition| {
        Source::connect(definition, std::sync::Arc::new(LocalBudget::default())).await.map(|_| ())
    };
    let unattached = connect(&definition).await.unwrap_err().to_string();
    assert!(unattached.contains("--tenant"), "{unattached}");
    let definition = connector_registry::open(&db, &stage.vault, "crm").await.unwrap();
    let absent = connect(&definition).await.unwrap_err().to_string();
    assert!(absent.contains("connector credential set crm-reader"), "{absent}");
    set(&stage, "crm-reader", "hunter2-the-token").await;
    connect(&definition).await.unwrap();
    let shown = format!("{definition:?} {:?}", connector_credential::list(&db).await.unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    let everywhere =
        "select (select string_agg(convert_from(content, 'UTF8'), '') from governance.audit_entry)
        || (select string_agg(c::text, '') from tenant.connector_credential c)";
    let everywhere = inside(&stage, everywhere).await;
    assert!(!everywhere.contains("hunter2") && everywhere.contains("credential.set"), "{everywhere}");
    let named = connector_credential::remove(&db, "crm-reader", "ada", false).await;
    assert!(matches!(named, Err(CredentialFault::InUse { .. })), "{named:?}");
    fs::remove_file(&stage.keyring).unwrap();
    let lost = connect(&definition).await.unwrap_err();
    assert_eq!(lost.class(), connectors::ErrorClass::Configuration, "{lost}");
}
