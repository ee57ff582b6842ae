//! Whether syncs of an API can run, and what its streams hold: one page of each is read.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::exchange::{Ask, Exchange};
use super::page::{Item, Page};
use super::{HttpSource, Next};
use crate::cursor::CursorValue;
use crate::definition::{FieldPath, Stream};
use crate::error::{Place, SourceError};
use crate::json::{self, Scalar};
use crate::report::{CheckReport, DiscoveredField, DiscoveredStream};

impl HttpSource {
    /// Each check in turn; what fails is in the report.
    pub(crate) async fn check(&self, streams: &[Stream]) -> CheckReport {
        let mut report = CheckReport::default();
        match self.definition.base_url.scheme() {
            "https" => report.ok("transport", None, "https"),
            _ => {
                report.warn(
                    "transport",
                    None,
                    "the credential and the data travel in the clear",
                    "use https",
                );
            }
        }
        for stream in streams {
            let mut warnings = Vec::new();
            match self.sample(stream, &mut warnings).await {
                Ok(page) => check_page(stream, &page, &mut report),
                Err(error) => report.fail("read", Some(&stream.name), &error),
            }
            for warning in warnings {
                report.warn("read", Some(&stream.name), warning, "nothing, if it happens rarely");
            }
        }
        report
    }

    /// The configured streams as a page of each shows them.
    pub(crate) async fn discover(&self) -> Result<Vec<DiscoveredStream>, SourceError> {
        let mut found = Vec::with_capacity(self.streams.len());
        for stream in &self.streams {
            let page = self.sample(stream, &mut Vec::new()).await?;
            found.push(describe(stream, &page));
        }
        Ok(found)
    }

    /// The first page of a stream.
    pub(super) async fn sample(
        &self,
        stream: &Stream,
        warnings: &mut Vec<String>,
    ) -> Result<Page, SourceError> {
        let place: Place = self.place.at(&stream.name);
        let deadline = Instant::now() + self.definition.run_deadline;
        let http = self.http(stream)?;
        let ask = Ask { place: &place, http, next: &Next::First, lower: None, deadline };
        match self.exchange(ask, warnings).await? {
            Exchange::Page(page) => Ok(*page),
            Exchange::Refused { error, .. } => Err(error),
        }
    }
}

pub(super) fn check_page(stream: &Stream, page: &Page, report: &mut CheckReport) {
    let name = Some(stream.name.as_str());
    report.ok("read", name, format!("a page with {} records", page.items.len()));
    let records =
        || page.items.iter().filter_map(|item| if let Item::Json(text) = item { Some(text) } else { None });
    let without_key = records().filter(|record| json::key_text(record, &stream.key).is_err()).count();
    if without_key > 0 {
        let message = format!("{without_key} records of the page have no usable key");
        report.warn("key", name, message, "correct `key`; such records are set aside");
    } else {
        report.ok("key", name, "every record of the page has one");
    }
    match &stream.cursor {
        None => {
            let advice = "name a field that rises with every change, if there is one";
            report.warn("cursor", name, "none: every run reads all pages", advice);
        }
        Some(rule) => {
            let usable = |record: &&String| match json::at(record, rule.field.names()).and_then(json::scalar)
            {
                Some(Scalar::Text(text) | Scalar::Plain(text)) => {
                    CursorValue::parse(rule.kind, &text).is_ok()
                }
                Some(Scalar::Null) | None => false,
            };
            let without = records().filter(|record| !usable(record)).count();
            if without > 0 {
                let message =
                    format!("{without} records of the page have no {} of type {}", rule.field, rule.kind);
                report.warn("cursor", name, message, "correct `cursor`; such records are set aside");
            } else {
                report.ok("cursor", name, format!("{} read as {}", rule.field, rule.kind));
            }
        }
    }
}

/// Names whose fields often serve as key or cursor.
const CURSOR_NAMES: [&str; 6] =
    ["updated_at", "updatedAt", "modified_at", "last_modified", "updated", "modified"];

pub(super) fn describe(stream: &Stream, page: &Page) -> DiscoveredStream {
    let mut fields: BTreeMap<String, (String, usize)> = BTreeMap::new();
    let mut records = 0;
    for item in &page.items {
        let Item::Json(text) = item else { continue };
        let Ok(members) = json::members(text) else { continue };
        records += 1;
        for (name, value) in members.0 {
            let (kind, seen) = fields.entry(name).or_insert_with(|| ("null".to_owned(), 0));
            if kind_of(value) != "null" {
                kind_of(value).clone_into(kind);
                *seen += 1;
            }
        }
    }
    let cursors: Vec<_> = CURSOR_NAMES
        .iter()
        .filter(|name| fields.contains_key(**name))
        .map(|name| (*name).to_owned())
        .collect();
    let mut problems = Vec::new();
    if records == 0 {
        problems.push("the first page holds no records: fields are unknown".to_owned());
    }
    let names: Vec<_> = fields.keys().map(|name| toml::Value::from(name.as_str()).to_string()).collect();
    DiscoveredStream {
        name: stream.name.clone(),
        snippet: format!(
            "# in [[streams]] name = {:?}\nkey = [{}]\nfields = [{}]\n",
            stream.name,
            stream
                .key
                .iter()
                .map(|field: &FieldPath| format!("{:?}", field.to_string()))
                .collect::<Vec<_>>()
                .join(", "),
            names.join(", ")
        ),
        key: stream.key.iter().map(ToString::to_string).collect(),
        cursor_candidates: cursors,
        rows_estimated: None,
        problems,
        fields: fields
            .into_iter()
            .map(|(name, (kind, seen))| DiscoveredField { name, kind, nullable: seen < records })
            .collect(),
    }
}

fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "list",
        Some(b'"') => "text",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}
