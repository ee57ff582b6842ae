//! What turned out right.
//!
//! A reviewer says so here. What people change in the source is seen by the schema itself, in the transaction of the
//! sync that brings it (`tenant.observe_truth`).

use serde_json::json;
use sqlx::PgConnection;

use super::{CaseId, Said, ShadowError, case::original, value::whole};
use crate::{
    actor::ActorId,
    audit::{self, Event},
};

/// Keeps what a reviewer found right for a case, in place of what one found before. It counts from now on: a snapshot
/// that is frozen keeps what was known then.
pub async fn settle(
    conn: &mut PgConnection,
    case: CaseId,
    right: &Said,
    by: ActorId,
) -> Result<(), ShadowError> {
    let value = whole(&original(conn, case).await?, right)?;
    sqlx::query!(
        "-- shadow.settle
        insert into tenant.shadow_truth (case_id, source, verdict, value, actor) values ($1, 'reviewer', $2, $3, $4)
        on conflict (case_id, source) do update
        set verdict = excluded.verdict, value = excluded.value, actor = excluded.actor, known_at = excluded.known_at",
        case as CaseId,
        right.verdict.as_str(),
        value,
        by as ActorId,
    )
    .execute(&mut *conn)
    .await?;
    let body = json!({ "case": case.0, "verdict": right.verdict });
    audit::append(conn, &Event { kind: "shadow.truth", actor: Some(by), job: None, body }).await?;
    Ok(())
}
