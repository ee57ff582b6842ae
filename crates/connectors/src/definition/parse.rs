//! The walk through a definition file, from the top.

use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;
use toml::de::DeTable;

use super::fault::{DefinitionError, Faults};
use super::section::Section;
use super::{Definition, Kind, PostgresDefinition, Stream, TargetConnection, http, stream, target};

pub(super) fn definition(text: &str, file_name: &str) -> Result<Definition, DefinitionError> {
    let faults = Faults::default();
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        faults.add(&span, format!("not TOML: {}", error.message()), "correct the syntax here");
    }
    let definition = if faults.is_empty() {
        let top = Section::new(table.get_ref(), String::new(), 0..0, &faults);
        whole(top, text)
    } else {
        None
    };
    match definition {
        Some(definition) if faults.is_empty() => Ok(definition),
        _ => Err(faults.into_error(text, file_name)),
    }
}

fn whole(mut top: Section<'_>, text: &str) -> Option<Definition> {
    let name = name(&mut top, "the connector's name, such as \"crm\"");
    let named = kind_name(&mut top);
    let kind = kind(&mut top, named);
    let streams = streams(&mut top, named);
    let target = target(&mut top, named, kind.as_ref(), &streams);
    top.finish();
    Some(Definition { name: name?, kind: kind?, streams, target, text: text.to_owned() })
}

/// The target, which belongs with the streams that are written back.
fn target(
    top: &mut Section<'_>,
    named: Option<KindName>,
    kind: Option<&Kind>,
    streams: &[Stream],
) -> Option<TargetConnection> {
    let written = streams.iter().any(|stream| stream.target.is_some());
    let Some(section) = top.section("target") else {
        if written && !top.has("target") {
            top.missing(
                "target",
                "add a section [target]: where changes are sent, with a credential of its own",
            );
        }
        return None;
    };
    let target = target::connection(section, named)?;
    if !written && top.faults().is_empty() {
        let help = "add [streams.target] with the `owned` fields to a stream, or remove the section";
        top.wrong("target", "serves no stream", help);
    }
    target::apart(top, kind?, &target);
    Some(target)
}

/// A `name` of lower-case letters, digits, `-` and `_`.
pub(super) fn name(section: &mut Section<'_>, help: &str) -> Option<String> {
    let name = section.required("name", &format!("write {help}"))?;
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 63
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
    if !good {
        section.wrong(
            "name",
            format!("cannot be {name:?}"),
            "begin with a letter a-z and go on with a-z, 0-9, - and _, at most 63 in all",
        );
    }
    good.then_some(name)
}

/// The kind as it is named: what a stream may say depends on it, even where its section is faulty.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KindName {
    Postgres,
    Http,
}

fn kind_name(top: &mut Section<'_>) -> Option<KindName> {
    let kind = top.required("kind", "write kind = \"postgres\" or kind = \"http\"")?;
    match kind.as_str() {
        "postgres" => Some(KindName::Postgres),
        "http" => Some(KindName::Http),
        _ => {
            top.wrong("kind", format!("cannot be {kind:?}"), "write \"postgres\" or \"http\"");
            None
        }
    }
}

/// Reads both sections, so that the faults of both show, and keeps the one that the kind wants.
fn kind(top: &mut Section<'_>, named: Option<KindName>) -> Option<Kind> {
    let postgres = top.section("postgres").map(|section| postgres(section, Duration::from_mins(10)));
    let http = top.section("http").map(http::connection);
    let (wanted, other) = match named? {
        KindName::Postgres => ("postgres", "http"),
        KindName::Http => ("http", "postgres"),
    };
    if top.has(other) {
        top.wrong(
            other,
            format!("does not belong to kind {wanted:?}"),
            "remove the section or change `kind`",
        );
    }
    if !top.has(wanted) {
        top.missing(wanted, format!("add a section [{wanted}]"));
    }
    match named? {
        KindName::Postgres => postgres?.map(Kind::Postgres),
        KindName::Http => http?.map(|http| Kind::Http(Box::new(http))),
    }
}

pub(super) fn postgres(mut section: Section<'_>, timeout: Duration) -> Option<PostgresDefinition> {
    let url = section.required("url", "write url = \"postgres://reader@db.example.com/crm\"");
    let password = section.secret(["password", "password_file", "password_credential"]);
    let statement_timeout = section.duration("statement_timeout", timeout);
    let parsed = url.as_deref().and_then(|text| database_url(&section, text));
    let password_in_url = parsed.as_ref().is_some_and(|url| url_password(url).is_some());
    if password_in_url && password.is_some() {
        section.wrong("url", "holds a password beside another", "take the password out of the URL");
    }
    section.finish();
    parsed?;
    Some(PostgresDefinition { url: SecretString::from(url?), password, password_in_url, statement_timeout })
}

/// The password in a URL, before the host or as a parameter.
pub(crate) fn url_password(url: &Url) -> Option<String> {
    let before_host = url.password().map(str::to_owned);
    before_host.or_else(|| {
        url.query_pairs().find(|(name, _)| name == "password").map(|(_, value)| value.into_owned())
    })
}

/// The message never repeats the URL: it may hold a password.
fn database_url(section: &Section<'_>, text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "postgres" | "postgresql"));
    if url.is_none() {
        section.wrong(
            "url",
            "is not a Postgres URL",
            "write it like \"postgres://reader@db.example.com/crm\"",
        );
    }
    url
}

fn streams(top: &mut Section<'_>, kind: Option<KindName>) -> Vec<Stream> {
    let Some(value) = top.value("streams") else {
        top.missing("streams", "add at least one [[streams]] section");
        return Vec::new();
    };
    let Some(items) = value.get_ref().as_array() else {
        top.wrong("streams", "must be a list of sections", "write [[streams]] with two brackets");
        return Vec::new();
    };
    let mut streams: Vec<Stream> = Vec::new();
    for item in items {
        let Some(table) = item.get_ref().as_table() else {
            top.faults().add(&item.span(), "a stream must be a section", "write [[streams]] above it");
            continue;
        };
        let section = Section::new(table, "streams.".to_owned(), item.span(), top.faults());
        let name_span = section.span_of("name");
        let Some(stream) = stream::stream(section, kind) else { continue };
        if streams.iter().any(|other| other.name == stream.name) {
            let what = format!("two streams are named {:?}", stream.name);
            top.faults().add(&name_span, what, "give each stream a name of its own");
        }
        streams.push(stream);
    }
    streams
}
