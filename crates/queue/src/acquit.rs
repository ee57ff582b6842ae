//! Taking a crash back: a worker that was cut off looks dead to everybody else, until it is heard of again.
//!
//! A job that ran alone on it was charged with its death. When the worker finds that it has lost the lease it says so
//! here, and the charge is withdrawn; the attempt stays lost. A job that was set aside for it is put back.

use sqlx::PgConnection;

use crate::{Fence, JobId, rescue::CRASHES_MAX};

/// Withdraws the charges of attempts whose worker lives; answers the queues of the jobs that may run again.
pub(crate) async fn acquit(
    conn: &mut PgConnection,
    outlived: &[(JobId, Fence)],
) -> Result<Vec<String>, sqlx::Error> {
    let (jobs, fences): (Vec<i64>, Vec<i64>) = outlived.iter().map(|(job, fence)| (job.0, fence.0)).unzip();
    let freed = sqlx::query_scalar!(
        r#"-- queue.acquit
        with innocent as (
            update queue.attempt a set outcome = 4, error = a.error || '; but it was cut off only: no crash'
            from unnest($1::bigint[], $2::bigint[]) as o(job, fence)
            where a.job = any($1) and a.job = o.job and a.fence = o.fence and a.outcome = 5
            returning a.job
        ), charged as materialized (
            select j.id, j.run_at, j.state = 3 and j.crashes <= $3 as frees from queue.job j
            where j.id = any($1) and j.id in (select job from innocent) order by j.id for update
        ), acquitted as (
            update queue.job j
            set crashes = greatest(j.crashes - 1, 0), state = case when c.frees then 0 else j.state end,
                fence = case when c.frees then nextval('queue.fence') else j.fence end,
                run_at = case when c.frees then now() else j.run_at end
            from charged c where j.id = any($1) and j.id = c.id
            returning j.id, j.fence, j.queue, j.run_at, c.run_at as due_at, c.frees
        ), explained as (
            insert into queue.reason_change (job, fence, at, due_at, until, reason, evidence)
            select id, fence, now(), due_at, run_at, 0, 'put back: the worker that it was charged with lives'
            from acquitted where frees
        )
        select distinct queue from acquitted where frees"#,
        &jobs,
        &fences,
        CRASHES_MAX,
    )
    .fetch_all(conn)
    .await?;
    Ok(freed)
}
