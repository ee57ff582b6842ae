//! Jobs that wait for other jobs.
//!
//! A waiter stands in `waiting` with a row in `queue.dependency` for each job that it waits for. How such a parent ends
//! settles the row, once and for all; when the rows decide the waiter's fate it becomes `ready`, or fails. Three things
//! see to that. Whoever ends an awaited job looks for its waiters in a second statement. Whoever enqueues a waiter for a
//! job that exists marks that job as awaited *after* the commit and looks once more: no transaction of a caller ever holds
//! a lock on a job that may be running. And the [sweep](sweep) goes over what is open, for everything that died
//! between two statements: it is the truth, the others only save time.
//!
//! A circle can arise only among jobs that are enqueued together, since ids of jobs that do not exist yet cannot be
//! named: it is refused before anything is written.

mod again;
mod graph;
mod look;
mod settle;
mod sweep;

use std::fmt;

use serde::Serialize;
use sqlx::{Connection, PgConnection};

use crate::{EnqueueError, Enqueued, JobId, NewJob, enqueue};

pub(crate) use again::wait_again;
pub(crate) use look::dependencies;
pub use look::{Dependencies, Parents, Related};
pub(crate) use settle::{Dependents, End, Released, or_swept, release_cancelled};
pub(crate) use sweep::{Cursor, forget, sweep, watch};

/// For how many others a job may wait. They are written in one transaction: 10,000 keep a flusher busy for a moment, ten
/// times as many would hold up everything else that ends meanwhile.
pub const DEPENDENCIES_MAX: usize = 10_000;

/// The dependencies of all the jobs of one bulk together, for the same reason.
pub const DEPENDENCIES_IN_BULK_MAX: usize = 100_000;

/// A job that another waits for: one that exists, or one of the same bulk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parent {
    /// The job with this id, live or still in history.
    Job(JobId),
    /// The job at this position of the same bulk, from 0. Where its unique key is taken that is the job which has it.
    Position(usize),
}

impl From<JobId> for Parent {
    fn from(id: JobId) -> Self {
        Self::Job(id)
    }
}

/// Until when a job waits for another, and what becomes of it if that one fails, is cancelled, or can be found no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Until it has succeeded; otherwise the waiter fails at once, and so do those that wait for *its* success.
    Succeeded = 0,
    /// Until it has succeeded; otherwise the waiter waits no longer, for this one or for others.
    SucceededElseReleased = 1,
    /// Until it has ended, however that was.
    Ended = 2,
}

/// The policy of a row that is not waited for: it leads from a follow-up to the job that fanned out into it.
const ORIGIN: i16 = 3;

/// Why jobs that wait for each other, or for others, were not enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DependencyError {
    /// No such job is to be seen: it never existed, history has forgotten it, or it is none of the waiter's tenant.
    #[error("a job cannot wait for job {0}: there is no such job, or history holds it no longer")]
    NotFound(JobId),
    /// A position of the bulk that does not exist.
    #[error("a job cannot wait for position {position}: the bulk has {jobs} jobs, counted from 0")]
    NoSuchPosition {
        /// The position that was named.
        position: usize,
        /// The size of the bulk.
        jobs: usize,
    },
    /// Jobs of the bulk that would wait for each other for ever.
    #[error("jobs would wait for each other in a circle: {}", Circle(.0))]
    Circle(Vec<usize>),
    /// More than a job may wait for.
    #[error(
        "a job may wait for at most {DEPENDENCIES_MAX} others, and the jobs of a bulk for {DEPENDENCIES_IN_BULK_MAX} together; this is {0}: wait for jobs that wait for parts of them"
    )]
    TooMany(usize),
}

/// The positions of a circle, with their order.
struct Circle<'a>(&'a [usize]);

impl fmt::Display for Circle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A person sees the point of a circle from its first members.
        const SHOWN: usize = 10;
        for position in self.0.iter().take(SHOWN) {
            write!(f, "position {position} waits for ")?;
        }
        if self.0.len() > SHOWN {
            write!(f, "… ({} in all), which waits for ", self.0.len())?;
        }
        write!(f, "position {}", self.0[0])
    }
}

/// Whether any of the jobs waits for another: only then this module has anything to do.
pub(crate) fn any(jobs: &[NewJob]) -> bool {
    jobs.iter().any(|job| !job.after.is_empty())
}

/// Enqueues jobs some of which wait, all or none, in a transaction or savepoint of its own.
pub(crate) async fn enqueue(conn: &mut PgConnection, jobs: &[NewJob]) -> Result<Vec<Enqueued>, EnqueueError> {
    graph::check(jobs)?;
    let mut tx = conn.begin().await?;
    let enqueued = enqueue::insert_all(&mut tx, jobs).await?;
    let mut edges = graph::edges(jobs, &enqueued);
    find_parents(&mut tx, &mut edges).await?;
    attach(&mut tx, &edges, &enqueued).await?;
    // What has ended before counts as though it ended now.
    settle::settle_all(&mut tx, &edges).await?;
    tx.commit().await?;
    Ok(enqueued)
}

