//! A connection in use, on its way back to the pool or to its end.

use std::fmt;
use std::sync::Arc;

use sqlx::postgres::PgTransactionManager;
use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr};
// Not exported by sqlx, though its own types are driven by it; sqlx pins this crate to its own version.
use sqlx_core::transaction::TransactionManager;

use super::TenantError;
use super::pool::Pool;
use super::slots::Held;
use crate::control::TenantId;
use crate::failure::sqlstate;

/// An open connection and the server's name for its other end.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) conn: PgConnection,
    /// The backend's process; unknown until it has been asked.
    pub(super) pid: Option<i32>,
    pub(super) role: String,
}

/// A connection in use. Dropped when `clean`, it goes back to the pool; dropped otherwise, it is closed.
pub(super) struct Backend {
    pool: Arc<Pool>,
    tenant: TenantId,
    /// Both are there until the drop.
    parts: Option<(Session, Held<Session>)>,
    clean: bool,
    reused: bool,
}

const UNTIL_DROP: &str = "the parts leave only in drop";

impl Backend {
    /// A connection that lay ready. The server may have closed it meanwhile.
    pub(super) fn reused(pool: Arc<Pool>, tenant: TenantId, session: Session, held: Held<Session>) -> Self {
        Self { pool, tenant, parts: Some((session, held)), clean: true, reused: true }
    }

    /// A new connection, not to be kept before it has proven where it leads.
    pub(super) fn unproven(pool: Arc<Pool>, tenant: TenantId, session: Session, held: Held<Session>) -> Self {
        Self { pool, tenant, parts: Some((session, held)), clean: false, reused: false }
    }

    pub(super) fn proven(&mut self) {
        self.clean = true;
    }

    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.parts.as_mut().expect(UNTIL_DROP).0
    }

    pub(super) fn conn(&self) -> &PgConnection {
        &self.parts.as_ref().expect(UNTIL_DROP).0.conn
    }

    pub(super) fn conn_mut(&mut self) -> &mut PgConnection {
        &mut self.session().conn
    }

    /// Begins a transaction with these statements, the first of which is a `begin`.
    pub(super) async fn begin(&mut self, statements: String) -> Result<(), sqlx::Error> {
        self.clean = false;
        let statements = AssertSqlSafe(statements).into_sql_str();
        PgTransactionManager::begin(self.conn_mut(), Some(statements)).await
    }

    /// Commits and gives the connection back.
    pub(super) async fn commit(mut self) -> Result<(), TenantError> {
        self.check_open().await?;
        PgTransactionManager::commit(self.conn_mut()).await.map_err(commit_error)?;
        self.clean = true;
        Ok(())
    }

    /// Rolls back and gives the connection back.
    pub(super) async fn rollback(mut self) -> Result<(), TenantError> {
        if PgTransactionManager::get_transaction_depth(self.conn()) != 1 {
            return Err(TenantError::Aborted);
        }
        PgTransactionManager::rollback(self.conn_mut()).await?;
        self.clean = true;
        Ok(())
    }

    /// Postgres answers the commit of a failed transaction, or of none, with success: it rolled back, or did nothing.
    /// A savepoint is refused in both cases.
    async fn check_open(&mut self) -> Result<(), TenantError> {
        // A savepoint that was never ended would be released instead of the transaction committed.
        if PgTransactionManager::get_transaction_depth(self.conn()) != 1 {
            return Err(TenantError::Aborted);
        }
        match sqlx::raw_sql("savepoint before_commit").execute(self.conn_mut()).await {
            Ok(_) => Ok(()),
            Err(error) if sqlstate(&error).is_some_and(|code| code == "25P01" || code == "25P02") => {
                Err(TenantError::Aborted)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let (session, held) = self.parts.take().expect(UNTIL_DROP);
        if self.clean {
            self.pool.keep(self.tenant, session, held);
        } else {
            self.pool.discard(session, held);
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("tenant", &self.tenant)
            .field("clean", &self.clean)
            .finish_non_exhaustive()
    }
}

/// The server's refusal means that nothing was committed. A lost connection, or a server that went away, stopped or
/// broke at that moment, may have committed before.
fn commit_error(error: sqlx::Error) -> TenantError {
    let refused = sqlstate(&error).is_some_and(|code| {
        let unsure = ["08", "53", "57", "58", "XX"].iter().any(|class| code.starts_with(class));
        !unsure && code != "40003"
    });
    if refused { TenantError::Database(error) } else { TenantError::CommitUnknown(error) }
}
