//! The vocabulary of HTTP sources.

mod walk;

use std::time::Duration;

use reqwest::Url;

use super::FieldPath;
use crate::secret::SecretText;

pub(super) use walk::{auth, base_url, connection, headers, rate_limit, stream};

/// The `[http]` section.
#[derive(Clone, Debug)]
pub struct HttpDefinition {
    pub(crate) base_url: Url,
    pub(crate) auth: Auth,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) request_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) run_deadline: Duration,
    pub(crate) pages_max: u64,
    pub(crate) page_bytes_max: u64,
    pub(crate) run_bytes_max: u64,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) retry_after_max: Duration,
    pub(crate) allow_hosts: Vec<String>,
}

/// How requests are authorised.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Not at all.
    None,
    /// `Authorization: Bearer …`.
    Bearer(SecretText),
    /// `Authorization: Basic …`.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: SecretText,
    },
    /// A header of the source's own.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: SecretText,
    },
    /// A query parameter.
    Query {
        /// Its name.
        name: String,
        /// Its value.
        value: SecretText,
    },
}

impl Auth {
    /// The secret in it.
    #[must_use]
    pub const fn secret(&self) -> Option<&SecretText> {
        match self {
            Self::None => None,
            Self::Bearer(secret)
            | Self::Basic { password: secret, .. }
            | Self::Header { value: secret, .. }
            | Self::Query { value: secret, .. } => Some(secret),
        }
    }
}

impl Auth {
    pub(super) const fn secret_mut(&mut self) -> Option<&mut SecretText> {
        match self {
            Self::None => None,
            Self::Bearer(secret)
            | Self::Basic { password: secret, .. }
            | Self::Header { value: secret, .. }
            | Self::Query { value: secret, .. } => Some(secret),
        }
    }
}

/// `rate_limit`: the requests that all readers of a bucket may send together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many.
    pub requests: u32,
    /// In which time.
    pub per: Duration,
    /// Shared by name; without one, the connector's own.
    pub bucket: Option<String>,
}

/// The HTTP part of a stream.
#[derive(Clone, Debug)]
pub struct HttpStream {
    pub(crate) path: String,
    pub(crate) method: Method,
    pub(crate) params: Vec<(String, String)>,
    /// A JSON object sent with POST.
    pub(crate) body: Option<serde_json::Map<String, serde_json::Value>>,
    /// Whether paging and cursor parameters go into the body instead of the query.
    pub(crate) params_in_body: bool,
    /// Where the records are in a page; `None` is the body itself.
    pub(crate) records: Option<FieldPath>,
    pub(crate) format: Format,
    pub(crate) pagination: Pagination,
    pub(crate) cursor_param: Option<CursorParam>,
    pub(crate) order: Order,
}

/// The request's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST, for APIs that search by body.
    Post,
}

/// The form of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON text.
    Json,
    /// A JSON text per line.
    Ndjson,
}

/// In which order records come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By the cursor field, ascending; this is verified as records arrive.
    Ascending,
    /// In none that is promised.
    Unordered,
}

/// How the next page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pagination {
    /// There is one page.
    None,
    /// An opaque token, found in the body or in a header.
    Cursor {
        /// Where the token is: a path in the body, or `header:<name>`.
        token: TokenPlace,
        /// The parameter that sends it back.
        param: String,
    },
    /// Page numbers.
    Page {
        /// The parameter.
        param: String,
        /// The number of the first page.
        start: u64,
        /// The parameter and value of the page size.
        size: Option<(String, u64)>,
    },
    /// The number of records to skip.
    Offset {
        /// The parameter.
        param: String,
        /// The parameter and value of the page size.
        size: Option<(String, u64)>,
    },
    /// A link with `rel="next"` (RFC 8288).
    Link,
}

/// Where a page token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// In the body.
    Body(FieldPath),
    /// In a header.
    Header(String),
}

/// How the lower bound of a run is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorParam {
    /// The parameter.
    pub name: String,
    /// The form of its value.
    pub format: ParamFormat,
}

/// The form of a cursor in a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamFormat {
    /// `2026-03-01T10:00:00Z`.
    Rfc3339,
    /// Seconds since 1970, rounded down.
    Unix,
    /// Milliseconds since 1970, rounded down.
    UnixMs,
    /// The source's own text.
    Raw,
}
