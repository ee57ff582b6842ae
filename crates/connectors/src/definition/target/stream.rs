//! The walk through one `[streams.target]` section.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};

use super::super::fault::nearest;
use super::super::parse::KindName;
use super::super::section::Section;
use super::super::{FieldPath, StreamOrigin};
use super::{
    Convergence, HttpTarget, IdempotencyProbe, PathTemplate, RowVersion, StreamTarget, TableTarget,
    TargetPlace, WriteMethod,
};
use crate::target::Normaliser;

/// What an answer may hold around its record.
const ENVELOPE_BYTES_MAX: usize = 64 << 10;

/// What the walk needs to know of the stream.
pub(in crate::definition) struct Around<'a> {
    pub(in crate::definition) key: &'a [FieldPath],
    pub(in crate::definition) origin: Option<&'a StreamOrigin>,
    pub(in crate::definition) record_bytes_max: usize,
}

pub(in crate::definition) fn stream(
    mut section: Section<'_>,
    kind: KindName,
    around: &Around<'_>,
) -> Option<StreamTarget> {
    let owned = owned(&mut section, around.key)?;
    let stamped = section.fields("stamped").unwrap_or_default();
    for field in stamped.iter().filter(|field| overlaps(field, &owned)) {
        section.wrong("stamped", format!("holds {field}, which is owned"), "a field is one or the other");
    }
    let normalise = normalise(&mut section, &owned);
    let convergence = convergence(&mut section);
    let probe_key = section.string("probe_key");
    let place = match kind {
        KindName::Postgres => table(&mut section, &owned, around).map(TargetPlace::Table),
        KindName::Http => http(&mut section, &owned, around).map(|http| TargetPlace::Http(Box::new(http))),
    };
    section.finish();
    Some(StreamTarget { owned, stamped, normalise, convergence, probe_key, place: place? })
}

fn overlaps(field: &FieldPath, others: &[FieldPath]) -> bool {
    others.iter().any(|other| other.covers(field) || field.covers(other))
}

fn owned(section: &mut Section<'_>, key: &[FieldPath]) -> Option<Vec<FieldPath>> {
    let help = "name the only fields that may be written, such as owned = [\"email\"]";
    if !section.has("owned") {
        section.missing("owned", help);
    }
    let owned = section.fields("owned")?;
    if owned.is_empty() {
        section.wrong("owned", "is empty", help);
    }
    for (index, field) in owned.iter().enumerate() {
        if overlaps(field, key) {
            section.wrong("owned", format!("holds {field}, which identifies the record"), "take it out");
        }
        if owned[..index].iter().any(|other| other != field && overlaps(other, std::slice::from_ref(field))) {
            section.wrong("owned", format!("holds {field} and a part of it"), "name one of them");
        }
    }
    (!owned.is_empty()).then_some(owned)
}

fn normalise(section: &mut Section<'_>, owned: &[FieldPath]) -> BTreeMap<String, Vec<Normaliser>> {
    let names: Vec<_> = owned.iter().map(ToString::to_string).collect();
    let mut all = BTreeMap::new();
    for (field, words) in section.lists("normalise") {
        if !names.contains(&field) {
            let help = nearest(&field, names.iter().map(String::as_str)).map_or_else(
                || format!("owned are {}", names.join(", ")),
                |near| format!("did you mean {near:?}?"),
            );
            section.wrong("normalise", format!("names {field:?}, which is not owned"), help);
        }
        let mut read = Vec::new();
        for word in words {
            match Normaliser::named(&word) {
                Some(normaliser) => read.push(normaliser),
                None => section.wrong(
                    "normalise",
                    format!("cannot be {word:?}"),
                    format!("write {}", Normaliser::NAMES.join(", ")),
                ),
            }
        }
        all.insert(field, read);
    }
    all
}

fn convergence(section: &mut Section<'_>) -> Convergence {
    let default = Convergence { reads: 6, pause: Duration::from_millis(500) };
    let Some(mut inner) = section.section("convergence") else { return default };
    let reads = inner.integer("reads", 1..=20).map_or(default.reads, |n| u32::try_from(n).unwrap_or(20));
    let pause = inner.duration("pause", default.pause);
    inner.finish();
    Convergence { reads, pause }
}

