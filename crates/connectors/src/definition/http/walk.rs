//! The walk through `[http]` and the HTTP keys of a stream.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::super::FieldPath;
use super::super::section::Section;
use super::{
    Auth, CursorParam, Format, HttpDefinition, HttpStream, Method, Order, Pagination, ParamFormat, RateLimit,
    TokenPlace,
};

pub(in crate::definition) fn connection(mut section: Section<'_>) -> Option<HttpDefinition> {
    let base_url = base_url(&mut section);
    let auth = auth(&mut section);
    let headers = headers(&mut section);
    let definition = HttpDefinition {
        base_url: base_url.clone().unwrap_or_else(|| Url::parse("http://invalid/").expect("a URL")),
        auth: auth.clone().unwrap_or(Auth::None),
        headers,
        request_timeout: section.duration("request_timeout", Duration::from_secs(30)),
        idle_timeout: section.duration("idle_timeout", Duration::from_secs(30)),
        run_deadline: section.duration("run_deadline", Duration::from_hours(6)),
        pages_max: section.integer("pages_max", 1..=i64::MAX).map_or(100_000, i64::unsigned_abs),
        page_bytes_max: section.bytes("page_bytes_max", 32 << 20),
        run_bytes_max: section.bytes("run_bytes_max", 50 << 30),
        rate_limit: rate_limit(&mut section),
        retry_after_max: section.duration("retry_after_max", Duration::from_hours(1)),
        allow_hosts: section.strings("allow_hosts").unwrap_or_default(),
    };
    section.finish();
    base_url.and(auth).map(|_| definition)
}

pub(in crate::definition) fn base_url(section: &mut Section<'_>) -> Option<Url> {
    let text = section.required("base_url", "write base_url = \"https://api.example.com/v1/\"")?;
    let help = "write it like \"https://api.example.com/v1/\"";
    let Some(mut url) = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https")) else {
        section.wrong("base_url", "is not an http or https URL", help);
        return None;
    };
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        let help = "credentials belong into `auth`, parameters into the streams";
        section.wrong("base_url", "holds more than scheme, host and path", help);
        return None;
    }
    // A base without a slash at the end would lose its last segment when a path is joined to it.
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Some(url)
}

pub(in crate::definition) fn auth(section: &mut Section<'_>) -> Option<Auth> {
    if !section.has("auth") {
        section.value("auth");
        return Some(Auth::None);
    }
    let mut auth = section.section("auth")?;
    let kind =
        auth.required("type", "write type = \"bearer\", \"basic\", \"header\", \"query\" or \"none\"")?;
    let read = match kind.as_str() {
        "none" => Some(Auth::None),
        "bearer" => auth.required_secret(["token", "token_file", "token_credential"]).map(Auth::Bearer),
        "basic" => {
            let username = auth.required("username", "write the user's name");
            let password = auth.required_secret(["password", "password_file", "password_credential"]);
            username.zip(password).map(|(username, password)| Auth::Basic { username, password })
        }
        "header" => {
            let name = header_name(&mut auth);
            let value = auth.required_secret(["value", "value_file", "value_credential"]);
            name.zip(value).map(|(name, value)| Auth::Header { name, value })
        }
        "query" => {
            let name = auth.required("name", "write the parameter's name");
            let value = auth.required_secret(["value", "value_file", "value_credential"]);
            name.zip(value).map(|(name, value)| Auth::Query { name, value })
        }
        _ => {
            let help = "write \"bearer\", \"basic\", \"header\", \"query\" or \"none\"";
            auth.wrong("type", format!("cannot be {kind:?}"), help);
            return None;
        }
    };
    auth.finish();
    read
}

fn header_name(auth: &mut Section<'_>) -> Option<String> {
    let name = auth.required("name", "write the header's name")?;
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        auth.wrong("name", "is not the name of a header", "write it like \"X-Api-Key\"");
        return None;
    }
    Some(name)
}

pub(in crate::definition) fn headers(section: &mut Section<'_>) -> Vec<(String, String)> {
    let headers = section.texts("headers");
    for (name, value) in &headers {
        let good = HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok();
        if !good {
            section.wrong(
                "headers",
                format!("cannot hold {name:?}"),
                "write a header's name and one line of text",
            );
        }
        if name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("cookie") {
            section.wrong("headers", format!("cannot hold {name:?}"), "credentials belong into `auth`");
        }
    }
    headers
}

pub(in crate::definition) fn rate_limit(section: &mut Section<'_>) -> Option<RateLimit> {
    let mut limit = section.section("rate_limit")?;
    if !limit.has("requests") {
        limit.missing("requests", "write rate_limit = { requests = 10, per = \"1s\" }");
    }
    let requests = limit.integer("requests", 1..=1_000_000);
    let per = limit.duration("per", Duration::from_secs(1));
    let bucket = limit.string("bucket");
    limit.finish();
    let requests = u32::try_from(requests?).expect("the range was checked");
    Some(RateLimit { requests, per, bucket })
}

/// The keys of a stream that belong to HTTP alone.
pub(in crate::definition) fn stream(section: &mut Section<'_>) -> Option<HttpStream> {
    let path = path(section);
    let method = section.choice("method", &[("GET", Method::Get), ("POST", Method::Post)], Method::Get);
    let params = section.texts("params");
    let body = body(section, method);
    let params_in_body = section.choice("params_in", &[("query", false), ("body", true)], false);
    if params_in_body && method == Method::Get {
        section.wrong("params_in", "cannot be \"body\" with GET", "write method = \"POST\"");
    }
    let records = match section.string("records").as_deref() {
        None | Some("") => None,
        Some(_) => section.field("records", ""),
    };
    let format =
        section.choice("format", &[("json", Format::Json), ("ndjson", Format::Ndjson)], Format::Json);
    let pagination = pagination(section);
    let cursor_param = cursor_param(section);
    let orders = [("ascending", Order::Ascending), ("unordered", Order::Unordered)];
    let order = section.choice("order", &orders, Order::Unordered);
    judge_together(section, format, records.as_ref(), pagination.as_ref(), cursor_param.is_some(), order);
    Some(HttpStream {
        path: path?,
        method,
        params,
        body: body?,
        params_in_body,
        records,
        format,
        pagination: pagination?,
        cursor_param,
        order,
    })
}

