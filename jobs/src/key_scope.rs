//! Whose keys are meant: a tenant's, in its own database, or the platform's, in the control database.

use std::ops::{Deref, DerefMut};

use database::tenant::{Effect, Read, TenantDb, TenantError, Write};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use vault::Owner;

/// Whose keys are meant; cheap to clone.
#[derive(Clone)]
pub enum KeyScope {
    /// The platform's.
    Platform(PgPool),
    /// A tenant's.
    Tenant(TenantDb),
}

/// A transaction on the database that holds the keys.
pub enum KeyTransaction {
    /// On the control database.
    Platform(Transaction<'static, Postgres>),
    /// A job's step in a tenant's database.
    Effect(Effect),
    /// A request's in a tenant's database.
    Write(Write),
    /// One in a tenant's database that cannot write.
    Read(Read),
}

impl KeyScope {
    /// Whose they are.
    #[must_use]
    pub fn owner(&self) -> Owner {
        match self {
            Self::Platform(_) => Owner::Platform,
            Self::Tenant(db) => Owner::Tenant(db.tenant().id.0),
        }
    }

    /// What it is called, to be read by people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Platform(_) => "platform".to_owned(),
            Self::Tenant(db) => db.tenant().name.to_string(),
        }
    }

    /// Begins a transaction in which Postgres itself refuses a write.
    pub async fn read(&self) -> Result<KeyTransaction, TenantError> {
        match self {
            Self::Platform(pool) => {
                let mut tx = pool.begin().await?;
                let set = "-- keys.read_only\nset transaction isolation level repeatable read, read only";
                sqlx::raw_sql(set).execute(&mut *tx).await?;
                Ok(KeyTransaction::Platform(tx))
            }
            Self::Tenant(db) => Ok(KeyTransaction::Read(db.read().await?)),
        }
    }

    /// Begins a transaction of a request.
    pub async fn write(&self) -> Result<KeyTransaction, TenantError> {
        match self {
            Self::Platform(pool) => Ok(KeyTransaction::Platform(pool.begin().await?)),
            Self::Tenant(db) => Ok(KeyTransaction::Write(db.write().await?)),
        }
    }
}

impl KeyTransaction {
    /// Makes it durable; one that only read is over.
    pub async fn commit(self) -> Result<(), TenantError> {
        match self {
            Self::Platform(tx) => Ok(tx.commit().await?),
            Self::Effect(effect) => effect.commit().await,
            Self::Write(write) => write.commit().await,
            Self::Read(read) => read.finish().await,
        }
    }

    /// Takes it back.
    pub async fn roll_back(self) -> Result<(), TenantError> {
        match self {
            Self::Platform(tx) => Ok(tx.rollback().await?),
            Self::Read(read) => read.finish().await,
            // Dropped without a commit, it never was.
            Self::Effect(_) | Self::Write(_) => Ok(()),
        }
    }
}

impl Deref for KeyTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Platform(tx) => tx,
            Self::Effect(effect) => effect,
            Self::Write(write) => write,
            Self::Read(read) => read,
        }
    }
}

impl DerefMut for KeyTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Platform(tx) => tx,
            Self::Effect(effect) => effect,
            Self::Write(write) => write,
            Self::Read(read) => read,
        }
    }
}
