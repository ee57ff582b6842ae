//! Runs: a candidate tried on cases.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{Case, CaseId, Hands, Judge, Said, ShadowError, value::whole};
use crate::{
    audit::{self, Event},
    candidate::Candidate,
    digest::Digest,
};

/// What became of one run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The case.
    pub case: CaseId,
    /// Its input.
    pub input: Digest,
    /// What the candidate said, its value laid over the case's own; or why it said nothing.
    pub end: Result<(Said, Option<Value>), RunError>,
}

/// Why a run has no verdict. Each counts as a disagreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunError {
    /// It failed, or said what makes no sense.
    Failed,
    /// It took too long.
    Timeout,
    /// It panicked.
    Panicked,
    /// It wanted to write.
    WriteRefused,
}

impl RunError {
    /// Its name in rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Panicked => "panicked",
            Self::WriteRefused => "write_refused",
        }
    }
}

/// Cases that people have judged and that the candidate has not run on, the oldest first.
///
/// Only judged ones: a run without a baseline would be a disagreement, and a case waits for its baseline for nothing.
pub async fn pending(
    conn: &mut PgConnection,
    candidate: &Candidate,
    limit: i64,
) -> Result<Vec<Case>, ShadowError> {
    let rows = sqlx::query!(
        r#"-- shadow.pending
        select c.id as "id: CaseId", c.path, c.input_digest, c.connector, c.stream, c.key, c.original, c.input
        from tenant.shadow_case c
        where c.path = $2
          and exists (select from tenant.shadow_baseline b where b.case_id = c.id and b.number = 1)
          and not exists (select from tenant.shadow_run r where r.candidate = $1 and r.case_id = c.id)
        order by c.id limit $3"#,
        candidate.id,
        candidate.definition.path,
        limit,
    );
    let cases = rows.fetch_all(conn).await?.into_iter().map(|row| {
        let input_digest = row.input_digest.try_into().map_err(|_| ShadowError::NoCase(row.id))?;
        Ok(Case {
            id: row.id,
            path: row.path,
            input_digest,
            connector: row.connector,
            stream: row.stream,
            key: row.key,
            original: row.original,
            input: row.input,
        })
    });
    cases.collect()
}

/// Tries a candidate on cases, each for at most `time_max`. `conn` must be in a read-only transaction: this is checked.
///
/// What goes wrong with a case is that run's end; an error of this function is one of the connection.
pub async fn attempt(
    conn: &mut PgConnection,
    judge: &dyn Judge,
    cases: &[Case],
    time_max: Duration,
) -> Result<Vec<Ran>, ShadowError> {
    must_be_read_only(conn).await?;
    // A statement that goes on after the case's time would hold up the next one.
    set_statement_timeout(conn, time_max).await?;
    let mut ran = Vec::with_capacity(cases.len());
    for case in cases {
        let end = try_one(conn, judge, case, time_max).await?;
        ran.push(Ran { case: case.id, input: case.input_digest, end });
    }
    Ok(ran)
}

async fn must_be_read_only(conn: &mut PgConnection) -> Result<(), ShadowError> {
    let is_read_only = sqlx::query_scalar!(
        r#"-- shadow.is_read_only
        select current_setting('transaction_read_only')::boolean as "it_is!""#
    );
    if is_read_only.fetch_one(conn).await? {
        return Ok(());
    }
    Err(sqlx::Error::Protocol("a shadow run was given a transaction that can write".to_owned()).into())
}

async fn set_statement_timeout(conn: &mut PgConnection, time_max: Duration) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- shadow.set_timeout
        select set_config('statement_timeout', $1, true)",
        time_max.as_millis().max(1).to_string(),
    )
    .fetch_one(conn)
    .await
    .map(drop)
}

