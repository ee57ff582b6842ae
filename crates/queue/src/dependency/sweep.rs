//! The truth about who still waits: what is open is compared with the jobs that are live.
//!
//! A process may die between the statement that ends a job and the one that looks for its waiters, or between the
//! commit of a waiter and the look after it. The sweep goes round over the open edges, a bounded number at a look, and
//! settles those whose parent is no longer live by what history says.

use sqlx::PgConnection;

use super::settle::{Open, Released, settle_found};
use crate::{JobId, Retention};

/// Open edges that one look compares: a few milliseconds of probes into an index.
const LOOKED_MAX: i64 = 5_000;

/// Settled edges that are forgotten in one statement.
const FORGOTTEN_MAX: i64 = 10_000;

/// The last edge that a sweep has looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    waiter: i64,
    parent: i64,
}

/// Looks at the next open edges; at the end it begins again.
pub(crate) async fn sweep(conn: &mut PgConnection, cursor: &mut Cursor) -> Result<Released, sqlx::Error> {
    let found = sqlx::query_file!("src/dependency/sweep.sql", cursor.waiter, cursor.parent, LOOKED_MAX)
        .fetch_one(&mut *conn)
        .await?;
    let open = Open { waiters: found.waiters, parents: found.parents, outcomes: found.outcomes };
    let released = settle_found(conn, open).await?;
    *cursor = match (found.last_waiter, found.last_parent) {
        (Some(waiter), Some(parent)) => Cursor { waiter, parent },
        _ => Cursor::default(),
    };
    Ok(released)
}

/// Sees to it that the ends of jobs which were there before these waiters are noticed at once.
///
/// To be called after the commit. First the parents are marked: who ends one from then on looks for its waiters. Those
/// that ended before the mark are found by the look that follows.
pub(crate) async fn watch(conn: &mut PgConnection, waiters: &[JobId]) -> Result<Released, sqlx::Error> {
    let waiters: Vec<i64> = waiters.iter().map(|id| id.0).collect();
    sqlx::query!(
        "-- queue.watch
        with parent as materialized (
            select j.id from queue.job j
            where not j.awaited and j.id = any(array(
                select d.parent from queue.dependency d where d.waiter = any($1) and d.settled_at is null))
            order by j.id for update
        )
        update queue.job j set awaited = true where j.id = any(array(select id from parent))",
        &waiters
    )
    .execute(&mut *conn)
    .await?;
    let ended = sqlx::query!(
        r#"-- queue.look_after_waiters
        select d.waiter, d.parent, coalesce(h.outcome, 0::smallint) as "outcome!"
        from queue.dependency d
        left join lateral (select j.id from queue.job j where j.id = d.parent limit 1) as j on true
        left join lateral (
            select h.outcome from queue.job_history h where j.id is null and h.id = d.parent limit 1
        ) as h on true
        where d.waiter = any($1) and d.settled_at is null and j.id is null"#,
        &waiters
    )
    .fetch_all(&mut *conn)
    .await?;
    settle_found(conn, Open::of(ended.into_iter().map(|row| (row.waiter, row.parent, row.outcome)))).await
}

/// Forgets edges that were settled longer ago than history reaches and whose waiter has ended.
pub(crate) async fn forget(conn: &mut PgConnection, retention: Retention) -> Result<(), sqlx::Error> {
    let days = i32::try_from(retention.days).unwrap_or(i32::MAX);
    loop {
        let forgotten = sqlx::query!(
            "-- queue.forget_dependencies
            delete from queue.dependency where (waiter, parent) in (
                select d.waiter, d.parent from queue.dependency d
                where d.settled_at < now() - make_interval(days => $1)
                  and (select j.id from queue.job j where j.id = d.waiter) is null
                limit $2)",
            days,
            FORGOTTEN_MAX
        )
        .execute(&mut *conn)
        .await?
        .rows_affected();
        if i64::try_from(forgotten).is_ok_and(|count| count < FORGOTTEN_MAX) {
            return Ok(());
        }
    }
}
