//! Carrying a plan out, a page at a time.
//!
//! Each page is one transaction. It locks the operation's row, so that two attempts of its job cannot work on one page;
//! then, in the order of ids, the jobs; and last of all the row of its own job, to see that the fence still stands. Its
//! own id is larger than every id of its plan, so that no order is broken, and so that it never meets itself.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use sqlx::{Connection, PgConnection};

use super::{
    BulkAction, BulkPlan, BulkRefused,
    matching::{self, Match},
};
use crate::{Fence, JobId, RetryRefused, State, bell::Wake, cancel, reprioritise, retry, snooze};

/// Why an operation did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BulkError {
    /// There is no such plan.
    #[error(transparent)]
    Refused(#[from] BulkRefused),
    /// The operation's job belongs to a newer attempt, or is over: nothing was done.
    #[error("a newer attempt carries the operation out")]
    Fenced,
    /// The database failed; nothing of the page was done, or its answer was lost.
    #[error("the page could not be carried out")]
    Database(#[from] sqlx::Error),
}

/// How far an operation has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BulkProgress {
    /// Jobs that the filter admitted so far.
    pub chosen: u64,
    /// Jobs that were acted on.
    pub acted: u64,
    /// Jobs that were left as they are.
    pub skipped: u64,
    /// Whether every job up to the plan's bound has been looked at.
    pub is_chosen: bool,
}

impl BulkProgress {
    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_chosen && self.acted + self.skipped == self.chosen
    }
}

/// A reason and how many jobs were skipped for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BulkOutcome {
    /// What a person should read.
    pub reason: String,
    /// Jobs skipped for it.
    pub jobs: u64,
}

/// The attempt that carries an operation out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub job: JobId,
    pub fence: Fence,
}

struct Head {
    chosen_up_to: i64,
    acted_up_to: i64,
    progress: BulkProgress,
}

/// Carries out the next page of at most `page` jobs, and answers how far it has come. `conn` must be in a transaction,
/// which the caller commits unless this is an error.
pub(crate) async fn step(
    conn: &mut PgConnection,
    operation: Operation,
    plan: &BulkPlan,
    by: &str,
    page: u32,
) -> Result<(BulkProgress, Wake), BulkError> {
    let mut head = open(conn, operation.job).await?;
    let mut wake = Wake::default();
    if !head.progress.is_chosen {
        choose(conn, operation.job, plan, &mut head).await?;
    } else if !head.progress.is_done() {
        wake = act(conn, operation.job, plan.action(), by, page, &mut head).await?;
    }
    save(conn, operation.job, &head).await?;
    hold(conn, operation).await?;
    Ok((head.progress, wake))
}

async fn open(conn: &mut PgConnection, operation: JobId) -> Result<Head, sqlx::Error> {
    // A process that freezes in the middle must not keep the jobs of its page locked.
    sqlx::query!(
        "-- queue.bulk_limit\nselect set_config('idle_in_transaction_session_timeout', '10s', true)"
    )
    .fetch_one(&mut *conn)
    .await?;
    sqlx::query!(
        "-- queue.bulk_begin\ninsert into queue.bulk (operation) values ($1) on conflict do nothing",
        operation.0
    )
    .execute(&mut *conn)
    .await?;
    let row = sqlx::query!(
        "-- queue.bulk_open
        select chosen_up_to, acted_up_to, chosen, acted, skipped, is_chosen from queue.bulk where operation = $1
        for update",
        operation.0
    )
    .fetch_one(conn)
    .await?;
    let progress = counted(row.chosen, row.acted, row.skipped, row.is_chosen);
    Ok(Head { chosen_up_to: row.chosen_up_to, acted_up_to: row.acted_up_to, progress })
}

fn counted(chosen: i64, acted: i64, skipped: i64, is_chosen: bool) -> BulkProgress {
    let [chosen, acted, skipped] = [chosen, acted, skipped].map(i64::unsigned_abs);
    BulkProgress { chosen, acted, skipped, is_chosen }
}

