//! Using an approval up, in the transaction that starts what it allows.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

use super::{Alone, Approval, ApprovalError, ApprovalId, State, get, lapse, lock, record};
use crate::{actor::ActorId, digest::Digest};

/// An approval that was used up, for the receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the receipt says who approved, and whether alone"]
pub struct Consumed {
    /// Which.
    pub id: ApprovalId,
    /// What was approved.
    pub digest: Digest,
    /// The persons whose yeses carry it, the youngest yes first.
    pub persons: Vec<ActorId>,
    /// Why the requester's own yes counted, if it did: the receipt must say so.
    pub alone: Option<Alone>,
    /// When, by the database's clock.
    pub at: DateTime<Utc>,
}

/// Why an approval does not let the step begin.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// There is none.
    #[error("there is no approval {0}")]
    NotFound(ApprovalId),
    /// What is about to be done is not what was asked for: ask again.
    #[error(
        "approval {id} is for {approved}, and the plan now is {planned}: it has changed and must be asked for anew"
    )]
    PlanChanged {
        /// Which.
        id: ApprovalId,
        /// What was asked for.
        approved: Digest,
        /// What is about to be done.
        planned: Digest,
    },
    /// Persons have yet to say yes.
    #[error("approval {id} has {yeses} of the {needed} yeses that the gate asks for")]
    Undecided {
        /// Which.
        id: ApprovalId,
        /// How many count now.
        yeses: i64,
        /// How many must.
        needed: i16,
        /// When it lapses.
        until: DateTime<Utc>,
    },
    /// Its time is over: ask again. This is on record if the transaction commits.
    #[error("approval {id} has lapsed: it was to be decided and used until {until}")]
    Lapsed {
        /// Which.
        id: ApprovalId,
        /// Until when.
        until: DateTime<Utc>,
    },
    /// It was denied, withdrawn or used up before.
    #[error("approval {id} is {state} already")]
    Ended {
        /// Which.
        id: ApprovalId,
        /// How it ended.
        state: State,
        /// The job that used it up.
        job: Option<i64>,
    },
    /// The approvals cannot be used.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
}

impl From<sqlx::Error> for ConsumeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Approval(error.into())
    }
}

/// Uses the approval up for exactly this digest, which the caller has recomputed from what it is about to do; in the
/// transaction that starts it, late in it: the chain is locked from here to its end. `by` and `job` are who and what
/// begins.
///
/// The consumption is one statement that asks for everything at once. The lock before it only keeps the clock honest:
/// a statement that waited for a row has read the clock before it waited.
pub async fn consume(
    conn: &mut PgConnection,
    id: ApprovalId,
    digest: &Digest,
    by: Option<ActorId>,
    job: Option<i64>,
) -> Result<Consumed, ConsumeError> {
    lock(conn, id).await?;
    let consumed = sqlx::query!(
        r#"-- approval.consume
        update governance.approval a
           set state = 'consumed', ended_at = clock_timestamp(), ended_by = $3, consumed_by_job = $4
          from governance.approval_standing s
         where a.id = $1 and a.digest = $2 and a.state = 'open'
           and s.id = a.id and s.approved_until > clock_timestamp()
        returning a.ended_at as "at!", s.persons as "persons!: Vec<ActorId>""#,
        id.0,
        digest.as_bytes(),
        by as Option<ActorId>,
        job,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let approval = get(conn, id).await?.ok_or(ConsumeError::NotFound(id))?;
    let Some(consumed) = consumed else { return Err(refusal(conn, &approval, digest).await?) };
    let persons = consumed.persons;
    let alone = approval.alone.filter(|_| persons.contains(&approval.requested_person));
    let more = json!({"persons": persons, "alone": alone});
    record(conn, "approval.consumed", (id, digest), (by, job), more).await?;
    Ok(Consumed { id, digest: *digest, persons, alone, at: consumed.at })
}

/// Why the statement found nothing to consume.
async fn refusal(
    conn: &mut PgConnection,
    approval: &Approval,
    planned: &Digest,
) -> Result<ConsumeError, ConsumeError> {
    let id = approval.id;
    if approval.digest != *planned {
        return Ok(ConsumeError::PlanChanged { id, approved: approval.digest, planned: *planned });
    }
    Ok(match approval.state {
        State::Lapsed => {
            lapse(conn, id).await?;
            ConsumeError::Lapsed { id, until: approval.until() }
        }
        State::Open | State::Approved => ConsumeError::Undecided {
            id,
            yeses: approval.yeses,
            needed: approval.needed,
            until: approval.until(),
        },
        state => ConsumeError::Ended { id, state, job: approval.consumed_by_job },
    })
}
