//! The records of a page, one by one: kept, set aside, or known already.

use serde_json::value::RawValue;

use super::HttpReader;
use crate::cursor::CursorValue;
use crate::definition::Deletions;
use crate::digest::Digest;
use crate::http::page::Item;
use crate::json::{self, Flaw, Scalar};
use crate::record::{Batch, Record, RejectReason, Rejected};

impl HttpReader {
    /// Judges one record and puts it where it belongs; returns what it weighs.
    pub(super) fn take(&mut self, item: Item, batch: &mut Batch) -> usize {
        let text = match item {
            Item::Json(text) => text,
            Item::Broken(text, flaw) => {
                self.set_aside_whole(&text, flaw, batch);
                return 0;
            }
        };
        let cut = match &self.agreed {
            Some(agreed) => agreed.cut(&text),
            None => json::members(&text).map(|_| text.clone()),
        };
        let data = match cut {
            Ok(data) => data,
            Err(flaw) => {
                self.set_aside_whole(&text, flaw, batch);
                return 0;
            }
        };
        self.take_object(&data, batch)
    }

    fn take_object(&mut self, data: &str, batch: &mut Batch) -> usize {
        let (digest, bytes) = (Digest::of(data), data.len());
        let key = json::key_text(data, &self.stream.key);
        let cursor = self.cursor_of(data);
        if let Ok(Some(cursor)) = &cursor {
            // Handed out by an earlier run: the committed cursor says so.
            if self.lower().is_some_and(|lower| cursor < lower) {
                batch.repeated += 1;
                return 0;
            }
            if let Some(progress) = self.run.as_mut().and_then(|run| run.progress.as_mut()) {
                progress.see(cursor);
            }
        }
        let seen = cursor.as_ref().ok().cloned().flatten();
        if self.known.renew(key.as_deref().ok(), digest, seen.as_ref()) {
            batch.repeated += 1;
            return 0;
        }
        let named = key.as_deref().ok().map(str::to_owned);
        match self.judge(data, key, cursor) {
            Ok((key, cursor, raw)) => {
                self.known.note(&key, digest, cursor.clone());
                let deleted = match &self.stream.deletions {
                    Deletions::Flag(flag) => json::marks_deleted(data, flag),
                    Deletions::None | Deletions::Keys => false,
                };
                batch.accept(Record { key, cursor, data: raw, digest: digest.to_string(), deleted });
            }
            Err(flaw) => self.set_aside(named, flaw, json::excerpt(data), digest, seen, batch),
        }
        bytes
    }

    /// What cannot be cut to the agreed fields is not shown either.
    fn set_aside_whole(&mut self, text: &str, flaw: Flaw, batch: &mut Batch) {
        let excerpt = if self.agreed.is_some() { String::new() } else { json::excerpt(text) };
        self.set_aside(None, flaw, excerpt, Digest::of(text), None, batch);
    }

    fn set_aside(
        &mut self,
        key: Option<String>,
        flaw: Flaw,
        excerpt: String,
        digest: Digest,
        cursor: Option<CursorValue>,
        batch: &mut Batch,
    ) {
        if self.known.renew(None, digest, cursor.as_ref()) {
            batch.repeated += 1;
            return;
        }
        self.known.note_rejected(digest, cursor);
        batch.reject(Rejected::new(key, flaw, excerpt, digest));
    }

    /// `Ok(None)` for a stream without cursor.
    fn cursor_of(&self, data: &str) -> Result<Option<CursorValue>, Flaw> {
        let Some(rule) = &self.stream.cursor else { return Ok(None) };
        let field = &rule.field;
        let missing =
            || Flaw::new(RejectReason::MissingCursor, format!("the cursor {field} is missing or null"));
        let value = json::at(data, field.names()).ok_or_else(missing)?;
        match json::scalar(value) {
            Some(Scalar::Null) => Err(missing()),
            Some(Scalar::Text(text) | Scalar::Plain(text)) => CursorValue::parse(rule.kind, &text)
                .map(Some)
                .map_err(|fault| Flaw::new(RejectReason::BadCursor, format!("{field}: {fault}"))),
            None => {
                let detail = format!("the cursor {field} is not one plain value");
                Err(Flaw::new(RejectReason::BadCursor, detail))
            }
        }
    }

    /// Whether the record can be stored. A flaw of the whole comes before a flaw of a part.
    fn judge(
        &self,
        data: &str,
        key: Result<String, Flaw>,
        cursor: Result<Option<CursorValue>, Flaw>,
    ) -> Result<(String, Option<CursorValue>, Box<RawValue>), Flaw> {
        let max = self.stream.record_bytes_max;
        if data.len() > max {
            let detail = format!("{} bytes, more than {max}", data.len());
            return Err(Flaw::new(RejectReason::TooLarge, detail));
        }
        json::storable(data)?;
        let raw = RawValue::from_string(data.to_owned())
            .map_err(|error| Flaw::new(RejectReason::InvalidJson, format!("not JSON: {error}")))?;
        Ok((key?, cursor?, raw))
    }
}
