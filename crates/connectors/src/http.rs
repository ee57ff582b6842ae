//! The HTTP driver: APIs that answer in JSON, page by page.
//!
//! A run asks for pages from the lower bound on until the source says there are no more. One page is one
//! batch or several. Each request gets three tries; a source that wants to be left alone for longer than a
//! few seconds ends the read as throttled, so that the slot is free meanwhile. Everything is bounded: bytes
//! of a page and of a run, pages, silence, total time; a token or page that comes again is noticed.
//!
//! The start of a run is the source's own `Date` of its first answer, less the time that answer took. A
//! record below the lower bound (an API that cannot filter, or does not) was handed out before and counts as
//! repeated. Page numbers and offsets end at an empty page, or at 404 behind a page that had records: a short
//! page proves nothing, since servers cap the size that was asked for.
//!
//! Credentials go to the origin of `base_url` and to `allow_hosts`, nowhere else: redirects and links that
//! lead elsewhere are refused.

mod access;
mod answer;
mod attempt;
mod check;
mod exchange;
mod guard;
mod link;
mod page;
mod read;
mod request;
mod retry_after;
mod scan;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Client;
use reqwest::redirect::Policy;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::budget::{Bucket, RequestBudget};
use crate::cursor::CursorValue;
use crate::definition::{HttpDefinition, HttpStream, Stream, StreamOrigin};
use crate::error::{Place, SourceError};
use crate::progress::Seen;
use crate::secret::Scrubber;
use crate::source::ReadOptions;
use crate::state::State;

use access::{Access, bucket};
use guard::Cycle;
pub(crate) use read::HttpReader;
pub(crate) use target::HttpTargetDriver;

/// How long the TCP and TLS handshakes may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause before the second try; it doubles before the third.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const REDIRECTS_MAX: usize = 5;

/// The place within a run over an API.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HttpPosition {
    /// The page to ask for.
    next: Next,
    /// The start of the run by the source's clock.
    started: DateTime<Utc>,
    /// The committed cursor as it was when the run began.
    lower: Option<CursorValue>,
    /// How far the rows have come.
    seen: Seen,
    /// Notices tokens that come again.
    cycle: Cycle,
    /// The fingerprint of the page before.
    page: Option<String>,
    /// What of the page at `next` was handed out already.
    done: Option<Done>,
}

/// The part of a page that was handed out: it counts as long as the page is the same when it is read again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Done {
    page: String,
    records: usize,
}

/// Which page to ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Next {
    First,
    Token(String),
    Page(u64),
    Offset(u64),
    /// A URL, without credential.
    Link(String),
}

/// An API that can be read.
#[derive(Clone)]
pub(crate) struct HttpSource {
    place: Place,
    definition: Arc<HttpDefinition>,
    streams: Vec<Stream>,
    client: Client,
    credential: Option<SecretString>,
    scrubber: Scrubber,
    bucket: Option<Bucket>,
    budget: Arc<dyn RequestBudget>,
    retry_first: Duration,
    /// How many requests of each method have left.
    sent: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl HttpSource {
    /// Reads the credential; sends nothing.
    pub(crate) async fn prepare(
        place: Place,
        definition: &HttpDefinition,
        streams: Vec<Stream>,
        budget: Arc<dyn RequestBudget>,
    ) -> Result<Self, SourceError> {
        let access = Access::prepare(&place, &definition.auth, &definition.headers, |client| {
            client.redirect(same_origin())
        });
        let Access { client, credential, scrubber } = access.await?;
        let bucket = bucket(&place, definition.rate_limit.as_ref());
        let definition = Arc::new(definition.clone());
        let retry_first = RETRY_FIRST;
        let sent = Arc::default();
        Ok(Self {
            place,
            definition,
            streams,
            client,
            credential,
            scrubber,
            bucket,
            budget,
            retry_first,
            sent,
        })
    }

    /// Starts or resumes a run.
    pub(crate) fn read(
        &self,
        stream: &Stream,
        previous: &State,
        options: ReadOptions,
    ) -> Result<HttpReader, SourceError> {
        HttpReader::start(self, stream, previous, options)
    }

    /// The part of a stream that is about HTTP.
    fn http<'s>(&self, stream: &'s Stream) -> Result<&'s HttpStream, SourceError> {
        match &stream.origin {
            StreamOrigin::Http(http) => Ok(http),
            StreamOrigin::Table(_) => Err(self
                .place
                .at(&stream.name)
                .configuration("the stream is of another kind of source", "give it a `path`")),
        }
    }

    /// Counts a request that is about to leave.
    fn count(&self, method: &reqwest::Method) {
        *self.sent.lock().expect("no holder panics").entry(method.to_string()).or_default() += 1;
    }

    /// How many requests of each method have left.
    fn sent(&self) -> BTreeMap<String, u64> {
        self.sent.lock().expect("no holder panics").clone()
    }

    /// Tests have no time to wait between tries.
    #[cfg(test)]
    pub(crate) fn without_pauses(&mut self) {
        self.retry_first = Duration::from_millis(1);
    }
}

/// Follows redirects within one origin; any other is handed back as the answer it is.
fn same_origin() -> Policy {
    Policy::custom(|attempt| {
        let first = attempt.previous().first().map(reqwest::Url::origin);
        if first == Some(attempt.url().origin()) && attempt.previous().len() <= REDIRECTS_MAX {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}

impl fmt::Debug for HttpSource {
    /// Without the client, whose default headers hold the credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource").field("place", &self.place).finish_non_exhaustive()
    }
}
