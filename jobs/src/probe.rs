//! `probe`: does nothing but write down what it does, so that an installation can be proven under faults.
//!
//! Each step is an effect under the fence, as of any kind: a row of the tenant's ledger, in the transaction that marks
//! the step. Beside it a *sighting* says that an attempt began, that it is about to make an effect, and how it left. Sightings are not checked against the
//! fence: they show what really ran, the attempts that had lost their lease too. Nothing is tried twice within an
//! attempt: what fails is left to the engine.

use std::time::Duration;

use database::tenant::{Begun, Effect, TenantDb, TenantError};
use queue::{Attempt, Backoff, Done, Job, JobError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Environment, environment::into_job_error};

/// The payload: what the probe shall do. The times are the least it takes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// How many effects, one after the other.
    pub steps: u16,
    /// What the one who asks calls it; nobody looks at it here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// The pause before each step, in milliseconds.
    #[serde(default)]
    pub pause_ms: u32,
    /// How long the transaction of each step stays open, in milliseconds.
    #[serde(default)]
    pub hold_ms: u32,
    /// How many attempts fail halfway.
    #[serde(default)]
    pub failures: u16,
    /// Whether the first attempt that comes halfway hangs until its time is over.
    #[serde(default)]
    pub hang: bool,
    /// The size of each effect, in bytes; at most a MiB.
    #[serde(default)]
    pub bytes: u32,
}

const BYTES_MAX: u32 = 1024 * 1024;

impl Job for Probe {
    const KIND: &'static str = "probe";
    /// Faults of the installation are not the probe's: they alone should never exhaust it.
    const ATTEMPTS_MAX: u16 = 25;
    /// Short, so that one that hangs is soon over.
    const TIMEOUT: Duration = Duration::from_secs(20);
    /// Short, so that the faults meet attempts and not pauses.
    const BACKOFF: Backoff = Backoff { base: Duration::from_millis(250), cap: Duration::from_secs(2) };

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let witness = environment.beside_the_fence(&attempt).await?;
        sight(&witness, &attempt, "began").await;
        let ended = self.work(&attempt, &environment, &witness).await;
        sight(&witness, &attempt, if ended.is_ok() { "done" } else { "stopped" }).await;
        ended
    }
}

impl Probe {
    async fn work(
        &self,
        attempt: &Attempt,
        environment: &Environment,
        witness: &TenantDb,
    ) -> Result<Done, JobError> {
        let db = environment.enter(attempt).await?;
        let run = Run { probe: self, attempt, environment, db: &db };
        for step in 1..=self.steps {
            run.pause().await?;
            sight(witness, attempt, "tries").await;
            run.effect(&format!("step {step}")).await.map_err(into_job_error)?;
            if step == self.steps.div_ceil(2) {
                run.halfway().await?;
            }
        }
        Ok(Done::new().output(json!({ "steps": self.steps })))
    }
}

/// One attempt.
struct Run<'a> {
    probe: &'a Probe,
    attempt: &'a Attempt,
    environment: &'a Environment,
    db: &'a TenantDb,
}

impl Run<'_> {
    /// Fails or hangs as it was told to. Each time is an effect too, so that it is counted whoever takes over.
    async fn halfway(&self) -> Result<(), JobError> {
        for number in 1..=self.probe.failures {
            if self.effect(&format!("failure {number}")).await.map_err(into_job_error)? {
                return Err(JobError::retry("it was told to fail here"));
            }
        }
        if self.probe.hang && self.effect("hang").await.map_err(into_job_error)? {
            self.attempt.stopped().await;
            return Err(self.stop());
        }
        Ok(())
    }

    /// Whether the effect was made now, by this attempt.
    async fn effect(&self, step: &str) -> Result<bool, TenantError> {
        let is_fresh = match self.environment.effect(self.db, step).await? {
            Begun::AlreadyApplied => false,
            Begun::Fresh(mut effect) => {
                self.write(&mut effect, step).await?;
                tokio::time::sleep(millis(self.probe.hold_ms)).await;
                self.environment.commit(step, effect).await?;
                true
            }
        };
        self.attempt.checkpointed();
        Ok(is_fresh)
    }

    async fn write(&self, effect: &mut Effect, step: &str) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "-- probe.effect
            insert into tenant.probe_effect (job, fence, step, ballast)
            values ($1, $2, $3, repeat('x', $4))",
            self.attempt.job().0,
            self.attempt.fence().0,
            step,
            i32::try_from(self.probe.bytes.min(BYTES_MAX)).expect("a MiB fits"),
        )
        .execute(&mut **effect)
        .await
        .map(drop)
    }

    async fn pause(&self) -> Result<(), JobError> {
        tokio::select! {
            biased;
            () = self.attempt.stopped() => Err(self.stop()),
            () = tokio::time::sleep(millis(self.probe.pause_ms)) => Ok(()),
        }
    }

    fn stop(&self) -> JobError {
        if self.attempt.is_cancelled() { JobError::cancel("cancelled") } else { JobError::hand_back() }
    }
}

fn millis(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

/// Notes what an attempt does, whether or not it may. What cannot be noted is no reason to do anything else.
async fn sight(witness: &TenantDb, attempt: &Attempt, event: &str) {
    let noted = async {
        let mut write = witness.write().await?;
        sqlx::query!(
            "-- probe.sight
            insert into tenant.probe_sighting (job, fence, pid, event) values ($1, $2, $3, $4)",
            attempt.job().0,
            attempt.fence().0,
            i64::from(std::process::id()),
            event,
        )
        .execute(&mut *write)
        .await?;
        write.commit().await
    };
    if let Err(error) = noted.await {
        tracing::debug!(error = &error as &dyn std::error::Error, event, "a sighting was not noted");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use queue::{NewJob, State};
    use sqlx::Row;

    use super::*;
    use crate::testing::{Stage, Subject, battery};

    fn job(stage: &Stage, probe: &Probe) -> NewJob {
        NewJob::of(probe).unwrap().queue("local").tenant(stage.tenant.id.0)
    }

    struct Steps;

    impl Subject for Steps {
        fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
            Box::pin(async { job(stage, &Probe { steps: 3, ..Probe::default() }) })
        }

        fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
            Box::pin(async {
                // A cancelled job leaves its first steps beside all those of the next.
                let row = sqlx::query(
                    "select string_agg(distinct step, ',' order by step),
                        (select max(times) from (select count(*) as times from tenant.probe_effect group by job, step) t)
                    from tenant.probe_effect",
                )
                .fetch_one(&mut stage.tenant_connection().await)
                .await
                .unwrap();
                let (steps, times): (String, i64) = (row.get(0), row.get(1));
                format!("{steps}, each at most {times} times")
            })
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn probe_passes_the_battery() {
        battery(&Steps, true).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_probe_fails_as_often_as_it_was_told_to() {
        let stage = Stage::provisioned().await;
        let probe = Probe { steps: 2, failures: 2, ..Probe::default() };
        let done = stage.run(job(&stage, &probe)).await;
        assert_eq!((done.state, done.attempt, done.failures), (State::Succeeded, 3, 2));
        let doomed = stage.run(job(&stage, &probe).attempts_max(2)).await;
        assert_eq!((doomed.state, doomed.attempt, doomed.failures), (State::Failed, 2, 2));
    }
}
