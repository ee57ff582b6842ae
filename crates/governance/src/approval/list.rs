//! Looking at approvals.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

use super::{Alone, Approval, ApprovalError, ApprovalId, Decision, State, Verdict, record, shown};
use crate::actor::ActorId;

/// As the database has it.
struct Row {
    id: i64,
    class: String,
    name: String,
    digest: Vec<u8>,
    content: Vec<u8>,
    plan: Vec<u8>,
    requested_by: ActorId,
    requested_by_name: Option<String>,
    requested_person: ActorId,
    requested_person_name: Option<String>,
    requested_at: DateTime<Utc>,
    waiting_job: Option<i64>,
    needed: i32,
    yeses: i64,
    alone: Option<String>,
    cooled_at: DateTime<Utc>,
    request_until: DateTime<Utc>,
    approved_until: Option<DateTime<Utc>>,
    state: String,
    ended_at: Option<DateTime<Utc>>,
    ended_by: Option<ActorId>,
    ended_by_name: Option<String>,
    consumed_by_job: Option<i64>,
    now: DateTime<Utc>,
}

/// The approval as it stands.
pub async fn get(conn: &mut PgConnection, id: ApprovalId) -> Result<Option<Approval>, ApprovalError> {
    Ok(select(conn, Some(id), true, 1).await?.pop())
}

/// The latest approvals, newest first; without `all` those of which something can still become.
pub async fn list(conn: &mut PgConnection, all: bool, limit: i64) -> Result<Vec<Approval>, ApprovalError> {
    select(conn, None, all, limit).await
}

/// The approval as it is shown to a person, which is put on record.
pub async fn view(
    conn: &mut PgConnection,
    id: ApprovalId,
    by: ActorId,
) -> Result<Option<Approval>, ApprovalError> {
    let found = get(conn, id).await?;
    if let Some(approval) = &found {
        shown(conn, approval, by).await?;
        record(conn, "approval.viewed", (id, &approval.digest), (Some(by), None), json!({})).await?;
    }
    Ok(found)
}

async fn select(
    conn: &mut PgConnection,
    id: Option<ApprovalId>,
    all: bool,
    limit: i64,
) -> Result<Vec<Approval>, ApprovalError> {
    let rows = sqlx::query_as!(
        Row,
        r#"-- approval.select
        select a.id, a.class, a.name, a.digest, a.content, a.plan,
               a.requested_by as "requested_by: ActorId", asker.name as requested_by_name,
               a.requested_person as "requested_person: ActorId", person.name as "requested_person_name?",
               a.requested_at, a.waiting_job,
               s.needed as "needed!", s.yeses as "yeses!", case when s.alone then a.alone end as "alone?",
               s.cooled_at as "cooled_at!", s.request_until as "request_until!", s.approved_until,
               case when a.state <> 'open' then a.state
                    when s.approved_until > clock.now then 'approved'
                    when coalesce(s.approved_until, s.request_until) > clock.now then 'open'
                    else 'lapsed'
               end as "state!",
               a.ended_at, a.ended_by as "ended_by: ActorId", ender.name as "ended_by_name?", a.consumed_by_job,
               clock.now as "now!"
          from governance.approval a
          join governance.approval_standing s on s.id = a.id
          join governance.actor asker on asker.id = a.requested_by
          join governance.actor person on person.id = a.requested_person
          left join governance.actor ender on ender.id = a.ended_by
         cross join (select clock_timestamp() as now offset 0) clock
         where ($1::bigint is null or a.id = $1) and ($2 or a.state = 'open')
         order by a.id desc
         limit $3"#,
        id.map(|id| id.0),
        all,
        limit,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut approvals = Vec::with_capacity(rows.len());
    for row in rows {
        let decisions = decisions(conn, row.id).await?;
        approvals.push(row.into_approval(decisions).map_err(ApprovalError::Unreadable)?);
    }
    Ok(approvals)
}

async fn decisions(conn: &mut PgConnection, approval: i64) -> Result<Vec<Decision>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- approval.decisions
        select d.person as "person: ActorId", p.name, d.verdict, d.alone, d.given_at
          from governance.approval_decision d
          join governance.actor p on p.id = d.person
         where d.approval = $1
         order by d.given_at, d.person"#,
        approval,
    );
    let decision = rows.map(|row| Decision {
        person: row.person,
        name: row.name,
        verdict: if row.verdict == "yes" { Verdict::Yes } else { Verdict::No },
        alone: row.alone,
        given_at: row.given_at,
    });
    decision.fetch_all(conn).await
}

type Unreadable = Box<dyn std::error::Error + Send + Sync>;

impl Row {
    fn into_approval(self, decisions: Vec<Decision>) -> Result<Approval, Unreadable> {
        let alone = self.alone.map(|why| match &*why {
            "single_admin" => Alone::SingleAdmin,
            _ => Alone::NobodyElse,
        });
        Ok(Approval {
            id: ApprovalId(self.id),
            class: self.class.parse()?,
            name: self.name,
            digest: self.digest.try_into()?,
            content: String::from_utf8(self.content)?,
            plan: String::from_utf8(self.plan)?,
            requested_by: self.requested_by,
            requested_by_name: self.requested_by_name,
            requested_person: self.requested_person,
            requested_person_name: self.requested_person_name,
            requested_at: self.requested_at,
            waiting_job: self.waiting_job,
            needed: self.needed.try_into()?,
            yeses: self.yeses,
            alone,
            cooled_at: self.cooled_at,
            request_until: self.request_until,
            approved_until: self.approved_until,
            state: State::named(&self.state).ok_or("a state that is none")?,
            ended_at: self.ended_at,
            ended_by: self.ended_by,
            ended_by_name: self.ended_by_name,
            consumed_by_job: self.consumed_by_job,
            now: self.now,
            decisions,
        })
    }
}
