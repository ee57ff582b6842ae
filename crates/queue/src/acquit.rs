//! Taking a crash back: a worker that was cut off looks dead to everybody else, until it is heard of again.
//!
//! A job that ran alone on it was charged with its death. The worker asks with every beat, and once more when it leaves,
//! whether anything stands against it, and withdraws it: who can ask has not died. The attempt stays lost. It need not
//! know the job, since the answer to a claim may have been lost with the connection.

use sqlx::PgConnection;

use crate::{Retention, rescue::CRASHES_MAX};

/// Withdraws what stands against a worker that lives; answers the queues of the jobs that may run again.
pub(crate) async fn acquit(conn: &mut PgConnection, worker: i64) -> Result<Vec<String>, sqlx::Error> {
    let freed = sqlx::query_scalar!(
        r#"-- queue.acquit
        with withdrawn as (
            delete from queue.crash_charge where worker = $1 returning job, fence
        ), innocent as (
            update queue.attempt a set outcome = 4, error = a.error || '; but it was cut off only: no crash'
            from withdrawn w
            where a.job = any(array(select job from withdrawn)) and a.job = w.job and a.fence = w.fence and a.outcome = 5
            returning a.job
        ), cleared as materialized (
            select job, count(*)::smallint as charges from innocent group by job
        ), charged as materialized (
            select j.id, j.run_at, c.charges, j.state = 3 and j.crashes - c.charges < $2 as frees
            from cleared c join queue.job j on j.id = c.job
            where j.id = any(array(select job from cleared)) order by j.id for update of j
        ), acquitted as (
            update queue.job j
            set crashes = greatest(j.crashes - c.charges, 0), state = case when c.frees then 0 else j.state end,
                fence = case when c.frees then nextval('queue.fence') else j.fence end,
                run_at = case when c.frees then now() else j.run_at end
            from charged c where j.id = any(array(select id from charged)) and j.id = c.id
            returning j.id, j.fence, j.queue, j.run_at, c.run_at as due_at, c.frees
        ), explained as (
            insert into queue.reason_change (job, fence, at, due_at, until, reason, evidence)
            select id, fence, now(), due_at, run_at, 0, 'put back: the worker that it was charged with lives'
            from acquitted where frees
        )
        select distinct queue from acquitted where frees"#,
        worker,
        CRASHES_MAX,
    )
    .fetch_all(conn)
    .await?;
    Ok(freed)
}

/// Forgets what stands against workers that will not come back any more.
pub(crate) async fn forget(conn: &mut PgConnection, retention: Retention) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- queue.forget_charges
        delete from queue.crash_charge c using queue.worker w
        where w.id = c.worker and w.ended_at < now() - make_interval(days => $1::integer)",
        i32::try_from(retention.days.saturating_add(1)).unwrap_or(i32::MAX)
    )
    .execute(conn)
    .await
    .map(drop)
}