fn path(section: &mut Section<'_>) -> Option<String> {
    let path = section.required("path", "write the path below base_url, such as path = \"people\"")?;
    // Joining something that looks like a URL would leave the host that the credential is for.
    if path.contains("://") || path.starts_with("//") || path.contains('\\') || path.contains(['?', '#']) {
        section.wrong("path", "is more than a path", "write only the path; parameters go into `params`");
        return None;
    }
    Some(path.trim_start_matches('/').to_owned())
}

#[expect(clippy::option_option, reason = "no body and a faulty body are two things")]
fn body(section: &mut Section<'_>, method: Method) -> Option<Option<Map<String, Value>>> {
    let Some(text) = section.string("body") else { return Some(None) };
    if method == Method::Get {
        section.wrong("body", "cannot be sent with GET", "write method = \"POST\"");
    }
    match serde_json::from_str(&text) {
        Ok(body) => Some(Some(body)),
        Err(error) => {
            section.wrong(
                "body",
                format!("is not a JSON object: {error}"),
                "write it like '{\"limit\": 100}'",
            );
            None
        }
    }
}

fn pagination(section: &mut Section<'_>) -> Option<Pagination> {
    if !section.has("pagination") {
        section.value("pagination");
        section.missing(
            "pagination",
            "write how pages follow each other; { type = \"none\" } if there is one page",
        );
        return None;
    }
    let mut inner = section.section("pagination")?;
    let kind =
        inner.required("type", "write type = \"cursor\", \"page\", \"offset\", \"link\" or \"none\"")?;
    let pagination = match kind.as_str() {
        "none" => Some(Pagination::None),
        "link" => Some(Pagination::Link),
        "cursor" => {
            let token = token_place(&mut inner);
            let param = inner.required("param", "write the parameter that sends the token back");
            token.zip(param).map(|(token, param)| Pagination::Cursor { token, param })
        }
        "page" => {
            let start = inner.integer("start", 0..=i64::MAX).map_or(1, i64::unsigned_abs);
            let size = size(&mut inner);
            let param = inner.required("param", "write the parameter of the page number");
            param.map(|param| Pagination::Page { param, start, size })
        }
        "offset" => {
            let size = size(&mut inner);
            let param = inner.required("param", "write the parameter of the offset");
            param.map(|param| Pagination::Offset { param, size })
        }
        _ => {
            let help = "write \"cursor\", \"page\", \"offset\", \"link\" or \"none\"";
            inner.wrong("type", format!("cannot be {kind:?}"), help);
            return None;
        }
    };
    inner.finish();
    pagination
}

fn token_place(inner: &mut Section<'_>) -> Option<TokenPlace> {
    let help = "write where the token is: a path in the body, or \"header:X-Next\"";
    let text = inner.required("token", help)?;
    if let Some(name) = text.strip_prefix("header:") {
        return Some(TokenPlace::Header(name.trim().to_owned()));
    }
    inner.field("token", help).map(TokenPlace::Body)
}

fn size(inner: &mut Section<'_>) -> Option<(String, u64)> {
    let param = inner.string("size_param");
    let size = inner.integer("size", 1..=1_000_000).map(i64::unsigned_abs);
    if param.is_some() != size.is_some() {
        let key = if param.is_some() { "size" } else { "size_param" };
        inner.missing(key, "`size_param` and `size` belong together");
    }
    param.zip(size)
}

fn cursor_param(section: &mut Section<'_>) -> Option<CursorParam> {
    const FORMATS: [(&str, ParamFormat); 4] = [
        ("rfc3339", ParamFormat::Rfc3339),
        ("unix", ParamFormat::Unix),
        ("unix_ms", ParamFormat::UnixMs),
        ("raw", ParamFormat::Raw),
    ];
    let mut inner = section.section("cursor_param")?;
    let name = inner.required("name", "write the parameter, such as name = \"updated_since\"");
    let format = inner.choice("format", &FORMATS, ParamFormat::Raw);
    inner.finish();
    Some(CursorParam { name: name?, format })
}

fn judge_together(
    section: &Section<'_>,
    format: Format,
    records: Option<&FieldPath>,
    pagination: Option<&Pagination>,
    has_param: bool,
    order: Order,
) {
    if format == Format::Ndjson && records.is_some() {
        section.wrong("records", "has no meaning for ndjson", "remove it: each line is a record");
    }
    let token_in_body = matches!(pagination, Some(Pagination::Cursor { token: TokenPlace::Body(_), .. }));
    if token_in_body && (format == Format::Ndjson || records.is_none()) {
        let help = "name a header (token = \"header:…\"), or say in `records` where the records are";
        section.wrong("pagination", "takes its token from a body that is only records", help);
    }
    if !section.has("cursor") {
        if has_param {
            section.wrong("cursor_param", "has no cursor to send", "add `cursor` or remove `cursor_param`");
        }
        if order == Order::Ascending {
            section.wrong("order", "has no cursor to ascend by", "add `cursor` or remove `order`");
        }
    }
}
