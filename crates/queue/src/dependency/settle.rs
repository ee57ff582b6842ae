//! Letting go those that wait for a job which has ended.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use tracing::warn;

use super::{Edge, watch};
use crate::{
    JobId,
    finish::{CANCELLED, FAILED},
};

/// Edges in one statement: one job may be waited for by any number of others.
const EDGES_MAX: i64 = 1_000;

/// An awaited job that has ended, with its outcome's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub id: JobId,
    pub outcome: i16,
}

/// What ended jobs leave to be done about those that wait, once their end is committed.
#[derive(Debug, Default)]
pub(crate) struct Dependents {
    /// Jobs that others wait for.
    pub ended: Vec<End>,
    /// Follow-ups that wait for jobs which were there before.
    pub waiters: Vec<JobId>,
}

impl Dependents {
    pub(crate) fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.waiters.is_empty()
    }

    /// Does it. Where there is nothing to do, no statement is sent.
    pub(crate) async fn let_go(self, conn: &mut PgConnection) -> Result<Released, sqlx::Error> {
        let mut released = release(conn, self.ended).await?;
        if !self.waiters.is_empty() {
            released.add(watch(conn, &self.waiters).await?);
        }
        Ok(released)
    }
}

/// What became of waiters.
#[derive(Debug, Default)]
pub(crate) struct Released {
    /// The queues in which jobs have become ready.
    pub queues: BTreeSet<String>,
    /// How many became ready, and how many failed by a dependency.
    pub ready: usize,
    pub failed: usize,
}

impl Released {
    fn add(&mut self, more: Self) {
        self.queues.extend(more.queues);
        self.ready += more.ready;
        self.failed += more.failed;
    }
}

/// Settles everything that waits for these jobs, and for those that fail by that, and so on.
///
/// Each statement commits by itself and may be repeated; what is not reached is swept.
pub(crate) async fn release(conn: &mut PgConnection, mut ended: Vec<End>) -> Result<Released, sqlx::Error> {
    let mut released = Released::default();
    while !ended.is_empty() {
        let open = find_waiters(conn, &ended).await?;
        let are_all = i64::try_from(open.waiters.len()).is_ok_and(|count| count < EDGES_MAX);
        let failed = settle(conn, &open, &mut released).await?;
        if are_all {
            ended.clear();
        }
        ended.extend(failed);
    }
    Ok(released)
}

/// The same after jobs were cancelled before they began, or by the loss of their worker.
pub(crate) async fn release_cancelled(
    conn: &mut PgConnection,
    ids: impl IntoIterator<Item = i64>,
) -> Released {
    let ended = ids.into_iter().map(|id| End { id: JobId(id), outcome: CANCELLED }).collect();
    or_swept(release(conn, ended).await)
}

/// What brought about the release is committed and stands: what could not be released now is left to the sweep.
pub(crate) fn or_swept(released: Result<Released, sqlx::Error>) -> Released {
    released.unwrap_or_else(|error| {
        warn!(error = &error as &dyn std::error::Error, "waiting jobs are left to the sweep");
        Released::default()
    })
}

/// Decides over waiters that have just been written, as far as their parents have ended.
pub(super) async fn settle_all(conn: &mut PgConnection, edges: &[Edge]) -> Result<Released, sqlx::Error> {
    let known = edges.iter().filter_map(|edge| Some((edge.waiter, edge.parent, edge.outcome?)));
    settle_found(conn, Open::of(known)).await
}

/// Settles these edges and what follows from them.
pub(super) async fn settle_found(conn: &mut PgConnection, open: Open) -> Result<Released, sqlx::Error> {
    let mut released = Released::default();
    if open.waiters.is_empty() {
        return Ok(released);
    }
    let failed = settle(conn, &open, &mut released).await?;
    released.add(release(conn, failed).await?);
    Ok(released)
}

/// Edges whose parents have ended, column by column.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub waiters: Vec<i64>,
    pub parents: Vec<i64>,
    pub outcomes: Vec<i16>,
}

impl Open {
    pub(super) fn of(edges: impl Iterator<Item = (i64, i64, i16)>) -> Self {
        let mut open = Self::default();
        for (waiter, parent, outcome) in edges {
            open.waiters.push(waiter);
            open.parents.push(parent);
            open.outcomes.push(outcome);
        }
        open
    }
}

/// Parent by parent: a limit of its own keeps the planner from reading what is open once and joining it with each.
async fn find_waiters(conn: &mut PgConnection, ended: &[End]) -> Result<Open, sqlx::Error> {
    let parents: Vec<i64> = ended.iter().map(|end| end.id.0).collect();
    let outcomes: Vec<i16> = ended.iter().map(|end| end.outcome).collect();
    let rows = sqlx::query!(
        r#"-- queue.find_waiters
        select d.waiter, e.parent as "parent!", e.outcome as "outcome!"
        from unnest($1::bigint[], $2::smallint[]) as e(parent, outcome)
        cross join lateral (
            select d.waiter from queue.dependency d where d.parent = e.parent and d.outcome is null limit $3
        ) as d
        limit $3"#,
        &parents,
        &outcomes,
        EDGES_MAX
    )
    .fetch_all(conn)
    .await?;
    Ok(Open::of(rows.into_iter().map(|row| (row.waiter, row.parent, row.outcome))))
}

/// Settles the edges and answers which waiters failed by that and are waited for themselves.
async fn settle(
    conn: &mut PgConnection,
    open: &Open,
    released: &mut Released,
) -> Result<Vec<End>, sqlx::Error> {
    if open.waiters.is_empty() {
        return Ok(Vec::new());
    }
    let moved = sqlx::query!(
        r#"-- queue.settle_dependencies
        select id as "id!", queue as "queue!", failed as "failed!", awaited as "awaited!"
        from queue.settle_dependencies($1, $2, $3)"#,
        &open.waiters,
        &open.parents,
        &open.outcomes,
    )
    .fetch_all(conn)
    .await?;
    let mut failed = Vec::new();
    for job in moved {
        if job.failed {
            released.failed += 1;
            failed.extend(job.awaited.then_some(End { id: JobId(job.id), outcome: FAILED }));
        } else {
            released.ready += 1;
            released.queues.insert(job.queue);
        }
    }
    Ok(failed)
}
