//! A Postgres table as a target: one row, one transaction, guarded in its `where`.
//!
//! Every call is a connection of its own with the role of `[target]`. A write locks the row, compares it with
//! the change, and updates it where the key, the values before and the row version are still those; anything
//! but one row is rolled back. Until the commit is sent nothing has taken effect, so only an error of the
//! commit itself can leave the outcome unknown.

mod layout;
mod look;
mod probe;
mod statement;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use sqlx::error::DatabaseError;
use sqlx::{Error, PgConnection};

use self::layout::Layout;
use super::PgSource;
use super::session::{Session, within};
use crate::definition::{PostgresDefinition, StreamTarget, TableTarget};
use crate::error::{Place, SourceError};
use crate::target::{Change, Conflict, Expected, Observed, WriteAnswer};

/// Three tries in all.
const RETRIES: usize = 2;
const RETRY_FIRST: Duration = Duration::from_millis(250);

/// A table that can be written.
pub(crate) struct PgTarget {
    place: Place,
    database: PgSource,
    settings: StreamTarget,
    table: TableTarget,
    row_bytes_max: usize,
    retry_first: Duration,
}

impl PgTarget {
    /// Reads the password; connects to nothing.
    pub(crate) async fn prepare(
        place: Place,
        connection: &PostgresDefinition,
        settings: &StreamTarget,
        table: &TableTarget,
        row_bytes_max: usize,
    ) -> Result<Self, SourceError> {
        let database = PgSource::of_section("target", place.clone(), connection, Vec::new()).await?;
        let (settings, table) = (settings.clone(), table.clone());
        Ok(Self { place, database, settings, table, row_bytes_max, retry_first: RETRY_FIRST })
    }

    pub(crate) async fn read(&self, key: &str) -> Result<Option<Observed>, SourceError> {
        (|| self.read_once(key)).retry(self.backoff()).when(is_transient).await
    }

    pub(crate) async fn write(&self, change: &Change) -> WriteAnswer {
        let connect = || self.open("begin isolation level read committed");
        let mut session = match connect.retry(self.backoff()).when(is_transient).await {
            Ok(session) => session,
            Err(error) => return WriteAnswer::NotApplied(error),
        };
        // Whatever ends before the commit is rolled back with the connection.
        match self.apply(&mut session.conn, change).await {
            Ok(()) => self.commit(session).await,
            Err(answer) => answer,
        }
    }

    async fn read_once(&self, key: &str) -> Result<Option<Observed>, SourceError> {
        let mut session = self.open("begin isolation level repeatable read read only").await?;
        let layout = Layout::find(self, &mut session.conn).await?;
        self.look(&mut session.conn, &layout, key).await
    }

    async fn open(&self, begin: &'static str) -> Result<Session, SourceError> {
        let conn = self.database.connect(&self.place).await?;
        within(self.database.patience(), self.database.begin(conn, begin))
            .await
            .map_err(|error| self.failure("opening a transaction", &error))
    }

    /// The change, up to but without its commit.
    async fn apply(&self, conn: &mut PgConnection, change: &Change) -> Result<(), WriteAnswer> {
        let layout = Layout::find(self, conn).await.map_err(not_applied)?;
        let observed = self.lock(conn, &layout, &change.key).await.map_err(not_applied)?;
        change.judge(observed.as_ref())?;
        let statement = match &change.expected {
            Expected::Present { before, validator } => {
                layout.update(&change.key, &change.desired, before, validator.as_ref())
            }
            Expected::Absent if !layout.key_is_unique => {
                let what = "nothing at the target keeps the key unique, so a record cannot be created once";
                return Err(WriteAnswer::refused(what));
            }
            Expected::Absent => layout.insert(&change.key, &change.desired),
        };
        let statement = statement.map_err(WriteAnswer::refused)?;
        match within(self.database.patience(), statement.count(conn)).await {
            Ok(1) => Ok(()),
            Ok(0) if change.expected == Expected::Absent => Err(WriteAnswer::Conflict(Conflict::Exists)),
            Ok(0) => Err(WriteAnswer::refused("the target's own triggers or policies keep the row as it is")),
            Ok(rows) => Err(WriteAnswer::refused(format!("the change would have touched {rows} rows"))),
            Err(error) => Err(self.judge_error("writing the row", &error)),
        }
    }

