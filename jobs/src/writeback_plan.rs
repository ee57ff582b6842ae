//! `writeback_plan`: plans one change that is wanted, and enqueues its writeback.
//!
//! What is wanted is a row of `governance::wish`, written with the word or by the policy that it rests on. This job
//! reads the target, and enters the writeback, its request for approval and the end of the wish as one effect: so a
//! wish comes to one writeback whatever is repeated. A record that is not as it was when it was decided on is left
//! alone, and what stands in the way for good is kept with the wish. While another change of the record is under way the
//! job waits without its lease.
//!
//! Refuses: to send. The writeback it enters goes the way of every other, with its gate, its intent and its read-back.

#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use database::{
    control::Tenant,
    tenant::{Begun, TenantDb},
};
use governance::{
    wish::{self, Errand, Found, WishError, WishId},
    writeback::{self as rows, NewWriteback, WritebackError, WritebackId},
};
use queue::{Attempt, Done, FailureClass, Job, JobError, NewJob};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;

use crate::{
    Environment, connector_registry,
    environment::into_job_error,
    queue_of,
    writeback::{self, PlanError, Wish, judge, prepare, source},
};

/// How long until a record is looked at again that another change of ours has not left.
const BUSY_PAUSE: Duration = Duration::from_mins(1);

/// The payload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WritebackPlan {
    /// Which change.
    pub decision: WishId,
}

/// The job that plans a change that is wanted. While one lives, asking for another answers with it.
pub fn job(tenant: &Tenant, wish: WishId) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::of(&WritebackPlan { decision: wish })?
        .queue(queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .unique_key(format!("{}/writeback_plan/{wish}", tenant.id)))
}

/// Makes wishes of what the path's autonomous candidate may do without a person: at most `limit`, each decision once.
/// In the caller's transaction, of which it is the last call; then [`due`] gives the jobs.
pub async fn take_up(
    conn: &mut PgConnection,
    path: &str,
    limit: i64,
    job: Option<i64>,
) -> Result<Vec<WishId>, JobError> {
    wish::take_up(conn, path, limit, job).await.map_err(of_wish)
}

/// Jobs for what is wanted and not planned yet, at most `limit`; those that live already are recognised by their key.
pub async fn due(conn: &mut PgConnection, tenant: &Tenant, limit: i64) -> Result<Vec<NewJob>, JobError> {
    let due = wish::due(conn, limit).await.map_err(of_wish)?;
    due.into_iter().map(|wish| job(tenant, wish).map_err(JobError::retry)).collect()
}

/// Of these, the ones of this path that policy alone wants.
pub async fn due_of_policy(
    conn: &mut PgConnection,
    tenant: &Tenant,
    path: &str,
    limit: i64,
) -> Result<Vec<NewJob>, JobError> {
    let due = wish::due_of_policy(conn, path, limit).await.map_err(of_wish)?;
    due.into_iter().map(|wish| job(tenant, wish).map_err(JobError::retry)).collect()
}

impl Job for WritebackPlan {
    const KIND: &'static str = "writeback_plan";
    const TIMEOUT: Duration = Duration::from_mins(10);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let db = environment.enter(&attempt).await?;
        let planning =
            Planning { attempt: &attempt, environment: &environment, db: &db, wish: self.decision };
        let errand = match planning.found().await? {
            Found::Planned(writeback) => return planning.done(writeback),
            Found::Ended => return Ok(Done::new().output(json!({ "decision": self.decision }))),
            Found::Stale => return planning.refuse("record_changed", STALE).await,
            Found::Due(errand) => errand,
        };
        if attempt.is_cancelled() {
            return Err(JobError::cancel("cancelled before the change was planned; it is still wanted"));
        }
        if attempt.should_stop() {
            return Err(JobError::hand_back());
        }
        match prepare(&db, environment.vault(), &wanted(&errand), Some(&errand.judged)).await {
            Ok(new) => planning.enter(&new).await,
            Err(error) => planning.fail(error).await,
        }
    }
}

/// Why nothing is written of a record that a sync has brought anew.
const STALE: &str = "the record has changed since it was judged: it is decided anew";

fn wanted(errand: &Errand) -> Wish {
    Wish {
        path: errand.path.clone(),
        key: errand.key.clone(),
        set: errand.set.clone(),
        class: errand.class.clone(),
        creates: false,
        policy: Some(errand.policy),
        confidence: errand.confidence,
        evidence: Some(errand.evidence),
        requested_by: errand.requested_by,
        accepted_by: errand.accepted_by,
    }
}

