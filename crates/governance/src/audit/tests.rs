use database::{migrate, testing::TestDatabase, testing::TestTenants};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection};

use super::*;

pub(crate) fn event(body: Value) -> Event {
    Event { kind: "test.happened", actor: None, job: None, body }
}

pub(crate) async fn chain() -> TestDatabase {
    TestDatabase::migrated(&[migrate::governance()]).await
}

/// All entries: number, content, hash.
async fn entries(conn: &mut PgConnection) -> Vec<(i64, Vec<u8>, Vec<u8>)> {
    let all = "select seq, content, hash from governance.audit_entry order by seq";
    sqlx::query_as(all).fetch_all(conn).await.unwrap()
}

/// The head that follows from the entries alone, by the formula.
fn recomputed(origin: &str, entries: &[(i64, Vec<u8>, Vec<u8>)]) -> Digest {
    let genesis = Digest::of(format!("tenure.audit.v1 genesis\n{origin}\n").as_bytes());
    entries.iter().enumerate().fold(genesis, |previous, (index, (seq, content, hash))| {
        assert_eq!(usize::try_from(*seq).unwrap(), index + 1, "numbers have no gap");
        let expected = Digest::of(&[content.as_slice(), previous.as_bytes()].concat());
        assert_eq!(expected.to_vec(), *hash, "entry {seq}");
        expected
    })
}

#[tokio::test]
async fn an_entry_is_canonical_and_chained_to_the_one_before() {
    let mut conn = chain().await.connect().await;
    let empty = head(&mut conn).await.unwrap();
    assert_eq!((empty.size, empty.hash), (0, recomputed(&empty.origin, &[])));
    let actor = crate::actor::named(&mut conn, "ada").await.unwrap().id;
    let full =
        Event { actor: Some(actor), job: Some(7), ..event(json!({"z": 1, "a": "é\n", "approval": "x"})) };
    append(&mut conn, &full).await.unwrap();
    let last = append(&mut conn, &event(json!({}))).await.unwrap();
    let entries = entries(&mut conn).await;
    assert_eq!(
        head(&mut conn).await.unwrap(),
        Head { origin: empty.origin.clone(), size: 2, hash: last.hash }
    );
    assert_eq!(recomputed(&empty.origin, &entries), last.hash);
    for (seq, content, _) in entries {
        let value: Value = serde_json::from_slice(&content).unwrap();
        assert_eq!(canonical::to_bytes(&value).unwrap(), content);
        assert_eq!((&value["tag"], &value["seq"]), (&json!("tenure.audit.v1"), &json!(seq)));
        if seq == 1 {
            assert_eq!((&value["actor"], &value["job"]), (&json!(actor), &json!("7")));
            assert_eq!(value["body"], full.body);
            let at = value["at"].as_str().unwrap();
            assert!(at.len() == 27 && at.ends_with('Z'), "{at}");
        }
    }
}

#[tokio::test]
async fn a2_a_thousand_concurrent_appends_are_one_chain() {
    let database = chain().await;
    let mut sessions = Vec::new();
    for session in 0..20 {
        let mut conn = database.connect().await;
        sessions.push(tokio::spawn(async move {
            for number in 0..50 {
                let mut tx = conn.begin().await.unwrap();
                append(&mut tx, &event(json!({"session": session, "number": number}))).await.unwrap();
                tx.commit().await.unwrap();
            }
        }));
    }
    for session in sessions {
        session.await.unwrap();
    }
    let mut conn = database.connect().await;
    let (head, entries) = (head(&mut conn).await.unwrap(), entries(&mut conn).await);
    assert_eq!((head.size, entries.len()), (1_000, 1_000));
    assert_eq!(recomputed(&head.origin, &entries), head.hash);
}

#[tokio::test]
async fn a3_a_rolled_back_transaction_leaves_no_gap_and_a_committed_one_its_entry() {
    let database = chain().await;
    let mut conn = database.connect().await;
    sqlx::raw_sql("create table effect (id int)").execute(&mut conn).await.unwrap();
    for id in 0..40 {
        let mut tx = conn.begin().await.unwrap();
        sqlx::query("insert into effect values ($1)").bind(id).execute(&mut *tx).await.unwrap();
        append(&mut tx, &event(json!({"id": id}))).await.unwrap();
        if id % 3 == 0 { tx.rollback().await.unwrap() } else { tx.commit().await.unwrap() }
    }
    let effects: Vec<i32> =
        sqlx::query_scalar("select id from effect order by id").fetch_all(&mut conn).await.unwrap();
    let (head, entries) = (head(&mut conn).await.unwrap(), entries(&mut conn).await);
    assert_eq!(recomputed(&head.origin, &entries), head.hash);
    let recorded: Vec<i32> = entries
        .iter()
        .map(|(_, content, _)| {
            serde_json::from_slice::<Value>(content).unwrap()["body"]["id"].as_i64().unwrap()
        })
        .map(|id| id.try_into().unwrap())
        .collect();
    assert_eq!(recorded, effects);
}

