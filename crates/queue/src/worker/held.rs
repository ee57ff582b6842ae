//! What this process holds: the leases of running jobs, with the slot and the place beside others that each takes up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::{
    Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Claimed, Fence, JobId,
    attempt::{Orders, Pulse, Signals},
    lease::{Beat, Renewed},
};

/// Jobs run beside each other, or one runs alone. Fair: one that waits to be alone stops new ones from beginning.
#[derive(Debug)]
pub(super) enum Company {
    /// Beside others; the guard is shared by the jobs of one claim.
    Beside(#[expect(dead_code, reason = "held, not read")] Beside),
    /// Nothing else runs in this process. Empty only while it is exchanged for a place beside others.
    Alone(Option<OwnedRwLockWriteGuard<()>>),
}

pub(super) type Beside = Arc<OwnedRwLockReadGuard<()>>;

#[derive(Debug)]
struct Lease {
    claimed: Arc<Claimed>,
    renewed_at: Instant,
    checkpoint_written: bool,
    signals: Arc<Signals>,
    company: Company,
    _slot: OwnedSemaphorePermit,
}

/// The leases of one process.
#[derive(Debug)]
pub(super) struct Held {
    leases: Mutex<HashMap<JobId, Lease>>,
    emptied: Notify,
    slots: Arc<Semaphore>,
    company: Arc<RwLock<()>>,
    nudge: Arc<Notify>,
    renew_all: Arc<Notify>,
}

impl Held {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            leases: Mutex::default(),
            emptied: Notify::new(),
            slots: Arc::new(Semaphore::new(slots)),
            company: Arc::default(),
            nudge: Arc::default(),
            renew_all: Arc::default(),
        }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<JobId, Lease>> {
        self.leases.lock().expect("no holder of this lock can panic")
    }

    pub(super) fn len(&self) -> usize {
        self.leases().len()
    }

    /// Wakes the heartbeat for everything that is held.
    pub(super) fn renew_all(&self) -> Arc<Notify> {
        self.renew_all.clone()
    }

    /// Wakes the heartbeat for what has news.
    pub(super) fn nudge(&self) -> Arc<Notify> {
        self.nudge.clone()
    }

    /// All the free slots up to `most`, at least one: waits for it.
    pub(super) async fn free_slots(&self, most: usize) -> OwnedSemaphorePermit {
        let first = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let more = self.slots.available_permits().min(most.saturating_sub(1));
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        match self.slots.clone().try_acquire_many_owned(more) {
            Ok(mut permits) => {
                permits.merge(first);
                permits
            }
            Err(_taken_meanwhile) => first,
        }
    }

    /// Waits until no job of this process has to be alone.
    pub(super) async fn beside(&self) -> Beside {
        Arc::new(self.company.clone().read_owned().await)
    }

    /// Solitude, if nothing runs.
    pub(super) fn try_alone(&self) -> Option<Company> {
        self.company.clone().try_write_owned().ok().map(|guard| Company::Alone(Some(guard)))
    }

    /// Solitude, once everything that runs has ended; nothing new begins meanwhile.
    pub(super) async fn alone(&self) -> Company {
        Company::Alone(Some(self.company.clone().write_owned().await))
    }

    /// Takes up a claimed job and gives the signals through which it hears and is heard.
    pub(super) fn take(
        &self,
        claimed: &Arc<Claimed>,
        orders: &Arc<Orders>,
        slot: OwnedSemaphorePermit,
        company: Company,
    ) -> Arc<Signals> {
        let signals = Arc::new(Signals {
            orders: orders.clone(),
            cancel: CancellationToken::new(),
            lost: CancellationToken::new(),
            pulse: Pulse::new(self.nudge.clone()),
        });
        let lease = Lease {
            claimed: claimed.clone(),
            renewed_at: Instant::now(),
            checkpoint_written: false,
            signals: signals.clone(),
            company,
            _slot: slot,
        };
        if let Some(older) = self.leases().insert(claimed.id, lease) {
            // It was rescued from us and claimed by us again; no renewal will ever ask for the older attempt.
            info!(job.id = %claimed.id, "a job came back while its lost attempt still ran");
            older.signals.lost.cancel();
        }
        signals
    }

    /// Lets go of jobs whose outcome was written.
    pub(super) fn let_go<'a>(&self, ended: impl Iterator<Item = (&'a JobId, &'a Fence)>) {
        let mut leases = self.leases();
        for (id, fence) in ended {
            if leases.get(id).is_some_and(|lease| lease.claimed.fence == *fence) {
                leases.remove(id);
            }
        }
        if leases.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    pub(super) fn forget_all(&self) {
        self.leases().clear();
    }

    /// Waits until nothing is held.
    pub(super) async fn emptied(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            // Registered before the look, so that an end in between is not missed.
            emptied.as_mut().enable();
            if self.leases().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// The ids held in a queue.
    pub(super) fn ids_in(&self, queue: &str) -> Vec<i64> {
        let leases = self.leases();
        leases.iter().filter(|(_, lease)| &*lease.claimed.queue == queue).map(|(id, _)| id.0).collect()
    }

    /// What the heartbeat has to say now, in the order of the ids: leases older than `age`, and those with news.
    pub(super) fn beats(&self, age: Duration) -> Vec<Beat> {
        let mut beats: Vec<Beat> = self
            .leases()
            .iter()
            .filter(|(_, lease)| lease.renewed_at.elapsed() >= age || lease.has_news())
            .map(|(id, lease)| Beat {
                id: *id,
                fence: lease.claimed.fence,
                checkpointed: lease.signals.pulse.checkpointed(),
                progress: lease.signals.pulse.take_progress(),
            })
            .collect();
        beats.sort_unstable_by_key(|beat| beat.id);
        beats
    }

    /// Takes in what the database answered. A lease that is missing was lost.
    pub(super) fn renewed(&self, beats: &[Beat], renewed: &Renewed) {
        let mut leases = self.leases();
        for beat in beats {
            let Some(lease) = leases.get_mut(&beat.id).filter(|lease| lease.claimed.fence == beat.fence)
            else {
                continue;
            };
            match renewed.get(&beat.id) {
                None => {
                    warn!(job.id = %beat.id, fence = %beat.fence, "the lease was lost");
                    lease.signals.lost.cancel();
                }
                Some(standing) => {
                    if standing.renewed {
                        lease.was_renewed(beat.checkpointed);
                    }
                    if standing.cancel_requested {
                        lease.signals.cancel.cancel();
                    }
                }
            }
        }
    }
}

/// Progress is written at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

impl Lease {
    fn was_renewed(&mut self, checkpointed: bool) {
        self.renewed_at = Instant::now();
        self.checkpoint_written |= checkpointed;
        if checkpointed {
            self.company.join_others();
        }
    }

    fn has_news(&self) -> bool {
        let pulse = &self.signals.pulse;
        (pulse.checkpointed() && !self.checkpoint_written)
            || (pulse.has_progress() && self.renewed_at.elapsed() >= PROGRESS_EVERY)
    }
}

impl Company {
    /// A suspect that has made a checkpoint has proved itself: others may run beside it.
    fn join_others(&mut self) {
        if let Self::Alone(guard) = self
            && let Some(guard) = guard.take()
        {
            *self = Self::Beside(Arc::new(guard.downgrade()));
        }
    }
}
