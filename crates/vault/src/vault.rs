//! Sealing and opening, with the keys of a database and the key services of this process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use secrecy::SecretSlice;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    catalog::CatalogError,
    cipher::{self, Dek, DoesNotOpen, Key, TooLong},
    keys::{self, DekRow, Kek, KeyState},
    sealed::{Cell, DekId, Owner, Sealed},
    service::{KeyReference, KeyService, ServiceError, Services, Wrapped, Wrapping},
};

/// How long a key stays in memory after it was unwrapped: so long does what its owner has revoked still open here.
const KEPT: Duration = Duration::from_mins(1);

/// Why a value was not sealed or opened, or its keys not changed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The text is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The value was not sealed for this place, or was changed since.
    #[error("the value in {0} does not open: it was sealed for another place, or changed since")]
    DoesNotOpen(String),
    /// The value names a key that this database does not have.
    #[error("the value in {place} is sealed under the key {dek}, which is not known here")]
    UnknownKey {
        /// Where the value is.
        place: String,
        /// The key.
        dek: DekId,
    },
    /// The value names a key that was retired.
    #[error("the value in {place} is sealed under the key {dek}, which was retired")]
    RetiredKey {
        /// Where the value is.
        place: String,
        /// The key.
        dek: DekId,
    },
    /// A key service said what it cannot have meant: what it wrapped does not unwrap to the same.
    #[error("the key service does not give back what it wrapped with {0}: nothing is sealed under it")]
    Faithless(KeyReference),
    /// The key service did not do its part.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A table with sealed values cannot be rotated.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The database refused or was lost.
    #[error("the keys cannot be used")]
    Database(#[from] sqlx::Error),
}

/// The way to all keys; cheap to clone. One per process.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    services: Services,
    kept: Duration,
    deks: Mutex<HashMap<DekId, (Instant, Arc<Dek>)>>,
}

impl Vault {
    /// With these key services.
    #[must_use]
    pub fn new(services: Services) -> Self {
        Self::keeping(services, KEPT)
    }

    /// The same, where an unwrapped key stays in memory for so long.
    #[must_use]
    pub fn keeping(services: Services, kept: Duration) -> Self {
        Self(Arc::new(Inner { services, kept, deks: Mutex::default() }))
    }

    pub(crate) fn services(&self) -> &Services {
        &self.0.services
    }

    /// Seals a text for a cell, in the transaction that writes it. The table's key is made at its first secret.
    pub async fn seal(
        &self,
        conn: &mut PgConnection,
        cell: &Cell<'_>,
        text: &[u8],
    ) -> Result<Sealed, VaultError> {
        let row = match keys::sealing_dek(conn, cell.relation).await? {
            Some(row) => row,
            None => self.first_dek(conn, cell.owner, cell.relation).await?,
        };
        let is_kept = self.kept(row.id).is_some();
        let dek = self.dek(conn, cell.owner, &row).await?;
        if !is_kept {
            keys::note_used(conn, row.kek).await?;
        }
        Ok(dek.seal(cell, text)?)
    }

    /// Opens a value of a cell.
    pub async fn open(
        &self,
        conn: &mut PgConnection,
        cell: &Cell<'_>,
        sealed: &Sealed,
    ) -> Result<SecretSlice<u8>, VaultError> {
        let dek = self.dek_of(conn, cell, sealed).await?;
        dek.open(cell, sealed).map_err(|DoesNotOpen| VaultError::DoesNotOpen(place(cell)))
    }

    /// Notes that the key under which the value is sealed was used; for whoever opened it in a transaction that could
    /// not write.
    pub async fn note_use(&self, conn: &mut PgConnection, sealed: &Sealed) -> Result<(), VaultError> {
        if let Some(row) = keys::dek(conn, sealed.dek()).await? {
            keys::note_used(conn, row.kek).await?;
        }
        Ok(())
    }

    /// The key that a value of a cell names.
    async fn dek_of(
        &self,
        conn: &mut PgConnection,
        cell: &Cell<'_>,
        sealed: &Sealed,
    ) -> Result<Arc<Dek>, VaultError> {
        let dek = sealed.dek();
        let row = keys::dek(conn, dek).await?;
        let row = row.ok_or_else(|| VaultError::UnknownKey { place: place(cell), dek })?;
        if row.wrapped.is_none() {
            return Err(VaultError::RetiredKey { place: place(cell), dek });
        }
        self.dek(conn, cell.owner, &row).await
    }

    /// The key of a row, unwrapped now or a moment ago.
    pub(crate) async fn dek(
        &self,
        conn: &mut PgConnection,
        owner: Owner,
        row: &DekRow,
    ) -> Result<Arc<Dek>, VaultError> {
        if let Some(dek) = self.kept(row.id) {
            return Ok(dek);
        }
        let kek = keys::kek(conn, row.kek).await?;
        let bytes = self.unwrap(owner, row, &kek).await?;
        let key = Key::new(&bytes).ok_or(ServiceError::DoesNotUnwrap(kek.reference))?;
        Ok(self.keep(Dek { id: row.id, kek: row.kek, key }))
    }

