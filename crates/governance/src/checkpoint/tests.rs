use std::{fs, os::unix::fs::PermissionsExt as _};

use database::{migrate, testing::TestDatabase};
use serde_json::json;
use verifier::{
    chain::{self, Verdict},
    note::Note,
};

use super::*;
use crate::audit::{self, Event};

async fn chain_of(entries: i64) -> PgConnection {
    let mut conn = TestDatabase::migrated(&[migrate::governance()]).await.connect().await;
    append(&mut conn, entries).await;
    conn
}

async fn append(conn: &mut PgConnection, entries: i64) {
    for n in 0..entries {
        let event =
            Event { kind: "test.happened", actor: None, job: None, body: json!({"n": n, "é": "\n"}) };
        audit::append(conn, &event).await.unwrap();
    }
}

fn key() -> SecretKey {
    SecretKey::from_seed("test", &[1; 32]).unwrap()
}

async fn export(conn: &mut PgConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    audit::export(conn, &mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn a4_an_export_fits_every_checkpoint_that_was_made() {
    let mut conn = chain_of(0).await;
    let mut checkpoints = Vec::new();
    for more in [0, 1, 6, 13] {
        append(&mut conn, more).await;
        let made = make(&mut conn, &key()).await.unwrap();
        assert!(made.is_new);
        assert_eq!(make(&mut conn, &key()).await.unwrap(), Made { is_new: false, ..made.clone() });
        let note = Note::parse(&made.note).unwrap();
        note.check(&key().public()).unwrap();
        checkpoints.push(note.checkpoint);
    }
    append(&mut conn, 2).await;
    let export = export(&mut conn).await;
    let Verdict::Verified(found) = chain::verify(&mut export.as_slice(), &checkpoints).unwrap() else {
        panic!("it fits");
    };
    let head = audit::head(&mut conn).await.unwrap();
    assert_eq!((found.origin, found.head, found.size, found.anchored), (head.origin, head.hash.0, 22, 20));
}

#[tokio::test]
async fn a1_a_chain_that_was_tampered_with_is_not_signed() {
    let mut conn = chain_of(5).await;
    make(&mut conn, &key()).await.unwrap();
    append(&mut conn, 5).await;
    sqlx::raw_sql("alter table governance.audit_entry disable trigger all").execute(&mut conn).await.unwrap();
    for (tampering, broken) in [
        ("update governance.audit_entry set content = set_byte(content, 20, 1) where seq = 8", 8),
        ("delete from governance.audit_entry where seq = 7", 7),
    ] {
        sqlx::raw_sql("begin").execute(&mut conn).await.unwrap();
        sqlx::raw_sql(tampering).execute(&mut conn).await.unwrap();
        let refused = make(&mut conn, &key()).await;
        assert!(matches!(refused, Err(CheckpointError::Broken(seq)) if seq == broken), "{refused:?}");
        sqlx::raw_sql("rollback").execute(&mut conn).await.unwrap();
    }
    sqlx::raw_sql("delete from governance.audit_entry where seq > 4").execute(&mut conn).await.unwrap();
    assert!(matches!(make(&mut conn, &key()).await, Err(CheckpointError::Rewritten(5))));
}

#[test]
fn a_key_file_is_its_owners_alone_and_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.key");
    generate_key_file(&path, "tenure", &[3; 32]).unwrap();
    let key = read_key_file(&path).unwrap();
    let public = fs::read_to_string(folder.path().join("audit.key.pub")).unwrap();
    assert_eq!(public.trim_end(), key.public().text());
    assert!(matches!(generate_key_file(&path, "tenure", &[4; 32]), Err(CheckpointError::File { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(read_key_file(&path), Err(CheckpointError::OpenToOthers { mode: 0o640, .. })));
    fs::write(&path, "no key").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(read_key_file(&path), Err(CheckpointError::Key(_))));
}

#[test]
fn a_stored_checkpoint_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let made = |note: &str| Made { size: 12, note: note.to_owned(), is_new: true };
    let file = store(folder.path(), "tenant/x", &made("one")).unwrap();
    assert_eq!(store(folder.path(), "tenant/x", &made("other")).unwrap(), file);
    assert_eq!(fs::read_to_string(&file).unwrap(), "one");
    assert!(file.ends_with("tenant-x/0000000000000012.note"), "{}", file.display());
}
