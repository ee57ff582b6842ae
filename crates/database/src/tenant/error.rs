//! Why a tenant's database could not be used.

use std::time::Duration;

use crate::control::{ControlError, Region, TenantId, TenantName, TenantState};
use crate::failure::{Class, classify};
use crate::passwords::PasswordError;
use crate::tombstone::TombstoneError;

/// Why a tenant's database could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// The catalogue knows no such tenant.
    #[error("there is no tenant {0}")]
    NoSuchTenant(TenantId),
    /// The tenant's data lies in another region than this process; nothing was opened.
    #[error("the tenant {tenant} is of region {theirs}, this process of region {ours}")]
    OtherRegion {
        /// The tenant.
        tenant: TenantName,
        /// Its region.
        theirs: Region,
        /// The region of the scope.
        ours: Region,
    },
    /// The tenant is not in service.
    #[error("the tenant {tenant} is {state}")]
    NotActive {
        /// The tenant.
        tenant: TenantName,
        /// Its state.
        state: TenantState,
    },
    /// The tenant has a tombstone outside the database, or nobody can tell whether it has.
    #[error("the tenant's tombstone forbids it")]
    Tombstone(#[from] TombstoneError),
    /// The connection led to a database that is not this tenant's. Somebody mixed databases up: nothing was run there.
    #[error("the connection for tenant {tenant} led to the database {database}, stamped {}", .stamp.map_or("nobody's".into(), |id| id.to_string()))]
    OtherDatabase {
        /// The tenant that was asked for.
        tenant: TenantId,
        /// The database that was reached.
        database: String,
        /// Whose it says it is.
        stamp: Option<TenantId>,
    },
    /// No connection came free in time.
    #[error("no connection came free within {}s: all {limit} of `{setting}` are in use", .waited.as_secs())]
    Busy {
        /// The limit that was reached.
        limit: usize,
        /// What to raise.
        setting: &'static str,
        /// How long the caller waited.
        waited: Duration,
    },
    /// A newer attempt holds the job. Nothing was written.
    #[error("a newer attempt holds the job")]
    Fenced,
    /// An older attempt's transaction could not be ended.
    #[error("an older attempt's transaction still blocks the fence of job {0}")]
    FenceBlocked(i64),
    /// An effect or a fence needs a job's scope, a request's write must not have one.
    #[error("{0}")]
    WrongScope(&'static str),
    /// A statement of the transaction had failed, so it was rolled back.
    #[error("the transaction had failed before its commit and was rolled back")]
    Aborted,
    /// The connection was lost during the commit: run the step again to learn whether it is done.
    #[error("the connection was lost during the commit, whose outcome is unknown")]
    CommitUnknown(#[source] sqlx::Error),
    /// The question whether the lease still stands could not be answered.
    #[error("the lease could not be confirmed")]
    Confirm(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no password for the tenant's role.
    #[error("there is no password for the tenant's role")]
    Password(#[from] PasswordError),
    /// The catalogue could not be read.
    #[error("the tenant catalogue could not be read")]
    Control(#[from] ControlError),
    /// The tenant's database refused or was lost.
    #[error("the tenant's database failed")]
    Database(#[from] sqlx::Error),
}

impl TenantError {
    /// Whether a scope was denied: the tenant is unknown, not in service, of another region, or its database another's.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        matches!(
            self,
            Self::NoSuchTenant(_)
                | Self::OtherRegion { .. }
                | Self::NotActive { .. }
                | Self::Tombstone(_)
                | Self::OtherDatabase { .. }
        )
    }

    /// What the failure asks of the caller.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Fenced => Class::Fenced,
            Self::Control(ControlError::Database(error)) | Self::Database(error) => classify(error),
            Self::Busy { .. } | Self::FenceBlocked(_) | Self::CommitUnknown(_) | Self::Confirm(_) => {
                Class::Transient
            }
            Self::NoSuchTenant(_)
            | Self::OtherRegion { .. }
            | Self::NotActive { .. }
            | Self::Tombstone(_)
            | Self::OtherDatabase { .. }
            | Self::Password(_)
            | Self::Control(_) => Class::Configuration,
            Self::WrongScope(_) | Self::Aborted => Class::Permanent,
        }
    }
}
