//! A person's word on a case.

use serde_json::{Map, Value, json};
use sqlx::PgConnection;

use super::{Case, ReviewError, ReviewId, State, admitted, get, word_receipt};
use crate::{
    actor::{self, ActorId},
    audit::{self, Event},
    decision::Verdict,
    path,
    shadow::{self, Said, value_digest},
    wish::{self, WishError, WishId},
};

/// A reason is at most so long, as the table's check says.
pub const REASON_LENGTH_MAX: usize = 2_000;

/// What a person says.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// The proposed value is right.
    Accept,
    /// These values are right: fields of the path.
    Correct(Map<String, Value>),
    /// The record is right as it is.
    Reject,
}

impl Word {
    pub(super) fn state(&self) -> State {
        match self {
            Self::Accept => State::Accepted,
            Self::Correct(_) => State::Corrected,
            Self::Reject => State::Rejected,
        }
    }
}

/// Closes the case with a person's word, if it still is as it was seen and its record as it was judged. The word is the
/// baseline of the shadow runs on this input. What was accepted or corrected is wanted written from now on, unless the
/// path is off: see [`crate::wish`]. `reason` stays out of the chain.
pub async fn decide(
    conn: &mut PgConnection,
    id: ReviewId,
    seen: i32,
    word: Word,
    reason: &str,
    by: ActorId,
) -> Result<Case, ReviewError> {
    let reason = reasonable(reason)?;
    person(conn, by).await?;
    let case = admitted(conn, id, seen).await?;
    if let Some(to) = case.assignee.clone().filter(|to| to.id != by) {
        return Err(ReviewError::NotYours { id, to });
    }
    let data = record(conn, &case).await?;
    let state = word.state();
    let value = wanted(conn, &case, word, &data).await?;
    close(conn, id, state, value.as_ref(), reason, by).await?;
    let wish = match &value {
        Some(_) => match wish::of_case(conn, WishId(case.decision), &case.path, id, by).await {
            Err(WishError::WantedAlready(_)) => return Err(ReviewError::WantedAlready(id)),
            state => Some(state?),
        },
        None => None,
    };
    if let Some(shadow) = case.shadow_case {
        shadow::say(conn, shadow, &said(&case, value.as_ref()), by).await?;
    }
    word_receipt::issue(conn, &case, state, value.as_ref(), by).await?;
    let digest = value.map(|it| value_digest(&Value::Object(it))).transpose()?;
    let body = json!({
        "case": id.0, "decision": case.decision, "input": case.input_digest, "word": state, "value": digest,
        "wish": wish,
    });
    audit::append(conn, &Event { kind: "review.decided", actor: Some(by), job: None, body }).await?;
    get(conn, id).await?.ok_or(ReviewError::NotFound(id))
}

/// The reason without the blanks around it.
pub(super) fn reasonable(reason: &str) -> Result<&str, ReviewError> {
    let reason = reason.trim();
    let is_one = (1..=REASON_LENGTH_MAX).contains(&reason.chars().count());
    if is_one { Ok(reason) } else { Err(ReviewError::BadReason) }
}

/// A word as candidates are measured by it.
pub(super) fn said(case: &Case, value: Option<&Map<String, Value>>) -> Said {
    let verdict = if value.is_some() { Verdict::Fix } else { Verdict::None };
    Said { verdict, value: value.cloned(), class: case.class.clone() }
}

/// Refuses who is not known, or not a person.
pub(super) async fn person(conn: &mut PgConnection, id: ActorId) -> Result<(), ReviewError> {
    let actor = actor::by_id(conn, id).await?.ok_or(ReviewError::UnknownActor(id))?;
    if actor.person == actor.id { Ok(()) } else { Err(ReviewError::NotAPerson(id)) }
}

/// The record's fields, if it is as it was judged. A sync that would change it waits until this transaction has ended.
async fn record(conn: &mut PgConnection, case: &Case) -> Result<Map<String, Value>, ReviewError> {
    let data = sqlx::query_scalar!(
        "-- review.record
        select data from tenant.record
        where connector = $1 and stream = $2 and key = $3 and digest = $4 and deleted_at is null for share",
        case.connector,
        case.stream,
        case.key,
        case.record_digest,
    );
    match data.fetch_optional(conn).await? {
        Some(Value::Object(data)) => Ok(data),
        _ => Err(ReviewError::Stale(case.id)),
    }
}

/// The values that are to stand in the record's fields, whose values are these.
pub(super) async fn wanted(
    conn: &mut PgConnection,
    case: &Case,
    word: Word,
    data: &Map<String, Value>,
) -> Result<Option<Map<String, Value>>, ReviewError> {
    let value = match word {
        Word::Reject => return Ok(None),
        Word::Accept => return case.proposed.clone().map(Some).ok_or(ReviewError::NothingProposed(case.id)),
        Word::Correct(value) => value,
    };
    let fields = path::by_name(conn, &case.path).await?.fields;
    if value.is_empty() || value.keys().any(|field| !fields.contains(field)) {
        return Err(ReviewError::BadValue(fields));
    }
    if value.iter().all(|(field, value)| data.get(field).unwrap_or(&Value::Null) == value) {
        return Err(ReviewError::ChangesNothing(case.id));
    }
    Ok(Some(value))
}

async fn close(
    conn: &mut PgConnection,
    id: ReviewId,
    state: State,
    value: Option<&Map<String, Value>>,
    reason: &str,
    by: ActorId,
) -> Result<(), ReviewError> {
    sqlx::query!(
        "-- review.decide
        update tenant.review_case
        set state = $2, value = $3, reason = $4, closed_by = $5, closed_at = now(), changed_at = now(),
            version = version + 1
        where id = $1",
        id as ReviewId,
        state.as_str(),
        value.cloned().map(Value::Object),
        reason,
        by as ActorId,
    )
    .execute(conn)
    .await?;
    Ok(())
}
