//! The walk through `[target]`.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::super::parse::KindName;
use super::super::section::Section;
use super::super::{Kind, http, parse};
use super::{HttpTargetConnection, TargetConnection};
use crate::secret::SecretText;

/// A statement that writes one row and takes longer than this waits for somebody's lock.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

pub(in crate::definition) fn connection(
    mut section: Section<'_>,
    kind: Option<KindName>,
) -> Option<TargetConnection> {
    match kind? {
        KindName::Postgres => parse::postgres(section, STATEMENT_TIMEOUT).map(TargetConnection::Postgres),
        KindName::Http => {
            let base_url = http::base_url(&mut section);
            if !section.has("auth") {
                let help = "a target has a credential of its own: write auth = { type = \"bearer\", token_file = \"…\" }, or { type = \"none\" }";
                section.missing("auth", help);
            }
            let auth = http::auth(&mut section);
            let connection = HttpTargetConnection {
                base_url: base_url?,
                auth: auth?,
                headers: http::headers(&mut section),
                request_timeout: section.duration("request_timeout", Duration::from_secs(30)),
                rate_limit: http::rate_limit(&mut section),
                retry_after_max: section.duration("retry_after_max", Duration::from_hours(1)),
            };
            section.finish();
            Some(TargetConnection::Http(Box::new(connection)))
        }
    }
}

/// Notes a fault where the target would be written with the credential that reads.
pub(in crate::definition) fn apart(top: &Section<'_>, kind: &Kind, target: &TargetConnection) {
    let user = |definition: &super::PostgresDefinition| {
        let url = reqwest::Url::parse(definition.url.expose_secret()).ok()?;
        // The last one counts, as it does when the URL is used.
        let named = url.query_pairs().filter(|(name, _)| name == "user").last();
        let by_param = named.map(|(_, user)| user.into_owned());
        Some((url.host_str().map(str::to_owned), by_param.unwrap_or_else(|| url.username().to_owned())))
    };
    let same = match (kind, target) {
        (Kind::Postgres(source), TargetConnection::Postgres(target)) => {
            user(source).is_some() && user(source) == user(target)
        }
        _ => same_secret(kind.secret(), target.secret()),
    };
    if same {
        top.wrong(
            "target",
            "uses the credential that reads",
            "give it one of its own: a sync must hold no credential that can write",
        );
    }
}

fn same_secret(source: Option<&SecretText>, target: Option<&SecretText>) -> bool {
    match (source, target) {
        (Some(SecretText::File { path: source, .. }), Some(SecretText::File { path: target, .. })) => {
            source == target
        }
        (Some(SecretText::Kept { name: source, .. }), Some(SecretText::Kept { name: target, .. })) => {
            source == target
        }
        (Some(SecretText::Inline { text: source, .. }), Some(SecretText::Inline { text: target, .. })) => {
            source.expose_secret() == target.expose_secret()
        }
        _ => false,
    }
}
