//! `/metrics`, `/livez` and `/readyz` on a listener of their own.
//!
//! Alive means that the process answers, also while it drains. Ready means that it can take work: its database answers
//! and it has not been told to stop; otherwise the answer is 503 with the reasons.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use queue::{Queue, QueueRecord, ScheduleFigures};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::metrics::Metrics;
use crate::cli::exit::{Exit, Failure};

/// How long a probe waits for the database.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The running listener.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    end: CancellationToken,
    serving: JoinHandle<()>,
}

struct Shared {
    metrics: Metrics,
    queue: Queue,
    stopping: CancellationToken,
}

impl Listener {
    /// Opens it. `stopping` makes the process unready; [`end`](Self::end) closes the listener.
    pub(crate) async fn open(
        bind: SocketAddr,
        queue: Queue,
        stopping: CancellationToken,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(bind).await.map_err(|error| {
            let what = format!("`telemetry.metrics_bind` {bind} cannot be listened on");
            Failure::new(Exit::Configuration, what, "choose another port, or end the process that has it")
                .by(error)
        })?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { metrics: Metrics::install()?, queue, stopping });
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(|| async { "alive\n" }))
            .route("/readyz", get(ready))
            .with_state(shared);
        let end = CancellationToken::new();
        let ended = end.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(ended).await {
                warn!(%error, "the metrics listener ended");
            }
        });
        info!(%address, "metrics and probes answer");
        Ok(Self { address, end, serving })
    }

    /// Where it answers; the port is real even if 0 was configured.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes it.
    pub(crate) async fn end(self) {
        self.end.cancel();
        if let Err(error) = self.serving.await {
            warn!(%error, "the metrics listener ended badly");
        }
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let queues = queues(&shared.queue).await;
    // One that does not answer is not asked twice.
    let schedules = if queues.is_some() { schedules(&shared.queue).await } else { None };
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], shared.metrics.render(queues.as_deref(), schedules))
}

async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut reasons = Vec::new();
    if shared.stopping.is_cancelled() {
        reasons.push("stopping");
    }
    if queues(&shared.queue).await.is_none() {
        reasons.push("database_unreachable");
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons })))
}

async fn queues(queue: &Queue) -> Option<Vec<QueueRecord>> {
    tokio::time::timeout(ANSWER_MAX, queue.queues()).await.ok()?.ok()
}

async fn schedules(queue: &Queue) -> Option<ScheduleFigures> {
    tokio::time::timeout(ANSWER_MAX, queue.schedule_figures()).await.ok()?.ok()
}
