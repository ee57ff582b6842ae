//! Q2: the newest fence wins, and a step is applied once.

use std::convert::Infallible;
use std::future::{Ready, ready};

use super::*;

/// A control database that says yes.
fn lease_stands() -> Ready<Result<bool, Infallible>> {
    ready(Ok(true))
}

/// A tenant with a table of effects.
async fn with_effects(tenants: &TestTenants) -> Tenant {
    let tenant = tenants.add("acme").await;
    let mut inside = tenants.inside(&tenant).await;
    sqlx::raw_sql("create table tenant.effect (attempt text)").execute(&mut inside).await.unwrap();
    tenant
}

/// Who wrote, in the order of writing.
async fn written(tenants: &TestTenants, tenant: &Tenant) -> Vec<String> {
    let mut inside = tenants.inside(tenant).await;
    sqlx::query_scalar("select attempt from tenant.effect").fetch_all(&mut inside).await.unwrap()
}

/// The step's effect, begun.
async fn begin(db: &TenantDb, step: &str) -> Effect {
    match db.effect(step).await.expect("the fence stands") {
        Begun::Fresh(effect) => effect,
        Begun::AlreadyApplied => panic!("the step {step} was not applied before"),
    }
}

async fn write(effect: &mut Effect, attempt: &str) {
    let insert = sqlx::query("insert into tenant.effect values ($1)").bind(attempt);
    insert.execute(&mut **effect).await.expect("the transaction is open");
}

#[tokio::test]
async fn q2_an_older_fence_writes_nothing_once_a_newer_is_up() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    let (older, newer) =
        (tenants.for_job(&tenant, 7, 1).await.unwrap(), tenants.for_job(&tenant, 7, 2).await.unwrap());
    older.raise_fence(lease_stands()).await.unwrap();
    let mut effect = begin(&older, "one").await;
    write(&mut effect, "older").await;
    effect.commit().await.unwrap();
    newer.raise_fence(lease_stands()).await.unwrap();
    assert!(matches!(older.effect("two").await, Err(TenantError::Fenced)));
    assert!(matches!(older.raise_fence(lease_stands()).await, Err(TenantError::Fenced)));
    let mut effect = begin(&newer, "two").await;
    write(&mut effect, "newer").await;
    effect.commit().await.unwrap();
    assert_eq!(written(&tenants, &tenant).await, ["older", "newer"]);
}

#[tokio::test]
async fn q2_an_older_attempt_in_the_midst_of_its_effect_is_ended_and_writes_nothing() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    let (older, newer) =
        (tenants.for_job(&tenant, 7, 1).await.unwrap(), tenants.for_job(&tenant, 7, 2).await.unwrap());
    older.raise_fence(lease_stands()).await.unwrap();
    let mut effect = begin(&older, "one").await;
    write(&mut effect, "older").await;
    newer.raise_fence(lease_stands()).await.expect("the older attempt is ended");
    let late = effect.commit().await.expect_err("its session is gone");
    assert_eq!(late.class(), Class::Transient, "{late}");
    let mut effect = begin(&newer, "one").await;
    write(&mut effect, "newer").await;
    effect.commit().await.unwrap();
    assert_eq!(written(&tenants, &tenant).await, ["newer"]);
}

/// Ends only what is in its own way: another job's transaction goes on.
#[tokio::test]
async fn q2_a_raise_ends_no_other_jobs_transaction() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    let other = tenants.for_job(&tenant, 8, 1).await.unwrap();
    let older = tenants.for_job(&tenant, 7, 2).await.unwrap();
    let newer = tenants.for_job(&tenant, 7, 3).await.unwrap();
    other.raise_fence(lease_stands()).await.unwrap();
    older.raise_fence(lease_stands()).await.unwrap();
    let mut bystander = begin(&other, "one").await;
    let blocking = begin(&older, "one").await;
    newer.raise_fence(lease_stands()).await.unwrap();
    write(&mut bystander, "other").await;
    bystander.commit().await.unwrap();
    blocking.commit().await.expect_err("it was in the way");
}

/// An older attempt that comes late must not end the newer one's transaction to get its fence up.
#[tokio::test]
async fn q2_an_older_raise_ends_no_newer_transaction() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    let (older, newer) =
        (tenants.for_job(&tenant, 7, 1).await.unwrap(), tenants.for_job(&tenant, 7, 2).await.unwrap());
    newer.raise_fence(lease_stands()).await.unwrap();
    let mut effect = begin(&newer, "one").await;
    let late = older.raise_fence(lease_stands()).await.expect_err("a newer fence is up");
    assert!(matches!(late, TenantError::Fenced), "{late}");
    write(&mut effect, "newer").await;
    effect.commit().await.unwrap();
    assert_eq!(written(&tenants, &tenant).await, ["newer"]);
}

#[tokio::test]
async fn q2_a_replayed_step_is_skipped_by_every_attempt() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    for fence in 1..=2 {
        let db = tenants.for_job(&tenant, 7, fence).await.unwrap();
        db.raise_fence(lease_stands()).await.unwrap();
        for _ in 0..2 {
            if let Begun::Fresh(mut effect) = db.effect("one").await.unwrap() {
                write(&mut effect, "once").await;
                effect.commit().await.unwrap();
            }
        }
    }
    assert_eq!(written(&tenants, &tenant).await, ["once"]);
}

