//! What the path says of a change, at this moment: whether it may be written at all, and by whose wish.

use std::time::Duration;

use sqlx::PgConnection;

use super::{Plan, WritebackError};
use crate::{actor::ActorId, digest::Digest};

/// A path as far as writing is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub path: String,
    /// The connector whose records it governs.
    pub connector: String,
    /// The stream.
    pub stream: String,
    /// The fields that may be written.
    pub fields: Vec<String>,
    /// Where it is on the ladder.
    pub state: String,
    /// Changes sent in a day (UTC), at most.
    pub daily_cap: i32,
    /// Mismatches in a row after which the candidate is demoted.
    pub breaker_limit: i32,
    /// The newest version of its policy, and the digest of that.
    pub policy: Option<(i32, Digest)>,
    /// The candidate that is not off: its name, its generation, and whether it is autonomous.
    pub candidate: Option<(String, i64, bool)>,
}

/// Why a change may not be written now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such path.
    #[error("there is no path {0:?}")]
    NoPath(String),
    /// Nothing is written on a path that nobody has certified.
    #[error("the path {path:?} is {state}: only certified paths may write")]
    NotCertified {
        /// The path.
        path: String,
        /// Where it is.
        state: String,
    },
    /// No candidate of the path may write.
    #[error("the path {0:?} is off: promote a candidate to assist or autonomous first")]
    Off(String),
    /// In assist only what a person accepted is written.
    #[error("the path {0:?} only assists: a person has to accept this very change")]
    NotAccepted(String),
    /// The plan is of a stream or of fields that the path does not govern.
    #[error("the path {path:?} does not govern {what}")]
    NotGoverned {
        /// The path.
        path: String,
        /// What it does not govern.
        what: String,
    },
    /// The policy has another version now.
    #[error("the policy of the path {0:?} has changed since: plan the change again")]
    PolicyChanged(String),
    /// So many were sent today.
    #[error("the path {path:?} has sent {cap} changes today, its daily cap")]
    CapReached {
        /// The path.
        path: String,
        /// Its cap.
        cap: i32,
        /// How long until the next day begins.
        again: Duration,
    },
}

impl Refusal {
    /// The word for it in the chain.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoPath(_) => "no_path",
            Self::NotCertified { .. } => "not_certified",
            Self::Off(_) => "phase_off",
            Self::NotAccepted(_) => "not_accepted",
            Self::NotGoverned { .. } => "not_governed",
            Self::PolicyChanged(_) => "policy_changed",
            Self::CapReached { .. } => "daily_cap",
        }
    }
}

/// That a change may be written, by this candidate's standing; none for a compensation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// The candidate and its generation.
    pub candidate: Option<(String, i64)>,
}

/// The path of this name.
pub async fn rule(conn: &mut PgConnection, path: &str) -> Result<Option<Rule>, WritebackError> {
    let row = sqlx::query!(
        r#"-- writeback.rule
        select p.name, p.connector, p.stream, p.fields, p.state, p.daily_cap, p.breaker_limit,
            y.version as "version?", y.digest as "digest?",
            c.name as "candidate?", c.generation as "generation?", c.phase as "phase?"
        from tenant.path p
        left join lateral (
            select version, digest from tenant.policy where path = p.id order by version desc limit 1) y on true
        left join tenant.candidate c on c.path = p.name and c.phase <> 'off'
        where p.name = $1"#,
        path,
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let candidate = row.candidate.zip(row.generation).zip(row.phase);
    Ok(Some(Rule {
        path: row.name,
        connector: row.connector,
        stream: row.stream,
        fields: row.fields,
        state: row.state,
        daily_cap: row.daily_cap,
        breaker_limit: row.breaker_limit,
        policy: row.version.zip(row.digest.map(Digest::try_from).transpose()?),
        candidate: candidate.map(|((name, generation), phase)| (name, generation, phase == "autonomous")),
    }))
}

impl Rule {
    /// Whether the plan may be written as things stand, without looking at the cap.
    pub fn admits(&self, plan: &Plan, accepted_by: Option<ActorId>) -> Result<Leave, Refusal> {
        let path = || self.path.clone();
        if !matches!(self.state.as_str(), "certified" | "live") {
            return Err(Refusal::NotCertified { path: path(), state: self.state.clone() });
        }
        if (&plan.connector, &plan.stream) != (&self.connector, &self.stream) {
            let what = format!("the stream {} of {}", plan.stream, plan.connector);
            return Err(Refusal::NotGoverned { path: path(), what });
        }
        if let Some(field) = plan.desired.keys().find(|field| !self.fields.contains(field)) {
            return Err(Refusal::NotGoverned { path: path(), what: format!("the field {field}") });
        }
        // What was written may be taken back whatever has become of the path's automation since.
        if plan.compensates.is_some() {
            return Ok(Leave { candidate: None });
        }
        if self.policy.as_ref() != Some(&plan.policy) {
            return Err(Refusal::PolicyChanged(path()));
        }
        match &self.candidate {
            None => Err(Refusal::Off(path())),
            Some((_, _, false)) if accepted_by.is_none() => Err(Refusal::NotAccepted(path())),
            Some((name, generation, _)) => Ok(Leave { candidate: Some((name.clone(), *generation)) }),
        }
    }
}

/// Whether the plan may be written now. Holds the path and its candidate as they are until the transaction ends: a
/// demotion that commits first stops it, and changes under way count against the cap.
pub async fn leave(
    conn: &mut PgConnection,
    plan: &Plan,
    accepted_by: Option<ActorId>,
) -> Result<Result<Leave, Refusal>, WritebackError> {
    hold(conn, &plan.path).await?;
    let Some(rule) = rule(conn, &plan.path).await? else {
        return Ok(Err(Refusal::NoPath(plan.path.clone())));
    };
    let leave = match rule.admits(plan, accepted_by) {
        Ok(leave) => leave,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if plan.compensates.is_none()
        && let Some(again) = cap_reached(conn, &rule).await?
    {
        return Ok(Err(Refusal::CapReached { path: rule.path, cap: rule.daily_cap, again }));
    }
    Ok(Ok(leave))
}

/// Two statements, so that what is read afterwards is what is held.
async fn hold(conn: &mut PgConnection, path: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- writeback.hold_path\nselect id from tenant.path where name = $1 for no key update",
        path
    )
    .fetch_optional(&mut *conn)
    .await?;
    sqlx::query!(
        "-- writeback.hold_candidates
        select id from tenant.candidate where path = $1 order by id for share",
        path,
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}

/// How long until the next day, if today's are used up. A day is one of UTC, by the database's clock.
async fn cap_reached(conn: &mut PgConnection, rule: &Rule) -> Result<Option<Duration>, sqlx::Error> {
    let today = sqlx::query!(
        r#"-- writeback.sent_today
        select count(*) as "sent!",
            extract(epoch from date_trunc('day', now(), 'UTC') + interval '1 day' - now())::float8 as "left!"
        from tenant.writeback
        where path = $1 and compensates is null and intent_at >= date_trunc('day', now(), 'UTC')"#,
        rule.path,
    )
    .fetch_one(conn)
    .await?;
    let again = Duration::from_secs_f64(today.left.max(0.0));
    Ok((today.sent >= i64::from(rule.daily_cap)).then_some(again))
}