async fn try_one(
    conn: &mut PgConnection,
    judge: &dyn Judge,
    case: &Case,
    time_max: Duration,
) -> Result<Result<(Said, Option<Value>), RunError>, ShadowError> {
    run(conn, "savepoint shadow_run").await?;
    let mut hands = Hands::new(conn);
    let judged = AssertUnwindSafe(async { judge.judge(case, &mut hands).await }).catch_unwind();
    let judged = tokio::time::timeout(time_max, judged).await;
    let has_reached = hands.has_reached();
    let end = match judged {
        _ if has_reached => Err(RunError::WriteRefused),
        Err(_elapsed) => Err(RunError::Timeout),
        Ok(Err(_panic)) => Err(RunError::Panicked),
        Ok(Ok(Err(fault))) if fault.is_write() => Err(RunError::WriteRefused),
        Ok(Ok(Err(_fault))) => Err(RunError::Failed),
        Ok(Ok(Ok(said))) => {
            whole(&case.original, &said).map(|value| (said, value)).map_err(|_| RunError::Failed)
        }
    };
    // A statement failed and the candidate kept it to itself: what it says rests on nothing.
    let is_whole = run(conn, "release savepoint shadow_run; savepoint shadow_run").await.is_ok();
    run(conn, "rollback to savepoint shadow_run").await?;
    Ok(if is_whole { end } else { end.and(Err(RunError::Failed)) })
}

async fn run(conn: &mut PgConnection, statement: &'static str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(drop)
}

/// Keeps runs; of several on one case the first stands. Writes that were attempted go on record.
pub async fn record(
    conn: &mut PgConnection,
    candidate: &Candidate,
    job: i64,
    ran: &[Ran],
) -> Result<u64, ShadowError> {
    let cases: Vec<i64> = ran.iter().map(|ran| ran.case.0).collect();
    let said = |ran: &Ran| ran.end.as_ref().ok().cloned();
    let verdicts: Vec<Option<&str>> =
        ran.iter().map(|ran| said(ran).map(|(said, _)| said.verdict.as_str())).collect();
    let values: Vec<Option<Value>> = ran.iter().map(|ran| said(ran).and_then(|(_, value)| value)).collect();
    let classes: Vec<Option<String>> =
        ran.iter().map(|ran| said(ran).and_then(|(said, _)| said.class)).collect();
    let errors: Vec<Option<&str>> =
        ran.iter().map(|ran| ran.end.as_ref().err().map(|error| error.name())).collect();
    let kept = sqlx::query!(
        "-- shadow.record
        insert into tenant.shadow_run (candidate, case_id, verdict, value, class, error, job)
        select $1, n.case_id, n.verdict, n.value, n.class, n.error, $2
        from unnest($3::bigint[], $4::text[], $5::jsonb[], $6::text[], $7::text[])
            as n(case_id, verdict, value, class, error)
        order by n.case_id
        on conflict (candidate, case_id) do nothing",
        candidate.id,
        job,
        &cases,
        &verdicts as _,
        &values as _,
        &classes as _,
        &errors as _,
    )
    .execute(&mut *conn)
    .await?;
    put_on_record(conn, candidate, job, ran).await?;
    Ok(kept.rows_affected())
}

/// One entry names so many inputs at most; it stays far below the size of an entry.
const INPUTS_PER_ENTRY: usize = 200;

async fn put_on_record(
    conn: &mut PgConnection,
    candidate: &Candidate,
    job: i64,
    ran: &[Ran],
) -> Result<(), ShadowError> {
    let refused: Vec<Digest> = ran
        .iter()
        .filter(|ran| matches!(ran.end, Err(RunError::WriteRefused)))
        .map(|ran| ran.input)
        .collect();
    for inputs in refused.chunks(INPUTS_PER_ENTRY) {
        let body = json!({ "candidate": candidate.digest, "inputs": inputs });
        let event = Event { kind: "shadow.write_refused", actor: None, job: Some(job), body };
        audit::append(conn, &event).await?;
    }
    Ok(())
}
