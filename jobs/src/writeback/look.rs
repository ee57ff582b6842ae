//! Writebacks as an operator's request sees them.

use database::tenant::{TenantDb, TenantError};
use governance::{
    actor::{self, ActorError, ActorId},
    audit::AuditError,
    reading::{self, Reading},
    writeback::{self as rows, Drifting, Filter, Step, Writeback, WritebackError, WritebackId},
};

/// Why they cannot be seen.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The writebacks refused.
    #[error(transparent)]
    Writeback(#[from] WritebackError),
    /// The actor's name is none.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// It could not be put on record.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The tenant's database failed.
    #[error("the tenant's database failed")]
    Tenant(#[from] TenantError),
}

/// Writebacks, the latest first, as the person of the name `by` is shown them, which is put on record.
pub async fn list(db: &TenantDb, filter: &Filter, limit: i64, by: &str) -> Result<Vec<Writeback>, LookError> {
    let mut write = db.write().await?;
    let found = rows::list(&mut write, filter, limit).await?;
    let ids: Vec<_> = found.iter().map(|writeback| writeback.id).collect();
    let by = actor::named(&mut write, by).await?.id;
    reading::record(&mut write, &Reading::Writebacks(&ids), by).await?;
    write.commit().await?;
    Ok(found)
}

/// One, with the arrows that it took, as the person of the name `by` is shown it, which is put on record.
pub async fn view(db: &TenantDb, id: WritebackId, by: &str) -> Result<(Writeback, Vec<Step>), LookError> {
    let mut write = db.write().await?;
    let found = rows::find(&mut write, id).await?;
    let steps = rows::steps(&mut write, id).await?;
    let by = actor::named(&mut write, by).await?.id;
    reading::record(&mut write, &Reading::Writeback(id), by).await?;
    write.commit().await?;
    Ok((found, steps))
}

/// One, with the arrows that it took.
pub async fn show(db: &TenantDb, id: WritebackId) -> Result<(Writeback, Vec<Step>), LookError> {
    let mut read = db.read().await?;
    let found = rows::find(&mut read, id).await?;
    let steps = rows::steps(&mut read, id).await?;
    read.finish().await?;
    Ok((found, steps))
}

/// Verified changes that do not hold any more, as the person of the name `by` is shown them, which is put on record.
pub async fn drifts(db: &TenantDb, limit: i64, by: &str) -> Result<Vec<Drifting>, LookError> {
    let mut write = db.write().await?;
    let found = rows::drifts(&mut write, limit).await?;
    let ids: Vec<_> = found.iter().map(|drift| drift.writeback).collect();
    let by = actor::named(&mut write, by).await?.id;
    reading::record(&mut write, &Reading::Writebacks(&ids), by).await?;
    write.commit().await?;
    Ok(found)
}

/// Who acts, in the tenant's database.
pub async fn actor(db: &TenantDb, name: &str) -> Result<ActorId, LookError> {
    let mut write = db.write().await?;
    let found = actor::named(&mut write, name).await?;
    write.commit().await?;
    Ok(found.id)
}
