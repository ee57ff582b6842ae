use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use database::control::{self, Tenant};
use governance::{audit, checkpoint};
use queue::NewJob;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::{
    classification::{CONTROL, Fate, TENANT},
    manifest::CHAIN,
    *,
};
use crate::{audit_checkpoint, testing::Stage};

/// Puts a row or more into every table of the tenant.
pub(crate) async fn populate(stage: &Stage) {
    let mut inside = stage.tenant_connection().await;
    sqlx::raw_sql(include_str!("tests/populated.sql")).execute(&mut inside).await.unwrap();
    let mut tx = inside.begin().await.unwrap();
    checkpoint::make(&mut tx, stage.checkpoints.key()).await.unwrap();
    tx.commit().await.unwrap();
    // In a queue that no worker claims from.
    let waiting = audit_checkpoint::job(&stage.tenant).unwrap().queue("elsewhere");
    stage.queue.enqueue(waiting).await.unwrap();
    let of_nobody = NewJob::raw("of_nobody", raw(r#"{"of": "nobody"}"#)).queue("elsewhere");
    stage.queue.enqueue(of_nobody).await.unwrap();
}

fn raw(text: &str) -> Box<serde_json::value::RawValue> {
    serde_json::from_str(text).unwrap()
}

async fn execute(conn: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(conn).await.unwrap();
}

/// Another tenant of the stage, in service.
async fn another(stage: &Stage, name: &str, region: &str) -> Tenant {
    let mut conn = stage.database.connect().await;
    let entered = control::create(&mut conn, &name.parse().unwrap(), &region.parse().unwrap()).await.unwrap();
    stage.provisioner.run(entered.id).await.unwrap()
}

/// A bundle of the tenant, in a folder of its own.
async fn bundle(stage: &Stage, tenant: &Tenant, folder: &Path) -> Result<(PathBuf, Bundle), BundleError> {
    let mut inside = stage.provisioner.inside(tenant).await.unwrap();
    let mut control = stage.database.connect().await;
    let mut inside = inside.begin_with("begin isolation level repeatable read, read only").await.unwrap();
    let control = control.begin_with("begin isolation level repeatable read, read only").await.unwrap();
    let name = name(tenant, "1".parse().unwrap());
    let partial = Partial::new(folder, &name, 1).unwrap();
    let about = About { tenant, program: "test" };
    let written = write(about, &mut inside, Some(control), &partial, &|_, _| true).await?;
    Ok((partial.offer().unwrap(), written))
}

/// All files of a bundle, unpacked.
fn unpacked(bundle: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = ZipArchive::new(fs::File::open(bundle).unwrap()).unwrap();
    let files = (0..archive.len()).map(|index| {
        let mut file = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        (file.name().unwrap().into_owned(), bytes)
    });
    files.collect()
}

#[tokio::test]
async fn e4_every_table_and_column_there_is_has_been_classified_and_every_classified_one_is_there() {
    let stage = Stage::provisioned().await;
    let mut inside = stage.tenant_connection().await;
    let mut control = stage.database.connect().await;
    for (conn, relations) in [(&mut inside, TENANT), (&mut control, CONTROL)] {
        let catalog = catalog::read(conn, relations).await.unwrap();
        for relation in relations {
            let Fate::Kept(kept) = relation.fate else {
                assert!(
                    catalog.excluded.iter().any(|(name, _)| name == relation.name),
                    "classification.rs excludes {}, which is not there: remove it",
                    relation.name
                );
                continue;
            };
            let table = catalog.tables.iter().find(|table| table.name == relation.name);
            let table = table
                .unwrap_or_else(|| panic!("classification.rs has {}, which is not there", relation.name));
            for column in kept.columns() {
                assert!(
                    table.has(column),
                    "classification.rs has {}.{column}, which is not there",
                    relation.name
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_export_import_export_gives_the_same_files_and_the_chain_goes_on() {
    let stage = Stage::provisioned().await;
    populate(&stage).await;
    execute(&mut stage.tenant_connection().await, "update governance.gate_mode set single_admin = true")
        .await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (file, exported) = bundle(&stage, &stage.tenant, first.path()).await.unwrap();
    for table in exported.manifest.restored() {
        let path = format!("tenant/{}.ndjson", table.name);
        assert!(exported.manifest.file(&path).unwrap().rows > 0, "populated.sql leaves {} empty", table.name);
    }
    let other = another(&stage, "other", "local").await;
    let mut owner = stage.provisioner.inside(&other).await.unwrap();
    let key = stage.checkpoints.key().public();
    let imported = import(&mut owner, &file, &other, &[], Some(&key)).await.unwrap();
    assert!(imported.verified.is_anchored && imported.rows > 3_000 && imported.sealed == 0);

    let (again, restored) = bundle(&stage, &other, second.path()).await.unwrap();
    let (before, after) = (unpacked(&file), unpacked(&again));
    let of_tenant = |files: &BTreeMap<String, Vec<u8>>| -> BTreeMap<String, Vec<u8>> {
        let files =
            files.iter().filter(|(path, _)| path.starts_with("tenant/") || path.starts_with("audit/"));
        files.map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
    };
    assert_eq!(of_tenant(&before), of_tenant(&after));
    assert_eq!(exported.manifest.sequences, restored.manifest.sequences);
    assert_ne!(before["manifest.json"], after["manifest.json"], "the tenant is another");

    // What was guarded is guarded again, provisioning takes the database for the tenant's own, and the chain goes on.
    let rewrite = sqlx::raw_sql("update governance.audit_entry set content = 'x'").execute(&mut owner).await;
    assert!(rewrite.unwrap_err().to_string().contains("only grows"));
    let dangling = "insert into tenant.review_seen (review_case, actor) values (999, gen_random_uuid())";
    assert!(
        sqlx::raw_sql(dangling).execute(&mut owner).await.is_err(),
        "references are checked at once again"
    );
    execute(
        &mut owner,
        "insert into tenant.path (name, connector, stream, fields, created_by)
        values ('next', 'crm', 'contacts', '{a}', gen_random_uuid())",
    )
    .await;
    let next: i64 =
        sqlx::query_scalar("select max(id) from tenant.path").fetch_one(&mut owner).await.unwrap();
    assert_eq!(next, 2, "numbers go on after those that were restored");
    stage.provisioner.run(other.id).await.unwrap();
    let event = audit::Event { kind: "test.happened", actor: None, job: None, body: serde_json::json!({}) };
    audit::append(&mut owner, &event).await.unwrap();
    let mut lines = Vec::new();
    audit::export(&mut owner, &mut lines).await.unwrap();
    let verdict = verifier::chain::verify(&mut lines.as_slice(), &[]).unwrap();
    let verifier::chain::Verdict::Unanchored(chain) = verdict else { panic!("{verdict:?}") };
    assert_eq!((chain.origin, chain.size), (format!("tenant/{}", stage.tenant.id), 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_the_same_rows_make_the_same_file_but_for_the_manifest() {
    let stage = Stage::provisioned().await;
    populate(&stage).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut files = Vec::new();
    for folder in &folders {
        let (file, written) = bundle(&stage, &stage.tenant, folder.path()).await.unwrap();
        let verified = verify(&file, &[], None).unwrap();
        assert_eq!(
            (verified.digest, verified.manifest.files),
            (written.digest, written.manifest.files.clone())
        );
        files.push(written.manifest.files);
    }
    assert_eq!(files[0], files[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2_what_commits_together_is_in_a_bundle_together_or_not_at_all() {
    let stage = Stage::provisioned().await;
    populate(&stage).await;
    let mut writer = stage.tenant_connection().await;
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let (tell, first) = tokio::sync::oneshot::channel();
    let writing = tokio::spawn(async move {
        let mut tell = Some(tell);
        let mut pairs = 0;
        while !stopped.load(Ordering::SeqCst) {
            // The first table of the bundle and the last one.
            execute(&mut writer, &format!(
                "begin; insert into governance.actor (id, person) select a, a from gen_random_uuid() a;
                 insert into tenant.writeback_step (writeback, number, to_state) values (1, {}, 'planned'); commit",
                pairs + 2
            )).await;
            pairs += 1;
            if let Some(tell) = tell.take() {
                tell.send(()).unwrap();
            }
        }
        pairs
    });
    first.await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let (_, written) = bundle(&stage, &stage.tenant, folder.path()).await.unwrap();
        let rows = |table: &str| written.manifest.file(&format!("tenant/{table}.ndjson")).unwrap().rows;
        assert_eq!(rows("governance.actor") - 3, rows("tenant.writeback_step") - 1);
    }
    stop.store(true, Ordering::SeqCst);
    assert!(writing.await.unwrap() > 0);
}

/// Plants secrets wherever a definition can hold one, and copies of them wherever else one may have come to lie.
async fn plant(stage: &Stage) -> Vec<&'static str> {
    let definition = r#"
        name = "planted" # planted-comment-00
        kind = "http"
        [http]
        base_url = "https://planted-user-01:planted-pass-02@api.example.com/?api_key=planted-query-03"
        auth = { type = "bearer", token = "planted-token-04" }
        headers = { Authorization = "planted-header-05" }
        [target]
        url = "postgres://writer:planted-pass-06@db.example.com/crm"
        [[streams]]
        name = "people"
        path = "people"
        params = { key = "planted-param-07" }
    "#;
    let mut inside = stage.tenant_connection().await;
    sqlx::query("insert into tenant.connector (name, definition) values ('planted', $1), ('none', 'planted-none-08 = ')")
        .bind(definition)
        .execute(&mut inside)
        .await
        .unwrap();
    execute(&mut inside, r#"
        insert into tenant.record (connector, stream, key, digest, data) values
            ('planted', 'people', 'planted-token-04', 'planted-pass-06', '{"said": "Bearer planted-token-04", "planted-header-05": 1}');
        insert into tenant.rejected_record (connector, stream, digest, reason, detail, excerpt) values
            ('planted', 'people', 'd', 'r', 'at postgres://x:planted-url-09@host', 'planted-query-03 planted-pass-02');
        insert into tenant.sync_run (job, connector, stream, warnings, report) values
            (1, 'planted', 'people', '{"token planted-token-04"}', '{"url": "https://a:planted-url-09@b/c"}')"#).await;
    execute(
        &mut stage.database.connect().await,
        &format!(
            "insert into queue.job (tenant, queue, kind, payload, note)
         values ('{}', 'x', 'x', '{{\"u\": \"postgres://x:planted-url-09@host\"}}', 'planted-token-04')",
            stage.tenant.id
        ),
    )
    .await;
    vec![
        "planted-comment-00",
        "planted-user-01",
        "planted-pass-02",
        "planted-query-03",
        "planted-token-04",
        "planted-header-05",
        "planted-pass-06",
        "planted-param-07",
        "planted-none-08",
        "planted-url-09",
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e3_a_planted_secret_is_found_nowhere_in_the_bundle() {
    let stage = Stage::provisioned().await;
    populate(&stage).await;
    let secrets = plant(&stage).await;
    let mut inside = stage.tenant_connection().await;
    // Sealed values are known by their type, whatever their bytes are.
    execute(
        &mut inside,
        "create domain tenant.sealed as bytea;
        alter table tenant.target_capability drop constraint target_capability_definition_is_sha256;
        alter table tenant.target_capability alter column definition type tenant.sealed;
        update tenant.target_capability set definition = convert_to('planted-sealed-10', 'UTF8')",
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let (file, written) = bundle(&stage, &stage.tenant, folder.path()).await.unwrap();
    let mut haystacks = unpacked(&file);
    haystacks.insert("the bundle's raw bytes".to_owned(), fs::read(&file).unwrap());
    for secret in secrets.into_iter().chain(["planted-sealed-10"]) {
        for (place, bytes) in &haystacks {
            for form in [secret.to_owned(), scrub::hex(secret.as_bytes())] {
                assert!(memchr::memmem::find(bytes, form.as_bytes()).is_none(), "{secret} is in {place}");
            }
        }
    }
    let text = |path: &str| String::from_utf8_lossy(&haystacks[path]).into_owned();
    assert!(text("tenant/tenant.target_capability.ndjson").contains(r#""definition":{"redacted":"sealed"}"#));
    assert!(text("tenant/tenant.connector.ndjson").contains("[redacted]"));
    assert!(text("tenant/tenant.record.ndjson").contains("Bearer [redacted]"));
    let sealed = written.manifest.restored().map(|table| table.sealed).sum::<u64>();
    assert_eq!(sealed, 1);
    verify(&file, &[], None).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e3_a_secret_in_bytes_that_cannot_be_changed_fails_by_the_columns_name() {
    let stage = Stage::provisioned().await;
    plant(&stage).await;
    let mut inside = stage.tenant_connection().await;
    execute(&mut inside, "insert into tenant.receipt (batch, position, leaf, content) values (1, 0, '', convert_to('{\"t\":\"planted-token-04\"}', 'UTF8'))").await;
    let folder = tempfile::tempdir().unwrap();
    let refused = bundle(&stage, &stage.tenant, folder.path()).await.unwrap_err().to_string();
    assert!(refused.contains("tenant.receipt.content") && !refused.contains("planted"), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_what_nobody_classified_fails_the_export_by_name_wherever_it_is() {
    let stage = Stage::provisioned().await;
    let folder = tempfile::tempdir().unwrap();
    let mut inside = stage.tenant_connection().await;
    let mut control = stage.database.connect().await;
    for (of_tenant, add, named, remove) in [
        (true, "create table tenant.added (id int)", "the table tenant.added", "drop table tenant.added"),
        (true, "create table public.stray (id int)", "the table public.stray", "drop table public.stray"),
        (
            true,
            "create materialized view tenant.seen as select 1",
            "the table tenant.seen",
            "drop materialized view tenant.seen",
        ),
        (
            true,
            "alter table tenant.record add column added text",
            "the column tenant.record.added",
            "alter table tenant.record drop column added",
        ),
        (false, "create table queue.added (id int)", "the table queue.added", "drop table queue.added"),
        (
            false,
            "alter table control.tenant add column added text",
            "the column control.tenant.added",
            "alter table control.tenant drop column added",
        ),
    ] {
        let conn = if of_tenant { &mut inside } else { &mut control };
        execute(conn, add).await;
        let refused = bundle(&stage, &stage.tenant, folder.path()).await.unwrap_err();
        assert!(matches!(&refused, BundleError::Unclassified(names) if *names == [named]), "{refused:?}");
        assert!(refused.to_string().contains(named), "{refused}");
        execute(conn, remove).await;
    }
    bundle(&stage, &stage.tenant, folder.path()).await.unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_installation_knows_of_others_stays() {
    let stage = Stage::provisioned().await;
    populate(&stage).await;
    let other = another(&stage, "other", "local").await;
    stage.queue.enqueue(audit_checkpoint::job(&other).unwrap()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, written) = bundle(&stage, &stage.tenant, folder.path()).await.unwrap();
    let rows = |table: &str| written.manifest.file(&format!("control/{table}.ndjson")).unwrap().rows;
    assert_eq!((rows("control.tenant"), rows("queue.job")), (1, 1));
    for (path, bytes) in unpacked(&file) {
        let others = other.id.to_string();
        assert!(memchr::memmem::find(&bytes, others.as_bytes()).is_none(), "{path} speaks of another tenant");
        assert!(memchr::memmem::find(&bytes, b"of_nobody").is_none(), "{path} has a job of the platform");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_a_changed_byte_anywhere_is_found_and_named() {
    let stage = Stage::provisioned().await;
    let mut inside = stage.tenant_connection().await;
    execute(
        &mut inside,
        "insert into tenant.record (connector, stream, key, digest, data) values ('c', 's', 'k', 'd', '{}')",
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = bundle(&stage, &stage.tenant, folder.path()).await.unwrap();
    let whole = fs::read(&file).unwrap();
    let changed = folder.path().join("changed.zip");
    let places = (0..whole.len()).step_by(61).chain(whole.len() - 90..whole.len());
    for at in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&changed, &bytes).unwrap();
        let refused = verify(&changed, &[], None);
        assert!(
            matches!(refused, Err(VerifyError::Mismatch { .. })),
            "byte {at} of {}: {refused:?}",
            whole.len()
        );
    }
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&changed, &whole[..length]).unwrap();
        assert!(matches!(verify(&changed, &[], None), Err(VerifyError::Mismatch { .. })), "cut to {length}");
    }
    // A whole archive in which one file is another.
    let mut files = unpacked(&file);
    *files.get_mut("tenant/tenant.record.ndjson").unwrap() = b"{}\n".to_vec();
    packed(&changed, &files);
    let refused = verify(&changed, &[], None).unwrap_err();
    assert!(
        matches!(&refused, VerifyError::Mismatch { file, .. } if file == "tenant/tenant.record.ndjson"),
        "{refused}"
    );
    let mut files = unpacked(&file);
    files.insert("more.txt".to_owned(), Vec::new());
    packed(&changed, &files);
    let refused = verify(&changed, &[], None).unwrap_err();
    assert!(matches!(&refused, VerifyError::Mismatch { file, .. } if file == "more.txt"), "{refused}");
    let mut files = unpacked(&file);
    files.remove(CHAIN);
    packed(&changed, &files);
    let refused = verify(&changed, &[], None).unwrap_err();
    assert!(matches!(&refused, VerifyError::Mismatch { file, .. } if file == CHAIN), "{refused}");
}

fn packed(to: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let mut zip = ZipWriter::new(fs::File::create(to).unwrap());
    for (path, bytes) in files {
        zip.start_file(path.as_str(), SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_nothing_is_imported_that_does_not_fit() {
    let stage = Stage::provisioned().await;
    populate(&stage).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = bundle(&stage, &stage.tenant, folder.path()).await.unwrap();
    let refused = async |file: &Path, tenant: &Tenant| {
        let mut owner = stage.provisioner.inside(tenant).await.unwrap();
        let planned = plan_import(&mut owner, file, tenant, &[], None).await.unwrap_err();
        let refused = import(&mut owner, file, tenant, &[], None).await.unwrap_err();
        assert_eq!(planned.to_string(), refused.to_string(), "a dry run says the same");
        refused
    };
    let not_empty = refused(&file, &stage.tenant).await;
    assert!(matches!(&not_empty, ImportError::NotEmpty(table) if table == "governance.actor"), "{not_empty}");

    let other = another(&stage, "other", "local").await;
    let changed = folder.path().join("changed.zip");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&changed, &bytes).unwrap();
    let altered = refused(&changed, &other).await;
    assert!(matches!(altered, ImportError::Verify(VerifyError::Mismatch { .. })), "{altered}");
    packed(
        &changed,
        &BTreeMap::from([("manifest.json".to_owned(), br#"{"format": 2, "new": []}"#.to_vec())]),
    );
    let newer = refused(&changed, &other).await;
    assert!(matches!(newer, ImportError::Verify(VerifyError::Newer { found: 2 })), "{newer}");

    let mut owner = stage.provisioner.inside(&other).await.unwrap();
    execute(&mut owner, "alter table tenant.wish add column added text").await;
    assert!(matches!(refused(&file, &other).await, ImportError::Bundle(BundleError::Unclassified(_))));
    execute(
        &mut owner,
        "alter table tenant.wish drop column added; alter table tenant.wish drop column detail",
    )
    .await;
    let schema = refused(&file, &other).await;
    assert!(matches!(schema, ImportError::OtherSchema(_)), "{schema}");

    let abroad = another(&stage, "abroad", "elsewhere").await;
    let region = refused(&file, &abroad).await;
    assert!(matches!(region, ImportError::OtherRegion { .. }), "{region}");
    let mut owner = stage.provisioner.inside(&abroad).await.unwrap();
    let rows: i64 =
        sqlx::query_scalar("select count(*) from tenant.record").fetch_one(&mut owner).await.unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_a_bundle_that_contradicts_itself_leaves_the_tenant_empty() {
    let stage = Stage::provisioned().await;
    populate(&stage).await;
    let mut inside = stage.tenant_connection().await;
    execute(&mut inside, "set session_replication_role = replica; delete from tenant.path; set session_replication_role = origin").await;
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = bundle(&stage, &stage.tenant, folder.path()).await.unwrap();
    let other = another(&stage, "other", "local").await;
    let mut owner = stage.provisioner.inside(&other).await.unwrap();
    let refused = import(&mut owner, &file, &other, &[], None).await.unwrap_err();
    assert!(matches!(refused, ImportError::Database(_)), "{refused}");
    let mut owner = stage.provisioner.inside(&other).await.unwrap();
    let rows: i64 =
        sqlx::query_scalar("select count(*) from tenant.record").fetch_one(&mut owner).await.unwrap();
    assert_eq!(rows, 0);
}
