//! Noticing that an approval's time is over.

use serde_json::json;
use sqlx::PgConnection;

use super::{ApprovalError, ApprovalId, State, end, locked, record};
use crate::gate;

/// Ends the approval if its time is over, and says whether it did.
pub async fn lapse(conn: &mut PgConnection, id: ApprovalId) -> Result<bool, ApprovalError> {
    let overdue = locked(conn, id).await?;
    let overdue = overdue.filter(|found| found.state == State::Lapsed && found.ended_at.is_none());
    let Some(approval) = overdue else { return Ok(false) };
    end(conn, id, State::Lapsed, None).await?;
    let more = json!({"until": approval.until().to_rfc3339(), "yeses": approval.yeses});
    record(conn, "approval.lapsed", (id, &approval.digest), (None, None), more).await?;
    Ok(true)
}

/// Ends up to `limit` approvals whose time is over, the oldest first, and returns how many. For a nightly job and for
/// whoever lists them; repeat until it returns less than the limit.
pub async fn sweep(conn: &mut PgConnection, limit: i64) -> Result<u64, ApprovalError> {
    let overdue = sqlx::query_scalar!(
        r#"-- approval.overdue
        select a.id
          from governance.approval a
          join governance.approval_standing s on s.id = a.id
         where a.state = 'open' and coalesce(s.approved_until, s.request_until) <= clock_timestamp()
         order by a.id
         limit $1"#,
        limit,
    )
    .fetch_all(&mut *conn)
    .await?;
    // All of them before the first entry of the chain, as whoever decides one locks it before that.
    gate::hold_all(conn).await?;
    sqlx::query!(
        "-- approval.lock_overdue
        select from governance.approval where id = any($1) order by id for update",
        &overdue,
    )
    .execute(&mut *conn)
    .await?;
    let mut lapsed = 0;
    for id in overdue {
        lapsed += u64::from(lapse(conn, ApprovalId(id)).await?);
    }
    Ok(lapsed)
}
