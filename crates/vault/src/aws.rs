//! AWS KMS, over its documented HTTP interface: three operations do not warrant its SDK.
//!
//! The key stays with its owner: it is made, given new material and destroyed there. A wrapped key is bound to its
//! owner, table and number by the *encryption context*, which also stands in the owner's own log of uses (CloudTrail).

mod access;
mod answer;

use std::{path::Path, time::Duration};

use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use backon::{ExponentialBuilder, Retryable as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use self::access::Access;
pub use self::access::AccessError;
use crate::service::{KeyReference, KeyService, ServiceError, Vendor, Wrapped, Wrapping};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// From the first byte sent to the last byte read.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Tries of a call, and the pauses between them.
const TRIES: usize = 3;
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// The version of a key whose service does not say which material is current.
const CURRENT: &str = "current";

/// The way to AWS KMS, in any region.
pub struct AwsKms {
    client: reqwest::Client,
    access: Access,
    /// In place of the region's own address.
    endpoint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    key_metadata: KeyMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyMetadata {
    current_key_material_id: Option<String>,
    key_state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    ciphertext_blob: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    plaintext: SecretString,
}

impl AwsKms {
    /// With the access key in this file, which has the form of AWS's own credentials files and mode 0600. `endpoint`
    /// takes the place of the regions' addresses.
    pub fn new(credentials: &Path, endpoint: Option<String>) -> Result<Self, AccessError> {
        let access = Access::new(credentials);
        // A faulty file is told at the start; it is read for every call, so that a new one counts at once.
        access.read()?;
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("tenure/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(AccessError::Client)?;
        Ok(Self { client, access, endpoint })
    }

    /// Calls an operation, three times where it does not answer.
    pub(crate) async fn call<T: for<'de> Deserialize<'de>>(
        &self,
        key: &KeyReference,
        operation: &str,
        body: &str,
    ) -> Result<T, ServiceError> {
        let pauses = ExponentialBuilder::default().with_min_delay(PAUSE_MIN).with_max_times(TRIES - 1);
        let answer = (|| self.once(key, operation, body))
            .retry(pauses.with_jitter())
            .when(|error| matches!(error, ServiceError::Unavailable(..)))
            .await?;
        serde_json::from_str(&answer).map_err(|_| {
            ServiceError::Unavailable(Vendor::Aws, "it answered with something that is no answer".into())
        })
    }

    async fn once(
        &self,
        key: &KeyReference,
        operation: &str,
        body: &str,
    ) -> Result<Zeroizing<String>, ServiceError> {
        let url = self.url(key)?;
        let target = format!("TrentService.{operation}");
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", &target)];
        let mut request = self.client.post(&url).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in self.signature(key, &url, &headers, body)? {
            request = request.header(name, value);
        }
        let failed = |error: reqwest::Error| ServiceError::Unavailable(Vendor::Aws, error.into());
        let response = request.send().await.map_err(failed)?;
        let (status, pause) = (response.status(), answer::pause(response.headers()));
        let text = Zeroizing::new(response.text().await.map_err(failed)?);
        if status.is_success() { Ok(text) } else { Err(answer::judge(key, status, pause, &text)) }
    }

    fn url(&self, key: &KeyReference) -> Result<String, ServiceError> {
        let is_region = key.region.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        if key.region.is_empty() || !is_region {
            let why = "it names no region".to_owned();
            return Err(ServiceError::Refused { key: key.clone(), why });
        }
        let own = || format!("https://kms.{}.amazonaws.com/", key.region);
        Ok(self.endpoint.clone().unwrap_or_else(own))
    }

    /// The headers that authorise a request (Signature Version 4).
    fn signature(
        &self,
        key: &KeyReference,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Vec<(String, String)>, ServiceError> {
        let unsigned = |error: String| ServiceError::Refused { key: key.clone(), why: error };
        let identity = self.access.read()?.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&key.region)
            .name("kms")
            // AWS compares it with its own clock, and not with our database's.
            .time(std::time::SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(error.to_string()))?
            .into();
        let body = SignableBody::Bytes(body.as_bytes());
        let request = SignableRequest::new("POST", url, headers.iter().copied(), body);
        let request = request.map_err(|error| unsigned(error.to_string()))?;
        let (instructions, _) =
            sign(request, &params).map_err(|error| unsigned(error.to_string()))?.into_parts();
        let (headers, _) = instructions.into_parts();
        Ok(headers.into_iter().map(|it| (it.name().to_owned(), it.value().to_owned())).collect())
    }

    async fn newest(&self, key: &KeyReference) -> Result<String, ServiceError> {
        let body = json!({ "KeyId": key.key_id }).to_string();
        let found: Described = self.call(key, "DescribeKey", &body).await?;
        let KeyMetadata { current_key_material_id, key_state } = found.key_metadata;
        if key_state != "Enabled" {
            return Err(ServiceError::Refused { key: key.clone(), why: format!("it is {key_state}") });
        }
        Ok(current_key_material_id.unwrap_or_else(|| CURRENT.to_owned()))
    }
}

/// A request's body, whose last member is a secret: built in one piece that is overwritten when it is freed.
fn body(key: &KeyReference, wrapping: &Wrapping<'_>, member: &str, bytes: &[u8]) -> Zeroizing<String> {
    let context: serde_json::Map<_, _> =
        wrapping.pairs().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let open = json!({ "KeyId": key.key_id, "EncryptionContext": context }).to_string();
    let secret = Zeroizing::new(STANDARD.encode(bytes));
    let mut body = Zeroizing::new(String::with_capacity(open.len() + member.len() + secret.len() + 16));
    body.push_str(open.strip_suffix('}').unwrap_or(&open));
    body.push_str(",\"");
    body.push_str(member);
    body.push_str("\":\"");
    body.push_str(&secret);
    body.push_str("\"}");
    body
}

impl KeyService for AwsKms {
    fn create(&self) -> BoxFuture<'_, Result<KeyReference, ServiceError>> {
        Box::pin(async { Err(ServiceError::NotOurs(Vendor::Aws)) })
    }

    fn version<'a>(&'a self, key: &'a KeyReference) -> BoxFuture<'a, Result<String, ServiceError>> {
        Box::pin(self.newest(key))
    }

    /// New material is made by the owner's word or by AWS's own calendar.
    fn advance<'a>(
        &'a self,
        key: &'a KeyReference,
        _request: &'a str,
    ) -> BoxFuture<'a, Result<String, ServiceError>> {
        Box::pin(self.newest(key))
    }

    fn wrap<'a>(
        &'a self,
        key: &'a KeyReference,
        wrapping: &'a Wrapping<'a>,
        dek: &'a SecretSlice<u8>,
    ) -> BoxFuture<'a, Result<Wrapped, ServiceError>> {
        Box::pin(async {
            let version = self.newest(key).await?;
            let body = body(key, wrapping, "Plaintext", dek.expose_secret());
            let wrapped: Encrypted = self.call(key, "Encrypt", &body).await?;
            let bytes = STANDARD.decode(wrapped.ciphertext_blob);
            let bytes = bytes.map_err(|error| ServiceError::Unavailable(Vendor::Aws, error.into()))?;
            Ok(Wrapped { version, bytes })
        })
    }

    fn unwrap<'a>(
        &'a self,
        key: &'a KeyReference,
        wrapping: &'a Wrapping<'a>,
        wrapped: &'a Wrapped,
    ) -> BoxFuture<'a, Result<SecretSlice<u8>, ServiceError>> {
        Box::pin(async {
            let body = body(key, wrapping, "CiphertextBlob", &wrapped.bytes);
            let opened: Decrypted = self.call(key, "Decrypt", &body).await?;
            let bytes = STANDARD.decode(opened.plaintext.expose_secret());
            bytes.map(SecretSlice::from).map_err(|_| ServiceError::DoesNotUnwrap(key.clone()))
        })
    }

    /// It is its owner's to destroy.
    fn destroy<'a>(&'a self, _key: &'a KeyReference) -> BoxFuture<'a, Result<bool, ServiceError>> {
        Box::pin(async { Ok(false) })
    }
}
