//! The tenant whose things a command means, and the way into its database.

use database::{
    control::{Tenant, TenantName},
    tenant::TenantDb,
};

use super::{
    super::{Context, exit::Exit},
    or_default,
};
use crate::wiring::Control;

/// Whose things are meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Whose {
    /// Whose [default: the only tenant in service]
    #[arg(long)]
    tenant: Option<TenantName>,
}

impl Whose {
    /// The tenant and its database.
    pub(crate) async fn opened(
        &self,
        context: &Context,
        control: &Control,
    ) -> anyhow::Result<(Tenant, TenantDb)> {
        let tenant = or_default(context, control, self.tenant.as_ref()).await?;
        let db = control.tenant(&tenant).await?;
        Ok((tenant, db))
    }

    /// Does the work in the tenant's database. The work may be dropped anywhere: what it writes is one transaction.
    pub(crate) async fn enter(
        &self,
        context: &Context,
        work: impl AsyncFnOnce(&TenantDb) -> anyhow::Result<Exit>,
    ) -> anyhow::Result<Exit> {
        self.enter_with_queue(context, async |_, db| work(db).await).await
    }

    /// The same for work that also enqueues.
    pub(crate) async fn enter_with_queue(
        &self,
        context: &Context,
        work: impl AsyncFnOnce(&Control, &TenantDb) -> anyhow::Result<Exit>,
    ) -> anyhow::Result<Exit> {
        let enter = async |control: &Control| work(control, &self.opened(context, control).await?.1).await;
        context.with_control(async |control| context.interruptible(enter(control)).await).await
    }
}
