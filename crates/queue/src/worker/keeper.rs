//! Keeps house: makes history's partitions of the coming days, drops those past their retention, forgets the
//! dependencies, fires and charges that go with them, and strikes off workers that went with a server's restart.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::Shared;
use crate::{
    Retention, acquit,
    connection::{Dedicated, unless},
    dependency, history, presence,
    schedule::fire,
};

pub(super) async fn run(shared: Arc<Shared>, drained: CancellationToken) {
    let mut conn = shared.dedicated("history");
    loop {
        match unless(&drained, keep(&mut conn, shared.options.retention)).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => error!(error = &error as &dyn std::error::Error, "history could not be kept"),
        }
        if unless(&drained, tokio::time::sleep(history::UPKEEP_EVERY)).await.is_none() {
            return;
        }
    }
}

async fn keep(conn: &mut Dedicated, retention: Retention) -> Result<(), sqlx::Error> {
    loop {
        let kept = async {
            history::ensure_partitions(conn.get().await?).await?;
            history::drop_expired(conn.get().await?, retention).await?;
            dependency::forget(conn.get().await?, retention).await?;
            fire::forget(conn.get().await?, retention).await?;
            acquit::forget(conn.get().await?, retention).await?;
            presence::strike_off_forgotten(conn.get().await?).await
        };
        match kept.await {
            Ok(()) => return Ok(()),
            Err(error) => conn.outlive(error).await?,
        }
    }
}
