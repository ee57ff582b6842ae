//! The one door to a target: what writes one approved change and reads it back.
//!
//! Owns: [`Change`] (what is to be written, and what must be there before), [`Observed`] (what a read saw),
//! [`WriteAnswer`] (what is known after a write), [`Standing`] (how an observation compares with a change),
//! [`Capability`] (what a target was *seen* to do).
//!
//! Promises: only owned fields change (W5). A write looks first and sends nothing when the fields or the
//! validator are not those of the change (W4). Nothing is ever sent twice: only reads, and writes of which
//! provably nothing took effect, may be repeated, by the caller. The answer to a write is never evidence of
//! what is stored (W3): [`WriteAnswer::Accepted`] carries nothing, and every read is a connection of its own.
//! All waiting is bounded. No message, `Debug` output or log line carries a credential (I7).
//!
//! Refuses: to know jobs, approvals or receipts; to follow a redirect of a write; to write a target that it
//! cannot read.

mod capability;
mod change;
mod check;
mod normalise;
mod standing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::budget::RequestBudget;
use crate::definition::{Convergence, Definition, Stream, StreamTarget, TargetConnection, TargetPlace};
use crate::error::{Place, SourceError};
use crate::http::HttpTargetDriver;
use crate::postgres::PgTarget;
use crate::scan::{Proof, TargetLook};

pub use capability::{Capability, Probed};
pub use change::{Change, Conflict, Expected, Fields, Observed, Validator, WriteAnswer};
pub use check::{ProbedTarget, check_targets, probe_target};
pub use normalise::Normaliser;
pub use standing::Standing;

/// The target of one stream.
#[derive(Debug)]
pub struct Target {
    driver: Driver,
    settings: StreamTarget,
}

#[derive(Debug)]
enum Driver {
    Postgres(Box<PgTarget>),
    Http(Box<HttpTargetDriver>),
}

impl Target {
    /// Reads the credential that writes and prepares the driver; nothing is sent. `None` for a stream that
    /// has no `[streams.target]`.
    pub async fn connect(
        definition: &Definition,
        stream: &Stream,
        budget: Arc<dyn RequestBudget>,
    ) -> Result<Option<Self>, SourceError> {
        let (Some(settings), Some(connection)) = (&stream.target, &definition.target) else {
            return Ok(None);
        };
        let place = Place { connector: definition.name().to_owned(), stream: Some(stream.name.clone()) };
        let driver = match (connection, &settings.place) {
            (TargetConnection::Postgres(postgres), TargetPlace::Table(table)) => {
                let bytes_max = stream.record_bytes_max;
                let driver = PgTarget::prepare(place, postgres, settings, table, bytes_max).await?;
                Driver::Postgres(Box::new(driver))
            }
            (TargetConnection::Http(http), TargetPlace::Http(target)) => {
                let driver = HttpTargetDriver::prepare(place, http, settings, target, budget).await?;
                Driver::Http(Box::new(driver))
            }
            _ => {
                let advice = "let `[target]` and the stream be of the connector's kind";
                return Err(place.configuration("the target is of another kind than its stream", advice));
            }
        };
        Ok(Some(Self { driver, settings: settings.clone() }))
    }

    /// Reads a record on a new connection; `None` if there is none. Three tries, seconds apart at most.
    pub async fn read(&self, key: &str) -> Result<Option<Observed>, SourceError> {
        match &self.driver {
            Driver::Postgres(target) => target.read(key).await,
            Driver::Http(target) => target.read(key).await,
        }
    }

    /// Writes a change, once. Dropping the future leaves the outcome unknown: read before anything else.
    pub async fn write(&self, change: &Change) -> WriteAnswer {
        if let Some(refused) = change.fault(&self.settings) {
            return refused;
        }
        match &self.driver {
            Driver::Postgres(target) => target.write(change).await,
            Driver::Http(target) => target.write(change).await,
        }
    }

    /// How what was read compares with a change, by this target's normalisers.
    #[must_use]
    pub fn compare(&self, change: &Change, observed: Option<&Observed>) -> Standing {
        Standing::of(&self.settings, change, observed)
    }

    /// Finds out by trying what the target does. `sample` is the key of some record, used where the
    /// definition names no `probe_key`; such a record is never sent a value. Never fails: what stood in the
    /// way is in the evidence.
    pub async fn probe(&self, sample: Option<&str>) -> Probed {
        match &self.driver {
            Driver::Postgres(target) => target.probe(sample).await,
            Driver::Http(target) => target.probe(sample).await,
        }
    }

    /// What the target lets its credential do, by its own word: nothing is tried, and an API, which has no such word,
    /// is sent nothing.
    pub async fn examine(&self) -> Result<TargetLook, SourceError> {
        match &self.driver {
            Driver::Postgres(target) => target.examine().await,
            Driver::Http(_) => {
                let proof = Proof::Requests { sent: std::collections::BTreeMap::new() };
                Ok(TargetLook { may_write: None, refused: Vec::new(), proof })
            }
        }
    }

    /// When to read after a write.
    #[must_use]
    pub const fn convergence(&self) -> Convergence {
        self.settings.convergence
    }
}

#[cfg(test)]
impl Target {
    /// Tests have no time to wait between tries.
    pub(crate) fn without_pauses(&mut self) {
        match &mut self.driver {
            Driver::Postgres(target) => target.without_pauses(),
            Driver::Http(target) => target.without_pauses(),
        }
    }
}