/// Writes down the jobs of the next piece of the tables that the filter admits.
async fn choose(
    conn: &mut PgConnection,
    operation: JobId,
    plan: &BulkPlan,
    head: &mut Head,
) -> Result<(), sqlx::Error> {
    let (matches, end) = matching::look(conn, plan.filter(), head.chosen_up_to, plan.up_to().0).await?;
    head.chosen_up_to = end;
    head.progress.is_chosen = end >= plan.up_to().0;
    head.progress.chosen += matches.len() as u64;
    sqlx::query!(
        "-- queue.bulk_choose
        insert into queue.bulk_outcome (operation, job, fence, state, is_live)
        select $1, * from unnest($2::bigint[], $3::bigint[], $4::smallint[], $5::boolean[])",
        operation.0,
        &matches.iter().map(|found| found.id).collect::<Vec<_>>(),
        &matches.iter().map(|found| found.fence).collect::<Vec<_>>(),
        &matches.iter().map(|found| found.state).collect::<Vec<_>>(),
        &matches.iter().map(|found| found.is_live).collect::<Vec<_>>(),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Acts on the next of the chosen jobs, and records what became of each.
async fn act(
    conn: &mut PgConnection,
    operation: JobId,
    action: BulkAction,
    by: &str,
    page: u32,
    head: &mut Head,
) -> Result<Wake, sqlx::Error> {
    let chosen = sqlx::query_as!(
        Match,
        r#"-- queue.bulk_page
        select job as id, is_live, state, fence from queue.bulk_outcome
        where operation = $1 and job > $2 order by job limit $3"#,
        operation.0,
        head.acted_up_to,
        i64::from(page)
    )
    .fetch_all(&mut *conn)
    .await?;
    let found = lock(conn, &chosen).await?;
    let (mut fit, mut skipped) = (Vec::new(), HashMap::new());
    for chosen in &chosen {
        match judge(action, *chosen, found.get(&chosen.id).copied()) {
            Ok(job) => fit.push(job),
            Err(reason) => drop(skipped.insert(chosen.id, reason)),
        }
    }
    let Applied { acted, wake, in_vain } = apply(conn, action, by, &fit).await?;
    for job in fit.iter().filter(|job| !acted.contains(&job.id)) {
        let why = if in_vain.contains(&job.id) { IN_VAIN } else { KEY_TAKEN };
        skipped.insert(job.id, why.to_owned());
    }
    head.acted_up_to = chosen.last().map_or(head.acted_up_to, |last| last.id);
    head.progress.skipped += skipped.len() as u64;
    head.progress.acted += acted.len() as u64;
    record(conn, operation, &chosen, &skipped).await?;
    Ok(wake)
}

/// Locks the jobs wherever they are. Live ones first: a job that ends meanwhile is then found in history.
async fn lock(conn: &mut PgConnection, chosen: &[Match]) -> Result<HashMap<i64, Match>, sqlx::Error> {
    let ids: Vec<i64> = chosen.iter().map(|chosen| chosen.id).collect();
    let mut found = sqlx::query_as!(
        Match,
        r#"-- queue.bulk_lock
        select id, true as "is_live!", state, fence from queue.job where id = any($1) order by id for update"#,
        &ids
    )
    .fetch_all(&mut *conn)
    .await?;
    let elsewhere: Vec<i64> = ids.into_iter().filter(|id| found.iter().all(|job| job.id != *id)).collect();
    if !elsewhere.is_empty() {
        let resting = sqlx::query_as!(
            Match,
            r#"-- queue.bulk_lock_resting
            select id, false as "is_live!", outcome as state, fence from queue.job_history
            where id = any($1) order by id for update"#,
            &elsewhere
        );
        found.extend(resting.fetch_all(conn).await?);
    }
    Ok(found.into_iter().map(|job| (job.id, job)).collect())
}

/// Whether to act on a chosen job as it is now, or why not.
fn judge(action: BulkAction, chosen: Match, now: Option<Match>) -> Result<Match, String> {
    let now = now.ok_or_else(|| "it has left history".to_owned())?;
    let (was, is) = (chosen.state(), now.state());
    if was != is {
        return Err(format!("it was {was} when it was chosen and is {is} now"));
    }
    if chosen.fence != now.fence {
        return Err(format!("it was {was} when it was chosen and has moved since"));
    }
    if !action.admits(is) {
        return Err(format!("it is {is}: {}", action.only()));
    }
    Ok(now)
}

const KEY_TAKEN: &str = "another live job has its unique key";
const IN_VAIN: &str = "a job that it waits for did not succeed: retry that first";

/// What became of the jobs of a page that fit.
#[derive(Default)]
struct Applied {
    acted: BTreeSet<i64>,
    /// Those that could not come back because of a job that they wait for; the others found their unique key taken.
    in_vain: BTreeSet<i64>,
    wake: Wake,
}

/// Acts on the jobs, which are locked.
async fn apply(
    conn: &mut PgConnection,
    action: BulkAction,
    by: &str,
    fit: &[Match],
) -> Result<Applied, sqlx::Error> {
    let ids_of =
        |is: fn(&Match) -> bool| -> Vec<i64> { fit.iter().copied().filter(is).map(|job| job.id).collect() };
    let mut applied = Applied::default();
    let Applied { acted, wake, .. } = &mut applied;
    match action {
        BulkAction::Retry => {
            for job in retry::wake(conn, &ids_of(|job| job.is_live)).await? {
                acted.insert(job.id);
                wake.ring.queues.insert(job.queue);
            }
            revive(conn, &ids_of(|job| !job.is_live), &mut applied).await?;
        }
        BulkAction::Cancel => {
            let told = cancel::ask(conn, &ids_of(|job| job.state() == State::Running), by).await?;
            let off = cancel::call_off(conn, &ids_of(|job| job.state() != State::Running), by).await?;
            wake.awaited = off.iter().filter(|job| job.awaited).map(|job| job.id).collect();
            wake.told = told.iter().copied().map(JobId).collect();
            acted.extend(told.into_iter().chain(off.into_iter().map(|job| job.id)));
        }
        BulkAction::Reprioritise { to } => {
            for job in reprioritise::reprioritise(conn, &ids_of(|_| true), to).await? {
                acted.insert(job.id);
                wake.ring.queues.insert(job.queue);
            }
        }
        BulkAction::Snooze { until } => {
            acted.extend(snooze::snooze(conn, &ids_of(|_| true), until, by).await?);
        }
    }
    Ok(applied)
}

/// Brings jobs back from history: those that wait for no other in one statement, the others one by one, because each may
/// be refused.
async fn revive(conn: &mut PgConnection, ids: &[i64], applied: &mut Applied) -> Result<(), sqlx::Error> {
    let dependents = retry::dependents(conn, ids).await?;
    let alone: Vec<i64> = ids.iter().copied().filter(|id| !dependents.contains(id)).collect();
    for job in retry::revive(conn, &alone).await? {
        applied.acted.insert(job.id);
        applied.wake.ring.queues.insert(job.queue);
    }
    for id in dependents {
        let mut apart = conn.begin().await?;
        match retry::retry(&mut apart, JobId(id)).await {
            Ok(ring) => {
                apart.commit().await?;
                applied.acted.insert(id);
                applied.wake.ring = std::mem::take(&mut applied.wake.ring).and(ring);
            }
            Err(RetryRefused::Database(error)) => return Err(error),
            Err(refused) => {
                apart.rollback().await?;
                if matches!(refused, RetryRefused::DependencyFailed { .. }) {
                    applied.in_vain.insert(id);
                }
            }
        }
    }
    Ok(())
}

async fn record(
    conn: &mut PgConnection,
    operation: JobId,
    chosen: &[Match],
    skipped: &HashMap<i64, String>,
) -> Result<(), sqlx::Error> {
    let reasons: Vec<Option<&str>> =
        chosen.iter().map(|job| skipped.get(&job.id).map(String::as_str)).collect();
    let recorded = sqlx::query!(
        "-- queue.bulk_record
        update queue.bulk_outcome o set outcome = case when n.reason is null then 1 else 2 end, reason = n.reason
        from unnest($2::bigint[], $3::text[]) as n(job, reason)
        where o.operation = $1 and o.job = n.job and o.outcome = 0",
        operation.0,
        &chosen.iter().map(|job| job.id).collect::<Vec<_>>(),
        &reasons as _
    )
    .execute(conn)
    .await?;
    assert_eq!(recorded.rows_affected(), chosen.len() as u64, "a chosen job is dealt with once");
    Ok(())
}

async fn save(conn: &mut PgConnection, operation: JobId, head: &Head) -> Result<(), sqlx::Error> {
    let BulkProgress { chosen, acted, skipped, is_chosen } = head.progress;
    let [chosen, acted, skipped] =
        [chosen, acted, skipped].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    sqlx::query!(
        "-- queue.bulk_save
        update queue.bulk
        set chosen_up_to = $2, acted_up_to = $3, chosen = $4, acted = $5, skipped = $6, is_chosen = $7
        where operation = $1",
        operation.0,
        head.chosen_up_to,
        head.acted_up_to,
        chosen,
        acted,
        skipped,
        is_chosen
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Sees to it that the operation's job stays this attempt's until the page is committed.
async fn hold(conn: &mut PgConnection, operation: Operation) -> Result<(), BulkError> {
    let held = sqlx::query_scalar!(
        "-- queue.bulk_hold\nselect id from queue.job where id = $1 and fence = $2 for share",
        operation.job.0,
        operation.fence.0
    )
    .fetch_optional(conn)
    .await?;
    held.map(drop).ok_or(BulkError::Fenced)
}

/// How far the operation of this job has come, if it has begun.
pub(crate) async fn progress(
    conn: &mut PgConnection,
    operation: JobId,
) -> Result<Option<BulkProgress>, sqlx::Error> {
    let row = sqlx::query!(
        "-- queue.bulk_progress\nselect chosen, acted, skipped, is_chosen from queue.bulk where operation = $1",
        operation.0
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| counted(row.chosen, row.acted, row.skipped, row.is_chosen)))
}

/// Why jobs were skipped, the most frequent reason first.
pub(crate) async fn outcomes(
    conn: &mut PgConnection,
    operation: JobId,
) -> Result<Vec<BulkOutcome>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"-- queue.bulk_outcomes
        select reason as "reason!", count(*) as "jobs!" from queue.bulk_outcome
        where operation = $1 and outcome = 2 group by reason order by 2 desc, 1 limit 20"#,
        operation.0
    )
    .fetch_all(conn)
    .await?;
    let outcome = |reason, jobs: i64| BulkOutcome { reason, jobs: jobs.unsigned_abs() };
    Ok(rows.into_iter().map(|row| outcome(row.reason, row.jobs)).collect())
}

/// Forgets operations that began longer ago than this many days and are no longer live.
pub(crate) async fn forget(conn: &mut PgConnection, days: i32) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- queue.bulk_forget
        delete from queue.bulk b
        where created_at < now() - make_interval(days => $1)
          and not exists (select from queue.job j where j.id = b.operation)",
        days
    )
    .execute(conn)
    .await
    .map(drop)
}
