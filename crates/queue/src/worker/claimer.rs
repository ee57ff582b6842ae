//! The loop that draws jobs from one queue, never more than there are free slots.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tracing::{error, warn};

use super::{
    Shared,
    assignment::Assignment,
    held::{Beside, Company},
};
use crate::{
    Attempt, Claimed,
    bell::QUIET,
    claim::{Claimer, Lanes},
    connection::{Dedicated, is_outage, unless, within},
    release,
};

/// The most jobs taken in one statement: enough to spread its cost, few enough to keep it short.
const BATCH_MAX: usize = 500;

/// With a backlog, how long to let slots gather before the next claim: a claim of one row costs as much as one of fifty.
const GATHER: Duration = Duration::from_millis(2);

/// The pause after a statement that the database refused for a reason of its own.
const REFUSED: Duration = Duration::from_secs(1);

pub(super) struct ClaimerTask {
    shared: Arc<Shared>,
    queue: Arc<str>,
    wake: Arc<Notify>,
    lanes: Lanes,
    conn: Dedicated,
    hand_over: mpsc::Sender<Assignment>,
}

enum Found {
    /// As many as were asked for: there are more.
    Backlog,
    /// Some.
    Rest,
    Nothing,
}

impl ClaimerTask {
    pub(super) fn new(shared: &Arc<Shared>, queue: Arc<str>, hand_over: mpsc::Sender<Assignment>) -> Self {
        Self {
            wake: shared.wakes[&*queue].clone(),
            lanes: Lanes::new(queue.clone()),
            conn: shared.dedicated("claim"),
            shared: shared.clone(),
            queue,
            hand_over,
        }
    }

    pub(super) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        let mut pause = QUIET;
        loop {
            let held = self.shared.held.clone();
            let Some(beside) = unless(&stop, held.beside()).await else { return };
            let Some(slots) = unless(&stop, held.free_slots(BATCH_MAX)).await else { return };
            match self.claim(slots, beside).await {
                Found::Backlog => {
                    pause = QUIET;
                    self.gather().await;
                    continue;
                }
                Found::Rest => pause = QUIET,
                Found::Nothing => {}
            }
            let waited = unless(&stop, tokio::time::timeout(pause, self.wake.notified())).await;
            match waited {
                None => return,
                Some(Ok(())) => pause = QUIET,
                Some(Err(_elapsed)) => pause = (pause * 2).min(self.shared.options.poll_max),
            }
        }
    }

    /// A statement that was sent is waited for, for as long as what it claims is leased: rows that it claimed unseen
    /// would be nobody's for so long.
    async fn claim(&mut self, mut slots: OwnedSemaphorePermit, beside: Beside) -> Found {
        let limit = slots.num_permits();
        let holder = Claimer { worker: self.shared.id, lease: self.shared.options.lease };
        let claimed =
            within(holder.lease, async { self.lanes.claim(self.conn.get().await?, holder, limit).await });
        match claimed.await {
            Ok(claimed) if claimed.is_empty() => Found::Nothing,
            Ok(claimed) => {
                let found = if claimed.len() == limit { Found::Backlog } else { Found::Rest };
                for job in claimed {
                    let slot = slots.split(1).expect("no more jobs are claimed than there are slots");
                    self.shared.assign(job, slot, Company::Beside(beside.clone()), &self.hand_over).await;
                }
                found
            }
            Err(error) => {
                drop((slots, beside));
                self.recover(&error).await;
                Found::Nothing
            }
        }
    }

    /// An answer may have been lost on the way: what this worker leases without knowing it is given back.
    async fn recover(&mut self, error: &sqlx::Error) {
        let queue = &*self.queue;
        self.conn.failed(error);
        if is_outage(error) {
            warn!(queue, error = error as &dyn std::error::Error, "the queue is out of reach");
        } else {
            error!(queue, error = error as &dyn std::error::Error, "the claim was refused");
            unless(&self.shared.stop, tokio::time::sleep(REFUSED)).await;
        }
        let stop = self.shared.stop.clone();
        match unless(&stop, self.disown()).await {
            Some(Ok(count)) if count > 0 => {
                warn!(queue = &*self.queue, count, "jobs claimed while the connection broke were given back");
            }
            Some(Err(error)) => {
                error!(
                    queue = &*self.queue,
                    error = &error as &dyn std::error::Error,
                    "unknown claims could not be given back: their leases will run out"
                );
            }
            _ => {}
        }
    }

    async fn disown(&mut self) -> Result<u64, sqlx::Error> {
        loop {
            let known = self.shared.held.ids_in(&self.queue);
            let disowned = within(self.shared.options.lease, async {
                release::disown(self.conn.get().await?, self.shared.id, &self.queue, &known).await
            });
            match disowned.await {
                Ok(count) => {
                    self.conn.succeeded();
                    return Ok(count);
                }
                Err(error) => self.conn.outlive(error).await?,
            }
        }
    }

    async fn gather(&self) {
        let half = self.shared.options.slots / 2;
        if self.shared.held.len() > half {
            tokio::time::sleep(GATHER).await;
        }
    }
}

impl Shared {
    /// Takes up a claimed job and passes it to the handlers.
    pub(super) async fn assign(
        &self,
        claimed: Claimed,
        slot: OwnedSemaphorePermit,
        company: Company,
        hand_over: &mpsc::Sender<Assignment>,
    ) {
        let claimed = Arc::new(claimed);
        let signals = self.held.take(&claimed, &self.orders, slot, company);
        let attempt = Attempt::new(claimed.clone(), self.pool.clone(), signals.clone());
        let assignment = Assignment { claimed, attempt, signals };
        if hand_over.send(assignment).await.is_err() {
            error!("the handlers are gone while a claimer runs");
        }
    }
}
