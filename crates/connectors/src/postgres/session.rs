//! One connection, one read-only snapshot.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use super::PgSource;
use crate::error::{Place, SourceError};

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Three attempts in all.
const CONNECT_RETRIES: usize = 2;

/// An open snapshot of the source.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) conn: PgConnection,
    /// The start of the run by the source's clock; on a replica, the time up to which it has replayed.
    pub(super) started: DateTime<Utc>,
    pub(super) replica: bool,
    /// Such as `15.8`.
    pub(super) version: String,
}

/// How much longer than `statement_timeout` an answer is waited for: the source ends a statement by itself,
/// unless the network to it is gone.
const GRACE: Duration = Duration::from_secs(30);

/// What a call to the source gives, or a time-out: a connection that has silently died answers nothing.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let what = format!("no answer within {} s", limit.as_secs());
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what)))
    })
}

impl PgSource {
    /// How long an answer of the source is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.statement_timeout.saturating_add(GRACE)
    }

    /// Connects and begins the snapshot.
    pub(super) async fn open(&self, place: &Place) -> Result<Session, SourceError> {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(250))
            .with_jitter()
            .with_max_times(CONNECT_RETRIES);
        let connect = || self.connect(place);
        let conn =
            connect.retry(backoff).when(|error| matches!(error, SourceError::Transient { .. })).await?;
        self.begin(conn, "begin isolation level repeatable read read only")
            .await
            .map_err(|error| self.failure(place, "opening a snapshot of the source", &error))
    }

    /// One try to connect.
    pub(super) async fn connect(&self, place: &Place) -> Result<PgConnection, SourceError> {
        let connecting = PgConnection::connect_with(&self.options);
        let Ok(connected) = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await else {
            let what = format!("the database did not answer within {} s", CONNECT_TIMEOUT.as_secs());
            return Err(place.transient(what));
        };
        connected.map_err(|error| self.failure(place, "connecting to the database", &error))
    }

    /// Begins a transaction in which values become text in one way.
    pub(super) async fn begin(
        &self,
        mut conn: PgConnection,
        begin: &'static str,
    ) -> Result<Session, sqlx::Error> {
        sqlx::raw_sql(begin).execute(&mut conn).await?;
        let timeout_ms = self.statement_timeout.as_millis().to_string();
        // Values become text at the source: whatever its defaults, the same row must give the same text.
        let row = sqlx::query!(
            r#"-- source.begin
            select least(now(), case when pg_is_in_recovery() then pg_last_xact_replay_timestamp() end) as "started!",
                   pg_is_in_recovery() as "replica!",
                   current_setting('server_version') as "version!",
                   set_config('TimeZone', 'UTC', true) as timezone,
                   set_config('DateStyle', 'ISO, YMD', true) as datestyle,
                   set_config('IntervalStyle', 'iso_8601', true) as intervalstyle,
                   set_config('bytea_output', 'hex', true) as bytea_output,
                   set_config('extra_float_digits', '3', true) as extra_float_digits,
                   set_config('standard_conforming_strings', 'on', true) as standard_conforming_strings,
                   set_config('cursor_tuple_fraction', '1', true) as cursor_tuple_fraction,
                   set_config('statement_timeout', $1, true) as statement_timeout"#,
            timeout_ms,
        )
        .fetch_one(&mut conn)
        .await?;
        Ok(Session { conn, started: row.started, replica: row.replica, version: row.version })
    }
}
