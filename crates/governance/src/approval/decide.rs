//! Saying yes or no.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

use super::{Approval, ApprovalError, ApprovalId, State, Verdict, end, get, lapse, locked, record, shown};
use crate::{
    actor::{self, ActorError, ActorId},
    digest::Digest,
    gate::{self, GateError},
};

/// A decision that was taken, with where the approval stands after it.
pub type Decided = Approval;

/// Why a decision does not count.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// There is none.
    #[error("there is no approval {0}")]
    NotFound(ApprovalId),
    /// Nobody of this id is known here.
    #[error("the actor {0} is not known here")]
    UnknownActor(ActorId),
    /// A service decides nothing.
    #[error("only a person can decide, and this is a service")]
    NotAPerson,
    /// The requester, or the person behind the service that asked, decides.
    #[error("approval {0} was asked for by you, or on your behalf: somebody else must decide")]
    OwnRequest(ApprovalId),
    /// The gate names persons, and this is none of them.
    #[error("the gate of approval {0} lets only the persons on its list decide")]
    NotAnApprover(ApprovalId),
    /// It is over.
    #[error("approval {id} is {state} already")]
    Ended {
        /// Which.
        id: ApprovalId,
        /// How it ended.
        state: State,
    },
    /// Its time is over; this is on record if the transaction commits.
    #[error("approval {id} has lapsed: it was to be decided and used until {until}")]
    Lapsed {
        /// Which.
        id: ApprovalId,
        /// Until when.
        until: DateTime<Utc>,
    },
    /// What was seen is not what would be approved.
    #[error("approval {id} is for the digest {digest}, which is not what you saw")]
    OtherDigest {
        /// Which.
        id: ApprovalId,
        /// Its digest.
        digest: Digest,
    },
    /// The person has said so before.
    #[error("you have said yes to approval {0} already")]
    Repeated(ApprovalId),
    /// The requester is alone and must wait.
    #[error("approval {id} is your own request: without a second person you may approve it from {from} on")]
    CoolingOff {
        /// Which.
        id: ApprovalId,
        /// From when.
        from: DateTime<Utc>,
    },
    /// The name must be typed.
    #[error("approval {id} wants the name `{name}` typed")]
    NotConfirmed {
        /// Which.
        id: ApprovalId,
        /// The name.
        name: String,
    },
    /// The actors cannot be read.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// The gate cannot be read.
    #[error("the gate cannot be read")]
    Gate(#[from] GateError),
    /// The approvals cannot be used.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
}

impl From<sqlx::Error> for DecideError {
    fn from(error: sqlx::Error) -> Self {
        Self::Approval(error.into())
    }
}

/// Says yes to what has this digest. `confirm` is the name of the thing as it was typed, which a severe class and a
/// requester's own yes ask for.
pub async fn approve(
    conn: &mut PgConnection,
    id: ApprovalId,
    digest: &Digest,
    by: ActorId,
    confirm: Option<&str>,
) -> Result<Decided, DecideError> {
    let (approval, person) = admitted(conn, id, by).await?;
    if approval.digest != *digest {
        return Err(DecideError::OtherDigest { id, digest: approval.digest });
    }
    let alone = person == approval.requested_person;
    if alone {
        may_alone(&approval)?;
    }
    if (alone || approval.class.is_severe()) && confirm != Some(&approval.name) {
        return Err(DecideError::NotConfirmed { id, name: approval.name });
    }
    if !insert(conn, &approval, person, Verdict::Yes, alone).await? {
        return Err(DecideError::Repeated(id));
    }
    let more = json!({"person": person, "alone": alone});
    record(conn, "approval.approved", (id, digest), (Some(by), None), more).await?;
    get(conn, id).await?.ok_or(DecideError::NotFound(id))
}

/// Says no, which ends the approval whatever others said.
pub async fn deny(conn: &mut PgConnection, id: ApprovalId, by: ActorId) -> Result<Decided, DecideError> {
    let (approval, person) = admitted(conn, id, by).await?;
    if person == approval.requested_person {
        return Err(DecideError::OwnRequest(id));
    }
    insert(conn, &approval, person, Verdict::No, false).await?;
    end(conn, id, State::Denied, Some(by)).await?;
    record(conn, "approval.denied", (id, &approval.digest), (Some(by), None), json!({"person": person}))
        .await?;
    get(conn, id).await?.ok_or(DecideError::NotFound(id))
}

/// The locked approval and the person, if it can be decided and the person is on the gate's list.
async fn admitted(
    conn: &mut PgConnection,
    id: ApprovalId,
    by: ActorId,
) -> Result<(Approval, ActorId), DecideError> {
    let actor = actor::by_id(conn, by).await?.ok_or(DecideError::UnknownActor(by))?;
    if actor.person != actor.id {
        return Err(DecideError::NotAPerson);
    }
    let approval = locked(conn, id).await?.ok_or(DecideError::NotFound(id))?;
    match approval.state {
        State::Open | State::Approved => {}
        State::Lapsed if approval.ended_at.is_none() => {
            lapse(conn, id).await?;
            return Err(DecideError::Lapsed { id, until: approval.until() });
        }
        State::Lapsed => return Err(DecideError::Lapsed { id, until: approval.until() }),
        state => return Err(DecideError::Ended { id, state }),
    }
    shown(conn, &approval, by).await?;
    let gate = gate::get(conn, &approval.class).await?;
    if gate.approvers.is_some_and(|list| !list.contains(&actor.person)) {
        return Err(DecideError::NotAnApprover(id));
    }
    Ok((approval, actor.person))
}

/// Whether the requester's own yes counts now.
fn may_alone(approval: &Approval) -> Result<(), DecideError> {
    if approval.alone.is_none() {
        return Err(DecideError::OwnRequest(approval.id));
    }
    if approval.now < approval.cooled_at {
        return Err(DecideError::CoolingOff { id: approval.id, from: approval.cooled_at });
    }
    Ok(())
}

/// Given at the moment at which the approval was found open. False if the person has said so before.
async fn insert(
    conn: &mut PgConnection,
    approval: &Approval,
    person: ActorId,
    verdict: Verdict,
    alone: bool,
) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query!(
        "-- approval.decide
        insert into governance.approval_decision (approval, digest, person, verdict, alone, given_at)
        values ($1, $2, $3, $4, $5, $6)
        on conflict do nothing",
        approval.id.0,
        approval.digest.as_bytes(),
        person as ActorId,
        if verdict == Verdict::Yes { "yes" } else { "no" },
        alone,
        approval.now,
    );
    Ok(inserted.execute(conn).await?.rows_affected() == 1)
}
