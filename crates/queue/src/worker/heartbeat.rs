//! Renews everything the worker runs, in one statement, and brings back who was cancelled or lost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, histogram};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::Shared;
use crate::{
    acquit::acquit,
    connection::{Dedicated, unless, within},
    lease::{self, Beat, Renewed},
    presence,
};

/// How often to look for news that is not urgent.
const TICK: Duration = Duration::from_secs(1);

pub(super) async fn run(shared: Arc<Shared>, drained: CancellationToken) {
    let mut heart =
        Heart { conn: shared.dedicated("renew"), seen_at: Instant::now(), is_charged: false, shared };
    let (nudge, renew_all) = (heart.shared.held.nudge(), heart.shared.held.renew_all());
    let tick = TICK.min(heart.shared.options.heartbeat / 4);
    loop {
        let heartbeat = heart.shared.options.heartbeat;
        let woken = unless(&drained, async {
            tokio::select! {
                () = nudge.notified() => heartbeat,
                () = tokio::time::sleep(tick) => heartbeat,
                () = renew_all.notified() => Duration::ZERO,
            }
        });
        let Some(age) = woken.await else { return };
        let beaten = async {
            heart.beat(age).await;
            heart.acquit().await;
        };
        if unless(&drained, beaten).await.is_none() {
            return;
        }
    }
}

struct Heart {
    shared: Arc<Shared>,
    conn: Dedicated,
    /// When the worker's own row was last refreshed.
    seen_at: Instant,
    /// Whether some job is charged with this worker's death.
    is_charged: bool,
}

impl Heart {
    /// Renews the leases of at least this age and those with news, however long the database is down.
    async fn beat(&mut self, age: Duration) {
        let beats = self.shared.held.beats(age);
        let began = Instant::now();
        loop {
            // Three heartbeats fit into a lease: one that gets no answer leaves time for the next.
            match within(self.shared.options.heartbeat, self.write(&beats)).await {
                Ok(renewed) => {
                    self.conn.succeeded();
                    if !beats.is_empty() {
                        histogram!("tenure_lease_renew_seconds").record(began.elapsed().as_secs_f64());
                        counter!("tenure_leases_lost_total").increment((beats.len() - renewed.len()) as u64);
                    }
                    return self.shared.held.renewed(&beats, &renewed);
                }
                Err(error) => {
                    if let Err(error) = self.conn.outlive(error).await {
                        error!(error = &error as &dyn std::error::Error, "the leases could not be renewed");
                        return;
                    }
                }
            }
        }
    }

    /// Takes back what this worker is charged with: it has not died. What cannot be said now is said with the next beat.
    async fn acquit(&mut self) {
        if !std::mem::take(&mut self.is_charged) {
            return;
        }
        let conn = &mut self.conn;
        let said = async { acquit(conn.get().await?, self.shared.id).await };
        match within(self.shared.options.heartbeat, said).await {
            Ok(freed) => self.shared.wake(freed.iter().map(String::as_str)),
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "the charge of this worker's death could not be taken back yet"
                );
                self.conn.failed(&error);
            }
        }
    }

    async fn write(&mut self, beats: &[Beat]) -> Result<Renewed, sqlx::Error> {
        let conn = self.conn.get().await?;
        if self.seen_at.elapsed() >= self.shared.options.heartbeat {
            self.is_charged = presence::beat(conn, self.shared.id, self.shared.stop.is_cancelled()).await?;
            self.seen_at = Instant::now();
        }
        match beats {
            [] => Ok(Renewed::new()),
            beats => lease::renew(conn, self.shared.options.lease, beats).await,
        }
    }
}
