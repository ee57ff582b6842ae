//! One write: what is sent with it, and what its answer means.

use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};

use super::answer::{Answered, Sent};
use super::{HttpTargetDriver, precondition_failed};
use crate::definition::WriteMethod;
use crate::target::{Conflict, Validator, WriteAnswer};

/// What a write asks of the target.
#[derive(Clone, Debug)]
pub(super) enum Precondition {
    None,
    /// `If-Match` with this version.
    Match(Validator),
    /// `If-None-Match: *`.
    Absent,
}

/// `key` as one segment of a path: everything but letters, digits, `-`, `_` and `~` and inner dots is escaped.
pub(super) fn segment(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.');
    key.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

impl HttpTargetDriver {
    /// Sends `body` once. The answer's body is no evidence and is not looked at, except to quote a refusal.
    pub(super) async fn send(
        &self,
        key: &str,
        body: &str,
        precondition: &Precondition,
        idempotency_key: Option<&str>,
    ) -> WriteAnswer {
        let url = match self.address(key) {
            Ok(url) => url,
            Err(error) => return WriteAnswer::NotApplied(error),
        };
        if let Err(after) = self.draw().await {
            return WriteAnswer::Throttled { after };
        }
        let creates = matches!(precondition, Precondition::Absent);
        let mut request = match self.target.write {
            WriteMethod::MergePatch if !creates => self.client.patch(url),
            _ => self.client.put(url),
        };
        request = match precondition {
            Precondition::None => request,
            Precondition::Match(validator) => request.header(IF_MATCH, &validator.0),
            Precondition::Absent => request.header(IF_NONE_MATCH, "*"),
        };
        if let (Some(header), Some(key)) = (&self.target.idempotency_header, idempotency_key) {
            request = request.header(header, key);
        }
        // A record that is created is sent whole, and not as a patch of nothing.
        let media = if creates { "application/json" } else { &self.target.content_type };
        self.meaning(request.header(CONTENT_TYPE, media).body(body.to_owned())).await
    }

    async fn meaning(&self, request: RequestBuilder) -> WriteAnswer {
        match self.tell(request).await {
            Sent::Answered(answered) => self.judge(&answered).await,
            Sent::Lost { what, begun: false } => WriteAnswer::NotApplied(self.place.transient(what)),
            Sent::Lost { what, begun: true } => WriteAnswer::Unknown { what },
            Sent::TooLarge => WriteAnswer::Unknown { what: "the answer is too large".into() },
        }
    }

    /// What a status says about a write. A server error is never taken for "not stored".
    async fn judge(&self, answered: &Answered) -> WriteAnswer {
        let what = format!("the target answered {}{}", answered.status, self.quote(&answered.body));
        match answered.status.as_u16() {
            200..=299 => WriteAnswer::Accepted,
            404 | 410 => WriteAnswer::Conflict(Conflict::Gone),
            409 | 412 => precondition_failed(what),
            429 => WriteAnswer::Throttled { after: self.pause(answered).await },
            401 | 403 | 407 => {
                WriteAnswer::NotApplied(self.place.configuration(what, self.credential_advice()))
            }
            301 | 302 | 307 | 308 => {
                let advice =
                    "write the address it leads to into `target.base_url`: a write follows no redirect";
                WriteAnswer::NotApplied(self.place.configuration(what, advice))
            }
            // 408 and 425: it may have been taken in all the same.
            408 | 425 => WriteAnswer::Unknown { what },
            400..=499 => WriteAnswer::Refused { what },
            _ => WriteAnswer::Unknown { what },
        }
    }
}
