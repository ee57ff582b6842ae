//! The walk through one `[[streams]]` section.

use std::time::Duration;

use super::parse::{self, KindName};
use super::section::Section;
use super::target::Around;
use super::{CursorRule, Deletions, FieldPath, Settle, Stream, StreamOrigin, StreamTarget, http, target};
use crate::cursor::CursorType;

/// Long enough for a transaction that stamps a row when it begins and commits when it ends.
const SETTLE_DEFAULT: Duration = Duration::from_secs(5);
const RECORD_BYTES_MAX_DEFAULT: u64 = 1 << 20;
/// What one value of `jsonb` is sure to hold, and what a batch may sanely carry.
const RECORD_BYTES_MAX_MAX: u64 = 64 << 20;

pub(super) fn stream(mut section: Section<'_>, kind: Option<KindName>) -> Option<Stream> {
    let name = parse::name(&mut section, "the stream's name, such as \"contacts\"");
    let key = section.fields("key").unwrap_or_default();
    let cursor = cursor(&mut section);
    let fields = section.fields("fields");
    let record_bytes_max = record_bytes_max(&mut section);
    let deletions = deletions(&mut section);
    let percent = section.integer("deletions_percent_max", 0..=100).unwrap_or(50);
    let origin = match kind {
        Some(KindName::Postgres) => table(&mut section),
        Some(KindName::Http) => {
            key_is_needed(&section, &key, deletions.as_ref());
            http::stream(&mut section).map(|http| StreamOrigin::Http(Box::new(http)))
        }
        // The kind is unknown: whatever is below cannot be judged.
        None => return None,
    };
    let around = Around { key: &key, origin: origin.as_ref(), record_bytes_max };
    let target = written(&mut section, kind, &around);
    section.finish();
    Some(Stream {
        name: name?,
        key,
        cursor: cursor?,
        fields,
        record_bytes_max,
        deletions: deletions?,
        deletions_percent_max: u8::try_from(percent).expect("the range was checked"),
        origin: origin?,
        target,
    })
}

fn written(section: &mut Section<'_>, kind: Option<KindName>, around: &Around<'_>) -> Option<StreamTarget> {
    target::stream(section.section("target")?, kind?, around)
}

fn record_bytes_max(section: &mut Section<'_>) -> usize {
    let bytes = section.bytes("record_bytes_max", RECORD_BYTES_MAX_DEFAULT);
    if bytes > RECORD_BYTES_MAX_MAX {
        section.wrong("record_bytes_max", "is too large", "write at most \"64MiB\"");
    }
    usize::try_from(bytes.min(RECORD_BYTES_MAX_MAX)).expect("64 MiB fit")
}

/// `None` after a fault; `Some(None)` without cursor.
#[expect(clippy::option_option, reason = "a stream without cursor and a faulty cursor are two things")]
fn cursor(section: &mut Section<'_>) -> Option<Option<CursorRule>> {
    const TYPES: [(&str, CursorType); 3] =
        [("timestamp", CursorType::Timestamp), ("integer", CursorType::Integer), ("text", CursorType::Text)];
    if !section.has("cursor") {
        section.value("cursor");
        if section.value("settle").is_some() {
            section.wrong("settle", "has no cursor to belong to", "add `cursor` or remove `settle`");
        }
        return Some(None);
    }
    let mut inner = section.section("cursor")?;
    let field = inner.field("field", "write cursor = { field = \"updated_at\", type = \"timestamp\" }");
    if !inner.has("type") {
        inner.missing("type", "write type = \"timestamp\", \"integer\" or \"text\"");
    }
    let kind = inner.choice("type", &TYPES, CursorType::Timestamp);
    inner.finish();
    let settle = settle(section, kind);
    Some(Some(CursorRule { field: field?, kind, settle: settle? }))
}

fn settle(section: &mut Section<'_>, kind: CursorType) -> Option<Settle> {
    match kind {
        CursorType::Timestamp => Some(Settle::Time(section.duration("settle", SETTLE_DEFAULT))),
        CursorType::Integer if !section.has("settle") => {
            section.value("settle");
            Some(Settle::Steps(0))
        }
        CursorType::Integer => section.integer("settle", 0..=i64::MAX).map(Settle::Steps),
        CursorType::Text => {
            if section.value("settle").is_some() {
                section.wrong("settle", "has no meaning for a text cursor", "remove it");
            }
            Some(Settle::Steps(0))
        }
    }
}

fn deletions(section: &mut Section<'_>) -> Option<Deletions> {
    const CHOICES: [(&str, bool); 2] = [("none", false), ("keys", true)];
    let is_table = section.value("deletions").is_some_and(|value| value.get_ref().is_table());
    if is_table {
        let mut inner = section.section("deletions")?;
        let field = inner.field("flag", "write deletions = { flag = \"deleted\" }");
        inner.finish();
        return field.map(Deletions::Flag);
    }
    let keys = section.choice("deletions", &CHOICES, false);
    Some(if keys { Deletions::Keys } else { Deletions::None })
}

fn table(section: &mut Section<'_>) -> Option<StreamOrigin> {
    let table = section.required("table", "write table = \"public.contacts\"")?;
    if table.trim().is_empty() || table.contains('\0') {
        section.wrong("table", "names no table", "write the name of a table or view");
        return None;
    }
    Some(StreamOrigin::Table(table))
}

fn key_is_needed(section: &Section<'_>, key: &[FieldPath], deletions: Option<&Deletions>) {
    if key.is_empty() {
        section.missing("key", "name the fields that identify a record, such as key = [\"id\"]");
    }
    if deletions == Some(&Deletions::Keys) {
        let help = "write { flag = \"…\" } if records carry a mark, else \"none\"";
        section.wrong("deletions", "cannot be \"keys\" for an HTTP source", help);
    }
}
