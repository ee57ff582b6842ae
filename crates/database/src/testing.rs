//! Databases for tests: one real Postgres, a database per test.
//!
//! Owns: [`TestDatabase`], an empty or migrated database of a test's own, and [`OwnServer`], a throw-away server for
//! tests that restart it, and [`TestTenants`], tenants with databases. Public because every crate above tests against them.
//!
//! The server of the databases is the one that `with-postgres` started and named in `TENURE_TEST_SERVER`; without it
//! the process starts one of its own. Databases are not dropped: they go with their server.
//!
//! Refuses: to fail softly. What does not work panics with the reason, since a test has no better answer.

mod folder;
mod server;
mod template;
mod tenants;
#[cfg(test)]
mod tests;

use std::env;
use std::error::Error;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;
use uuid::Uuid;

pub use server::OwnServer;
pub use tenants::TestTenants;

/// Names the server of the test databases: the URL of its maintenance database, as superuser.
pub const SERVER_VARIABLE: &str = "TENURE_TEST_SERVER";

/// A database of its own for one test; it goes with its server.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    url: String,
}

impl TestDatabase {
    /// An empty database.
    pub async fn create() -> Self {
        Self::create_on(server_url().await, "template1").await
    }

    /// A database in which these sets of migrations have run, in this order. The second database of the same sets is
    /// a copy of the first and takes some ten milliseconds.
    pub async fn migrated(sets: &[&Migrator]) -> Self {
        let server = server_url().await;
        let template = template::of(server, sets).await;
        Self::create_on(server, &template).await
    }

    pub(crate) async fn create_on(server: &str, template: &str) -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut conn = connect(server).await;
        run(&mut conn, format!("create database {name} template {template}")).await;
        must(conn.close().await, "close the maintenance connection");
        Self { url: with_database(server, &name) }
    }

    /// The way to it, as superuser.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        must(self.url.parse(), "read the test database's URL")
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// A pool of at most `max` connections.
    pub async fn pool(&self, max: u32) -> PgPool {
        must(PgPoolOptions::new().max_connections(max).connect_with(self.options()).await, "open a pool")
    }

    /// One connection.
    pub async fn connect(&self) -> PgConnection {
        connect(&self.url).await
    }
}

/// The URL of the maintenance database of the server that all tests of this process share.
async fn server_url() -> &'static str {
    static URL: OnceCell<String> = OnceCell::const_new();
    URL.get_or_init(|| async {
        match env::var(SERVER_VARIABLE) {
            Ok(url) => url,
            Err(_) => server::of_this_process().await,
        }
    })
    .await
}

async fn connect(url: &str) -> PgConnection {
    must(PgConnection::connect(url).await, "connect to the test server")
}

/// Runs a statement whose text was put together here, from names made here.
async fn run(conn: &mut PgConnection, statement: String) {
    must(sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await, "prepare a test database");
}

/// The URL with another database.
fn with_database(url: &str, database: &str) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = address.rsplit_once('/').unwrap_or((address, ""));
    format!("{server}/{database}?{query}")
}

/// The value, or the end of the test with the whole chain of reasons.
fn must<T, E: Error>(result: Result<T, E>, doing: &str) -> T {
    result.unwrap_or_else(|error| panic!("could not {doing}: {}", reasons(&error)))
}

/// An error and all its causes in one line.
#[must_use]
pub fn reasons(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", reasons(cause)),
        None => error.to_string(),
    }
}
