//! JSON of unknown making: judged for what Postgres can hold, cut to the agreed fields, never rounded.
//!
//! Everything here works on the text itself. A parse into numbers and maps would lose digits, order and the
//! second of two fields with one name.

mod storable;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::definition::FieldPath;
use crate::record::RejectReason;

pub(crate) use storable::storable;

/// How deep a record may be nested.
pub(crate) const DEPTH_MAX: usize = 100;
/// A key is indexed where it is stored, and an index entry of Postgres holds no more than 2,704 bytes.
const KEY_BYTES_MAX: usize = 1_024;
const EXCERPT_BYTES_MAX: usize = 1_024;

/// Why a record cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) reason: RejectReason,
    pub(crate) detail: String,
}

impl Flaw {
    pub(crate) fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// The members of an object in their order, doubles included.
pub(crate) struct Members<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The members of `text`, which is JSON: it fails on what is no object and on names with broken text.
pub(crate) fn members(text: &str) -> Result<Members<'_>, Flaw> {
    if !text.trim_start().starts_with('{') {
        return Err(Flaw::new(RejectReason::NotAnObject, "the record is not a JSON object"));
    }
    serde_json::from_str(text)
        .map_err(|error| Flaw::new(RejectReason::BadText, format!("a field's name cannot be read: {error}")))
}

/// The value at `path` within the object `text`; the last of two with one name, as in `jsonb`.
pub(crate) fn at<'a>(text: &'a str, path: &[String]) -> Option<&'a RawValue> {
    let (name, rest) = path.split_first()?;
    let found = members(text).ok()?.0.into_iter().rev().find(|(member, _)| member == name)?.1;
    if rest.is_empty() { Some(found) } else { at(found.get(), rest) }
}

/// A value that is neither object nor array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Null,
    Text(String),
    /// A number or boolean as it is written.
    Plain(String),
}

/// `None` for an object, an array or text that cannot be decoded.
pub(crate) fn scalar(raw: &RawValue) -> Option<Scalar> {
    match raw.get().as_bytes().first()? {
        b'{' | b'[' => None,
        b'"' => serde_json::from_str(raw.get()).ok().map(Scalar::Text),
        b'n' => Some(Scalar::Null),
        _ => Some(Scalar::Plain(raw.get().to_owned())),
    }
}

/// The stable text of a record's key: one field as its scalar's text, several as a JSON array's.
pub(crate) fn key_text(record: &str, key: &[FieldPath]) -> Result<String, Flaw> {
    let mut parts = Vec::with_capacity(key.len());
    for field in key {
        let missing =
            || Flaw::new(RejectReason::MissingKey, format!("the key field {field} is missing or null"));
        match scalar(at(record, field.names()).ok_or_else(missing)?) {
            None => {
                let detail = format!("the key field {field} is not one plain value");
                return Err(Flaw::new(RejectReason::BadKey, detail));
            }
            Some(Scalar::Null) => return Err(missing()),
            Some(value) => parts.push(value),
        }
    }
    let text = match parts.as_slice() {
        [Scalar::Text(text) | Scalar::Plain(text)] => text.clone(),
        several => {
            let texts: Vec<_> = several
                .iter()
                .map(|part| match part {
                    Scalar::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
                    Scalar::Plain(text) => text.clone(),
                    Scalar::Null => unreachable!("null parts were refused above"),
                })
                .collect();
            format!("[{}]", texts.join(", "))
        }
    };
    judge_key(text)
}

/// Refuses a key that cannot be stored or indexed.
pub(crate) fn judge_key(text: String) -> Result<String, Flaw> {
    if text.len() > KEY_BYTES_MAX {
        let detail = format!("the key has {} bytes, more than {KEY_BYTES_MAX}", text.len());
        return Err(Flaw::new(RejectReason::BadKey, detail));
    }
    if text.contains('\0') {
        return Err(Flaw::new(RejectReason::BadKey, "the key holds NUL"));
    }
    Ok(text)
}

/// The agreed fields, as a tree: a leaf takes the whole value.
#[derive(Debug, Default, Clone)]
pub(crate) struct Agreed {
    whole: bool,
    below: BTreeMap<String, Agreed>,
}

impl Agreed {
    pub(crate) fn new(fields: &[FieldPath]) -> Self {
        let mut root = Self::default();
        for field in fields {
            let leaf =
                field.names().iter().fold(&mut root, |at, name| at.below.entry(name.clone()).or_default());
            leaf.whole = true;
        }
        root
    }

