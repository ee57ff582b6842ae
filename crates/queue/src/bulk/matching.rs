//! The jobs that a filter admits, in the order of their ids, a bounded piece of the tables at a time.

use sqlx::PgConnection;

use super::BulkFilter;
use crate::State;

/// Rows of each table that one look may pass over.
const LOOK_ROWS: i64 = 5_000;

/// A job that the filter admits, as it was when it was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Match {
    pub id: i64,
    pub is_live: bool,
    pub state: i16,
    pub fence: i64,
}

impl Match {
    pub(super) fn state(self) -> State {
        if self.is_live { State::live(self.state) } else { State::finished(self.state) }
    }
}

/// Looks at the jobs with ids above `after`, at most [`LOOK_ROWS`] of each table and none above `up_to`. Answers those
/// that the filter admits, and the last id that is done with.
pub(super) async fn look(
    conn: &mut PgConnection,
    filter: &BulkFilter,
    after: i64,
    up_to: i64,
) -> Result<(Vec<Match>, i64), sqlx::Error> {
    let any = filter.states.is_empty();
    let (finished, live): (Vec<State>, Vec<State>) = State::ALL
        .into_iter()
        .filter(|state| any || filter.states.contains(state))
        .partition(|state| state.is_final());
    let end = sqlx::query_scalar!(
        r#"-- queue.bulk_window
        select least($2,
            (select id from queue.job where $4 and id > $1 and id <= $2 order by id offset $3 limit 1),
            (select id from queue.job_history where $5 and id > $1 and id <= $2 order by id offset $3 limit 1)) as "end!""#,
        after,
        up_to,
        LOOK_ROWS - 1,
        !live.is_empty(),
        !finished.is_empty()
    )
    .fetch_one(&mut *conn)
    .await?;
    let codes = |states: Vec<State>| states.into_iter().map(State::code).collect::<Vec<i16>>();
    let matches = sqlx::query_file_as!(
        Match,
        "src/bulk/matching.sql",
        after,
        end,
        &codes(live),
        &codes(finished),
        filter.queue.as_deref(),
        filter.kind.as_deref(),
        filter.tenant,
        filter.priority.map(crate::Priority::code),
        filter.note.as_deref(),
        filter.created_from,
        filter.created_before,
        filter.due_from,
        filter.due_before,
        filter.finished_from,
        filter.finished_before,
    )
    .fetch_all(conn)
    .await?;
    Ok((matches, end))
}
