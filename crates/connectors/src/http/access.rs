//! What every request to one server needs, be it read or written: the credential, what hides it, and the client.

use reqwest::{Client, ClientBuilder};
use secrecy::SecretString;

use super::{CONNECT_TIMEOUT, request};
use crate::{
    budget::Bucket,
    definition::{Auth, RateLimit},
    error::{Place, SourceError},
    secret::Scrubber,
};

pub(super) struct Access {
    pub(super) client: Client,
    pub(super) credential: Option<SecretString>,
    pub(super) scrubber: Scrubber,
}

impl Access {
    /// Reads the credential and builds the client, with the caller's own settings; sends nothing.
    pub(super) async fn prepare(
        place: &Place,
        auth: &Auth,
        headers: &[(String, String)],
        settings: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Self, SourceError> {
        let credential = match auth.secret() {
            Some(secret) => Some(secret.read(place).await?),
            None => None,
        };
        let scrubber = request::scrubber(auth, credential.as_ref());
        let headers = request::headers(place, headers, auth, credential.as_ref())?;
        let builder = Client::builder()
            .default_headers(headers)
            .user_agent(concat!("tenure/", env!("CARGO_PKG_VERSION")))
            // A referrer would carry a credential in the query to wherever a redirect leads.
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT);
        let client = settings(builder).build().map_err(|error| {
            let cause = scrubber.cause(&error);
            place.configuration_by("the HTTP client cannot be built", "look at the cause", cause)
        })?;
        Ok(Self { client, credential, scrubber })
    }
}

/// The budget of a rate limit; without a name of its own it is the connector's.
pub(super) fn bucket(place: &Place, limit: Option<&RateLimit>) -> Option<Bucket> {
    limit.map(|limit| Bucket {
        name: limit.bucket.clone().unwrap_or_else(|| place.connector.clone()),
        requests: limit.requests,
        per: limit.per,
    })
}
