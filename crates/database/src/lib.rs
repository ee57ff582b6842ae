//! Everything between the service and its databases, except what a queue or a job means.
//!
//! Owns: the way to a control database and its catalogue of tenants, a database and a role per tenant and their
//! migrations, the handle through which a tenant's data is reached, and the Postgres that a single machine or a
//! test runs for itself.
//!
//! Promises: a query meant for one tenant cannot run in another's database ([`tenant`]); an effect of a lost
//! attempt writes nothing ([`tenant::TenantDb::effect`]); provisioning and migrating may be killed anywhere and
//! repeated ([`provision`], [`migrate`]).
//!
//! Refuses: to know leases, kinds or keys. An attempt arrives here as a [`tenant::Claim`], a password as a
//! [`passwords::PasswordSource`].

pub mod connect;
pub mod control;
pub mod create;
pub mod embedded;
pub mod failure;
pub mod health;
pub mod migrate;
pub mod passwords;
pub mod provision;
pub mod roles;
pub mod sample;
mod scram;
pub mod tenant;
pub mod testing;
pub mod tombstone;

pub use failure::{Class, classify};
