//! A change, what a read sees, and what is known after a write.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::definition::StreamTarget;
use crate::error::SourceError;

/// Values by owned field, its names joined by dots. A field that a record does not have is null: a merge
/// patch (RFC 7396) cannot tell the two apart.
pub type Fields = BTreeMap<String, Value>;

/// What a target calls the version of a record: an `ETag`, a row version. Opaque, and compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Validator(pub String);

/// A record as a read saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Every owned field.
    pub fields: Fields,
    /// The SHA-256, in hex, of everything else but the stamped fields: what a write must leave as it was.
    pub rest: String,
    /// The version, if the target has one.
    pub validator: Option<Validator>,
}

/// One approved change of one record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The record's key, as a sync stores it.
    pub key: String,
    /// What must be there for the change to be made.
    pub expected: Expected,
    /// The new values.
    pub desired: Fields,
    /// Sent where the target takes one, the same whenever this change is sent.
    pub idempotency_key: String,
}

/// What a change expects to find.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// No record: the change creates it.
    Absent,
    /// A record with these values.
    Present {
        /// The values of the fields to be written, as a read saw them.
        before: Fields,
        /// The version. With one, any other version is a conflict; without, only other values are.
        validator: Option<Validator>,
    },
}

/// What is known after a write. The texts may quote the target, and with it values of the record: they are
/// personal data and belong into no audit entry.
#[derive(Debug)]
pub enum WriteAnswer {
    /// The target said yes. What it stored is to be read: the answer proves nothing.
    Accepted,
    /// The values were there already; nothing was sent.
    Already,
    /// The record is not as expected; nothing was changed by us.
    Conflict(Conflict),
    /// The target, or this driver, will not take these values, whenever they are sent.
    Refused {
        /// What was said.
        what: String,
    },
    /// Too often; nothing was changed by us.
    Throttled {
        /// How long to wait.
        after: Duration,
    },
    /// It may or may not have taken effect. The only legal next move is to read.
    Unknown {
        /// What happened.
        what: String,
    },
    /// Provably nothing took effect: sending the change again is safe. The class of the error says when.
    NotApplied(SourceError),
}

/// In what a record differs from what a change expects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    /// There is no such record.
    Gone,
    /// There is one already.
    Exists,
    /// These fields hold other values.
    Fields(Vec<String>),
    /// The fields are as expected, the version is not: something else of the record was changed.
    Version,
    /// The target itself refused the precondition (HTTP 409 or 412).
    Precondition {
        /// What it said.
        what: String,
    },
}

impl WriteAnswer {
    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self::Refused { what: what.into() }
    }
}

impl Change {
    /// Why this change cannot be written to any record.
    pub(crate) fn fault(&self, target: &StreamTarget) -> Option<WriteAnswer> {
        let refused = |what: String| Some(WriteAnswer::refused(what));
        if self.desired.is_empty() {
            return refused("the change writes no field".into());
        }
        let owned = |name: &String| target.owned.iter().any(|field| field.to_string() == *name);
        if let Some(name) = self.desired.keys().find(|name| !owned(name)) {
            return refused(format!("{name:?} is not an owned field"));
        }
        match &self.expected {
            Expected::Present { before, .. } if !before.keys().eq(self.desired.keys()) => {
                refused("the change does not say what each of its fields held before".into())
            }
            _ => None,
        }
    }

    /// Why it cannot be made on what is there now; `Ok` when it can.
    pub(crate) fn judge(&self, observed: Option<&Observed>) -> Result<(), WriteAnswer> {
        let conflict = |what| Err(WriteAnswer::Conflict(what));
        let (before, validator) = match (&self.expected, observed) {
            (Expected::Absent, None) => return Ok(()),
            (Expected::Absent, Some(observed)) => {
                let same = differing(&self.desired, observed).is_empty();
                return if same { Err(WriteAnswer::Already) } else { conflict(Conflict::Exists) };
            }
            (Expected::Present { .. }, None) => return conflict(Conflict::Gone),
            (Expected::Present { before, validator }, Some(_)) => (before, validator),
        };
        let observed = observed.expect("the other arms have none");
        if differing(&self.desired, observed).is_empty() {
            return Err(WriteAnswer::Already);
        }
        let moved = differing(before, observed);
        if !moved.is_empty() {
            return conflict(Conflict::Fields(moved));
        }
        if validator.is_some() && *validator != observed.validator {
            return conflict(Conflict::Version);
        }
        Ok(())
    }
}

/// The names of the fields that are not as in `wanted`, byte by byte but for the writing of numbers.
pub(crate) fn differing(wanted: &Fields, observed: &Observed) -> Vec<String> {
    let same = |name: &String, value: &Value| {
        observed.fields.get(name).is_some_and(|seen| super::normalise::same(seen, value, &[]))
    };
    wanted.iter().filter(|(name, value)| !same(name, value)).map(|(name, _)| name.clone()).collect()
}
