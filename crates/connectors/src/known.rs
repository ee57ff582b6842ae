//! The rows at or after the committed cursor that were already handed out, as fingerprints.
//!
//! A run reads its lower bound inclusively and again everything within the settle window; this list tells
//! what of that is new. It is only ever a filter: a row that is not listed is handed out again, which is
//! harmless, so the list may be dropped when it grows too long. It keeps one entry per *key*: a row that
//! changed and changed back is not mistaken for one that never changed.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cursor::CursorValue;
use crate::digest::Digest;

/// Beyond this many rows the list is dropped: 20,000 entries are 640 KiB in the state.
pub(crate) const KNOWN_ROWS_MAX: usize = 20_000;

/// A key's fingerprint (8 bytes) and its row's (16 bytes).
const ENTRY_BYTES: usize = 24;

/// The list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    rows: HashMap<[u8; 8], Row>,
    /// Grew too long: nothing is kept until the cursor has moved past this crowd.
    dropped: bool,
    /// The rules under which the rows were judged (agreed fields, size limits).
    pub(crate) rules: String,
}

#[derive(Clone, Debug)]
struct Row {
    digest: Digest,
    /// Its cursor, if this process saw it.
    cursor: Option<CursorValue>,
    /// Handed out or seen again in this run.
    fresh: bool,
}

impl Known {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The list for a reader that judges by `rules`. Other rules would judge the same rows otherwise, so a
    /// list made under them is void. A new run has seen nothing yet; one that is resumed has.
    pub(crate) fn continued(&self, rules: String, resumed: bool) -> Self {
        if self.rules != rules {
            return Self { rules, ..Self::default() };
        }
        let mut known = Self { dropped: false, ..self.clone() };
        if !resumed {
            known.rows.values_mut().for_each(|row| row.fresh = false);
        }
        known
    }

    /// The fingerprints of all rows listed.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.rows.values().map(|row| row.digest)
    }

    /// Whether the row was handed out just so, or set aside; if it was, this run has seen it now.
    pub(crate) fn renew(&mut self, key: Option<&str>, digest: Digest, cursor: Option<&CursorValue>) -> bool {
        let names = key.map(key_name).into_iter().chain([rejected_name(digest)]);
        for name in names {
            if let Some(row) = self.rows.get_mut(&name).filter(|row| row.digest == digest) {
                *row = Row { digest, cursor: cursor.cloned(), fresh: true };
                return true;
            }
        }
        false
    }

    /// The row was handed out.
    pub(crate) fn note(&mut self, key: &str, digest: Digest, cursor: Option<CursorValue>) {
        self.insert(key_name(key), digest, cursor);
    }

    /// The row was set aside. It is listed by its content: it may have no key, or share one.
    pub(crate) fn note_rejected(&mut self, digest: Digest, cursor: Option<CursorValue>) {
        self.insert(rejected_name(digest), digest, cursor);
    }

    fn insert(&mut self, name: [u8; 8], digest: Digest, cursor: Option<CursorValue>) {
        let row = Row { digest, cursor, fresh: true };
        if let Some(old) = self.rows.get_mut(&name) {
            *old = row;
        } else if self.rows.len() >= KNOWN_ROWS_MAX {
            self.rows.clear();
            self.dropped = true;
        } else if !self.dropped {
            self.rows.insert(name, row);
        }
    }

    /// The committed cursor has moved: what lies before it is not read again.
    pub(crate) fn advance(&mut self, cursor: &CursorValue) {
        self.rows.retain(|_, row| row.cursor.as_ref().is_none_or(|seen| seen >= cursor));
        self.dropped = false;
    }

    /// The run is complete: rows that it did not see are not there any more.
    pub(crate) fn end_run(&mut self) {
        self.rows.retain(|_, row| row.fresh);
    }

    fn encode(&self, fresh: bool) -> String {
        let mut bytes = Vec::with_capacity(self.rows.len() * ENTRY_BYTES);
        for (key, row) in self.rows.iter().filter(|(_, row)| row.fresh == fresh) {
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&row.digest.0);
        }
        BASE64.encode(bytes)
    }

    fn decode(&mut self, text: &str, fresh: bool) -> Result<(), &'static str> {
        let bytes = BASE64.decode(text).map_err(|_| "the known rows are not base64")?;
        let entries = bytes.as_chunks::<ENTRY_BYTES>();
        if !entries.1.is_empty() {
            return Err("the known rows are cut off");
        }
        for entry in entries.0 {
            let (mut key, mut digest) = ([0; 8], [0; 16]);
            key.copy_from_slice(&entry[..8]);
            digest.copy_from_slice(&entry[8..]);
            self.rows.insert(key, Row { digest: Digest(digest), cursor: None, fresh });
        }
        Ok(())
    }
}

