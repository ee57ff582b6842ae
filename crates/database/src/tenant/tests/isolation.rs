//! T1 and T6: nobody reaches another tenant's data.

use super::*;
use crate::control::{Region, TenantState};
use crate::embedded::ShutdownMode;
use crate::migrate;
use crate::testing::OwnServer;

/// A row that says whose database it is in.
async fn plant_canary(tenants: &TestTenants, tenant: &Tenant) {
    let plant = format!("create table tenant.canary as select '{}'::text as name", tenant.name);
    let mut inside = tenants.inside(tenant).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(plant)).execute(&mut inside).await.unwrap();
}

async fn canary(conn: &mut PgConnection) -> String {
    sqlx::query_scalar("select name from tenant.canary").fetch_one(conn).await.expect("the canary sings")
}

/// One use of a tenant's database, ended in the way that `n` picks. Returns the canary it saw, if it came so far.
async fn visit(db: TenantDb, n: usize) -> Option<String> {
    let mut read = db.read().await.expect("a connection comes free");
    let seen = canary(&mut read).await;
    match n % 5 {
        // As it should be.
        0 => read.finish().await.expect("nothing hinders the end"),
        // Dropped without an end.
        1 => drop(read),
        // Cancelled in the middle of a statement.
        2 => {
            let slow = sqlx::raw_sql("select pg_sleep(0.05)").execute(&mut *read);
            assert!(
                tokio::time::timeout(Duration::from_millis(2), slow).await.is_err(),
                "it was not cancelled"
            );
        }
        // A failed statement, then an end all the same.
        3 => {
            sqlx::raw_sql("select 1 / 0").execute(&mut *read).await.expect_err("a division by zero");
            read.finish().await.expect("a failed transaction can be rolled back");
        }
        _ => panic!("as planned"),
    }
    Some(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn t1_no_interleaving_panic_or_cancellation_leads_to_another_tenant() {
    let limits = Limits { backends_max: 3, ..Limits::default() };
    let tenants = TestTenants::with(&[], limits).await;
    let pair = [tenants.add("alpha").await, tenants.add("beta").await];
    for tenant in &pair {
        plant_canary(&tenants, tenant).await;
    }
    let mut visits = Vec::new();
    for n in 0..300 {
        let tenant = &pair[n % 2];
        let db = tenants.for_request(tenant).await.unwrap();
        let visit = tokio::spawn(visit(db, n / 2));
        // Some are aborted wherever they are: waiting, connecting, or at work.
        if n % 7 == 0 {
            visit.abort();
        }
        visits.push((tenant.name.to_string(), visit));
    }
    let mut seen = 0;
    for (expected, visit) in visits {
        if let Ok(Some(name)) = visit.await {
            assert_eq!(name, expected);
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} visits came so far as to see a canary");
    for tenant in &pair {
        let mut read = tenants.for_request(tenant).await.unwrap().read().await.unwrap();
        assert_eq!(canary(&mut read).await, tenant.name.as_str());
        read.finish().await.unwrap();
    }
}

#[tokio::test]
async fn t1_a_database_with_another_stamp_is_not_used() {
    let tenants = TestTenants::create().await;
    let (tenant, other) = (tenants.add("one").await, tenants.add("other").await);
    let mut inside = tenants.inside(&tenant).await;
    sqlx::query("update tenant.stamp set tenant_id = $1").bind(other.id).execute(&mut inside).await.unwrap();
    let refused =
        tenants.for_request(&tenant).await.unwrap().read().await.expect_err("it is stamped as another's");
    assert!(
        matches!(&refused, TenantError::OtherDatabase { stamp, .. } if *stamp == Some(other.id)),
        "{refused}"
    );
    assert_eq!(refused.class(), Class::Configuration);
    // And a connection that was refused is not kept for the next caller.
    tenants.for_request(&tenant).await.unwrap().read().await.expect_err("it is still stamped as another's");
}

#[tokio::test]
async fn t1_a_database_without_a_stamp_is_not_used() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.add("one").await;
    sqlx::raw_sql("drop schema tenant cascade").execute(&mut tenants.inside(&tenant).await).await.unwrap();
    let refused = tenants.for_request(&tenant).await.unwrap().read().await;
    assert!(matches!(refused, Err(TenantError::OtherDatabase { stamp: None, .. })));
}

#[tokio::test]
async fn t6_a_process_of_another_region_opens_nothing() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.add("abroad").await;
    let scope = Scope::of_request(tenant.id, "elsewhere".parse::<Region>().unwrap());
    let refused = tenants.databases().open(scope).await.err();
    assert!(matches!(refused, Some(TenantError::OtherRegion { .. })));
    let roles = [tenant.role_name.clone()];
    assert_eq!(backends(&mut tenants.control().connect().await, &roles).await, 0);
}

#[tokio::test]
async fn t6_a_tenant_that_moved_away_is_not_opened_by_an_old_handle() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.add("moving").await;
    let db = tenants.for_request(&tenant).await.unwrap();
    sqlx::raw_sql("update control.tenant set region = 'elsewhere'").execute(tenants.pool()).await.unwrap();
    assert!(matches!(db.read().await, Err(TenantError::OtherRegion { .. })));
}