#[tokio::test]
async fn q2_an_effect_that_was_dropped_never_was_and_can_be_done_again() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    let db = tenants.for_job(&tenant, 7, 1).await.unwrap();
    db.raise_fence(lease_stands()).await.unwrap();
    let mut effect = begin(&db, "one").await;
    write(&mut effect, "dropped").await;
    drop(effect);
    let mut effect = begin(&db, "one").await;
    write(&mut effect, "done").await;
    effect.commit().await.unwrap();
    assert_eq!(written(&tenants, &tenant).await, ["done"]);
}

#[tokio::test]
async fn q2_an_attempt_that_raised_no_fence_has_no_effect() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    let db = tenants.for_job(&tenant, 7, 1).await.unwrap();
    assert!(matches!(db.effect("one").await, Err(TenantError::Fenced)));
}

/// Asked before the fence is up, the lease could be lost in between.
#[tokio::test]
async fn q2_the_lease_is_confirmed_after_the_fence_is_up() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    let db = tenants.for_job(&tenant, 7, 5).await.unwrap();
    let confirm = async {
        let mut inside = tenants.inside(&tenant).await;
        let fence = sqlx::query_scalar("select fence from tenant.job_fence where job = 7");
        fence.fetch_optional(&mut inside).await.map(|fence: Option<i64>| fence == Some(5))
    };
    db.raise_fence(confirm).await.expect("the fence is up by then");
    let lost = db.raise_fence(async { Ok::<_, Infallible>(false) }).await;
    assert!(matches!(lost, Err(TenantError::Fenced)));
    let silent = db.raise_fence(async { Err::<bool, _>("the control database is away") }).await;
    assert!(matches!(silent, Err(TenantError::Confirm(_))));
}

#[tokio::test]
async fn a_pruned_job_leaves_nothing_and_its_attempts_are_fenced() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    let (ended, live) =
        (tenants.for_job(&tenant, 7, 1).await.unwrap(), tenants.for_job(&tenant, 8, 1).await.unwrap());
    for db in [&ended, &live] {
        db.raise_fence(lease_stands()).await.unwrap();
        begin(db, "one").await.commit().await.unwrap();
    }
    let janitor = tenants.for_request(&tenant).await.unwrap();
    assert_eq!(janitor.prune_applied(&[7]).await.unwrap(), 2);
    assert!(matches!(ended.effect("two").await, Err(TenantError::Fenced)));
    assert!(matches!(live.effect("one").await, Ok(Begun::AlreadyApplied)));
}

/// Postgres would call this commit a success.
#[tokio::test]
async fn the_commit_of_a_failed_transaction_is_an_error() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    let db = tenants.for_job(&tenant, 7, 1).await.unwrap();
    db.raise_fence(lease_stands()).await.unwrap();
    let mut effect = begin(&db, "one").await;
    sqlx::raw_sql("select 1 / 0").execute(&mut *effect).await.expect_err("a division by zero");
    assert!(matches!(effect.commit().await, Err(TenantError::Aborted)));
    let mut effect = begin(&db, "one").await;
    sqlx::raw_sql("rollback").execute(&mut *effect).await.unwrap();
    assert!(matches!(effect.commit().await, Err(TenantError::Aborted)));
}

#[tokio::test]
async fn a_savepoint_in_an_effect_rolls_back_alone() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    let db = tenants.for_job(&tenant, 7, 1).await.unwrap();
    db.raise_fence(lease_stands()).await.unwrap();
    let mut effect = begin(&db, "one").await;
    write(&mut effect, "kept").await;
    let mut inner = effect.begin().await.unwrap();
    sqlx::raw_sql("insert into tenant.effect values ('undone')").execute(&mut *inner).await.unwrap();
    drop(inner);
    effect.commit().await.unwrap();
    assert_eq!(written(&tenants, &tenant).await, ["kept"]);
}

#[tokio::test]
async fn a_commit_that_the_server_refuses_is_told_from_one_whose_outcome_is_unknown() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    let at_commit = "create function tenant.at_commit() returns trigger language plpgsql as $$
        begin
            if new.attempt = 'refused' then raise 'no'; end if;
            perform pg_terminate_backend(pg_backend_pid());
            return new;
        end $$;
        create constraint trigger at_commit after insert on tenant.effect deferrable initially deferred
        for each row execute function tenant.at_commit()";
    sqlx::raw_sql(at_commit).execute(&mut tenants.inside(&tenant).await).await.unwrap();
    let db = tenants.for_job(&tenant, 7, 1).await.unwrap();
    db.raise_fence(lease_stands()).await.unwrap();
    let mut effect = begin(&db, "one").await;
    write(&mut effect, "refused").await;
    assert!(matches!(effect.commit().await, Err(TenantError::Database(_))));
    let mut effect = begin(&db, "one").await;
    write(&mut effect, "lost").await;
    let unknown = effect.commit().await.expect_err("the connection is lost");
    assert!(matches!(unknown, TenantError::CommitUnknown(_)), "{unknown}");
    assert_eq!(unknown.class(), Class::Transient);
}

#[tokio::test]
async fn jobs_write_by_effects_and_requests_do_not() {
    let tenants = TestTenants::create().await;
    let tenant = with_effects(&tenants).await;
    let (job, request) =
        (tenants.for_job(&tenant, 7, 1).await.unwrap(), tenants.for_request(&tenant).await.unwrap());
    assert!(matches!(job.write().await, Err(TenantError::WrongScope(_))));
    assert!(matches!(request.effect("one").await, Err(TenantError::WrongScope(_))));
    assert!(matches!(request.raise_fence(lease_stands()).await, Err(TenantError::WrongScope(_))));
    let mut write = request.write().await.unwrap();
    sqlx::raw_sql("insert into tenant.effect values ('request')").execute(&mut *write).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(written(&tenants, &tenant).await, ["request"]);
}
