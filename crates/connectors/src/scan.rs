//! What a source and its targets are like, found out by reading alone, with what proves that nothing was written.
//!
//! Promises: of Postgres, every transaction is begun `read only`, is asked at its end whether it still is and whether it
//! was given an id (a transaction that writes has one), and is never committed. Of HTTP, only streams that are read by
//! `GET` are asked for, and the methods of the requests that left are counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::definition::{FieldPath, Stream};
use crate::record::Batch;
use crate::report::{CheckReport, DiscoveredField};

/// What a scan of a source saw.
#[derive(Clone, Debug)]
pub struct Scan {
    /// What was looked at, and what came of it.
    pub report: CheckReport,
    /// The streams that could be found.
    pub streams: Vec<ScannedStream>,
    /// What the source has besides.
    pub beside: Vec<Beside>,
    /// What shows that nothing was written.
    pub proof: Proof,
}

/// A stream as a scan saw it.
#[derive(Clone, Debug)]
pub struct ScannedStream {
    /// Its name.
    pub name: String,
    /// How many records it has.
    pub volume: Option<Volume>,
    /// What its records have.
    pub fields: Vec<DiscoveredField>,
    /// Agreed fields, with key and cursor, that are not there.
    pub missing: Vec<String>,
    /// Fields that are there and not agreed: they are not read. None where no list is agreed.
    pub extra: Option<Vec<String>>,
    /// Agreed fields that the credential may not read.
    pub refused: Vec<String>,
    /// Whether the credential that reads could also write; none where the source does not say.
    pub may_write: Option<bool>,
    /// The first records as a sync would take them, not stored anywhere.
    pub sample: Option<Batch>,
}

/// A number of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// How many.
    pub records: u64,
    /// How well that is known.
    pub precision: Precision,
}

/// How well a number is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// They were counted.
    Exact,
    /// The source estimates it.
    Estimated,
    /// So many were seen, and there are more.
    AtLeast,
}

/// Something of the source that the definition does not name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// The table or view.
    pub name: String,
    /// About how many rows it has, where the source says.
    pub rows_estimated: Option<u64>,
    /// Whether the credential may read it.
    pub may_read: bool,
}

/// What a target was seen to let its credential do, without trying it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetLook {
    /// Whether the owned fields may be written; none where only trying tells.
    pub may_write: Option<bool>,
    /// The owned fields that may not.
    pub refused: Vec<String>,
    /// What shows that nothing was written.
    pub proof: Proof,
}

/// What shows that nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Proof {
    /// The source's own word on each transaction.
    Transactions {
        /// How many were begun, each `read only`.
        begun: u64,
        /// Of them, those that were read-only at their end and had been given no transaction id.
        unwritten: u64,
        /// Those that ended in an error before they could be asked. None of all was committed.
        broken: u64,
    },
    /// What was sent.
    Requests {
        /// How many of each method.
        sent: BTreeMap<String, u64>,
    },
}

impl Proof {
    pub(crate) const fn of_transactions() -> Self {
        Self::Transactions { begun: 0, unwritten: 0, broken: 0 }
    }

    /// Whether it shows that.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self {
            Self::Transactions { begun, unwritten, broken } => *begun == unwritten + broken,
            Self::Requests { sent } => sent.keys().all(|method| matches!(method.as_str(), "GET" | "HEAD")),
        }
    }

    /// Both together; of one kind they are added up.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (
                Self::Transactions { begun, unwritten, broken },
                Self::Transactions { begun: b, unwritten: u, broken: k },
            ) => Self::Transactions { begun: begun + b, unwritten: unwritten + u, broken: broken + k },
            (Self::Requests { mut sent }, Self::Requests { sent: other }) => {
                for (method, count) in other {
                    *sent.entry(method).or_default() += count;
                }
                Self::Requests { sent }
            }
            (this, _) => this,
        }
    }
}

/// Carried fields whose place is not there. A place within a field is looked for only where `has` can tell.
pub(crate) fn missing(carried: &[FieldPath], has: impl Fn(&FieldPath) -> bool) -> Vec<String> {
    carried.iter().filter(|field| !has(field)).map(ToString::to_string).collect()
}

/// Fields of the top level that no agreed field lies in; none where no list is agreed.
pub(crate) fn extra(stream: &Stream, key: &[FieldPath], found: &[DiscoveredField]) -> Option<Vec<String>> {
    let carried = stream.carried(key)?;
    let is_carried = |name: &String| carried.iter().any(|field| field.names().first() == Some(name));
    Some(found.iter().map(|field| field.name.clone()).filter(|name| !is_carried(name)).collect())
}

/// The agreed fields with key, cursor and flag; without an agreed list the last three.
pub(crate) fn expected(stream: &Stream, key: &[FieldPath]) -> Vec<FieldPath> {
    let mut only_needed = stream.clone();
    only_needed.fields = Some(stream.fields.clone().unwrap_or_default());
    only_needed.carried(key).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(methods: &[&str]) -> Proof {
        Proof::Requests { sent: methods.iter().map(|method| ((*method).to_owned(), 1)).collect() }
    }

    #[test]
    fn a_proof_holds_only_where_nothing_can_have_been_written() {
        let of = |begun, unwritten, broken| Proof::Transactions { begun, unwritten, broken };
        assert!(of(0, 0, 0).holds() && of(3, 2, 1).holds());
        assert!(!of(3, 2, 0).holds());
        assert_eq!(of(1, 1, 0).and(of(2, 1, 1)), of(3, 2, 1));
        assert!(sent(&[]).holds() && sent(&["GET", "HEAD"]).holds());
        assert!(!sent(&["GET", "POST"]).holds());
        let both = Proof::Requests { sent: BTreeMap::from([("GET".to_owned(), 2)]) };
        assert_eq!(sent(&["GET"]).and(sent(&["GET"])), both);
    }
}
