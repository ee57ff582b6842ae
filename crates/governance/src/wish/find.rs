//! Wishes as they stand.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::{State, WishError, WishId};
use crate::{
    review::ReviewId,
    writeback::{self, WritebackId},
};

/// A wish, and its writeback where there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wish {
    /// Its number.
    pub decision: WishId,
    /// The case whose word it rests on; none where policy alone asks.
    pub review_case: Option<ReviewId>,
    /// What has become of it.
    pub state: State,
    /// Its writeback.
    pub writeback: Option<WritebackId>,
    /// Where that is.
    pub writeback_state: Option<writeback::State>,
    /// The approval that the writeback waits for or has used.
    pub approval: Option<String>,
    /// Why nothing is written, as a word of ours.
    pub reason: Option<String>,
    /// The same in words.
    pub detail: Option<String>,
    /// Since when it is wanted.
    pub wished_at: DateTime<Utc>,
}

/// The wish of this decision, if anything is wanted of it.
pub async fn find(conn: &mut PgConnection, id: WishId) -> Result<Option<Wish>, WishError> {
    let row = sqlx::query!(
        r#"-- wish.find
        select w.decision as "decision: WishId", w.review_case as "review_case: ReviewId", w.state, w.writeback,
            b.state as "writeback_state?", b.approval as "approval?", w.reason, w.detail, w.wished_at
        from tenant.wish w left join tenant.writeback b on b.id = w.writeback where w.decision = $1"#,
        id as WishId,
    );
    let Some(row) = row.fetch_optional(conn).await? else { return Ok(None) };
    Ok(Some(Wish {
        decision: row.decision,
        review_case: row.review_case,
        state: State::read(&row.state)?,
        writeback: row.writeback.map(WritebackId),
        writeback_state: row
            .writeback_state
            .map(|state| state.parse())
            .transpose()
            .map_err(|_| WishError::Stored("writeback's state"))?,
        approval: row.approval.map(|id| id.to_string()),
        reason: row.reason,
        detail: row.detail,
        wished_at: row.wished_at,
    }))
}

/// Wishes that are to be planned, the oldest decision first.
pub async fn due(conn: &mut PgConnection, limit: i64) -> Result<Vec<WishId>, WishError> {
    let ids = sqlx::query_scalar!(
        r#"-- wish.due
        select decision as "id: WishId" from tenant.wish where state = 'due' order by decision limit $1"#,
        limit,
    );
    Ok(ids.fetch_all(conn).await?)
}

/// Of these, the ones of this path that policy alone wants.
pub async fn due_of_policy(
    conn: &mut PgConnection,
    path: &str,
    limit: i64,
) -> Result<Vec<WishId>, WishError> {
    let ids = sqlx::query_scalar!(
        r#"-- wish.due_of_policy
        select w.decision as "id: WishId" from tenant.wish w
        join tenant.decision d on d.id = w.decision join tenant.path p on p.id = d.path
        where w.state = 'due' and w.review_case is null and p.name = $1 order by w.decision limit $2"#,
        path,
        limit,
    );
    Ok(ids.fetch_all(conn).await?)
}

/// How many changes policy alone has wanted since then, by path.
pub async fn taken_up(
    conn: &mut PgConnection,
    since: DateTime<Utc>,
) -> Result<BTreeMap<String, u64>, WishError> {
    let rows = sqlx::query!(
        r#"-- wish.taken_up
        select p.name, count(*) as "taken!" from tenant.wish w
        join tenant.decision d on d.id = w.decision join tenant.path p on p.id = d.path
        where w.review_case is null and w.wished_at >= $1 group by p.name"#,
        since,
    );
    Ok(rows.fetch_all(conn).await?.into_iter().map(|row| (row.name, row.taken.cast_unsigned())).collect())
}
