//! Source and target drivers: what a connector reads, what it may write, and how.
//!
//! Owns: the definition file of a connector ([`Definition`]), the two drivers behind [`Source`] and [`Target`]
//! (a Postgres database, an HTTP API), and the shape in which what was read is handed on ([`Batch`], [`Record`],
//! [`Rejected`], [`KeyRange`], [`State`]).
//!
//! Promises: a caller that commits each batch together with its state may stop or crash between any two
//! batches; the state, given back, leads to the same rows as an undisturbed run. A cursor is only ever
//! handed out when every row up to it has been handed out too, and never beyond the settle window. Every run
//! ends: pages, bytes, idle time and total time are bounded. Only the agreed fields leave the source. No
//! message, no `Debug` output and no error carries a secret.
//!
//! A [`Source`] never writes and never opens the credential that can; what a [`Target`] promises is said at
//! its module.
//!
//! Refuses: to know jobs, tenants, queues or approvals. A record that cannot be stored is set aside with
//! its reason ([`RejectReason`]), never dropped in silence.

mod budget;
mod cursor;
mod definition;
mod digest;
mod error;
mod http;
mod json;
mod known;
mod postgres;
mod progress;
mod record;
mod report;
mod scan;
mod secret;
mod source;
mod state;
mod target;
#[cfg(test)]
mod testing;

pub use budget::{Bucket, LocalBudget, RequestBudget};
pub use cursor::{CursorFault, CursorType, CursorValue};
pub use definition::{
    Auth, Convergence, CursorParam, CursorRule, Definition, DefinitionError, DefinitionFault, Deletions,
    FieldPath, Format, HttpDefinition, HttpStream, Kind, Method, Order, Pagination, ParamFormat,
    PostgresDefinition, REDACTED, RateLimit, Redacted, Settle, Stream, StreamOrigin, StreamTarget,
    TokenPlace, redacted,
};
pub use error::{ErrorClass, Place, SourceError};
pub use record::{Batch, KeyRange, Record, RejectReason, Rejected};
pub use report::{Check, CheckReport, DiscoveredField, DiscoveredStream, Outcome};
pub use scan::{Beside, Precision, Proof, Scan, ScannedStream, TargetLook, Volume};
pub use secret::{CredentialError, CredentialKeeper, SecretText};
pub use source::{ReadOptions, Reader, Source};
pub use state::{State, StateError};
pub use target::{
    Capability, Change, Conflict, Expected, Fields, Normaliser, Observed, Probed, ProbedTarget, Standing,
    Target, Validator, WriteAnswer, check_targets, probe_target,
};
