//! What is sent: headers, address, parameters, body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::{HttpSource, Next};
use crate::cursor::CursorValue;
use crate::definition::{Auth, HttpStream, Method, Pagination, ParamFormat};
use crate::error::{Place, SourceError};
use crate::secret::Scrubber;

/// Everything that must not be repeated in a message: the credential in each form in which it is sent.
pub(super) fn scrubber(auth: &Auth, credential: Option<&SecretString>) -> Scrubber {
    let mut scrubber = Scrubber::default();
    let Some(credential) = credential else { return scrubber };
    let secret = credential.expose_secret();
    if let Auth::Basic { username, .. } = auth {
        scrubber.add(&SecretString::from(BASE64.encode(format!("{username}:{secret}"))));
    }
    scrubber.add(credential);
    scrubber
}

/// The headers of every request.
pub(super) fn headers(
    place: &Place,
    fixed: &[(String, String)],
    auth: &Auth,
    credential: Option<&SecretString>,
) -> Result<HeaderMap, SourceError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    for (name, value) in fixed {
        // Both were judged when the definition was read.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    let secret = credential.map(ExposeSecret::expose_secret).unwrap_or_default();
    let (name, value) = match auth {
        Auth::None | Auth::Query { .. } => return Ok(headers),
        Auth::Bearer(_) => (AUTHORIZATION, format!("Bearer {secret}")),
        Auth::Basic { username, .. } => {
            (AUTHORIZATION, format!("Basic {}", BASE64.encode(format!("{username}:{secret}"))))
        }
        Auth::Header { name, .. } => {
            let name = name.parse().map_err(|_| {
                place.configuration("the header of the credential has no valid name", "correct `auth.name`")
            })?;
            (name, secret.to_owned())
        }
    };
    let mut value = HeaderValue::from_str(&value).map_err(|_| {
        let key = auth.secret().map_or("auth", crate::secret::SecretText::key);
        place.configuration(
            "the credential cannot be sent in a header",
            format!("`{key}` must be one line of text"),
        )
    })?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(headers)
}

impl HttpSource {
    /// The request for a page.
    pub(super) fn request(
        &self,
        http: &HttpStream,
        next: &Next,
        lower: Option<&CursorValue>,
    ) -> RequestBuilder {
        let mut url = match next {
            Next::Link(link) => Url::parse(link).unwrap_or_else(|_| self.address(http)),
            _ => self.address(http),
        };
        let mut asked = match next {
            // A link carries its parameters with it.
            Next::Link(_) => Vec::new(),
            _ => parameters(http, next, lower),
        };
        let mut body = http.body.clone().unwrap_or_default();
        if http.params_in_body {
            for (name, value) in asked.drain(..) {
                set(&mut body, &name, value);
            }
        }
        let fixed = if matches!(next, Next::Link(_)) { &[][..] } else { &http.params[..] };
        if !fixed.is_empty() || !asked.is_empty() {
            let asked = asked.iter().map(|(name, value)| (name.clone(), plain(value)));
            url.query_pairs_mut().extend_pairs(fixed.iter().cloned().chain(asked));
        }
        if let (Auth::Query { name, .. }, Some(credential)) = (&self.definition.auth, &self.credential) {
            url.query_pairs_mut().append_pair(name, credential.expose_secret());
        }
        match http.method {
            Method::Get => self.client.get(url),
            Method::Post => {
                let body = Value::Object(body).to_string();
                self.client.post(url).header(reqwest::header::CONTENT_TYPE, "application/json").body(body)
            }
        }
    }

    /// The stream's own address. The path is appended and not joined: `people:search` would be taken for a
    /// scheme.
    pub(super) fn address(&self, http: &HttpStream) -> Url {
        let mut url = self.definition.base_url.clone();
        let path = format!("{}{}", url.path(), http.path);
        url.set_path(&path);
        url
    }

    /// A next link in the form in which it is kept: absolute, allowed, without credential.
    pub(super) fn judge_link(&self, place: &Place, base: &Url, link: &str) -> Result<String, SourceError> {
        let quoted = self.scrubber.quote(link.as_bytes(), 200);
        let mut url = base.join(link).map_err(|_| {
            place.poison(format!("the next link {quoted:?} is not a URL"), "report it to the API's owner")
        })?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let known = url.origin() == self.definition.base_url.origin()
            || (url.scheme() == "https" && self.definition.allow_hosts.contains(&host));
        if !known {
            return Err(place.configuration(
                format!("the next link leads to {host:?}, another origin than base_url"),
                format!("if the credential may be sent there, add allow_hosts = [{host:?}]"),
            ));
        }
        if let Auth::Query { name, .. } = &self.definition.auth {
            let rest: Vec<_> = url.query_pairs().into_owned().filter(|(key, _)| key != name).collect();
            url.set_query(None);
            if !rest.is_empty() {
                url.query_pairs_mut().extend_pairs(rest);
            }
        }
        Ok(url.into())
    }
}

/// The parameters of paging and of the lower bound.
fn parameters(http: &HttpStream, next: &Next, lower: Option<&CursorValue>) -> Vec<(String, Value)> {
    let mut asked = Vec::new();
    if let (Some(param), Some(lower)) = (&http.cursor_param, lower) {
        asked.push((param.name.clone(), bound(param.format, lower)));
    }
    match (&http.pagination, next) {
        (Pagination::Cursor { param, .. }, Next::Token(token)) => {
            asked.push((param.clone(), Value::from(token.as_str())));
        }
        (Pagination::Page { param, start, size }, next) => {
            let page = if let Next::Page(page) = next { *page } else { *start };
            asked.push((param.clone(), Value::from(page)));
            asked.extend(size.iter().map(|(name, size)| (name.clone(), Value::from(*size))));
        }
        (Pagination::Offset { param, size }, next) => {
            let offset = if let Next::Offset(offset) = next { *offset } else { 0 };
            asked.push((param.clone(), Value::from(offset)));
            asked.extend(size.iter().map(|(name, size)| (name.clone(), Value::from(*size))));
        }
        _ => {}
    }
    asked
}

/// The lower bound as the API wants it; rounded down, never up.
fn bound(format: ParamFormat, lower: &CursorValue) -> Value {
    match (lower, format) {
        (CursorValue::Timestamp { at, .. }, ParamFormat::Rfc3339) => Value::from(CursorValue::rfc3339(*at)),
        (CursorValue::Timestamp { at, .. }, ParamFormat::Unix) => Value::from(at.timestamp()),
        (CursorValue::Timestamp { at, .. }, ParamFormat::UnixMs) => Value::from(at.timestamp_millis()),
        (CursorValue::Integer(number), _) => Value::from(*number),
        _ => Value::from(lower.text()),
    }
}

/// A value as a query writes it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Sets a field of the body; dots lead into objects.
fn set(body: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            body.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = body.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}
