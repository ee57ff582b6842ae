use super::*;

#[tokio::test]
async fn two_databases_share_nothing() {
    let (one, other) = (TestDatabase::create().await, TestDatabase::create().await);
    let mut conn = one.connect().await;
    sqlx::raw_sql("create table mine (id int)")
        .execute(&mut conn)
        .await
        .expect("an empty database takes a table");
    let mut conn = other.connect().await;
    let seen: bool =
        sqlx::query_scalar("select to_regclass('mine') is not null").fetch_one(&mut conn).await.unwrap();
    assert!(!seen);
}

#[tokio::test]
async fn a_migrated_database_has_the_schema_and_a_copy_is_as_good() {
    for _ in 0..2 {
        let database = TestDatabase::migrated(&[crate::migrate::control()]).await;
        let mut conn = database.connect().await;
        let tenants: i64 =
            sqlx::query_scalar("select count(*) from control.tenant").fetch_one(&mut conn).await.unwrap();
        assert_eq!(tenants, 0);
    }
}

#[test]
fn a_url_keeps_its_server_when_the_database_changes() {
    assert_eq!(with_database("postgres:///postgres?host=%2Fa&user=u", "x"), "postgres:///x?host=%2Fa&user=u");
    assert_eq!(with_database("postgres://u:p@h:1/postgres", "x"), "postgres://u:p@h:1/x?");
}
