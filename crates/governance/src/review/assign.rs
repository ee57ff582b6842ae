//! Saying who is to decide a case.

use serde_json::json;
use sqlx::PgConnection;

use super::{Case, ReviewError, ReviewId, admitted, decide::person, get};
use crate::{
    actor::ActorId,
    audit::{self, Event},
};

/// Gives the case to a person, or to nobody, if it still is as it was seen. Anybody may: it decides nothing, and the
/// chain keeps who did.
pub async fn assign(
    conn: &mut PgConnection,
    id: ReviewId,
    seen: i32,
    to: Option<ActorId>,
    by: ActorId,
) -> Result<Case, ReviewError> {
    if let Some(to) = to {
        person(conn, to).await?;
    }
    let case = admitted(conn, id, seen).await?;
    sqlx::query!(
        "-- review.assign
        update tenant.review_case set assignee = $2, version = version + 1, changed_at = now() where id = $1",
        id as ReviewId,
        to as Option<ActorId>,
    )
    .execute(&mut *conn)
    .await?;
    let body = json!({ "case": id.0, "to": to, "version": case.version + 1 });
    audit::append(conn, &Event { kind: "review.assigned", actor: Some(by), job: None, body }).await?;
    get(conn, id).await?.ok_or(ReviewError::NotFound(id))
}
