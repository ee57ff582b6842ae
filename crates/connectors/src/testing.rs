//! What the tests of this crate share: a source database, and a caller that stores what it is given.
//!
//! [`Sink`] does what every caller must do, in memory: it applies a batch and its state as one, refuses a
//! state that must not follow, and marks what a range of keys no longer has.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    Batch, Definition, LocalBudget, ReadOptions, Reader, Rejected, Source, SourceError, State, Stream,
};

/// An empty database that serves as a source.
pub(crate) struct Database {
    url: String,
    pub(crate) conn: PgConnection,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let database = database::testing::TestDatabase::create().await;
        Self { url: database.url(), conn: database.connect().await }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Runs statements that the test wrote.
    pub(crate) async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.conn).await.unwrap();
    }

    /// Another connection, for a transaction beside the first.
    pub(crate) async fn connect(&self) -> PgConnection {
        <PgConnection as sqlx::Connection>::connect(&self.url).await.unwrap()
    }

    pub(crate) async fn holds_jsonb(&mut self, text: &str) -> bool {
        let cast = sqlx::query_scalar::<_, bool>("select $1::text::jsonb is not null").bind(text);
        cast.fetch_one(&mut self.conn).await.is_ok()
    }

    /// A definition whose one stream `rows` has this body.
    pub(crate) fn definition(&self, stream: &str) -> Definition {
        let url = toml::Value::from(self.url.as_str());
        let text = format!(
            "name = \"crm\"\nkind = \"postgres\"\n[postgres]\nurl = {url}\n[[streams]]\nname = \"rows\"\n{stream}"
        );
        Definition::parse(&text, "crm.toml").unwrap_or_else(|error| panic!("{error}"))
    }
}

pub(crate) async fn source(definition: &Definition) -> Source {
    Source::connect(definition, Arc::new(LocalBudget::default())).await.unwrap()
}

/// A caller's store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sink {
    /// Data by key.
    pub(crate) records: BTreeMap<String, String>,
    pub(crate) deleted: Vec<String>,
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) state: State,
    pub(crate) read: u64,
    pub(crate) repeated: u64,
    pub(crate) null_cursor: u64,
    pub(crate) batches: usize,
    pub(crate) warnings: Vec<String>,
    pub(crate) finished: bool,
}

impl Sink {
    /// Stores a batch and its state as one.
    pub(crate) fn commit(&mut self, batch: Batch) {
        State::successor_ok(&self.state, &batch.state).unwrap();
        assert_eq!(batch.read, (batch.records.len() + batch.rejected.len()) as u64);
        for record in batch.records {
            if record.deleted {
                self.records.remove(&record.key);
                self.deleted.push(record.key);
            } else {
                self.records.insert(record.key, record.data.get().to_owned());
            }
        }
        if let Some(range) = batch.keys {
            let inside = |key: &String| {
                range.after.as_ref().is_none_or(|after| key > after)
                    && range.through.as_ref().is_none_or(|through| key <= through)
            };
            let gone: Vec<_> =
                self.records.keys().filter(|key| inside(key) && !range.keys.contains(key)).cloned().collect();
            for key in gone {
                self.records.remove(&key);
                self.deleted.push(key);
            }
        }
        for rejected in batch.rejected {
            assert!(rejected.excerpt.len() <= 1024 && !rejected.excerpt.contains('\0'));
            if !self.rejected.contains(&rejected) {
                self.rejected.push(rejected);
            }
        }
        // What is stored is text: the state must survive it.
        self.state = serde_json::from_str(&serde_json::to_string(&batch.state).unwrap()).unwrap();
        self.read += batch.read;
        self.repeated += batch.repeated;
        self.null_cursor += batch.null_cursor;
        self.batches += 1;
        self.warnings.extend(batch.warnings);
        self.finished = batch.finished;
    }

    /// The counts of a run that is about to begin.
    fn clear_counts(&mut self) {
        (self.read, self.repeated, self.null_cursor, self.batches, self.finished) = (0, 0, 0, 0, false);
        self.warnings.clear();
    }

    pub(crate) fn options(&self, batch_records: usize) -> ReadOptions {
        let known_records = Some(self.records.len() as u64);
        ReadOptions { batch_records, known_records, ..ReadOptions::default() }
    }

    /// One whole run with one reader.
    pub(crate) async fn run(
        &mut self,
        source: &Source,
        stream: &Stream,
        batch: usize,
    ) -> Result<(), SourceError> {
        self.clear_counts();
        let mut reader = source.read(stream, &self.state, self.options(batch)).await?;
        self.drain(&mut reader).await
    }

    pub(crate) async fn drain(&mut self, reader: &mut Reader) -> Result<(), SourceError> {
        while let Some(batch) = reader.next().await? {
            self.commit(batch);
        }
        assert!(self.finished, "a run ends with a batch that says so");
        Ok(())
    }

    /// One whole run with a crash after each batch, and a batch that was read and not stored before it.
    pub(crate) async fn run_with_crashes(&mut self, source: &Source, stream: &Stream, batch: usize) {
        self.clear_counts();
        for _ in 0..1_000 {
            let mut reader = source.read(stream, &self.state, self.options(batch)).await.unwrap();
            self.commit(reader.next().await.unwrap().unwrap());
            if self.finished {
                return;
            }
            // Read, and lost.
            reader.next().await.unwrap();
        }
        panic!("the run does not end");
    }
}
