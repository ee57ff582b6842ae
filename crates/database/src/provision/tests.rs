//! Provisioning, killed everywhere.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::*;
use crate::control::Region;
use crate::embedded::ShutdownMode;
use crate::migrate;
use crate::tenant::Limits;
use crate::testing::{OwnServer, TestDatabase, TestTenants};

/// The tenant is in service and its own handle can write.
async fn assert_in_service(tenants: &TestTenants, tenant: &Tenant) {
    let db = tenants.for_request(tenant).await.expect("the tenant is in service");
    let mut write = db.write().await.expect("its role may connect");
    sqlx::raw_sql("insert into tenant.applied_step (job, step) values (1, 'x') on conflict do nothing")
        .execute(&mut *write)
        .await
        .expect("its role may write");
    write.commit().await.expect("nothing hinders the commit");
}

#[tokio::test]
async fn a_run_killed_between_any_two_steps_is_finished_by_the_next() {
    let tenants = TestTenants::create().await;
    for done in 0..=Step::ALL.len() {
        let tenant = tenants.enter(&format!("killed-{done}")).await;
        for step in &Step::ALL[..done] {
            tenants.provisioner().step(tenant.id, *step).await.unwrap();
        }
        let finished = tenants.provisioner().run(tenant.id).await.unwrap();
        assert_eq!(finished.state, TenantState::Active);
        assert_in_service(&tenants, &finished).await;
    }
}

#[tokio::test]
async fn a_step_that_succeeded_can_be_repeated() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.enter("twice").await;
    for step in Step::ALL {
        for _ in 0..2 {
            tenants
                .provisioner()
                .step(tenant.id, step)
                .await
                .unwrap_or_else(|error| panic!("{step:?}: {error:?}"));
        }
    }
    assert_in_service(&tenants, &tenant).await;
}

/// Drops a run after so many polls; true if it was done before that.
async fn is_done_within(polls: usize, provisioner: &Provisioner, id: TenantId) -> bool {
    let mut run = pin!(provisioner.run(id));
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        run.as_mut().poll(context).map(|done| done.map(drop).is_ok())
    })
    .await
}

#[tokio::test]
async fn a_run_killed_inside_its_steps_is_finished_by_the_next() {
    let tenants = TestTenants::create().await;
    let mut polls = 1;
    let mut kills = 0;
    loop {
        let tenant = tenants.enter(&format!("inside-{polls}")).await;
        if is_done_within(polls, &tenants.provisioner(), tenant.id).await {
            break;
        }
        kills += 1;
        let finished = tenants.provisioner().run(tenant.id).await.unwrap();
        assert_in_service(&tenants, &finished).await;
        polls += polls / 4 + 1;
    }
    assert!(kills > 5, "the run was killed at {kills} places only");
}

#[tokio::test]
async fn two_processes_that_provision_one_tenant_at_once_both_succeed() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.enter("both").await;
    let (one, other) = (tenants.provisioner(), tenants.provisioner());
    let (one, other) = tokio::join!(one.run(tenant.id), other.run(tenant.id));
    one.unwrap();
    other.unwrap();
    assert_in_service(&tenants, &tenant).await;
}

#[tokio::test]
async fn many_tenants_can_be_provisioned_at_once() {
    let tenants = TestTenants::create().await;
    let running: Vec<_> = (0..6)
        .map(|n| {
            let tenants = tenants.clone();
            tokio::spawn(async move { tenants.add(&format!("many-{n}")).await })
        })
        .collect();
    for tenant in running {
        assert_in_service(&tenants, &tenant.await.unwrap()).await;
    }
}

#[tokio::test]
async fn t1_a_tenants_role_may_connect_to_its_own_database_only() {
    let tenants = TestTenants::create().await;
    let (one, other) = (tenants.add("one").await, tenants.add("other").await);
    let control = tenants.control().options();
    let (role, own) = (control.clone().username(&one.role_name), &one.database_name);
    PgConnection::connect_with(&role.clone().database(own)).await.expect("its own database is open to it");
    let closed = [role.clone().database(&other.database_name), role];
    for options in closed {
        let error = PgConnection::connect_with(&options).await.expect_err("not its own database");
        assert_eq!(crate::failure::sqlstate(&error).as_deref(), Some("42501"), "{error}");
    }
}

