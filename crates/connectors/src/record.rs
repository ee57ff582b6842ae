//! What a read hands on: batches of records, of rows set aside, and of keys that exist.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::cursor::CursorValue;
use crate::digest::Digest;
use crate::json::Flaw;
use crate::state::State;

/// A row of the source, ready to be stored.
#[derive(Clone, Debug)]
pub struct Record {
    /// The row's identity in its stream: one key field as the text of its scalar, several as the text of a
    /// JSON array. Never empty of meaning, at most 1 KiB, without NUL.
    pub key: String,
    /// The value of the cursor field, if the stream has one and the row a usable value.
    pub cursor: Option<CursorValue>,
    /// The agreed fields as a JSON object that Postgres accepts as `jsonb`; digits of numbers are kept.
    pub data: Box<RawValue>,
    /// A fingerprint of `data`, 32 hexadecimal digits.
    pub digest: String,
    /// The source marks the row as deleted (`deletions = { flag = … }`).
    pub deleted: bool,
}

/// A row that cannot be stored. It is set aside and the read goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its key, where one could be read.
    pub key: Option<String>,
    /// Why it was set aside.
    pub reason: RejectReason,
    /// The reason in a sentence, with field names and sizes.
    pub detail: String,
    /// The beginning of the row's agreed fields, at most 1 KiB, without NUL; empty where the agreed fields
    /// could not be told from the others.
    pub excerpt: String,
    /// A fingerprint of the row, 32 hexadecimal digits: the same bad row gives the same digest again.
    pub digest: String,
}

/// Why a row was set aside. The names are stable: they are stored and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// A key field is missing or null.
    MissingKey,
    /// A key field is an object or an array, or the key is longer than 1 KiB or holds NUL.
    BadKey,
    /// A second row with the same key at the same place of the order; the first was handed on.
    DuplicateKey,
    /// The stream has a cursor and the record of an API has none.
    MissingCursor,
    /// The cursor field does not hold a value of the stated type.
    BadCursor,
    /// Larger than `record_bytes_max`.
    TooLarge,
    /// Nested deeper than is stored.
    TooDeep,
    /// Text with NUL or half of a surrogate pair, which `jsonb` cannot hold.
    BadText,
    /// Bytes that are not UTF-8.
    InvalidUtf8,
    /// A number outside the range of `jsonb`.
    NumberOutOfRange,
    /// An object that names a field twice.
    DuplicateField,
    /// Not a JSON object.
    NotAnObject,
    /// A line that is not JSON (`format = "ndjson"`).
    InvalidJson,
}

impl RejectReason {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissingKey => "missing_key",
            Self::BadKey => "bad_key",
            Self::DuplicateKey => "duplicate_key",
            Self::MissingCursor => "missing_cursor",
            Self::BadCursor => "bad_cursor",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::BadText => "bad_text",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::NumberOutOfRange => "number_out_of_range",
            Self::DuplicateField => "duplicate_field",
            Self::NotAnObject => "not_an_object",
            Self::InvalidJson => "invalid_json",
        }
    }
}

/// "In `(after, through]` the source has exactly these keys." Keys are compared byte by byte (collation
/// `"C"`). A stored record in the range whose key is not listed was deleted at the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The lower end, exclusive; `None` is the very beginning.
    pub after: Option<String>,
    /// The upper end, inclusive; `None` is the very end.
    pub through: Option<String>,
    /// Every key of the source in the range, ascending.
    pub keys: Vec<String>,
}

/// One step of a read. The caller stores everything in it and the state in *one* transaction, then asks for
/// the next.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Rows that are new or changed, in the order in which they are to be applied (by key, the last wins).
    pub records: Vec<Record>,
    /// Rows that were set aside.
    pub rejected: Vec<Rejected>,
    /// A range of keys to compare with what is stored (`deletions = "keys"`).
    pub keys: Option<KeyRange>,
    /// Where the read stands once this batch is stored.
    pub state: State,
    /// Rows in this batch: records and rejected.
    pub read: u64,
    /// Rows that the source delivered again unchanged; they are not in `records` and not in `read`.
    pub repeated: u64,
    /// Rows (of `records`, `rejected` and the repeated) that have no usable cursor: null, infinite or outside
    /// the years 1 to 9999. They are read in every run, because no cursor would ever find them.
    pub null_cursor: u64,
    /// Things a person should know about, in sentences without secrets.
    pub warnings: Vec<String>,
    /// The run is complete with this batch; `next` answers `None` from now on.
    pub finished: bool,
}

impl Rejected {
    pub(crate) fn new(key: Option<String>, flaw: Flaw, excerpt: String, digest: Digest) -> Self {
        // A key that was refused itself may not be storable either.
        let key = key.filter(|_| flaw.reason != RejectReason::BadKey);
        Self { key, reason: flaw.reason, detail: flaw.detail, excerpt, digest: digest.to_string() }
    }
}

impl Batch {
    pub(crate) fn accept(&mut self, record: Record) {
        self.read += 1;
        self.records.push(record);
    }

    pub(crate) fn reject(&mut self, rejected: Rejected) {
        self.read += 1;
        self.rejected.push(rejected);
    }

    /// How full it is. Repeated rows do not count: a run that is resumed again and again within one crowd of
    /// rows would see batches full of what it knows, and never come further.
    pub(crate) fn len(&self) -> usize {
        self.records.len() + self.rejected.len()
    }
}
