//! The end of a wish.

use serde_json::json;
use sqlx::PgConnection;

use super::{WishError, WishId};
use crate::{
    audit::{self, Event},
    writeback::WritebackId,
};

/// Locks the wish to the end of the transaction: before anything is appended to the chain by whoever settles it then.
pub async fn hold(conn: &mut PgConnection, id: WishId) -> Result<(), WishError> {
    sqlx::query!("-- wish.hold\nselect from tenant.wish where decision = $1 for no key update", id as WishId)
        .execute(conn)
        .await?;
    Ok(())
}

/// The wish has its writeback, in the transaction that entered it. [`WishError::Settled`] if it came to an end before:
/// then that transaction must not commit.
pub async fn planned(conn: &mut PgConnection, id: WishId, writeback: WritebackId) -> Result<(), WishError> {
    let settled = sqlx::query!(
        "-- wish.planned
        update tenant.wish set state = 'planned', writeback = $2, settled_at = now()
        where decision = $1 and state = 'due'",
        id as WishId,
        writeback.0,
    );
    once(id, settled.execute(conn).await?.rows_affected())
}

/// Nothing is written, for this reason: a word of ours, and the same in words. The last call of its transaction.
pub async fn refuse(
    conn: &mut PgConnection,
    id: WishId,
    reason: &'static str,
    detail: &str,
    job: i64,
) -> Result<(), WishError> {
    let settled = sqlx::query!(
        "-- wish.refuse
        update tenant.wish set state = 'refused', reason = $2, detail = $3, settled_at = now()
        where decision = $1 and state = 'due'",
        id as WishId,
        reason,
        detail,
    );
    once(id, settled.execute(&mut *conn).await?.rows_affected())?;
    let body = json!({ "decision": id, "reason": reason });
    audit::append(conn, &Event { kind: "wish.refused", actor: None, job: Some(job), body }).await?;
    Ok(())
}

fn once(id: WishId, rows: u64) -> Result<(), WishError> {
    if rows == 1 { Ok(()) } else { Err(WishError::Settled(id)) }
}
