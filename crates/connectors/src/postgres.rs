//! The Postgres driver: tables and views, read in one snapshot.
//!
//! A run is one `repeatable read, read only` transaction: the start of the run, the greatest cursor and the
//! rows are of one moment. Rows come through a server-side cursor, ordered by cursor and key, as JSON made by
//! the source (every digit kept) with only the agreed fields. The source also computes the fingerprints, so
//! that rows which were handed out before, and rows that are too large, are not sent again or at all.
//!
//! Rows without a usable cursor (null, infinite, outside the years 1 to 9999) are read in every run in a
//! slice of their own. A key that occurs twice at one place of the order (a view can do that) is handed on
//! once, the row with the smaller fingerprint, and its double is set aside as `duplicate_key`; at different
//! cursors the later row wins, as any later change does.
//!
//! Works with Postgres 10 and later, on read-only replicas (the start of the run is then what has been
//! replayed), and behind PgBouncer in transaction mode (one transaction, no named statements).

mod catalog;
mod check;
mod discover;
mod failure;
mod keys;
mod plan;
mod quote;
mod read;
mod scan;
mod session;
mod statement;
mod target;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use crate::definition::{PostgresDefinition, Stream, url_password};
use crate::error::{Place, SourceError};
use crate::secret::Scrubber;
use crate::source::ReadOptions;
use crate::state::State;

pub(crate) use read::PgReader;
pub(crate) use target::PgTarget;

/// The place within a run over a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PgPosition {
    /// Among the rows. Without cursor: behind the row with these key columns.
    Rows { after: Option<Vec<String>> },
    /// Among the keys, behind this one.
    Keys { after: Option<String> },
}

/// A Postgres database that can be read.
#[derive(Clone)]
pub(crate) struct PgSource {
    place: Place,
    /// The section of the definition that it comes from, to name in messages.
    section: &'static str,
    options: PgConnectOptions,
    /// The key of the password in the definition, to name in messages.
    password_key: String,
    statement_timeout: Duration,
    streams: Vec<Stream>,
    scrubber: Scrubber,
}

impl PgSource {
    /// Reads the password; connects to nothing.
    pub(crate) async fn prepare(
        place: Place,
        definition: &PostgresDefinition,
        streams: Vec<Stream>,
    ) -> Result<Self, SourceError> {
        Self::of_section("postgres", place, definition, streams).await
    }

    async fn of_section(
        section: &'static str,
        place: Place,
        definition: &PostgresDefinition,
        streams: Vec<Stream>,
    ) -> Result<Self, SourceError> {
        let mut scrubber = Scrubber::default();
        // The error is not kept: it may repeat the URL.
        let mut options = PgConnectOptions::from_str(definition.url.expose_secret()).map_err(|_| {
            let advice = format!("correct `{section}.url`");
            place.configuration("the URL of the database cannot be used", advice)
        })?;
        let url = reqwest::Url::parse(definition.url.expose_secret()).ok();
        if let Some(password) = url.as_ref().and_then(url_password) {
            scrubber.add(&SecretString::from(password));
        }
        let mut password_key = format!("{section}.url");
        if let Some(secret) = &definition.password {
            let password = secret.read(&place).await?;
            options = options.password(password.expose_secret());
            scrubber.add(&password);
            secret.key().clone_into(&mut password_key);
        }
        let options = options
            .application_name("tenure")
            // Unnamed statements and no start-up parameter of our own: a transaction pooler allows neither.
            .statement_cache_capacity(0)
            .extra_float_digits(None)
            .disable_statement_logging();
        let statement_timeout = definition.statement_timeout;
        Ok(Self { place, section, options, password_key, statement_timeout, streams, scrubber })
    }

    /// Starts or resumes a run.
    pub(crate) async fn read(
        &self,
        stream: &Stream,
        previous: &State,
        options: ReadOptions,
    ) -> Result<PgReader, SourceError> {
        PgReader::start(self, stream, previous, options).await
    }
}

impl fmt::Debug for PgSource {
    /// Without the options, which hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgSource").field("place", &self.place).finish_non_exhaustive()
    }
}
