//! T2: how many connections there are, and who gets one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// More tenants than places, and some of them cancelled in the middle of a statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn t2_backends_never_exceed_the_limit_with_many_tenants() {
    const LIMIT: usize = 5;
    let limits = Limits { backends_max: LIMIT, ..Limits::default() };
    let tenants = TestTenants::with(&[], limits).await;
    let mut all = Vec::new();
    for n in 0..40 {
        all.push(tenants.add(&format!("crowd-{n}")).await);
    }
    let done = Arc::new(AtomicBool::new(false));
    let watcher = tokio::spawn(watch(tenants.clone(), all.clone(), done.clone()));
    let visits: Vec<_> =
        (0..600).map(|n| tokio::spawn(visit(tenants.clone(), all[n * 7 % all.len()].clone(), n))).collect();
    for visit in visits {
        visit.await.expect("no visit panics");
    }
    done.store(true, Ordering::Relaxed);
    let most = watcher.await.expect("the watcher does not panic");
    assert_eq!(most, i64::try_from(LIMIT).unwrap(), "the limit is to be reached and never exceeded");
}

async fn visit(tenants: TestTenants, tenant: Tenant, n: usize) {
    let db = tenants.for_request(&tenant).await.expect("the tenant is in service");
    let mut read = db.read().await.expect("a connection comes free");
    if n.is_multiple_of(50) {
        let slow = sqlx::raw_sql("select pg_sleep(0.2)").execute(&mut *read);
        assert!(tokio::time::timeout(Duration::from_millis(2), slow).await.is_err(), "it was not cancelled");
    } else {
        read.finish().await.expect("nothing hinders the end");
    }
}

/// The most backends of these tenants that were ever seen at a time.
async fn watch(tenants: TestTenants, all: Vec<Tenant>, done: Arc<AtomicBool>) -> i64 {
    let roles: Vec<_> = all.into_iter().map(|tenant| tenant.role_name).collect();
    let mut conn = tenants.control().connect().await;
    let mut most = 0;
    while !done.load(Ordering::Relaxed) {
        most = most.max(backends(&mut conn, &roles).await);
    }
    most
}

fn one_place() -> Limits {
    Limits { backends_max: 1, wait_max: Duration::from_millis(100), ..Limits::default() }
}

#[tokio::test]
async fn who_waits_in_vain_is_told_what_to_raise() {
    let tenants = TestTenants::with(&[], one_place()).await;
    let (one, other) = (tenants.add("one").await, tenants.add("other").await);
    let (one, other) = (tenants.for_request(&one).await.unwrap(), tenants.for_request(&other).await.unwrap());
    let held = one.read().await.unwrap();
    let refused = other.read().await.expect_err("the only place is taken");
    assert!(matches!(refused, TenantError::Busy { limit: 1, setting: "backends_max", .. }), "{refused}");
    assert_eq!(refused.class(), Class::Transient);
    held.finish().await.unwrap();
    other.read().await.expect("the place is free").finish().await.unwrap();
}

#[tokio::test]
async fn one_tenant_does_not_take_all_places() {
    let limits = Limits { tenant_backends_max: 1, wait_max: Duration::from_millis(100), ..Limits::default() };
    let tenants = TestTenants::with(&[], limits).await;
    let (greedy, modest) = (tenants.add("greedy").await, tenants.add("modest").await);
    let greedy = tenants.for_request(&greedy).await.unwrap();
    let _held = greedy.read().await.unwrap();
    let refused = greedy.read().await.expect_err("its share is taken");
    assert!(
        matches!(refused, TenantError::Busy { limit: 1, setting: "tenant_backends_max", .. }),
        "{refused}"
    );
    tenants.for_request(&modest).await.unwrap().read().await.expect("the other has its own share");
}

#[tokio::test]
async fn a_clean_connection_is_kept_and_an_unclean_one_is_closed() {
    let tenants = TestTenants::with(&[], one_place()).await;
    let tenant = tenants.add("kept").await;
    let db = tenants.for_request(&tenant).await.unwrap();
    let mut read = db.read().await.unwrap();
    let first = pid(&mut read).await;
    read.finish().await.unwrap();
    let mut read = db.read().await.unwrap();
    assert_eq!(pid(&mut read).await, first);
    drop(read);
    let mut read = db.read().await.unwrap();
    assert_ne!(pid(&mut read).await, first);
}

#[tokio::test]
async fn the_least_recently_used_connection_makes_room() {
    let limits = Limits { backends_max: 2, ..Limits::default() };
    let tenants = TestTenants::with(&[], limits).await;
    let mut dbs = Vec::new();
    let mut roles = Vec::new();
    for name in ["first", "second", "third"] {
        let tenant = tenants.add(name).await;
        dbs.push(tenants.for_request(&tenant).await.unwrap());
        roles.push(tenant.role_name);
    }
    // First, second, first again: so the second is the one that was not used for longest.
    for n in [0, 1, 0, 2] {
        dbs[n].read().await.unwrap().finish().await.unwrap();
    }
    let mut conn = tenants.control().connect().await;
    let mut open = Vec::new();
    for role in roles {
        open.push(backends(&mut conn, &[role]).await);
    }
    assert_eq!(open, [1, 0, 1]);
}

#[tokio::test]
async fn an_unused_connection_is_closed_after_a_while() {
    let limits = Limits { idle_max: Duration::from_millis(20), ..Limits::default() };
    let tenants = TestTenants::with(&[], limits).await;
    let tenant = tenants.add("idle").await;
    tenants.for_request(&tenant).await.unwrap().read().await.unwrap().finish().await.unwrap();
    let mut conn = tenants.control().connect().await;
    let roles = [tenant.role_name];
    until("the connection is closed", async || backends(&mut conn, &roles).await == 0).await;
}

#[tokio::test]
async fn dropping_the_factory_closes_its_connections() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.add("gone").await;
    tenants.for_request(&tenant).await.unwrap().read().await.unwrap().finish().await.unwrap();
    let mut conn = tenants.control().connect().await;
    let roles = [tenant.role_name];
    assert_eq!(backends(&mut conn, &roles).await, 1);
    drop(tenants);
    until("the connection is closed", async || backends(&mut conn, &roles).await == 0).await;
}

#[tokio::test]
async fn a_cancelled_statement_ends_long_before_its_time() {
    let tenants = TestTenants::with(&[], one_place()).await;
    let tenant = tenants.add("hasty").await;
    let mut read = tenants.for_request(&tenant).await.unwrap().read().await.unwrap();
    let slow = sqlx::raw_sql("select pg_sleep(3600)").execute(&mut *read);
    assert!(tokio::time::timeout(Duration::from_millis(50), slow).await.is_err());
    drop(read);
    let mut conn = tenants.control().connect().await;
    let roles = [tenant.role_name];
    until("the statement is ended", async || backends(&mut conn, &roles).await == 0).await;
}
