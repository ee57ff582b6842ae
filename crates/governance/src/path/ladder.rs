//! The ladder of a path.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Path, PathError, by_name};
use crate::{
    actor::Actor,
    audit::{self, Event},
};

/// How far a path has come. Only certified and live paths may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathState {
    /// It is known, and nothing more.
    Catalogued,
    /// What its target can do has been tried.
    Probed,
    /// A named person has approved it, after a clean baseline.
    Certified,
    /// A change of it has been written and verified.
    Live,
}

impl PathState {
    /// The rungs from the ground up.
    pub const ALL: [Self; 4] = [Self::Catalogued, Self::Probed, Self::Certified, Self::Live];

    /// As the database and the command line know it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Catalogued => "catalogued",
            Self::Probed => "probed",
            Self::Certified => "certified",
            Self::Live => "live",
        }
    }

    /// The next rung.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Catalogued => Some(Self::Probed),
            Self::Probed => Some(Self::Certified),
            Self::Certified => Some(Self::Live),
            Self::Live => None,
        }
    }
}

impl fmt::Display for PathState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PathState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// A step of a path.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The rung it leads to.
    pub to: PathState,
    /// The approval that was consumed for it, in the same transaction.
    pub approval: Option<Uuid>,
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
    /// A certification without an approval.
    #[error("a path is certified by a named approval, and none was given")]
    NoApproval,
    /// The path is unknown, or the database failed.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// Takes a step and puts it on record: up by one rung, or down by any number. The path's row stays locked to the end
/// of the transaction, of which this is the last call.
pub async fn step(
    conn: &mut PgConnection,
    path: &Path,
    step: &Step,
    actor: &Actor,
) -> Result<Path, StepError> {
    sqlx::query!("-- path.lock\nselect id from tenant.path where id = $1 for update", path.id)
        .fetch_one(&mut *conn)
        .await
        .map_err(PathError::from)?;
    let from = by_name(conn, &path.name).await?.state;
    allowed(from, step)?;
    write(conn, path.id, from, step, actor).await?;
    let body = serde_json::json!({
        "path": path.id, "from": from, "to": step.to, "approval": step.approval, "evidence": step.evidence,
    });
    let event = Event { kind: "path.stepped", actor: Some(actor.id), job: None, body };
    audit::append(conn, &event).await.map_err(PathError::from)?;
    Ok(by_name(conn, &path.name).await?)
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

async fn write(
    conn: &mut PgConnection,
    path: i64,
    from: PathState,
    step: &Step,
    actor: &Actor,
) -> Result<(), PathError> {
    sqlx::query!(
        "-- path.step
        with moved as (update tenant.path set state = $3 where id = $1 and state = $2)
        insert into tenant.path_step (path, number, from_state, to_state, by_actor, approval, evidence)
        select $1, coalesce(max(number), 0) + 1, $2, $3, $4, $5, $6 from tenant.path_step where path = $1",
        path,
        from.as_str(),
        step.to.as_str(),
        actor.id.0,
        step.approval,
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
        select to_state, approval, evidence, at from tenant.path_step where path = $1 order by number",
        path.id
    );
    let steps = rows.fetch_all(conn).await?.into_iter().map(|row| {
        let to = row.to_state.parse().map_err(|()| PathError::State(row.to_state))?;
        Ok(Step { to, approval: row.approval, evidence: row.evidence, at: Some(row.at) })
    });
    steps.collect()
}

/// One thing that a path lacks for its next rung.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What is lacking.
    pub what: String,
    /// What to do.
    pub help: String,
}

impl Missing {
    fn new(what: &str, help: &str) -> Self {
        Self { what: what.to_owned(), help: help.to_owned() }
    }
}

/// What the path lacks for its next rung, as far as this crate's tables tell. What a target or a baseline lacks is
/// added by those who know them.
pub async fn missing(conn: &mut PgConnection, path: &Path) -> Result<Vec<Missing>, PathError> {
    let facts = sqlx::query!(
        r#"-- path.missing
        select exists (select from tenant.policy where path = $1) as "policy!",
            exists (select from tenant.record where connector = $2 and stream = $3) as "records!",
            exists (select from tenant.decision where path = $1) as "decisions!""#,
        path.id,
        path.connector,
        path.stream
    );
    let facts = facts.fetch_one(conn).await?;
    let mut missing = Vec::new();
    match path.state {
        PathState::Catalogued => {
            missing
                .push(Missing::new("the target has not been probed", "`tenure connector check` probes it"));
        }
        PathState::Probed => {
            if !facts.policy {
                missing.push(Missing::new("there is no policy", "`tenure policy add FILE`"));
            }
            if !facts.records {
                missing.push(Missing::new("the stream has not been synced", "`tenure connector sync`"));
            }
            if !facts.decisions {
                missing.push(Missing::new(
                    "no baseline has been run",
                    "the nightly baseline, or `tenure policy check`",
                ));
            }
            missing.push(Missing::new("nobody has approved its certification", "ask for an approval"));
        }
        PathState::Certified => {
            missing.push(Missing::new(
                "no change has been written and verified",
                "promote a candidate to assist",
            ));
        }
        PathState::Live => {}
    }
    Ok(missing)
}
