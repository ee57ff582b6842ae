//! What policy alone wants: the fixes of an autonomous candidate.

use serde_json::json;
use sqlx::PgConnection;

use super::{WishError, WishId};
use crate::{
    actor::{self, ActorId},
    audit::{self, Event},
    writeback::{self, Active, Rule},
};

/// One entry of the chain names so many decisions at most.
const TAKEN_MAX: i64 = 1_000;

/// Makes wishes of stored decisions that the path's candidate may carry out without a person, at most `limit` and no
/// more than the rest of the day's cap; none unless the candidate is autonomous and its policy is the path's newest.
///
/// A decision counts if it is the newest on its record as that is now, says `fix`, is as sure as the policy asks, and no
/// person has been asked about the record in this state. Repeating it takes nothing up twice. The last call of its
/// transaction.
pub async fn take_up(
    conn: &mut PgConnection,
    path: &str,
    limit: i64,
    job: Option<i64>,
) -> Result<Vec<WishId>, WishError> {
    // Held to the end, as an intent does: a demotion that commits first stops it, and two who take up count one another.
    writeback::hold(conn, path).await?;
    let Some(rule) = writeback::rule(conn, path).await? else { return Ok(Vec::new()) };
    let Some((candidate, version)) = may_act(&rule) else { return Ok(Vec::new()) };
    let room = limit.min(TAKEN_MAX).min(room(conn, &rule).await?);
    if room <= 0 {
        return Ok(Vec::new());
    }
    let by = acts_for(conn, candidate).await?;
    let taken = insert(conn, &rule, version, room, by).await?;
    if !taken.is_empty() {
        let body = json!({ "path": rule.path, "policy": version, "decisions": taken, "candidate": candidate.name,
            "generation": candidate.generation });
        audit::append(conn, &Event { kind: "wish.taken_up", actor: Some(by), job, body }).await?;
    }
    Ok(taken)
}

/// The candidate that may act alone on this path, with the version of the policy that it acts by.
fn may_act(rule: &Rule) -> Option<(&Active, i32)> {
    let candidate = rule.candidate.as_ref().filter(|candidate| candidate.is_autonomous)?;
    let is_certified = matches!(rule.state.as_str(), "certified" | "live");
    let (version, digest) = rule.policy.filter(|_| is_certified)?;
    (candidate.policy == Some((version, digest))).then_some((candidate, version))
}

/// How many more changes the day has room for, those under way and those wanted already taken away.
async fn room(conn: &mut PgConnection, rule: &Rule) -> Result<i64, WishError> {
    let used = sqlx::query_scalar!(
        r#"-- wish.used
        select (select count(*) from tenant.writeback
                where path = $1 and compensates is null
                  and (intent_at >= date_trunc('day', now(), 'UTC') or intent_at is null and ended_at is null))
            + (select count(*) from tenant.wish w join tenant.decision d on d.id = w.decision
               join tenant.path p on p.id = d.path where p.name = $1 and w.state = 'due') as "used!""#,
        rule.path,
    );
    Ok(i64::from(rule.daily_cap) - used.fetch_one(conn).await?)
}

/// The service that acts: behind it stands the person who let the candidate act alone.
async fn acts_for(conn: &mut PgConnection, candidate: &Active) -> Result<ActorId, WishError> {
    let person = sqlx::query_scalar!(
        r#"-- wish.behind
        select coalesce(a.person, c.created_by) as "person!: ActorId"
        from tenant.candidate c
        left join tenant.candidate_move m on m.candidate = c.id and m.generation = c.generation
        left join governance.actor a on a.id = m.actor
        where c.name = $1"#,
        candidate.name,
    );
    let person = person.fetch_one(&mut *conn).await?;
    let name = format!("candidate {} {}", candidate.name, candidate.generation);
    Ok(actor::service(conn, &name, person).await?.id)
}

async fn insert(
    conn: &mut PgConnection,
    rule: &Rule,
    version: i32,
    limit: i64,
    by: ActorId,
) -> Result<Vec<WishId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- wish.take_up
        insert into tenant.wish (decision, requested_by)
        select d.id, $6 from tenant.path p
        join tenant.decision d on d.path = p.id and d.policy_version = $2
        join tenant.record r on r.connector = p.connector and r.stream = p.stream and r.key = d.key
            and r.digest = d.record_digest and r.deleted_at is null
        where p.name = $1 and d.verdict = 'fix' and d.confidence >= $3
          and not exists (
            select from tenant.decision later
            where later.path = d.path and later.key = d.key and later.policy_version = d.policy_version
              and later.record_digest = d.record_digest and later.id > d.id)
          and not exists (
            select from tenant.wish w join tenant.decision o on o.id = w.decision
            where o.path = d.path and o.key = d.key and o.record_digest = d.record_digest)
          and not exists (
            select from tenant.review_case c join tenant.decision o on o.id = c.decision
            where c.path = d.path and c.key = d.key and c.state <> 'stale' and o.record_digest = d.record_digest)
          and not exists (
            select from tenant.writeback b
            where b.connector = $4 and b.stream = $5 and b.key = d.key and b.ended_at is null)
        order by d.id limit $7
        on conflict (decision) do nothing
        returning decision as "id: WishId""#,
        rule.path,
        version,
        i16::from(rule.floor),
        rule.connector,
        rule.stream,
        by as ActorId,
        limit,
    )
    .fetch_all(conn)
    .await
}