/// The jobs whose waiting has to be [watched](watch) once they are committed: they wait for jobs that were there before.
pub(crate) fn to_watch(jobs: &[NewJob], enqueued: &[Enqueued]) -> Vec<JobId> {
    let was_there = |parent: &Parent| match parent {
        Parent::Job(_) => true,
        Parent::Position(position) => enqueued[*position].existing,
    };
    let waiters = jobs
        .iter()
        .zip(enqueued)
        .filter(|(job, answer)| !answer.existing && job.after.iter().any(|(parent, _)| was_there(parent)));
    waiters.map(|(_, answer)| answer.id).collect()
}

/// One job that waits for one other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    waiter: i64,
    parent: i64,
    policy: i16,
    /// How the parent ended, as in history; nothing while it lives.
    outcome: Option<i16>,
    /// The waiter's tenant: a job sees those of its own tenant only.
    tenant: Option<uuid::Uuid>,
    /// The parent was enqueued by the same call.
    is_new: bool,
}

/// Looks up the parents that were there before. One that is another tenant's is not found, like one that never was.
async fn find_parents(conn: &mut PgConnection, edges: &mut [Edge]) -> Result<(), EnqueueError> {
    let old: Vec<usize> = (0..edges.len()).filter(|&i| !edges[i].is_new).collect();
    if old.is_empty() {
        return Ok(());
    }
    let parents: Vec<i64> = old.iter().map(|&i| edges[i].parent).collect();
    let tenants: Vec<Option<uuid::Uuid>> = old.iter().map(|&i| edges[i].tenant).collect();
    // In one snapshot a job is either live or in history, also while it moves.
    let found = sqlx::query!(
        r#"-- queue.find_parents
        select j.id is not null as "live!", h.outcome as "outcome?"
        from unnest($1::bigint[], $2::uuid[]) with ordinality as w(parent, tenant, i)
        left join lateral (
            select j.id from queue.job j where j.id = w.parent and (w.tenant is null or j.tenant = w.tenant) limit 1
        ) as j on true
        left join lateral (
            select h.outcome from queue.job_history h
            where j.id is null and h.id = w.parent and (w.tenant is null or h.tenant = w.tenant) limit 1
        ) as h on true
        order by w.i"#,
        &parents,
        &tenants as _,
    )
    .fetch_all(conn)
    .await?;
    for (&i, found) in old.iter().zip(found) {
        if !found.live && found.outcome.is_none() {
            return Err(DependencyError::NotFound(JobId(edges[i].parent)).into());
        }
        edges[i].outcome = found.outcome;
    }
    Ok(())
}

/// Writes the edges, lets the waiters wait, and marks the new jobs that are waited for.
async fn attach(conn: &mut PgConnection, edges: &[Edge], enqueued: &[Enqueued]) -> Result<(), sqlx::Error> {
    insert_edges(conn, edges).await?;
    let waiters: std::collections::HashSet<i64> = edges.iter().map(|edge| edge.waiter).collect();
    let awaited: std::collections::HashSet<i64> =
        edges.iter().filter(|edge| edge.is_new).map(|edge| edge.parent).collect();
    let touched: Vec<i64> = enqueued
        .iter()
        .filter(|answer| !answer.existing)
        .map(|answer| answer.id.0)
        .filter(|id| waiters.contains(id) || awaited.contains(id))
        .collect();
    let waits: Vec<bool> = touched.iter().map(|id| waiters.contains(id)).collect();
    let is_awaited: Vec<bool> = touched.iter().map(|id| awaited.contains(id)).collect();
    sqlx::query!(
        "-- queue.attach
        update queue.job j
        set state = case when t.waits then 2 else j.state end, reason = case when t.waits then 7 else j.reason end,
            awaited = t.awaited
        from unnest($1::bigint[], $2::boolean[], $3::boolean[]) as t(id, waits, awaited)
        where j.id = any($1) and j.id = t.id",
        &touched,
        &waits,
        &is_awaited,
    )
    .execute(conn)
    .await
    .map(drop)
}

async fn insert_edges(conn: &mut PgConnection, edges: &[Edge]) -> Result<(), sqlx::Error> {
    let waiters: Vec<i64> = edges.iter().map(|edge| edge.waiter).collect();
    let parents: Vec<i64> = edges.iter().map(|edge| edge.parent).collect();
    let policies: Vec<i16> = edges.iter().map(|edge| edge.policy).collect();
    let outcomes: Vec<Option<i16>> = edges.iter().map(|edge| edge.outcome).collect();
    sqlx::query!(
        "-- queue.insert_dependencies
        insert into queue.dependency (waiter, parent, policy, outcome, settled_at)
        select waiter, parent, policy, outcome, case when outcome is not null then now() end
        from unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::smallint[])
            as e(waiter, parent, policy, outcome)",
        &waiters,
        &parents,
        &policies,
        &outcomes as _,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Leads from the follow-ups that wait back to the job that left them.
pub(crate) async fn trace_origin(
    conn: &mut PgConnection,
    origin: JobId,
    jobs: &[NewJob],
    enqueued: &[Enqueued],
) -> Result<(), sqlx::Error> {
    let waiting = jobs.iter().zip(enqueued).filter(|(job, answer)| !job.after.is_empty() && !answer.existing);
    let edges: Vec<Edge> = waiting
        .map(|(_, answer)| Edge {
            waiter: answer.id.0,
            parent: origin.0,
            policy: ORIGIN,
            outcome: Some(crate::finish::SUCCEEDED),
            tenant: None,
            is_new: false,
        })
        .collect();
    if edges.is_empty() { Ok(()) } else { insert_edges(conn, &edges).await }
}