#[tokio::test]
async fn a_tenant_out_of_service_is_refused_with_its_state() {
    let tenants = TestTenants::create().await;
    let fresh = tenants.enter("fresh").await;
    let refused = tenants.for_request(&fresh).await.err();
    assert!(matches!(refused, Some(TenantError::NotActive { state: TenantState::Provisioning, .. })));
    let tenant = tenants.add("frozen").await;
    let db = tenants.for_request(&tenant).await.unwrap();
    sqlx::raw_sql("update control.tenant set state = 'frozen'").execute(tenants.pool()).await.unwrap();
    // Seen by a handle from before, as soon as it connects.
    assert!(matches!(db.read().await, Err(TenantError::NotActive { state: TenantState::Frozen, .. })));
}

#[tokio::test]
async fn a_connection_lost_while_idle_is_replaced_unseen() {
    let mut server = OwnServer::start().await;
    let tenants = TestTenants::on(server.database(&[migrate::control()]).await, Limits::default()).await;
    let tenant = tenants.add("patient").await;
    let db = tenants.for_request(&tenant).await.unwrap();
    for mode in [ShutdownMode::Fast, ShutdownMode::Immediate] {
        db.read().await.unwrap().finish().await.unwrap();
        server.restart(mode).await;
        db.read().await.expect("a new connection").finish().await.unwrap();
    }
}

#[tokio::test]
async fn a_read_cannot_write_and_sees_one_snapshot() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.add("reader").await;
    let db = tenants.for_request(&tenant).await.unwrap();
    let mut read = db.read().await.unwrap();
    let count = "select count(*) from tenant.applied_step";
    let before: i64 = sqlx::query_scalar(count).fetch_one(&mut *read).await.unwrap();
    let insert = "insert into tenant.applied_step (job, step) values (1, 'x')";
    sqlx::raw_sql(insert).execute(&mut tenants.inside(&tenant).await).await.unwrap();
    let after: i64 = sqlx::query_scalar(count).fetch_one(&mut *read).await.unwrap();
    assert_eq!(before, after);
    let error = sqlx::raw_sql(insert).execute(&mut *read).await.expect_err("a write in a read");
    assert_eq!(crate::failure::sqlstate(&error).as_deref(), Some("25006"));
}

#[tokio::test]
async fn the_servers_lists_show_job_fence_and_tenant() {
    let tenants = TestTenants::create().await;
    let long = "a-name-of-the-greatest-length-that-it-has";
    let tenant = tenants.add(&long[..40]).await;
    for (job, shown) in [
        (42, format!("tenure job 42/1 {}", &long[..40])),
        (i64::MAX, format!("tenure job {}/1 {}", i64::MAX, &long[..30])),
    ] {
        let mut read = tenants.for_job(&tenant, job, 1).await.unwrap().read().await.unwrap();
        let name: String = sqlx::query_scalar("show application_name").fetch_one(&mut *read).await.unwrap();
        assert_eq!(name, shown);
        read.finish().await.unwrap();
    }
}
