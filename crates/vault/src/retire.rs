//! Taking a key out of use for good, once nothing needs it (K7).
//!
//! A key that is needed by nothing here may still be needed by a backup. So it must also have been out of use for
//! longer than the oldest backup that anybody could restore is old.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    catalog::columns,
    census::count,
    keys::{self, KeyState},
    sealed::{DekId, KekId},
    service::{KeyReference, ServiceError},
    vault::{Vault, VaultError},
};

/// What was taken out of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retired {
    /// False if it was before.
    pub is_new: bool,
    /// Whether a key service's key was destroyed; false for one that is its owner's to destroy.
    pub destroyed: bool,
}

/// Why a key is kept.
#[derive(Debug, thiserror::Error)]
pub enum RetireRefused {
    /// No key has this number.
    #[error("there is no key {0} here")]
    NotFound(uuid::Uuid),
    /// New values are sealed, or new keys wrapped, under it.
    #[error("the key {0} is the active one: rotate first, so that another takes its place")]
    Active(uuid::Uuid),
    /// Values rest under it.
    #[error(
        "the key {dek} still seals {values} values, the first of them in {relation}: rotate with --reseal first"
    )]
    Seals {
        /// The key.
        dek: DekId,
        /// How many.
        values: i64,
        /// Where the first are.
        relation: String,
    },
    /// Keys rest under it.
    #[error("the key {kek} still wraps {deks} keys: rotate first")]
    Wraps {
        /// The key.
        kek: KekId,
        /// How many.
        deks: i64,
    },
    /// A backup could be restored that needs it.
    #[error(
        "the key {key} was in use until {until}, and backups are kept for longer than that is past: a restored one would need it until {free}"
    )]
    Backups {
        /// The key.
        key: uuid::Uuid,
        /// Its last use.
        until: DateTime<Utc>,
        /// When no backup needs it any more.
        free: DateTime<Utc>,
    },
    /// The keys cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl From<sqlx::Error> for RetireRefused {
    fn from(error: sqlx::Error) -> Self {
        Self::Vault(error.into())
    }
}

/// Forgets a table's key: its wrapped bytes are deleted. Refused while anything needs it; `backups_kept` is how old a
/// backup may be that is restored.
pub async fn retire_dek(
    conn: &mut PgConnection,
    id: DekId,
    backups_kept: Duration,
) -> Result<Retired, RetireRefused> {
    let row = sqlx::query!(
        r#"-- vault.hold_dek
        select state, former_since, former_since + make_interval(secs => $2) as free,
               coalesce(former_since + make_interval(secs => $2) > clock_timestamp(), false) as "restorable!"
          from governance.dek where id = $1 for update"#,
        id.0,
        backups_kept.as_secs_f64(),
    );
    let row = row.fetch_optional(&mut *conn).await?.ok_or(RetireRefused::NotFound(id.0))?;
    match KeyState::named(&row.state) {
        KeyState::Active => return Err(RetireRefused::Active(id.0)),
        KeyState::Retired => return Ok(Retired { is_new: false, destroyed: false }),
        KeyState::Former => {}
    }
    // A statement of its own for each table: all that was ever sealed under a former key is committed.
    for column in columns(conn).await.map_err(VaultError::from)? {
        if let Some((_, values)) = count(conn, &column, Some(id)).await?.pop() {
            return Err(RetireRefused::Seals { dek: id, values, relation: column.relation() });
        }
    }
    if let (true, Some(until), Some(free)) = (row.restorable, row.former_since, row.free) {
        return Err(RetireRefused::Backups { key: id.0, until, free });
    }
    sqlx::query!(
        "-- vault.retire_dek
        update governance.dek set state = 'retired', wrapped = null, retired_at = clock_timestamp() where id = $1",
        id.0,
    )
    .execute(conn)
    .await?;
    Ok(Retired { is_new: true, destroyed: false })
}

/// Lets go of a key service's key; [`destroy_kek`](Vault::destroy_kek) destroys it once this is committed.
pub async fn retire_kek(
    conn: &mut PgConnection,
    id: KekId,
    backups_kept: Duration,
) -> Result<Retired, RetireRefused> {
    keys::hold_keys(conn).await?;
    let row = sqlx::query!(
        r#"-- vault.hold_kek
        select state, coalesce(last_used_at, made_at) as "used_at!",
               coalesce(last_used_at, made_at) + make_interval(secs => $2) as "free!",
               coalesce(last_used_at, made_at) + make_interval(secs => $2) > clock_timestamp() as "restorable!",
               (select count(*) from governance.dek where kek = k.id and state <> 'retired') as "deks!"
          from governance.kek k where id = $1 for update"#,
        id.0,
        backups_kept.as_secs_f64(),
    );
    let row = row.fetch_optional(&mut *conn).await?.ok_or(RetireRefused::NotFound(id.0))?;
    match KeyState::named(&row.state) {
        KeyState::Active => return Err(RetireRefused::Active(id.0)),
        KeyState::Retired => return Ok(Retired { is_new: false, destroyed: false }),
        KeyState::Former if row.deks > 0 => return Err(RetireRefused::Wraps { kek: id, deks: row.deks }),
        KeyState::Former if row.restorable => {
            return Err(RetireRefused::Backups { key: id.0, until: row.used_at, free: row.free });
        }
        KeyState::Former => {}
    }
    sqlx::query!(
        "-- vault.retire_kek
        update governance.kek set state = 'retired', retired_at = clock_timestamp() where id = $1",
        id.0,
    )
    .execute(conn)
    .await?;
    Ok(Retired { is_new: true, destroyed: false })
}

impl Vault {
    /// Destroys a retired key where it is ours to destroy; says whether it did. Harmless to repeat.
    pub async fn destroy_kek(&self, conn: &mut PgConnection, id: KekId) -> Result<bool, VaultError> {
        let kek = keys::kek(conn, id).await?;
        if !kek.state.is_retired() {
            return Ok(false);
        }
        Ok(self.destroy(&kek.reference).await?)
    }

    /// Destroys a key where it is ours to destroy, whatever still needs it; says whether it did. Harmless to repeat.
    pub async fn destroy(&self, key: &KeyReference) -> Result<bool, ServiceError> {
        self.service(key)?.destroy(key).await
    }
}
