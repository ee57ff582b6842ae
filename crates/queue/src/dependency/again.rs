//! Waiting once more: a job comes back that failed by a dependency or was cancelled while it waited.

use sqlx::PgConnection;

use crate::JobId;

/// Asks again about the dependencies that had to succeed and did not: one that is live again is waited for, one that has
/// succeeded meanwhile counts. Answers whether the job waits, or the first dependency that still stands in its way.
///
/// To be called in the transaction that brings the job back to life.
pub(crate) async fn wait_again(
    conn: &mut PgConnection,
    waiter: JobId,
) -> Result<Result<bool, JobId>, sqlx::Error> {
    sqlx::query!(
        "-- queue.ask_again
        update queue.dependency d
        set outcome = n.outcome, settled_at = case when n.outcome is not null then now() end
        from (
            select b.parent, case when j.id is null then coalesce(h.outcome, 0::smallint) end as outcome
            from queue.dependency b
            left join queue.job j on j.id = b.parent
            left join lateral (
                select h.outcome from queue.job_history h where j.id is null and h.id = b.parent limit 1
            ) as h on true
            where b.waiter = $1 and b.policy = 0 and b.outcome <> 1
        ) as n
        where d.waiter = $1 and d.parent = n.parent",
        waiter.0
    )
    .execute(&mut *conn)
    .await?;
    let standing = sqlx::query!(
        r#"-- queue.stands_in_the_way
        select (select min(parent) from queue.dependency where waiter = $1 and policy = 0 and outcome <> 1) as culprit,
            exists (select from queue.dependency where waiter = $1 and settled_at is null) as "waits!""#,
        waiter.0
    )
    .fetch_one(&mut *conn)
    .await?;
    if let Some(culprit) = standing.culprit {
        return Ok(Err(JobId(culprit)));
    }
    if standing.waits {
        sqlx::query!(
            "-- queue.wait_again\nupdate queue.job set state = 2, reason = 7 where id = $1",
            waiter.0
        )
        .execute(conn)
        .await?;
    }
    Ok(Ok(standing.waits))
}
