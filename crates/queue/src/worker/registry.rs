//! Which kinds a worker knows, and how one attempt of one of them is run.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use apalis_core::task::Task;
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use tower::Service;
use tracing::{Instrument, warn};

use super::assignment::Assignment;
use crate::{
    Attempt, Backoff, Claimed, Done, FailureClass, Job, JobError, WaitReason,
    attempt::{CANCEL_GRACE, Signals},
    outcome::{AttemptOutcome, Failure, Outcome, Verdict, chain},
};

/// How long a job waits for a worker that knows its kind, before this one looks at it again.
const NO_HANDLER_PAUSE: Duration = Duration::from_secs(10);

type Run = dyn Fn(&RawValue, Attempt) -> BoxFuture<'static, Result<Done, JobError>> + Send + Sync;

struct Handler {
    run: Box<Run>,
    timeout: Duration,
    backoff: Backoff,
}

/// The kinds that a worker runs, with what they may use.
pub struct Registry<E> {
    environment: E,
    handlers: HashMap<&'static str, Handler>,
}

impl<E> std::fmt::Debug for Registry<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

impl<E: Clone + Send + Sync + 'static> Registry<E> {
    /// No kinds yet.
    pub fn new(environment: E) -> Self {
        Self { environment, handlers: HashMap::new() }
    }

    /// Adds a kind.
    ///
    /// # Panics
    ///
    /// If another kind has the same name: that is a mistake in the program, found at its start.
    #[must_use]
    pub fn with<J: Job<Environment = E>>(mut self) -> Self {
        let environment = self.environment.clone();
        let run = move |payload: &RawValue, attempt: Attempt| -> BoxFuture<'static, Result<Done, JobError>> {
            match serde_json::from_str::<J>(payload.get()) {
                Ok(job) => Box::pin(job.run(attempt, environment.clone())),
                Err(error) => Box::pin(std::future::ready(Err(JobError::fail(
                    PayloadMismatch { kind: J::KIND, error },
                    FailureClass::Configuration,
                )))),
            }
        };
        let handler = Handler { run: Box::new(run), timeout: J::TIMEOUT, backoff: J::BACKOFF };
        assert!(self.handlers.insert(J::KIND, handler).is_none(), "two kinds are called {}", J::KIND);
        self
    }

    /// The kinds' names, in order.
    pub(super) fn kinds(&self) -> Vec<String> {
        let mut kinds: Vec<String> = self.handlers.keys().map(|&kind| kind.to_owned()).collect();
        kinds.sort_unstable();
        kinds
    }

    pub(super) fn into_dispatcher(self) -> Dispatcher {
        Dispatcher { handlers: Arc::new(self.handlers), on_attempt: |_, _| {} }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the payload does not fit the kind {kind}")]
struct PayloadMismatch {
    kind: &'static str,
    #[source]
    error: serde_json::Error,
}

/// The innermost service: finds the handler of an assignment and runs it.
#[derive(Clone)]
pub(super) struct Dispatcher {
    handlers: Arc<HashMap<&'static str, Handler>>,
    on_attempt: fn(&tracing::Span, Option<&str>),
}

impl Dispatcher {
    /// The pause that the kind asks for after a failure.
    pub(super) fn backoff(&self, kind: &str) -> Backoff {
        self.handlers.get(kind).map_or(Backoff::DEFAULT, |handler| handler.backoff)
    }

    /// Tells the hook of each attempt's span.
    pub(super) fn on_attempt(mut self, hook: fn(&tracing::Span, Option<&str>)) -> Self {
        self.on_attempt = hook;
        self
    }
}

impl Service<Task<Assignment>> for Dispatcher {
    type Response = Outcome;
    type Error = apalis_core::error::BoxDynError;
    type Future = BoxFuture<'static, Result<Outcome, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Assignment>) -> Self::Future {
        let Assignment { claimed, attempt, signals } = task.args;
        let span = tracing::info_span!(
            "attempt",
            job.id = %claimed.id,
            job.kind = &*claimed.kind,
            job.queue = &*claimed.queue,
            job.attempt = claimed.attempt,
            job.fence = %claimed.fence,
            tenant = claimed.tenant.map(tracing::field::display),
        );
        (self.on_attempt)(&span, claimed.traceparent.as_deref());
        let handlers = self.handlers.clone();
        Box::pin(async move { Ok(execute(&handlers, &claimed, attempt, &signals).await) }.instrument(span))
    }
}

