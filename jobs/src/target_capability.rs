//! What a tenant's targets were seen to do, kept in the tenant's own database.
//!
//! Promises: a capability counts for the very definition that was tried; another definition is another target.

use connectors::{Capability, Definition, Probed};
use database::tenant::TenantDb;
use governance::{
    audit::{self, Event},
    digest::Digest,
};
use serde_json::json;
use sqlx::PgConnection;

use crate::connector_registry::RegistryError;

/// The digest of a definition, by which its capability is known.
#[must_use]
pub fn digest(definition: &Definition) -> Digest {
    Digest::of(definition.text().as_bytes())
}

/// Keeps what a probe has found.
pub async fn store(
    db: &TenantDb,
    definition: &Definition,
    stream: &str,
    probed: &Probed,
) -> Result<(), RegistryError> {
    let mut write = db.write().await?;
    sqlx::query!(
        "-- target_capability.store
        insert into tenant.target_capability (connector, stream, definition, capability, obstacle, evidence)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (connector, stream) do update
        set definition = excluded.definition, capability = excluded.capability, obstacle = excluded.obstacle,
            evidence = excluded.evidence, probed_at = now()",
        definition.name(),
        stream,
        digest(definition).to_vec(),
        probed.capability.name(),
        probed.obstacle,
        &probed.evidence,
    )
    .execute(&mut *write)
    .await?;
    let body = json!({
        "connector": definition.name(), "stream": stream, "definition": digest(definition),
        "capability": probed.capability.name(),
    });
    audit::append(&mut write, &Event { kind: "target.probed", actor: None, job: None, body }).await?;
    Ok(write.commit().await?)
}

/// What this definition's target was seen to do; none if it was never tried as it is now.
pub async fn load(
    db: &TenantDb,
    definition: &Definition,
    stream: &str,
) -> Result<Option<Probed>, RegistryError> {
    let mut read = db.read().await?;
    let row = sqlx::query!(
        "-- target_capability.load
        select capability, obstacle, evidence from tenant.target_capability
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
        Some(Probed { capability, obstacle: row.obstacle, evidence: row.evidence })
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
