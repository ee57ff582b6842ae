//! Keys of tables under the newest version of the key service's key. No value is touched.

use sqlx::PgConnection;

use super::{Fault, Mode, Progress, Reason, Rotation, RotationError};
use crate::{
    keys::{self, DekRow, Kek},
    sealed::KekId,
    service::{ServiceClass, Wrapping},
    vault::VaultError,
};

/// Keys of a transaction: each may take three calls of a key service.
const PAGE: i64 = 20;

/// A version that a dry run does not make.
const TO_COME: &str = "to come";

/// Keys that are not gone.
pub(super) async fn total(conn: &mut PgConnection) -> Result<u64, RotationError> {
    let deks = sqlx::query_scalar!(
        r#"-- vault.deks_total
        select count(*) as "deks!" from governance.dek where state <> 'retired'"#
    );
    Ok(deks.fetch_one(conn).await?.unsigned_abs())
}

impl Rotation {
    pub(super) async fn rewrap(
        &mut self,
        conn: &mut PgConnection,
        progress: &mut Progress,
    ) -> Result<Vec<Fault>, RotationError> {
        if !self.is_dry() {
            keys::hold_keys(conn).await?;
        }
        let Some((under, version)) = progress.under.clone() else {
            progress.under = self.version(conn).await?;
            // Without a key nothing was ever sealed here.
            progress.is_done = progress.under.is_none();
            return Ok(Vec::new());
        };
        let under = keys::kek(conn, under).await?;
        let rows = keys::deks_after(conn, progress.dek, PAGE).await?;
        let mut faults = Vec::new();
        for row in &rows {
            faults.extend(self.one(conn, row, &under, &version, progress).await?);
        }
        progress.is_done = rows.is_empty();
        progress.dek = rows.last().map(|row| row.id).or(progress.dek);
        Ok(faults)
    }

    /// What wraps keys from now on: a new version of the active key where that is due.
    async fn version(&self, conn: &mut PgConnection) -> Result<Option<(KekId, String)>, RotationError> {
        let Some(kek) = keys::active_kek(conn).await? else { return Ok(None) };
        let service = self.vault.service(&kek.reference).map_err(VaultError::from)?;
        let is_due = keys::is_due(conn, kek.id, self.settings.older_than).await?;
        let version = match &self.mode {
            Mode::Real { request } if is_due => {
                let version = service.advance(&kek.reference, request).await;
                keys::note_rotated(conn, kek.id).await?;
                version
            }
            // Only a service of our own makes versions by our word.
            Mode::Dry { .. } if is_due && service.makes_versions() => Ok(TO_COME.to_owned()),
            _ => service.version(&kek.reference).await,
        };
        Ok(Some((kek.id, version.map_err(VaultError::from)?)))
    }

    async fn one(
        &self,
        conn: &mut PgConnection,
        row: &DekRow,
        under: &Kek,
        version: &str,
        progress: &mut Progress,
    ) -> Result<Option<Fault>, RotationError> {
        let kek = keys::kek(conn, row.kek).await?;
        let bytes = match self.vault.unwrap(self.owner, row, &kek).await {
            Ok(bytes) => bytes,
            Err(error) if error.class() == ServiceClass::Damaged => {
                progress.counts.undecryptable += 1;
                return Ok(Some(Fault {
                    relation: "governance.dek".to_owned(),
                    column: "wrapped".to_owned(),
                    key: vec![row.id.to_string()],
                    dek: row.id,
                    reason: Reason::LostKey,
                }));
            }
            Err(error) => return Err(VaultError::from(error).into()),
        };
        let is_newest = row.wrapped.as_ref().is_some_and(|wrapped| wrapped.version == version);
        if row.kek == under.id && is_newest {
            progress.counts.already += 1;
            return Ok(None);
        }
        if self.is_dry() {
            progress.counts.rotated += 1;
            return Ok(None);
        }
        let wrapping = Wrapping { owner: self.owner, relation: &row.relation, dek: row.id };
        let wrapped = self.vault.wrap(under, &wrapping, &bytes).await?;
        if keys::rewrap(conn, row, under.id, &wrapped).await? {
            progress.counts.rotated += 1;
        } else {
            progress.counts.raced += 1;
        }
        keys::note_used(conn, under.id).await?;
        Ok(None)
    }
}