fn table(section: &mut Section<'_>, owned: &[FieldPath], around: &Around<'_>) -> Option<TableTarget> {
    for field in owned.iter().filter(|field| field.names().len() > 1) {
        section.wrong("owned", format!("holds {field}, a part of a column"), "own the column as a whole");
    }
    let table = section.string("table").or_else(|| match around.origin? {
        StreamOrigin::Table(table) => Some(table.clone()),
        StreamOrigin::Http(_) => None,
    });
    let key = section.fields("key").unwrap_or_else(|| around.key.to_vec());
    let version = section.string("version").map(|name| match name.as_str() {
        "xmin" => RowVersion::Xmin,
        _ => RowVersion::Column(name),
    });
    if let Some(RowVersion::Column(name)) = &version
        && overlaps(&FieldPath(vec![name.clone()]), owned)
    {
        section.wrong("version", "is an owned field", "name a column that the target itself changes");
    }
    Some(TableTarget { table: table?, key, version })
}

fn http(section: &mut Section<'_>, owned: &[FieldPath], around: &Around<'_>) -> Option<HttpTarget> {
    const WRITES: [(&str, WriteMethod); 2] =
        [("merge_patch", WriteMethod::MergePatch), ("put", WriteMethod::Put)];
    let path = path(section);
    let record = match section.string("record").as_deref() {
        None | Some("") => None,
        Some(_) => section.field("record", ""),
    };
    let write = section.choice("write", &WRITES, WriteMethod::MergePatch);
    let content_type = section.string("content_type").unwrap_or_else(|| {
        match write {
            WriteMethod::MergePatch => "application/merge-patch+json",
            WriteMethod::Put => "application/json",
        }
        .to_owned()
    });
    if HeaderValue::from_str(&content_type).is_err() {
        section.wrong("content_type", "cannot be sent in a header", "write it like \"application/json\"");
    }
    let idempotency_header = section.string("idempotency_header");
    if idempotency_header.as_ref().is_some_and(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
        let help = "write it like \"Idempotency-Key\"";
        section.wrong("idempotency_header", "is not the name of a header", help);
    }
    let idempotency_probe = probe(section, owned, idempotency_header.is_some());
    Some(HttpTarget {
        path: path?,
        record,
        write,
        content_type,
        idempotency_header,
        idempotency_probe,
        answer_bytes_max: around.record_bytes_max + ENVELOPE_BYTES_MAX,
    })
}

fn path(section: &mut Section<'_>) -> Option<PathTemplate> {
    let help = "write the address of one record below base_url, such as path = \"contacts/{key}\"";
    let path = section.required("path", help)?;
    if path.contains("://") || path.starts_with("//") || path.contains(['\\', '?', '#', '%']) {
        section.wrong("path", "is more than a path", help);
        return None;
    }
    let parts: Vec<_> = path.trim_start_matches('/').split("{key}").collect();
    let [before, after] = parts.as_slice() else {
        section.wrong("path", "must hold {key} once", help);
        return None;
    };
    if before.contains(['{', '}']) || after.contains(['{', '}']) {
        section.wrong("path", "holds braces beside {key}", help);
        return None;
    }
    Some(PathTemplate { before: (*before).to_owned(), after: (*after).to_owned() })
}

fn probe(section: &mut Section<'_>, owned: &[FieldPath], has_header: bool) -> Option<IdempotencyProbe> {
    let help = "write idempotency_probe = { key = \"scratch\", field = \"note\", values = [\"a\", \"b\"] }";
    let mut inner = section.section("idempotency_probe")?;
    let key = inner.required("key", help);
    let field = inner.required("field", help);
    let values: Option<[String; 2]> = inner.strings("values").and_then(|values| values.try_into().ok());
    if values.as_ref().is_none_or(|[a, b]| a == b) {
        inner.wrong("values", "must be two different texts", help);
    }
    if field.as_ref().is_some_and(|field| !owned.iter().any(|owned| owned.to_string() == *field)) {
        inner.wrong("field", "is not owned", "name an owned field that holds text");
    }
    inner.finish();
    if !has_header {
        let help = "add idempotency_header = \"Idempotency-Key\"";
        section.wrong("idempotency_probe", "has no header to try", help);
    }
    Some(IdempotencyProbe { key: key?, field: field?, values: values? })
}
