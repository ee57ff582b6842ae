//! All of a writeback's contact with gates and approvals.

use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{Writeback, WritebackError};
use crate::{
    actor::ActorId,
    approval::{self, ApprovalId, ConsumeError, State, Terms},
    gate::{self, ActionClass},
};

/// What the gate asks of a writeback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nobody.
    Nobody,
    /// Persons, who answer this request.
    Approval(i64),
}

/// Where the answer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// The gate asks for nobody.
    NotNeeded,
    /// It was asked for, and is there.
    Given,
    /// Yeses are lacking.
    Undecided,
    /// It will not come.
    Refused {
        /// Why, as a word of ours.
        reason: &'static str,
        /// Why, in words.
        detail: String,
    },
}

/// Asks for the approval that the gate wants, and notes it with the writeback. Harmless to repeat.
pub async fn ask(
    conn: &mut PgConnection,
    writeback: &Writeback,
    job: Option<i64>,
) -> Result<Asked, WritebackError> {
    if let Some(approval) = writeback.approval {
        return Ok(Asked::Approval(approval));
    }
    let class = class(writeback)?;
    if gate::hold(conn, &class).await.map_err(consent)?.persons == 0 {
        return Ok(Asked::Nobody);
    }
    let terms = terms(writeback, class)?;
    let requested = approval::request(conn, &terms, writeback.requested_by, job).await.map_err(consent)?;
    sqlx::query!(
        "-- writeback.note_approval
        update tenant.writeback set approval = $2 where id = $1",
        writeback.id.0,
        requested.id.0,
    )
    .execute(conn)
    .await?;
    Ok(Asked::Approval(requested.id.0))
}

/// Where the answer stands, without using it.
pub async fn look(conn: &mut PgConnection, writeback: &Writeback) -> Result<Consent, WritebackError> {
    let Some(id) = writeback.approval else {
        let gate = gate::get(conn, &class(writeback)?).await.map_err(consent)?;
        return Ok(if gate.persons == 0 { Consent::NotNeeded } else { Consent::Undecided });
    };
    let approval = approval::get(conn, ApprovalId(id)).await.map_err(consent)?;
    let approval = approval.ok_or(WritebackError::Stored("approval"))?;
    Ok(standing(approval.state, id))
}

fn standing(state: State, id: i64) -> Consent {
    let refused = |reason| Consent::Refused { reason, detail: format!("approval {id} is {state}") };
    match state {
        State::Open => Consent::Undecided,
        State::Approved => Consent::Given,
        State::Denied => refused("denied"),
        State::Withdrawn => refused("withdrawn"),
        State::Lapsed => refused("lapsed"),
        State::Consumed => refused("consumed_elsewhere"),
    }
}

/// Uses the approval up, for the plan as it is. In the transaction of the intent.
pub(super) async fn consume(
    conn: &mut PgConnection,
    writeback: &Writeback,
    job: i64,
) -> Result<Consent, WritebackError> {
    let class = class(writeback)?;
    // Held to the end: a gate that is raised in this moment counts for this change, or for none before it.
    let gate = gate::hold(conn, &class).await.map_err(consent)?;
    let Some(id) = writeback.approval else {
        return Ok(if gate.persons == 0 { Consent::NotNeeded } else { Consent::Undecided });
    };
    let terms = terms(writeback, class)?;
    let digest = terms.digest(conn).await.map_err(consent)?;
    match approval::consume(conn, ApprovalId(id), &digest, None, Some(job)).await {
        Ok(_) => Ok(Consent::Given),
        Err(ConsumeError::Undecided { .. }) => Ok(Consent::Undecided),
        Err(error @ ConsumeError::PlanChanged { .. }) => {
            Ok(Consent::Refused { reason: "plan_changed", detail: error.to_string() })
        }
        Err(error @ ConsumeError::Lapsed { .. }) => {
            Ok(Consent::Refused { reason: "lapsed", detail: error.to_string() })
        }
        Err(ConsumeError::Ended { id, state, .. }) => Ok(standing(state, id.0)),
        Err(error) => Err(consent(error)),
    }
}

/// Takes a change back that has not begun: by its approval, where there is one.
pub async fn withdraw(
    conn: &mut PgConnection,
    writeback: &Writeback,
    by: ActorId,
) -> Result<(), WritebackError> {
    match writeback.approval {
        Some(id) => approval::withdraw(conn, ApprovalId(id), by).await.map_err(consent),
        None => Ok(()),
    }
}

fn class(writeback: &Writeback) -> Result<ActionClass, WritebackError> {
    ActionClass::writeback(&writeback.plan.class).map_err(consent)
}

/// What exactly is approved: the plan to the byte.
fn terms(writeback: &Writeback, action: ActionClass) -> Result<Terms, WritebackError> {
    let plan = &writeback.plan;
    let shown: Value = serde_json::from_slice(&plan.to_bytes()?).map_err(consent)?;
    let target = format!("{}/{}/{}", plan.connector, plan.stream, plan.key);
    Ok(Terms {
        validators: json!({ "version": plan.validator }),
        policy_version: Some(plan.policy.0.to_string()),
        limits: json!({ "records": 1 }),
        ..Terms::new(action, plan.path.clone(), vec![target], shown)
    })
}

fn consent(error: impl std::error::Error) -> WritebackError {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    WritebackError::Consent(text)
}
