//! The vocabulary of targets: `[target]`, how changes are sent, and `[streams.target]`, what may be changed.
//!
//! `[target]` has a credential of its own. Nothing that reads a source ever opens it, so a sync holds no
//! credential that can write (G5); a definition that names the reader's credential here is refused.

mod stream;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;

use super::{Auth, FieldPath, PostgresDefinition, RateLimit};
use crate::secret::SecretText;
use crate::target::Normaliser;

pub(super) use stream::{Around, stream};
pub(super) use walk::{apart, connection};

/// The `[target]` section.
#[derive(Clone, Debug)]
pub(crate) enum TargetConnection {
    /// A Postgres database, with the role that writes.
    Postgres(PostgresDefinition),
    /// An HTTP API, with the credential that writes.
    Http(Box<HttpTargetConnection>),
}

/// The `[target]` section of an HTTP connector.
#[derive(Clone, Debug)]
pub(crate) struct HttpTargetConnection {
    pub(crate) base_url: Url,
    pub(crate) auth: Auth,
    pub(crate) headers: Vec<(String, String)>,
    /// From the first byte sent to the last byte read.
    pub(crate) request_timeout: Duration,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) retry_after_max: Duration,
}

/// One `[streams.target]` section: what of a stream's records may be changed, and how.
#[derive(Clone, Debug)]
pub struct StreamTarget {
    /// The only fields that are ever written.
    pub(crate) owned: Vec<FieldPath>,
    /// Fields that the target changes by itself with every write; they are not compared.
    pub(crate) stamped: Vec<FieldPath>,
    /// How the target rewrites what it stores, by owned field.
    pub(crate) normalise: BTreeMap<String, Vec<Normaliser>>,
    pub(crate) convergence: Convergence,
    /// A record that is kept for probing.
    pub(crate) probe_key: Option<String>,
    pub(crate) place: TargetPlace,
}

/// How long a target may show an old value after it has accepted a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convergence {
    /// How often it is read before the change counts as not stored.
    pub reads: u32,
    /// The pause after the first read; it doubles after each.
    pub pause: Duration,
}

/// Where in the target the records are.
#[derive(Clone, Debug)]
pub(crate) enum TargetPlace {
    Table(TableTarget),
    Http(Box<HttpTarget>),
}

/// A table that is written.
#[derive(Clone, Debug)]
pub(crate) struct TableTarget {
    pub(crate) table: String,
    pub(crate) key: Vec<FieldPath>,
    pub(crate) version: Option<RowVersion>,
}

/// What rises or changes with every change of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RowVersion {
    /// The system column `xmin`.
    Xmin,
    /// A column that the target itself changes with every update.
    Column(String),
}

/// Records that are written one by one at an address of their own.
#[derive(Clone, Debug)]
pub(crate) struct HttpTarget {
    pub(crate) path: PathTemplate,
    /// Where the record is, in answers and in what is sent; `None` is the body itself.
    pub(crate) record: Option<FieldPath>,
    pub(crate) write: WriteMethod,
    pub(crate) content_type: String,
    /// The header that carries the idempotency key; `None` sends none.
    pub(crate) idempotency_header: Option<String>,
    /// Where to find out whether the idempotency key is honoured.
    pub(crate) idempotency_probe: Option<IdempotencyProbe>,
    pub(crate) answer_bytes_max: usize,
}

/// How a change is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteMethod {
    /// PATCH with the owned fields alone (RFC 7396).
    MergePatch,
    /// PUT of the whole record as it was read, with the owned fields replaced.
    Put,
}

/// A scratch record and two texts that its field may hold in turn.
#[derive(Clone, Debug)]
pub(crate) struct IdempotencyProbe {
    pub(crate) key: String,
    pub(crate) field: String,
    pub(crate) values: [String; 2],
}

/// A path with `{key}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathTemplate {
    pub(crate) before: String,
    pub(crate) after: String,
}

impl TargetConnection {
    /// The secret of its own.
    pub(super) const fn secret(&self) -> Option<&SecretText> {
        match self {
            Self::Postgres(postgres) => postgres.password.as_ref(),
            Self::Http(http) => http.auth.secret(),
        }
    }
}

impl TargetConnection {
    pub(super) const fn secret_mut(&mut self) -> Option<&mut SecretText> {
        match self {
            Self::Postgres(postgres) => postgres.password.as_mut(),
            Self::Http(http) => http.auth.secret_mut(),
        }
    }
}

impl StreamTarget {
    /// The fields that may be written.
    #[must_use]
    pub fn owned(&self) -> &[FieldPath] {
        &self.owned
    }

    /// How long the target may show an old value.
    #[must_use]
    pub const fn convergence(&self) -> Convergence {
        self.convergence
    }
}

impl Convergence {
    /// The pause before read number `read`, counted from 0; `None` once all reads are made.
    #[must_use]
    pub fn pause_before(self, read: u32) -> Option<Duration> {
        match read {
            _ if read >= self.reads => None,
            0 => Some(Duration::ZERO),
            _ => Some(self.pause.saturating_mul(1 << (read - 1).min(20))),
        }
    }
}
