//! Taking a request back.

use serde_json::json;
use sqlx::PgConnection;

use super::{ApprovalError, ApprovalId, State, end, lapse, locked, record, shown};
use crate::actor::ActorId;

/// Why nothing is taken back.
#[derive(Debug, thiserror::Error)]
pub enum WithdrawError {
    /// There is none.
    #[error("there is no approval {0}")]
    NotFound(ApprovalId),
    /// It is over; if it was consumed, what it allowed has begun.
    #[error("approval {id} is {state} already")]
    Ended {
        /// Which.
        id: ApprovalId,
        /// How it ended.
        state: State,
        /// The job that began what it allowed.
        job: Option<i64>,
    },
    /// The approvals cannot be used.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
}

/// Takes a request back, approved or not: once this has committed, nothing can begin on it (P6). Waits for a transaction
/// that is consuming it. Anybody may stop what has not begun; who did is on record.
pub async fn withdraw(conn: &mut PgConnection, id: ApprovalId, by: ActorId) -> Result<(), WithdrawError> {
    let approval = locked(conn, id).await?.ok_or(WithdrawError::NotFound(id))?;
    if !approval.state.is_live() {
        lapse(conn, id).await?;
        return Err(WithdrawError::Ended { id, state: approval.state, job: approval.consumed_by_job });
    }
    shown(conn, &approval, by).await.map_err(ApprovalError::from)?;
    end(conn, id, State::Withdrawn, Some(by)).await?;
    record(conn, "approval.withdrawn", (id, &approval.digest), (Some(by), None), json!({})).await?;
    Ok(())
}
