//! Cases made from decisions.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};
use sqlx::PgConnection;

use super::{ReviewError, ReviewId, lock_path};
use crate::{
    audit::{self, Event},
    decision::{self, Decider, Decision, Evidence, Record, Stored, Verdict},
    path::Path,
    policy::Policy,
    shadow::{self, CaseId, NewCase, shown},
};

/// What became of a page of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// New cases.
    pub opened: Vec<ReviewId>,
    /// Cases that were open and are stale now: the record changed, or what the policy asks about it.
    pub stale: Vec<ReviewId>,
    /// Decisions for people that need no new case: the same question is open or was answered.
    pub known: usize,
}

/// What a pass over a page of records came to.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// What was decided, in the order of the records.
    pub decisions: Vec<Decision>,
    /// What of that was stored.
    pub stored: Stored,
    /// What became of the cases.
    pub opened: Opened,
}

/// Decides over a page of records by this version of the path's policy, keeps the decisions, and opens a case for each
/// that is for people: verdict `review`, and with `fixes` also `fix`. An open case that asks something else than the
/// policy does now is closed as stale. At most [`decision::PAGE_RECORDS`] records; the last call of its transaction.
///
/// The same question about a record in the same state is asked once, whatever day or version it comes from.
pub async fn open(
    conn: &mut PgConnection,
    path: &Path,
    policy: (i32, &Policy),
    records: &[Record],
    fixes: bool,
) -> Result<Opened, ReviewError> {
    Ok(pass(conn, path, policy, records, fixes).await?.opened)
}

/// The same, and tells what was decided.
pub async fn pass(
    conn: &mut PgConnection,
    path: &Path,
    (version, policy): (i32, &Policy),
    records: &[Record],
    fixes: bool,
) -> Result<Pass, ReviewError> {
    // Two who open at once would ask the same twice.
    lock_path(conn, path).await?;
    let now = decision::now(conn).await?;
    let decider = Decider::new(path, policy, now);
    let evidence = decision::gather(conn, path, policy, records).await?;
    let decisions: Vec<_> =
        records.iter().zip(&evidence).map(|(record, evidence)| decider.decide(record, evidence)).collect();
    let (stored, new) = decision::insert(conn, path, version, &decisions).await?;
    let ids = current(conn, path, version, &decisions).await?;
    let mut all = Vec::new();
    for ((record, evidence), decision) in records.iter().zip(&evidence).zip(&decisions) {
        let Some(id) = ids.get(&decision.input_digest.to_vec()) else { continue };
        all.push(Question { id: *id, record, evidence, decision });
    }
    let stale = supersede(conn, path, &all).await?;
    // Whose case has become stale is asked again, whether the policy is sure by now or not.
    all.retain(|it| {
        it.is(Verdict::Review) || it.is(Verdict::Fix) && (fixes || stale.contains_key(&it.record.key))
    });
    let fresh = fresh(conn, path, &all).await?;
    let mut cases = Vec::new();
    for question in all.iter().filter(|it| fresh.contains(&it.id)) {
        cases.push((question, question.freeze(conn, path, now).await?));
    }
    let opened = insert(conn, path, &cases, &stale).await?;
    let known = all.len() - opened.len();
    let stale: Vec<_> = stale.into_values().collect();
    // The chain comes last: who waits for it may hold a case of ours.
    decision::issue_receipts(conn, path, version, &decisions, &new).await?;
    record(conn, path, version, &opened, &stale).await?;
    Ok(Pass { opened: Opened { opened, stale, known }, decisions, stored })
}

/// A decision on a record that is as it was when it was decided on.
struct Question<'a> {
    id: i64,
    record: &'a Record,
    evidence: &'a Evidence,
    decision: &'a Decision,
}

impl Question<'_> {
    fn is(&self, verdict: Verdict) -> bool {
        self.decision.judged.verdict == verdict
    }

    /// Keeps what candidates are to be tried on; nothing of a record that is too large.
    async fn freeze(
        &self,
        conn: &mut PgConnection,
        path: &Path,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Result<Option<CaseId>, ReviewError> {
        let (Some(data), Some(input)) = (&self.record.data, shown(self.record, self.evidence, now)) else {
            return Ok(None);
        };
        let of = |field: &String| (field.clone(), data.get(field).cloned().unwrap_or(Value::Null));
        let original: Map<_, _> = path.fields.iter().map(of).collect();
        let case = NewCase {
            path: &path.name,
            input_digest: self.decision.input_digest,
            connector: &path.connector,
            stream: &path.stream,
            key: &self.record.key,
            original: &original,
            input: &input,
        };
        Ok(Some(shadow::freeze(conn, &case).await?))
    }
}