struct Planning<'a> {
    attempt: &'a Attempt,
    environment: &'a Environment,
    db: &'a TenantDb,
    wish: WishId,
}

impl Planning<'_> {
    async fn found(&self) -> Result<Found, JobError> {
        let mut read = self.db.read().await.map_err(into_job_error)?;
        let found = wish::errand(&mut read, self.wish).await.map_err(of_wish)?;
        read.finish().await.map_err(into_job_error)?;
        Ok(found)
    }

    /// Enters the writeback, asks for its approval and settles the wish, as one.
    async fn enter(&self, new: &NewWriteback) -> Result<Done, JobError> {
        const STEP: &str = "plan";
        match self.environment.effect(self.db, STEP).await.map_err(into_job_error)? {
            Begun::AlreadyApplied => {}
            Begun::Fresh(mut effect) => {
                wish::hold(&mut effect, self.wish).await.map_err(of_wish)?;
                let entered = match rows::enter(&mut effect, new).await {
                    Err(error @ WritebackError::RecordBusy(_)) => {
                        return Err(JobError::snooze(BUSY_PAUSE, error.to_string()));
                    }
                    entered => entered.map_err(judge)?,
                };
                wish::planned(&mut effect, self.wish, entered.id).await.map_err(of_wish)?;
                rows::ask(&mut effect, &entered, Some(self.attempt.job().0)).await.map_err(judge)?;
                self.environment.commit(STEP, effect).await.map_err(into_job_error)?;
            }
        }
        match self.found().await? {
            Found::Planned(writeback) => self.done(writeback),
            _ => Err(JobError::retry("the wish was settled otherwise meanwhile")),
        }
    }

    fn done(&self, writeback: WritebackId) -> Result<Done, JobError> {
        let next = writeback::job(self.db.tenant(), writeback).map_err(JobError::retry)?;
        let output = json!({ "decision": self.wish, "writeback": writeback });
        Ok(Done::new().output(output).follow_up(next))
    }

    /// What stands in the way for good ends the wish; anything else ends the attempt.
    async fn fail(&self, error: PlanError) -> Result<Done, JobError> {
        let reason = match &error {
            PlanError::Refused(refusal) => refusal.reason(),
            PlanError::Changed(_) => "record_changed",
            PlanError::NoRecord(_) => "no_record",
            PlanError::Nothing(_) => "already_so",
            PlanError::NoPolicy(_) => "no_policy",
            PlanError::NoTarget { .. } => "no_target",
            PlanError::Unwritable(_) => "unwritable",
            _ => return Err(of_plan(error)),
        };
        self.refuse(reason, &error.to_string()).await
    }

    async fn refuse(&self, reason: &'static str, detail: &str) -> Result<Done, JobError> {
        const STEP: &str = "refuse";
        if let Begun::Fresh(mut effect) =
            self.environment.effect(self.db, STEP).await.map_err(into_job_error)?
        {
            let job = self.attempt.job().0;
            wish::refuse(&mut effect, self.wish, reason, detail, job).await.map_err(of_wish)?;
            self.environment.commit(STEP, effect).await.map_err(into_job_error)?;
        }
        Ok(Done::new().output(json!({ "decision": self.wish, "refused": reason })))
    }
}

fn of_plan(error: PlanError) -> JobError {
    match error {
        PlanError::Source(error) => source(&error),
        PlanError::Registry(error) => connector_registry::into_job_error(error),
        PlanError::Writeback(error) => judge(error),
        PlanError::Tenant(error) => into_job_error(error),
        error => JobError::fail(error, FailureClass::Poison),
    }
}

fn of_wish(error: WishError) -> JobError {
    match error {
        WishError::Database(error) | WishError::Audit(governance::audit::AuditError::Database(error)) => {
            into_job_error(error.into())
        }
        WishError::Writeback(error) => judge(error),
        // Another attempt, or another job, was first: the next look sees what came of it.
        error @ WishError::Settled(_) => JobError::retry(error),
        error @ WishError::NotFound(_) => JobError::fail(error, FailureClass::Configuration),
        error => JobError::fail(error, FailureClass::Poison),
    }
}
