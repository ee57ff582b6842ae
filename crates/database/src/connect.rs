//! The way to the control database, with an error for each thing that a person would do differently.
//!
//! Refuses a server that is too old. Retries nothing: whoever starts a process wants to hear at once.

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, Error, PgConnection};

use crate::failure::sqlstate;

/// The oldest Postgres that is supported, as `server_version_num`.
pub const SERVER_VERSION_MIN: u32 = 140_000;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The text is not a Postgres URL.
    #[error("the database URL cannot be read")]
    BadUrl(#[source] Error),
    /// Nobody answers, or the server takes no more connections now.
    #[error("the database server cannot be reached")]
    Unreachable(#[source] Error),
    /// The server has no such role, or the password is wrong, or its access rules say no.
    #[error("the database server refused the role or its password")]
    Refused(#[source] Error),
    /// The server has no such database.
    #[error("the database does not exist")]
    NoSuchDatabase(#[source] Error),
    /// The role may not connect to this database.
    #[error("the role may not connect to the database")]
    NotPermitted(#[source] Error),
    /// The server is older than [`SERVER_VERSION_MIN`].
    #[error("the server is PostgreSQL {}; 14 or newer is needed", .0 / 10_000)]
    TooOld(u32),
    /// The connection failed in another way, such as its encryption.
    #[error("the connection to the database failed")]
    Other(#[source] Error),
}

impl From<Error> for ConnectError {
    fn from(error: Error) -> Self {
        let code = sqlstate(&error).map(std::borrow::Cow::into_owned).unwrap_or_default();
        match (&error, code.as_str()) {
            // The codes: the server starts or stops, or is out of connections.
            (Error::Io(_) | Error::PoolTimedOut, _) | (_, "57P01" | "57P03" | "53300") => {
                Self::Unreachable(error)
            }
            (_, "3D000") => Self::NoSuchDatabase(error),
            (_, "42501") => Self::NotPermitted(error),
            (_, code) if code.starts_with("28") => Self::Refused(error),
            _ => Self::Other(error),
        }
    }
}

/// Reads a Postgres URL.
pub fn parse(url: &str) -> Result<PgConnectOptions, ConnectError> {
    url.parse().map_err(ConnectError::BadUrl)
}

/// Opens one connection and checks the server's version.
pub async fn connect(options: &PgConnectOptions) -> Result<PgConnection, ConnectError> {
    let conn = PgConnection::connect_with(options).await?;
    check_version(conn.server_version_num())?;
    Ok(conn)
}

/// A pool of at most `max` connections, once one of them has been tried: a pool alone would repeat a refused
/// connection until its own timeout.
pub async fn pool(options: &PgConnectOptions, max: u32) -> Result<PgPool, ConnectError> {
    connect(options).await?.close().await?;
    Ok(PgPoolOptions::new().max_connections(max).connect_lazy_with(options.clone()))
}

/// A server that does not tell its version is one in front of a real one, which will speak for itself.
fn check_version(version: Option<u32>) -> Result<(), ConnectError> {
    match version {
        Some(version) if version < SERVER_VERSION_MIN => Err(ConnectError::TooOld(version)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDatabase;

    #[tokio::test]
    async fn each_fault_has_a_name_of_its_own() {
        let options = TestDatabase::create().await.options();
        connect(&options).await.expect("the database is there");
        let refused = async |options: PgConnectOptions| connect(&options).await.expect_err("a fault");
        assert!(matches!(refused(options.clone().socket("/nowhere")).await, ConnectError::Unreachable(_)));
        assert!(matches!(
            refused(options.clone().database("nowhere")).await,
            ConnectError::NoSuchDatabase(_)
        ));
        assert!(matches!(refused(options.clone().username("nobody_here")).await, ConnectError::Refused(_)));
        assert!(matches!(parse("http//x"), Err(ConnectError::BadUrl(_))));
        pool(&options, 2).await.expect("the database is there").acquire().await.expect("so is a connection");
    }

    #[test]
    fn a_server_before_14_is_too_old() {
        assert!(matches!(check_version(Some(130_022)), Err(ConnectError::TooOld(130_022))));
        assert!(check_version(Some(140_000)).is_ok());
        assert_eq!(
            ConnectError::TooOld(90_624).to_string(),
            "the server is PostgreSQL 9; 14 or newer is needed"
        );
    }
}
