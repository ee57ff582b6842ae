//! What is needed to plan a wish.

use serde_json::{Map, Value};
use sqlx::{PgConnection, types::Json};

use super::{State, WishError, WishId};
use crate::{
    actor::ActorId,
    digest::Digest,
    writeback::{Values, WritebackId},
};

/// The action class of a value that a person wrote: no rule stands behind it, so it does not pass by a rule's gate.
pub const CORRECTION: &str = "correction";

/// A change that is to be planned.
#[derive(Clone, Debug, PartialEq)]
pub struct Errand {
    /// On which path.
    pub path: String,
    /// Of which record.
    pub key: String,
    /// The new values.
    pub set: Values,
    /// What the same fields held when it was decided.
    pub judged: Values,
    /// The action class.
    pub class: String,
    /// The version of the policy that decided, and the digest of its text.
    pub policy: (i32, Digest),
    /// How sure the policy was, 0 to 100.
    pub confidence: u8,
    /// The digest of what was decided on.
    pub evidence: Digest,
    /// Who asks.
    pub requested_by: ActorId,
    /// The person who accepted this very change; none where policy alone asks.
    pub accepted_by: Option<ActorId>,
}

/// Where a wish stands for whoever would plan it.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It can be planned.
    Due(Box<Errand>),
    /// The record is not as it was when it was decided on.
    Stale,
    /// It has its writeback.
    Planned(WritebackId),
    /// Nothing is to be written.
    Ended,
}

/// What is needed to plan this wish.
pub async fn errand(conn: &mut PgConnection, id: WishId) -> Result<Found, WishError> {
    let row = sqlx::query!(
        r#"-- wish.errand
        select w.state, w.writeback, w.requested_by as "requested_by: ActorId", p.name as path, d.key as "key: String",
            d.class, d.policy_version, y.digest as policy_digest, d.confidence, d.input_digest, d.proposed as "proposed: Json<Map<String, Value>>",
            c.state as "word?", c.value as "value?: Json<Map<String, Value>>", c.closed_by as "accepted_by?: ActorId",
            r.data as "data?: Json<Map<String, Value>>"
        from tenant.wish w
        join tenant.decision d on d.id = w.decision
        join tenant.path p on p.id = d.path
        join tenant.policy y on y.path = d.path and y.version = d.policy_version
        left join tenant.review_case c on c.id = w.review_case
        left join tenant.record r on r.connector = p.connector and r.stream = p.stream and r.key = d.key
            and r.digest = d.record_digest and r.deleted_at is null
        where w.decision = $1"#,
        id as WishId,
    );
    let row = row.fetch_optional(conn).await?.ok_or(WishError::NotFound(id))?;
    match (State::read(&row.state)?, row.writeback) {
        (State::Due, _) => {}
        (State::Planned, Some(writeback)) => return Ok(Found::Planned(WritebackId(writeback))),
        (State::Off | State::Planned | State::Refused, _) => return Ok(Found::Ended),
    }
    let Some(data) = row.data else { return Ok(Found::Stale) };
    let wanted = row.value.or(row.proposed).ok_or(WishError::Stored("wish"))?;
    let field = |name: &String| (name.clone(), data.0.get(name).cloned().unwrap_or(Value::Null));
    let judged = wanted.0.keys().map(field).collect();
    let is_rules = row.word.as_deref().is_none_or(|word| word == "accepted");
    Ok(Found::Due(Box::new(Errand {
        path: row.path,
        key: row.key,
        judged,
        set: wanted.0.into_iter().collect(),
        class: row.class.filter(|_| is_rules).unwrap_or_else(|| CORRECTION.to_owned()),
        policy: (row.policy_version, row.policy_digest.try_into()?),
        confidence: u8::try_from(row.confidence).map_err(|_| WishError::Stored("confidence"))?,
        evidence: row.input_digest.try_into()?,
        requested_by: row.requested_by,
        accepted_by: row.accepted_by,
    })))
}
