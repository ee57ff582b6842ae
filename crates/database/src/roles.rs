//! What the service's own role may do that it should not (T5).

use sqlx::PgConnection;

/// A power that the runtime role should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is a superuser, or a member of one.
    Superuser,
    /// It passes over row-level security, or is a member of a role that does.
    BypassRls,
    /// It may make roles, or is a member of one that may; up to Postgres 15 that is nearly a superuser.
    CreateRole,
}

/// What is wrong with the role of this connection; an empty list when nothing is.
pub async fn check(conn: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
    let powers = sqlx::query!(
        r#"-- roles.check
        select coalesce(bool_or(rolsuper), false) as "superuser!",
               coalesce(bool_or(rolbypassrls), false) as "bypass_rls!",
               coalesce(bool_or(rolcreaterole), false) as "create_role!"
          from pg_roles
         where pg_has_role(current_user, oid, 'member')
           -- A superuser counts as a member of every role; what it is says enough.
           and (rolname = current_user or not (select rolsuper from pg_roles where rolname = current_user))"#
    )
    .fetch_one(conn)
    .await?;
    let found = [
        (powers.superuser, Finding::Superuser),
        (powers.bypass_rls, Finding::BypassRls),
        (powers.create_role, Finding::CreateRole),
    ];
    Ok(found.into_iter().filter_map(|(has, finding)| has.then_some(finding)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDatabase;

    async fn findings_of(attributes: &str, member_of: Option<&str>) -> Vec<Finding> {
        let mut conn = TestDatabase::create().await.connect().await;
        let name = format!("role_{}", uuid::Uuid::new_v4().simple());
        let group = format!("{name}_group");
        let group =
            member_of.map(|attributes| format!("create role {group} {attributes}; grant {group} to {name};"));
        let create =
            format!("create role {name} {attributes}; {} set role {name}", group.unwrap_or_default());
        sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut conn).await.unwrap();
        check(&mut conn).await.unwrap()
    }

    #[tokio::test]
    async fn t5_a_superuser_or_bypassrls_role_is_found() {
        assert_eq!(findings_of("login", None).await, []);
        assert_eq!(findings_of("superuser nobypassrls", None).await, [Finding::Superuser]);
        assert_eq!(findings_of("bypassrls", None).await, [Finding::BypassRls]);
        assert_eq!(findings_of("createrole", None).await, [Finding::CreateRole]);
    }

    #[tokio::test]
    async fn t5_a_power_that_is_a_set_role_away_is_found() {
        assert_eq!(findings_of("login", Some("bypassrls")).await, [Finding::BypassRls]);
        assert_eq!(findings_of("login noinherit", Some("superuser")).await, [Finding::Superuser]);
    }
}
