//! Runs suspects alone: jobs that were running when a worker died, until a checkpoint or an orderly end clears them.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::{Shared, assignment::Assignment, held::Company};
use crate::{
    claim::{self, Claimer},
    connection::{Dedicated, is_outage, unless, within},
};

/// How often to look for suspects.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a suspect waits for an idle worker before a busy one lets its jobs run out for it.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Isolator {
    shared: Arc<Shared>,
    conn: Dedicated,
    lanes: HashMap<Arc<str>, mpsc::Sender<Assignment>>,
}

impl Isolator {
    pub(super) fn new(shared: &Arc<Shared>, lanes: HashMap<Arc<str>, mpsc::Sender<Assignment>>) -> Self {
        Self { shared: shared.clone(), conn: shared.dedicated("isolate"), lanes }
    }

    pub(super) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        let queues: Vec<Arc<str>> = self.lanes.keys().cloned().collect();
        while unless(&stop, tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            for queue in &queues {
                if let Err(error) = self.look(queue).await {
                    self.conn.failed(&error);
                    report(queue, &error);
                }
            }
        }
    }

    async fn look(&mut self, queue: &Arc<str>) -> Result<(), sqlx::Error> {
        let Some(waited) = self.oldest(queue).await? else { return Ok(()) };
        let solitude = match self.shared.held.try_alone() {
            Some(solitude) => Some(solitude),
            None if waited < PATIENCE => None,
            None => self.await_solitude(queue).await?,
        };
        match solitude {
            Some(solitude) => self.claim(queue, solitude).await,
            None => Ok(()),
        }
    }

    /// Solitude, once what runs has ended; nothing new begins meanwhile. Given up when the worker stops, or when
    /// another one has taken the suspect: a whole fleet would else run dry for one job.
    async fn await_solitude(&mut self, queue: &Arc<str>) -> Result<Option<Company>, sqlx::Error> {
        let (held, stop) = (self.shared.held.clone(), self.shared.stop.clone());
        let mut alone = pin!(held.alone());
        loop {
            let waited = tokio::time::timeout(LOOK_EVERY, unless(&stop, &mut alone));
            if let Ok(solitude) = waited.await {
                return Ok(solitude);
            }
            if self.oldest(queue).await?.is_none() {
                return Ok(None);
            }
        }
    }

    async fn oldest(&mut self, queue: &str) -> Result<Option<Duration>, sqlx::Error> {
        let oldest = async { claim::oldest_suspect(self.conn.get().await?, queue).await };
        within(self.shared.options.lease, oldest).await
    }

    async fn claim(&mut self, queue: &Arc<str>, solitude: Company) -> Result<(), sqlx::Error> {
        let slot = self.shared.held.free_slots(1).await;
        let holder = Claimer { worker: self.shared.id, lease: self.shared.options.lease };
        // Bounded: nothing else begins as long as this has the worker to itself.
        let claimed = async { claim::claim_suspect(self.conn.get().await?, queue, holder).await };
        if let Some(job) = within(holder.lease, claimed).await? {
            info!(job.id = %job.id, job.kind = &*job.kind, "a suspect runs alone");
            self.shared.assign(job, slot, solitude, &self.lanes[queue]).await;
        }
        Ok(())
    }
}

fn report(queue: &str, error: &sqlx::Error) {
    let error_chain = error as &dyn std::error::Error;
    if is_outage(error) {
        warn!(queue, error = error_chain, "the queue is out of reach");
    } else {
        error!(queue, error = error_chain, "the look for suspects was refused");
    }
}