    /// The names at this level, and what is agreed below each.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.below.iter().map(|(name, below)| (name.as_str(), below))
    }

    pub(crate) const fn is_whole(&self) -> bool {
        self.whole
    }

    /// The object `text` with the agreed fields only. Lists on the way are cut item by item; a plain value
    /// where an object was agreed is left out, except null.
    pub(crate) fn cut(&self, text: &str) -> Result<String, Flaw> {
        let mut kept = Vec::new();
        for (name, value) in members(text)?.0 {
            let Some(agreed) = self.below.get(&name) else { continue };
            if let Some(value) = agreed.cut_value(value.get())? {
                kept.push(format!("{}:{value}", serde_json::Value::from(name)));
            }
        }
        Ok(format!("{{{}}}", kept.join(",")))
    }

    fn cut_value(&self, value: &str) -> Result<Option<String>, Flaw> {
        match value.as_bytes().first() {
            _ if self.whole => Ok(Some(value.to_owned())),
            Some(b'{') => self.cut(value).map(Some),
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(value).unwrap_or_default();
                let cut: Result<Vec<_>, _> = items.iter().map(|item| self.cut_value(item.get())).collect();
                Ok(Some(format!("[{}]", cut?.into_iter().flatten().collect::<Vec<_>>().join(","))))
            }
            Some(b'n') => Ok(Some(value.to_owned())),
            _ => Ok(None),
        }
    }
}

/// Whether the value of a deletion flag says "deleted": true, a number but zero, or text such as the time of
/// deletion. Null, a missing field, empty text and the texts "false" and "0" say it is not.
pub(crate) fn marks_deleted(record: &str, flag: &FieldPath) -> bool {
    match at(record, flag.names()).and_then(scalar) {
        None | Some(Scalar::Null) => false,
        Some(Scalar::Text(text) | Scalar::Plain(text)) => !matches!(text.as_str(), "" | "false" | "0"),
    }
}

/// The beginning of `text` in a form that Postgres stores as `text`.
pub(crate) fn excerpt(text: &str) -> String {
    let clean = text.replace('\0', "\u{fffd}");
    clean[..clean.floor_char_boundary(EXCERPT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(text: &str) -> FieldPath {
        FieldPath(text.split('.').map(str::to_owned).collect())
    }

    #[test]
    fn a_key_is_the_text_of_its_scalar_or_of_an_array() {
        let record =
            r#"{"id": 12345678901234567890123, "name": "a\u00e9\"", "at": {"city": "X"}, "n": null}"#;
        assert_eq!(key_text(record, &[field("id")]).unwrap(), "12345678901234567890123");
        assert_eq!(key_text(record, &[field("name")]).unwrap(), "aé\"");
        assert_eq!(
            key_text(record, &[field("at.city"), field("id"), field("name")]).unwrap(),
            r#"["X", 12345678901234567890123, "aé\""]"#
        );
    }

    #[test]
    fn a_key_that_is_missing_null_composite_long_or_holds_nul_is_refused() {
        let reason = |record: &str| key_text(record, &[field("id")]).unwrap_err().reason;
        assert_eq!(reason("{}"), RejectReason::MissingKey);
        assert_eq!(reason(r#"{"id":null}"#), RejectReason::MissingKey);
        assert_eq!(reason(r#"{"id":[1]}"#), RejectReason::BadKey);
        assert_eq!(reason(r#"{"id":"a\u0000"}"#), RejectReason::BadKey);
        assert_eq!(reason(&format!(r#"{{"id":"{}"}}"#, "x".repeat(1025))), RejectReason::BadKey);
    }

    #[test]
    fn only_the_agreed_fields_remain_and_their_text_is_untouched() {
        let agreed = Agreed::new(&[field("id"), field("at.city"), field("items.price")]);
        let record = r#"{"id": 1.500e3, "ssn": "078-05-1120", "at": {"city": "X", "street": "Y"},
                         "items": [{"price": 2.00, "cost": 1}, {"cost": 2}, 7, null]}"#;
        assert_eq!(
            agreed.cut(record).unwrap(),
            r#"{"id":1.500e3,"at":{"city":"X"},"items":[{"price":2.00},{},null]}"#
        );
    }

    #[test]
    fn an_excerpt_ends_at_a_character_and_holds_no_nul() {
        let cut = excerpt(&"é\0".repeat(2_000));
        assert!(cut.len() <= 1_024 && !cut.contains('\0'));
        assert_eq!(excerpt("short"), "short");
    }
}
