//! Who is told when a scope is denied.

use std::{fmt, pin::Pin};

use super::{Scope, TenantError};

/// Somebody who puts denials on record. They are awaited before the caller learns of the denial, which stands whatever
/// becomes of the record.
pub trait Witness: Send + Sync {
    /// The scope was denied; [`TenantError::is_denial`] holds for the error.
    fn denied<'a>(
        &'a self,
        scope: &'a Scope,
        error: &'a TenantError,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl fmt::Debug for dyn Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}