/// Statements that would rewrite history.
const REWRITES: [&str; 8] = [
    "update governance.audit_entry set content = 'x'",
    "delete from governance.audit_entry",
    "truncate governance.audit_entry",
    "update governance.checkpoint set note = 'x'",
    "delete from governance.checkpoint",
    "truncate governance.checkpoint",
    "delete from governance.audit_head",
    "truncate governance.audit_head",
];

async fn assert_refused(conn: &mut PgConnection, statement: &str) {
    let error = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(conn).await.expect_err(statement);
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("42501"), "{statement}: {error}");
}

#[tokio::test]
async fn a5_not_even_the_owner_updates_deletes_or_truncates_an_entry() {
    let mut conn = chain().await.connect().await;
    append(&mut conn, &event(json!({}))).await.unwrap();
    let note =
        "insert into governance.checkpoint (size, head, root, peaks, note) values (1, '', '', '', 'x')";
    sqlx::raw_sql(note).execute(&mut conn).await.unwrap();
    for statement in REWRITES {
        assert_refused(&mut conn, statement).await;
    }
}

#[tokio::test]
async fn a5_a_tenants_role_appends_and_reads_and_can_do_no_more() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.add("acme").await;
    let options = tenants.control().options().username(&tenant.role_name).database(&tenant.database_name);
    let mut conn = database::connect::connect(&options).await.unwrap();
    append(&mut conn, &event(json!({}))).await.unwrap();
    let head = head(&mut conn).await.unwrap();
    assert_eq!(head.origin, format!("tenant/{}", tenant.id));
    assert_eq!(recomputed(&head.origin, &entries(&mut conn).await), head.hash);
    let forgeries = [
        "insert into governance.audit_entry (seq, at, content, hash) values (2, now(), '', sha256(''))",
        "update governance.audit_head set origin = 'x'",
        "insert into governance.audit_head (only_row, origin) values (false, 'x')",
        "alter table governance.audit_entry disable trigger all",
        "create or replace function governance.refuse_change() returns trigger language plpgsql as 'begin return null; end'",
        "drop table governance.audit_entry",
        "update governance.migration set version = 0",
    ];
    for statement in REWRITES.into_iter().chain(forgeries) {
        assert_refused(&mut conn, statement).await;
    }
}

#[tokio::test]
async fn a_body_that_is_no_bounded_object_is_refused() {
    let mut conn = chain().await.connect().await;
    for body in [json!([]), json!("x"), json!({"x": "x".repeat(BODY_BYTES_MAX)})] {
        assert!(matches!(append(&mut conn, &event(body)).await, Err(AuditError::BadBody(_))));
    }
    let float = append(&mut conn, &event(json!({"x": 0.5}))).await;
    assert!(matches!(float, Err(AuditError::Body { .. })));
    let kind = append(&mut conn, &Event { kind: "Not \"a\" kind", ..event(json!({})) }).await;
    assert!(matches!(kind, Err(AuditError::Database(_))));
    assert_eq!(head(&mut conn).await.unwrap().size, 0);
    let largest = json!({"x": "x".repeat(BODY_BYTES_MAX - 8)});
    append(&mut conn, &event(largest)).await.unwrap();
}

/// The head row is locked, not updated: under a held snapshot updates would leave versions that every append walks.
#[tokio::test]
async fn a2_an_append_touches_no_more_pages_under_a_held_snapshot() {
    let database = chain().await;
    let (mut holder, mut conn) = (database.connect().await, database.connect().await);
    // The least of several: a look may read the catalogue anew, whenever any database of the server makes noise there.
    let touched = async |conn: &mut PgConnection| {
        let explain = "explain (analyze, buffers, format json) select * from governance.append('test.happened', null, null, '{}')";
        let mut least = i64::MAX;
        for _ in 0..9 {
            let plan: Value = sqlx::query_scalar(explain).fetch_one(&mut *conn).await.unwrap();
            least = least.min(plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap());
        }
        least
    };
    for n in 0..10 {
        append(&mut conn, &event(json!({ "n": n }))).await.unwrap();
    }
    let before = touched(&mut conn).await;
    sqlx::raw_sql("begin isolation level repeatable read; select 1").execute(&mut holder).await.unwrap();
    for n in 0..2_000 {
        append(&mut conn, &event(json!({ "n": n }))).await.unwrap();
    }
    let after = touched(&mut conn).await;
    assert!(after <= before + 15, "{before} pages before, {after} after");
}
