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

/// What the database said of the leases: present means renewed.
pub(crate) type Renewed = HashMap<JobId, CancelRequested>;

/// Whether somebody asked that the job be cancelled.
pub(crate) type CancelRequested = bool;

/// Renews the leases, in the order of the jobs' ids. A job that is missing from the answer is no longer this worker's.
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
        "-- queue.renew
        update queue.job j
        set lease_expires_at = clock_timestamp() + make_interval(secs => $5),
            checkpointed = j.checkpointed or b.checkpointed,
            progress = coalesce(b.progress, j.progress)
        from unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::jsonb[]) as b(id, fence, checkpointed, progress)
        where j.id = b.id and j.fence = b.fence
        returning j.id, j.cancel_requested",
        &ids,
        &fences,
        &checkpointed,
        &progress as _,
        lease.as_secs_f64()
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (JobId(row.id), row.cancel_requested)).collect())
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
