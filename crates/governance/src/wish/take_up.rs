//! What policy alone wants: the fixes of an autonomous candidate.

use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{WishError, WishId};
use crate::{
    actor::{self, ActorId},
    audit::{self, Event},
    decision::{self, Decider, Decision, PAGE_RECORDS, Verdict},
    path::{self, Path},
    policy,
    writeback::{self, Active, Rule},
};

/// One entry of the chain names so many decisions at most.
const TAKEN_MAX: i64 = 1_000;

/// Makes wishes of stored decisions that the path's candidate may carry out without a person, at most `limit` and no
/// more than the rest of the day's cap; none unless the candidate is autonomous and its policy is the path's newest.
///
/// A decision counts if the policy says the same of the record now, by the evidence of now: `fix`, as sure as it asks;
/// and no person has been asked about the record in this state. Repeating it takes nothing up twice. The last call of
/// its transaction.
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
    let taken = take(conn, &rule, version, room, by).await?;
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

/// Decides anew over the records whose stored fixes nobody has wanted yet, in the order of their keys, and wants those of
/// which the policy says now what is stored: evidence changes with other records, and a decision that was made before is
/// not stored again when it comes back.
async fn take(
    conn: &mut PgConnection,
    rule: &Rule,
    version: i32,
    room: i64,
    by: ActorId,
) -> Result<Vec<WishId>, WishError> {
    let path = path::by_name(conn, &rule.path).await?;
    let (_, policy) = policy::load(conn, &path, Some(version)).await?;
    let now = decision::now(conn).await?;
    let decider = Decider::new(&path, &policy, now);
    let (mut taken, mut room, mut after) = (Vec::new(), room, None);
    while room > 0 {
        let keys = unwanted(conn, &path, version, rule.floor, after.as_deref()).await?;
        let Some(last) = keys.last() else { break };
        let records = decision::of_keys(conn, &path, &keys).await?;
        let mut decisions = decision::decide_page(conn, &path, &decider, &records).await?;
        decisions.retain(|it| it.judged.verdict == Verdict::Fix && it.judged.confidence >= rule.floor);
        let wanted = insert(conn, &path, version, &decisions, room, by).await?;
        room = room.saturating_sub_unsigned(wanted.len() as u64);
        taken.extend(wanted);
        after = Some(last.clone());
    }
    Ok(taken)
}

/// Records after this key with a stored fix of this version on what they are now, about which nothing is wanted, nobody
/// was asked, and nothing is under way.
async fn unwanted(
    conn: &mut PgConnection,
    path: &Path,
    version: i32,
    floor: u8,
    after: Option<&str>,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- wish.unwanted
        select distinct d.key as "key!" from tenant.decision d
        join tenant.record r on r.connector = $3 and r.stream = $4 and r.key = d.key
            and r.digest = d.record_digest and r.deleted_at is null
        where d.path = $1 and d.policy_version = $2 and d.verdict = 'fix' and d.confidence >= $5
          and ($6::text is null or d.key > $6 collate "C")
          and not exists (
            select from tenant.wish w join tenant.decision o on o.id = w.decision
            where o.path = d.path and o.key = d.key and o.record_digest = d.record_digest)
          and not exists (
            select from tenant.review_case c join tenant.decision o on o.id = c.decision
            where c.path = d.path and c.key = d.key and c.state <> 'stale' and o.record_digest = d.record_digest)
          and not exists (
            select from tenant.writeback b
            where b.connector = $3 and b.stream = $4 and b.key = d.key and b.ended_at is null)
        order by d.key limit $7"#,
        path.id,
        version,
        path.connector,
        path.stream,
        i16::from(floor),
        after,
        PAGE_RECORDS,
    )
    .fetch_all(conn)
    .await
}

/// Wants these fixes, as far as they are stored: the newest that says the same of the same record by the same evidence.
async fn insert(
    conn: &mut PgConnection,
    path: &Path,
    version: i32,
    fixes: &[Decision],
    limit: i64,
    by: ActorId,
) -> Result<Vec<WishId>, sqlx::Error> {
    let keys: Vec<_> = fixes.iter().map(|it| it.key.clone()).collect();
    let records: Vec<_> = fixes.iter().map(|it| it.record_digest.clone()).collect();
    let evidence: Vec<_> = fixes.iter().map(|it| it.evidence_digest.to_vec()).collect();
    let classes: Vec<_> = fixes.iter().map(|it| it.judged.class.clone()).collect();
    let confidence: Vec<_> = fixes.iter().map(|it| i16::from(it.judged.confidence)).collect();
    let proposed: Vec<_> = fixes.iter().map(|it| it.judged.proposed.clone().map(Value::Object)).collect();
    sqlx::query_scalar!(
        r#"-- wish.take_up
        insert into tenant.wish (decision, requested_by)
        select max(d.id) as id, $9 from unnest($3::text[], $4::text[], $5::bytea[], $6::text[], $7::smallint[],
            $8::jsonb[]) as now (key, record_digest, evidence_digest, class, confidence, proposed)
        join tenant.decision d on d.path = $1 and d.policy_version = $2 and d.key = any($3) and d.key = now.key
            and d.record_digest = now.record_digest and d.evidence_digest = now.evidence_digest and d.verdict = 'fix'
            and d.class = now.class and d.confidence = now.confidence and d.proposed = now.proposed
        group by d.key order by d.key limit $10
        on conflict (decision) do nothing
        returning decision as "id: WishId""#,
        path.id,
        version,
        &keys,
        &records,
        &evidence,
        &classes as &[Option<String>],
        &confidence,
        &proposed as &[Option<Value>],
        by as ActorId,
        limit,
    )
    .fetch_all(conn)
    .await
}
