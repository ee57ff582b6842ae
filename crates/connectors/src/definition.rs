//! A connector's definition: one TOML file, read whole, with all its faults reported at once.
//!
//! Owns the vocabulary of the file and its rules. A definition keeps its own text ([`Definition::text`]), so
//! storing one and parsing it again gives the same definition. Secrets are references, to files or to credentials that a tenant keeps; an inline
//! one is accepted and named by [`Definition::inline_secrets`], so that a production start can refuse it.

mod fault;
mod http;
mod parse;
mod redact;
mod section;
mod stream;
mod target;
#[cfg(test)]
mod tests;
mod units;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::cursor::CursorType;
use crate::secret::{CredentialKeeper, SecretText};

pub(crate) use fault::nearest;
pub use fault::{DefinitionError, DefinitionFault};
pub use http::{
    Auth, CursorParam, Format, HttpDefinition, HttpStream, Method, Order, Pagination, ParamFormat, RateLimit,
    TokenPlace,
};
pub(crate) use parse::url_password;
pub use redact::{REDACTED, Redacted, redacted};
pub use target::{Convergence, StreamTarget};
pub(crate) use target::{
    HttpTarget, HttpTargetConnection, IdempotencyProbe, RowVersion, TableTarget, TargetConnection,
    TargetPlace, WriteMethod,
};

/// A connector as its file defines it.
#[derive(Clone)]
pub struct Definition {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) streams: Vec<Stream>,
    /// Read by targets alone: no source knows it.
    pub(crate) target: Option<TargetConnection>,
    text: String,
}

/// Which driver reads it, with that driver's settings.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A Postgres database.
    Postgres(PostgresDefinition),
    /// An HTTP API that answers in JSON.
    Http(Box<HttpDefinition>),
}

/// The `[postgres]` section.
#[derive(Clone)]
pub struct PostgresDefinition {
    /// The URL without password; `sslmode`, `sslrootcert` and the like are honoured.
    pub(crate) url: SecretString,
    /// The password.
    pub(crate) password: Option<SecretText>,
    /// Whether `url` itself holds a password.
    pub(crate) password_in_url: bool,
    /// How long one statement may run at the source.
    pub(crate) statement_timeout: Duration,
}

impl fmt::Debug for PostgresDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresDefinition")
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}

/// One `[[streams]]` section.
#[derive(Clone, Debug)]
pub struct Stream {
    pub(crate) name: String,
    pub(crate) key: Vec<FieldPath>,
    pub(crate) cursor: Option<CursorRule>,
    pub(crate) fields: Option<Vec<FieldPath>>,
    pub(crate) record_bytes_max: usize,
    pub(crate) deletions: Deletions,
    pub(crate) deletions_percent_max: u8,
    pub(crate) origin: StreamOrigin,
    pub(crate) target: Option<StreamTarget>,
}

/// Where in the source a stream comes from.
#[derive(Clone, Debug)]
pub enum StreamOrigin {
    /// A table or view.
    Table(String),
    /// An endpoint.
    Http(Box<HttpStream>),
}

/// A field, with dots below the top level.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldPath(pub(crate) Vec<String>);

/// The cursor of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorRule {
    /// The field.
    pub field: FieldPath,
    /// How its values compare.
    pub kind: CursorType,
    /// The window in which the source may still commit rows with older values.
    pub settle: Settle,
}

/// A settle window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// Before the start of the run, for instants.
    Time(Duration),
    /// Below the greatest value, for integers.
    Steps(i64),
}

/// How deletions at the source are noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletions {
    /// Not at all.
    None,
    /// By comparing all keys after each run.
    Keys,
    /// By a field of the record that marks it.
    Flag(FieldPath),
}

impl Definition {
    /// Reads a definition; `file_name` is for messages. Every fault found is in the error.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, DefinitionError> {
        parse::definition(text, file_name)
    }

    /// The connector's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver and its settings.
    #[must_use]
    pub const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The streams, in the file's order.
    #[must_use]
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// The stream of that name.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.name == name)
    }

    /// The text it was read from: parsing it again gives the same definition. It holds whatever secrets
    /// [`inline_secrets`](Self::inline_secrets) names.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The keys under which the file itself holds a secret, such as `http.auth.token`.
    #[must_use]
    pub fn inline_secrets(&self) -> Vec<String> {
        self.secrets()
            .filter_map(|secret| match secret {
                SecretText::Inline { key, .. } => Some(key.clone()),
                SecretText::File { .. } | SecretText::Kept { .. } => None,
            })
            .chain(self.password_in_url().then(|| "postgres.url".to_owned()))
            .chain(self.target_password_in_url().then(|| "target.url".to_owned()))
            .collect()
    }

    /// The files that hold secrets, to check that they exist.
    #[must_use]
    pub fn secret_files(&self) -> Vec<PathBuf> {
        self.secrets()
            .filter_map(|secret| match secret {
                SecretText::File { path, .. } => Some(path.clone()),
                SecretText::Kept { .. } | SecretText::Inline { .. } => None,
            })
            .collect()
    }

    /// The names of the credentials that a tenant has to keep for it.
    #[must_use]
    pub fn credentials(&self) -> Vec<&str> {
        self.secrets()
            .filter_map(|secret| match secret {
                SecretText::Kept { name, .. } => Some(name.as_str()),
                SecretText::File { .. } | SecretText::Inline { .. } => None,
            })
            .collect()
    }

    /// The definition as the tenant has it whose credentials `keeper` opens. None is opened before a source, or a
    /// target, is connected with it.
    #[must_use]
    pub fn kept_by(mut self, keeper: &Arc<dyn CredentialKeeper>) -> Self {
        let target = self.target.as_mut().and_then(TargetConnection::secret_mut);
        for secret in self.kind.secret_mut().into_iter().chain(target) {
            if let SecretText::Kept { keeper: kept_by, .. } = secret {
                *kept_by = Some(Arc::clone(keeper));
            }
        }
        self
    }

    fn secrets(&self) -> impl Iterator<Item = &SecretText> {
        let target = self.target.as_ref().and_then(TargetConnection::secret);
        self.kind.secret().into_iter().chain(target)
    }

    const fn target_password_in_url(&self) -> bool {
        matches!(
            &self.target,
            Some(TargetConnection::Postgres(PostgresDefinition { password_in_url: true, .. }))
        )
    }

    const fn password_in_url(&self) -> bool {
        matches!(&self.kind, Kind::Postgres(PostgresDefinition { password_in_url: true, .. }))
    }
}

