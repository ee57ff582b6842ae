//! An HTTP API as a target: one record at an address of its own, read with GET, written with PATCH or PUT.
//!
//! Every request is a connection of its own: a read-back cannot come from what a write left behind, and an
//! error while connecting proves that nothing was sent. A write begins with a read; it is sent only if the
//! owned fields and the version are as the change expects, and with the version that was just read, so that a
//! target that honours `If-Match` leaves no gap between the two. It is sent once. Redirects are not followed.

mod answer;
mod probe;
mod record;
mod send;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{ETAG, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};

use self::answer::{Answered, Sent};
use self::send::Precondition;
use super::RETRY_FIRST;
use super::access::{Access, bucket};
use crate::budget::{Bucket, RequestBudget};
use crate::definition::{Auth, HttpTarget, HttpTargetConnection, StreamTarget};
use crate::error::{Place, SourceError};
use crate::secret::Scrubber;
use crate::target::{Change, Conflict, Expected, Observed, Validator, WriteAnswer};

/// Three tries in all, for reads alone.
const RETRIES: usize = 2;

/// An API that can be written.
pub(crate) struct HttpTargetDriver {
    place: Place,
    connection: HttpTargetConnection,
    settings: StreamTarget,
    target: HttpTarget,
    client: Client,
    credential: Option<SecretString>,
    scrubber: Scrubber,
    bucket: Option<Bucket>,
    budget: Arc<dyn RequestBudget>,
    retry_first: Duration,
}

/// A record with the text that it came in.
struct Found {
    observed: Observed,
    /// The whole body.
    body: String,
}

impl HttpTargetDriver {
    /// Reads the credential; sends nothing.
    pub(crate) async fn prepare(
        place: Place,
        connection: &HttpTargetConnection,
        settings: &StreamTarget,
        target: &HttpTarget,
        budget: Arc<dyn RequestBudget>,
    ) -> Result<Self, SourceError> {
        let timeout = connection.request_timeout;
        let access = Access::prepare(&place, &connection.auth, &connection.headers, |client| {
            let client = client.redirect(Policy::none()).retry(reqwest::retry::never());
            client.pool_max_idle_per_host(0).timeout(timeout)
        });
        let Access { client, credential, scrubber } = access.await?;
        let bucket = bucket(&place, connection.rate_limit.as_ref());
        let (connection, settings, target) = (connection.clone(), settings.clone(), target.clone());
        let retry_first = RETRY_FIRST;
        Ok(Self {
            place,
            connection,
            settings,
            target,
            client,
            credential,
            scrubber,
            bucket,
            budget,
            retry_first,
        })
    }

    pub(crate) async fn read(&self, key: &str) -> Result<Option<Observed>, SourceError> {
        Ok(self.find(key).await?.map(|found| found.observed))
    }

    pub(crate) async fn write(&self, change: &Change) -> WriteAnswer {
        match self.prepare_write(change).await {
            Ok((body, precondition)) => {
                self.send(&change.key, &body, &precondition, Some(&change.idempotency_key)).await
            }
            Err(answer) => answer,
        }
    }

    /// Looks whether the change can be made, and writes what is to be sent.
    async fn prepare_write(&self, change: &Change) -> Result<(String, Precondition), WriteAnswer> {
        let found = self.find(&change.key).await.map_err(not_applied)?;
        change.judge(found.as_ref().map(|found| &found.observed))?;
        let (body, precondition) = match (&change.expected, &found) {
            (Expected::Present { .. }, Some(found)) => {
                let validator = found.observed.validator.clone();
                let precondition = validator.map_or(Precondition::None, Precondition::Match);
                (self.target.body(&change.desired, Some(&found.body)), precondition)
            }
            // What is judged to be absent is created.
            _ => (self.target.body(&change.desired, None), Precondition::Absent),
        };
        Ok((body.map_err(WriteAnswer::refused)?, precondition))
    }

    /// The record as it is now; three tries.
    async fn find(&self, key: &str) -> Result<Option<Found>, SourceError> {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(self.retry_first)
            .with_jitter()
            .with_max_times(RETRIES);
        let is_transient = |error: &SourceError| matches!(error, SourceError::Transient { .. });
        (|| self.find_once(key)).retry(backoff).when(is_transient).await
    }

    async fn find_once(&self, key: &str) -> Result<Option<Found>, SourceError> {
        self.draw().await.map_err(|after| self.place.throttled(BUDGET_USED, after))?;
        let request = self.client.get(self.address(key)?);
        match self.ask(request, self.target.answer_bytes_max).await {
            Sent::Answered(answered) if matches!(answered.status.as_u16(), 404 | 410) => Ok(None),
            Sent::Answered(answered) if answered.status == StatusCode::OK => self.found(&answered).map(Some),
            Sent::Answered(answered) => Err(self.read_failure(&answered).await),
            Sent::Lost { what, .. } => Err(self.place.transient(what)),
            Sent::TooLarge => {
                let what = format!("the answer is larger than {} bytes", self.target.answer_bytes_max);
                Err(self.place.poison(what, "raise the stream's `record_bytes_max`"))
            }
        }
    }

    fn found(&self, answered: &Answered) -> Result<Found, SourceError> {
        let unreadable = |what: String| {
            let quoted = self.quote(&answered.body);
            self.place.poison(format!("{what}{quoted}"), "correct the target's `path` and `record`")
        };
        let body = String::from_utf8(answered.body.clone())
            .map_err(|_| unreadable("the answer is not UTF-8".into()))?;
        let mut observed = self.target.observe(&self.settings, &body).map_err(unreadable)?;
        observed.validator = etag(&answered.headers);
        Ok(Found { observed, body })
    }

    /// Where a record is. A key that would lead to another address is refused.
    fn address(&self, key: &str) -> Result<Url, SourceError> {
        if matches!(key, "" | "." | "..") {
            let what = format!("the key {key:?} cannot stand in an address");
            return Err(self.place.configuration(what, "correct the record at its source"));
        }
        let mut url = self.connection.base_url.clone();
        let path = &self.target.path;
        url.set_path(&format!("{}{}{}{}", url.path(), path.before, send::segment(key), path.after));
        if let (Auth::Query { name, .. }, Some(credential)) = (&self.connection.auth, &self.credential) {
            url.query_pairs_mut().append_pair(name, credential.expose_secret());
        }
        Ok(url)
    }

    /// Takes one request from the budget.
    async fn draw(&self) -> Result<(), Duration> {
        match &self.bucket {
            Some(bucket) => self.budget.acquire(bucket).await,
            None => Ok(()),
        }
    }

    #[cfg(test)]
    pub(crate) fn without_pauses(&mut self) {
        self.retry_first = Duration::from_millis(1);
    }
}

const BUDGET_USED: &str = "the budget of requests is used up (`rate_limit`)";

fn etag(headers: &HeaderMap) -> Option<Validator> {
    headers.get(ETAG)?.to_str().ok().map(|etag| Validator(etag.to_owned()))
}

fn not_applied(error: SourceError) -> WriteAnswer {
    match error {
        SourceError::Throttled { after, .. } => WriteAnswer::Throttled { after },
        error => WriteAnswer::NotApplied(error),
    }
}

fn precondition_failed(what: String) -> WriteAnswer {
    WriteAnswer::Conflict(Conflict::Precondition { what })
}

impl fmt::Debug for HttpTargetDriver {
    /// Without the client, whose default headers hold the credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTargetDriver").field("place", &self.place).finish_non_exhaustive()
    }
}
