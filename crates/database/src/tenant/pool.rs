//! Opens, keeps and closes the connections to the tenants' databases.
//!
//! Promises: never more backends than the limit, counting those that are opening or closing (T2); a new connection is
//! used only after the database has said whose it is (T1); a connection goes back only after a clean end of its
//! transaction, and is closed otherwise.
//!
//! Opening and closing run in tasks of their own: a caller that is cancelled midway neither leaves a backend that
//! nobody counts nor a count without a backend.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{Connection, PgConnection};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use super::backend::{Backend, Session};
use super::slots::{Held, Idle, Place, Shelf, Turns};
use super::{Limits, Scope, TenantError, Witness, identity};
use crate::control::{self, Tenant, TenantId};
use crate::passwords::PasswordSource;
use crate::tombstone::Tombstones;

/// How long a closed connection's backend may take to go before it is no longer waited for. It notices a closed
/// socket within a second, see [`identity`]; behind a connection pooler it may never go.
const GONE_MAX: Duration = Duration::from_secs(30);

pub(super) struct Pool {
    control: PgPool,
    server: PgConnectOptions,
    passwords: Arc<dyn PasswordSource>,
    limits: Limits,
    turns: Turns,
    shelf: Arc<Shelf<Session>>,
    runtime: Handle,
    witness: OnceLock<Arc<dyn Witness>>,
    tombstones: OnceLock<Tombstones>,
}

impl Pool {
    pub(super) fn new(
        control: PgPool,
        server: PgConnectOptions,
        passwords: Arc<dyn PasswordSource>,
        limits: Limits,
    ) -> Arc<Self> {
        let (turns, shelf) = (Turns::new(limits), Shelf::new(limits.backends_max));
        let runtime = Handle::current();
        let (witness, tombstones) = (OnceLock::new(), OnceLock::new());
        let pool = Self { control, server, passwords, limits, turns, shelf, runtime, witness, tombstones };
        let pool = Arc::new(pool);
        pool.runtime.spawn(sweep(Arc::downgrade(&pool), limits.idle_max));
        pool
    }

    pub(super) fn witnessed_by(&self, witness: Arc<dyn Witness>) {
        self.witness.get_or_init(|| witness);
    }

    pub(super) fn heeding(&self, tombstones: Tombstones) {
        self.tombstones.get_or_init(|| tombstones);
    }

    /// The same, once the witness knows if it is a denial.
    async fn witnessed<T>(&self, scope: &Scope, done: Result<T, TenantError>) -> Result<T, TenantError> {
        if let (Err(error), Some(witness)) = (&done, self.witness.get())
            && error.is_denial()
        {
            witness.denied(scope, error).await;
        }
        done
    }

    /// The scope's tenant as the catalogue has it now, if this scope may use it.
    pub(super) async fn admit(&self, scope: &Scope) -> Result<Tenant, TenantError> {
        self.witnessed(scope, self.find(scope).await).await
    }

    async fn find(&self, scope: &Scope) -> Result<Tenant, TenantError> {
        let mut conn = self.control.acquire().await.map_err(control::ControlError::from)?;
        let tenant = control::by_id(&mut conn, scope.tenant()).await?;
        let tenant = scope.admit(tenant.ok_or(TenantError::NoSuchTenant(scope.tenant()))?)?;
        if let Some(tombstones) = self.tombstones.get() {
            tombstones.refuse(tenant.id).await?;
        }
        Ok(tenant)
    }

    /// A connection to the scope's tenant: one that lies ready, or a new one.
    pub(super) async fn acquire(self: &Arc<Self>, scope: &Scope) -> Result<Backend, TenantError> {
        let turn = self.turns.next(scope.tenant()).await?;
        let (old, slot) = match self.shelf.place(scope.tenant(), &turn) {
            Place::Ready(Idle { tenant, conn, slot, .. }) => {
                return Ok(Backend::reused(self.clone(), tenant, conn, Held { slot, turn }));
            }
            Place::Free(slot) => (None, slot),
            Place::Evict(Idle { conn, slot, .. }) => (Some(conn), slot),
        };
        self.open_apart(scope.clone(), old, Held { slot, turn }).await
    }

