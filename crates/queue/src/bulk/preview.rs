//! What a filter admits, before anything is done.

use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::PgConnection;

use super::{BulkAction, BulkError, BulkFilter, BulkPlan, matching};
use crate::{JobId, JobRecord, State, inspect};

/// How many jobs a preview shows.
const SAMPLE: usize = 10;

/// How long a preview counts before it says "at least".
const COUNTING_MAX: Duration = Duration::from_secs(10);

/// What a filter admits at this moment.
#[derive(Debug, Clone, Serialize)]
pub struct BulkPreview {
    /// What would be carried out.
    pub plan: BulkPlan,
    /// How many jobs the filter admits; at least so many unless `is_exact`.
    pub matched: u64,
    /// How many of them the action admits; the others would be skipped.
    pub admitted: u64,
    /// Whether every job was looked at; otherwise the time was over.
    pub is_exact: bool,
    /// How many are in which state, for the states that occur.
    pub states: Vec<(State, u64)>,
    /// The oldest of them, as they are.
    pub sample: Vec<JobRecord>,
}

/// Counts what the filter admits among the jobs that exist.
pub(crate) async fn preview(
    conn: &mut PgConnection,
    filter: BulkFilter,
    action: BulkAction,
) -> Result<BulkPreview, BulkError> {
    let plan = BulkPlan::new(filter, action, JobId(newest(conn).await?))?;
    let began = Instant::now();
    let (mut counts, mut sample, mut looked_up_to) = ([0; State::ALL.len()], Vec::new(), 0);
    while looked_up_to < plan.up_to().0 && began.elapsed() < COUNTING_MAX {
        let (matches, end) = matching::look(conn, plan.filter(), looked_up_to, plan.up_to().0).await?;
        looked_up_to = end;
        for found in &matches {
            let state = State::ALL.iter().position(|state| *state == found.state());
            counts[state.expect("all states are listed")] += 1;
        }
        let missing = SAMPLE - sample.len();
        sample.extend(matches.iter().map(|found| JobId(found.id)).take(missing));
    }
    let states: Vec<(State, u64)> =
        State::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
    let mut shown = Vec::new();
    for id in sample {
        // One that ended and left history meanwhile is not shown.
        shown.extend(inspect::get(conn, id).await?);
    }
    Ok(BulkPreview {
        matched: states.iter().map(|(_, count)| count).sum(),
        admitted: states.iter().filter(|(state, _)| action.admits(*state)).map(|(_, count)| count).sum(),
        is_exact: looked_up_to >= plan.up_to().0,
        states,
        sample: shown,
        plan,
    })
}

/// The newest id that is committed; 0 if there is none.
async fn newest(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- queue.bulk_newest
        select greatest((select max(id) from queue.job), (select max(id) from queue.job_history), 0) as "newest!""#
    )
    .fetch_one(conn)
    .await
}
