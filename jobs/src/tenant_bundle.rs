//! Everything that is held on a tenant, as one file: written, checked, restored.
//!
//! Owns: what may leave of each table (`classification`), the form of the file (`manifest`, `archive`, `row`), and
//! where such files lie ([`Exports`], [`Partial`]).
//!
//! Promises: one snapshot over the tenant's database (E2); a table or a column that nobody classified fails the export by its
//! name (E4); no credential is in the file (E3); what was imported gives the same files again (E1); memory does not grow with
//! the tenant; a file that is not whole is never offered.
//!
//! Refuses: to guess. A bundle with one changed byte, of a newer format, of another region, or for a tenant that holds
//! something is not imported.

mod archive;
mod catalog;
mod classification;
mod folder;
mod import;
mod manifest;
pub mod measure;
mod pieces;
mod row;
mod scrub;
#[cfg(test)]
pub(crate) mod tests;
mod verify;
mod write;

use std::{io, path::PathBuf};

use governance::audit::ExportError;

#[cfg(test)]
pub(crate) use self::folder::full;
pub use self::{
    folder::{Exports, Listed, Partial, is_name, name, remove},
    import::{ImportError, Imported, import, plan as plan_import},
    manifest::{FORMAT, File, Manifest},
    verify::{Verified, VerifyError, offered, verify},
    write::{About, Bundle, Plan, PlannedTable, plan, write},
};

/// Why a bundle cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Something holds rows of which nobody has said whether they may leave.
    #[error(
        "nobody has said what may leave of {}: enter it in jobs/src/tenant_bundle/classification.rs, or take it out of the \
         database",
        .0.join(", ")
    )]
    Unclassified(Vec<String>),
    /// A secret stands where it can be neither taken out nor left.
    #[error(
        "{table}.{column} holds a connector's secret in bytes that a digest is bound to: give the connector another \
         credential, by a file"
    )]
    SecretInside {
        /// The table.
        table: String,
        /// Its column.
        column: String,
    },
    /// Postgres sent what is no row.
    #[error("a row of {table} cannot be read: {column}")]
    Malformed {
        /// The table.
        table: String,
        /// What is wrong.
        column: String,
    },
    /// The file cannot be written.
    #[error("the bundle cannot be written in {}", folder.display())]
    Write {
        /// Where.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The chain cannot be read.
    #[error("the audit chain cannot be exported")]
    Audit(#[from] ExportError),
    /// The manifest has no canonical form.
    #[error("the manifest cannot be written")]
    Manifest(#[from] governance::canonical::CanonicalError),
    /// Whoever watches wants it to stop.
    #[error("the export was stopped")]
    Stopped,
    /// A database failed.
    #[error("a database failed")]
    Database(#[from] sqlx::Error),
}
