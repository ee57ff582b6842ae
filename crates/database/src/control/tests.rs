use sqlx::Connection;
use uuid::Uuid;

use super::deletion::{DeletionError, DeletionId, DeletionState, NewDeletion};
use super::*;
use crate::migrate;
use crate::testing::TestDatabase;

async fn catalogue() -> PgConnection {
    TestDatabase::migrated(&[migrate::control()]).await.connect().await
}

fn name(text: &str) -> TenantName {
    text.parse().expect("a name")
}

fn region(text: &str) -> Region {
    text.parse().expect("a region")
}

#[tokio::test]
async fn a_tenant_created_twice_is_one_tenant() {
    let mut conn = catalogue().await;
    let first = create(&mut conn, &name("acme"), &region("eu")).await.unwrap();
    let again = create(&mut conn, &name("acme"), &region("eu")).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(first.state, TenantState::Provisioning);
    assert_eq!(first.database_name, format!("tenant_{}", first.id.0.simple()));
    assert_eq!(list(&mut conn).await.unwrap(), std::slice::from_ref(&first));
    assert_eq!(by_id(&mut conn, first.id).await.unwrap(), Some(first));
}

#[tokio::test]
async fn a_name_taken_in_another_region_is_refused() {
    let mut conn = catalogue().await;
    create(&mut conn, &name("acme"), &region("eu")).await.unwrap();
    let refused = create(&mut conn, &name("acme"), &region("us")).await;
    assert!(matches!(refused, Err(ControlError::OtherRegion { region: taken, .. }) if taken == region("eu")));
}

#[tokio::test]
async fn only_a_provisioning_or_active_tenant_becomes_active() {
    let mut conn = catalogue().await;
    let tenant = create(&mut conn, &name("acme"), &region("eu")).await.unwrap();
    let active = mark_active(&mut conn, tenant.id, 1).await.unwrap();
    assert_eq!((active.state, active.schema_version), (TenantState::Active, Some(1)));
    let newer = mark_active(&mut conn, tenant.id, 2).await.unwrap();
    assert_eq!((newer.active_since, newer.schema_version), (active.active_since, Some(2)));
    sqlx::raw_sql("update control.tenant set state = 'deleting'").execute(&mut conn).await.unwrap();
    let refused = mark_active(&mut conn, tenant.id, 3).await;
    assert!(matches!(refused, Err(ControlError::WrongState { state: TenantState::Deleting, .. })));
    let nobody = mark_active(&mut conn, TenantId::generate(), 1).await;
    assert!(matches!(nobody, Err(ControlError::NoSuchTenant(_))));
}

#[test]
fn names_and_regions_follow_their_pattern() {
    for good in ["ab", "acme-2", &"a".repeat(40)] {
        assert!(good.parse::<TenantName>().is_ok(), "{good}");
    }
    for bad in ["", "a", "2a", "-a", "Acme", "a_b", "a b", "ä-b", "a\n", &"a".repeat(41)] {
        assert!(bad.parse::<TenantName>().is_err(), "{bad}");
    }
    assert!("a".parse::<Region>().is_ok());
    assert!("".parse::<Region>().is_err());
}

/// The pattern stands twice, in the program and in the schema.
#[tokio::test]
async fn the_schema_refuses_what_the_program_refuses() {
    let mut conn = catalogue().await;
    let id = TenantId::generate();
    let insert =
        "insert into control.tenant (id, name, region, database_name, role_name) values ($1, $2, $3, $4, $4)";
    for (name, region, database, constraint) in [
        ("Acme", "eu", id.database_name(), "tenant_name_pattern"),
        ("a", "eu", id.database_name(), "tenant_name_pattern"),
        ("acme", "EU", id.database_name(), "tenant_region_pattern"),
        ("acme", "eu", "postgres".to_owned(), "tenant_database_derived"),
    ] {
        let query = sqlx::query(insert).bind(id).bind(name).bind(region).bind(database);
        let error = query.execute(&mut conn).await.expect_err(constraint);
        assert_eq!(error.as_database_error().and_then(|error| error.constraint()), Some(constraint));
    }
}

