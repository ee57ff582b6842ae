//! A run over a table: rows by cursor, then rows without one, then the keys.
//!
//! Each step fills one batch. The batch's state is what a later reader needs to go on: the cursor up to the
//! last value whose ties are all handed out, and the rows handed out beyond it.

use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use super::plan::Plan;
use super::session::Session;
use super::session::within;
use super::statement::{From, Row, Slice, fetch_rows};
use super::{PgPosition, PgSource};
use crate::cursor::CursorValue;
use crate::definition::{Deletions, Stream};
use crate::digest::Digest;
use crate::error::{Place, SourceError};
use crate::json::{self, Flaw};
use crate::known::Known;
use crate::progress::{Progress, Seen};
use crate::record::{Batch, Record, RejectReason, Rejected};
use crate::source::ReadOptions;
use crate::state::{Position, State};

/// What the rows of one fetch may weigh together, so that the largest records agreed on still fit memory.
const FETCH_BYTES_MAX: usize = 64 << 20;

/// A run in progress.
#[derive(Debug)]
pub(crate) struct PgReader {
    pub(super) source: PgSource,
    pub(super) place: Place,
    pub(super) stream: Stream,
    pub(super) options: ReadOptions,
    pub(super) plan: Plan,
    conn: PgConnection,
    phase: Phase,
    progress: Option<Progress>,
    /// The committed cursor as the next state will have it.
    cursor: Option<CursorValue>,
    known: Known,
    shape: String,
    /// Where a read by key stands.
    after: Option<Vec<String>>,
    /// Key and cursor of the row before, to notice doubles.
    before: Option<(String, Option<String>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Rows(Slice),
    /// The keys behind one; the first look at them opens the cursor.
    Keys {
        after: Option<String>,
        open: bool,
    },
    /// Everything was read; the last batch is still to be handed out.
    Last,
    Done,
}

impl PgReader {
    pub(super) async fn start(
        source: &PgSource,
        stream: &Stream,
        previous: &State,
        options: ReadOptions,
    ) -> Result<Self, SourceError> {
        let place = source.place.at(&stream.name);
        let Session { mut conn, started, .. } = source.open(&place).await?;
        let plan = Plan::make(source, &mut conn, &place, stream).await?;
        let shape = stream.shape(&plan.key);
        previous.must_fit(&place, &shape)?;
        let (phase, after) = match &previous.position {
            None => (Phase::Rows(Slice::Main), None),
            Some(Position::Postgres(PgPosition::Rows { after })) => (Phase::Rows(Slice::Main), after.clone()),
            Some(Position::Postgres(PgPosition::Keys { after })) => {
                (Phase::Keys { after: after.clone(), open: false }, None)
            }
            Some(Position::Http(_)) => return Err(State::of_other_source(&place)),
        };
        let cursor = previous.cursor.clone();
        let rule = stream.cursor.as_ref();
        let mut reader = Self {
            source: source.clone(),
            place,
            stream: stream.clone(),
            options,
            plan,
            conn,
            progress: rule.map(|rule| Progress::new(rule, cursor.clone(), started, true, Seen::default())),
            phase,
            cursor,
            known: previous.known.continued(stream.rules(), previous.is_mid_run()),
            shape,
            after,
            before: None,
        };
        if reader.phase == Phase::Rows(Slice::Main) {
            reader.open_rows(Slice::Main).await?;
        }
        Ok(reader)
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Batch>, SourceError> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        loop {
            match self.phase.clone() {
                Phase::Rows(slice) => {
                    let room = self.options.batch_records.max(1).saturating_sub(batch.len());
                    if room == 0 || bytes >= self.options.batch_bytes {
                        return Ok(Some(self.seal(batch)));
                    }
                    bytes += self.take_some(slice, room, &mut batch).await?;
                }
                // Keys are compared with what is stored: what was read before must be stored first.
                Phase::Keys { .. } if batch.len() > 0 => return Ok(Some(self.seal(batch))),
                Phase::Keys { after, open } => {
                    let range = self.next_keys(after, open).await?;
                    self.phase = match &range.through {
                        Some(through) => Phase::Keys { after: Some(through.clone()), open: true },
                        None => Phase::Last,
                    };
                    batch.keys = Some(range);
                    if self.phase != Phase::Last {
                        return Ok(Some(self.seal(batch)));
                    }
                }
                Phase::Last => {
                    self.phase = Phase::Done;
                    return Ok(Some(self.seal(batch)));
                }
                Phase::Done => return Ok(None),
            }
        }
    }

