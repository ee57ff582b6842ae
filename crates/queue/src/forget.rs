//! Taking an operator's name out of what the queue has noted.

use sqlx::PgConnection;

/// Puts `other` in the place of `by` wherever a record names who paused, froze, cancelled, snoozed or released. Payloads
/// are not looked into. Reads all of history, so it is slow; `conn` must be in a transaction.
pub(crate) async fn forget(conn: &mut PgConnection, by: &str, other: &str) -> Result<(), sqlx::Error> {
    // Notes name people like this; the word before keeps a longer name that ends alike.
    let (noted, instead) = (format!("by {by}"), format!("by {other}"));
    sqlx::query!(
        "-- queue.forget_pauser\nupdate queue.queue set paused_by = $2 where paused_by = $1",
        by,
        other
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "-- queue.forget_past_pauser\nupdate queue.pause set paused_by = $2 where paused_by = $1",
        by,
        other
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "-- queue.forget_schedules_pauser
        update queue.schedule set paused_by = $2 where paused_by = $1",
        by,
        other
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "-- queue.forget_freezer
        update queue.frozen_tenant set frozen_by = $2 where frozen_by = $1",
        by,
        other
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "-- queue.forget_in_jobs
        update queue.job j set note = replace(j.note, $1, $2)
        from (select id from queue.job where position($1 in note) > 0 order by id for update) as named
        where j.id = named.id",
        noted,
        instead
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "-- queue.forget_in_history
        update queue.job_history set note = replace(note, $1, $2) where position($1 in note) > 0",
        noted,
        instead
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "-- queue.forget_in_reasons
        update queue.reason_change set evidence = replace(evidence, $1, $2) where position($1 in evidence) > 0",
        noted,
        instead
    )
    .execute(conn)
    .await
    .map(drop)
}
