//! The versions of a path's policy in the tenant's database.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::{Fields, Policy, PolicyFaults};
use crate::{
    actor::Actor,
    audit::{self, AuditError, Event},
    digest::{Digest, NoDigest},
    path::Path,
};

/// Why a policy could not be stored or loaded.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The path has no such version.
    #[error("the path {path} has no policy{}", version.map(|it| format!(" of version {it}")).unwrap_or_default())]
    Unknown {
        /// The path's name.
        path: String,
        /// The version asked for, else the newest.
        version: Option<i32>,
    },
    /// The policy is for another path.
    #[error("the policy is for the path {0}")]
    OtherPath(String),
    /// The stored text is no policy that this program takes.
    #[error("the stored policy is refused")]
    Refused(#[from] PolicyFaults),
    /// A stored digest is none.
    #[error("a stored digest is none")]
    Digest(#[from] NoDigest),
    /// The chain refused the entry.
    #[error("the policy could not be put on record")]
    Audit(#[from] AuditError),
    /// The database refused or was lost.
    #[error("the policies cannot be used")]
    Database(#[from] sqlx::Error),
}

/// A version as it is stored.
#[derive(Clone, Debug, Serialize)]
pub struct StoredPolicy {
    /// The version, from 1.
    pub version: i32,
    /// The digest of the text.
    pub digest: Digest,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// The file's text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// Adds a version and puts it on record; the newest version again if its text is this one. Answers the version and
/// whether it is new. The last call of its transaction.
pub async fn add(
    conn: &mut PgConnection,
    path: &Path,
    policy: &Policy,
    actor: &Actor,
) -> Result<(i32, bool), PolicyError> {
    if policy.path() != path.name {
        return Err(PolicyError::OtherPath(policy.path().to_owned()));
    }
    // The path's row keeps two authors apart.
    sqlx::query!("-- policy.lock\nselect id from tenant.path where id = $1 for update", path.id)
        .fetch_one(&mut *conn)
        .await?;
    let newest = newest(conn, path).await?;
    if let Some(newest) = newest.as_ref().filter(|it| it.digest == policy.digest()) {
        return Ok((newest.version, false));
    }
    let version = newest.map_or(0, |it| it.version) + 1;
    sqlx::query!(
        "-- policy.add
        insert into tenant.policy (path, version, text, digest, created_by) values ($1, $2, $3, $4, $5)",
        path.id,
        version,
        policy.text(),
        policy.digest().to_vec(),
        actor.id.0
    )
    .execute(&mut *conn)
    .await?;
    let body = serde_json::json!({ "path": path.id, "version": version, "digest": policy.digest() });
    audit::append(conn, &Event { kind: "policy.added", actor: Some(actor.id), job: None, body }).await?;
    Ok((version, true))
}

async fn newest(conn: &mut PgConnection, path: &Path) -> Result<Option<StoredPolicy>, PolicyError> {
    let row = sqlx::query!(
        "-- policy.newest
        select version, digest, created_at, text from tenant.policy where path = $1 order by version desc limit 1",
        path.id
    );
    let Some(row) = row.fetch_optional(conn).await? else { return Ok(None) };
    let digest = row.digest.try_into()?;
    Ok(Some(StoredPolicy { version: row.version, digest, created_at: row.created_at, text: row.text }))
}

/// The versions of a path's policy, the newest first, without their texts.
pub async fn list(conn: &mut PgConnection, path: &Path) -> Result<Vec<StoredPolicy>, PolicyError> {
    let rows = sqlx::query!(
        "-- policy.list
        select version, digest, created_at from tenant.policy where path = $1 order by version desc",
        path.id
    )
    .fetch_all(conn)
    .await?;
    let stored = rows.into_iter().map(|row| {
        let digest = row.digest.try_into()?;
        Ok(StoredPolicy { version: row.version, digest, created_at: row.created_at, text: String::new() })
    });
    stored.collect()
}

/// A version, compiled; the newest if none is named.
pub async fn load(
    conn: &mut PgConnection,
    path: &Path,
    version: Option<i32>,
) -> Result<(StoredPolicy, Policy), PolicyError> {
    let unknown = || PolicyError::Unknown { path: path.name.clone(), version };
    let row = sqlx::query!(
        "-- policy.load
        select version, digest, created_at, text from tenant.policy
        where path = $1 and ($2::int is null or version = $2) order by version desc limit 1",
        path.id,
        version
    );
    let row = row.fetch_optional(conn).await?.ok_or_else(unknown)?;
    let digest = row.digest.try_into()?;
    let stored = StoredPolicy { version: row.version, digest, created_at: row.created_at, text: row.text };
    let file = format!("policy {} version {}", path.name, stored.version);
    // It was checked against the stream when it was added; the stream may have changed since.
    let policy = Policy::compile(&stored.text, &file, &Fields::any(), None)?;
    Ok((stored, policy))
}
