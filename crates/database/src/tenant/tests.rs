//! The promises about tenants' data, on a real server.

mod contract;
mod isolation;
mod limits;

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::*;
use crate::testing::TestTenants;

/// Long enough for any machine: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until the answer is yes. Each question goes to the database, so this does not spin.
async fn until(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !question().await {
        assert!(Instant::now() < deadline, "in vain waited until {what}");
    }
}

/// The backend's process number.
async fn pid(conn: &mut PgConnection) -> i32 {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(conn).await.expect("the connection lives")
}

/// The number of backends of these tenants' roles.
async fn backends(conn: &mut PgConnection, roles: &[String]) -> i64 {
    sqlx::query_scalar("select count(*) from pg_stat_activity where usename = any($1)")
        .bind(roles)
        .fetch_one(conn)
        .await
        .expect("the server answers")
}
