//! Denied scopes: somebody asked for a tenant's database and was refused.
//!
//! They stand in the platform's chain: the tenant's own database was not opened, or was another's.

use std::pin::Pin;

use database::tenant::{Scope, TenantError, Witness};
use governance::{
    actor::{self, ActorError},
    audit::{self, AuditError, Event},
};
use serde_json::json;
use sqlx::PgPool;

/// Puts the denials of a process on record, in the control database.
#[derive(Debug)]
pub struct Record {
    control: PgPool,
    requester: String,
}

impl Record {
    /// `requester` is the name of whoever makes the requests of this process; a job's denial has the job instead.
    #[must_use]
    pub fn new(control: PgPool, requester: &str) -> Self {
        Self { control, requester: requester.to_owned() }
    }

    async fn append(&self, scope: &Scope, error: &TenantError) -> Result<(), DenialError> {
        let mut tx = self.control.begin().await?;
        let job = scope.claim().map(|claim| claim.job);
        let actor = match job {
            Some(_) => None,
            None => Some(actor::named(&mut tx, &self.requester).await?.id),
        };
        let body = json!({"tenant": scope.tenant(), "region": scope.region().as_str(), "why": why(error)});
        audit::append(&mut tx, &Event { kind: "scope.denied", actor, job, body }).await?;
        Ok(tx.commit().await?)
    }
}

impl Witness for Record {
    fn denied<'a>(
        &'a self,
        scope: &'a Scope,
        error: &'a TenantError,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            if let Err(unrecorded) = self.append(scope, error).await {
                let unrecorded = &unrecorded as &dyn std::error::Error;
                tracing::error!(tenant = %scope.tenant(), error = unrecorded, "a denied scope is not on record");
            }
        })
    }
}

#[derive(Debug, thiserror::Error)]
enum DenialError {
    #[error("the requester is no actor")]
    Actor(#[from] ActorError),
    #[error("the platform's chain refused")]
    Audit(#[from] AuditError),
    #[error("the control database failed")]
    Database(#[from] sqlx::Error),
}

fn why(error: &TenantError) -> &'static str {
    match error {
        TenantError::NoSuchTenant(_) => "no_such_tenant",
        TenantError::OtherRegion { .. } => "other_region",
        TenantError::NotActive { .. } => "not_active",
        TenantError::Tombstone(_) => "tombstone",
        TenantError::OtherDatabase { .. } => "other_database",
        _ => "other",
    }
}
