//! What a tenant's targets were seen to do, kept in the tenant's own database.
//!
//! Promises: a capability counts for the very definition that was tried; another definition is another target.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use connectors::{
    Capability, Definition, LocalBudget, Probed, RequestBudget, Source, SourceError, Stream, Target,
    probe_target,
};
use database::tenant::{TenantDb, TenantError};
use governance::{
    audit::{self, Event},
    digest::Digest,
};
use serde_json::json;
use sqlx::PgConnection;
use vault::Vault;

use crate::connector_registry::{self, RegistryError};

/// Why a target could not be tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// There is nothing to write to.
    #[error(
        "the stream {stream:?} of the connector {connector:?} has no `[streams.target]`, so nothing can be written there"
    )]
    NoTarget {
        /// The connector.
        connector: String,
        /// The stream.
        stream: String,
    },
    /// The connector cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The source or the target fails.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The tenant's database failed.
    #[error(transparent)]
    Tenant(#[from] TenantError),
}

/// Tries the target of a stream as the tenant's connector defines it now, and keeps what was found; where no record to
/// try it on is named, on one that was synced, else on one of the source.
pub async fn find_out(
    db: &TenantDb,
    vault: &Vault,
    connector: &str,
    stream: &str,
) -> Result<Probed, ProbeError> {
    let definition = connector_registry::open(db, vault, connector).await?;
    let none = || ProbeError::NoTarget { connector: connector.to_owned(), stream: stream.to_owned() };
    let found = definition.stream(stream).ok_or_else(none)?;
    let probed = probed(db, &definition, found).await?.ok_or_else(none)?;
    store(db, &definition, stream, &probed).await?;
    Ok(probed)
}

async fn probed(
    db: &TenantDb,
    definition: &Definition,
    stream: &Stream,
) -> Result<Option<Probed>, ProbeError> {
    let budget: Arc<dyn RequestBudget> = Arc::new(LocalBudget::default());
    let Some(key) = sample(db, definition.name(), stream.name()).await? else {
        let source = Source::connect(definition, Arc::clone(&budget)).await?;
        return Ok(probe_target(definition, &source, stream, &budget).await?);
    };
    let target = Target::connect(definition, stream, budget).await?;
    Ok(match target {
        Some(target) => Some(target.probe(Some(&key)).await),
        None => None,
    })
}

/// The digest of a definition, by which its capability is known.
#[must_use]
pub fn digest(definition: &Definition) -> Digest {
    Digest::of(definition.text().as_bytes())
}

/// Keeps what a probe has found, and says since when.
pub async fn store(
    db: &TenantDb,
    definition: &Definition,
    stream: &str,
    probed: &Probed,
) -> Result<DateTime<Utc>, RegistryError> {
    // A job may say it again without harm.
    let mut write = if db.scope().claim().is_some() { db.fenced().await? } else { db.write().await? };
    let probed_at = sqlx::query_scalar!(
        "-- target_capability.store
        insert into tenant.target_capability (connector, stream, definition, capability, obstacle, evidence)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (connector, stream) do update
        set definition = excluded.definition, capability = excluded.capability, obstacle = excluded.obstacle,
            evidence = excluded.evidence, probed_at = now()
        returning probed_at",
        definition.name(),
        stream,
        digest(definition).to_vec(),
        probed.capability.name(),
        probed.obstacle,
        &probed.evidence,
    )
    .fetch_one(&mut *write)
    .await?;
    let body = json!({
        "connector": definition.name(), "stream": stream, "definition": digest(definition),
        "capability": probed.capability.name(),
    });
    audit::append(&mut write, &Event { kind: "target.probed", actor: None, job: None, body }).await?;
    write.commit().await?;
    Ok(probed_at)
}

/// What is kept of a target.
#[derive(Debug, Clone)]
pub struct Kept {
    /// What it was seen to do.
    pub probed: Probed,
    /// When.
    pub probed_at: DateTime<Utc>,
}

/// What this definition's target was seen to do; none if it was never tried as it is now.
pub async fn load(
    db: &TenantDb,
    definition: &Definition,
    stream: &str,
) -> Result<Option<Kept>, RegistryError> {
    let mut read = db.read().await?;
    let row = sqlx::query!(
        "-- target_capability.load
        select capability, obstacle, evidence, probed_at from tenant.target_capability
        where connector = $1 and stream = $2 and definition = $3",
        definition.name(),
        stream,
        digest(definition).to_vec(),
    )
    .fetch_optional(&mut *read as &mut PgConnection)
    .await?;
    read.finish().await?;
    Ok(row.and_then(|row| {
        let all = [
            Capability::ConditionalWrite,
            Capability::IdempotencyKey,
            Capability::ReadCheck,
            Capability::Blind,
        ];
        let capability = all.into_iter().find(|capability| capability.name() == row.capability)?;
        let probed = Probed { capability, obstacle: row.obstacle, evidence: row.evidence };
        Some(Kept { probed, probed_at: row.probed_at })
    }))
}

/// The key of some record that a sync has read, to try a target on.
pub async fn sample(db: &TenantDb, connector: &str, stream: &str) -> Result<Option<String>, RegistryError> {
    let mut read = db.read().await?;
    let key = sqlx::query_scalar!(
        r#"-- target_capability.sample
        select key as "key: String" from tenant.record
        where connector = $1 and stream = $2 and deleted_at is null order by key limit 1"#,
        connector,
        stream,
    )
    .fetch_optional(&mut *read as &mut PgConnection)
    .await?;
    read.finish().await?;
    Ok(key)
}
