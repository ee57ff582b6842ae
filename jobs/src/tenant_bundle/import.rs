//! Restores a bundle into the database of an empty tenant, in one transaction or not at all.
//!
//! The tenant keeps its own id, and its stamp says which bundle it was restored from. The audit chain is restored as it
//! was and carried on under its own origin, so every entry, checkpoint, receipt and approval still verifies; the stamp names
//! that origin too. What the control database held, jobs and schedules, is not restored: they were those of another
//! installation, and would run a second time. Sealed values are not in a bundle, and come back as null.
//!
//! Before it is committed, what was restored is read back in the bundle's form, and must be the same to the byte (E1).

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use database::control::{Region, Tenant, TenantId};
use governance::audit;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::mpsc;
use verifier::note::{Checkpoint, PublicKey};

use super::{
    BundleError,
    catalog::{self, Table, identifier},
    classification,
    manifest::{File, LINES, Manifest, TENANT, path},
    row::{Column, decode},
    verify::{Opened, Verified, VerifyError, verify},
    write::{described_column, digests, settings},
};

/// Tables that have their one row from the first day: it is replaced.
const ONE_ROW: [&str; 2] = ["governance.audit_head", "governance.gate_mode"];

/// Pieces that wait to be copied in.
const PIECES_MAX: usize = 4;

const PIECE_BYTES: usize = 1 << 18;

