//! What the rules say of every record of every path, with a case for what the policy gives to people.
//!
//! All records are looked at, not only those whose sync saw a change: a record's evidence changes with other records,
//! and an issue rate is of what there is. What is decided anew is what changed: the same input is one decision.

use database::tenant::Begun;
use governance::{
    decision::{self, PAGE_RECORDS},
    path::{self, Path},
    policy::{self, Policy, PolicyError, StoredPolicy},
    review,
};
use queue::{JobError, Progress};
use sqlx::PgConnection;

use super::{
    Night, judge,
    store::{self, Reached, Run},
};
use crate::environment::into_job_error;

/// Records decided on in one transaction.
const PAGE: i64 = if cfg!(test) { 2 } else { PAGE_RECORDS };

impl Night<'_> {
    /// Decides over the records of every path.
    pub(super) async fn decide(&self, run: &Run) -> Result<(), JobError> {
        let mut read = self.db.read().await.map_err(into_job_error)?;
        let paths = path::list(&mut read).await.map_err(judge)?;
        read.finish().await.map_err(into_job_error)?;
        let mut records = 0;
        for path in &paths {
            loop {
                let reached = self.page(run, path).await?;
                self.attempt.checkpointed();
                let message = format!("{}: {} records decided on", path.name, reached.counted.counts.records);
                let done = records + reached.counted.counts.records;
                self.attempt.progress(Progress { done, total: None, message });
                if reached.is_done {
                    records = done;
                    break;
                }
                self.stop_if_asked()?;
            }
        }
        Ok(())
    }

    /// The next page of a path; once there is none, the cases of records that are gone.
    async fn page(&self, run: &Run, path: &Path) -> Result<Reached, JobError> {
        let reached = self.reached(run, path).await?;
        if reached.is_done {
            return Ok(reached);
        }
        let step = format!("decide {} page {}", path.id, reached.pages + 1);
        match self.environment.effect(self.db, &step).await.map_err(into_job_error)? {
            // Committed before, its answer lost on the way.
            Begun::AlreadyApplied => self.reached(run, path).await,
            Begun::Fresh(mut effect) => {
                let reached = advance(&mut effect, run, path, reached).await?;
                self.environment.commit(&step, effect).await.map_err(into_job_error)?;
                Ok(reached)
            }
        }
    }

    async fn reached(&self, run: &Run, path: &Path) -> Result<Reached, JobError> {
        let mut read = self.db.read().await.map_err(into_job_error)?;
        let reached = store::reached(&mut read, run.job, path).await.map_err(judge)?;
        read.finish().await.map_err(into_job_error)?;
        Ok(reached)
    }
}

async fn advance(
    conn: &mut PgConnection,
    run: &Run,
    path: &Path,
    mut reached: Reached,
) -> Result<Reached, JobError> {
    reached.pages += 1;
    match policy::load(conn, path, None).await {
        Ok(newest) => go_on(conn, path, &newest, &mut reached).await?,
        Err(PolicyError::Unknown { .. }) => reached = without_policy(&reached, None),
        Err(PolicyError::Refused(faults)) => {
            let fault = faults.faults.first();
            let fault =
                fault.map_or_else(String::new, |it| format!(" (line {}: {it}; {})", it.line, it.help));
            let why =
                format!("its stored policy is refused{fault}: `tenure policy add FILE` stores a new version");
            reached = without_policy(&reached, Some(why));
        }
        Err(error) => return Err(judge(error)),
    }
    store::reach(conn, run.job, path, &reached).await.map_err(judge)?;
    Ok(reached)
}

fn without_policy(reached: &Reached, why: Option<String>) -> Reached {
    let mut bare = Reached { pages: reached.pages, is_done: true, ..Reached::default() };
    bare.counted.why = why;
    bare
}

/// The newest version decides, since an older one would close the cases of a newer; a version that comes in the midst
/// of a path begins it again.
async fn go_on(
    conn: &mut PgConnection,
    path: &Path,
    (stored, policy): &(StoredPolicy, Policy),
    reached: &mut Reached,
) -> Result<(), JobError> {
    if reached.policy != Some(stored.version) {
        let pages = reached.pages;
        *reached = Reached { pages, policy: Some(stored.version), ..Reached::default() };
    }
    let records = decision::next_page(conn, path, reached.after.as_deref(), PAGE).await.map_err(judge)?;
    let counts = &mut reached.counted.counts;
    let Some(last) = records.last() else {
        // What is left to be stale is about records that no page shows any more.
        let buried = review::refresh_all(conn, path, PAGE_RECORDS).await.map_err(judge)?;
        counts.opened += buried.opened.len() as u64;
        counts.stale += buried.stale.len() as u64;
        reached.is_done = buried.stale.is_empty();
        return Ok(());
    };
    let pass = review::pass(conn, path, (stored.version, policy), &records, false).await.map_err(judge)?;
    counts.add(&pass.decisions);
    counts.changed += pass.stored.new;
    counts.opened += pass.opened.opened.len() as u64;
    counts.stale += pass.opened.stale.len() as u64;
    reached.after = Some(last.key.clone());
    Ok(())
}