#[tokio::test]
async fn t1_a_tenants_role_owns_nothing_and_cannot_restamp_its_database() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.add("small").await;
    let options = tenants.control().options().username(&tenant.role_name).database(&tenant.database_name);
    let mut conn = PgConnection::connect_with(&options).await.unwrap();
    for forbidden in [
        "update tenant.stamp set tenant_id = gen_random_uuid()",
        "delete from tenant.stamp",
        "update tenant.migration set version = 0",
        "create table tenant.mine (id int)",
        "create table public.mine (id int)",
        "create temporary table mine (id int)",
        "create schema mine",
        "drop table tenant.applied_step",
        "create role mine",
        "create database mine",
    ] {
        let error = sqlx::raw_sql(forbidden).execute(&mut conn).await.expect_err(forbidden);
        assert_eq!(crate::failure::sqlstate(&error).as_deref(), Some("42501"), "{forbidden}: {error}");
    }
}

#[tokio::test]
async fn a_table_of_a_later_migration_is_open_to_the_role() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.add("later").await;
    let mut owner = tenants.inside(&tenant).await;
    sqlx::raw_sql("create table tenant.later (id bigserial)").execute(&mut owner).await.unwrap();
    let mut write = tenants.for_request(&tenant).await.unwrap().write().await.unwrap();
    sqlx::raw_sql("insert into tenant.later default values").execute(&mut *write).await.unwrap();
}

#[tokio::test]
async fn a_role_with_powers_is_refused() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.enter("powerful").await;
    let mut conn = tenants.control().connect().await;
    run(&mut conn, format!("create role {} createdb", identifier(&tenant.role_name))).await.unwrap();
    let refused = tenants.provisioner().run(tenant.id).await;
    assert!(matches!(refused, Err(ProvisionError::PowerfulRole(_))));
}

#[tokio::test]
async fn a_database_of_somebody_else_is_refused() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.enter("foreign").await;
    tenants.provisioner().step(tenant.id, Step::Role).await.unwrap();
    let mut conn = tenants.control().connect().await;
    let name = identifier(&tenant.database_name);
    run(&mut conn, format!("create database {name} owner {name}")).await.unwrap();
    let refused = tenants.provisioner().run(tenant.id).await;
    assert!(
        matches!(refused, Err(ProvisionError::ForeignDatabase { owner, .. }) if owner == tenant.role_name)
    );
}

#[tokio::test]
async fn t1_a_database_with_another_tenants_stamp_is_refused() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.add("stamped").await;
    let mut inside = tenants.inside(&tenant).await;
    sqlx::raw_sql("update tenant.stamp set tenant_id = gen_random_uuid()")
        .execute(&mut inside)
        .await
        .unwrap();
    let refused = tenants.provisioner().run(tenant.id).await;
    assert!(matches!(refused, Err(ProvisionError::OtherStamp { .. })));
}

#[tokio::test]
async fn a_frozen_tenant_is_left_alone() {
    let tenants = TestTenants::create().await;
    let tenant = tenants.add("frozen").await;
    sqlx::raw_sql("update control.tenant set state = 'frozen'").execute(tenants.pool()).await.unwrap();
    let refused = tenants.provisioner().run(tenant.id).await;
    assert!(matches!(refused, Err(ProvisionError::Control(ControlError::WrongState { .. }))));
}

