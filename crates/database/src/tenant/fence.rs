//! The contract between an attempt and a tenant's database (Q2): the newest fence wins, and a step is applied once.
//!
//! Every transaction of an attempt holds a shared advisory lock that is named after its job. It keeps nobody out. It
//! is how a newer attempt finds the sessions of older ones, to end those that keep it from raising its fence.

use super::backend::Backend;
use super::scope::Claim;
use super::{TenantDb, TenantError};
use crate::failure::is_sqlstate;

/// How long a raise waits for an older attempt's transaction before it ends that attempt's sessions.
const RAISE_LOCK_TIMEOUT: &str = "1s";

/// An older attempt can begin another transaction between the end of its first and our next try, seldom twice.
const RAISES_MAX: u32 = 5;

/// SQLSTATE `lock_not_available`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Makes the claim's fence the newest of its job, ending older attempts that are in the way.
pub(super) async fn raise(db: &TenantDb, claim: Claim) -> Result<(), TenantError> {
    for _ in 0..RAISES_MAX {
        let mut backend =
            db.begin(&format!("begin; set local lock_timeout = '{RAISE_LOCK_TIMEOUT}'")).await?;
        match try_raise(&mut backend, claim).await {
            Ok(true) => return backend.commit().await,
            Ok(false) => return backend.rollback().await.and(Err(TenantError::Fenced)),
            Err(error) if is_sqlstate(&error, LOCK_NOT_AVAILABLE) => {
                backend.rollback().await?;
                clear_the_way(db, claim).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(TenantError::FenceBlocked(claim.job))
}

/// False if the job has a newer fence. Raising the same fence again is no change.
async fn try_raise(backend: &mut Backend, claim: Claim) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        r#"-- tenant.enlist
        select pg_advisory_xact_lock_shared(hashtextextended('tenure job ' || $1::bigint, 0)) is null as enlisted"#,
        claim.job,
    )
    .fetch_one(backend.conn_mut())
    .await?;
    let raised = sqlx::query!(
        "-- tenant.raise_fence
        insert into tenant.job_fence as held (job, fence)
        values ($1, $2)
        on conflict (job) do update
           set fence = excluded.fence, raised_at = now()
         where held.fence <= excluded.fence",
        claim.job,
        claim.fence,
    )
    .execute(backend.conn_mut())
    .await?;
    Ok(raised.rows_affected() == 1)
}

/// Ends the older attempts' sessions, unless it is a newer attempt that is in the way.
async fn clear_the_way(db: &TenantDb, claim: Claim) -> Result<(), TenantError> {
    let mut backend = db.begin("begin").await?;
    let is_newer = sqlx::query_scalar!(
        r#"-- tenant.newer_fence
        select exists (select from tenant.job_fence where job = $1 and fence > $2) as "is_newer!""#,
        claim.job,
        claim.fence,
    )
    .fetch_one(backend.conn_mut())
    .await?;
    if is_newer {
        return backend.rollback().await.and(Err(TenantError::Fenced));
    }
    end_older_attempts(&mut backend, claim).await?;
    backend.commit().await
}

/// Ends the sessions in which attempts of the job hold a transaction open, and waits until they are gone.
async fn end_older_attempts(backend: &mut Backend, claim: Claim) -> Result<(), sqlx::Error> {
    let ended = sqlx::query!(
        r#"-- tenant.end_older_attempts
        with attempt as materialized (
            select pid
              from pg_locks, hashtextextended('tenure job ' || $1::bigint, 0) as key
             where locktype = 'advisory' and objsubid = 1 and granted
               and database = (select oid from pg_database where datname = current_database())
               and classid = ((key >> 32) & 4294967295)::oid
               and objid = (key & 4294967295)::oid
               -- Asked again in the same snapshot: who has raised a newer fence must not be ended by us.
               and not exists (select from tenant.job_fence where job = $1 and fence > $2)
        )
        select count(*) filter (where pg_terminate_backend(pid, 5000)) as "sessions!" from attempt"#,
        claim.job,
        claim.fence,
    )
    .fetch_one(backend.conn_mut())
    .await?;
    tracing::warn!(job = claim.job, sessions = ended.sessions, "ended sessions of an older attempt");
    Ok(())
}

/// Whether the claim's fence is still the newest. It stays so until the transaction ends: a raise waits for it.
pub(super) async fn holds(backend: &mut Backend, claim: Claim) -> Result<bool, sqlx::Error> {
    let held = sqlx::query!(
        r#"-- tenant.check_fence
        select fence, pg_advisory_xact_lock_shared(hashtextextended('tenure job ' || $1::bigint, 0)) is null as enlisted
          from tenant.job_fence
         where job = $1
           for share"#,
        claim.job,
    )
    .fetch_optional(backend.conn_mut())
    .await?;
    Ok(held.is_some_and(|held| held.fence == claim.fence))
}

/// Marks the step as applied in this transaction. False if it was applied before.
pub(super) async fn mark_step(backend: &mut Backend, claim: Claim, step: &str) -> Result<bool, sqlx::Error> {
    let marked = sqlx::query!(
        "-- tenant.mark_step
        insert into tenant.applied_step (job, step)
        values ($1, $2)
        on conflict do nothing",
        claim.job,
        step,
    )
    .execute(backend.conn_mut())
    .await?;
    Ok(marked.rows_affected() == 1)
}

/// Deletes what the jobs have left here. An attempt of theirs that still lives finds no fence and is fenced.
pub(super) async fn prune(backend: &mut Backend, ended: &[i64]) -> Result<u64, sqlx::Error> {
    let fences = sqlx::query!(
        "-- tenant.prune_fences
        delete from tenant.job_fence where job = any($1)",
        ended,
    )
    .execute(backend.conn_mut())
    .await?;
    let steps = sqlx::query!(
        "-- tenant.prune_steps
        delete from tenant.applied_step where job = any($1)",
        ended,
    )
    .execute(backend.conn_mut())
    .await?;
    Ok(fences.rows_affected() + steps.rows_affected())
}
