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
