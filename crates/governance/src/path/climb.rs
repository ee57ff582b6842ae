//! Each step of the ladder, with what it takes.

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{
    Baseline, Path, PathError, PathState, Probe, Step, StepError,
    ladder::{hold, step},
    standing::{lacking_to_be_certified, lacking_to_be_probed},
    stored::by_name,
};
use crate::{
    actor::{Actor, ActorId},
    approval::{self, ConsumeError, Requested, Terms},
    canonical::CanonicalError,
    digest::Digest,
    gate::ActionClass,
};

/// To *probed*, on what was found when the target was last tried.
pub async fn probed(conn: &mut PgConnection, name: &str, by: &Actor) -> Result<Path, StepError> {
    let to = PathState::Probed;
    let path = hold_below(conn, name, to).await?;
    let probe = lacking_to_be_probed(conn, &path).await?;
    let probe = probe.map_err(|missing| StepError::Lacking { path: name.to_owned(), to, missing })?;
    let evidence = json!({ "probe": probe.digest()?, "capability": probe.capability });
    step(conn, &path, &Step { to, approval: None, evidence, at: None }, by.id, None).await
}

/// What came of a wish to certify.
#[derive(Clone, Debug)]
pub enum Certifying {
    /// The path is certified, and the approval used up.
    Certified(Path),
    /// Somebody has to say yes; with exactly this evidence it can be tried again then.
    Asked(Requested),
}

/// To *certified*: asks for the approval if nobody has, uses it up if it is given. Either belongs to the transaction,
/// of which this is the last call.
pub async fn certify(conn: &mut PgConnection, name: &str, by: &Actor) -> Result<Certifying, StepError> {
    let to = PathState::Certified;
    let path = hold_below(conn, name, to).await?;
    let evidence = lacking_to_be_certified(conn, &path).await?;
    let evidence = evidence.map_err(|missing| StepError::Lacking { path: name.to_owned(), to, missing })?;
    let evidence = Evidence { taken: taken(conn, &path).await?, probe: &evidence.0, baseline: &evidence.1 };
    // The request that is open for exactly this, or a new one.
    let asked = approval::request(conn, &evidence.terms(&path)?, by.id, None).await?;
    let consumed = match approval::consume(conn, asked.id, &asked.digest, Some(by.id), None).await {
        Ok(consumed) => consumed,
        Err(ConsumeError::Undecided { .. }) => return Ok(Certifying::Asked(asked)),
        Err(error) => return Err(error.into()),
    };
    let evidence = evidence.of_step()?;
    let approval = Some(consumed.id);
    let certified = step(conn, &path, &Step { to, approval, evidence, at: None }, by.id, None).await?;
    Ok(Certifying::Certified(certified))
}

/// What an approval of a certification is bound to.
struct Evidence<'a> {
    /// Steps taken before: whoever lowers the path meanwhile voids the approval.
    taken: i32,
    probe: &'a Probe,
    baseline: &'a Baseline,
}

impl Evidence<'_> {
    fn of_step(&self) -> Result<Value, CanonicalError> {
        Ok(json!({
            "probe": self.probe.digest()?, "capability": self.probe.capability, "policy": self.baseline.policy,
            "baseline": self.baseline.digest()?, "records": self.baseline.records,
        }))
    }

    fn terms(&self, path: &Path) -> Result<Terms, CanonicalError> {
        let Path { id, name, connector, stream, fields, daily_cap, breaker_limit, .. } = path;
        let plan = json!({
            "change": "certify a path", "path": name, "id": id, "connector": connector, "stream": stream,
            "fields": fields, "from": PathState::Probed, "to": PathState::Certified,
            "target": { "capability": self.probe.capability, "seen": self.probe.evidence },
            "baseline": self.baseline,
        });
        Ok(Terms {
            validators: json!({
                "steps": self.taken, "probe": self.probe.digest()?, "baseline": self.baseline.digest()?,
            }),
            policy_version: self.baseline.policy.map(|it| it.version.to_string()),
            limits: json!({ "daily_cap": daily_cap, "breaker_limit": breaker_limit }),
            ..Terms::new(ActionClass::certification(), name.clone(), vec![format!("path/{name}")], plan)
        })
    }
}

/// How many steps the path has taken.
async fn taken(conn: &mut PgConnection, path: &Path) -> Result<i32, PathError> {
    let taken = sqlx::query_scalar!(
        r#"-- path.taken
        select coalesce(max(number), 0) as "taken!" from tenant.path_step where path = $1"#,
        path.id
    );
    Ok(taken.fetch_one(conn).await?)
}

/// To *live*, if the path is certified; else nothing. In the transaction in which a change of it became verified, before
/// that puts anything on record.
pub(crate) async fn lift(
    conn: &mut PgConnection,
    name: &str,
    evidence: Value,
    by: ActorId,
    job: Option<i64>,
) -> Result<(), StepError> {
    let certified = sqlx::query_scalar!(
        "-- path.hold_certified
        select id from tenant.path where name = $1 and state = 'certified' for update",
        name
    );
    if certified.fetch_optional(&mut *conn).await.map_err(PathError::from)?.is_none() {
        return Ok(());
    }
    let path = hold(conn, name).await?;
    let to = PathState::Live;
    step(conn, &path, &Step { to, approval: None, evidence, at: None }, by, job).await?;
    Ok(())
}

/// Down to any rung, at once and for nothing: what is under way there is refused at its next step.
pub async fn lower(
    conn: &mut PgConnection,
    name: &str,
    to: PathState,
    by: &Actor,
) -> Result<Path, StepError> {
    let path = hold(conn, name).await?;
    if to >= path.state {
        return Err(StepError::NotDown { from: path.state, to });
    }
    step(conn, &path, &Step { to, approval: None, evidence: json!({}), at: None }, by.id, None).await
}

/// A path that fell because its connector was defined anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fallen {
    /// Its name.
    pub path: String,
    /// The rung that it stood on.
    pub from: PathState,
}

/// Down to the ground with every path of a connector that is defined anew: what was probed and certified was another
/// target. In the transaction of the new definition, before that puts anything on record.
pub async fn redefined(
    conn: &mut PgConnection,
    connector: &str,
    definition: Digest,
    by: ActorId,
) -> Result<Vec<Fallen>, StepError> {
    let to = PathState::Catalogued;
    // All are held, whatever their rung: one may be climbing in this moment.
    let names = sqlx::query_scalar!(
        "-- path.hold_of_connector\nselect name from tenant.path where connector = $1 order by id for update",
        connector
    );
    let names = names.fetch_all(&mut *conn).await.map_err(PathError::from)?;
    let mut fallen = Vec::new();
    for name in names {
        let path = by_name(conn, &name).await?;
        if path.state > to {
            let evidence = json!({ "definition": definition });
            step(conn, &path, &Step { to, approval: None, evidence, at: None }, by, None).await?;
            fallen.push(Fallen { path: name, from: path.state });
        }
    }
    Ok(fallen)
}

/// The path, held, if this rung is the next.
async fn hold_below(conn: &mut PgConnection, name: &str, to: PathState) -> Result<Path, StepError> {
    let path = hold(conn, name).await?;
    if path.state.next() == Some(to) { Ok(path) } else { Err(StepError::NotNext { from: path.state, to }) }
}
