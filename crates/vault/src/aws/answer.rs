//! What an answer that is no success means.

use std::time::Duration;

use reqwest::{StatusCode, header::HeaderMap};
use serde::Deserialize;

use crate::service::{KeyReference, ServiceError, Vendor};

/// The pause where AWS names none; it counts calls by the second.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Refusal {
    /// Such as `com.amazonaws.kms#DisabledException`.
    #[serde(rename = "__type")]
    kind: String,
}

/// The pause that is asked for.
pub(super) fn pause(headers: &HeaderMap) -> Duration {
    let named = headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    named.map_or(PAUSE, Duration::from_secs)
}

/// Decided from the kind of the refusal, never from its message.
pub(super) fn judge(key: &KeyReference, status: StatusCode, pause: Duration, text: &str) -> ServiceError {
    let refusal = serde_json::from_str::<Refusal>(text).ok();
    let kind = refusal.as_ref().map_or("", |refusal| refusal.kind.rsplit('#').next().unwrap_or_default());
    match kind {
        "ThrottlingException" | "RequestLimitExceeded" | "LimitExceededException" => {
            ServiceError::Throttled(Vendor::Aws, pause)
        }
        "InvalidCiphertextException" | "IncorrectKeyException" => ServiceError::DoesNotUnwrap(key.clone()),
        "KMSInternalException" | "DependencyTimeoutException" | "KeyUnavailableException" => {
            ServiceError::Unavailable(Vendor::Aws, kind.to_owned().into())
        }
        _ if status == StatusCode::TOO_MANY_REQUESTS => ServiceError::Throttled(Vendor::Aws, pause),
        _ if status.is_server_error() => ServiceError::Unavailable(Vendor::Aws, status.to_string().into()),
        // Disabled, pending deletion, not found, access denied, an expired token: its owner, or ours, has to act.
        "" => ServiceError::Refused { key: key.clone(), why: status.to_string() },
        kind => ServiceError::Refused { key: key.clone(), why: kind.to_owned() },
    }
}
