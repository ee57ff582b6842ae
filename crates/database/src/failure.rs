//! What a database error asks of the caller, decided from its SQLSTATE and never from its text.

use std::borrow::Cow;

use sqlx::Error;

/// What a failure asks of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same call may succeed later: a lost connection, a restarting server, a deadlock.
    Transient,
    /// A person has to change something first: a password, a missing database, a privilege.
    Configuration,
    /// A newer attempt holds the job: stop and report nothing.
    Fenced,
    /// The statement or its data are refused, and will be again.
    Permanent,
}

/// The class of a database error; never [`Class::Fenced`], which no database knows of.
#[must_use]
pub fn classify(error: &Error) -> Class {
    match error {
        Error::Io(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed
        | Error::BeginFailed => Class::Transient,
        // A protocol error is an answer that is not Postgres's, or a kind of authentication that we do not speak.
        Error::Configuration(_) | Error::Tls(_) | Error::Protocol(_) => Class::Configuration,
        Error::Database(_) => sqlstate(error).map_or(Class::Permanent, |code| class_of(&code)),
        _ => Class::Permanent,
    }
}

/// The SQLSTATE of an error that the server reported.
pub(crate) fn sqlstate(error: &Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}

/// Whether the server reported this SQLSTATE.
pub(crate) fn is_sqlstate(error: &Error, code: &str) -> bool {
    sqlstate(error).is_some_and(|found| found == code)
}

/// By the table in appendix A of the Postgres manual.
fn class_of(code: &str) -> Class {
    match code {
        // In use or locked by another; timed out between statements; written to a server that a failover has made a
        // standby.
        "55006" | "55P03" | "25P03" | "25006" => Class::Transient,
        // A constraint that waited for the commit, unlike the rest of its family.
        "40002" => Class::Permanent,
        // The database was dropped under us; no such database; no such schema; no privilege.
        "57P04" | "3D000" | "3F000" | "42501" => Class::Configuration,
        _ => match code.get(..2) {
            // Connection; transaction rolled back (serialization, deadlock); resources; operator (shut down,
            // cancelled); system.
            Some("08" | "40" | "53" | "57" | "58") => Class::Transient,
            // Refused credentials; the server's own configuration.
            Some("28" | "F0") => Class::Configuration,
            _ => Class::Permanent,
        },
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, PgConnection};

    use super::*;
    use crate::testing::TestDatabase;

    #[test]
    fn codes_are_classed_by_what_helps() {
        for code in ["08006", "57P01", "57P03", "57014", "53300", "40001", "40P01", "55P03", "25P03", "58030"]
        {
            assert_eq!(class_of(code), Class::Transient, "{code}");
        }
        for code in ["28P01", "28000", "3D000", "42501", "57P04"] {
            assert_eq!(class_of(code), Class::Configuration, "{code}");
        }
        for code in ["23505", "42P01", "22012", "40002", "XX001"] {
            assert_eq!(class_of(code), Class::Permanent, "{code}");
        }
    }

    #[tokio::test]
    async fn real_errors_are_classed_by_what_helps() {
        let database = TestDatabase::create().await;
        let mut conn = database.connect().await;
        let error = sqlx::raw_sql("select 1 / 0").execute(&mut conn).await.expect_err("a division by zero");
        assert_eq!(classify(&error), Class::Permanent);
        let end = "select pg_terminate_backend(pg_backend_pid())";
        let error = sqlx::raw_sql(end).execute(&mut conn).await.expect_err("the backend ended itself");
        assert_eq!(classify(&error), Class::Transient);
        let error = sqlx::raw_sql("select 1").execute(&mut conn).await.expect_err("the connection is gone");
        assert_eq!(classify(&error), Class::Transient);
        let elsewhere = database.options().socket("/nowhere");
        let error = PgConnection::connect_with(&elsewhere).await.expect_err("there is no socket");
        assert_eq!(classify(&error), Class::Transient);
    }
}
