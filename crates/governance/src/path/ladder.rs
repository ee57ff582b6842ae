//! The ladder of a path: steps, and which of them exist.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use super::{Missing, Path, PathError, PathState, by_name};
use crate::{
    actor::ActorId,
    approval::{ApprovalId, ConsumeError, RequestError},
    audit::{self, Event},
    canonical::CanonicalError,
};

/// A step of a path.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The rung it leads to.
    pub to: PathState,
    /// The approval that was consumed for it, in the same transaction.
    pub approval: Option<ApprovalId>,
    /// What speaks for it: digests, counts and ids, as the audit chain takes them.
    pub evidence: Value,
    /// When it was taken.
    pub at: Option<DateTime<Utc>>,
}

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It skips a rung, or leads nowhere.
    #[error("a path that is {from} does not become {to} in one step")]
    NotNext {
        /// Where the path is.
        from: PathState,
        /// Where it was to go.
        to: PathState,
    },
    /// It was to be lowered and does not lead down.
    #[error("a path that is {from} cannot be lowered to {to}")]
    NotDown {
        /// Where the path is.
        from: PathState,
        /// Where it was to go.
        to: PathState,
    },
    /// What speaks for it is not all there.
    #[error("the path {path} cannot become {to}: {}", told(missing))]
    Lacking {
        /// The path.
        path: String,
        /// Where it was to go.
        to: PathState,
        /// What it lacks; never empty.
        missing: Vec<Missing>,
    },
    /// A certification without an approval.
    #[error("a path is certified by a named approval, and none was given")]
    NoApproval,
    /// Nobody can be asked.
    #[error("nobody can be asked to approve the certification")]
    Request(#[from] RequestError),
    /// The approval does not let the step begin.
    #[error("the certification's approval cannot be used")]
    Consume(#[from] ConsumeError),
    /// The evidence has no canonical form.
    #[error("what speaks for the step has no canonical form")]
    Canonical(#[from] CanonicalError),
    /// The path is unknown, or the database failed.
    #[error(transparent)]
    Path(#[from] PathError),
}

fn told(missing: &[Missing]) -> String {
    missing.iter().map(|it| it.what.as_str()).collect::<Vec<_>>().join("; ")
}

/// Keeps the path where it is until the transaction ends, and says where that is.
pub(super) async fn hold(conn: &mut PgConnection, name: &str) -> Result<Path, PathError> {
    sqlx::query!("-- path.hold\nselect id from tenant.path where name = $1 for update", name)
        .fetch_optional(&mut *conn)
        .await?;
    by_name(conn, name).await
}

/// Takes a step of a path that is held, and puts it on record: up by one rung, or down by any number. The last call of
/// its transaction.
pub(super) async fn step(
    conn: &mut PgConnection,
    held: &Path,
    step: &Step,
    by: ActorId,
    job: Option<i64>,
) -> Result<Path, StepError> {
    allowed(held.state, step)?;
    write(conn, held, step, by).await?;
    let body = serde_json::json!({
        "path": held.id, "from": held.state, "to": step.to, "approval": step.approval, "evidence": step.evidence,
    });
    let event = Event { kind: "path.stepped", actor: Some(by), job, body };
    audit::append(conn, &event).await.map_err(PathError::from)?;
    Ok(by_name(conn, &held.name).await?)
}

fn allowed(from: PathState, step: &Step) -> Result<(), StepError> {
    let to = step.to;
    if to >= from && from.next() != Some(to) {
        return Err(StepError::NotNext { from, to });
    }
    // Back from live it is still what was approved.
    if to == PathState::Certified && from < to && step.approval.is_none() {
        return Err(StepError::NoApproval);
    }
    Ok(())
}

async fn write(conn: &mut PgConnection, held: &Path, step: &Step, by: ActorId) -> Result<(), PathError> {
    sqlx::query!(
        "-- path.step
        with moved as (update tenant.path set state = $3 where id = $1 and state = $2)
        insert into tenant.path_step (path, number, from_state, to_state, by_actor, approval_id, evidence)
        select $1, coalesce(max(number), 0) + 1, $2, $3, $4, $5, $6 from tenant.path_step where path = $1",
        held.id,
        held.state.as_str(),
        step.to.as_str(),
        by as ActorId,
        step.approval.map(|id| id.0),
        step.evidence
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The steps a path has taken, the first first.
pub async fn steps(conn: &mut PgConnection, path: &Path) -> Result<Vec<Step>, PathError> {
    let rows = sqlx::query!(
        "-- path.steps
        select to_state, approval_id, evidence, at from tenant.path_step where path = $1 order by number",
        path.id
    );
    let steps = rows.fetch_all(conn).await?.into_iter().map(|row| {
        let to = row.to_state.parse().map_err(|()| PathError::State(row.to_state))?;
        let approval = row.approval_id.map(ApprovalId);
        Ok(Step { to, approval, evidence: row.evidence, at: Some(row.at) })
    });
    steps.collect()
}
