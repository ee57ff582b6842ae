//! Whoever decides a case, and what it may touch meanwhile.

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use sqlx::PgConnection;

use super::Case;
use crate::decision::Verdict;

/// SQLSTATE `read_only_sql_transaction`.
const READ_ONLY: &str = "25006";

/// What somebody says of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The verdict.
    pub verdict: Verdict,
    /// Of a fix, the new values by field; only those that change need be there.
    pub value: Option<Map<String, Value>>,
    /// The action class, where one applies.
    pub class: Option<String>,
}

/// Decides cases: a candidate at work.
pub trait Judge: Send + Sync {
    /// What it says of this case. `hands` is all that it can touch.
    fn judge<'a, 'b: 'a>(
        &'a self,
        case: &'a Case,
        hands: &'a mut Hands<'b>,
    ) -> BoxFuture<'a, Result<Said, Fault>>;
}

/// Why a candidate said nothing.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It wanted to write.
    #[error("a shadow run writes nothing")]
    WriteRefused,
    /// A read failed.
    #[error("a read failed")]
    Read(#[from] sqlx::Error),
    /// It failed in its own way.
    #[error("the candidate failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Fault {
    /// Whether it wanted to write, by asking or by a statement that Postgres refused.
    pub(super) fn is_write(&self) -> bool {
        match self {
            Self::WriteRefused => true,
            Self::Read(error) => {
                error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref()
                    == Some(READ_ONLY)
            }
            Self::Failed(_) => false,
        }
    }
}

/// What a candidate has in its hands during a shadow run: a read-only transaction on the tenant's database. No target,
/// no credential, no way out.
pub struct Hands<'a> {
    conn: &'a mut PgConnection,
    has_reached: bool,
}

impl<'a> Hands<'a> {
    pub(super) fn new(conn: &'a mut PgConnection) -> Self {
        Self { conn, has_reached: false }
    }

    /// For reading. Postgres refuses a write.
    pub fn reader(&mut self) -> &mut PgConnection {
        self.conn
    }

    /// Where a candidate that acts would write: a tool of a model that wants to change something ends here. Always
    /// refused, and remembered even if the candidate goes on as if nothing had happened.
    #[must_use]
    pub fn write(&mut self) -> Fault {
        self.has_reached = true;
        Fault::WriteRefused
    }

    pub(super) fn has_reached(&self) -> bool {
        self.has_reached
    }
}
