//! `tenant_provision`: a tenant's role and database, made or brought up to date.
//!
//! Every step is idempotent, so an attempt that is killed between two of them, or in the middle of one, is simply
//! repeated. The lease is confirmed before each step: an attempt that was overtaken stops there.

use std::time::Duration;

use database::{
    Class,
    control::Tenant,
    provision::{ProvisionError, Step},
};
use queue::{Attempt, Done, FailureClass, Job, JobError, NewJob, Progress};
use serde::{Deserialize, Serialize};

use crate::{Environment, environment::When, queue_of};

/// The payload: the tenant is the job's own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantProvision {}

/// The job that provisions a tenant; at most one at a time.
pub fn job(tenant: &Tenant) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::of(&TenantProvision {})?
        .queue(queue_of(&tenant.region))
        .tenant(tenant.id.0)
        .unique_key(tenant.id.to_string()))
}

impl Job for TenantProvision {
    const KIND: &'static str = "tenant_provision";
    const TIMEOUT: Duration = Duration::from_mins(10);

    type Environment = Environment;

    async fn run(self, attempt: Attempt, environment: Environment) -> Result<Done, JobError> {
        let tenant = Environment::tenant_of(&attempt)?;
        let total = Step::ALL.len() as u64;
        for (done, step) in (1..).zip(Step::ALL) {
            if !attempt.confirm().await.map_err(JobError::retry)? {
                return Err(JobError::fenced());
            }
            environment.boundary(step.name(), When::Before).await.map_err(JobError::retry)?;
            environment.provisioner().step(tenant, step).await.map_err(into_job_error)?;
            environment.boundary(step.name(), When::After).await.map_err(JobError::retry)?;
            attempt.checkpointed();
            attempt.progress(Progress { done, total: Some(total), message: step.name().to_owned() });
            if attempt.should_stop() {
                return Err(JobError::hand_back());
            }
        }
        Ok(Done::new())
    }
}

fn into_job_error(error: ProvisionError) -> JobError {
    match error.class() {
        Class::Fenced => JobError::fenced(),
        Class::Transient => JobError::retry(error),
        Class::Configuration => JobError::fail(error, FailureClass::Configuration),
        Class::Permanent => JobError::fail(error, FailureClass::Poison),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use sqlx::Row;

    use super::*;
    use crate::testing::{Stage, Subject, battery};

    struct Provision;

    impl Subject for Provision {
        fn job<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, NewJob> {
            Box::pin(async { job(&stage.tenant).unwrap() })
        }

        fn fingerprint<'a>(&'a self, stage: &'a Stage) -> BoxFuture<'a, String> {
            Box::pin(async {
                let tenant = sqlx::query("select state, schema_version::text from control.tenant")
                    .fetch_one(stage.queue.pool())
                    .await
                    .unwrap();
                let mut conn = stage.tenant_connection().await;
                let inside = sqlx::query(
                    "select (select tenant_id::text from tenant.stamp) as stamp,
                        (select string_agg(grantee || privilege_type || table_name, ','
                                order by grantee, table_name, privilege_type)
                         from information_schema.role_table_grants
                         where table_schema = 'tenant' and grantee = $1) as grants",
                )
                .bind(&stage.tenant.role_name)
                .fetch_one(&mut conn)
                .await
                .unwrap();
                let stamp: String = inside.get("stamp");
                assert_eq!(stamp, stage.tenant.id.to_string());
                let grants: String = inside.get("grants");
                let (in_state, version): (String, String) = (tenant.get(0), tenant.get(1));
                // The role's name follows from the tenant's id, which differs from run to run.
                format!("{in_state} {version} {}", grants.replace(&stage.tenant.role_name, "role"))
            })
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tenant_provision_passes_the_battery() {
        battery(&Provision, false).await;
    }
}
