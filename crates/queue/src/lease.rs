//! Keeping the right to execute: renewal of everything a worker runs in one statement, and the question whether it stands.

use std::{collections::HashMap, time::Duration};

use sqlx::{PgConnection, PgPool, types::Json};

use crate::{Fence, JobId, Progress};

/// What the heartbeat says of one running job.
#[derive(Debug)]
pub(crate) struct Beat {
    pub id: JobId,
    pub fence: Fence,
    pub checkpointed: bool,
    pub progress: Option<Progress>,
}

/// What the database said of the leases. A job that is missing is no longer this worker's.
pub(crate) type Renewed = HashMap<JobId, Standing>;

/// A lease that stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// Whether somebody asked that the job be cancelled.
    pub cancel_requested: bool,
    /// Not if another session has locked the row: that must not keep the others from being renewed, and as long as it
    /// lasts no rescuer can take the job either.
    pub renewed: bool,
}

/// Renews the leases, in the order of the jobs' ids.
pub(crate) async fn renew(
    conn: &mut PgConnection,
    lease: Duration,
    beats: &[Beat],
) -> Result<Renewed, sqlx::Error> {
    let ids: Vec<i64> = beats.iter().map(|beat| beat.id.0).collect();
    let fences: Vec<i64> = beats.iter().map(|beat| beat.fence.0).collect();
    let checkpointed: Vec<bool> = beats.iter().map(|beat| beat.checkpointed).collect();
    let progress: Vec<Option<Json<&Progress>>> =
        beats.iter().map(|beat| beat.progress.as_ref().map(Json)).collect();
    let rows = sqlx::query!(
        r#"-- queue.renew
        with b as materialized (
            select * from unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::jsonb[])
                as b(id, fence, checkpointed, progress)
        ), free as materialized (
            select j.id, b.checkpointed, b.progress from b join queue.job j on j.id = b.id and j.fence = b.fence
            where j.id = any($1)
            for update of j skip locked
        ), renewed as (
            update queue.job j
            set lease_expires_at = clock_timestamp() + make_interval(secs => $5),
                checkpointed = j.checkpointed or free.checkpointed, progress = coalesce(free.progress, j.progress)
            from free where j.id = any($1) and j.id = free.id
            returning j.id, j.cancel_requested
        )
        select id as "id!", cancel_requested as "cancel_requested!", true as "renewed!" from renewed
        union all
        select j.id, j.cancel_requested, false from b join queue.job j on j.id = b.id and j.fence = b.fence
        where j.id = any($1) and b.id not in (select id from free)"#,
        &ids,
        &fences,
        &checkpointed,
        &progress as _,
        lease.as_secs_f64()
    )
    .fetch_all(conn)
    .await?;
    let standing = |cancel_requested, renewed| Standing { cancel_requested, renewed };
    Ok(rows.into_iter().map(|row| (JobId(row.id), standing(row.cancel_requested, row.renewed))).collect())
}

/// Whether the attempt with this fence still holds the job.
pub(crate) async fn confirm(control: &PgPool, id: JobId, fence: Fence) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- queue.confirm
        select exists (select from queue.job where id = $1 and fence = $2) as "stands!""#,
        id.0,
        fence.0
    )
    .fetch_one(control)
    .await
}
