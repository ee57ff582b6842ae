//! Looking at who waits for whom.

use serde::Serialize;
use sqlx::PgConnection;

use crate::{JobId, State};

/// Related jobs that are named one by one; of the others the count says enough.
const NAMED_MAX: i64 = 10;

/// Who waits for whom, seen from one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dependencies {
    /// The jobs that this one waits for, or has waited for.
    pub waits_for: Parents,
    /// How many jobs wait, or have waited, for this one.
    pub waited_for_by: i64,
    /// The first of these, those that still wait before the others.
    pub waiters: Vec<Related>,
    /// The job that fanned out into this one.
    pub fanned_out_by: Option<JobId>,
    /// The jobs that wait for what this one fanned out into.
    pub fanned_out_into: Vec<Related>,
}

/// The jobs that one waits for, counted by how they ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the counts carry their names")]
pub struct Parents {
    pub total: i64,
    /// How many have ended.
    pub done: i64,
    pub succeeded: i64,
    pub failed: i64,
    pub cancelled: i64,
    /// Some that have not ended, the oldest first.
    pub open: Vec<Related>,
    /// Some that ended otherwise than well.
    pub bad: Vec<Related>,
}

/// A job on the other side of a dependency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Related {
    /// The job.
    pub id: JobId,
    /// Its state; nothing when history holds it no longer.
    pub state: Option<State>,
}

/// Everything about a job's dependencies, in both directions.
pub(crate) async fn dependencies(conn: &mut PgConnection, id: JobId) -> Result<Dependencies, sqlx::Error> {
    let counts = sqlx::query!(
        r#"-- queue.count_dependencies
        select count(*) as "total!", count(outcome) as "done!", count(*) filter (where outcome = 1) as "succeeded!",
            count(*) filter (where outcome = 2) as "failed!", count(*) filter (where outcome = 3) as "cancelled!",
            (select count(*) from queue.dependency where parent = $1 and policy <> 3) as "waiters!",
            (select parent from queue.dependency where waiter = $1 and policy = 3 limit 1) as origin
        from queue.dependency where waiter = $1 and policy <> 3"#,
        id.0
    )
    .fetch_one(&mut *conn)
    .await?;
    let rows = sqlx::query!(
        r#"-- queue.related_jobs
        select r.id as "id!", r.role as "role!", j.state as "state?", h.outcome as "outcome?"
        from (
            (select parent as id, 'open' as role from queue.dependency
             where waiter = $1 and settled_at is null order by parent limit $2)
            union all
            (select parent, 'bad' from queue.dependency
             where waiter = $1 and outcome <> 1 and policy <> 3 order by parent limit $2)
            union all
            (select waiter, 'waiter' from queue.dependency
             where parent = $1 and policy <> 3 order by outcome nulls first, waiter limit $2)
            union all
            (select waiter, 'into' from queue.dependency where parent = $1 and policy = 3 order by waiter limit $2)
        ) as r
        left join queue.job j on j.id = r.id
        left join lateral (
            select h.outcome from queue.job_history h where j.id is null and h.id = r.id limit 1
        ) as h on true"#,
        id.0,
        NAMED_MAX
    )
    .fetch_all(conn)
    .await?;
    let named = |role: &str| -> Vec<Related> {
        let rows = rows.iter().filter(|row| row.role == role);
        rows.map(|row| Related {
            id: JobId(row.id),
            state: row.state.map(State::live).or(row.outcome.map(State::finished)),
        })
        .collect()
    };
    Ok(Dependencies {
        waits_for: Parents {
            total: counts.total,
            done: counts.done,
            succeeded: counts.succeeded,
            failed: counts.failed,
            cancelled: counts.cancelled,
            open: named("open"),
            bad: named("bad"),
        },
        waited_for_by: counts.waiters,
        waiters: named("waiter"),
        fanned_out_by: counts.origin.map(JobId),
        fanned_out_into: named("into"),
    })
}
