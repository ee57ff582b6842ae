//! The connectors of a tenant: their definitions, and what their syncs set aside, in the tenant's own database.

use chrono::{DateTime, Utc};
use connectors::{Definition, DefinitionError};
use database::tenant::{TenantDb, TenantError};
use governance::{
    actor::{self, ActorError},
    audit::{self, AuditError, Event},
    path::{self, Fallen, StepError},
    reading::{self, Reading},
};
use queue::{FailureClass, JobError};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use vault::Vault;

use crate::{connector_credential, environment, target_capability};

/// Why a connector could not be registered or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connector of the tenant has this name.
    #[error("the tenant has no connector {name:?}: register one with `connector sync FILE`")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The stored text is no longer a definition that this program takes.
    #[error("the stored definition is refused")]
    Definition(#[from] DefinitionError),
    /// The name of whoever acts is none.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// The paths that the old definition carried could not be lowered.
    #[error(transparent)]
    Paths(#[from] StepError),
    /// It could not be put on record.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The tenant's database failed.
    #[error("the tenant's database failed")]
    Tenant(#[from] TenantError),
}

impl From<sqlx::Error> for RegistryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Tenant(error.into())
    }
}

/// What it means for the job.
pub(crate) fn into_job_error(error: RegistryError) -> JobError {
    match error {
        RegistryError::Tenant(error) => environment::into_job_error(error),
        error => JobError::fail(error, FailureClass::Configuration),
    }
}

/// A record that a sync could not take.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the columns carry their names")]
pub struct RejectedRecord {
    pub stream: String,
    pub key: Option<String>,
    pub reason: String,
    pub detail: String,
    pub excerpt: String,
    pub times: i64,
    pub first_seen_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
}

/// Stores the definition under its name, in place of an older one; a change is put on record as `by`'s. Another
/// definition is another target, for which nobody has probed or certified anything: with the change every path of the
/// connector falls to *catalogued*. Says which did.
pub async fn register(
    db: &TenantDb,
    definition: &Definition,
    by: &str,
) -> Result<Vec<Fallen>, RegistryError> {
    let mut write = db.write().await?;
    let stored = sqlx::query!(
        "-- connector.register
        insert into tenant.connector (name, definition) values ($1, $2)
        on conflict (name) do update set definition = excluded.definition, registered_at = now()
        where tenant.connector.definition <> excluded.definition",
        definition.name(),
        definition.text()
    )
    .execute(&mut *write)
    .await?;
    let mut fallen = Vec::new();
    if stored.rows_affected() == 1 {
        let actor = actor::named(&mut write, by).await?.id;
        let digest = target_capability::digest(definition);
        fallen = path::redefined(&mut write, definition.name(), digest, actor).await?;
        let body = json!({"connector": definition.name(), "definition": digest});
        let event = Event { kind: "connector.registered", actor: Some(actor), job: None, body };
        audit::append(&mut write, &event).await?;
    }
    write.commit().await?;
    Ok(fallen)
}

/// The definition of this name, with whose credentials a source or a target can be connected.
pub async fn open(db: &TenantDb, vault: &Vault, name: &str) -> Result<Definition, RegistryError> {
    Ok(connector_credential::attach(load(db, name).await?, db, vault))
}

/// The definition of this name, to look at: what credentials it names stays closed.
pub async fn load(db: &TenantDb, name: &str) -> Result<Definition, RegistryError> {
    let mut read = db.read().await?;
    let text = sqlx::query_scalar!(
        "-- connector.load\nselect definition from tenant.connector where name = $1",
        name
    )
    .fetch_optional(&mut *read as &mut PgConnection)
    .await?;
    read.finish().await?;
    let text = text.ok_or_else(|| RegistryError::Unknown { name: name.to_owned() })?;
    Ok(Definition::parse(&text, &format!("connector {name}"))?)
}

/// The names of the tenant's connectors.
pub async fn list(db: &TenantDb) -> Result<Vec<String>, RegistryError> {
    let mut read = db.read().await?;
    let names = sqlx::query_scalar!("-- connector.list\nselect name from tenant.connector order by name")
        .fetch_all(&mut *read as &mut PgConnection)
        .await?;
    read.finish().await?;
    Ok(names)
}

/// What was set aside of a connector, the latest first; of one stream if that is given.
pub async fn rejected(
    db: &TenantDb,
    connector: &str,
    stream: Option<&str>,
    limit: i64,
) -> Result<Vec<RejectedRecord>, RegistryError> {
    let mut read = db.read().await?;
    let records = sqlx::query_as!(
        RejectedRecord,
        "-- connector.rejected
        select stream, key, reason, detail, excerpt, times, first_seen_at, last_seen_at
        from tenant.rejected_record where connector = $1 and ($2::text is null or stream = $2)
        order by last_seen_at desc, digest limit $3",
        connector,
        stream,
        limit
    )
    .fetch_all(&mut *read as &mut PgConnection)
    .await?;
    read.finish().await?;
    Ok(records)
}

/// The same, shown to the person of the name `by`, which is put on record.
pub async fn view_rejected(
    db: &TenantDb,
    connector: &str,
    stream: Option<&str>,
    limit: i64,
    by: &str,
) -> Result<Vec<RejectedRecord>, RegistryError> {
    let found = rejected(db, connector, stream, limit).await?;
    let mut write = db.write().await?;
    let by = actor::named(&mut write, by).await?.id;
    reading::record(&mut write, &Reading::Rejected { connector, stream, records: found.len() }, by).await?;
    write.commit().await?;
    Ok(found)
}
