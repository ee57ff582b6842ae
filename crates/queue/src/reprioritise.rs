//! Giving a job that has not started another priority. It keeps its `run_at`, so its place in the new lane is by age.

use sqlx::PgConnection;

use crate::{ChangeRefused, JobId, Priority, refusal};

pub(crate) const ONLY: &str = "only a job that is ready or waits can be given another priority";

/// A job that was moved to another lane.
pub(crate) struct Moved {
    pub id: i64,
    pub queue: String,
}

/// Gives the jobs this priority and answers which were ready or waiting.
pub(crate) async fn reprioritise(
    conn: &mut PgConnection,
    ids: &[i64],
    to: Priority,
) -> Result<Vec<Moved>, sqlx::Error> {
    sqlx::query_as!(
        Moved,
        "-- queue.reprioritise
        update queue.job set priority = $2 where id = any($1) and state in (0, 2) returning id, queue",
        ids,
        to.code()
    )
    .fetch_all(conn)
    .await
}

/// The same for one job: its queue, or why not.
pub(crate) async fn reprioritise_one(
    conn: &mut PgConnection,
    id: JobId,
    to: Priority,
) -> Result<String, ChangeRefused> {
    match reprioritise(conn, &[id.0], to).await?.pop() {
        Some(moved) => Ok(moved.queue),
        None => Err(refusal::of(conn, id, ONLY).await),
    }
}
