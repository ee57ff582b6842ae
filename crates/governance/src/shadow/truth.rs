//! What turned out right.
//!
//! Nobody's word alone is the truth, least of all the word that a candidate is measured by. A reviewer's verdict is
//! ground truth once **two persons said the same of a case**, each by the first word that they gave on it, and without having been shown another's. The first
//! two who agree settle it. While all differ the case has no truth, and another person may decide: whoever that one
//! agrees with was right. A person who says the same twice is still one person; the second word only shows how far people
//! agree with themselves. The schema holds this too (`tenant.two_persons_said`).
//!
//! What people change in the source is seen by the schema itself, in the transaction of the sync that brings it
//! (`tenant.observe_truth`).

use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{CaseId, ShadowError};
use crate::{
    actor::ActorId,
    audit::{self, Event},
    decision::Verdict,
};

/// Keeps what was just said as the truth if another person said the same before and nothing else is settled. It counts
/// from now on: a snapshot that is frozen keeps what was known then.
pub(super) async fn settle(
    conn: &mut PgConnection,
    case: CaseId,
    verdict: Verdict,
    value: Option<&Value>,
    by: ActorId,
) -> Result<(), ShadowError> {
    let settled = sqlx::query!(
        "-- shadow.settle
        insert into tenant.shadow_truth (case_id, source, verdict, value, actor)
        select $1, 'reviewer', $2, $3, $4 where tenant.two_persons_said($1, $2, $3)
        on conflict (case_id, source) do nothing",
        case as CaseId,
        verdict.as_str(),
        value,
        by as ActorId,
    )
    .execute(&mut *conn)
    .await?;
    if settled.rows_affected() == 0 {
        return Ok(());
    }
    let body = json!({ "case": case.0, "verdict": verdict });
    audit::append(conn, &Event { kind: "shadow.truth", actor: Some(by), job: None, body }).await?;
    Ok(())
}

/// Whether persons have settled what is right for a case.
pub async fn is_settled(conn: &mut PgConnection, case: CaseId) -> Result<bool, ShadowError> {
    let found = sqlx::query_scalar!(
        r#"-- shadow.is_settled
        select exists (
            select from tenant.shadow_truth where case_id = $1 and source = 'reviewer') as "it_is!""#,
        case as CaseId,
    );
    Ok(found.fetch_one(conn).await?)
}

/// How many cases of a path have a truth that persons settled.
pub async fn settled(conn: &mut PgConnection, path: &str) -> Result<i64, ShadowError> {
    let settled = sqlx::query_scalar!(
        r#"-- shadow.settled
        select count(*) as "settled!" from tenant.shadow_truth join tenant.shadow_case c on c.id = case_id
        where c.path = $1 and source = 'reviewer'"#,
        path,
    );
    Ok(settled.fetch_one(conn).await?)
}
