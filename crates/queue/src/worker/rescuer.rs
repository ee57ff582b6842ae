//! Looks for leases that have ended and for workers that have died. Every worker does; whoever comes first acts.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Shared;
use crate::{
    connection::{Dedicated, is_outage, unless, within},
    freeze,
    full_look::{self, FullLook},
    governed, history,
    rescue::{self, Census, RESCUED_MAX},
};

/// The mean time between two looks; jittered, so that a fleet does not look at once.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn run(shared: Arc<Shared>, drained: CancellationToken) {
    let lease = shared.options.lease;
    let mut rescuer = Rescuer {
        conn: shared.dedicated("rescue"),
        trusted_from: Instant::now(),
        mark: full_look::BEGINNING,
        full_look: FullLook::due(),
        lines_look: FullLook::due(),
        shared,
    };
    let pause = || LOOK_EVERY.mul_f64(rand::random_range(0.8..1.2));
    while unless(&drained, tokio::time::sleep(pause())).await.is_some() {
        if let Err(error) = within(lease, rescuer.look()).await {
            rescuer.distrust(&error);
        }
    }
}

struct Rescuer {
    shared: Arc<Shared>,
    conn: Dedicated,
    /// After an outage everybody's locks are gone and leases have run out: the living get time to renew first.
    trusted_from: Instant,
    /// Leases that ended before this were seen to by an earlier look.
    mark: DateTime<Utc>,
    full_look: FullLook,
    lines_look: FullLook,
}

impl Rescuer {
    async fn look(&mut self) -> Result<(), sqlx::Error> {
        let Census { now, dead, frozen } = rescue::census(self.conn.get().await?).await?;
        if frozen {
            freeze::sweep(self.conn.get().await?).await?;
        }
        self.dissolve_lines().await?;
        if Instant::now() < self.trusted_from {
            return Ok(());
        }
        if !dead.is_empty() {
            let shortened = rescue::bury(self.conn.get().await?, &dead).await?;
            if shortened > 0 {
                info!(workers = ?dead, shortened, "workers have died: their leases were shortened");
            }
        }
        let began = Instant::now();
        // The jobs of the dead are judged together, which may leave some for later: no mark must hide them.
        let full = self.full_look.begin() || !dead.is_empty();
        let mark = if full { full_look::BEGINNING } else { self.mark };
        let rescued = match rescue::rescue(self.conn.get().await?, &dead, mark).await {
            Err(error) if history::is_missing_partition(&error) => {
                return history::ensure_partitions(self.conn.get().await?).await;
            }
            rescued => rescued?,
        };
        if full {
            self.full_look.took(began.elapsed());
        }
        if i64::try_from(rescued.len()).is_ok_and(|count| count < RESCUED_MAX) {
            self.mark = now;
        }
        for job in &rescued {
            counter!("tenure_lease_expiries_total", "queue" => job.queue.clone()).increment(1);
            if job.quarantined {
                error!(job.id = %job.id, job.kind = job.kind, evidence = job.evidence, "the job was quarantined");
            } else {
                warn!(job.id = %job.id, job.kind = job.kind, evidence = job.evidence, "the job was taken back");
            }
            if let Some(claimer) = self.shared.wakes.get(&job.queue) {
                claimer.notify_one();
            }
        }
        Ok(())
    }

    async fn dissolve_lines(&mut self) -> Result<(), sqlx::Error> {
        if self.lines_look.begin() {
            let began = Instant::now();
            governed::dissolve(self.conn.get().await?).await?;
            self.lines_look.took(began.elapsed());
        }
        Ok(())
    }

    fn distrust(&mut self, error: &sqlx::Error) {
        self.conn.failed(error);
        if is_outage(error) {
            self.trusted_from = Instant::now() + self.shared.options.heartbeat;
        } else {
            error!(error = error as &dyn std::error::Error, "the rescue was refused");
        }
    }
}
