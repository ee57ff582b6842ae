//! Closing and opening a queue. A paused queue takes jobs in and gives none out; what runs goes on.

use sqlx::PgConnection;

pub(crate) async fn pause(
    conn: &mut PgConnection,
    queue: &str,
    by: &str,
    reason: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- queue.pause
        insert into queue.queue (name, paused_at, paused_by, pause_reason) values ($1, now(), $2, $3)
        on conflict (name) do update
        set paused_at = coalesce(queue.paused_at, now()), paused_by = excluded.paused_by,
            pause_reason = excluded.pause_reason",
        queue,
        by,
        reason
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Opens the queue and answers whether it had been closed.
pub(crate) async fn resume(conn: &mut PgConnection, queue: &str) -> Result<bool, sqlx::Error> {
    let opened = sqlx::query_scalar!(
        r#"-- queue.resume
        with closed as (
            select * from queue.queue where name = $1 and paused_at is not null for update
        ), remembered as (
            insert into queue.pause (queue, paused_at, resumed_at, paused_by, reason)
            select name, paused_at, now(), paused_by, pause_reason from closed
        ), opened as (
            update queue.queue q set paused_at = null, paused_by = null, pause_reason = null
            from closed where q.name = closed.name
            returning 1
        )
        select count(*) = 1 as "opened!" from opened"#,
        queue
    )
    .fetch_one(conn)
    .await?;
    Ok(opened)
}
