//! Puts on record what a person is about to be shown of a tenant.

use database::tenant::TenantDb;
use governance::reading::{self, Reading};

use super::Context;
use crate::operator;

/// In a transaction of its own, before anything is shown.
pub(super) async fn on_record(context: &Context, db: &TenantDb, reading: &Reading<'_>) -> anyhow::Result<()> {
    let mut write = db.write().await?;
    let by = operator::named(&mut write, context.actor()).await?.id;
    reading::record(&mut write, reading, by).await?;
    Ok(write.commit().await?)
}
