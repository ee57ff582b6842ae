//! Secrets at rest: sealed values, the keys that seal them, and the key services that wrap those keys.
//!
//! Envelope encryption: a key service's key (KEK), one per tenant and one for the platform, wraps the keys of tables
//! (DEK), and a DEK seals the values of its table. The KEK never comes here; a DEK is in memory for as long as it is
//! used and a minute more, and rests only wrapped.
//!
//! Promises: a value opens only in the row, column and tenant for which it was sealed (K6); a former DEK seals nothing
//! any more, so that a census of zero stays zero (K7); a rotation never overwrites what it cannot open (K4) nor what
//! somebody else wrote meanwhile (K5); neither a key nor a text can be printed (K9).
//!
//! Refuses: to know what is sealed, a job, or a lease. Columns are found in the catalog by their type, `governance.sealed`.

mod aws;
mod catalog;
mod census;
mod cipher;
mod keyring;
mod keys;
pub mod measure;
mod retire;
pub mod rotation;
mod sealed;
mod service;
#[cfg(test)]
mod tests;
mod vault;

pub use self::{
    aws::{AccessError, AwsKms},
    catalog::{CatalogError, Column, columns},
    census::{Census, DekCensus, KekCensus, census},
    cipher::{Dek, DoesNotOpen, TooLong},
    keyring::{Keyring, KeyringError},
    keys::{DekRow, Kek, KeyState, references},
    retire::{RetireRefused, Retired, retire_dek, retire_kek},
    sealed::{Cell, DekId, KekId, NotSealed, Owner, Sealed, TEXT_BYTES_MAX},
    service::{
        KeyReference, KeyService, NoVendor, ServiceClass, ServiceError, Services, Vendor, Wrapped, Wrapping,
    },
    vault::{Vault, VaultError},
};
