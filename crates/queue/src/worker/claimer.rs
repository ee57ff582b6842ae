//! The loops that draw jobs from one queue, never more than there are free slots.
//!
//! Each queue has two: the first polls and is woken; the second only joins in while there is a backlog, so that one
//! claims while the other's commit waits for the disk.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, OwnedSemaphorePermit, RwLock, mpsc};
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
    turn: Turn,
    team: Arc<Team>,
    conn: Dedicated,
    hand_over: mpsc::Sender<Assignment>,
}

/// When a claimer looks for work.
enum Turn {
    /// Again and again, and sooner when the bell rings.
    First(Arc<Notify>),
    /// When the first has found more than it could take.
    Second,
}

/// What the two claimers of a queue share.
pub(super) struct Team {
    lanes: Lanes,
    backlog: Notify,
    /// Held for reading from a claim's sending until its jobs are taken up: meanwhile nobody can tell what is unknown.
    claiming: RwLock<()>,
}

enum Found {
    /// As many as were asked for: there are more.
    Backlog,
    /// Some.
    Rest,
    Nothing,
}

impl ClaimerTask {
    /// Both claimers of a queue.
    pub(super) fn pair(
        shared: &Arc<Shared>,
        queue: &Arc<str>,
        hand_over: &mpsc::Sender<Assignment>,
    ) -> [Self; 2] {
        let team =
            Team { lanes: Lanes::new(queue.clone()), backlog: Notify::new(), claiming: RwLock::default() };
        let team = Arc::new(team);
        let turns = [Turn::First(shared.wakes[&**queue].clone()), Turn::Second];
        turns.map(|turn| Self::new(shared, queue.clone(), hand_over.clone(), turn, team.clone()))
    }

    fn new(
        shared: &Arc<Shared>,
        queue: Arc<str>,
        hand_over: mpsc::Sender<Assignment>,
        turn: Turn,
        team: Arc<Team>,
    ) -> Self {
        Self { turn, team, conn: shared.dedicated("claim"), shared: shared.clone(), queue, hand_over }
    }

    pub(super) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        let mut pause = QUIET;
        if !self.is_first() && unless(&stop, self.team.backlog.notified()).await.is_none() {
            return;
        }
        loop {
            let held = self.shared.held.clone();
            let Some(beside) = unless(&stop, held.beside()).await else { return };
            let Some(slots) = unless(&stop, held.free_slots(BATCH_MAX)).await else { return };
            match self.claim(slots, beside).await {
                Found::Backlog => {
                    pause = QUIET;
                    self.team.backlog.notify_one();
                    self.gather().await;
                    continue;
                }
                Found::Rest => pause = QUIET,
                Found::Nothing => {}
            }
            match unless(&stop, self.turn_comes(pause)).await {
                None => return,
                Some(true) => pause = QUIET,
                Some(false) => pause = (pause * 2).min(self.shared.options.poll_max),
            }
        }
    }

    fn is_first(&self) -> bool {
        matches!(self.turn, Turn::First(_))
    }

    /// Waits until this claimer should look again; whether it was called, rather than that its pause was over.
    async fn turn_comes(&self, pause: Duration) -> bool {
        match &self.turn {
            Turn::First(wake) => tokio::time::timeout(pause, wake.notified()).await.is_ok(),
            Turn::Second => {
                self.team.backlog.notified().await;
                true
            }
        }
    }

    /// A statement that was sent is waited for, for as long as what it claims is leased: rows that it claimed unseen
    /// would be nobody's for so long.
    async fn claim(&mut self, mut slots: OwnedSemaphorePermit, beside: Beside) -> Found {
        let team = self.team.clone();
        let claiming = team.claiming.read().await;
        let limit = slots.num_permits();
        let holder = Claimer { worker: self.shared.id, lease: self.shared.options.lease };
        let claimed =
            within(holder.lease, async { team.lanes.claim(self.conn.get().await?, holder, limit).await });
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
                drop((slots, beside, claiming));
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
        let team = self.team.clone();
        loop {
            let claiming = team.claiming.write().await;
            let known = self.shared.held.ids_in(&self.queue);
            let disowned = within(self.shared.options.lease, async {
                release::disown(self.conn.get().await?, self.shared.id, &self.queue, &known).await
            });
            let disowned = disowned.await;
            drop(claiming);
            match disowned {
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
