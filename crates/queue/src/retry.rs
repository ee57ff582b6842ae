//! An operator's word that a job shall run again: one that rests, one that waits for its time. One in quarantine comes
//! back only by its own verb, [`unquarantine`].

use sqlx::PgConnection;

use crate::{JobId, Ring, State, dependency};

/// Why a job was not retried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetryRefused {
    /// No job has this id, live or in history.
    #[error("there is no job {0}")]
    NotFound(JobId),
    /// The job's state does not admit it.
    #[error(
        "job {id} is {state}: only a job that failed, was cancelled or waits for its time can be retried"
    )]
    State {
        /// The job.
        id: JobId,
        /// What it is.
        state: State,
    },
    /// Only a quarantined job is released.
    #[error("job {id} is {state}, not quarantined: there is nothing to release it from")]
    NotQuarantined {
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
    /// A job that it waits for did not succeed, and has not been retried either.
    #[error("job {id} waits for job {parent}, which did not succeed: retry job {parent} first")]
    DependencyFailed {
        /// The job.
        id: JobId,
        /// The first of those that it waits for in vain.
        parent: JobId,
    },
    /// The database did not take it.
    #[error("the job could not be retried")]
    Database(#[from] sqlx::Error),
}

/// Makes the job claimable at once, with all its attempts before it, and answers its queue.
///
/// It keeps its id, so that steps which were applied before are not applied again. A job that failed by a dependency, or
/// was cancelled while it waited, waits again for what has not succeeded by now. Those that waited for *it* keep what
/// became of them: how it ended has settled that. `conn` must be in a transaction.
pub(crate) async fn retry(conn: &mut PgConnection, id: JobId) -> Result<Ring, RetryRefused> {
    if let Some(woken) = wake(conn, &[id.0]).await?.pop() {
        return Ok(Ring::of_queues([woken.queue]));
    }
    if let Some(state) = live_state(conn, id).await? {
        return Err(RetryRefused::State { id, state });
    }
    bring_back(conn, id).await
}

async fn bring_back(conn: &mut PgConnection, id: JobId) -> Result<Ring, RetryRefused> {
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
    let revived = revive(conn, &[id.0]).await?.pop();
    let key = resting.unique_key.unwrap_or_default();
    let Retried { queue, .. } = revived.ok_or(RetryRefused::KeyTaken { id, key })?;
    let waits = dependency::wait_again(conn, id)
        .await?
        .map_err(|parent| RetryRefused::DependencyFailed { id, parent })?;
    Ok(Ring { queues: [queue].into(), waiters: Vec::from_iter(waits.then_some(id)) })
}

/// A job that may run again.
pub(crate) struct Retried {
    pub id: i64,
    pub queue: String,
}

/// Makes those of the jobs claimable that are ready.
pub(crate) async fn wake(conn: &mut PgConnection, ids: &[i64]) -> Result<Vec<Retried>, sqlx::Error> {
    sqlx::query_as!(
        Retried,
        "-- queue.retry_live
        with resting as (
            select id, run_at from queue.job where id = any($1) and state = 0 order by id for update
        ), woken as (
            update queue.job j
            set run_at = now(), fence = nextval('queue.fence'), failures = 0, losses = 0, crashes = 0, reason = 0, note = null
            from resting where j.id = resting.id
            returning j.id, j.fence, j.queue, j.run_at, resting.run_at as due_at
        ), explained as (
            insert into queue.reason_change (job, fence, at, due_at, until, reason, evidence)
            select id, fence, now(), due_at, run_at, 0, 'it was told to run now' from woken
        )
        select id, queue from woken",
        ids
    )
    .fetch_all(conn)
    .await
}

/// Brings those of the jobs back from history that failed or were cancelled. One whose unique key a live job has stays
/// where it is. The caller has locked the rows, and sees to it that one which waited for others waits again.
pub(crate) async fn revive(conn: &mut PgConnection, ids: &[i64]) -> Result<Vec<Retried>, sqlx::Error> {
    sqlx::query_as!(
        Retried,
        r#"-- queue.revive
        with resting as materialized (
            select * from queue.job_history where id = any($1) and outcome in (2, 3)
        ), back as (
            insert into queue.job
                (id, fence, queue, kind, tenant, priority, attempts_max, payload, unique_key, rate_key, traceparent,
                 created_at, attempt, state, reason, awaited)
            select id, nextval('queue.fence'), queue, kind, tenant, priority, attempts_max, payload, unique_key,
                   rate_key, traceparent, created_at, attempt, case when tenant = any(f.tenants) then 2 else 0 end,
                   case when tenant = any(f.tenants) then 8 else 0 end,
                   exists (select from queue.dependency d where d.parent = resting.id and d.outcome is null)
            from resting cross join (select array_agg(tenant) as tenants from queue.frozen_tenant) as f
            order by id
            on conflict (kind, unique_key) where unique_key is not null do nothing
            returning id, queue
        ), gone as (
            delete from queue.job_history h using back where h.id = back.id
        )
        select id as "id!", queue as "queue!" from back"#,
        ids
    )
    .fetch_all(conn)
    .await
}

/// Which of the jobs have waited for others.
pub(crate) async fn dependents(conn: &mut PgConnection, ids: &[i64]) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- queue.dependents
        select distinct waiter from queue.dependency where waiter = any($1) order by waiter",
        ids
    )
    .fetch_all(conn)
    .await
}

/// Lets a quarantined job run again, alone and with a crash budget of its own, and answers its queue.
///
/// It stays a suspect: what it did to its worker, it may do again.
pub(crate) async fn unquarantine(
    conn: &mut PgConnection,
    id: JobId,
    by: &str,
) -> Result<String, RetryRefused> {
    let freed = sqlx::query_scalar!(
        "-- queue.unquarantine
        with resting as (
            select id, run_at from queue.job where id = $1 and state = 3 for update
        ), freed as (
            update queue.job j
            set state = 0, run_at = now(), fence = nextval('queue.fence'), failures = 0, losses = 0, crashes = 0,
                suspect = true, reason = 0, note = null
            from resting where j.id = resting.id
            returning j.id, j.fence, j.queue, j.run_at, resting.run_at as due_at
        ), explained as (
            insert into queue.reason_change (job, fence, at, due_at, until, reason, evidence)
            select id, fence, now(), due_at, run_at, 0, 'released from quarantine by ' || $2 from freed
        )
        select queue from freed",
        id.0,
        by
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(queue) = freed {
        return Ok(queue);
    }
    let live = live_state(conn, id).await?;
    Err(live.map_or(RetryRefused::NotFound(id), |state| RetryRefused::NotQuarantined { id, state }))
}

async fn live_state(conn: &mut PgConnection, id: JobId) -> Result<Option<State>, sqlx::Error> {
    let state = sqlx::query_scalar!("-- queue.state\nselect state from queue.job where id = $1", id.0)
        .fetch_optional(conn)
        .await?;
    Ok(state.map(State::live))
}
