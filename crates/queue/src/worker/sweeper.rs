//! Goes round over the jobs that wait for others, for those that nobody let go.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::Shared;
use crate::{
    connection::{Dedicated, is_outage, unless, within},
    dependency::{self, Cursor},
    history,
};

/// The mean time between two looks; jittered, so that a fleet does not look at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(shared: Arc<Shared>, drained: CancellationToken) {
    let mut conn = shared.dedicated("sweep");
    let mut cursor = Cursor::default();
    let pause = || LOOK_EVERY.mul_f64(rand::random_range(0.8..1.2));
    while unless(&drained, tokio::time::sleep(pause())).await.is_some() {
        let looked = unless(&drained, within(shared.options.lease, look(&shared, &mut conn, &mut cursor)));
        if let Some(Err(error)) = looked.await {
            conn.failed(&error);
            if !is_outage(&error) {
                error!(error = &error as &dyn std::error::Error, "the sweep of dependencies was refused");
            }
        }
    }
}

async fn look(shared: &Shared, conn: &mut Dedicated, cursor: &mut Cursor) -> Result<(), sqlx::Error> {
    let released = match dependency::sweep(conn.get().await?, cursor).await {
        Err(error) if history::is_missing_partition(&error) => {
            return history::ensure_partitions(conn.get().await?).await;
        }
        released => released?,
    };
    if released.ready + released.failed > 0 {
        info!(ready = released.ready, failed = released.failed, "jobs that nobody had let go wait no longer");
    }
    shared.wake(released.queues.iter().map(String::as_str));
    Ok(())
}
