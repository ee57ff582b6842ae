//! `writeback`: sends one approved change to its target, and finds out by reading what became of it.
//!
//! The change is a row of `governance::writeback`; this job takes its arrows, each as an effect under the fence. Before
//! the intent the target is read and the plan made anew: anything that moved voids the approval (P5, W4). After the
//! intent is durable the change is sent once. An attempt that finds an intent which it did not write itself, or that got
//! no clear answer, may only read: the wanted values are `verified`, the values before are sent again under the same
//! key if the path still lets them, anything else is a `conflict` (W6). What a target says of a write is never evidence; a read on another
//! connection is (W3), within the convergence window, and between the reads the lease is given back.
//!
//! Refuses: targets that cannot be read, targets that were never tried as they are defined now, and targets of another
//! definition than the change was planned for.

mod look;
mod plan;
mod run;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use database::control::Tenant;
use governance::writeback::WritebackId;
use queue::{Attempt, Done, Job, JobError, NewJob};
use serde::{Deserialize, Serialize};

pub use self::look::{LookError, actor, drifts, list, show, view};
pub(crate) use self::plan::prepare;
pub use self::plan::{PlanError, Wish, accept, compensate, plan};
pub(crate) use self::run::judge::{judge, source};
use crate::{Environment, queue_of};

/// The payload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Writeback {
    /// Which.
    pub writeback: WritebackId,
}

/// The job that sees a writeback through. While one lives, asking for another answers with it.
pub fn job(tenant: &Tenant, writeback: WritebackId) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::of(&Writeback { writeback })?
        .queue(queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .unique_key(format!("{}/writeback/{writeback}", tenant.id)))
}

impl Job for Writeback {
    const KIND: &'static str = "writeback";
    const TIMEOUT: Duration = Duration::from_mins(30);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let db = environment.enter(&attempt).await?;
        let run = run::Run { attempt: &attempt, environment: &environment, db: &db };
        loop {
            let seen = run.load(self.writeback).await?;
            if seen.state.is_final() {
                return Ok(Done::new().output(run::report(&seen)));
            }
            run.stop_if_asked(&seen)?;
            run.step(&seen).await?;
            attempt.checkpointed();
        }
    }
}