    /// What the key service makes of a wrapped key.
    pub(crate) async fn unwrap(
        &self,
        owner: Owner,
        row: &DekRow,
        kek: &Kek,
    ) -> Result<SecretSlice<u8>, ServiceError> {
        let wrapping = Wrapping { owner, relation: &row.relation, dek: row.id };
        let wrapped =
            row.wrapped.as_ref().ok_or_else(|| ServiceError::DoesNotUnwrap(kek.reference.clone()))?;
        self.services().of(&kek.reference)?.unwrap(&kek.reference, &wrapping, wrapped).await
    }

    /// Wraps a key, and makes sure that it can be had back before anything relies on it.
    pub(crate) async fn wrap(
        &self,
        kek: &Kek,
        wrapping: &Wrapping<'_>,
        dek: &SecretSlice<u8>,
    ) -> Result<Wrapped, VaultError> {
        use secrecy::ExposeSecret as _;
        let service = self.services().of(&kek.reference)?;
        let wrapped = service.wrap(&kek.reference, wrapping, dek).await?;
        match service.unwrap(&kek.reference, wrapping, &wrapped).await {
            Ok(back) if back.expose_secret() == dek.expose_secret() => Ok(wrapped),
            Ok(_) | Err(ServiceError::DoesNotUnwrap(_)) => Err(VaultError::Faithless(kek.reference.clone())),
            Err(error) => Err(error.into()),
        }
    }

    fn kept(&self, id: DekId) -> Option<Arc<Dek>> {
        let mut deks = self.0.deks.lock().expect("no holder of this lock can panic");
        deks.retain(|_, (since, _)| since.elapsed() < self.0.kept);
        deks.get(&id).map(|(_, dek)| dek.clone())
    }

    fn keep(&self, dek: Dek) -> Arc<Dek> {
        let dek = Arc::new(dek);
        let mut deks = self.0.deks.lock().expect("no holder of this lock can panic");
        deks.insert(dek.id, (Instant::now(), dek.clone()));
        dek
    }

    async fn first_dek(
        &self,
        conn: &mut PgConnection,
        owner: Owner,
        relation: &str,
    ) -> Result<DekRow, VaultError> {
        keys::hold_keys(conn).await?;
        // Somebody else may have made it while we waited.
        if let Some(row) = keys::sealing_dek(conn, relation).await? {
            return Ok(row);
        }
        self.new_dek(conn, owner, relation).await
    }

    /// Makes a key for a table's values; the one before it becomes former.
    pub(crate) async fn new_dek(
        &self,
        conn: &mut PgConnection,
        owner: Owner,
        relation: &str,
    ) -> Result<DekRow, VaultError> {
        keys::hold_keys(conn).await?;
        let kek = self.ensure_kek(conn).await?;
        let (id, bytes) = (DekId(Uuid::new_v4()), cipher::random_key());
        let wrapped = self.wrap(&kek, &Wrapping { owner, relation, dek: id }, &bytes).await?;
        keys::activate_dek(conn, id, relation, kek.id, &wrapped).await?;
        let row = keys::dek(conn, id).await?;
        Ok(row.ok_or(sqlx::Error::RowNotFound)?)
    }

    /// The key that wraps new ones; one of the keyring's where nobody has named any.
    async fn ensure_kek(&self, conn: &mut PgConnection) -> Result<Kek, VaultError> {
        if let Some(kek) = keys::active_kek(conn).await? {
            return Ok(kek);
        }
        let reference = self.services().own()?.create().await?;
        Ok(keys::activate_kek(conn, &reference).await?)
    }

    /// Makes a key of a key service the one that wraps new keys here, once it has shown that it gives back what it
    /// wraps. What the one before it wraps stays so until it is rewrapped. False if it was that before.
    pub async fn name_kek(
        &self,
        conn: &mut PgConnection,
        owner: Owner,
        reference: &KeyReference,
    ) -> Result<(Kek, bool), VaultError> {
        keys::hold_keys(conn).await?;
        if let Some(kek) = keys::active_kek(conn).await?
            && kek.reference == *reference
        {
            return Ok((kek, false));
        }
        let kek = keys::activate_kek(conn, reference).await?;
        let wrapping = Wrapping { owner, relation: "governance.kek", dek: DekId(Uuid::nil()) };
        self.wrap(&kek, &wrapping, &cipher::random_key()).await?;
        Ok((kek, true))
    }

    /// The service that keeps this key.
    pub(crate) fn service(&self, reference: &KeyReference) -> Result<&dyn KeyService, ServiceError> {
        self.services().of(reference)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("services", &self.0.services).finish_non_exhaustive()
    }
}

/// How a cell is named in a message: the row by its key.
fn place(cell: &Cell<'_>) -> String {
    format!("{}.{} of row {}", cell.relation, cell.column, cell.key.join(", "))
}

impl KeyState {
    pub(crate) fn is_retired(self) -> bool {
        self == Self::Retired
    }
}
