//! `connector_sync`: reads a stream of a connector into the tenant's records.
//!
//! A batch's rows, what was set aside, the cursor and the step are committed in one transaction under the fence, so the
//! effect happens once: a killed attempt is resumed by the next from the last committed batch. A source that fails, and
//! goes on failing through three tries, is the operation's result and not a crash: the run ends as `incomplete` with its
//! checkpoint, or as `failed` with a class. A source that asks for a pause gets it, and its slot is given back meanwhile.

pub(crate) mod budget;
mod report;
mod store;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use connectors::{Batch, Definition, ErrorClass, ReadOptions, Reader, Source, SourceError, Stream};
use database::{
    Class,
    control::Tenant,
    tenant::{Begun, TenantDb},
};
use queue::{Attempt, Done, FailureClass, Job, JobError, NewJob, Progress};
use serde::{Deserialize, Serialize};

pub use self::report::{Counts, Outcome, Report};
use self::{
    budget::TenantBudget,
    store::{Run, Step, StoreError},
};
use crate::{
    Environment,
    connector_registry::{self, RegistryError},
    describe,
    environment::into_job_error,
    queue_of,
};

/// The payload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectorSync {
    /// The connector's name.
    pub connector: String,
    /// The stream's name.
    pub stream: String,
    /// Forget how far the stream was read and begin again. The records stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
}

/// The job that syncs a stream. While one lives, asking for another answers with it.
pub fn job(tenant: &Tenant, sync: &ConnectorSync) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::of(sync)?
        .queue(queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .unique_key(format!("{}/{}/{}", tenant.id, sync.connector, sync.stream)))
}

/// How long a run may take over all its attempts and pauses.
const RUN_MAX: Duration = Duration::from_hours(24);

/// Tries of a source without a batch in between, the first one included.
const SOURCE_TRIES: usize = 3;

/// Tries of a transaction in the tenant's database before the attempt gives up: enough to see a server restart.
const STORE_TRIES: usize = 12;

impl Job for ConnectorSync {
    const KIND: &'static str = "connector_sync";
    const TIMEOUT: Duration = Duration::from_hours(12);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let db = environment.enter(&attempt).await?;
        let sync = Sync { payload: &self, attempt: &attempt, environment: &environment, db: &db };
        let mut run = sync.begin().await?;
        if let Some(report) = run.report.take() {
            return Ok(report.into_done());
        }
        let outcome = match sync.definition().await? {
            Ok((definition, stream)) => sync.read(&definition, &stream, &mut run).await?,
            Err(why) => Outcome::failed(ErrorClass::Configuration, why),
        };
        Ok(sync.end(&run, outcome).await?.into_done())
    }
}

/// One attempt at one stream.
struct Sync<'a> {
    payload: &'a ConnectorSync,
    attempt: &'a Attempt,
    environment: &'a Environment,
    db: &'a TenantDb,
}

/// Why reading stopped before the end.
enum Stop {
    Source(SourceError),
    Job(JobError),
}

impl From<JobError> for Stop {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

impl Sync<'_> {
    /// The stream's definition, or what is wrong with it for a person to change.
    async fn definition(&self) -> Result<Result<(Definition, Stream), String>, JobError> {
        let ConnectorSync { connector, stream, .. } = self.payload;
        match connector_registry::open(self.db, self.environment.vault(), connector).await {
            Ok(definition) => Ok(match definition.stream(stream).cloned() {
                Some(found) => Ok((definition, found)),
                None => Err(format!("the connector {connector:?} has no stream {stream:?}")),
            }),
            Err(RegistryError::Tenant(error)) => Err(into_job_error(error)),
            Err(refused) => Ok(Err(refused.to_string())),
        }
    }

    async fn begin(&self) -> Result<Run, JobError> {
        self.write(&Step::Begin { attempt: self.attempt.number() }).await?;
        self.load().await
    }

    async fn load(&self) -> Result<Run, JobError> {
        store::load(self.db, self.attempt.job(), self.payload).await.map_err(into_job_error)
    }

