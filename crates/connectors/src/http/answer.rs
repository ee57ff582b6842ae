//! One answer, read within its bounds.

use std::time::SystemTime;

use futures_util::StreamExt as _;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, LINK, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};

use super::attempt::Trouble;
use super::retry_after::{self, RetryAfter};
use super::{HttpSource, link};
use crate::error::Place;

/// A successful answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Where it really came from.
    pub(super) url: Url,
    headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// What a refusal may be quoted with, and never more than is needed to recognise it.
const QUOTE_CHARS: usize = 200;
/// How much of a refusal's body is read.
const REFUSAL_BYTES_MAX: u64 = 16 << 10;

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The server's clock.
    pub(super) fn date(&self) -> Option<SystemTime> {
        date(&self.headers)
    }

    pub(super) fn next_link(&self) -> Option<String> {
        link::next(self.headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()))
    }

    /// The media type and the charset, in lower case.
    pub(super) fn media_type(&self) -> (String, Option<String>) {
        let header = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let header = header.to_ascii_lowercase();
        let mut parts = header.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_owned();
        let charset =
            parts.find_map(|part| part.strip_prefix("charset=")).map(|c| c.trim_matches('"').to_owned());
        (media, charset)
    }
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

impl HttpSource {
    /// Reads an answer, or tells what its status means.
    pub(super) async fn answer(&self, place: &Place, response: Response) -> Result<Answer, Trouble> {
        let (status, url, headers) = (response.status(), response.url().clone(), response.headers().clone());
        if status.is_success() {
            let body = self.body(place, response, self.definition.page_bytes_max).await?;
            return Ok(Answer { status, url, headers, body });
        }
        // The body of a refusal is only quoted: if it cannot be read, the status stands alone.
        let body = self.body(place, response, REFUSAL_BYTES_MAX).await.unwrap_or_default();
        Err(self.refusal(place, status, &headers, &body))
    }

    async fn body(&self, place: &Place, response: Response, bytes_max: u64) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        loop {
            let next = tokio::time::timeout(self.definition.idle_timeout, chunks.next()).await;
            let Ok(chunk) = next else {
                let secs = self.definition.idle_timeout.as_secs();
                return Err(Trouble::again(format!("the answer stalled for {secs} s (`idle_timeout`)")));
            };
            let Some(chunk) = chunk else { return Ok(body) };
            let chunk = chunk.map_err(|error| {
                Trouble::again_by("the answer broke off", self.scrubber.cause(&error.without_url()))
            })?;
            if (body.len() + chunk.len()) as u64 > bytes_max {
                return Err(Trouble::Final(place.configuration(
                    format!("a page is larger than {bytes_max} bytes (`page_bytes_max`)"),
                    "ask for smaller pages (`size`), or raise `page_bytes_max` if pages have to be that large",
                )));
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn refusal(&self, place: &Place, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Trouble {
        let said = self.quote(body);
        let what = format!("the source answered {status}{said}");
        let pause = headers.get(RETRY_AFTER).map(|value| {
            let now = date(headers).unwrap_or_else(SystemTime::now);
            retry_after::read(value.to_str().unwrap_or("(not text)"), now, self.definition.retry_after_max)
        });
        match status.as_u16() {
            429 => Trouble::throttled(what, pause),
            // Some APIs say "forbidden" for "too often", and then say until when.
            403 if pause.is_some() => Trouble::throttled(what, pause),
            503 if pause.as_ref().is_some_and(|pause| pause.pause.is_some()) => {
                Trouble::throttled(what, pause)
            }
            408 | 425 | 500..=599 => Trouble::again(what).with_pause(pause),
            401 | 403 => Trouble::Final(place.configuration(what, self.credential_advice())),
            300..=399 => {
                let location =
                    headers.get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
                let location = self.scrubber.quote(location.as_bytes(), QUOTE_CHARS);
                Trouble::Final(place.configuration(
                    format!("the source answered {status}, a redirect to {location:?} on another origin"),
                    "write the address it leads to into base_url, if the credential is meant for it",
                ))
            }
            code @ (400 | 404 | 410 | 422) => {
                let advice = "correct the stream's `path` and parameters";
                Trouble::Refused { status: code, error: place.configuration(what, advice) }
            }
            _ => Trouble::Final(
                place.configuration(what, "correct the stream's `path`, `method` and parameters"),
            ),
        }
    }

    fn credential_advice(&self) -> String {
        self.definition.auth.secret().map_or_else(
            || "add `http.auth`: the source wants a credential".to_owned(),
            |secret| format!("renew the credential in `{}`, or what it may read", secret.key()),
        )
    }

    /// The beginning of a body, to be appended to a message.
    pub(super) fn quote(&self, body: &[u8]) -> String {
        if body.is_empty() {
            String::new()
        } else {
            format!(": {:?}", self.scrubber.quote(body, QUOTE_CHARS))
        }
    }
}

impl Trouble {
    fn throttled(what: String, pause: Option<RetryAfter>) -> Self {
        Self::Again { what, cause: None, throttled: true, pause }
    }

    fn with_pause(self, pause: Option<RetryAfter>) -> Self {
        match self {
            Self::Again { what, cause, throttled, .. } => Self::Again { what, cause, throttled, pause },
            other => other,
        }
    }
}
