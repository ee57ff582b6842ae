//! Writebacks as they are.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, types::Json};

use super::{Plan, State, Values, WritebackError, WritebackId};
use crate::{actor::ActorId, digest::Digest, receipt::ReceiptId};

/// A writeback with everything that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Writeback {
    /// Its number.
    pub id: WritebackId,
    /// What exactly is to be changed.
    pub plan: Plan,
    /// The digest of the plan.
    pub digest: Digest,
    /// How sure the decision is, 0 to 100.
    pub confidence: u8,
    /// The digest of what it was decided on.
    pub evidence: Digest,
    /// Who asked for it.
    pub requested_by: ActorId,
    /// The person who accepted this very change.
    pub accepted_by: Option<ActorId>,
    /// Where it is.
    pub state: State,
    /// How many arrows were taken.
    pub steps: i32,
    /// The approval that it waits for or has used.
    pub approval: Option<i64>,
    /// The candidate that was in force when it was sent, and its generation.
    pub candidate: Option<(String, i64)>,
    /// What it is sent under.
    pub idempotency_key: Option<Digest>,
    /// How often an intent was written: an upper bound of how often it was sent.
    pub sends: i32,
    /// How often it was read back since it came where it is.
    pub reads: i32,
    /// The values were there before anything was sent.
    pub sent_nothing: bool,
    /// What the last read-back saw of the fields.
    pub observed: Option<Values>,
    /// The digest of the record's other fields before, and in the last read-back.
    pub rest: (Option<String>, Option<String>),
    /// Why it is where it is, as a word of ours.
    pub reason: Option<String>,
    /// The same in words.
    pub detail: Option<String>,
    /// The receipt of its end.
    pub receipt: Option<ReceiptId>,
    /// The job that wrote the intent.
    pub intent_job: Option<i64>,
    /// When the intent was first written.
    pub intent_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When it was entered.
    pub created_at: DateTime<Utc>,
}

/// One arrow that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The how-manieth, from 0 for the entry.
    pub number: i32,
    /// From here; none for the entry.
    pub from: Option<String>,
    /// To there.
    pub to: String,
    /// Why, as a word of ours.
    pub reason: Option<String>,
    /// Why, in words.
    pub detail: Option<String>,
    /// Who took it; none for the service.
    pub actor: Option<ActorId>,
    /// In which job.
    pub job: Option<i64>,
    /// When.
    pub at: DateTime<Utc>,
}

/// Which writebacks are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this path.
    pub path: Option<String>,
    /// In this state.
    pub state: Option<State>,
    /// Only those that have not ended.
    pub is_open: bool,
    /// With a smaller number.
    pub before: Option<WritebackId>,
}