    /// Reads to the end of the stream, trying a failing source again as long as it gets on.
    async fn read(
        &self,
        definition: &Definition,
        stream: &Stream,
        run: &mut Run,
    ) -> Result<Outcome, JobError> {
        let mut pauses = source_pauses();
        loop {
            if run.age > RUN_MAX {
                return Ok(Outcome::incomplete(
                    ErrorClass::Incomplete,
                    format!("the run has taken more than {} hours", RUN_MAX.as_secs() / 3600),
                ));
            }
            let steps_before = run.step;
            let error = match self.read_on(definition, stream, run).await {
                Ok(()) => return Ok(Outcome::Complete),
                Err(Stop::Job(error)) => return Err(error),
                Err(Stop::Source(error)) => error,
            };
            if run.step > steps_before {
                pauses = source_pauses();
            }
            match (error.class(), error.retry_after()) {
                (ErrorClass::Throttled, after) => {
                    return Err(JobError::throttled(after.unwrap_or_default(), describe(&error)));
                }
                (ErrorClass::Transient, _) => match pauses.next() {
                    Some(pause) => self.wait(pause).await?,
                    None => return Ok(Outcome::incomplete(ErrorClass::Transient, describe(&error))),
                },
                (ErrorClass::Incomplete, _) => {
                    return Ok(Outcome::incomplete(ErrorClass::Incomplete, describe(&error)));
                }
                (class @ (ErrorClass::Configuration | ErrorClass::Poison), _) => {
                    return Ok(Outcome::failed(class, describe(&error)));
                }
            }
        }
    }

    /// Reads from the last committed state until the end, an error, or a wish to stop.
    async fn read_on(&self, definition: &Definition, stream: &Stream, run: &mut Run) -> Result<(), Stop> {
        let budget = Arc::new(TenantBudget::new(self.db.clone(), &self.payload.connector));
        let source = Source::connect(definition, budget).await.map_err(Stop::Source)?;
        let options = ReadOptions { known_records: Some(run.known_records), ..ReadOptions::default() };
        let mut reader: Reader = source.read(stream, &run.state, options).await.map_err(Stop::Source)?;
        while let Some(batch) = reader.next().await.map_err(Stop::Source)? {
            self.commit(stream, run, batch).await?;
            self.attempt.checkpointed();
            self.attempt.progress(Progress {
                done: run.counts.read,
                total: None,
                message: format!("{} read, {} written", run.counts.read, run.counts.written),
            });
            self.stop_if_asked()?;
        }
        Ok(())
    }

    async fn commit(&self, stream: &Stream, run: &mut Run, batch: Batch) -> Result<(), JobError> {
        let number = run.step + 1;
        let counts = self
            .write(&Step::Batch { number, batch: &batch, stream, known_records: run.known_records })
            .await?;
        run.counts = match counts {
            Some(counts) => counts,
            // Committed before, its answer lost on the way: the run's row has the counts.
            None => self.load().await?.counts,
        };
        run.step = number;
        run.state = batch.state;
        Ok(())
    }

    async fn end(&self, run: &Run, outcome: Outcome) -> Result<Report, JobError> {
        let report = Report::of(run, outcome);
        self.write(&Step::End { attempt: self.attempt.number(), report: &report }).await?;
        Ok(report)
    }

    /// Writes a step until it is committed, waiting out a database that restarts. Nothing when it had been committed
    /// before, or counts nothing.
    async fn write(&self, step: &Step<'_>) -> Result<Option<Counts>, JobError> {
        let mut pauses = store_pauses();
        loop {
            let error = match self.try_write(step).await {
                Ok(counts) => return Ok(counts),
                Err(StoreError::Tenant(error)) => error,
                Err(refused) => return Err(JobError::fail(refused, FailureClass::Configuration)),
            };
            match pauses.next().filter(|_| error.class() == Class::Transient) {
                Some(pause) => self.wait(pause).await?,
                None => return Err(into_job_error(error)),
            }
        }
    }

    async fn try_write(&self, step: &Step<'_>) -> Result<Option<Counts>, StoreError> {
        let name = step.name();
        match self.environment.effect(self.db, &name).await? {
            Begun::AlreadyApplied => Ok(None),
            Begun::Fresh(mut effect) => {
                let counts = step.apply(&mut effect, self.attempt.job(), self.payload).await?;
                self.environment.commit(&name, effect).await?;
                Ok(counts)
            }
        }
    }

    async fn wait(&self, pause: Duration) -> Result<(), JobError> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.attempt.stopped() => self.stop_if_asked(),
        }
    }

    /// The last batch is committed: the next attempt goes on from there.
    fn stop_if_asked(&self) -> Result<(), JobError> {
        if self.attempt.is_cancelled() {
            return Err(JobError::cancel("cancelled while it ran; what was read stays"));
        }
        if self.attempt.should_stop() { Err(JobError::hand_back()) } else { Ok(()) }
    }
}

fn source_pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(500))
        .with_max_times(SOURCE_TRIES - 1)
        .build()
}

fn store_pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(STORE_TRIES - 1)
        .build()
}
