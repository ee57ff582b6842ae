//! What the service's own role may do in the control database.

use sqlx::{Connection, PgConnection};

use super::{identifier, run, schema::grant_governance};

/// Lets the service's own role into the control database, on a connection of the role that owns the schemas `control`
/// and `governance` there. It may use both, and only read and lengthen the platform's audit chain (A5); the schema
/// `queue` it makes and owns itself, since it makes and drops partitions every day. One transaction, harmless to
/// repeat; for tables to come too.
///
/// Nothing is done if the two are one role: an owner needs no grants, and they would not bind it.
pub async fn admit_service(conn: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
    let mut tx = conn.begin().await?;
    let here = sqlx::query!(
        r#"-- provision.where_and_who
        select current_database() as "database!", current_user as "user!""#
    )
    .fetch_one(&mut *tx)
    .await?;
    if here.user == role {
        return tx.rollback().await;
    }
    let (database, role) = (identifier(&here.database), identifier(role));
    for statement in [
        format!("grant connect, create on database {database} to {role}"),
        format!("grant usage on schema control to {role}"),
        format!("grant select, insert, update, delete on all tables in schema control to {role}"),
        format!("revoke insert, update, delete on control.migration from {role}"),
        format!("grant usage on all sequences in schema control to {role}"),
        format!(
            "alter default privileges in schema control grant select, insert, update, delete on tables to {role}"
        ),
        format!("alter default privileges in schema control grant usage on sequences to {role}"),
    ] {
        run(&mut tx, statement).await?;
    }
    grant_governance(&mut tx, &role).await?;
    tx.commit().await
}
