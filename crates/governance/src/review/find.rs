//! Looking at cases.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::{PgConnection, types::Json};

use super::{Confirmation, ReviewError, ReviewId, State, confirm, seen::saw};
use crate::{
    actor::ActorId,
    audit::{self, Event},
    decision::Verdict,
    digest::Digest,
    receipt::{self, ReceiptId, Subject},
    shadow::CaseId,
    wish::{self, Wish, WishId},
};

/// Somebody, with the name if it is not erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// The pseudonym.
    pub id: ActorId,
    /// The name.
    pub name: Option<String>,
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.pad(name),
            None => self.id.fmt(f),
        }
    }
}

/// A case as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// Its number.
    pub id: ReviewId,
    /// Where it stands.
    pub state: State,
    /// It is open, and its record has changed or vanished since it was judged.
    pub is_stale: bool,
    /// Rises with each change.
    pub version: i32,
    /// The path's name.
    pub path: String,
    /// The record's connector.
    pub connector: String,
    /// The record's stream.
    pub stream: String,
    /// The record's key.
    pub key: String,
    /// Which decision it is about.
    pub decision: i64,
    /// By which version of the path's policy.
    pub policy_version: i32,
    /// What the policy said.
    pub verdict: Verdict,
    /// The rule that said so.
    pub rule: Option<String>,
    /// The action class of the rule.
    pub class: Option<String>,
    /// How sure it was, in per cent.
    pub confidence: i16,
    /// Why, in the policy's words.
    pub why: String,
    /// The values that it proposes.
    pub proposed: Option<Map<String, Value>>,
    /// The path's fields as they were when it was decided.
    pub original: Option<Map<String, Value>>,
    /// What was known beside the record.
    pub evidence: Option<Value>,
    /// The digest of everything that it was decided from.
    pub input_digest: Digest,
    /// The record's digest then.
    pub record_digest: String,
    /// What candidates are tried on.
    #[serde(skip)]
    pub shadow_case: Option<CaseId>,
    /// Who is to decide it.
    pub assignee: Option<Person>,
    /// What a person wants to stand in the fields that change.
    pub value: Option<Map<String, Value>>,
    /// That person's reason.
    pub reason: Option<String>,
    /// Who closed it; nobody, where the record did.
    pub closed_by: Option<Person>,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When it was closed.
    pub closed_at: Option<DateTime<Utc>>,
    /// The case that was closed as stale for this one.
    pub replaces: Option<ReviewId>,
    /// The case that took its place.
    pub replaced_by: Option<ReviewId>,
}

impl Case {
    /// As it was while it was open.
    pub(super) fn blind(self) -> Self {
        if self.state == State::Open {
            return self;
        }
        Self {
            state: State::Open,
            is_stale: false,
            assignee: None,
            value: None,
            reason: None,
            closed_by: None,
            closed_at: None,
            replaced_by: None,
            ..self
        }
    }
}

/// Which cases.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// Of this path only.
    pub path: Option<&'a str>,
    /// In this state only. An open one that is stale already counts as stale.
    pub state: Option<State>,
    /// Assigned to this person only.
    pub assignee: Option<ActorId>,
}

/// The case as it stands.
pub async fn get(conn: &mut PgConnection, id: ReviewId) -> Result<Option<Case>, ReviewError> {
    Ok(select(conn, Some(id), Filter::default(), 1).await?.pop())
}

/// A case with everything that has come of it.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// The case.
    pub case: Case,
    /// The words that other persons gave on it afterwards.
    pub confirmations: Vec<Confirmation>,
    /// What is written because of it.
    pub wish: Option<Wish>,
    /// The receipts of its decision and of the words on it.
    pub receipts: Vec<ReceiptId>,
}

/// The case as it is shown to a person, which is put on record. Whoever is shown another's word cannot confirm it.
pub async fn view(conn: &mut PgConnection, id: ReviewId, by: ActorId) -> Result<Option<View>, ReviewError> {
    let Some(case) = get(conn, id).await? else { return Ok(None) };
    saw(conn, std::slice::from_ref(&case), by).await?;
    let confirmations = confirm::of(conn, id).await?;
    let wish = wish::find(conn, WishId(case.decision)).await?.filter(|it| it.review_case == Some(id));
    let mut receipts = receipt::about(conn, Subject::Decision(case.decision)).await?;
    receipts.extend(receipt::about(conn, Subject::Review(id.0)).await?);
    let body = json!({ "case": case.id.0, "decision": case.decision, "input": case.input_digest });
    audit::append(conn, &Event { kind: "review.viewed", actor: Some(by), job: None, body }).await?;
    Ok(Some(View { case, confirmations, wish, receipts }))
}

/// At most 1,000 cases, the oldest first, as a person is shown them: without values, and put on record.
pub async fn list(
    conn: &mut PgConnection,
    filter: Filter<'_>,
    limit: i64,
    by: ActorId,
) -> Result<Vec<Case>, ReviewError> {
    let mut found = select(conn, None, filter, limit.min(LISTED_MAX)).await?;
    saw(conn, &found, by).await?;
    for case in &mut found {
        (case.proposed, case.original, case.evidence, case.value) = (None, None, None, None);
    }
    let cases: Vec<_> = found.iter().map(|case| case.id.0).collect();
    let event = Event { kind: "review.listed", actor: Some(by), job: None, body: json!({ "cases": cases }) };
    audit::append(conn, &event).await?;
    Ok(found)
}

