//! Holding back everything of one tenant: its jobs wait, none is lost, none is claimed.
//!
//! A frozen tenant is no filter that every claim must skip over: its ready jobs are moved to `waiting`, and what is
//! enqueued meanwhile waits from the beginning. What comes back from an attempt that was running is moved by the rescuer's
//! next look, a quarter of a second later.

use sqlx::PgConnection;
use uuid::Uuid;

/// Freezes the tenant and answers how many jobs were moved. `conn` must be in a transaction.
pub(crate) async fn freeze(
    conn: &mut PgConnection,
    tenant: Uuid,
    by: &str,
    reason: &str,
) -> Result<u64, sqlx::Error> {
    sqlx::query!(
        "-- queue.freeze
        insert into queue.frozen_tenant (tenant, frozen_by, reason) values ($1, $2, $3)
        on conflict (tenant) do update set reason = excluded.reason",
        tenant,
        by,
        reason
    )
    .execute(&mut *conn)
    .await?;
    sweep(conn).await
}

/// Moves ready jobs of frozen tenants to `waiting`; suspects and those that wait for their time too.
pub(crate) async fn sweep(conn: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let moved = sqlx::query!(
        "-- queue.sweep_frozen
        update queue.job j set state = 2, reason = 8
        from (
            select array(
                select id from queue.job
                where tenant = any(array(select tenant from queue.frozen_tenant)) and state = 0
                order by id for update skip locked) as ids
        ) as found
        where j.id = any(found.ids)"
    )
    .execute(conn)
    .await?;
    Ok(moved.rows_affected())
}

/// Thaws the tenant and answers how many jobs go on; `None` if it was not frozen. `conn` must be in a transaction.
pub(crate) async fn thaw(conn: &mut PgConnection, tenant: Uuid) -> Result<Option<u64>, sqlx::Error> {
    let frozen = sqlx::query!(
        "-- queue.thaw
        delete from queue.frozen_tenant where tenant = $1",
        tenant
    )
    .execute(&mut *conn)
    .await?;
    if frozen.rows_affected() == 0 {
        return Ok(None);
    }
    let woken = sqlx::query!(
        "-- queue.wake_thawed
        update queue.job j set state = 0, reason = 0
        from (
            select id from queue.job where tenant = $1 and state = 2 and reason = 8 order by id for update
        ) as waiting
        where j.id = waiting.id",
        tenant
    )
    .execute(conn)
    .await?;
    Ok(Some(woken.rows_affected()))
}