#[test]
fn every_state_reads_as_it_is_written() {
    use TenantState::{Active, Deleted, Deleting, Frozen, Provisioning};
    for state in [Provisioning, Active, Frozen, Deleting, Deleted] {
        assert_eq!(state.to_string().parse::<TenantState>().unwrap(), state);
    }
    assert!(matches!("asleep".parse::<TenantState>(), Err(ControlError::UnknownState(_))));
}

/// An active tenant whose deletion may begin.
async fn cooled(conn: &mut PgConnection) -> (Tenant, DeletionId) {
    let tenant = create(conn, &name("acme"), &region("eu")).await.unwrap();
    let tenant = mark_active(conn, tenant.id, 1).await.unwrap();
    let id = deletion::reserve(conn).await.unwrap();
    let new =
        NewDeletion { id, tenant: tenant.id, approval: 1, requested_by: Uuid::new_v4(), cooling_off_secs: 0 };
    deletion::enter(conn, &new).await.unwrap();
    deletion::cool_off(conn, id).await.unwrap();
    (tenant, id)
}

async fn place(conn: &mut PgConnection, tenant: TenantId) -> Result<hold::Hold, ControlError> {
    hold::place(conn, tenant, "a lawsuit", Uuid::new_v4(), None).await
}

/// Waits until somebody in this database waits for a lock.
async fn somebody_waits(conn: &mut PgConnection) {
    let waits = "select exists (select from pg_stat_activity
                  where datname = current_database() and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut *conn).await.unwrap() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn e6_of_a_hold_and_a_beginning_at_the_same_time_the_first_wins() {
    for hold_first in [true, false] {
        let database = TestDatabase::migrated(&[migrate::control()]).await;
        let (mut one, mut other, mut third) =
            (database.connect().await, database.connect().await, database.connect().await);
        let (tenant, id) = cooled(&mut one).await;
        let mut first = one.begin().await.unwrap();
        if hold_first {
            place(&mut first, tenant.id).await.unwrap();
        } else {
            deletion::begin(&mut first, id).await.unwrap();
        }
        let second = tokio::spawn(async move {
            let mut second = other.begin().await.unwrap();
            let refused = if hold_first {
                matches!(deletion::begin(&mut second, id).await, Err(DeletionError::Held(holds)) if holds.len() == 1)
            } else {
                let refused = place(&mut second, tenant.id).await;
                matches!(refused, Err(ControlError::WrongState { state: TenantState::Deleting, .. }))
            };
            second.commit().await.unwrap();
            refused
        });
        somebody_waits(&mut third).await;
        first.commit().await.unwrap();
        assert!(second.await.unwrap(), "hold first: {hold_first}");
        let state = by_id(&mut third, tenant.id).await.unwrap().unwrap().state;
        assert_eq!(state, if hold_first { TenantState::Active } else { TenantState::Deleting });
    }
}

