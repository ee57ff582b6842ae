//! A wish that rests on a person's word.

use sqlx::PgConnection;

use super::{State, WishError, WishId};
use crate::{actor::ActorId, review::ReviewId};

/// Keeps that what a person accepted or corrected is to be written, if the path has a candidate that may write; else
/// that it is not. [`WishError::WantedAlready`] if policy alone wants something of the decision. In the transaction of the word; its entry in the chain says which.
pub async fn of_case(
    conn: &mut PgConnection,
    decision: WishId,
    path: &str,
    case: ReviewId,
    by: ActorId,
) -> Result<State, WishError> {
    let state = sqlx::query_scalar!(
        "-- wish.of_case
        insert into tenant.wish (decision, review_case, requested_by, state, settled_at)
        select $1, $2, $3, case when is_active then 'due' else 'off' end, case when not is_active then now() end
        from (select exists (select from tenant.candidate where path = $4 and phase <> 'off') as is_active) as path
        on conflict (decision) do nothing returning state",
        decision as WishId,
        case as ReviewId,
        by as ActorId,
        path,
    );
    let state = state.fetch_optional(conn).await?.ok_or(WishError::WantedAlready(decision))?;
    State::read(&state)
}
