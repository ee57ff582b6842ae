//! The whole exposure to apalis: our queue as its `Backend`, and an ack layer that carries outcomes to the flushers.
//!
//! Three of its habits shape this file. An error from a backend ends the worker and drops its handlers, so this backend
//! returns none: it only passes on what a claimer put into a channel. A panic leaves a task's status at `Running`, so
//! outcomes are taken from the result. And it keeps a sender of the acks alive after its end, so the end of flushing is
//! told by a token, never by a closed channel.

use std::{
    any::Any,
    convert::Infallible,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Instant,
};

use apalis::{
    layers::{WorkerBuilderExt, catch_panic::CatchPanicLayer},
    prelude::Monitor,
};
use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    error::{AbortError, BoxDynError},
    task::{Task, builder::TaskBuilder, task_id::TaskId},
    worker::{builder::WorkerBuilder, context::WorkerContext, ext::parallelize::ParallelizeExt},
};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};
use tracing::error;

use super::{
    Shared,
    assignment::Assignment,
    registry::{Dispatcher, failed},
};
use crate::{
    FailureClass,
    finish::Ended,
    outcome::{AttemptOutcome, Failure, Outcome},
};

/// Runs an apalis worker per queue until `drained` fires; by then nothing is in flight.
pub(super) fn run(
    name: &str,
    shared: &Arc<Shared>,
    receivers: Vec<(Arc<str>, mpsc::Receiver<Assignment>)>,
    dispatcher: Dispatcher,
    ended: &mpsc::UnboundedSender<Ended>,
    drained: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let dispatcher = dispatcher.on_attempt(shared.options.on_attempt);
    let mut monitor = Monitor::new();
    for (queue, receiver) in receivers {
        let reporter = Reporter { worker: shared.id, ended: ended.clone(), dispatcher: dispatcher.clone() };
        let ack = AckLayer(Arc::new(reporter));
        let backend = LeaseBackend { receiver, ack };
        // The factory may be called again only after a backend error, and this backend has none.
        let backend = Mutex::new(Some(backend));
        let (name, slots, dispatcher) = (format!("{name}/{queue}"), shared.options.slots, dispatcher.clone());
        monitor = monitor.register(move |_restarts| {
            let backend = backend.lock().expect("nobody panics with this lock").take();
            WorkerBuilder::new(name.clone())
                .backend(backend.expect("the backend returns no errors, so the worker is built once"))
                .concurrency(slots)
                .parallelize(tokio::spawn)
                .layer(CatchPanicLayer::with_panic_handler(panicked))
                .build(dispatcher.clone())
        });
    }
    async move {
        let stopped = async move {
            drained.cancelled().await;
            Ok(())
        };
        if let Err(error) = monitor.run_with_signal(stopped).await {
            error!(error = &error as &dyn std::error::Error, "the handlers ended badly");
        }
    }
}

/// Passes on what the claimer of one queue took.
struct LeaseBackend {
    receiver: mpsc::Receiver<Assignment>,
    ack: AckLayer,
}

impl Backend for LeaseBackend {
    type Task = Task<Assignment>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Infallible>>> {
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(assignment)) => Poll::Ready(Some(Ok(TaskBuilder::new(assignment).build()))),
            // The claimer has stopped; the worker stops when the monitor says so.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for LeaseBackend {
    type Args = Assignment;
    type Id = TaskId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = AckLayer;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> AckLayer {
        self.ack.clone()
    }
}

/// Outermost of all layers: it sees what panics and timeouts were turned into.
#[derive(Clone)]
struct AckLayer(Arc<Reporter>);

struct Reporter {
    worker: i64,
    ended: mpsc::UnboundedSender<Ended>,
    /// Knows the backoff of a kind whose job panicked.
    dispatcher: Dispatcher,
}

impl<S> Layer<S> for AckLayer {
    type Service = Ack<S>;
    fn layer(&self, inner: S) -> Ack<S> {
        Ack { inner, reporter: self.0.clone() }
    }
}

struct Ack<S> {
    inner: S,
    reporter: Arc<Reporter>,
}

impl<S> Service<Task<Assignment>> for Ack<S>
where
    S: Service<Task<Assignment>, Response = Outcome>,
    S::Error: Into<BoxDynError>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = BoxDynError;
    type Future = BoxFuture<'static, Result<(), BoxDynError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, task: Task<Assignment>) -> Self::Future {
        let receipt = task.args.receipt(self.reporter.worker);
        let claimed = task.args.claimed.clone();
        let reporter = self.reporter.clone();
        let began = Instant::now();
        let running = self.inner.call(task);
        Box::pin(async move {
            let outcome = match running.await {
                Ok(outcome) => outcome,
                Err(error) => failed(
                    &claimed,
                    panic_of(&error.into()),
                    None,
                    reporter.dispatcher.backoff(&claimed.kind),
                ),
            };
            if reporter.ended.send(receipt.ended(outcome, began.elapsed())).is_err() {
                error!(job.id = %claimed.id, "an outcome came after the flushers had ended");
            }
            Ok(())
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the job panicked: {0}")]
struct Panicked(String);

fn panicked(payload: &Box<dyn Any + Send>) -> AbortError {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "with something that is not text".to_owned());
    AbortError::new(Panicked(text))
}

/// Jobs report failures in their outcome: what comes as an error is a panic.
fn panic_of(error: &BoxDynError) -> Failure {
    Failure {
        how: AttemptOutcome::Panicked,
        class: FailureClass::Transient,
        error: crate::outcome::chain(error.as_ref()),
    }
}