/// The rule stands twice, in the program and in the schema.
#[tokio::test]
async fn e6_the_schema_dooms_no_held_tenant_holds_no_doomed_one_and_lets_none_come_back() {
    let mut conn = catalogue().await;
    let (tenant, id) = cooled(&mut conn).await;
    let held = place(&mut conn, tenant.id).await.unwrap();
    let refused = async |conn: &mut PgConnection, statement: &'static str, constraint: &str| {
        let error = sqlx::raw_sql(statement).execute(conn).await.expect_err(constraint);
        assert_eq!(
            error.as_database_error().and_then(|error| error.constraint()),
            Some(constraint),
            "{error}"
        );
    };
    let doom = "update control.tenant set state = 'deleting'";
    refused(&mut conn, doom, "tenant_under_hold").await;
    assert!(hold::release(&mut conn, tenant.id, held.id, Uuid::new_v4()).await.unwrap());
    assert!(!hold::release(&mut conn, tenant.id, held.id, Uuid::new_v4()).await.unwrap(), "once");
    deletion::begin(&mut conn, id).await.unwrap();
    let late = "insert into control.legal_hold (tenant, reason, placed_by)
        select id, 'x', gen_random_uuid() from control.tenant";
    refused(&mut conn, late, "legal_hold_needs_a_living_tenant").await;
    for back in ["active", "frozen", "provisioning"] {
        let back = match back {
            "active" => "update control.tenant set state = 'active'",
            "frozen" => "update control.tenant set state = 'frozen'",
            _ => "update control.tenant set state = 'provisioning'",
        };
        refused(&mut conn, back, "tenant_ends_once").await;
    }
    deletion::finish(&mut conn, id).await.unwrap();
    refused(&mut conn, "update control.tenant set state = 'deleting'", "tenant_ends_once").await;
    assert_eq!(deletion::by_id(&mut conn, id).await.unwrap().state, DeletionState::Done);
}

#[tokio::test]
async fn e6_a_hold_that_is_over_holds_nothing_and_one_in_the_past_is_refused() {
    let mut conn = catalogue().await;
    let (tenant, id) = cooled(&mut conn).await;
    let now: DateTime<Utc> =
        sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut conn).await.unwrap();
    let past = hold::place(&mut conn, tenant.id, "x", Uuid::new_v4(), Some(now)).await;
    assert!(matches!(past, Err(ControlError::HoldIsOver)), "{past:?}");
    for reason in ["", "  ", &"x".repeat(1_001)] {
        let refused = hold::place(&mut conn, tenant.id, reason, Uuid::new_v4(), None).await;
        assert!(matches!(refused, Err(ControlError::BadReason)), "{refused:?}");
    }
    let until = Some(now + chrono::TimeDelta::hours(1));
    hold::place(&mut conn, tenant.id, "x", Uuid::new_v4(), until).await.unwrap();
    assert!(matches!(deletion::begin(&mut conn, id).await, Err(DeletionError::Held(_))));
    let age = "update control.legal_hold set placed_at = placed_at - interval '2 hours', until = until - interval '2 hours'";
    sqlx::raw_sql(age).execute(&mut conn).await.unwrap();
    assert_eq!(hold::in_force(&mut conn, tenant.id).await.unwrap(), []);
    deletion::begin(&mut conn, id).await.unwrap();
}

#[tokio::test]
async fn a_deletion_begins_only_approved_and_cooled_and_once() {
    let mut conn = catalogue().await;
    let tenant = create(&mut conn, &name("acme"), &region("eu")).await.unwrap();
    let id = deletion::reserve(&mut conn).await.unwrap();
    let new = NewDeletion {
        id,
        tenant: tenant.id,
        approval: 1,
        requested_by: Uuid::new_v4(),
        cooling_off_secs: 3_600,
    };
    deletion::enter(&mut conn, &new).await.unwrap();
    let early = deletion::begin(&mut conn, id).await;
    assert!(
        matches!(early, Err(DeletionError::WrongState { state: DeletionState::Requested, .. })),
        "{early:?}"
    );
    deletion::cool_off(&mut conn, id).await.unwrap();
    let early = deletion::begin(&mut conn, id).await;
    assert!(matches!(early, Err(DeletionError::CoolingOff { .. })), "{early:?}");
    sqlx::raw_sql("update control.deletion set cooled_at = clock_timestamp()")
        .execute(&mut conn)
        .await
        .unwrap();
    deletion::begin(&mut conn, id).await.unwrap();
    let twice = deletion::begin(&mut conn, id).await;
    assert!(matches!(twice, Err(DeletionError::WrongState { state: DeletionState::Begun, .. })), "{twice:?}");
    let late = deletion::give_up(&mut conn, id, DeletionState::CalledOff, None, "x").await;
    assert!(matches!(late, Err(DeletionError::WrongState { state: DeletionState::Begun, .. })), "{late:?}");
}
