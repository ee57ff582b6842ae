//! Databases of a server, made on demand.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::failure::is_sqlstate;

/// SQLSTATE `duplicate_database`.
const DUPLICATE_DATABASE: &str = "42P04";

/// SQLSTATE `unique_violation`: two processes made it in the same moment.
const UNIQUE_VIOLATION: &str = "23505";

/// Makes a database unless the server has it; answers whether it was made. Not to be called in a transaction.
pub async fn database(conn: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    let exists = sqlx::query_scalar!(
        r#"-- create.exists
        select exists (select from pg_database where datname = $1) as "exists!""#,
        name,
    )
    .fetch_one(&mut *conn)
    .await?;
    if exists {
        return Ok(false);
    }
    let create =
        format!("-- create.database\ncreate database \"{}\" template template0", name.replace('"', "\"\""));
    match sqlx::raw_sql(AssertSqlSafe(create)).execute(conn).await {
        Ok(_) => Ok(true),
        Err(error) if is_sqlstate(&error, DUPLICATE_DATABASE) || is_sqlstate(&error, UNIQUE_VIOLATION) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDatabase;

    #[tokio::test]
    async fn a_database_is_made_once_whoever_asks() {
        let server = TestDatabase::create().await;
        let name = format!("made \"{}\"", uuid::Uuid::new_v4().simple());
        let (mut one, mut other) = (server.connect().await, server.connect().await);
        let (first, second) = tokio::join!(database(&mut one, &name), database(&mut other, &name));
        assert!(first.unwrap() != second.unwrap() || !database(&mut one, &name).await.unwrap());
        assert!(!database(&mut one, &name).await.unwrap());
    }
}
