//! What a deletion would remove and what would remain: the dry run. It changes nothing.

use std::{collections::BTreeMap, io, time::Duration};

use database::{
    control::{Tenant, TenantId, TenantState},
    tenant::{TenantDb, TenantError},
};
use governance::{
    audit::{self, AuditError},
    gate::{self, ActionClass, GateError},
};
use serde::Serialize;
use sqlx::PgConnection;

use super::{Deletions, certificate::Swept, files, tables};

/// What would go, what would remain, and what stands before it.
#[derive(Debug, Serialize)]
pub struct Survey {
    /// Its identity.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// How far its life has come.
    pub state: TenantState,
    /// Its database and its role, which are called alike.
    pub database: String,
    /// The database's size, if it can be told.
    pub database_bytes: Option<i64>,
    /// Rows of the control database that would go, by table.
    pub rows: BTreeMap<String, i64>,
    /// Files that would go; none if this machine has no data folder.
    pub files: Option<Swept>,
    /// The data folder of this machine. The worker that does it sweeps its own.
    pub folders: Vec<String>,
    /// Tables of the control database of which nothing would go, and why.
    pub stays: BTreeMap<String, &'static str>,
    /// Entries of its chain, which would be taken out.
    pub chain_size: Option<i64>,
    /// Where that, the tombstone and the certificate would go.
    pub tombstone_folder: String,
    /// For how many days backups are kept, if that was said.
    pub backup_days: Option<u32>,
    /// How many persons must say yes.
    pub persons: i16,
    /// For how many seconds it could be called off then.
    pub cooling_off_secs: u64,
    /// Tables that nobody has classified, which keep it from being done.
    pub unclassified: Vec<String>,
}

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The files cannot be listed.
    #[error("the data folder cannot be read")]
    Files(#[from] io::Error),
    /// The gate cannot be read.
    #[error("what the gate asks for cannot be read")]
    Gate(#[from] GateError),
    /// The chain cannot be read.
    #[error("the tenant's chain cannot be read")]
    Audit(#[from] AuditError),
    /// The tenant's database cannot be used.
    #[error("the tenant's database cannot be looked at")]
    Tenant(#[from] TenantError),
    /// The database refused or was lost.
    #[error("what would go cannot be counted")]
    Database(#[from] sqlx::Error),
}

/// Counts what there is. `db` is the tenant's database, if it is in service.
pub async fn survey(
    control: &mut PgConnection,
    tenant: &Tenant,
    db: Option<&TenantDb>,
    deletions: &Deletions,
    cooling_off: Duration,
) -> Result<Survey, SurveyError> {
    let chain_size = match db {
        Some(db) => {
            let mut read = db.read().await?;
            let head = audit::head(&mut read).await?;
            read.finish().await?;
            Some(head.size)
        }
        None => None,
    };
    // Not every role may ask for the size of a database that it cannot enter.
    let database_bytes = database::health::database_size(control, &tenant.database_name).await.ok().flatten();
    let folders = deletions.folders();
    let measured = || files::measure(&files::of_tenant(folders, tenant.id)?);
    let files = (!folders.is_empty()).then(measured).transpose()?;
    Ok(Survey {
        tenant: tenant.id,
        name: tenant.name.to_string(),
        state: tenant.state,
        database: tenant.database_name.clone(),
        database_bytes,
        rows: tables::count(control, tenant.id).await?,
        files,
        folders: folders.iter().map(|folder| folder.display().to_string()).collect(),
        stays: tables::staying().collect(),
        chain_size,
        tombstone_folder: deletions.tombstones().folder_of(tenant.id).display().to_string(),
        backup_days: deletions.backup_days(),
        persons: gate::get(control, &ActionClass::tenant_delete()).await?.persons,
        cooling_off_secs: cooling_off.as_secs(),
        unclassified: tables::unclassified(control).await?,
    })
}
