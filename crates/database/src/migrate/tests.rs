use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::MigrationType;

use super::*;
use crate::testing::TestDatabase;

fn migration(version: i64, sql: &'static str) -> Migration {
    let name = Cow::Owned(format!("step {version}"));
    Migration::new(version, name, MigrationType::Simple, sql.into_sql_str(), false)
}

fn set(migrations: &[(i64, &'static str)]) -> Migrator {
    let migrations = migrations.iter().map(|(version, sql)| migration(*version, sql)).collect();
    in_schema(Migrator::with_migrations(migrations), "sample")
}

const FIRST: (i64, &str) = (1, "create table sample.first (id int)");
const SECOND: (i64, &str) = (2, "create table sample.second (id int)");

#[tokio::test]
async fn a_plan_changes_nothing_and_a_run_does_what_was_planned() {
    let mut conn = TestDatabase::create().await.connect().await;
    let set = set(&[FIRST, SECOND]);
    let planned = plan(&mut conn, &set).await.unwrap();
    assert_eq!(
        planned.iter().map(|one| (one.version, one.sql.as_str())).collect::<Vec<_>>(),
        [FIRST, SECOND]
    );
    assert_eq!(plan(&mut conn, &set).await.unwrap(), planned);
    let ran = run(&mut conn, &set).await.unwrap();
    assert_eq!(ran.iter().map(|one| one.version).collect::<Vec<_>>(), [1, 2]);
    assert!(ran.iter().all(|one| one.elapsed.is_some()));
    assert_eq!(run(&mut conn, &set).await.unwrap(), []);
    let status = status(&mut conn, &set).await.unwrap();
    assert_eq!((status.applied, status.pending), (ran, vec![]));
}

#[tokio::test]
async fn an_edited_migration_is_detected() {
    let mut conn = TestDatabase::create().await.connect().await;
    run(&mut conn, &set(&[FIRST])).await.unwrap();
    let edited = set(&[(1, "create table sample.first (id bigint)"), SECOND]);
    assert!(matches!(plan(&mut conn, &edited).await, Err(MigrateError::Edited(1))));
    assert!(matches!(run(&mut conn, &edited).await, Err(MigrateError::Edited(1))));
}

#[tokio::test]
async fn a_schema_newer_than_the_program_is_detected() {
    let mut conn = TestDatabase::create().await.connect().await;
    run(&mut conn, &set(&[FIRST, SECOND])).await.unwrap();
    assert!(matches!(run(&mut conn, &set(&[FIRST])).await, Err(MigrateError::Newer(2))));
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing_of_itself_and_the_rerun_finishes() {
    let mut conn = TestDatabase::create().await.connect().await;
    let broken = set(&[FIRST, (2, "create table sample.second (id int); select 1 / 0")]);
    assert!(matches!(run(&mut conn, &broken).await, Err(MigrateError::Step { version: 2, .. })));
    let mended = set(&[FIRST, SECOND]);
    let ran = run(&mut conn, &mended).await.unwrap();
    assert_eq!(ran.iter().map(|one| one.version).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_migration_gives_up_on_a_lock_and_leaves_the_session_as_it_was() {
    let database = TestDatabase::create().await;
    let (mut conn, mut other) = (database.connect().await, database.connect().await);
    run(&mut conn, &set(&[FIRST])).await.unwrap();
    sqlx::raw_sql("begin; lock table sample.first").execute(&mut other).await.unwrap();
    sqlx::raw_sql("set lock_timeout = '7s'").execute(&mut conn).await.unwrap();
    // The migration's own setting, so that the test need not wait the full time.
    let waits = set(&[FIRST, (2, "set local lock_timeout = '10ms'; alter table sample.first add a int")]);
    assert!(matches!(run(&mut conn, &waits).await, Err(MigrateError::Locked(2))));
    let timeout: String = sqlx::query_scalar("show lock_timeout").fetch_one(&mut conn).await.unwrap();
    assert_eq!(timeout, "7s");
    let locks = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    let held: i64 = sqlx::query_scalar(locks).fetch_one(&mut conn).await.unwrap();
    assert_eq!(held, 0);
}

#[tokio::test]
async fn a_migration_runs_under_a_lock_timeout() {
    let mut conn = TestDatabase::create().await.connect().await;
    let noted = "create table sample.noted as select current_setting('lock_timeout') as timeout";
    run(&mut conn, &set(&[(1, noted)])).await.unwrap();
    let timeout: String =
        sqlx::query_scalar("select timeout from sample.noted").fetch_one(&mut conn).await.unwrap();
    assert_eq!(timeout, LOCK_TIMEOUT);
}

#[tokio::test]
async fn two_processes_that_migrate_at_once_both_succeed() {
    let database = TestDatabase::create().await;
    let (mut one, mut other) = (database.connect().await, database.connect().await);
    let set = set(&[FIRST, SECOND]);
    let (one, other) = tokio::join!(run(&mut one, &set), run(&mut other, &set));
    assert_eq!(one.unwrap().len() + other.unwrap().len(), 2);
}

#[tokio::test]
async fn our_own_sets_run_side_by_side() {
    let mut conn = TestDatabase::create().await.connect().await;
    assert!(!run(&mut conn, control()).await.unwrap().is_empty());
    for set in of_tenant() {
        assert!(!run(&mut conn, set).await.unwrap().is_empty());
    }
    assert_eq!(
        newest(control()),
        status(&mut conn, control()).await.unwrap().applied.last().unwrap().version
    );
}
