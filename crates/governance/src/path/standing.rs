//! What a path lacks for its next rung.

use serde::Serialize;
use sqlx::PgConnection;

use super::{
    Baseline, Path, PathError, PathState, Probe,
    evidence::{baseline, is_registered, probe},
};

/// One thing that a path lacks for its next rung.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What is lacking.
    pub what: String,
    /// What to do.
    pub help: String,
}

impl Missing {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }
}

/// What speaks for a path now, and what it lacks.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// What its target was seen to do; none if it was never tried.
    pub probe: Option<Probe>,
    /// How its newest policy fares on the synced records.
    pub baseline: Baseline,
    /// What it lacks for its next rung; empty at the top.
    pub missing: Vec<Missing>,
}

/// Where a path stands.
pub async fn standing(conn: &mut PgConnection, path: &Path) -> Result<Standing, PathError> {
    let is_registered = is_registered(conn, path).await?;
    let probe = probe(conn, path).await?;
    let baseline = baseline(conn, path).await?;
    let name = &path.name;
    let mut missing = Vec::new();
    match path.state {
        PathState::Catalogued => {
            missing = of_target(path, is_registered, probe.as_ref());
            if missing.is_empty() {
                missing.push(step_of_probe(name));
            }
        }
        PathState::Probed => {
            missing = of_target(path, is_registered, probe.as_ref());
            missing.extend(of_baseline(path, &baseline));
            missing.push(Missing::new(
                "nobody has approved its certification",
                format!("`tenure path certify {name}` asks, once nothing else is missing"),
            ));
        }
        PathState::Certified => missing.push(Missing::new(
            "no change has been written and verified",
            "promote a candidate to assist, then `tenure writeback plan`",
        )),
        PathState::Live => {}
    }
    Ok(Standing { probe, baseline, missing })
}

fn step_of_probe(name: &str) -> Missing {
    Missing::new("its target was tried, and the step is not taken yet", format!("`tenure path probe {name}`"))
}

/// What the target lacks to be written to.
fn of_target(path: &Path, is_registered: bool, probe: Option<&Probe>) -> Vec<Missing> {
    let probe_it = || format!("`tenure path probe {}`", path.name);
    let lacking = match probe {
        _ if !is_registered => Missing::new(
            format!("its target has not been probed: there is no connector {}", path.connector),
            "`tenure connector sync FILE` registers one",
        ),
        None => Missing::new("its target has not been probed", probe_it()),
        Some(probe) if !probe.is_current => {
            Missing::new("its target was probed under another definition of the connector", probe_it())
        }
        Some(Probe { obstacle: Some(obstacle), .. }) => Missing::new(
            format!("no write can succeed: {obstacle}"),
            format!("remove the cause, then {}", probe_it()),
        ),
        Some(probe) if probe.is_blind() => Missing::new(
            "its target could not be read, so nothing may be written there",
            format!("let the target's credential read, then {}", probe_it()),
        ),
        Some(_) => return Vec::new(),
    };
    vec![lacking]
}

/// What the baseline lacks to be clean.
fn of_baseline(path: &Path, baseline: &Baseline) -> Vec<Missing> {
    let Baseline { policy, sync, records, decided, failed, .. } = baseline;
    let sync_it = || format!("`tenure connector sync {} --stream {}`", path.connector, path.stream);
    let mut missing = Vec::new();
    if policy.is_none() {
        missing.push(Missing::new("there is no policy", "`tenure policy add FILE`"));
    }
    match sync.as_deref() {
        Some("complete") if *records > 0 => {}
        Some("complete") => missing.push(Missing::new("the stream has no records", sync_it())),
        Some(ended) => missing.push(Missing::new(
            format!("the last sync of its stream ended as {ended}"),
            format!("{} says why", sync_it()),
        )),
        None => missing.push(Missing::new("the stream has not been synced", sync_it())),
    }
    if let (Some(newest), true) = (policy, decided < records) {
        let version = newest.version;
        missing.push(Missing::new(
            format!(
                "no baseline: version {version} of its policy has decided over {decided} of {records} records"
            ),
            format!("the nightly baseline decides over them, or `tenure review open --path {}`", path.name),
        ));
    }
    if *failed > 0 {
        missing.push(Missing::new(
            format!("no clean baseline: a rule failed on {failed} records"),
            "`tenure policy check FILE` shows where; mend the rule and add it as a new version",
        ));
    }
    missing
}

/// What keeps the path from being probed.
pub(super) async fn lacking_to_be_probed(
    conn: &mut PgConnection,
    path: &Path,
) -> Result<Result<Probe, Vec<Missing>>, PathError> {
    let is_registered = is_registered(conn, path).await?;
    let probe = probe(conn, path).await?;
    let missing = of_target(path, is_registered, probe.as_ref());
    Ok(probe.filter(|_| missing.is_empty()).ok_or(missing))
}

/// What keeps the path from being certified, else what speaks for it.
pub(super) async fn lacking_to_be_certified(
    conn: &mut PgConnection,
    path: &Path,
) -> Result<Result<(Probe, Baseline), Vec<Missing>>, PathError> {
    let probe = lacking_to_be_probed(conn, path).await?;
    let baseline = baseline(conn, path).await?;
    let lacking = of_baseline(path, &baseline);
    Ok(match probe {
        Ok(probe) if lacking.is_empty() => Ok((probe, baseline)),
        Ok(_) => Err(lacking),
        Err(missing) => Err(missing.into_iter().chain(lacking).collect()),
    })
}