struct Row {
    id: i64,
    tenant: uuid::Uuid,
    path: String,
    connector: String,
    stream: String,
    key: String,
    class: String,
    digest: Vec<u8>,
    before: Option<Json<Values>>,
    validator: Option<String>,
    desired: Json<Values>,
    definition: Option<Vec<u8>>,
    policy_version: i32,
    policy_digest: Vec<u8>,
    confidence: i16,
    evidence: Vec<u8>,
    requested_by: ActorId,
    accepted_by: Option<ActorId>,
    compensates: Option<i64>,
    state: String,
    steps: i32,
    approval: Option<i64>,
    candidate: Option<String>,
    generation: Option<i64>,
    idempotency_key: Option<Vec<u8>>,
    sends: i32,
    reads: i32,
    sent_nothing: bool,
    observed: Option<Json<Values>>,
    rest_before: Option<String>,
    rest_after: Option<String>,
    reason: Option<String>,
    detail: Option<String>,
    receipt: Option<String>,
    intent_job: Option<i64>,
    intent_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for Writeback {
    type Error = WritebackError;

    fn try_from(row: Row) -> Result<Self, WritebackError> {
        let plan = Plan {
            tenant: row.tenant,
            path: row.path,
            connector: row.connector,
            stream: row.stream,
            key: row.key,
            class: row.class,
            before: row.before.map(|values| values.0),
            validator: row.validator,
            desired: row.desired.0,
            definition: row.definition.map(TryInto::try_into).transpose()?,
            policy: (row.policy_version, row.policy_digest.try_into()?),
            compensates: row.compensates.map(WritebackId),
        };
        Ok(Self {
            id: WritebackId(row.id),
            plan,
            digest: row.digest.try_into()?,
            confidence: u8::try_from(row.confidence).map_err(|_| WritebackError::Stored("confidence"))?,
            evidence: row.evidence.try_into()?,
            requested_by: row.requested_by,
            accepted_by: row.accepted_by,
            state: row.state.parse()?,
            steps: row.steps,
            approval: row.approval,
            candidate: row.candidate.zip(row.generation),
            idempotency_key: row.idempotency_key.map(TryInto::try_into).transpose()?,
            sends: row.sends,
            reads: row.reads,
            sent_nothing: row.sent_nothing,
            observed: row.observed.map(|values| values.0),
            rest: (row.rest_before, row.rest_after),
            reason: row.reason,
            detail: row.detail,
            receipt: row
                .receipt
                .map(|id| id.parse())
                .transpose()
                .map_err(|_| WritebackError::Stored("receipt"))?,
            intent_job: row.intent_job,
            intent_at: row.intent_at,
            ended_at: row.ended_at,
            created_at: row.created_at,
        })
    }
}

/// The writeback of this number.
pub async fn find(conn: &mut PgConnection, id: WritebackId) -> Result<Writeback, WritebackError> {
    let row = sqlx::query_as!(
        Row,
        r#"-- writeback.find
        select id, (select tenant_id from tenant.stamp) as "tenant!", path, connector, stream, key, class, digest,
            before as "before: Json<Values>", validator, desired as "desired: Json<Values>", definition, policy_version,
            policy_digest, confidence, evidence, requested_by as "requested_by: ActorId",
            accepted_by as "accepted_by: ActorId", compensates, state, steps, approval, candidate, generation,
            idempotency_key, sends, reads, sent_nothing, observed as "observed: Json<Values>", rest_before, rest_after,
            reason, detail, receipt, intent_job, intent_at, ended_at, created_at
        from tenant.writeback where id = $1"#,
        id.0,
    );
    row.fetch_optional(conn).await?.ok_or(WritebackError::NotFound(id))?.try_into()
}

/// Writebacks, the latest first.
pub async fn list(
    conn: &mut PgConnection,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<Writeback>, WritebackError> {
    let rows = sqlx::query_as!(
        Row,
        r#"-- writeback.list
        select id, (select tenant_id from tenant.stamp) as "tenant!", path, connector, stream, key, class, digest,
            before as "before: Json<Values>", validator, desired as "desired: Json<Values>", definition, policy_version,
            policy_digest, confidence, evidence, requested_by as "requested_by: ActorId",
            accepted_by as "accepted_by: ActorId", compensates, state, steps, approval, candidate, generation,
            idempotency_key, sends, reads, sent_nothing, observed as "observed: Json<Values>", rest_before, rest_after,
            reason, detail, receipt, intent_job, intent_at, ended_at, created_at
        from tenant.writeback
        where ($1::text is null or path = $1) and ($2::text is null or state = $2)
          and (not $3 or ended_at is null) and ($4::bigint is null or id < $4)
        order by id desc limit $5"#,
        filter.path,
        filter.state.map(State::name),
        filter.is_open,
        filter.before.map(|id| id.0),
        limit,
    );
    rows.fetch_all(conn).await?.into_iter().map(TryInto::try_into).collect()
}

/// Changes that have not ended, for whoever takes up those whose job was lost: first what may be on its way, then what
/// waits to begin, each the oldest first.
pub async fn to_resume(conn: &mut PgConnection, limit: i64) -> Result<Vec<WritebackId>, WritebackError> {
    let ids = sqlx::query_scalar!(
        "-- writeback.to_resume
        select id from tenant.writeback
        where state in ('planned', 'approved', 'intent', 'held', 'sent', 'unknown')
        order by state in ('planned', 'approved'), id limit $1",
        limit
    );
    Ok(ids.fetch_all(conn).await?.into_iter().map(WritebackId).collect())
}

/// The arrows that it took, the first first.
pub async fn steps(conn: &mut PgConnection, id: WritebackId) -> Result<Vec<Step>, WritebackError> {
    let steps = sqlx::query_as!(
        Step,
        r#"-- writeback.steps
        select number, from_state as "from", to_state as "to", reason, detail, actor as "actor: ActorId", job, at
        from tenant.writeback_step where writeback = $1 order by number"#,
        id.0,
    );
    Ok(steps.fetch_all(conn).await?)
}
