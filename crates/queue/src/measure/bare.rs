//! The engine's two hot statements with nothing around them: two connections claim, two finish, a channel in between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::{
    Done,
    claim::{Claimer, Lanes},
    connection,
    finish::{self, Ended},
    outcome::Outcome,
};

const CLAIMERS: usize = 2;
const FINISHERS: usize = 2;
const CLAIM_BATCH: usize = 500;
const FINISH_BATCH: usize = 1_000;

type Incoming = Arc<Mutex<mpsc::UnboundedReceiver<Ended>>>;

/// Claims and finishes this many jobs of the queue and answers how long it took.
pub(super) async fn drain(
    connect: &PgConnectOptions,
    queue: &str,
    jobs: u64,
) -> Result<Duration, sqlx::Error> {
    let (ended, incoming) = mpsc::unbounded_channel();
    let incoming: Incoming = Arc::new(Mutex::new(incoming));
    let finished = Arc::new(AtomicU64::new(0));
    let lanes = Arc::new(Lanes::new(queue.into()));
    let mut tasks = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..CLAIMERS + FINISHERS {
        connections.push(connection::open(connect).await?);
    }
    let began = Instant::now();
    for (index, conn) in connections.into_iter().enumerate() {
        if index < CLAIMERS {
            tasks.spawn(claim(conn, lanes.clone(), index, ended.clone(), finished.clone(), jobs));
        } else {
            tasks.spawn(finish(conn, incoming.clone(), finished.clone()));
        }
    }
    drop(ended);
    for result in tasks.join_all().await {
        result?;
    }
    Ok(began.elapsed())
}

async fn claim(
    mut conn: sqlx::PgConnection,
    lanes: Arc<Lanes>,
    index: usize,
    ended: mpsc::UnboundedSender<Ended>,
    finished: Arc<AtomicU64>,
    jobs: u64,
) -> Result<(), sqlx::Error> {
    // Below every real worker's id, so that nobody takes these rows for a worker's.
    let worker = -1 - i64::try_from(index).unwrap_or(0);
    let holder = Claimer { worker, lease: Duration::from_mins(5) };
    while finished.load(Ordering::Relaxed) < jobs {
        let claimed = lanes.claim(&mut conn, holder, CLAIM_BATCH).await?;
        if claimed.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for job in claimed {
            let done = Ended {
                id: job.id,
                fence: job.fence,
                worker,
                queue: job.queue,
                kind: job.kind,
                ran: Duration::ZERO,
                waited: job.waited,
                outcome: Outcome::Succeeded(Done::new()),
            };
            if ended.send(done).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn finish(
    mut conn: sqlx::PgConnection,
    incoming: Incoming,
    finished: Arc<AtomicU64>,
) -> Result<(), sqlx::Error> {
    let mut batch = Vec::with_capacity(FINISH_BATCH);
    loop {
        batch.clear();
        if incoming.lock().await.recv_many(&mut batch, FINISH_BATCH).await == 0 {
            return Ok(());
        }
        finish::settle(&mut conn, &mut batch).await?;
        finished.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
}
