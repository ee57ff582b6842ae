//! A second person's word on a case that was decided.
//!
//! It is blind: whoever was shown the first word cannot give it. It changes nothing about the case. With the first word
//! it says what the truth is, if both are the same; see `shadow/truth.rs`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::{PgConnection, types::Json};

use super::{
    Case, Person, ReviewError, ReviewId, State, Word,
    decide::{person, reasonable, said},
    find::get,
    lock, word_receipt,
};
use crate::{
    actor::ActorId,
    audit::{self, Event},
    shadow::{self, CaseId, value_digest},
};

/// A word on a case that had one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Confirmation {
    /// Whose.
    pub by: Person,
    /// What it was.
    pub word: State,
    /// What is to stand in the fields that change.
    pub value: Option<Map<String, Value>>,
    /// Why.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// What has come of a case's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// Two persons said the same: that is the truth about the case.
    Settled,
    /// They differ; the case counts as not scored until another person agrees with one of them.
    Open,
}

/// Keeps another person's word on a case that was decided. What is judged is the case as it was then, whatever has
/// become of the record.
pub async fn confirm(
    conn: &mut PgConnection,
    id: ReviewId,
    word: Word,
    reason: &str,
    by: ActorId,
) -> Result<Agreement, ReviewError> {
    let reason = reasonable(reason)?;
    person(conn, by).await?;
    let (case, shadow) = confirmable(conn, id, by).await?;
    let state = word.state();
    let value = wanted(conn, &case, word).await?;
    insert(conn, id, state, value.as_ref(), reason, by).await?;
    shadow::say(conn, shadow, &said(&case, value.as_ref()), by).await?;
    let is_settled = shadow::is_settled(conn, shadow).await?;
    word_receipt::issue(conn, &case, state, value.as_ref(), by).await?;
    let digest = value.map(|it| value_digest(&Value::Object(it))).transpose()?;
    let body = json!({
        "case": id.0, "decision": case.decision, "input": case.input_digest, "word": state, "value": digest,
        "settled": is_settled,
    });
    audit::append(conn, &Event { kind: "review.confirmed", actor: Some(by), job: None, body }).await?;
    Ok(if is_settled { Agreement::Settled } else { Agreement::Open })
}

/// The case, locked, and what candidates are tried on, if this person may still say something that counts.
async fn confirmable(
    conn: &mut PgConnection,
    id: ReviewId,
    by: ActorId,
) -> Result<(Case, CaseId), ReviewError> {
    // Two who confirm at once come one after the other.
    lock(conn, id).await?;
    let case = get(conn, id).await?.ok_or(ReviewError::NotFound(id))?;
    match (case.state, &case.closed_by) {
        (State::Open, _) => return Err(ReviewError::NoWord(id)),
        (_, Some(first)) if first.id == by => return Err(ReviewError::SamePerson(id)),
        (State::Stale, _) | (_, None) => {
            let at = case.closed_at.unwrap_or(case.opened_at);
            return Err(ReviewError::Ended { id, state: case.state, by: case.closed_by, at });
        }
        _ => {}
    }
    let known = sqlx::query!(
        r#"-- review.known_to
        select exists (
                select from tenant.review_seen s join tenant.review_case c on c.id = s.review_case
                where s.actor = $2 and (c.id = $1 or c.shadow_case = $3)) as "has_seen!",
            exists (select from tenant.review_confirmation where review_case = $1 and actor = $2) as "has_spoken!""#,
        id.0,
        by as ActorId,
        case.shadow_case as Option<CaseId>,
    )
    .fetch_one(&mut *conn)
    .await?;
    if known.has_spoken {
        return Err(ReviewError::SamePerson(id));
    }
    if known.has_seen {
        return Err(ReviewError::NotBlind(id));
    }
    let shadow = case.shadow_case.ok_or(ReviewError::NotMeasured(id))?;
    if shadow::is_settled(conn, shadow).await? {
        return Err(ReviewError::Settled(id));
    }
    Ok((case, shadow))
}

/// The values that this person wants, laid beside the fields as they were.
async fn wanted(
    conn: &mut PgConnection,
    case: &Case,
    word: Word,
) -> Result<Option<Map<String, Value>>, ReviewError> {
    let original = case.original.clone().unwrap_or_default();
    super::decide::wanted(conn, case, word, &original).await
}

async fn insert(
    conn: &mut PgConnection,
    id: ReviewId,
    word: State,
    value: Option<&Map<String, Value>>,
    reason: &str,
    by: ActorId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- review.confirm
        insert into tenant.review_confirmation (review_case, actor, word, value, reason) values ($1, $2, $3, $4, $5)",
        id.0,
        by as ActorId,
        word.as_str(),
        value.cloned().map(Value::Object),
        reason,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// The later words on a case, the first first.
pub(super) async fn of(conn: &mut PgConnection, id: ReviewId) -> Result<Vec<Confirmation>, ReviewError> {
    let rows = sqlx::query!(
        r#"-- review.confirmations
        select c.actor as "actor: ActorId", a.name as "name?", c.word, c.value as "value: Json<Map<String, Value>>",
            c.reason, c.said_at
        from tenant.review_confirmation c left join governance.actor a on a.id = c.actor
        where c.review_case = $1 order by c.said_at, c.actor"#,
        id.0,
    );
    let read = rows.fetch_all(conn).await?.into_iter().map(|row| {
        Ok(Confirmation {
            by: Person { id: row.actor, name: row.name },
            word: row
                .word
                .parse()
                .map_err(|error: super::state::UnknownState| ReviewError::Unreadable(error.into()))?,
            value: row.value.map(|it| it.0),
            reason: row.reason,
            at: row.said_at,
        })
    });
    read.collect()
}
