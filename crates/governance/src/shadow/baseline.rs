//! What people say of a case.

use serde_json::json;
use sqlx::PgConnection;

use super::{CaseId, Said, ShadowError, case::original, truth::settle, value::whole};
use crate::{
    actor::ActorId,
    audit::{self, Event},
};

/// Keeps what a person said of a case, and answers the how-manieth word on it that is: 1 is the baseline, 2 the replay
/// that shows how far people agree among themselves. It stays, whatever turns out. A word that another person gave
/// before is the truth about the case from now on: see `truth.rs`.
pub async fn say(
    conn: &mut PgConnection,
    case: CaseId,
    said: &Said,
    by: ActorId,
) -> Result<i16, ShadowError> {
    let value = whole(&original(conn, case).await?, said)?;
    // Two at a time: the second waits here, else both would be the same number.
    sqlx::query!(
        "-- shadow.lock_case
        select from tenant.shadow_case where id = $1 for no key update",
        case as CaseId,
    )
    .execute(&mut *conn)
    .await?;
    let number = sqlx::query_scalar!(
        "-- shadow.say
        insert into tenant.shadow_baseline (case_id, number, verdict, value, actor)
        select $1, coalesce(max(number), 0) + 1, $2, $3, $4 from tenant.shadow_baseline where case_id = $1
        returning number",
        case as CaseId,
        said.verdict.as_str(),
        value,
        by as ActorId,
    );
    let number = number.fetch_one(&mut *conn).await?;
    let body = json!({ "case": case.0, "number": number, "verdict": said.verdict });
    audit::append(conn, &Event { kind: "shadow.baseline", actor: Some(by), job: None, body }).await?;
    settle(conn, case, said.verdict, value.as_ref(), by).await?;
    Ok(number)
}
