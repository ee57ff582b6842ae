//! Gives due schedules their fires. Every worker does; whoever comes first acts.
//!
//! An idle look is one statement on one index, about once a second and worker; when the next fire is nearer than that, the
//! look comes with it.

use std::{error::Error, sync::Arc, time::Duration};

use metrics::{counter, histogram};
use tracing::{error, info};

use super::Shared;
use crate::{
    connection::{Dedicated, is_outage, unless, within},
    schedule::fire::{self, Fired},
};

/// The mean time between two looks when nothing is due; jittered, so that a fleet does not look at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a look may wait for its answer; a batch of jobs is written in well under a second.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Until the worker is told to stop: fires need no drain, another worker gives them.
pub(super) async fn run(shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    let mut conn = shared.dedicated("schedule");
    loop {
        let looked = unless(&stop, within(ANSWER_MAX, look(&mut conn, &shared))).await;
        let next = match looked {
            None => return,
            Some(Ok(next)) => next,
            Some(Err(error)) => {
                distrust(&mut conn, &error);
                None
            }
        };
        let look_again = LOOK_EVERY.mul_f64(rand::random_range(0.8..1.2));
        let pause = next.map_or(look_again, |next| next.min(look_again));
        if unless(&stop, tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// Fires what is due and answers how long it is until the next fire.
async fn look(conn: &mut Dedicated, shared: &Shared) -> Result<Option<Duration>, sqlx::Error> {
    loop {
        match fire::next_due_in(conn.get().await?).await? {
            Some(Duration::ZERO) => {}
            next => return Ok(next),
        }
        let fired = fire::fire_due(conn.get().await?).await?;
        tell(&fired, shared);
        if !fired.more {
            // What is still due is in another worker's hands.
            return Ok(None);
        }
    }
}

fn tell(fired: &Fired, shared: &Shared) {
    for queue in &fired.ring.queues {
        // Workers elsewhere find the jobs by their next poll.
        if let Some(claimer) = shared.wakes.get(queue) {
            claimer.notify_one();
        }
    }
    for (how, count) in [("due", fired.due), ("missed", fired.missed)] {
        counter!("tenure_schedule_fires_total", "how" => how).increment(count as u64);
    }
    counter!("tenure_schedule_missed_total").increment((fired.missed + fired.skipped) as u64);
    for lag in &fired.lags {
        histogram!("tenure_schedule_fire_delay_seconds").record(*lag);
    }
    if fired.missed + fired.skipped > 0 {
        info!(made_up = fired.missed, given_nothing = fired.skipped, "fire times were missed");
    }
    for (schedule, fault) in &fired.faults {
        error!(schedule, fault, "the schedule cannot fire; it is tried again in a few minutes");
    }
}

fn distrust(conn: &mut Dedicated, error: &sqlx::Error) {
    conn.failed(error);
    if !is_outage(error) {
        error!(error = error as &dyn Error, "schedules could not be looked at");
    }
}