    async fn commit(&self, mut session: Session) -> WriteAnswer {
        let commit = sqlx::raw_sql("commit").execute(&mut session.conn);
        match within(self.database.patience(), commit).await {
            Ok(_) => WriteAnswer::Accepted,
            // A constraint that is checked at commit rolls back; any other end of a commit proves nothing.
            Err(error) if is_verdict(&error) => self.judge_error("committing the change", &error),
            Err(error) => {
                let cause = self.database.scrubber.cause(&error);
                WriteAnswer::Unknown { what: format!("the commit was sent and not answered: {cause}") }
            }
        }
    }

    /// The row, kept from others until the transaction ends.
    async fn lock(
        &self,
        conn: &mut PgConnection,
        layout: &Layout,
        key: &str,
    ) -> Result<Option<Observed>, SourceError> {
        let lock = layout.lock(key).map_err(|what| self.odd_key(what))?;
        within(self.database.patience(), lock.count(conn))
            .await
            .map_err(|error| self.failure("locking the row", &error))?;
        self.look(conn, layout, key).await
    }

    /// The row as it is now.
    async fn look(
        &self,
        conn: &mut PgConnection,
        layout: &Layout,
        key: &str,
    ) -> Result<Option<Observed>, SourceError> {
        let select = layout.select(key, self.row_bytes_max).map_err(|what| self.odd_key(what))?;
        let rows = within(self.database.patience(), select.rows(conn))
            .await
            .map_err(|error| self.failure("reading the row", &error))?;
        let row = match rows.as_slice() {
            [] => return Ok(None),
            [row] => row,
            _ => {
                let advice = "name a key that is unique in the target";
                return Err(self.place.configuration("the key belongs to several rows", advice));
            }
        };
        let Some(data) = &row.data else {
            let what = format!("the row is larger than {} bytes (`record_bytes_max`)", self.row_bytes_max);
            return Err(self.place.poison(what, "raise it, or let the role see fewer columns"));
        };
        layout
            .observe(&self.settings, data, row.version.clone())
            .map(Some)
            .map_err(|what| self.place.poison(what, "look at the row: it cannot be read as JSON"))
    }

    fn odd_key(&self, what: String) -> SourceError {
        self.place.configuration(what, "let the keys of the stream and of its target be the same")
    }

    /// What an error means for a target, where that is not what it means for a source.
    fn failure(&self, doing: &str, error: &Error) -> SourceError {
        let code = sqlstate(error);
        let (what, cause) = (format!("{doing} failed"), self.database.scrubber.cause(error));
        match code.as_ref() {
            "57014" | "55P03" => {
                self.place.transient_by(format!("{what}: somebody else holds the row for too long"), cause)
            }
            "42501" => {
                let advice = "grant select and update on the owned columns, and select on the key, to the user of `target.url`";
                self.place.configuration_by(what, advice, cause)
            }
            code if code.starts_with("22") => {
                self.place.poison(format!("{what}: {cause}"), "the key or a value does not fit the table")
            }
            _ => self.database.failure(&self.place, doing, error),
        }
    }

    /// What an error means after which everything is rolled back.
    fn judge_error(&self, doing: &str, error: &Error) -> WriteAnswer {
        let code = sqlstate(error);
        // Values that do not fit (22), constraints (23), what a trigger or a view's check says (P0, 44).
        if ["22", "23", "44", "P0"].iter().any(|class| code.starts_with(class)) {
            return WriteAnswer::refused(format!("{doing}: {}", self.database.scrubber.cause(error)));
        }
        WriteAnswer::NotApplied(self.failure(doing, error))
    }

    fn backoff(&self) -> ExponentialBuilder {
        ExponentialBuilder::default().with_min_delay(self.retry_first).with_jitter().with_max_times(RETRIES)
    }

    #[cfg(test)]
    pub(crate) fn without_pauses(&mut self) {
        self.retry_first = Duration::from_millis(1);
    }
}

fn is_transient(error: &SourceError) -> bool {
    matches!(error, SourceError::Transient { .. })
}

fn not_applied(error: SourceError) -> WriteAnswer {
    WriteAnswer::NotApplied(error)
}

/// The server's code of an error; empty for what no server said.
fn sqlstate(error: &Error) -> Cow<'_, str> {
    error.as_database_error().and_then(DatabaseError::code).unwrap_or_default()
}

/// Whether the server said that a commit was refused and rolled back.
fn is_verdict(error: &Error) -> bool {
    let code = sqlstate(error);
    ["23", "40", "44", "P0"].iter().any(|class| code.starts_with(class))
}

impl fmt::Debug for PgTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgTarget")
            .field("place", &self.place)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}