fn key_name(key: &str) -> [u8; 8] {
    Digest::of(key).short()
}

/// A name that no key has.
fn rejected_name(digest: Digest) -> [u8; 8] {
    Digest::of([b"set aside ", digest.0.as_slice()].concat()).short()
}

/// The form in which the list is kept.
#[derive(Serialize, Deserialize)]
struct Stored {
    rules: String,
    /// Rows of the last run that this run has not come to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    old: String,
    /// Rows of this run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    fresh: String,
}

impl Serialize for Known {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = Stored { rules: self.rules.clone(), old: self.encode(false), fresh: self.encode(true) };
        stored.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        let mut known = Self { rules: stored.rules, ..Self::default() };
        known.decode(&stored.old, false).map_err(D::Error::custom)?;
        known.decode(&stored.fresh, true).map_err(D::Error::custom)?;
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::CursorType;

    fn cursor(value: usize) -> CursorValue {
        CursorValue::parse(CursorType::Integer, &value.to_string()).unwrap()
    }

    fn content(text: &str) -> Digest {
        Digest::of(text)
    }

    fn has(known: &Known, key: &str, text: &str) -> bool {
        known.clone().renew(Some(key), content(text), None)
    }

    #[test]
    fn a_row_that_changed_and_changed_back_is_not_known() {
        let mut known = Known::default();
        known.note("key", content("a"), None);
        known.note("key", content("b"), None);
        assert!(has(&known, "key", "b") && !has(&known, "key", "a"));
    }

    #[test]
    fn a_row_set_aside_is_known_by_its_content() {
        let mut known = Known::default();
        known.note_rejected(content("bad"), None);
        assert!(known.renew(None, content("bad"), None));
        assert!(!known.renew(None, content("other"), None));
    }

    #[test]
    fn the_list_survives_being_stored_with_what_was_seen_in_this_run() {
        let mut known = Known::default().continued("rules".into(), false);
        known.note("before", content("1"), None);
        let mut known = known.continued("rules".into(), false);
        known.note("now", content("2"), None);
        let back: Known = serde_json::from_str(&serde_json::to_string(&known).unwrap()).unwrap();
        let mut back = back.continued("rules".into(), true);
        assert!(has(&back, "before", "1"));
        back.end_run();
        assert!(!has(&back, "before", "1") && has(&back, "now", "2"));
    }

    #[test]
    fn other_rules_void_the_list() {
        let mut known = Known::default().continued("fields a".into(), false);
        known.note("k", content("1"), None);
        assert!(known.continued("fields a, b".into(), true).is_empty());
    }

    #[test]
    fn a_crowd_is_dropped_and_collecting_begins_again_behind_it() {
        let mut known = Known::default();
        for n in 0..=KNOWN_ROWS_MAX + 1 {
            known.note(&n.to_string(), content("x"), Some(cursor(1)));
        }
        assert_eq!(known.len(), 0);
        known.advance(&cursor(2));
        known.note("behind", content("x"), Some(cursor(2)));
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn rows_before_the_committed_cursor_are_forgotten_and_those_without_cursor_kept() {
        let mut known = Known::default();
        known.note("before", content("x"), Some(cursor(1)));
        known.note("at", content("x"), Some(cursor(2)));
        known.note("none", content("x"), None);
        known.advance(&cursor(2));
        assert!(!has(&known, "before", "x") && has(&known, "at", "x") && has(&known, "none", "x"));
    }
}
