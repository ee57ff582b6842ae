//! Whose approvals and gates a command means: a tenant's or the platform's, each in its own database.

use std::ops::{Deref, DerefMut};

use anyhow::Context as _;
use database::{
    control::{Tenant, TenantName},
    tenant::Write,
};
use governance::actor::Actor;
use jobs::key_scope::KeyScope;
use sqlx::{PgConnection, Postgres, Transaction};

use super::{Context, tenant};
use crate::{operator, wiring::Control};

/// One of both must be said.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Place {
    /// The tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantName>,
    /// The platform itself: provisioning, deletion, what belongs to no tenant
    #[arg(long)]
    platform: bool,
}

/// A transaction there; dropped without a commit, it never was.
pub(crate) enum Writing {
    Platform(Transaction<'static, Postgres>),
    Tenant(Write),
}

impl Place {
    /// Begins a transaction.
    pub(crate) async fn begin(&self, context: &Context, control: &Control) -> anyhow::Result<Writing> {
        if self.tenant.is_none() {
            return Ok(Writing::Platform(control.queue().pool().begin().await?));
        }
        let tenant = tenant::or_default(context, control, self.tenant.as_ref()).await?;
        Ok(Writing::Tenant(control.tenant(&tenant).await?.write().await?))
    }

    /// Whose keys are meant, and the tenant, if it is one.
    pub(crate) async fn keys(
        &self,
        context: &Context,
        control: &Control,
    ) -> anyhow::Result<(KeyScope, Option<Tenant>)> {
        if self.platform {
            return Ok((KeyScope::Platform(control.queue().pool().clone()), None));
        }
        let tenant = tenant::or_default(context, control, self.tenant.as_ref()).await?;
        Ok((KeyScope::Tenant(control.tenant(&tenant).await?), Some(tenant)))
    }

    /// Whether it is the platform.
    pub(crate) fn is_platform(&self) -> bool {
        self.platform
    }

    /// The flag that names it, for advice.
    pub(crate) fn flag(&self) -> String {
        self.tenant.as_ref().map_or_else(|| "--platform".to_owned(), |name| format!("--tenant {name}"))
    }
}

impl Writing {
    /// Makes it durable; a dry run is taken back.
    pub(crate) async fn end(self, dry_run: bool) -> anyhow::Result<()> {
        match (self, dry_run) {
            (Self::Platform(tx), false) => tx.commit().await.context("while committing"),
            (Self::Tenant(write), false) => write.commit().await.context("while committing"),
            (_, true) => Ok(()),
        }
    }

    /// Whoever acts, entered at first sight.
    pub(crate) async fn actor(&mut self, context: &Context) -> anyhow::Result<Actor> {
        self.named(context.actor()).await
    }

    /// The person of this name, entered at first sight.
    pub(crate) async fn named(&mut self, name: &str) -> anyhow::Result<Actor> {
        operator::named(self, name).await
    }
}

impl Deref for Writing {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Platform(tx) => tx,
            Self::Tenant(write) => write,
        }
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Platform(tx) => tx,
            Self::Tenant(write) => write,
        }
    }
}