/// What was restored.
#[derive(Debug)]
pub struct Imported {
    /// The bundle.
    pub verified: Verified,
    /// Tables.
    pub tables: usize,
    /// Their rows.
    pub rows: u64,
    /// Sealed values that the bundle does not have, and that came back as null.
    pub sealed: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The bundle is not what was exported.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The data may not lie there.
    #[error(
        "the bundle is of region {bundle}, and the tenant of {tenant}: restore it into a tenant of its own region"
    )]
    OtherRegion {
        /// Where the data came from.
        bundle: String,
        /// Where they would lie.
        tenant: Region,
    },
    /// Something is there already.
    #[error("the tenant is not empty: {0} has rows; make a new one with `tenure tenant create`")]
    NotEmpty(String),
    /// The tables are others.
    #[error(
        "the bundle does not fit the tenant's schema: {0}; bring the tenant to the version that wrote the bundle, or export \
         it again with this one"
    )]
    OtherSchema(String),
    /// The connection led elsewhere.
    #[error("the database is stamped as that of tenant {0}")]
    OtherTenant(TenantId),
    /// A sealed value is needed where none can come back.
    #[error("{0} needs values that were sealed, and a bundle does not have them")]
    Sealed(String),
    /// What was restored is not what the bundle holds.
    #[error("{0} was read back otherwise than it is in the bundle, and nothing was restored")]
    ReadBack(String),
    /// The database cannot be read in the bundle's form.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The database refused or was lost.
    #[error("the tenant's database refused the rows or was lost, and nothing was restored")]
    Database(#[from] sqlx::Error),
    /// The reading thread died.
    #[error("the bundle could not be read to its end, and nothing was restored")]
    Reader(#[from] tokio::task::JoinError),
}

/// Checks that the bundle could be restored into the tenant, and changes nothing.
pub async fn plan(
    conn: &mut PgConnection,
    bundle: &Path,
    tenant: &Tenant,
    kept: &[Checkpoint],
    key: Option<&PublicKey>,
) -> Result<Imported, ImportError> {
    let verified = verified(bundle, kept, key).await?;
    let mut tx = conn.begin().await?;
    admitted(&mut tx, &verified.manifest, tenant).await?;
    tx.rollback().await?;
    Ok(counted(verified))
}

/// Restores the bundle into the database of this tenant, which `conn` leads to as the owner of what is in it.
pub async fn import(
    conn: &mut PgConnection,
    bundle: &Path,
    tenant: &Tenant,
    kept: &[Checkpoint],
    key: Option<&PublicKey>,
) -> Result<Imported, ImportError> {
    let verified = verified(bundle, kept, key).await?;
    let manifest = &verified.manifest;
    let mut tx = conn.begin().await?;
    settings(&mut tx).await?;
    let tables = admitted(&mut tx, manifest, tenant).await?;
    let guards = Guards::lifted(&mut tx).await?;
    for name in ONE_ROW {
        run(&mut tx, format!("delete from {name}")).await?;
    }
    let mut source = Source { opened: Some(Opened::open(bundle)?), path: bundle.to_owned() };
    for table in &tables {
        let file = path(TENANT, &table.name, LINES);
        let file =
            manifest.file(&file).ok_or_else(|| ImportError::OtherSchema(format!("{file} is missing")))?;
        source.copy(&mut tx, table, file).await?;
    }
    guards.restored(&mut tx).await?;
    draw(&mut tx, manifest).await?;
    stamp(&mut tx, &verified).await?;
    read_back(&mut tx, manifest, tenant, &tables).await?;
    tx.commit().await?;
    Ok(counted(verified))
}

fn counted(verified: Verified) -> Imported {
    let (mut tables, mut rows, mut sealed) = (0, 0, 0);
    for table in verified.manifest.restored() {
        tables += 1;
        sealed += table.sealed;
        rows += verified.manifest.file(&path(TENANT, &table.name, LINES)).map_or(0, |file| file.rows);
    }
    Imported { verified, tables, rows, sealed }
}

async fn verified(
    bundle: &Path,
    kept: &[Checkpoint],
    key: Option<&PublicKey>,
) -> Result<Verified, ImportError> {
    let (bundle, kept, key) = (bundle.to_owned(), kept.to_vec(), key.cloned());
    Ok(tokio::task::spawn_blocking(move || verify(&bundle, &kept, key.as_ref())).await??)
}

/// The tables of the tenant, locked and empty, if the bundle may be restored into them.
async fn admitted(
    conn: &mut PgConnection,
    manifest: &Manifest,
    tenant: &Tenant,
) -> Result<Vec<Table>, ImportError> {
    if manifest.tenant.region != tenant.region.as_str() {
        let (bundle, tenant) = (manifest.tenant.region.clone(), tenant.region.clone());
        return Err(ImportError::OtherRegion { bundle, tenant });
    }
    let stamp = sqlx::query_scalar!(
        r#"-- bundle.stamp
        select tenant_id as "id: TenantId" from tenant.stamp"#
    );
    let stamp = stamp.fetch_one(&mut *conn).await?;
    if stamp != tenant.id {
        return Err(ImportError::OtherTenant(stamp));
    }
    let tables = catalog::read(conn, classification::TENANT).await?.tables;
    fits(manifest, &tables)?;
    for table in &tables {
        run(conn, format!("lock table {} in access exclusive mode", table.quoted())).await?;
        let rows: bool = sqlx::query_scalar(AssertSqlSafe(format!(
            "-- bundle.is_empty\nselect exists (select from {})",
            table.quoted()
        )))
        .fetch_one(&mut *conn)
        .await?;
        if rows && !ONE_ROW.contains(&table.name.as_str()) {
            return Err(ImportError::NotEmpty(table.name.clone()));
        }
    }
    Ok(tables)
}

/// The bundle has the tenant's tables with their columns, and no others.
fn fits(manifest: &Manifest, tables: &[Table]) -> Result<(), ImportError> {
    let other = |what: String| Err(ImportError::OtherSchema(what));
    for listed in manifest.restored() {
        if !tables.iter().any(|table| table.name == listed.name) {
            return other(format!("the tenant has no table {}", listed.name));
        }
    }
    for table in tables {
        let Some(listed) = manifest.restored().find(|listed| listed.name == table.name) else {
            return other(format!("the bundle has no table {}", table.name));
        };
        let own: Vec<_> = table.columns.iter().cloned().map(described_column).collect();
        if own != listed.columns {
            return other(format!("the columns of {} are others", table.name));
        }
        let needs = |column: &Column| column.form == super::row::Form::Sealed && column.is_required;
        if listed.sealed > 0 && table.columns.iter().any(needs) {
            return Err(ImportError::Sealed(table.name.clone()));
        }
    }
    Ok(())
}

/// What keeps rows from being written as they were: triggers, and references that point forth and back.
struct Guards {
    triggers: Vec<(String, String)>,
    references: Vec<(String, String)>,
}

impl Guards {
    /// Takes them away, for this transaction.
    async fn lifted(conn: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let triggers = sqlx::query!(
            r#"-- bundle.triggers
            select n.nspname as "schema!", c.relname as "table!", g.tgname as "name!"
              from pg_trigger g join pg_class c on c.oid = g.tgrelid join pg_namespace n on n.oid = c.relnamespace
             where n.nspname in ('governance', 'tenant') and not g.tgisinternal and g.tgenabled = 'O'
             order by 1, 2, 3"#
        )
        .fetch_all(&mut *conn)
        .await?;
        let references = sqlx::query!(
            r#"-- bundle.references
            select n.nspname as "schema!", c.relname as "table!", k.conname as "name!"
              from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
             where n.nspname in ('governance', 'tenant') and k.contype = 'f' and not k.condeferrable
             order by 1, 2, 3"#
        )
        .fetch_all(&mut *conn)
        .await?;
        let named = |schema: &str, table: &str| format!("{}.{}", identifier(schema), identifier(table));
        let guards = Self {
            triggers: triggers
                .iter()
                .map(|it| (named(&it.schema, &it.table), identifier(&it.name)))
                .collect(),
            references: references
                .iter()
                .map(|it| (named(&it.schema, &it.table), identifier(&it.name)))
                .collect(),
        };
        guards.triggers(conn, "disable").await?;
        guards.references(conn, "deferrable initially deferred").await?;
        Ok(guards)
    }

    /// Puts them back; every reference is checked.
    async fn restored(self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        run(conn, "set constraints all immediate".to_owned()).await?;
        self.references(conn, "not deferrable").await?;
        self.triggers(conn, "enable").await
    }

    async fn triggers(&self, conn: &mut PgConnection, verb: &str) -> Result<(), sqlx::Error> {
        for (table, name) in &self.triggers {
            run(conn, format!("alter table {table} {verb} trigger {name}")).await?;
        }
        Ok(())
    }

    async fn references(&self, conn: &mut PgConnection, how: &str) -> Result<(), sqlx::Error> {
        for (table, name) in &self.references {
            run(conn, format!("alter table {table} alter constraint {name} {how}")).await?;
        }
        Ok(())
    }
}

async fn run(conn: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(drop)
}

/// The bundle, read by a thread.
struct Source {
    opened: Option<Opened>,
    path: PathBuf,
}

impl Source {
    /// Copies one file into its table. The file is checked once more on the way: it may have changed since.
    async fn copy(&mut self, conn: &mut PgConnection, table: &Table, file: &File) -> Result<(), ImportError> {
        let mut opened = match self.opened.take() {
            Some(opened) => opened,
            None => Opened::open(&self.path)?,
        };
        let (pieces, mut waiting) = mpsc::channel::<Vec<u8>>(PIECES_MAX);
        let (columns, file) = (table.columns.clone(), file.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let read = read(&mut opened, &file, &columns, &pieces);
            (opened, read)
        });
        let mut copy = conn.copy_in_raw(&table.copy_in()).await?;
        while let Some(piece) = waiting.recv().await {
            copy.send(piece).await?;
        }
        let (opened, read) = reading.await?;
        self.opened = Some(opened);
        match read {
            Ok(()) => copy.finish().await.map(drop)?,
            Err(error) => {
                copy.abort("the bundle is not what was exported").await?;
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Reads the lines of a file and hands them over as Postgres copies them in.
fn read(
    opened: &mut Opened,
    file: &File,
    columns: &[Column],
    pieces: &mpsc::Sender<Vec<u8>>,
) -> Result<(), ImportError> {
    let mismatch = |what: &str| VerifyError::Mismatch { file: file.path.clone(), what: what.to_owned() };
    let mut reader = BufReader::with_capacity(PIECE_BYTES, opened.file(&file.path)?);
    let (mut digest, mut line, mut piece) = (Sha256::new(), Vec::new(), Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(VerifyError::Read)?;
        digest.update(&line);
        if length > 0 {
            decode(&line, columns, &mut piece).map_err(|fault| mismatch(&fault.to_string()))?;
        }
        if length == 0 || piece.len() >= PIECE_BYTES {
            // The other side has an error of its own to tell.
            if pieces.blocking_send(std::mem::take(&mut piece)).is_err() {
                return Ok(());
            }
        }
        if length == 0 {
            break;
        }
    }
    if verifier::hex(&digest.finalize().into()) == file.sha256 {
        Ok(())
    } else {
        Err(mismatch("it was changed while it was read").into())
    }
}

/// Sets the sequences to where they stood.
async fn draw(conn: &mut PgConnection, manifest: &Manifest) -> Result<(), ImportError> {
    let there = catalog::sequences(conn).await?;
    for sequence in &manifest.sequences {
        if !there.iter().any(|own| own.name == sequence.name) {
            return Err(ImportError::OtherSchema(format!("the tenant has no sequence {}", sequence.name)));
        }
        let number = sequence.last_value.parse::<i64>();
        let number =
            number.map_err(|_| ImportError::OtherSchema(format!("the sequence {}", sequence.name)))?;
        sqlx::query!("-- bundle.draw\nselect setval($1::text::regclass, $2)", sequence.name, number)
            .fetch_one(&mut *conn)
            .await?;
    }
    Ok(())
}

async fn stamp(conn: &mut PgConnection, verified: &Verified) -> Result<(), sqlx::Error> {
    let stamped = sqlx::query!(
        "-- bundle.stamp_restored
        update tenant.stamp set chain = $1, bundle = decode($2, 'hex'), restored_at = now()",
        verified.manifest.audit.origin,
        verified.digest,
    )
    .execute(conn)
    .await?;
    if stamped.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Holds what was restored against the bundle. A table that lost sealed values cannot be the same.
async fn read_back(
    conn: &mut PgConnection,
    manifest: &Manifest,
    tenant: &Tenant,
    tables: &[Table],
) -> Result<(), ImportError> {
    let is_whole =
        |table: &&Table| manifest.restored().any(|listed| listed.name == table.name && listed.sealed == 0);
    let whole: Vec<_> = tables.iter().filter(is_whole).cloned().collect();
    for (path, digest) in digests(conn, tenant.id.0, &whole).await? {
        if manifest.file(&path).is_none_or(|file| file.sha256 != digest) {
            return Err(ImportError::ReadBack(path));
        }
    }
    let head = audit::head(conn).await.map_err(|error| BundleError::Audit(error.into()))?;
    let is_same = (&head.origin, head.size, &head.hash.to_string())
        == (&manifest.audit.origin, manifest.audit.size, &manifest.audit.head);
    if is_same { Ok(()) } else { Err(ImportError::ReadBack("the head of the audit chain".to_owned())) }
}
