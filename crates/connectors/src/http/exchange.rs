//! A page's request, with its three tries.

use std::sync::Mutex;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;

use super::attempt::Trouble;
use super::page::Page;
use super::{HttpSource, Next};
use crate::budget::WAIT_INSIDE_MAX;
use crate::cursor::CursorValue;
use crate::definition::HttpStream;
use crate::error::{Place, SourceError};

/// Three tries in all.
const RETRIES: usize = 2;
/// The pause when a source says "too often" and not for how long.
const THROTTLED_DEFAULT: Duration = Duration::from_secs(30);

/// How asking for a page ended.
#[derive(Debug)]
pub(super) enum Exchange {
    Page(Box<Page>),
    /// The request was refused with this status.
    Refused {
        status: u16,
        error: SourceError,
    },
}

/// A page to ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) place: &'a Place,
    pub(super) http: &'a HttpStream,
    pub(super) next: &'a Next,
    pub(super) lower: Option<&'a CursorValue>,
    /// When the run must have ended.
    pub(super) deadline: Instant,
}

impl HttpSource {
    /// Asks for a page, three times if need be. What was odd on the way goes to `warnings`.
    pub(super) async fn exchange(
        &self,
        ask: Ask<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Exchange, SourceError> {
        let odd = Mutex::new(Vec::new());
        let backoff = ExponentialBuilder::default()
            .with_min_delay(self.retry_first)
            .with_jitter()
            .with_max_times(RETRIES);
        let tries = (|| self.attempt(ask))
            .retry(backoff)
            .when(|trouble| matches!(trouble, Trouble::Again { .. }))
            .adjust(|trouble, own| {
                // A longer pause than this is not slept through: the slot is given back.
                let own = own?;
                let pause = trouble.pause().map_or(own, |asked| asked.max(own));
                (pause <= WAIT_INSIDE_MAX).then_some(pause)
            })
            .notify(|trouble, pause| {
                odd.lock().expect("no holder panics").extend(trouble.warning().map(str::to_owned));
                tracing::debug!(place = %ask.place, ?trouble, ?pause, "a request is tried again");
            });
        let ended = tokio::time::timeout_at(ask.deadline, tries).await;
        warnings.append(&mut odd.lock().expect("no holder panics"));
        match ended {
            Ok(Ok(page)) => Ok(Exchange::Page(Box::new(page))),
            Ok(Err(Trouble::Refused { status, error })) => Ok(Exchange::Refused { status, error }),
            Ok(Err(trouble)) => Err(self.give_up(ask.place, trouble).await),
            Err(_) => Err(self.too_late(ask.place)),
        }
    }

    pub(super) fn too_late(&self, place: &Place) -> SourceError {
        let secs = self.definition.run_deadline.as_secs();
        place.incomplete(
            format!("the run took longer than {secs} s (`run_deadline`)"),
            "the next run goes on from the last batch; raise `run_deadline` if runs have to be that long",
        )
    }

    async fn attempt(&self, ask: Ask<'_>) -> Result<Page, Trouble> {
        if let Some(bucket) = &self.bucket {
            self.budget.acquire(bucket).await.map_err(Trouble::Budget)?;
        }
        let begun = std::time::Instant::now();
        let sent = async {
            let request = self.request(ask.http, ask.next, ask.lower).build()?;
            self.count(request.method());
            self.client.execute(request).await
        };
        let response = match tokio::time::timeout(self.definition.request_timeout, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let cause = self.scrubber.cause(&error.without_url());
                return Err(Trouble::again_by("the source could not be reached", cause));
            }
            Err(_) => {
                let secs = self.definition.request_timeout.as_secs();
                return Err(Trouble::again(format!("no answer within {secs} s (`request_timeout`)")));
            }
        };
        let waited = begun.elapsed();
        let answer = self.answer(ask.place, response).await?;
        self.page(ask.place, ask.http, &answer, waited)
    }

    /// What is said when no try is left.
    async fn give_up(&self, place: &Place, trouble: Trouble) -> SourceError {
        let asked = trouble.pause();
        match trouble {
            Trouble::Again { what, throttled, pause, .. } if throttled || asked > Some(WAIT_INSIDE_MAX) => {
                let after = asked.filter(|pause| !pause.is_zero()).unwrap_or(THROTTLED_DEFAULT);
                if let Some(bucket) = &self.bucket {
                    self.budget.throttled(bucket, after).await;
                }
                let warning = pause.and_then(|pause| pause.warning).map(|said| format!(" ({said})"));
                place.throttled(format!("{what}{}", warning.unwrap_or_default()), after)
            }
            Trouble::Again { what, cause: Some(cause), .. } => place.transient_by(what, cause),
            Trouble::Again { what, cause: None, .. } => place.transient(what),
            Trouble::Budget(after) => {
                place.throttled("the budget of requests is used up (`rate_limit`)", after)
            }
            Trouble::Refused { error, .. } | Trouble::Final(error) => error,
        }
    }
}