/// The whole way without a superuser: the provisioning role makes roles and databases and owns the control database.
#[tokio::test]
async fn the_provisioning_role_needs_no_superuser() {
    let control = TestDatabase::create().await;
    let mut superuser = control.connect().await;
    let name = format!("provisioner_{}", uuid::Uuid::new_v4().simple());
    let database: String =
        sqlx::query_scalar("select current_database()").fetch_one(&mut superuser).await.unwrap();
    let make =
        format!("create role {name} login createrole createdb; alter database {database} owner to {name}");
    run(&mut superuser, make).await.unwrap();
    let admin = control.options().username(&name);
    let mut conn = PgConnection::connect_with(&admin).await.unwrap();
    migrate::run(&mut conn, migrate::control()).await.unwrap();
    let region: Region = TestTenants::region();
    let tenant = control::create(&mut conn, &"humble".parse().unwrap(), &region).await.unwrap();
    let provisioner = Provisioner::new(admin, TestTenants::passwords());
    provisioner.run(tenant.id).await.unwrap();
    provisioner.run(tenant.id).await.unwrap();
    let tenants = TestTenants::on(control, Limits::default()).await;
    assert_in_service(&tenants, &tenant).await;
    // Nor does it to take everything away again: here with a session of the tenant's role in the pool.
    doom(&tenants, &tenant).await;
    assert_eq!(provisioner.close(tenant.id).await.unwrap().sessions, 1);
    provisioner.drop(tenant.id).await.unwrap();
    assert_eq!(provisioner.remains(tenant.id).await.unwrap(), Vec::<String>::new());
}

/// On a server that asks for passwords: the verifier that was stored is that of the password that is sent.
#[tokio::test]
async fn t1_a_tenants_role_logs_in_with_its_own_password_only() {
    let mut server = OwnServer::start().await;
    let control = server.database(&[migrate::control()]).await;
    let tenants = TestTenants::on(control, Limits::default()).await;
    let (tenant, other) = (tenants.add("one").await, tenants.add("other").await);
    let ask = "copy (values ('local all postgres trust'), ('local all all scram-sha-256')) to ";
    let mut conn = tenants.control().connect().await;
    let file: String = sqlx::query_scalar("show hba_file").fetch_one(&mut conn).await.unwrap();
    run(&mut conn, format!("{ask} {}", literal(&file))).await.unwrap();
    server.restart(ShutdownMode::Fast).await;
    assert_in_service(&tenants, &tenant).await;
    let options = tenants.control().options().username(&tenant.role_name).database(&tenant.database_name);
    let wrong = options.password(&other.id.to_string());
    let error = PgConnection::connect_with(&wrong).await.expect_err("another tenant's password");
    assert_eq!(crate::classify(&error), Class::Configuration, "{error}");
    assert_eq!(crate::failure::sqlstate(&error).as_deref(), Some("28P01"));
}

/// Takes a tenant out of service for good, past every rule.
async fn doom(tenants: &TestTenants, tenant: &Tenant) {
    let doom = "update control.tenant set state = 'deleting' where id = $1";
    sqlx::query(doom).bind(tenant.id).execute(tenants.pool()).await.unwrap();
}

#[tokio::test]
async fn e5_what_was_provisioned_is_removed_and_nothing_of_a_tenant_in_service() {
    let tenants = TestTenants::create().await;
    let (gone, stays) = (tenants.add("gone").await, tenants.add("stays").await);
    let provisioner = tenants.provisioner();
    for refused in [provisioner.drop(gone.id).await, provisioner.close(gone.id).await.map(drop)] {
        let refused = refused.expect_err("it is in service");
        assert!(matches!(refused, ProvisionError::Control(ControlError::WrongState { .. })), "{refused:?}");
    }
    let db = tenants.for_request(&gone).await.unwrap();
    let held = db.write().await.unwrap();
    doom(&tenants, &gone).await;
    assert_eq!(provisioner.close(gone.id).await.unwrap().sessions, 1);
    drop(held);
    let role = tenants.control().options().username(&gone.role_name).database(&gone.database_name);
    PgConnection::connect_with(&role).await.expect_err("nobody is let in any more");
    assert!(provisioner.inside_doomed(gone.id).await.unwrap().is_some());
    assert_eq!(provisioner.remains(gone.id).await.unwrap().len(), 2);
    for _ in 0..2 {
        provisioner.drop(gone.id).await.unwrap();
        assert_eq!(provisioner.remains(gone.id).await.unwrap(), Vec::<String>::new());
    }
    assert!(provisioner.inside_doomed(gone.id).await.unwrap().is_none());
    assert_eq!(provisioner.close(gone.id).await.unwrap().sessions, 0, "harmless to repeat");
    let again = provisioner.run(gone.id).await;
    assert!(matches!(again, Err(ProvisionError::Control(ControlError::WrongState { .. }))), "{again:?}");
    assert_in_service(&tenants, &stays).await;
}