/// The stored decisions whose record is still what they were made on, by their input.
///
/// Each is looked up by its key, whatever the statistics say: tables that were filled a moment ago look empty, and a join
/// that tries every pair then looks free (10 s a page of 2,000 against 20 ms, over 5,000 records).
async fn current(
    conn: &mut PgConnection,
    path: &Path,
    version: i32,
    decisions: &[Decision],
) -> Result<HashMap<Vec<u8>, i64>, sqlx::Error> {
    let inputs: Vec<_> = decisions.iter().map(|it| it.input_digest.to_vec()).collect();
    let rows = sqlx::query!(
        r#"-- review.current
        select d.id as "id!", d.input_digest as "input_digest!"
        from unnest($3::bytea[]) as given (input)
        cross join lateral (
            select id, input_digest, key, record_digest from tenant.decision
            where path = $1 and policy_version = $2 and input_digest = given.input offset 0) as d
        cross join lateral (
            select from tenant.record
            where connector = $4 and stream = $5 and key = d.key and digest = d.record_digest
                and deleted_at is null offset 0) as r"#,
        path.id,
        version,
        &inputs,
        path.connector,
        path.stream,
    );
    Ok(rows.fetch_all(conn).await?.into_iter().map(|row| (row.input_digest, row.id)).collect())
}

/// Closes the open cases of these records that ask something else than is asked now. Answers them by their key.
async fn supersede(
    conn: &mut PgConnection,
    path: &Path,
    all: &[Question<'_>],
) -> Result<HashMap<String, ReviewId>, sqlx::Error> {
    let keys: Vec<_> = all.iter().map(|it| it.record.key.clone()).collect();
    let ids: Vec<_> = all.iter().map(|it| it.id).collect();
    // Rules that would do it themselves do not answer what a person was asked.
    let asks: Vec<_> = all.iter().map(|it| it.is(Verdict::Review) || it.is(Verdict::Fix)).collect();
    let rows = sqlx::query!(
        r#"-- review.supersede
        update tenant.review_case c
        set state = 'stale', version = c.version + 1, changed_at = now(), closed_at = now()
        from unnest($2::text[], $3::bigint[], $4::boolean[]) as given (key, decision, asks),
            tenant.decision old, tenant.decision new
        where c.path = $1 and c.key = any($2) and c.state = 'open' and given.key = c.key
          and old.id = c.decision and new.id = given.decision
          and not (given.asks and old.record_digest = new.record_digest
            and (old.rule, old.proposed) is not distinct from (new.rule, new.proposed))
        returning c.id as "id: ReviewId", c.key"#,
        path.id,
        &keys,
        &ids,
        &asks,
    );
    Ok(rows.fetch_all(conn).await?.into_iter().map(|row| (row.key, row.id)).collect())
}

/// The decisions for people whose question is neither open nor answered.
async fn fresh(
    conn: &mut PgConnection,
    path: &Path,
    all: &[Question<'_>],
) -> Result<HashSet<i64>, sqlx::Error> {
    let asked: Vec<_> = all.iter().map(|it| it.id).collect();
    let ids = sqlx::query_scalar!(
        "-- review.fresh
        select new.id from tenant.decision new
        where new.id = any($2) and not exists (
            select from tenant.review_case c join tenant.decision old on old.id = c.decision
            where c.path = $1 and c.key = new.key and c.state <> 'stale' and old.record_digest = new.record_digest
              and (old.rule, old.proposed) is not distinct from (new.rule, new.proposed))
          -- What policy alone wants is on its way: a person's word could not be carried out.
          and not exists (select from tenant.wish w where w.decision = new.id)",
        path.id,
        &asked,
    );
    Ok(ids.fetch_all(conn).await?.into_iter().collect())
}

async fn insert(
    conn: &mut PgConnection,
    path: &Path,
    cases: &[(&Question<'_>, Option<CaseId>)],
    stale: &HashMap<String, ReviewId>,
) -> Result<Vec<ReviewId>, sqlx::Error> {
    let keys: Vec<_> = cases.iter().map(|(it, _)| it.record.key.clone()).collect();
    let ids: Vec<_> = cases.iter().map(|(it, _)| it.id).collect();
    let shadows: Vec<_> = cases.iter().map(|(_, shadow)| shadow.map(|it| it.0)).collect();
    let replaces: Vec<_> = keys.iter().map(|key| stale.get(key).map(|it| it.0)).collect();
    let opened = sqlx::query_scalar!(
        r#"-- review.open
        insert into tenant.review_case (path, key, decision, shadow_case, replaces)
        select $1, given.* from unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) as given
        returning id as "id: ReviewId""#,
        path.id,
        &keys,
        &ids,
        &shadows as &[Option<i64>],
        &replaces as &[Option<i64>],
    );
    opened.fetch_all(conn).await
}

async fn record(
    conn: &mut PgConnection,
    path: &Path,
    version: i32,
    opened: &[ReviewId],
    stale: &[ReviewId],
) -> Result<(), ReviewError> {
    if opened.is_empty() && stale.is_empty() {
        return Ok(());
    }
    let numbers = |ids: &[ReviewId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let body = json!({
        "path": path.id, "version": version, "cases": numbers(opened), "stale": numbers(stale),
    });
    audit::append(conn, &Event { kind: "review.opened", actor: None, job: None, body }).await?;
    Ok(())
}