async fn execute(
    handlers: &HashMap<&'static str, Handler>,
    claimed: &Claimed,
    attempt: Attempt,
    signals: &Signals,
) -> Outcome {
    let Some(handler) = handlers.get(&*claimed.kind) else {
        warn!(job.kind = &*claimed.kind, "no handler for this kind: another worker may have one");
        return Outcome::Later {
            after: NO_HANDLER_PAUSE,
            reason: WaitReason::NoHandler,
            note: format!("the worker that claimed it has no handler for the kind {}", claimed.kind),
        };
    };
    let work = tokio::time::timeout(handler.timeout, (handler.run)(&claimed.payload, attempt));
    let ended = tokio::select! {
        // The work first: a short job ends without ever listening for a signal. What it says too late, its fence stops.
        biased;
        ended = work => ended.unwrap_or_else(|_elapsed| Err(JobError::retry(TimedOut(handler.timeout)))),
        () = signals.lost.cancelled() => return Outcome::Fenced,
        () = signals.orders.abort.cancelled() => {
            return JobError::hand_back().into_outcome(claimed, handler.backoff);
        }
        () = cancelled_for_long(signals) => Err(JobError::cancel("cancelled while it ran")),
    };
    match ended {
        Ok(done) => Outcome::Succeeded(done),
        // A job that says how far it came is heard.
        Err(JobError(Verdict::Cancel { note })) => Outcome::Cancelled { note },
        // Whatever else a cancelled job says but success: it was asked to stop, and it stopped.
        Err(_) if signals.cancel.is_cancelled() => {
            Outcome::Cancelled { note: "cancelled while it ran".to_owned() }
        }
        Err(error) => error.into_outcome(claimed, handler.backoff),
    }
}

async fn cancelled_for_long(signals: &Signals) {
    signals.cancel.cancelled().await;
    tokio::time::sleep(CANCEL_GRACE).await;
}

#[derive(Debug, thiserror::Error)]
#[error("the attempt took longer than {0:?}")]
struct TimedOut(Duration);

impl JobError {
    fn into_outcome(self, claimed: &Claimed, backoff: Backoff) -> Outcome {
        match self.0 {
            Verdict::Retry { cause, after } => {
                let how =
                    if cause.is::<TimedOut>() { AttemptOutcome::TimedOut } else { AttemptOutcome::Failed };
                let failure = Failure { how, class: FailureClass::Transient, error: chain(cause.as_ref()) };
                failed(claimed, failure, after, backoff)
            }
            Verdict::Fail { cause, class } => {
                Outcome::Failed(Failure { how: AttemptOutcome::Failed, class, error: chain(cause.as_ref()) })
            }
            Verdict::Later { after, reason, note } => Outcome::Later { after, reason, note },
            Verdict::Cancel { note } => Outcome::Cancelled { note },
            Verdict::Fenced => Outcome::Fenced,
        }
    }
}

/// A failed attempt: another one follows unless this was the last.
pub(super) fn failed(
    claimed: &Claimed,
    failure: Failure,
    after: Option<Duration>,
    backoff: Backoff,
) -> Outcome {
    let failures = claimed.failures + 1;
    warn!(error = failure.error, failures, attempts_max = claimed.attempts_max, "the attempt failed");
    if failures >= claimed.attempts_max {
        return Outcome::Failed(failure);
    }
    Outcome::Retry { failure, after: after.unwrap_or_else(|| backoff.jittered(failures)) }
}
