//! One exchange with a target, and how it ended.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};

use super::HttpTargetDriver;
use crate::error::SourceError;
use crate::http::retry_after;
use crate::secret::SecretText;

/// How much of the answer to a write is read; it is only ever quoted.
const QUOTED_BYTES_MAX: usize = 16 << 10;
/// What a refusal may be quoted with.
const QUOTE_CHARS: usize = 200;
/// The pause when a target says "too often" and not for how long.
const THROTTLED_DEFAULT: Duration = Duration::from_secs(30);

/// How an exchange ended.
pub(super) enum Sent {
    Answered(Answered),
    /// The body of a read is larger than its bound.
    TooLarge,
    /// There is no answer. `begun`: something may have been sent.
    Lost {
        what: String,
        begun: bool,
    },
}

/// An answer with its body.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl HttpTargetDriver {
    /// Sends a read. The client's own deadline covers all of it.
    pub(super) async fn ask(&self, request: RequestBuilder, bytes_max: usize) -> Sent {
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return self.lost(error),
        };
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Err(error) => return self.lost(error),
                Ok(Some(chunk)) if body.len() + chunk.len() > bytes_max => return Sent::TooLarge,
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
            }
        }
        let (status, headers) = (response.status(), response.headers().clone());
        Sent::Answered(Answered { status, headers, body })
    }

    /// Sends a write, once. The head of its answer counts, whatever becomes of the rest.
    pub(super) async fn tell(&self, request: RequestBuilder) -> Sent {
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return self.lost(error),
        };
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > QUOTED_BYTES_MAX {
                break;
            }
        }
        let (status, headers) = (response.status(), response.headers().clone());
        Sent::Answered(Answered { status, headers, body })
    }

    fn lost(&self, error: reqwest::Error) -> Sent {
        // Each request makes its own connection: if that failed, no byte of the request has left.
        let begun = !error.is_connect();
        let secs = self.connection.request_timeout.as_secs();
        let what = match (begun, error.is_timeout()) {
            (false, _) => "the target could not be reached".to_owned(),
            (true, true) => format!("no whole answer within {secs} s (`target.request_timeout`)"),
            (true, false) => "the connection broke off".to_owned(),
        };
        let cause = self.scrubber.cause(&error.without_url());
        Sent::Lost { what: format!("{what}: {cause}"), begun }
    }

    /// What it means for a read that there is no record in the answer.
    pub(super) async fn read_failure(&self, answered: &Answered) -> SourceError {
        let what = format!("the target answered {}{}", answered.status, self.quote(&answered.body));
        match answered.status.as_u16() {
            429 => self.place.throttled(what, self.pause(answered).await),
            503 if answered.headers.contains_key(RETRY_AFTER) => {
                self.place.throttled(what, self.pause(answered).await)
            }
            408 | 425 | 500..=599 => self.place.transient(what),
            401 | 403 | 407 => self.place.configuration(what, self.credential_advice()),
            _ => self.place.configuration(what, "correct the target's `path` and `target.base_url`"),
        }
    }

    /// How long the target wants to be left alone; everybody who shares its budget is told.
    pub(super) async fn pause(&self, answered: &Answered) -> Duration {
        let date = answered.headers.get(DATE).and_then(|date| date.to_str().ok());
        let now = date.and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or_else(SystemTime::now);
        let asked = answered.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let asked =
            asked.and_then(|value| retry_after::read(value, now, self.connection.retry_after_max).pause);
        let pause = asked.filter(|pause| !pause.is_zero()).unwrap_or(THROTTLED_DEFAULT);
        if let Some(bucket) = &self.bucket {
            self.budget.throttled(bucket, pause).await;
        }
        pause
    }

    pub(super) fn credential_advice(&self) -> String {
        let key = self.connection.auth.secret().map_or("target.auth", SecretText::key);
        format!("renew the credential in `{key}`, or what it may write")
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
