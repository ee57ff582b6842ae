//! Cursor values: how they are read, compared and kept.
//!
//! A value is compared by what it means (instants across offsets, integers as integers, text byte by byte)
//! and keeps the source's own text, because that is what some sources want back.

use std::cmp::Ordering;
use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// How the values of a cursor field compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CursorType {
    /// An instant; a value without offset counts as UTC.
    Timestamp,
    /// A whole number of 64 bits.
    Integer,
    /// Text in byte order.
    Text,
}

impl CursorType {
    /// The name used in definition files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "timestamp",
            Self::Integer => "integer",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for CursorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value of a cursor field.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub enum CursorValue {
    /// An instant, and the source's own way of writing it.
    Timestamp {
        /// What is compared.
        at: DateTime<Utc>,
        /// What is sent back.
        text: String,
    },
    /// A whole number.
    Integer(i64),
    /// Text, compared byte by byte.
    Text(String),
}

/// A cursor value that cannot be read as its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a cursor of type {wanted}")]
pub struct CursorFault {
    /// The type in the definition.
    pub wanted: CursorType,
    /// The beginning of the value that was found.
    pub value: String,
}

impl CursorValue {
    /// Reads `text` as a value of type `wanted`.
    pub fn parse(wanted: CursorType, text: &str) -> Result<Self, CursorFault> {
        let fault = || CursorFault { wanted, value: text.chars().take(64).collect() };
        Ok(match wanted {
            CursorType::Timestamp => {
                Self::Timestamp { at: instant(text).ok_or_else(fault)?, text: text.to_owned() }
            }
            CursorType::Integer => Self::Integer(text.parse().map_err(|_| fault())?),
            CursorType::Text if text.contains('\0') => return Err(fault()),
            CursorType::Text => Self::Text(text.to_owned()),
        })
    }

    /// The type of this value.
    #[must_use]
    pub const fn kind(&self) -> CursorType {
        match self {
            Self::Timestamp { .. } => CursorType::Timestamp,
            Self::Integer(_) => CursorType::Integer,
            Self::Text(_) => CursorType::Text,
        }
    }

    /// The source's own text.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Timestamp { text, .. } | Self::Text(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
        }
    }

    /// An instant with microseconds, in UTC.
    pub(crate) fn rfc3339(at: DateTime<Utc>) -> String {
        at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
    }
}

/// RFC 3339 first; then what databases and older APIs write: a blank for the `T`, an offset without colon,
/// no offset, or a date alone.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.to_utc());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z"] {
        if let Ok(at) = DateTime::parse_from_str(text, format) {
            return Some(at.to_utc());
        }
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, format) {
            return Some(at.and_utc());
        }
    }
    Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(chrono::NaiveTime::MIN).and_utc())
}

impl Ord for CursorValue {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Timestamp { at, .. }, Self::Timestamp { at: other, .. }) => at.cmp(other),
            (Self::Integer(number), Self::Integer(other)) => number.cmp(other),
            (Self::Text(text), Self::Text(other)) => text.as_bytes().cmp(other.as_bytes()),
            // Values of two types never meet: a state of another shape is refused before a read.
            _ => (self.kind() as u8).cmp(&(other.kind() as u8)),
        }
    }
}

impl PartialOrd for CursorValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for CursorValue {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for CursorValue {}

impl fmt::Display for CursorValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// The form in which a value is kept.
#[derive(Serialize, Deserialize)]
struct Stored {
    r#type: CursorType,
    value: String,
}

impl From<CursorValue> for Stored {
    fn from(value: CursorValue) -> Self {
        Self { r#type: value.kind(), value: value.text() }
    }
}

impl TryFrom<Stored> for CursorValue {
    type Error = CursorFault;

    fn try_from(stored: Stored) -> Result<Self, CursorFault> {
        Self::parse(stored.r#type, &stored.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> CursorValue {
        CursorValue::parse(CursorType::Timestamp, text).unwrap()
    }

    #[test]
    fn instants_compare_across_offsets_and_spellings_and_keep_their_text() {
        let written = "2026-03-01T12:00:00+02:00";
        for other in ["2026-03-01T10:00:00Z", "2026-03-01 10:00:00", "2026-03-01T10:00:00.000+0000"] {
            assert_eq!(at(written), at(other), "{other}");
        }
        assert!(at("2026-03-01") < at(written));
        assert_eq!(at(written).text(), written);
    }

    #[test]
    fn integers_compare_as_numbers_and_text_as_bytes() {
        let number = |text| CursorValue::parse(CursorType::Integer, text).unwrap();
        let text = |text| CursorValue::parse(CursorType::Text, text).unwrap();
        assert!(number("9") < number("10"));
        assert!(text("10") < text("9"));
        assert!(text("Z") < text("a"));
    }

    #[test]
    fn what_is_not_of_the_type_is_refused() {
        for (kind, value) in [
            (CursorType::Timestamp, "yesterday"),
            (CursorType::Timestamp, ""),
            (CursorType::Timestamp, "1772359200"),
            (CursorType::Integer, "1.5"),
            (CursorType::Integer, ""),
            (CursorType::Text, "a\0b"),
        ] {
            assert!(CursorValue::parse(kind, value).is_err(), "{kind} {value:?}");
        }
    }

    #[test]
    fn a_kept_value_is_read_back_as_it_was() {
        let value = at("2026-03-01 12:00:00.123456+02:00");
        let kept = serde_json::to_string(&value).unwrap();
        let back: CursorValue = serde_json::from_str(&kept).unwrap();
        assert_eq!((back.text(), &back), (value.text(), &value));
    }
}
