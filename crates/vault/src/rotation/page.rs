//! A page of a column: rows in the order of their primary key, read, opened, sealed anew, and put in their place.

use std::collections::{HashMap, HashSet};

use secrecy::{ExposeSecret as _, SecretSlice};
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow};

use super::{Counts, Fault, Reason, Rotation, RotationError, table};
use crate::{
    catalog::{Column, columns, identifier},
    cipher::Dek,
    keys,
    sealed::{Cell, DekId, Sealed},
    service::ServiceClass,
    vault::VaultError,
};

/// How often a row that others keep writing is tried.
const TRIES_MAX: u32 = 5;

/// What came of a page.
#[derive(Default)]
pub(super) struct Page {
    pub(super) counts: Counts,
    pub(super) faults: Vec<Fault>,
    /// The last row; none if it was the last page of the column.
    pub(super) last: Option<Vec<String>>,
}

/// A row as it was read.
struct Row {
    key: Vec<String>,
    value: Option<Sealed>,
}

/// A value to be put in the place of another.
struct Change {
    key: Vec<String>,
    was: Sealed,
    fresh: Sealed,
}

/// Rows of all columns.
pub(super) async fn total(conn: &mut PgConnection) -> Result<u64, RotationError> {
    let mut total = 0;
    for column in columns(conn).await.map_err(VaultError::from)? {
        let statement = format!("-- vault.total\nselect count(*) from {}", table(&column));
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut *conn).await?;
        total += rows.unsigned_abs();
    }
    Ok(total)
}

/// Turns one page.
pub(super) async fn turn(
    rotation: &Rotation,
    conn: &mut PgConnection,
    column: &Column,
    target: Option<&Dek>,
    after: Option<&[String]>,
) -> Result<Page, RotationError> {
    // Statistics that know nothing of a table that has just been filled would let each page read all of it.
    let plan =
        "set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off";
    sqlx::raw_sql(plan).execute(&mut *conn).await?;
    let rows = read(conn, column, after, rotation.settings.page_rows).await?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows == rotation.settings.page_rows);
    let last = rows.last().filter(|_| is_full).map(|row| row.key.clone());
    let mut pass = Turning { rotation, column, relation: column.relation(), target, deks: HashMap::new() };
    let mut page = Page { last, ..Page::default() };
    let mut changes = pass.sort(conn, rows, &mut page).await?;
    if rotation.is_dry() {
        page.counts.rotated += changes.len() as u64;
        return Ok(page);
    }
    for _ in 0..TRIES_MAX {
        let sent = changes.len();
        let missed = write(conn, column, changes).await?;
        page.counts.rotated += (sent - missed.len()) as u64;
        changes = pass.again(conn, missed, &mut page).await?;
        if changes.is_empty() {
            return Ok(page);
        }
    }
    page.counts.raced += changes.len() as u64;
    Ok(page)
}

struct Turning<'a> {
    rotation: &'a Rotation,
    column: &'a Column,
    relation: String,
    target: Option<&'a Dek>,
    /// The keys that this page's values name.
    deks: HashMap<DekId, Result<std::sync::Arc<Dek>, Reason>>,
}

