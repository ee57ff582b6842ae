//! Transactions on a tenant's database. Each has its connection to itself, from begin to end; one that is dropped
//! without an end never was, and takes its connection with it.

use std::ops::{Deref, DerefMut};

use sqlx::PgConnection;

use super::TenantError;
use super::backend::Backend;

/// How a step's effect begins.
#[derive(Debug)]
pub enum Begun {
    /// It is to be done, in this transaction.
    Fresh(Effect),
    /// It was committed before, by this attempt or an earlier one; there is nothing to do.
    AlreadyApplied,
}

/// The transaction of one step's effect, under the attempt's fence.
#[derive(Debug)]
#[must_use = "dropped without commit, it never was"]
pub struct Effect {
    pub(super) backend: Backend,
}

/// A writing transaction that is no step of a job: a request's, or one under an attempt's fence.
#[derive(Debug)]
#[must_use = "dropped without commit, it never was"]
pub struct Write {
    pub(super) backend: Backend,
}

/// A read-only transaction on one snapshot.
#[derive(Debug)]
pub struct Read {
    pub(super) backend: Backend,
}

impl Effect {
    /// Makes the effect and its step's mark durable together.
    pub async fn commit(self) -> Result<(), TenantError> {
        self.backend.commit().await
    }
}

impl Write {
    /// Makes the writes durable.
    pub async fn commit(self) -> Result<(), TenantError> {
        self.backend.commit().await
    }
}

impl Read {
    /// Gives the connection back. Dropping is as correct, but costs the connection.
    pub async fn finish(self) -> Result<(), TenantError> {
        self.backend.rollback().await
    }
}

macro_rules! connection {
    ($type:ident) => {
        impl Deref for $type {
            type Target = PgConnection;

            fn deref(&self) -> &PgConnection {
                self.backend.conn()
            }
        }

        impl DerefMut for $type {
            fn deref_mut(&mut self) -> &mut PgConnection {
                self.backend.conn_mut()
            }
        }
    };
}

connection!(Effect);
connection!(Write);
connection!(Read);
