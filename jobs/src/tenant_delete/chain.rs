//! The end of the tenant's chain: its last entry, its last checkpoint, and all of it as a file beside the tombstone.
//!
//! A chain that was tampered with is not signed; it is taken out as it is, and the certificate says so: what is wrong with
//! it is no reason to keep the tenant's data.

use std::{
    fs,
    io::{self, BufWriter},
    path::Path,
};

use database::control::deletion::DeletionId;
use governance::{
    audit::{self, Event, ExportError, Head},
    checkpoint::{self, CheckpointError},
};
use queue::JobError;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use super::{of_audit, of_database, paper};
use crate::audit_checkpoint::{Checkpoints, failed};

/// What is known of the chain once the database is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainEnd {
    /// Whose chain.
    pub origin: String,
    /// How many entries it has.
    pub size: i64,
    /// The last one's hash.
    pub head: String,
    /// The last checkpoint, a signed note; none if the chain was never signed.
    pub checkpoint: Option<String>,
    /// The file with all of it, beside the tombstone.
    pub file: String,
    /// What is wrong with it, if anything.
    pub fault: Option<String>,
}

/// Ends the chain and takes it out into this folder. None if the database has no chain: it was never made whole.
pub(super) async fn take_out(
    conn: &mut PgConnection,
    (deletion, job): (DeletionId, i64),
    checkpoints: &Checkpoints,
    folder: &Path,
) -> Result<Option<ChainEnd>, JobError> {
    if !has_chain(conn).await.map_err(of_database)? {
        return Ok(None);
    }
    close(conn, deletion, job).await?;
    let fault = match checkpoint::make(conn, checkpoints.key()).await {
        Ok(_) => None,
        Err(
            fault @ (CheckpointError::Broken(_) | CheckpointError::Rewritten(_) | CheckpointError::Hash(_)),
        ) => Some(fault.to_string()),
        Err(error) => return Err(failed(error)),
    };
    let made = checkpoint::latest(conn).await.map_err(failed)?;
    let head = audit::head(conn).await.map_err(of_audit)?;
    if let Some(made) = made.clone() {
        crate::audit_checkpoint::store(checkpoints, head.origin.clone(), made).await?;
    }
    let file = export(conn, &head, folder).await.map_err(|error| match error {
        ExportError::Audit(error) => of_audit(error),
        error @ ExportError::Write(_) => JobError::retry(error),
    })?;
    Ok(Some(ChainEnd {
        origin: head.origin,
        size: head.size,
        head: head.hash.to_string(),
        checkpoint: made.map(|made| made.note),
        file,
        fault,
    }))
}

async fn has_chain(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- tenant_delete.has_chain
        select to_regclass('governance.audit_tail') is not null and to_regclass('tenant.stamp') is not null as "has!""#
    )
    .fetch_one(conn)
    .await
}

/// Appends the last entry, unless it is there.
async fn close(conn: &mut PgConnection, deletion: DeletionId, job: i64) -> Result<(), JobError> {
    let mut tx = conn.begin().await.map_err(of_database)?;
    // Before the look, so that of two attempts the second sees the entry of the first.
    sqlx::query!("-- tenant_delete.lock_chain\nselect only_row from governance.audit_head for update")
        .fetch_one(&mut *tx)
        .await
        .map_err(of_database)?;
    let is_closed = sqlx::query_scalar!(
        r#"-- tenant_delete.is_closed
        select exists (
            select from (select content from governance.audit_entry order by seq desc limit 1) last
             where position('"kind":"tenant.closed"'::bytea in last.content) > 0) as "is!""#
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(of_database)?;
    if !is_closed {
        let body = json!({ "deletion": deletion });
        let event = Event { kind: "tenant.closed", actor: None, job: Some(job), body };
        audit::append(&mut tx, &event).await.map_err(of_audit)?;
    }
    tx.commit().await.map_err(of_database)
}

/// Writes the chain aside and gives it its name once it is whole. Memory does not grow with it.
async fn export(conn: &mut PgConnection, head: &Head, folder: &Path) -> Result<String, ExportError> {
    // Sixteen digits: the names' order is that of the sizes.
    let name = format!("chain-{:016}.jsonl", head.size);
    let path = folder.join(&name);
    if path.try_exists()? {
        return Ok(name);
    }
    fs::create_dir_all(folder)?;
    let unfinished = paper::unfinished(folder, &name);
    let mut file = BufWriter::with_capacity(1 << 16, fs::File::create(&unfinished)?);
    audit::export(conn, &mut file).await?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    paper::finish(&file, &unfinished, &path)?;
    Ok(name)
}