impl Turning<'_> {
    /// Counts what needs nothing, notes what does not open, and seals the rest anew.
    async fn sort(
        &mut self,
        conn: &mut PgConnection,
        rows: Vec<Row>,
        page: &mut Page,
    ) -> Result<Vec<Change>, RotationError> {
        let mut changes = Vec::with_capacity(rows.len());
        for Row { key, value } in rows {
            let Some(was) = value else {
                page.counts.null += 1;
                continue;
            };
            let opened = self.open(conn, &key, &was).await?;
            match (opened, self.target) {
                (Err(reason), _) => {
                    page.counts.undecryptable += 1;
                    let (relation, column) = (self.relation.clone(), self.column.column.clone());
                    page.faults.push(Fault { relation, column, key, dek: was.dek(), reason });
                }
                (Ok(_), Some(target)) if target.id == was.dek() => page.counts.already += 1,
                (Ok(text), Some(target)) => {
                    let fresh = self.seal(target, &key, &text)?;
                    changes.push(Change { key, was, fresh });
                }
                // It opens, so its table has a key, and another transaction has just made it.
                (Ok(_), None) => page.counts.already += 1,
            }
        }
        Ok(changes)
    }

    /// Rows that somebody else wrote between our look and our write: what they wrote stands. One that is still under
    /// another key is tried again.
    async fn again(
        &mut self,
        conn: &mut PgConnection,
        lost: Vec<Vec<String>>,
        page: &mut Page,
    ) -> Result<Vec<Change>, RotationError> {
        let mut changes = Vec::new();
        for key in lost {
            let found = read_one(conn, self.column, &key).await?;
            let theirs = found.and_then(|row| row.value);
            match (theirs, self.target) {
                (Some(was), Some(target)) if was.dek() != target.id => {
                    let row = Row { key, value: Some(was) };
                    changes.extend(self.sort(conn, vec![row], page).await?);
                }
                _ => page.counts.raced += 1,
            }
        }
        Ok(changes)
    }

    async fn open(
        &mut self,
        conn: &mut PgConnection,
        key: &[String],
        value: &Sealed,
    ) -> Result<Result<SecretSlice<u8>, Reason>, RotationError> {
        let dek = value.dek();
        if !self.deks.contains_key(&dek) {
            let found = self.look_up(conn, dek).await?;
            self.deks.insert(dek, found);
        }
        let cell = self.cell(key);
        Ok(match &self.deks[&dek] {
            Ok(dek) => dek.open(&cell, value).map_err(|_| Reason::Damaged),
            Err(reason) => Err(*reason),
        })
    }

    async fn look_up(
        &self,
        conn: &mut PgConnection,
        dek: DekId,
    ) -> Result<Result<std::sync::Arc<Dek>, Reason>, RotationError> {
        let Some(row) = keys::dek(conn, dek).await? else { return Ok(Err(Reason::UnknownKey)) };
        if row.wrapped.is_none() {
            return Ok(Err(Reason::RetiredKey));
        }
        match self.rotation.vault.dek(conn, self.rotation.owner, &row).await {
            Ok(dek) => Ok(Ok(dek)),
            Err(VaultError::Service(error)) if error.class() == ServiceClass::Damaged => {
                Ok(Err(Reason::LostKey))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Seals, and makes sure that it opens again to the same.
    fn seal(&self, target: &Dek, key: &[String], text: &SecretSlice<u8>) -> Result<Sealed, RotationError> {
        let cell = self.cell(key);
        let fresh = target.seal(&cell, text.expose_secret()).map_err(VaultError::from)?;
        match target.open(&cell, &fresh) {
            Ok(back) if back.expose_secret() == text.expose_secret() => Ok(fresh),
            _ => {
                let place = format!("{}.{}", self.relation, self.column.column);
                Err(VaultError::DoesNotOpen(place).into())
            }
        }
    }

    fn cell<'c>(&'c self, key: &'c [String]) -> Cell<'c> {
        self.column.cell(self.rotation.owner, &self.relation, key)
    }
}

/// The key as an array of texts, and its columns.
fn key_of(column: &Column, table: &str) -> (String, String) {
    let names = column.key.iter().map(|(name, _)| format!("{table}.{}", identifier(name)));
    let texts: Vec<_> = names.clone().map(|name| format!("{name}::text")).collect();
    let names: Vec<_> = names.collect();
    (format!("array[{}]", texts.join(", ")), names.join(", "))
}

/// The parts of a key that is the first parameter, each of its column's type.
fn bound_key(column: &Column) -> String {
    let part = |(at, (_, kind)): (usize, &(String, String))| format!("(($1::text[])[{}])::{kind}", at + 1);
    let parts: Vec<_> = column.key.iter().enumerate().map(part).collect();
    parts.join(", ")
}

async fn read(
    conn: &mut PgConnection,
    column: &Column,
    after: Option<&[String]>,
    limit: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    let (key, names) = key_of(column, "t");
    let beyond = after.map(|_| format!("where ({names}) > ({})", bound_key(column)));
    let statement = format!(
        "-- vault.page\nselect {key} as key, t.{}::bytea as value from {} t {} order by {names} limit $2",
        identifier(&column.column),
        table(column),
        beyond.unwrap_or_else(|| "where $1::text[] is null".to_owned()),
    );
    let rows = sqlx::query(AssertSqlSafe(statement)).bind(after).bind(limit).fetch_all(conn).await?;
    rows.iter().map(row).collect()
}

async fn read_one(
    conn: &mut PgConnection,
    column: &Column,
    key: &[String],
) -> Result<Option<Row>, sqlx::Error> {
    let (text, names) = key_of(column, "t");
    let statement = format!(
        "-- vault.row\nselect {text} as key, t.{}::bytea as value from {} t where ({names}) = ({})",
        identifier(&column.column),
        table(column),
        bound_key(column),
    );
    let found = sqlx::query(AssertSqlSafe(statement)).bind(key).fetch_optional(conn).await?;
    found.as_ref().map(row).transpose()
}

fn row(row: &PgRow) -> Result<Row, sqlx::Error> {
    let value: Option<Vec<u8>> = row.try_get("value")?;
    let value = value.map(Sealed::try_from).transpose();
    Ok(Row { key: row.try_get("key")?, value: value.map_err(|error| sqlx::Error::Decode(error.into()))? })
}

/// Puts each value in the place of exactly what was read; the keys of those where that was gone.
async fn write(
    conn: &mut PgConnection,
    column: &Column,
    changes: Vec<Change>,
) -> Result<Vec<Vec<String>>, sqlx::Error> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let width = column.key.len();
    let numbered = || (1..=width).map(|at| format!("k{at}"));
    let arrays: Vec<_> = (1..=width).map(|at| format!("${at}::text[]")).collect();
    let matches: Vec<_> = column
        .key
        .iter()
        .zip(numbered())
        .map(|((name, kind), number)| format!("t.{} = n.{number}::{kind}", identifier(name)))
        .collect();
    let value = identifier(&column.column);
    let statement = format!(
        "-- vault.reseal\nupdate {} t set {value} = n.fresh::governance.sealed
           from unnest({}, ${}::bytea[], ${}::bytea[]) as n ({}, was, fresh)
          where {} and t.{value}::bytea = n.was
         returning {}",
        table(column),
        arrays.join(", "),
        width + 1,
        width + 2,
        numbered().collect::<Vec<_>>().join(", "),
        matches.join(" and "),
        key_of(column, "t").0,
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for at in 0..width {
        query = query.bind(changes.iter().map(|change| change.key[at].clone()).collect::<Vec<_>>());
    }
    query = query.bind(changes.iter().map(|change| change.was.as_bytes().to_vec()).collect::<Vec<_>>());
    query = query.bind(changes.iter().map(|change| change.fresh.as_bytes().to_vec()).collect::<Vec<_>>());
    let written = query.fetch_all(conn).await?;
    let written: HashSet<Vec<String>> = written.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(changes.into_iter().map(|change| change.key).filter(|key| !written.contains(key)).collect())
}
