//! Tombstones outside the database: a folder with one for each tenant that was deleted.
//!
//! Promises: a tenant with a tombstone here is opened and provisioned by nobody, whatever the catalogue says, since a
//! catalogue that was restored from a backup knows nothing of what came after (E8). A folder that cannot be read is an
//! error and not an absence. Refuses: to know what is written in one and who signed it.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs;

use crate::control::TenantId;

/// The file in a tenant's folder that says that it is gone.
pub const FILE: &str = "tombstone.note";

/// The folder of all tombstones; cheap to ask.
#[derive(Clone, Debug)]
pub struct Tombstones(PathBuf);

/// Why a tenant is refused, whatever the catalogue says of it.
#[derive(Debug, thiserror::Error)]
pub enum TombstoneError {
    /// The tenant was deleted.
    #[error(
        "the tenant {tenant} was deleted: its tombstone is {}. This database was restored from a time before; delete the tenant again",
        .file.display()
    )]
    Buried {
        /// The tenant.
        tenant: TenantId,
        /// Its tombstone.
        file: PathBuf,
    },
    /// It cannot be told: nobody is let in.
    #[error("the folder of tombstones {} cannot be read, so nobody knows which tenants were deleted", .folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Tombstones {
    /// Those in this folder, which must exist when it is asked.
    #[must_use]
    pub fn of(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Where everything goes that is left of a tenant.
    #[must_use]
    pub fn folder_of(&self, tenant: TenantId) -> PathBuf {
        self.0.join(tenant.to_string())
    }

    /// Refuses a tenant that has a tombstone.
    pub async fn refuse(&self, tenant: TenantId) -> Result<(), TombstoneError> {
        self.check().await?;
        let file = self.folder_of(tenant).join(FILE);
        match fs::try_exists(&file).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(TombstoneError::Buried { tenant, file }),
            Err(source) => Err(self.unreadable(source)),
        }
    }

    /// Refuses a folder that is not there, such as one that is not mounted: it is not one without tombstones.
    pub async fn check(&self) -> Result<(), TombstoneError> {
        fs::read_dir(&self.0).await.map_err(|source| self.unreadable(source)).map(drop)
    }

    fn unreadable(&self, source: io::Error) -> TombstoneError {
        TombstoneError::Unreadable { folder: self.0.clone(), source }
    }
}