    /// Takes up to `room` rows into the batch and returns what they weigh.
    async fn take_some(
        &mut self,
        slice: Slice,
        room: usize,
        batch: &mut Batch,
    ) -> Result<usize, SourceError> {
        let count = room.min((FETCH_BYTES_MAX / self.stream.record_bytes_max).max(1));
        let rows =
            fetch_rows(&mut self.conn, count).await.map_err(|error| self.failed("reading rows", &error))?;
        let ended = rows.len() < count;
        let bytes = rows.iter().filter_map(|row| row.data.as_ref()).map(String::len).sum();
        for row in rows {
            self.take(row, slice, batch).await?;
        }
        if ended {
            self.end_slice(slice).await?;
        }
        Ok(bytes)
    }

    /// Opens the rows of a slice at the source.
    async fn open_rows(&mut self, slice: Slice) -> Result<(), SourceError> {
        let lower = self.cursor.as_ref().filter(|_| slice == Slice::Main).map(CursorValue::text);
        let from = From { cursor: lower, after: self.after.clone() };
        let known = self.known.digests().map(|digest| Uuid::from_bytes(digest.0)).collect();
        let bytes_max = i64::try_from(self.stream.record_bytes_max).unwrap_or(i64::MAX);
        let statement = self.plan.declare_rows(slice, &from, known, bytes_max);
        let selected = within(self.source.patience(), statement.execute(&mut self.conn)).await;
        selected.map_err(|error| self.failed("selecting rows", &error))?;
        self.phase = Phase::Rows(slice);
        Ok(())
    }

    async fn end_slice(&mut self, slice: Slice) -> Result<(), SourceError> {
        let close = sqlx::raw_sql("close tenure_rows").execute(&mut self.conn);
        let closed = within(self.source.patience(), close).await;
        closed.map_err(|error| self.failed("reading rows", &error))?;
        if slice == Slice::Main {
            self.move_cursor(self.progress.as_ref().and_then(Progress::end));
        }
        self.before = None;
        let odd = self.plan.cursor.as_ref().is_some_and(|cursor| cursor.odd.is_some());
        if slice == Slice::Main && odd {
            return self.open_rows(Slice::Odd).await;
        }
        self.phase = match self.stream.deletions {
            Deletions::Keys => Phase::Keys { after: None, open: false },
            Deletions::None | Deletions::Flag(_) => Phase::Last,
        };
        Ok(())
    }

