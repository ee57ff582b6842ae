//! Rotation: keys under a new version of the key that wraps them (`rewrap`), values under a new key (`reseal`).
//!
//! One call of [`Rotation::advance`] is one transaction's worth of work, and [`Progress`] says where the next one
//! begins. Committed together, they make a rotation that can be killed anywhere and goes on (K1). Each value is read,
//! opened, sealed, opened again in memory, and only then put in the place of exactly what was read (K5). What does not
//! open is left as it is and named (K4).
//!
//! A dry run is the same code in a transaction that cannot write: it seals under a key that exists in memory alone, and
//! leaves out the one statement that Postgres would refuse (K3).

mod page;
mod rewrap;
mod store;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

pub use self::store::{Recorded, begin, count, end, faults, find, hold, save, unfinished};
use crate::{
    catalog::{Column, columns, identifier},
    cipher::Dek,
    keys::{self, KeyState},
    sealed::{DekId, KekId, Owner},
    vault::{Vault, VaultError},
};

/// What is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The keys of tables are wrapped anew, under the newest version of the active key service's key.
    Rewrap,
    /// Values are sealed anew, under new keys.
    Reseal,
}

/// The text names nothing that could be rotated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no rotation: write rewrap or reseal")]
pub struct NoAction(pub String);

impl Action {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rewrap => "rewrap",
            Self::Reseal => "reseal",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = NoAction;

    fn from_str(text: &str) -> Result<Self, NoAction> {
        [Self::Rewrap, Self::Reseal]
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or_else(|| NoAction(text.to_owned()))
    }
}

/// How a rotation goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What is rotated.
    pub action: Action,
    /// A key that is younger stays the one that seals or wraps: a rotation that is repeated changes nothing (K2).
    pub older_than: Duration,
    /// Rows of a transaction.
    pub page_rows: i64,
}

/// What became of values, or, with `rewrap`, of keys. Each is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// It is under the new key.
    pub rotated: u64,
    /// It was before.
    pub already: u64,
    /// There was nothing to rotate.
    pub null: u64,
    /// It does not open, and was left as it is.
    pub undecryptable: u64,
    /// Somebody else wrote or deleted it meanwhile; what they wrote stands.
    pub raced: u64,
}

impl Counts {
    /// How many were looked at.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.rotated + self.already + self.null + self.undecryptable + self.raced
    }
}

/// How far a rotation has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What was counted so far.
    pub counts: Counts,
    /// Transactions so far.
    pub pages: u64,
    /// Rows or keys that there were at the beginning.
    pub total: u64,
    /// Whether there is nothing left.
    pub is_done: bool,
    /// The key under which each table's values go; null for a table that has none yet.
    targets: BTreeMap<String, Option<DekId>>,
    /// The last row looked at.
    at: Option<At>,
    /// What wraps keys from now on, and its version.
    under: Option<(KekId, String)>,
    /// The last key looked at.
    dek: Option<DekId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct At {
    /// Schema, table and column.
    column: (String, String, String),
    /// The row; none once the column is done.
    key: Option<Vec<String>>,
}

impl Progress {
    /// At the beginning, with so much to look at.
    #[must_use]
    pub fn of(total: u64) -> Self {
        Self { total, ..Self::default() }
    }

    /// Whether all of the column was looked at, in the order of the catalog.
    fn is_past(&self, column: &Column) -> bool {
        let name = name(column);
        self.at.as_ref().is_some_and(|at| name < at.column || (name == at.column && at.key.is_none()))
    }

    /// The last row of the column that was looked at.
    fn after(&self, column: &Column) -> Option<&[String]> {
        self.at.as_ref().filter(|at| at.column == name(column))?.key.as_deref()
    }
}

fn name(column: &Column) -> (String, String, String) {
    (column.schema.clone(), column.table.clone(), column.column.clone())
}

/// A value, or a key, that does not open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The table, as `schema.table`.
    pub relation: String,
    /// The column.
    pub column: String,
    /// The row's primary key, in its order.
    pub key: Vec<String>,
    /// The key that it names.
    pub dek: DekId,
    /// Why.
    pub reason: Reason,
}

/// Why something does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It names a key that is not known here.
    UnknownKey,
    /// It names a key that was retired.
    RetiredKey,
    /// Its key cannot be unwrapped.
    LostKey,
    /// It was changed, or sealed for another place.
    Damaged,
}

impl Reason {
    const ALL: [Self; 4] = [Self::UnknownKey, Self::RetiredKey, Self::LostKey, Self::Damaged];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown_key",
            Self::RetiredKey => "retired_key",
            Self::LostKey => "lost_key",
            Self::Damaged => "damaged",
        }
    }

    /// The table's check knows no other.
    fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name).unwrap_or(Self::Damaged)
    }
}

/// Whether anything is written.
enum Mode {
    Real {
        /// By what the rotation is known to key services, so that it makes one new version and not two.
        request: String,
    },
    Dry {
        /// Keys that exist in memory alone, by table.
        passing: HashMap<String, Arc<Dek>>,
    },
}

/// A rotation in one database.
pub struct Rotation {
    vault: Vault,
    owner: Owner,
    settings: Settings,
    mode: Mode,
}

