//! Who may open and use a connection: the arithmetic behind T2, without any connection.
//!
//! A *turn* is the right to use one connection; turns are given in the order of asking. A *slot* is the right to have
//! one open. An idle connection keeps its slot and has no turn; every other slot is held together with a turn. So
//! whoever has a turn and finds all slots taken finds an idle connection to close.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::{Limits, TenantError};
use crate::control::TenantId;

/// The right to use one connection, of all and of the tenant's.
#[derive(Debug)]
pub(super) struct Turn {
    _all: OwnedSemaphorePermit,
    /// None for the pool's own work.
    _tenant: Option<OwnedSemaphorePermit>,
}

/// Gives out turns.
#[derive(Debug)]
pub(super) struct Turns {
    limits: Limits,
    all: Arc<Semaphore>,
    /// A tenant's semaphore lives as long as somebody uses it or waits for it.
    tenants: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
}

impl Turns {
    pub(super) fn new(limits: Limits) -> Self {
        let all = Arc::new(Semaphore::new(limits.backends_max));
        Self { limits, all, tenants: Mutex::default() }
    }

    /// Waits for a turn, first for one of the tenant's, so that a busy tenant's queue holds no turn of the others.
    pub(super) async fn next(&self, tenant: TenantId) -> Result<Turn, TenantError> {
        let deadline = Instant::now() + self.limits.wait_max;
        let Limits { backends_max, tenant_backends_max, wait_max, .. } = self.limits;
        let own = timeout_at(deadline, self.of_tenant(tenant).acquire_owned()).await;
        let own = own.map_err(|_| busy(tenant_backends_max, "tenant_backends_max", wait_max))?;
        let all = timeout_at(deadline, self.all.clone().acquire_owned()).await;
        let all = all.map_err(|_| busy(backends_max, "backends_max", wait_max))?;
        let never_closed = "the semaphores are never closed";
        Ok(Turn { _all: all.expect(never_closed), _tenant: Some(own.expect(never_closed)) })
    }

    /// A turn for the pool's own work, if nobody waits for one.
    pub(super) fn spare(&self) -> Option<Turn> {
        let all = self.all.clone().try_acquire_owned().ok()?;
        Some(Turn { _all: all, _tenant: None })
    }

    fn of_tenant(&self, tenant: TenantId) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = tenants.get(&tenant).and_then(Weak::upgrade) {
            return semaphore;
        }
        tenants.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(self.limits.tenant_backends_max));
        tenants.insert(tenant, Arc::downgrade(&semaphore));
        semaphore
    }
}

fn busy(limit: usize, setting: &'static str, waited: Duration) -> TenantError {
    TenantError::Busy { limit, setting, waited }
}

/// The right to have one connection open; given up when dropped.
#[derive(Debug)]
pub(super) struct Slot<T> {
    /// Weak, since the shelf holds the slots of the idle connections.
    shelf: Weak<Shelf<T>>,
}

/// A slot in use. The slot is declared, and so dropped, before the turn: the next one finds it free.
#[derive(Debug)]
pub(super) struct Held<T> {
    pub(super) slot: Slot<T>,
    pub(super) turn: Turn,
}

/// Idle connections, the least recently used first, and the count of all open ones.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    slots_max: usize,
    content: Mutex<Content<T>>,
}

#[derive(Debug)]
struct Content<T> {
    idle: Vec<Idle<T>>,
    open: usize,
}

/// An open connection that nobody uses.
#[derive(Debug)]
pub(super) struct Idle<T> {
    pub(super) tenant: TenantId,
    pub(super) conn: T,
    pub(super) slot: Slot<T>,
    since: Instant,
}

/// What the holder of a turn gets.
#[derive(Debug)]
pub(super) enum Place<T> {
    /// A connection of the tenant's lies ready.
    Ready(Idle<T>),
    /// There is room for a new one.
    Free(Slot<T>),
    /// There is room for a new one once this one, perhaps another tenant's, is closed.
    Evict(Idle<T>),
}

impl<T> Shelf<T> {
    pub(super) fn new(slots_max: usize) -> Arc<Self> {
        Arc::new(Self { slots_max, content: Mutex::new(Content { idle: Vec::new(), open: 0 }) })
    }

    /// A place for a connection of the tenant's. The caller has a turn, which is why there is one.
    pub(super) fn place(self: &Arc<Self>, tenant: TenantId, _turn: &Turn) -> Place<T> {
        let mut content = self.lock();
        if let Some(at) = content.idle.iter().rposition(|one| one.tenant == tenant) {
            return Place::Ready(content.idle.remove(at));
        }
        if content.open < self.slots_max {
            content.open += 1;
            return Place::Free(Slot { shelf: Arc::downgrade(self) });
        }
        assert!(
            !content.idle.is_empty(),
            "all slots but the idle ones' are held with a turn, and we have one too"
        );
        Place::Evict(content.idle.remove(0))
    }

    /// Lays a connection down, then gives up the turn.
    pub(super) fn lay_down(&self, tenant: TenantId, conn: T, held: Held<T>) {
        let Held { slot, turn } = held;
        self.lock().idle.push(Idle { tenant, conn, slot, since: Instant::now() });
        drop(turn);
    }

    /// The connection that has been idle longest, if it has been so for `idle_max`.
    pub(super) fn take_expired(&self, idle_max: Duration, _turn: &Turn) -> Option<Idle<T>> {
        let mut content = self.lock();
        let expired = content.idle.first().is_some_and(|one| one.since.elapsed() >= idle_max);
        expired.then(|| content.idle.remove(0))
    }

    /// Every change under the lock is complete before anything in it can panic, so a poisoned one is still right.
    fn lock(&self) -> MutexGuard<'_, Content<T>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if let Some(shelf) = self.shelf.upgrade() {
            shelf.lock().open -= 1;
        }
    }
}
