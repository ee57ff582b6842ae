//! What stands in `manifest.json`: canonical JSON that says what a bundle holds, and how to check it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::row::Form;

/// The version of the format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const README: &str = "README.txt";
pub(super) const CHAIN: &str = "audit/chain.ndjson";
pub(super) const CHECKPOINT: &str = "audit/checkpoint.note";

/// What `README.txt` says.
pub(super) const README_TEXT: &str = "\
Everything that was held on one tenant, at one moment.

manifest.json        what is in here: for each file its rows, bytes and SHA-256, for each table its columns, and what
                     was left out, with the reason
tenant/*.ndjson      the tenant's own database: a table a file, a row a line of JSON, nothing lost. 64-bit and decimal
                     numbers are strings, bytes are hexadecimal digits, times are in UTC. A JSON value is itself, or a
                     string that holds its text where a reader would lose digits of its numbers
tenant/*.csv         the same for spreadsheets (RFC 4180); an apostrophe stands before what would be a formula
control/*            what the installation knew of the tenant: its jobs, schedules, limits
audit/chain.ndjson   the audit chain, to be checked without us: tenure-verify audit/chain.ndjson
audit/checkpoint.note  the newest signed statement on that chain, if there was one: tenure-verify … --checkpoint …

Credentials are not in here: `[redacted]`, `redacted` and {\"redacted\": …} stand in their places.
To check everything: tenure tenant verify-bundle FILE. To restore it into an empty tenant:
tenure tenant import FILE --into NAME.
";

/// The manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of the program that wrote it.
    pub program: String,
    /// Whose it is.
    pub tenant: Whose,
    /// The moment of the snapshot, by the tenant's database.
    pub taken_at: String,
    /// The snapshots, as Postgres names them: one over each database.
    pub snapshot: Snapshots,
    /// The newest migration of each schema.
    pub schema: BTreeMap<String, i64>,
    /// Where the audit chain ended.
    pub audit: Audit,
    /// All files but this one.
    pub files: Vec<File>,
    /// The tables.
    pub tables: Vec<Table>,
    /// The sequences of the tenant's database that were drawn from.
    pub sequences: Vec<Sequence>,
    /// The tables that were left out.
    pub excluded: Vec<Excluded>,
    /// How to check it.
    pub verify: String,
}

/// Whose bundle it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whose {
    pub id: uuid::Uuid,
    pub name: String,
    pub region: String,
}

/// What Postgres calls the snapshots.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshots {
    pub tenant: String,
    pub control: Option<String>,
}

/// Where the chain in the bundle ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Whose chain it is.
    pub origin: String,
    /// The number of entries.
    pub size: i64,
    /// The hash of the last one.
    pub head: String,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its name in the archive.
    pub path: String,
    /// Rows of a table, entries of the chain, else lines.
    pub rows: u64,
    /// Its length, unpacked.
    pub bytes: u64,
    /// Of the unpacked bytes.
    pub sha256: String,
}

/// A table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// `tenant` or `control`.
    pub database: String,
    /// With its schema.
    pub name: String,
    /// Which rows of it, where not all.
    pub rows_where: Option<String>,
    /// The columns of its primary key: the order of the rows.
    pub key: Vec<String>,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Sealed values that are not in the bundle.
    pub sealed: u64,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type in Postgres.
    #[serde(rename = "type")]
    pub type_name: String,
    /// How its values are written in JSON.
    pub(super) form: Form,
}

/// A sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// With its schema.
    pub name: String,
    /// The last number that was drawn, as text.
    pub last_value: String,
}

/// A table that stayed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excluded {
    pub database: String,
    pub name: String,
    pub reason: String,
}

impl Manifest {
    /// The entry of a file.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The tables of the tenant's own database, which an import restores.
    pub(super) fn restored(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(|table| table.database == TENANT)
    }

    /// All rows of tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.files
            .iter()
            .filter(|file| file.path.ends_with(LINES) && file.path != CHAIN)
            .map(|file| file.rows)
            .sum()
    }
}

/// The names of the two databases.
pub(super) const TENANT: &str = "tenant";
pub(super) const CONTROL: &str = "control";

/// What the names of files end with.
pub(super) const LINES: &str = ".ndjson";
pub(super) const SHEET: &str = ".csv";

/// The file of a table.
pub(super) fn path(database: &str, table: &str, ending: &str) -> String {
    format!("{database}/{table}{ending}")
}
