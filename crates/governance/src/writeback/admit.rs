//! What the path says of a change, at this moment: whether it may be written at all, and by whose wish.

use std::time::Duration;

use sqlx::PgConnection;

use super::{Plan, WritebackError};
use crate::{
    actor::ActorId,
    digest::Digest,
    policy::{Fields, Policy},
};

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
    /// How sure policy alone must be, in per cent: what the newest version says. Nothing is sure enough where it cannot
    /// be read.
    pub floor: u8,
    /// The candidate that is not off.
    pub candidate: Option<Active>,
}

/// A candidate that may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// Its name.
    pub name: String,
    /// How often its phase was set.
    pub generation: i64,
    /// Whether it may write without a person.
    pub is_autonomous: bool,
    /// The version of the policy that it was promoted with, and the digest of that.
    pub policy: Option<(i32, Digest)>,
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
    /// What policy alone wants was decided by rules that nobody has promoted.
    #[error(
        "the candidate of the path {0:?} was promoted with another version of the policy: a person has to accept"
    )]
    OtherPolicy(String),
    /// Policy alone is not sure enough.
    #[error(
        "the decision is {confidence} % sure, and policy alone may write on the path {path:?} from {floor} %"
    )]
    NotSure {
        /// The path.
        path: String,
        /// How sure it is.
        confidence: u8,
        /// How sure it would have to be.
        floor: u8,
    },
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
            Self::OtherPolicy(_) => "other_policy",
            Self::NotSure { .. } => "not_sure",
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
            y.version as "version?", y.digest as "digest?", y.text as "text?",
            c.name as "candidate?", c.generation as "generation?", c.phase as "phase?",
            (convert_from(c.definition, 'UTF8')::jsonb #>> '{policy,version}')::int as own_version,
            convert_from(c.definition, 'UTF8')::jsonb #>> '{policy,digest}' as own_digest
        from tenant.path p
        left join lateral (
            select version, digest, text from tenant.policy where path = p.id order by version desc limit 1) y on true
        left join tenant.candidate c on c.path = p.name and c.phase <> 'off'
        where p.name = $1"#,
        path,
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let active = row.candidate.zip(row.generation).zip(row.phase);
    let own = row.own_version.zip(row.own_digest.and_then(|digest| digest.parse().ok()));
    let candidate = active.map(|((name, generation), phase)| Active {
        name,
        generation,
        is_autonomous: phase == "autonomous",
        policy: own,
    });
    let acts_alone = candidate.as_ref().is_some_and(|candidate| candidate.is_autonomous);
    Ok(Some(Rule {
        path: row.name,
        connector: row.connector,
        stream: row.stream,
        fields: row.fields,
        state: row.state,
        daily_cap: row.daily_cap,
        breaker_limit: row.breaker_limit,
        policy: row.version.zip(row.digest.map(Digest::try_from).transpose()?),
        floor: row.text.filter(|_| acts_alone).map_or(NOTHING_PASSES, |text| floor(&text)),
        candidate,
    }))
}

/// Above every confidence.
const NOTHING_PASSES: u8 = 101;

/// How sure the rules of this text must be to go on without a person.
fn floor(text: &str) -> u8 {
    Policy::compile(text, "policy", &Fields::any(), None)
        .map_or(NOTHING_PASSES, |policy| policy.review_below())
}

impl Rule {
    /// Whether the plan may be written as things stand, without looking at the cap. What no person accepted takes an
    /// autonomous candidate, its own version of the policy, and enough confidence.
    pub fn admits(
        &self,
        plan: &Plan,
        accepted_by: Option<ActorId>,
        confidence: u8,
    ) -> Result<Leave, Refusal> {
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
        let Some(candidate) = &self.candidate else { return Err(Refusal::Off(path())) };
        if accepted_by.is_none() {
            if !candidate.is_autonomous {
                return Err(Refusal::NotAccepted(path()));
            }
            if candidate.policy != Some(plan.policy) {
                return Err(Refusal::OtherPolicy(path()));
            }
            if confidence < self.floor {
                return Err(Refusal::NotSure { path: path(), confidence, floor: self.floor.min(100) });
            }
        }
        Ok(Leave { candidate: Some((candidate.name.clone(), candidate.generation)) })
    }
}

/// Whether the plan may be written now. Holds the path and its candidate as they are until the transaction ends: a
/// demotion that commits first stops it, and changes under way count against the cap.
pub async fn leave(
    conn: &mut PgConnection,
    plan: &Plan,
    accepted_by: Option<ActorId>,
    confidence: u8,
) -> Result<Result<Leave, Refusal>, WritebackError> {
    hold(conn, &plan.path).await?;
    let Some(rule) = rule(conn, &plan.path).await? else {
        return Ok(Err(Refusal::NoPath(plan.path.clone())));
    };
    let leave = match rule.admits(plan, accepted_by, confidence) {
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

/// Keeps the path and its candidates as they are to the end of the transaction. Two statements, so that what is read
/// afterwards is what is held.
pub(crate) async fn hold(conn: &mut PgConnection, path: &str) -> Result<(), sqlx::Error> {
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