    /// Takes one row: as a record, as rejected, or as one that was handed out before.
    async fn take(&mut self, row: Row, slice: Slice, batch: &mut Batch) -> Result<(), SourceError> {
        let digest = Digest(row.digest.into_bytes());
        let kind = self.stream.cursor.as_ref().map(|rule| rule.kind);
        let cursor =
            kind.zip(row.cursor.as_deref()).and_then(|(kind, text)| CursorValue::parse(kind, text).ok());
        batch.null_cursor += u64::from(slice == Slice::Odd);
        if let (Some(progress), Some(cursor)) = (&mut self.progress, &cursor) {
            progress.see(cursor);
        }
        if kind.is_none() {
            self.after = row.place.iter().cloned().collect::<Option<_>>().or(self.after.take());
        }
        if row.known && self.known.renew(row.key.as_deref(), digest, cursor.as_ref()) {
            batch.repeated += 1;
            return Ok(());
        }
        let data = match row.data {
            None if row.bytes_fit(self.stream.record_bytes_max) => self.data_of(row.digest).await?,
            data => data,
        };
        let place_in_order = (row.key.clone().unwrap_or_default(), row.cursor);
        let double = row.key.is_some() && self.before.as_ref() == Some(&place_in_order);
        self.before = Some(place_in_order);
        let excerpt = data.as_deref().map(json::excerpt).unwrap_or_default();
        match self.judge(row.key.clone(), data, row.bytes, double) {
            Ok((key, data)) => {
                self.known.note(&key, digest, cursor.clone());
                let deleted = match &self.stream.deletions {
                    Deletions::Flag(flag) => json::marks_deleted(data.get(), flag),
                    Deletions::None | Deletions::Keys => false,
                };
                batch.accept(Record { key, cursor, data, digest: digest.to_string(), deleted });
            }
            Err(flaw) => {
                self.known.note_rejected(digest, cursor);
                batch.reject(Rejected::new(row.key, flaw, excerpt, digest));
            }
        }
        Ok(())
    }

    /// Whether the row can be stored.
    fn judge(
        &self,
        key: Option<String>,
        data: Option<String>,
        bytes: i32,
        double: bool,
    ) -> Result<(String, Box<RawValue>), Flaw> {
        let columns = || self.plan.key.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let missing = || Flaw::new(RejectReason::MissingKey, format!("the key ({}) is null", columns()));
        let key = json::judge_key(key.ok_or_else(missing)?)?;
        if double {
            let detail = format!("another row with the key ({}) was taken at this place", columns());
            return Err(Flaw::new(RejectReason::DuplicateKey, detail));
        }
        let Some(data) = data else {
            let max = self.stream.record_bytes_max;
            return Err(Flaw::new(RejectReason::TooLarge, format!("{bytes} bytes, more than {max}")));
        };
        json::storable(&data)?;
        let data = RawValue::from_string(data)
            .map_err(|error| Flaw::new(RejectReason::InvalidJson, format!("not JSON: {error}")))?;
        Ok((key, data))
    }

    /// The data of a row that the source held back as known although its key has changed since: a key that
    /// occurs at two cursors.
    async fn data_of(&mut self, digest: Uuid) -> Result<Option<String>, SourceError> {
        let statement = self.plan.row_by_digest(digest);
        let read = within(self.source.patience(), statement.text(&mut self.conn)).await;
        read.map_err(|error| self.failed("reading a row", &error))
    }

    fn move_cursor(&mut self, cursor: Option<CursorValue>) {
        if let Some(cursor) = cursor.filter(|cursor| self.cursor.as_ref() != Some(cursor)) {
            self.known.advance(&cursor);
            self.cursor = Some(cursor);
        }
    }

    /// Gives the batch its state.
    fn seal(&mut self, mut batch: Batch) -> Batch {
        let position = match &self.phase {
            Phase::Rows(slice) => {
                if *slice == Slice::Main {
                    self.move_cursor(self.progress.as_ref().and_then(Progress::checkpoint));
                }
                Some(PgPosition::Rows { after: self.after.clone() })
            }
            Phase::Keys { after, .. } => Some(PgPosition::Keys { after: after.clone() }),
            Phase::Last | Phase::Done => {
                self.known.end_run();
                batch.finished = true;
                None
            }
        };
        batch.state = State {
            shape: Some(self.shape.clone()),
            cursor: self.cursor.clone(),
            position: position.map(Position::Postgres),
            known: self.known.clone(),
        };
        batch
    }

    pub(super) const fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    pub(super) fn failed(&self, doing: &str, error: &sqlx::Error) -> SourceError {
        self.source.failure(&self.place, doing, error)
    }
}

impl Row {
    fn bytes_fit(&self, max: usize) -> bool {
        usize::try_from(self.bytes).is_ok_and(|bytes| bytes <= max)
    }
}
