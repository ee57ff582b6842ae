//! An operator's word that a job shall run again: one that rests, one that waits for its backoff, one in quarantine.

use sqlx::PgConnection;

use crate::{JobId, State};

/// Why a job was not retried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetryRefused {
    /// No job has this id, live or in history.
    #[error("there is no job {0}")]
    NotFound(JobId),
    /// The job's state does not admit it.
    #[error(
        "job {id} is {state}: only a job that failed, was cancelled, waits or is quarantined can be retried"
    )]
    State {
        /// The job.
        id: JobId,
        /// What it is.
        state: State,
    },
    /// A live job of the kind has the same unique key.
    #[error("job {id} cannot come back: another live job has its unique key {key:?}")]
    KeyTaken {
        /// The job.
        id: JobId,
        /// The key.
        key: String,
    },
    /// The database did not take it.
    #[error("the job could not be retried")]
    Database(#[from] sqlx::Error),
}

/// Makes the job claimable at once, with all its attempts before it, and answers its queue.
///
/// It keeps its id, so that steps which were applied before are not applied again. `conn` must be in a transaction.
pub(crate) async fn retry(conn: &mut PgConnection, id: JobId) -> Result<String, RetryRefused> {
    let woken = sqlx::query_scalar!(
        "-- queue.retry_live
        update queue.job
        set state = 0, run_at = now(), fence = nextval('queue.fence'), failures = 0, losses = 0, crashes = 0,
            suspect = suspect or state = 3, reason = 0, note = null
        where id = $1 and state in (0, 3) returning queue",
        id.0
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(queue) = woken {
        return Ok(queue);
    }
    let live = sqlx::query_scalar!("-- queue.state\nselect state from queue.job where id = $1", id.0)
        .fetch_optional(&mut *conn)
        .await?;
    if let Some(state) = live {
        return Err(RetryRefused::State { id, state: State::live(state) });
    }
    revive(conn, id).await
}

async fn revive(conn: &mut PgConnection, id: JobId) -> Result<String, RetryRefused> {
    let resting = sqlx::query!(
        "-- queue.find_resting
        select outcome, unique_key from queue.job_history where id = $1 for update",
        id.0
    )
    .fetch_optional(&mut *conn)
    .await?
    .ok_or(RetryRefused::NotFound(id))?;
    let state = State::finished(resting.outcome);
    if state == State::Succeeded {
        return Err(RetryRefused::State { id, state });
    }
    let queue = sqlx::query_scalar!(
        "-- queue.revive
        with back as (delete from queue.job_history where id = $1 returning *)
        insert into queue.job
            (id, fence, queue, kind, tenant, priority, attempts_max, payload, unique_key, traceparent, created_at, attempt)
        select id, nextval('queue.fence'), queue, kind, tenant, priority, attempts_max, payload, unique_key,
               traceparent, created_at, attempt
        from back returning queue",
        id.0
    )
    .fetch_one(conn)
    .await;
    queue.map_err(|error| match (&error, resting.unique_key) {
        (sqlx::Error::Database(e), Some(key)) if e.is_unique_violation() => {
            RetryRefused::KeyTaken { id, key }
        }
        _ => error.into(),
    })
}