/// The chain names each one that was shown, and an entry is bounded.
const LISTED_MAX: i64 = 1_000;

struct Row {
    id: ReviewId,
    state: String,
    is_stale: bool,
    version: i32,
    path: String,
    connector: String,
    stream: String,
    key: String,
    decision: i64,
    policy_version: i32,
    verdict: String,
    rule: Option<String>,
    class: Option<String>,
    confidence: i16,
    why: String,
    proposed: Option<Json<Map<String, Value>>>,
    original: Option<Json<Map<String, Value>>>,
    evidence: Option<Value>,
    input_digest: Vec<u8>,
    record_digest: String,
    shadow_case: Option<CaseId>,
    assignee: Option<ActorId>,
    assignee_name: Option<String>,
    value: Option<Json<Map<String, Value>>>,
    reason: Option<String>,
    closed_by: Option<ActorId>,
    closed_by_name: Option<String>,
    opened_at: DateTime<Utc>,
    closed_at: Option<DateTime<Utc>>,
    replaces: Option<ReviewId>,
    replaced_by: Option<ReviewId>,
}

async fn select(
    conn: &mut PgConnection,
    id: Option<ReviewId>,
    filter: Filter<'_>,
    limit: i64,
) -> Result<Vec<Case>, ReviewError> {
    let rows = sqlx::query_as!(
        Row,
        r#"-- review.select
        with found as (
            select c.*, p.name as path_name, p.connector, p.stream, d.policy_version, d.verdict, d.rule, d.class,
                d.confidence, d.reason as why, d.proposed, d.input_digest, d.record_digest,
                c.state = 'open' and (r.key is null or r.digest <> d.record_digest) as is_stale
            from tenant.review_case c
            join tenant.path p on p.id = c.path
            join tenant.decision d on d.id = c.decision
            left join tenant.record r on r.connector = p.connector and r.stream = p.stream and r.key = c.key
                and r.deleted_at is null
            where ($1::bigint is null or c.id = $1) and ($2::text is null or p.name = $2)
              and ($4::uuid is null or c.assignee = $4)
        )
        select f.id as "id!: ReviewId", f.state as "state!", f.is_stale as "is_stale!", f.version as "version!",
            f.path_name as "path!", f.connector as "connector!", f.stream as "stream!", f.key as "key!",
            f.decision as "decision!", f.policy_version as "policy_version!", f.verdict as "verdict!", f.rule, f.class,
            f.confidence as "confidence!", f.why as "why!", f.proposed as "proposed: Json<Map<String, Value>>",
            s.original as "original?: Json<Map<String, Value>>", s.input -> 'evidence' as "evidence?",
            f.input_digest as "input_digest!", f.record_digest as "record_digest!",
            f.shadow_case as "shadow_case: CaseId", f.assignee as "assignee: ActorId",
            assignee.name as "assignee_name?", f.value as "value: Json<Map<String, Value>>", f.reason,
            f.closed_by as "closed_by: ActorId", closer.name as "closed_by_name?",
            f.opened_at as "opened_at!", f.closed_at, f.replaces as "replaces: ReviewId",
            (select min(n.id) from tenant.review_case n where n.replaces = f.id) as "replaced_by: ReviewId"
        from found f
        left join tenant.shadow_case s on s.id = f.shadow_case
        left join governance.actor assignee on assignee.id = f.assignee
        left join governance.actor closer on closer.id = f.closed_by
        where $3::text is null or case when f.is_stale then 'stale' else f.state end = $3
        order by f.id limit $5"#,
        id as Option<ReviewId>,
        filter.path,
        filter.state.map(State::as_str),
        filter.assignee as Option<ActorId>,
        limit,
    );
    let rows = rows.fetch_all(conn).await?;
    rows.into_iter().map(|row| row.read().map_err(ReviewError::Unreadable)).collect()
}

impl Row {
    fn read(self) -> Result<Case, Box<dyn std::error::Error + Send + Sync>> {
        let person = |id: Option<ActorId>, name| id.map(|id| Person { id, name });
        Ok(Case {
            id: self.id,
            state: self.state.parse()?,
            is_stale: self.is_stale,
            version: self.version,
            path: self.path,
            connector: self.connector,
            stream: self.stream,
            key: self.key,
            decision: self.decision,
            policy_version: self.policy_version,
            verdict: self.verdict.parse().map_err(|()| "a verdict that is none")?,
            rule: self.rule,
            class: self.class,
            confidence: self.confidence,
            why: self.why,
            proposed: self.proposed.map(|it| it.0),
            original: self.original.map(|it| it.0),
            evidence: self.evidence,
            input_digest: self.input_digest.try_into()?,
            record_digest: self.record_digest,
            shadow_case: self.shadow_case,
            assignee: person(self.assignee, self.assignee_name),
            value: self.value.map(|it| it.0),
            reason: self.reason,
            closed_by: person(self.closed_by, self.closed_by_name),
            opened_at: self.opened_at,
            closed_at: self.closed_at,
            replaces: self.replaces,
            replaced_by: self.replaced_by,
        })
    }
}
