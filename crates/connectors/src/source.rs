//! The one door to a source: connect, check, discover, read.

use std::sync::Arc;

use crate::budget::RequestBudget;
use crate::definition::{Definition, Kind, Stream};
use crate::error::{Place, SourceError};
use crate::http::{HttpReader, HttpSource};
use crate::postgres::{PgReader, PgSource};
use crate::record::Batch;
use crate::report::{CheckReport, DiscoveredStream};
use crate::scan::Scan;
use crate::state::State;

/// A source that can be read.
#[derive(Debug)]
pub struct Source {
    driver: Driver,
}

#[derive(Debug)]
enum Driver {
    Postgres(Box<PgSource>),
    Http(Box<HttpSource>),
}

/// How a caller wants to be served.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// About how many rows a batch holds at most; a page of an API may be cut into several batches.
    pub batch_records: usize,
    /// About how many bytes of records a batch holds at most (one record may exceed it).
    pub batch_bytes: usize,
    /// How many live records the caller holds of this stream: with `deletions = "keys"`, the yardstick for
    /// "mostly vanished". `None` skips that check.
    pub known_records: Option<u64>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { batch_records: 1_000, batch_bytes: 8 << 20, known_records: None }
    }
}

impl Source {
    /// Reads the credentials and prepares the driver. Nothing is sent yet: an unreachable source shows in
    /// [`check`](Self::check) or at the first read.
    pub async fn connect(
        definition: &Definition,
        budget: Arc<dyn RequestBudget>,
    ) -> Result<Self, SourceError> {
        let place = Place { connector: definition.name().to_owned(), stream: None };
        let streams = definition.streams().to_vec();
        let driver = match definition.kind() {
            Kind::Postgres(postgres) => {
                Driver::Postgres(Box::new(PgSource::prepare(place, postgres, streams).await?))
            }
            Kind::Http(http) => {
                Driver::Http(Box::new(HttpSource::prepare(place, http, streams, budget).await?))
            }
        };
        Ok(Self { driver })
    }

    /// Looks, without writing anything, whether syncs of `streams` can run. Never fails: what is wrong is in
    /// the report.
    pub async fn check(&self, streams: &[Stream]) -> CheckReport {
        match &self.driver {
            Driver::Postgres(source) => source.check(streams).await,
            Driver::Http(source) => source.check(streams).await,
        }
    }

    /// Looks at everything that a first report needs, by reading alone, with up to `sample` records of each stream.
    /// Never fails: what is wrong is in the report.
    pub async fn scan(&self, streams: &[Stream], sample: usize) -> Scan {
        match &self.driver {
            Driver::Postgres(source) => source.scan(streams, sample).await,
            Driver::Http(source) => source.scan(streams, sample).await,
        }
    }

    /// What the source has: the tables and views of a database, or for an API the configured streams as seen
    /// in a sample page each.
    pub async fn discover(&self) -> Result<Vec<DiscoveredStream>, SourceError> {
        match &self.driver {
            Driver::Postgres(source) => source.discover().await,
            Driver::Http(source) => source.discover().await,
        }
    }

    /// Starts or resumes a run of `stream`. `previous` is the last state that was committed.
    pub async fn read(
        &self,
        stream: &Stream,
        previous: &State,
        options: ReadOptions,
    ) -> Result<Reader, SourceError> {
        let driver = match &self.driver {
            Driver::Postgres(source) => {
                ReaderDriver::Postgres(Box::new(source.read(stream, previous, options).await?))
            }
            Driver::Http(source) => ReaderDriver::Http(Box::new(source.read(stream, previous, options)?)),
        };
        Ok(Reader { driver })
    }
}

#[cfg(test)]
impl Source {
    /// Tests have no time to wait between tries.
    pub(crate) fn without_pauses(&mut self) {
        if let Driver::Http(source) = &mut self.driver {
            source.without_pauses();
        }
    }
}

/// A run in progress.
#[derive(Debug)]
pub struct Reader {
    driver: ReaderDriver,
}

#[derive(Debug)]
enum ReaderDriver {
    Postgres(Box<PgReader>),
    Http(Box<HttpReader>),
}

impl Reader {
    /// The next batch; `None` once a batch said `finished`. After an error the reader is spent: start again
    /// from the last committed state. Not cancel-safe, which is the same thing: a reader whose `next` was
    /// dropped midway is spent too.
    pub async fn next(&mut self) -> Result<Option<Batch>, SourceError> {
        match &mut self.driver {
            ReaderDriver::Postgres(reader) => reader.next().await,
            ReaderDriver::Http(reader) => reader.next().await,
        }
    }
}
