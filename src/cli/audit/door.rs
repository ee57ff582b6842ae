//! Which chain a command means, and the way to it.

use std::ops::{Deref, DerefMut};

use database::{
    control::TenantName,
    tenant::{Read, Write},
};
use sqlx::{PgConnection, Postgres, pool::PoolConnection};

use super::super::{Context, tenant};
use crate::wiring::Control;

/// The chain of a tenant or of the platform.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Chain {
    /// The tenant whose chain it is [default: the only one there is]
    #[arg(long, value_name = "NAME", conflicts_with = "platform")]
    tenant: Option<TenantName>,
    /// The platform's own chain
    #[arg(long)]
    platform: bool,
}

/// A database that has a chain.
pub(in crate::cli) enum Door {
    /// The control database; every statement is its own transaction.
    Platform(PoolConnection<Postgres>),
    /// A tenant's, read on one snapshot.
    Read(Read),
    /// A tenant's, in a transaction.
    Write(Write),
}

impl Chain {
    /// To look at it.
    pub(in crate::cli) async fn read(&self, context: &Context, control: &Control) -> anyhow::Result<Door> {
        if self.platform {
            return Ok(Door::Platform(control.connection().await?));
        }
        let tenant = tenant::or_default(context, control, self.tenant.as_ref()).await?;
        Ok(Door::Read(control.tenant(&tenant).await?.read().await?))
    }

    /// To change something beside it.
    pub(in crate::cli) async fn write(&self, context: &Context, control: &Control) -> anyhow::Result<Door> {
        if self.platform {
            return Ok(Door::Platform(control.connection().await?));
        }
        let tenant = tenant::or_default(context, control, self.tenant.as_ref()).await?;
        Ok(Door::Write(control.tenant(&tenant).await?.write().await?))
    }
}

impl Door {
    /// Ends the transaction; what was written stays.
    pub(in crate::cli) async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Platform(_) => {}
            Self::Read(read) => read.finish().await?,
            Self::Write(write) => write.commit().await?,
        }
        Ok(())
    }
}

impl Deref for Door {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Platform(conn) => conn,
            Self::Read(read) => read,
            Self::Write(write) => write,
        }
    }
}

impl DerefMut for Door {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Platform(conn) => conn,
            Self::Read(read) => read,
            Self::Write(write) => write,
        }
    }
}