    /// Opens a connection in a task of its own, after closing the one whose slot it takes.
    async fn open_apart(
        self: &Arc<Self>,
        scope: Scope,
        old: Option<Session>,
        held: Held<Session>,
    ) -> Result<Backend, TenantError> {
        let pool = self.clone();
        let opened = self.runtime.spawn(async move {
            if let Some(old) = old {
                pool.close(old).await;
            }
            pool.open(&scope, held).await
        });
        match opened.await {
            Ok(opened) => opened,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime shuts down.
            Err(_) => Err(TenantError::Database(sqlx::Error::PoolClosed)),
        }
    }

    async fn open(self: &Arc<Self>, scope: &Scope, held: Held<Session>) -> Result<Backend, TenantError> {
        // Read again, since the handle may be old: the tenant may have been frozen since.
        let tenant = self.admit(scope).await?;
        // A server that hangs must not keep the place for ever.
        let opened = timeout(self.limits.wait_max, self.connect(&tenant, held)).await;
        let opened = opened.unwrap_or(Err(TenantError::Database(sqlx::Error::PoolTimedOut)));
        self.witnessed(scope, opened).await
    }

    async fn connect(self: &Arc<Self>, tenant: &Tenant, held: Held<Session>) -> Result<Backend, TenantError> {
        let conn = PgConnection::connect_with(&self.options(tenant)?).await?;
        let session = Session { conn, pid: None, role: tenant.role_name.clone() };
        let mut backend = Backend::unproven(self.clone(), tenant.id, session, held);
        identity::prove(&mut backend, tenant).await?;
        Ok(backend)
    }

    fn options(&self, tenant: &Tenant) -> Result<PgConnectOptions, TenantError> {
        let password = self.passwords.password(tenant.id)?;
        let options = self.server.clone().username(&tenant.role_name).database(&tenant.database_name);
        let name = identity::application_name(tenant, None);
        Ok(options.password(password.expose_secret()).application_name(&name))
    }

    /// Keeps a clean connection for the tenant's next caller.
    pub(super) fn keep(&self, tenant: TenantId, session: Session, held: Held<Session>) {
        self.shelf.lay_down(tenant, session, held);
    }

    /// Closes a connection that may be in the middle of anything; its place stays taken until the backend is gone.
    pub(super) fn discard(self: &Arc<Self>, session: Session, held: Held<Session>) {
        let Session { conn, pid, role } = session;
        // Not politely: that would wait for the end of its statement. The backend finds its socket closed.
        drop(conn);
        let pool = self.clone();
        self.runtime.spawn(async move {
            pool.await_gone(pid, &role).await;
            drop(held);
        });
    }

    /// Closes an idle connection and waits until its backend is gone.
    async fn close(&self, session: Session) {
        let Session { conn, pid, role } = session;
        // A failure means that the connection was lost already, which is as good.
        let closed = conn.close().await;
        tracing::trace!(pid, ?closed, "closed an idle connection");
        self.await_gone(pid, &role).await;
    }

    /// Closing a socket does not end the backend behind it at once; only the server knows when it is gone.
    async fn await_gone(&self, pid: Option<i32>, role: &str) {
        let Some(pid) = pid else { return };
        let deadline = Instant::now() + GONE_MAX;
        let mut pause = Duration::from_millis(1);
        while !self.is_gone(pid, role).await {
            if Instant::now() > deadline {
                tracing::warn!(
                    pid,
                    role,
                    "a closed connection's backend is still there and no longer counted"
                );
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// An unanswered question counts as no: the server may be restarting.
    async fn is_gone(&self, pid: i32, role: &str) -> bool {
        let found = sqlx::query_scalar!(
            r#"-- tenant.backend_exists
            select exists (select from pg_stat_activity where pid = $1 and usename = $2) as "exists!""#,
            pid,
            role,
        )
        .fetch_one(&self.control)
        .await;
        found.is_ok_and(|exists| !exists)
    }

    /// Closes the connections that have been idle for too long, unless all turns are in use.
    async fn close_expired(&self) {
        while let Some(turn) = self.turns.spare() {
            let Some(Idle { conn, slot, .. }) = self.shelf.take_expired(self.limits.idle_max, &turn) else {
                return;
            };
            let held = Held { slot, turn };
            self.close(conn).await;
            drop(held);
        }
    }
}

/// Looks for expired connections until the pool is dropped.
async fn sweep(pool: Weak<Pool>, idle_max: Duration) {
    loop {
        sleep(idle_max / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.close_expired().await;
    }
}
