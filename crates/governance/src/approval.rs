//! Approvals: a fresh, named, single-use yes, bound to a digest of exactly what is to happen.
//!
//! Owns the requests, the decisions on them, and what became of each, per database. Promises: a request is consumed at
//! most once, by the plan it was made for, while enough persons' yeses are fresh (P1, P3, P4, P5); none of them is the
//! requester or the person behind it (P2), except alone, see [`crate::gate`]; a denial or a withdrawal that commits
//! first wins (P6); each of these is in the chain, as an entry whose body has the member `approval` (P8).
//!
//! Two clocks, both the database's: a request that lacks its yeses lapses a window after it was made; a yes is fresh
//! for a window from the moment it was given. What counts is the stricter of the gate at the request and the gate now.
//!
//! Refuses: to run anything, and to say whether a plan is wise.

mod consume;
mod decide;
mod lapse;
mod list;
mod record;
mod request;
mod terms;
#[cfg(test)]
pub(crate) mod tests;
mod withdraw;

use sqlx::PgConnection;

pub use self::{
    consume::{ConsumeError, Consumed, consume},
    decide::{DecideError, Decided, approve, deny},
    lapse::{lapse, sweep},
    list::{get, list, view},
    record::{Alone, Approval, ApprovalId, Decision, NoApproval, State, Verdict},
    request::{RequestError, Requested, request},
    terms::{Terms, TermsError},
    withdraw::{WithdrawError, withdraw},
};
use crate::{
    actor::ActorId,
    audit::{self, AuditError, Event},
    digest::Digest,
    gate, review,
};

/// Why approvals cannot be read or written, whatever is asked of them.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// What the database holds is none.
    #[error("the database holds an approval that is none")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The chain refused the entry.
    #[error("the approval cannot be recorded")]
    Audit(#[from] AuditError),
    /// The database refused or was lost.
    #[error("the approvals cannot be used")]
    Database(#[from] sqlx::Error),
}

/// Locks the approval behind the gates' lock: no decision, withdrawal, consumption or change of a gate comes between
/// what is read from here on and the end of the transaction. False if there is none.
async fn lock(conn: &mut PgConnection, id: ApprovalId) -> Result<bool, sqlx::Error> {
    gate::hold_all(conn).await?;
    let found = sqlx::query_scalar!(
        "-- approval.lock
        select id from governance.approval where id = $1 for update",
        id.0,
    );
    Ok(found.fetch_optional(conn).await?.is_some())
}

/// An approval that is at stake, locked.
async fn locked(conn: &mut PgConnection, id: ApprovalId) -> Result<Option<Approval>, ApprovalError> {
    if lock(conn, id).await? { get(conn, id).await } else { Ok(None) }
}

/// Notes who knows what is to be approved: of a person's word that tells the word. Tenants alone have writebacks.
async fn shown(conn: &mut PgConnection, approval: &Approval, by: ActorId) -> Result<(), sqlx::Error> {
    if approval.class.is_writeback() { review::saw_approval(conn, approval.id, by).await } else { Ok(()) }
}

/// Ends an open approval that is locked.
async fn end(
    conn: &mut PgConnection,
    id: ApprovalId,
    state: State,
    by: Option<ActorId>,
) -> Result<(), ApprovalError> {
    let ended = sqlx::query!(
        "-- approval.end
        update governance.approval set state = $2, ended_at = clock_timestamp(), ended_by = $3
         where id = $1 and state = 'open'",
        id.0,
        state.as_str(),
        by as Option<ActorId>,
    )
    .execute(conn)
    .await?;
    if ended.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound.into()) }
}

/// Puts on record what happened to an approval; the members of `more` stand beside its id and its digest.
async fn record(
    conn: &mut PgConnection,
    kind: &'static str,
    (id, digest): (ApprovalId, &Digest),
    by: (Option<ActorId>, Option<i64>),
    more: serde_json::Value,
) -> Result<(), ApprovalError> {
    let mut body = serde_json::json!({"approval": id.to_string(), "digest": digest});
    if let (Some(body), serde_json::Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    audit::append(conn, &Event { kind, actor: by.0, job: by.1, body }).await?;
    Ok(())
}