/// Another rotation has made newer keys meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another rotation has overtaken this one: look with `tenure key census` whether anything is left to do"
)]
pub struct Overtaken;

/// Why a rotation stopped.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// Another one has made newer keys.
    #[error(transparent)]
    Overtaken(#[from] Overtaken),
    /// The keys cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl From<sqlx::Error> for RotationError {
    fn from(error: sqlx::Error) -> Self {
        Self::Vault(error.into())
    }
}

impl Rotation {
    /// One that is to happen; `request` names it for good.
    #[must_use]
    pub fn real(vault: Vault, owner: Owner, settings: Settings, request: String) -> Self {
        Self { vault, owner, settings, mode: Mode::Real { request } }
    }

    /// One that only says what would happen; in transactions that cannot write.
    #[must_use]
    pub fn dry(vault: Vault, owner: Owner, settings: Settings) -> Self {
        Self { vault, owner, settings, mode: Mode::Dry { passing: HashMap::new() } }
    }

    /// Counts what there is to look at.
    pub async fn total(&self, conn: &mut PgConnection) -> Result<u64, RotationError> {
        match self.settings.action {
            Action::Rewrap => rewrap::total(conn).await,
            Action::Reseal => page::total(conn).await,
        }
    }

    /// Does one transaction's worth of it. Names what does not open; whoever commits keeps that and the progress.
    pub async fn advance(
        &mut self,
        conn: &mut PgConnection,
        progress: &mut Progress,
    ) -> Result<Vec<Fault>, RotationError> {
        progress.pages += 1;
        match self.settings.action {
            Action::Rewrap => self.rewrap(conn, progress).await,
            Action::Reseal => self.reseal(conn, progress).await,
        }
    }

    async fn reseal(
        &mut self,
        conn: &mut PgConnection,
        progress: &mut Progress,
    ) -> Result<Vec<Fault>, RotationError> {
        let columns = columns(conn).await.map_err(VaultError::from)?;
        let Some(column) = columns.into_iter().find(|column| !progress.is_past(column)) else {
            progress.is_done = true;
            return Ok(Vec::new());
        };
        let relation = column.relation();
        let Some(&chosen) = progress.targets.get(&relation) else {
            // A transaction of its own: whoever seals waits for it, and may hold a row that a page wants.
            let target = self.choose(conn, &relation).await?;
            progress.targets.insert(relation, target);
            return Ok(Vec::new());
        };
        let target = self.target(conn, &relation, chosen).await?;
        let after = progress.after(&column);
        let page = page::turn(self, conn, &column, target.as_deref(), after).await?;
        progress.counts.add(page.counts);
        progress.at = Some(At { column: name(&column), key: page.last });
        Ok(page.faults)
    }

    /// The key under which a table's values go: a new one where the present one is old enough.
    async fn choose(
        &mut self,
        conn: &mut PgConnection,
        relation: &str,
    ) -> Result<Option<DekId>, RotationError> {
        let older_than = self.settings.older_than;
        let found = match self.mode {
            Mode::Real { .. } => keys::deposable_dek(conn, relation, older_than).await?,
            Mode::Dry { .. } => keys::latest_dek(conn, relation, older_than).await?,
        };
        let Some((row, is_old)) = found else { return Ok(None) };
        if row.state == KeyState::Active && !is_old {
            return Ok(Some(row.id));
        }
        match &mut self.mode {
            Mode::Real { .. } => Ok(Some(self.vault.new_dek(conn, self.owner, relation).await?.id)),
            Mode::Dry { passing } => {
                let dek = Arc::new(Dek::passing());
                let id = dek.id;
                passing.insert(relation.to_owned(), dek);
                Ok(Some(id))
            }
        }
    }

    /// That key, held until the transaction ends.
    async fn target(
        &self,
        conn: &mut PgConnection,
        relation: &str,
        chosen: Option<DekId>,
    ) -> Result<Option<Arc<Dek>>, RotationError> {
        let found = match &self.mode {
            Mode::Real { .. } => keys::sealing_dek(conn, relation).await?,
            Mode::Dry { passing } => match passing.get(relation) {
                Some(dek) => return Ok(Some(dek.clone())),
                None => keys::active_dek(conn, relation).await?,
            },
        };
        match (found, chosen) {
            // The table's first key, made meanwhile: what it seals needs no other.
            (Some(row), None) => Ok(Some(self.vault.dek(conn, self.owner, &row).await?)),
            (Some(row), Some(chosen)) if row.id == chosen => {
                Ok(Some(self.vault.dek(conn, self.owner, &row).await?))
            }
            (None, None) => Ok(None),
            _ => Err(Overtaken.into()),
        }
    }

    fn is_dry(&self) -> bool {
        matches!(self.mode, Mode::Dry { .. })
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.rotated += other.rotated;
        self.already += other.already;
        self.null += other.null;
        self.undecryptable += other.undecryptable;
        self.raced += other.raced;
    }
}

/// The table of a column, as SQL takes it.
fn table(column: &Column) -> String {
    format!("{}.{}", identifier(&column.schema), identifier(&column.table))
}