impl fmt::Debug for Definition {
    /// Without the text, which may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, streams, target, text: _ } = self;
        f.debug_struct("Definition")
            .field("name", name)
            .field("kind", kind)
            .field("streams", streams)
            .field("target", target)
            .finish_non_exhaustive()
    }
}

impl Kind {
    /// The name in the file.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Http(_) => "http",
        }
    }

    /// The secret with which it is read.
    const fn secret(&self) -> Option<&SecretText> {
        match self {
            Self::Postgres(postgres) => postgres.password.as_ref(),
            Self::Http(http) => http.auth.secret(),
        }
    }
}

impl Kind {
    const fn secret_mut(&mut self) -> Option<&mut SecretText> {
        match self {
            Self::Postgres(postgres) => postgres.password.as_mut(),
            Self::Http(http) => http.auth.secret_mut(),
        }
    }
}

impl Stream {
    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fields that identify a row; empty only for a table whose primary key is to be used.
    #[must_use]
    pub fn key(&self) -> &[FieldPath] {
        &self.key
    }

    /// The cursor, without which every run reads everything.
    #[must_use]
    pub const fn cursor(&self) -> Option<&CursorRule> {
        self.cursor.as_ref()
    }

    /// The agreed fields; `None` is all.
    #[must_use]
    pub fn fields(&self) -> Option<&[FieldPath]> {
        self.fields.as_deref()
    }

    /// How deletions are noticed.
    #[must_use]
    pub const fn deletions(&self) -> &Deletions {
        &self.deletions
    }

    /// How many percent of the known records a run may find deleted.
    #[must_use]
    pub const fn deletions_percent_max(&self) -> u8 {
        self.deletions_percent_max
    }

    /// Where it comes from.
    #[must_use]
    pub const fn origin(&self) -> &StreamOrigin {
        &self.origin
    }

    /// What of its records may be written back; `None` is nothing.
    #[must_use]
    pub const fn target(&self) -> Option<&StreamTarget> {
        self.target.as_ref()
    }

    /// Whether `vanished` of `known` records are more than this stream may lose in one run.
    #[must_use]
    pub fn too_many_deletions(&self, known: u64, vanished: u64) -> bool {
        u128::from(vanished) * 100 > u128::from(known) * u128::from(self.deletions_percent_max)
    }

    /// Every field that a record carries: the agreed ones, the key, the cursor and the deletion flag. `None`
    /// is all.
    pub(crate) fn carried(&self, key: &[FieldPath]) -> Option<Vec<FieldPath>> {
        let mut carried = self.fields.clone()?;
        let flag = match &self.deletions {
            Deletions::Flag(field) => Some(field),
            Deletions::None | Deletions::Keys => None,
        };
        for field in key.iter().chain(self.cursor.as_ref().map(|cursor| &cursor.field)).chain(flag) {
            if !carried.iter().any(|agreed| agreed.covers(field)) {
                carried.push(field.clone());
            }
        }
        Some(carried)
    }

    /// The rules by which a row's fingerprint comes about and by which it is judged.
    pub(crate) fn rules(&self) -> String {
        let text = format!("{:?} {} {:?}", self.fields, self.record_bytes_max, self.deletions);
        crate::digest::Digest::of(text).to_string()
    }

    /// What a state must have been written for to be usable: another key or cursor makes it meaningless.
    pub(crate) fn shape(&self, key: &[FieldPath]) -> String {
        let key: Vec<_> = key.iter().map(ToString::to_string).collect();
        let cursor = self.cursor.as_ref().map(|rule| format!("{} {}", rule.field, rule.kind));
        format!("{} / {}", key.join(", "), cursor.unwrap_or_else(|| "no cursor".into()))
    }
}

impl FieldPath {
    /// The names from the top level down.
    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether `other` is this field or lies within it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}
