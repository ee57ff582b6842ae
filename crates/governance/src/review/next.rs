//! What comes next for a person.

use serde_json::json;
use sqlx::PgConnection;

use super::{Case, ReviewError, ReviewId, find::get};
use crate::{
    actor::ActorId,
    audit::{self, Event},
};

/// What a person wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Give the first word on an open case.
    Decide,
    /// Give a second word, blind, on a case that another person has decided.
    Confirm,
}

/// The oldest case that waits for this of this person, as it was while it was open; that it was shown is put on record.
/// A case that is somebody else's, that has gone stale, or on which this person has spoken or knows the word, is not
/// among them.
pub async fn next(
    conn: &mut PgConnection,
    path: Option<&str>,
    task: Task,
    by: ActorId,
) -> Result<Option<Case>, ReviewError> {
    let id = match task {
        Task::Decide => to_decide(conn, path, by).await?,
        Task::Confirm => to_confirm(conn, path, by).await?,
    };
    match id {
        Some(id) => view_blind(conn, id, by).await,
        None => Ok(None),
    }
}

/// The case as it was while it was open, whatever was said since; that it was shown is put on record.
pub async fn view_blind(
    conn: &mut PgConnection,
    id: ReviewId,
    by: ActorId,
) -> Result<Option<Case>, ReviewError> {
    let Some(case) = get(conn, id).await? else { return Ok(None) };
    let body = json!({ "case": id.0, "decision": case.decision, "input": case.input_digest, "blind": true });
    audit::append(conn, &Event { kind: "review.viewed", actor: Some(by), job: None, body }).await?;
    Ok(Some(case.blind()))
}

async fn to_decide(
    conn: &mut PgConnection,
    path: Option<&str>,
    by: ActorId,
) -> Result<Option<ReviewId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- review.next_open
        select c.id as "id: ReviewId" from tenant.review_case c
        join tenant.path p on p.id = c.path
        join tenant.decision d on d.id = c.decision
        join tenant.record r on r.connector = p.connector and r.stream = p.stream and r.key = c.key
            and r.digest = d.record_digest and r.deleted_at is null
        where c.state = 'open' and (c.assignee is null or c.assignee = $2) and ($1::text is null or p.name = $1)
        order by c.assignee is null, c.id limit 1"#,
        path,
        by as ActorId,
    )
    .fetch_optional(conn)
    .await
}

async fn to_confirm(
    conn: &mut PgConnection,
    path: Option<&str>,
    by: ActorId,
) -> Result<Option<ReviewId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- review.next_to_confirm
        select c.id as "id: ReviewId" from tenant.review_case c
        join tenant.path p on p.id = c.path
        where c.state in ('accepted', 'corrected', 'rejected') and c.closed_by <> $2 and c.shadow_case is not null
          and ($1::text is null or p.name = $1)
          and not exists (
            select from tenant.shadow_truth t where t.case_id = c.shadow_case and t.source = 'reviewer')
          and not exists (
            select from tenant.review_seen s join tenant.review_case o on o.id = s.review_case
            where o.shadow_case = c.shadow_case and s.actor = $2)
          and not exists (select from tenant.shadow_baseline b where b.case_id = c.shadow_case and b.actor = $2)
        order by c.id limit 1"#,
        path,
        by as ActorId,
    )
    .fetch_optional(conn)
    .await
}
