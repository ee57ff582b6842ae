//! Asking for an approval.

use serde_json::json;
use sqlx::PgConnection;

use super::{ApprovalError, ApprovalId, Terms, TermsError, lapse, record, terms::Bound};
use crate::{
    actor::{self, ActorError, ActorId},
    digest::Digest,
    gate::{self, GateError, is_mode_switch},
};

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requested {
    /// Its number.
    pub id: ApprovalId,
    /// What a yes is bound to.
    pub digest: Digest,
    /// False if the same was asked for before and is still open: that request counts, by whomever it was made.
    pub is_new: bool,
}

/// Why nothing can be asked for.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody of this id is known here.
    #[error("the requester {0} is not known here")]
    UnknownActor(ActorId),
    /// The actors cannot be read.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// What is to be done cannot be approved as it is.
    #[error("nobody can be asked to approve this")]
    Terms(#[from] TermsError),
    /// The gate cannot be read.
    #[error("what the gate asks for cannot be read")]
    Gate(#[from] GateError),
    /// The approvals cannot be used.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
}

impl From<sqlx::Error> for RequestError {
    fn from(error: sqlx::Error) -> Self {
        Self::Approval(error.into())
    }
}

/// Asks for an approval on behalf of the actor and the person behind it; `job` waits for it. The same terms are asked
/// for once at a time: a job that is started again finds its request. At least one person is asked, even where the gate
/// would do without: a policy may be stricter.
pub async fn request(
    conn: &mut PgConnection,
    terms: &Terms,
    by: ActorId,
    job: Option<i64>,
) -> Result<Requested, RequestError> {
    let person = actor::by_id(conn, by).await?.ok_or(RequestError::UnknownActor(by))?.person;
    let gate = gate::hold(conn, &terms.action).await?;
    let bound = terms.bind(conn).await?;
    if let Some(open) = open(conn, &bound.digest).await? {
        // An old one that nobody has noticed stands in the way of a new one.
        if !lapse(conn, open).await? {
            return Ok(Requested { id: open, digest: bound.digest, is_new: false });
        }
    }
    let Some(id) = insert(conn, terms, &bound, (by, person, job), &gate).await? else {
        // Somebody else has asked for it in this moment, and has committed.
        let id = open(conn, &bound.digest).await?.ok_or(sqlx::Error::RowNotFound)?;
        return Ok(Requested { id, digest: bound.digest, is_new: false });
    };
    let more = json!({
        "class": terms.action, "plan": Digest::of(&bound.plan), "person": person,
        "persons": gate.persons.max(1), "window_secs": gate.window_secs,
    });
    record(conn, "approval.requested", (id, &bound.digest), (Some(by), job), more).await?;
    Ok(Requested { id, digest: bound.digest, is_new: true })
}

async fn open(conn: &mut PgConnection, digest: &Digest) -> Result<Option<ApprovalId>, sqlx::Error> {
    let found = sqlx::query_scalar!(
        "-- approval.open
        select id from governance.approval where digest = $1 and state = 'open'",
        digest.as_bytes(),
    );
    Ok(found.fetch_optional(conn).await?.map(ApprovalId))
}

/// None if the same is open already.
async fn insert(
    conn: &mut PgConnection,
    terms: &Terms,
    bound: &Bound,
    (by, person, job): (ActorId, ActorId, Option<i64>),
    gate: &gate::Gate,
) -> Result<Option<ApprovalId>, sqlx::Error> {
    let inserted = sqlx::query_scalar!(
        "-- approval.insert
        insert into governance.approval
               (class, name, content, digest, plan, requested_by, requested_person, waiting_job, persons,
                window_secs, alone)
        select $1, $2, $3, $4, $5, $6, $7, $8, greatest($9::smallint, 1), $10,
               case when m.single_admin then 'single_admin'
                    when $11 and 1 = (select count(*) from governance.actor where id = person) then 'nobody_else'
               end
          from governance.gate_mode m
        on conflict (digest) where state = 'open' do nothing
        returning id",
        terms.action.as_str(),
        terms.name,
        bound.content,
        bound.digest.as_bytes(),
        bound.plan,
        by as ActorId,
        person as ActorId,
        job,
        gate.persons,
        gate.window_secs,
        is_mode_switch(&terms.action, &terms.targets),
    );
    Ok(inserted.fetch_optional(conn).await?.map(ApprovalId))
}
