//! Writes a bundle from one snapshot over the tenant's database, and one over what the control database holds on it.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufWriter},
};

use chrono::{DateTime, SecondsFormat, Utc};
use database::control::Tenant;
use governance::{audit, canonical};
use secrecy::SecretString;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, Postgres, Transaction};

use super::{
    BundleError,
    archive::{Archive, Broken},
    catalog::{self, Catalog, Table},
    classification,
    folder::Partial,
    manifest::{self, CHAIN, CHECKPOINT, CONTROL, LINES, Manifest, SHEET, TENANT, path},
    pieces::{Piece, pieces},
    row::Column,
    scrub::Scrubber,
};

/// Whose bundle it is, and who writes it.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The tenant.
    pub tenant: &'a Tenant,
    /// The version of the program.
    pub program: &'a str,
}

/// A bundle that is written, and not yet offered.
#[derive(Debug)]
pub struct Bundle {
    /// What names it: the SHA-256 that the file ends with.
    pub digest: String,
    /// What it holds.
    pub manifest: Manifest,
}

/// What a bundle would hold.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The tables, of both databases.
    pub tables: Vec<PlannedTable>,
    /// What would stay, with the reason.
    pub excluded: Vec<manifest::Excluded>,
}

/// A table of a plan.
#[derive(Debug, Serialize)]
pub struct PlannedTable {
    /// `tenant` or `control`.
    pub database: &'static str,
    /// With its schema.
    pub name: String,
    /// About as many rows as it has, by Postgres's statistics; none where only some of them would leave, or none are known.
    pub rows_about: Option<i64>,
}

/// Says what a bundle would hold.
pub async fn plan(inside: &mut PgConnection, control: &mut PgConnection) -> Result<Plan, BundleError> {
    let (mut tables, mut excluded) = (Vec::new(), Vec::new());
    for (database, conn, known) in
        [(TENANT, inside, classification::TENANT), (CONTROL, control, classification::CONTROL)]
    {
        let catalog = catalog::read(conn, known).await?;
        for table in catalog.tables {
            let rows_about = if table.rows.is_none() { rows_about(conn, &table.name).await? } else { None };
            tables.push(PlannedTable { database, name: table.name, rows_about });
        }
        excluded.extend(left_out(database, catalog.excluded));
    }
    Ok(Plan { tables, excluded })
}

async fn rows_about(conn: &mut PgConnection, table: &str) -> Result<Option<i64>, sqlx::Error> {
    let rows = sqlx::query_scalar!(
        r#"-- bundle.rows_about
        select reltuples::bigint as "rows!" from pg_class where oid = $1::text::regclass"#,
        table
    );
    Ok(Some(rows.fetch_one(conn).await?).filter(|rows| *rows >= 0))
}

/// Writes everything that is held on the tenant into the partial file. `inside` is in a transaction that reads one snapshot,
/// and so is `control`, which is ended as soon as it can be: a snapshot of the control database costs every queue.
/// Without it the bundle has the tenant's database alone. `watch` is told the table and how many of its rows are
/// written, now and then, and answers whether to go on.
pub async fn write(
    about: About<'_>,
    inside: &mut PgConnection,
    control: Option<Transaction<'_, Postgres>>,
    partial: &Partial,
    watch: &(dyn Fn(&str, u64) -> bool + Sync),
) -> Result<Bundle, BundleError> {
    let unwritable = |source| BundleError::Write { folder: partial.folder().to_owned(), source };
    let mut archive = Archive::begin(partial).map_err(unwritable)?;
    let written = Writing { about, archive: &mut archive, watch, rows: HashMap::new(), tables: Vec::new() }
        .all(inside, control)
        .await;
    match written {
        Ok((manifest, rows)) => {
            let folder = partial.folder().to_owned();
            let (digest, manifest) = ended(archive, manifest, rows).await.map_err(|error| match error {
                EndError::Write(source) => BundleError::Write { folder, source },
                EndError::Manifest(error) => error.into(),
            })?;
            Ok(Bundle { digest, manifest })
        }
        Err(Stop::Broken) => Err(unwritable(archive.fault().await)),
        Err(Stop::Error(error)) => Err(error),
    }
}

enum Stop {
    /// The packers have ended; they know why.
    Broken,
    Error(BundleError),
}

impl From<Broken> for Stop {
    fn from(Broken: Broken) -> Self {
        Self::Broken
    }
}

impl<E: Into<BundleError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

#[derive(Debug)]
enum EndError {
    Write(io::Error),
    Manifest(canonical::CanonicalError),
}

impl From<io::Error> for EndError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// The digest, and the manifest with the files.
async fn ended(
    archive: Archive,
    mut manifest: Manifest,
    rows: HashMap<String, u64>,
) -> Result<(String, Manifest), EndError> {
    let (told, known) = tokio::sync::oneshot::channel();
    let digest = archive
        .end(move |files| -> Result<Vec<u8>, EndError> {
            manifest.files = files;
            for file in &mut manifest.files {
                if let Some(rows) = rows.get(&file.path) {
                    file.rows = *rows;
                }
            }
            let bytes = canonical::to_bytes(&manifest).map_err(EndError::Manifest)?;
            // Nobody waits for it only if the export was dropped.
            let _gone = told.send(manifest);
            Ok(bytes)
        })
        .await?;
    let manifest = known.await.map_err(io::Error::other)?;
    Ok((digest, manifest))
}

struct Writing<'a> {
    about: About<'a>,
    archive: &'a mut Archive,
    watch: &'a (dyn Fn(&str, u64) -> bool + Sync),
    /// Of each file.
    rows: HashMap<String, u64>,
    tables: Vec<manifest::Table>,
}

impl Writing<'_> {
    async fn all(
        mut self,
        inside: &mut PgConnection,
        control: Option<Transaction<'_, Postgres>>,
    ) -> Result<(Manifest, HashMap<String, u64>), Stop> {
        let (taken_at, snapshot) = begin(inside).await?;
        let mut snapshots = manifest::Snapshots { tenant: snapshot, control: None };
        let catalog = catalog::read(inside, classification::TENANT).await?;
        let scrubber = Scrubber::of(&secrets(inside).await?);
        let mut schema = versions(inside, &["governance", "tenant"]).await?;
        let mut excluded = Vec::new();
        if let Some(mut control) = control {
            snapshots.control = Some(begin(&mut control).await?.1);
            schema.extend(versions(&mut control, &["control", "queue"]).await?);
            let known = catalog::read(&mut control, classification::CONTROL).await?;
            excluded.extend(self.database(CONTROL, &mut control, known, &scrubber).await?);
            control.rollback().await?;
        }
        excluded.extend(self.database(TENANT, inside, catalog, &scrubber).await?);
        let audit = self.chain(inside).await?;
        let sequences = catalog::sequences(inside).await?;
        let tenant = self.about.tenant;
        let manifest = Manifest {
            format: manifest::FORMAT,
            program: self.about.program.to_owned(),
            tenant: manifest::Whose {
                id: tenant.id.0,
                name: tenant.name.to_string(),
                region: tenant.region.to_string(),
            },
            taken_at: taken_at.to_rfc3339_opts(SecondsFormat::Micros, true),
            snapshot: snapshots,
            schema,
            audit,
            files: Vec::new(),
            tables: self.tables,
            sequences: sequences
                .into_iter()
                .filter_map(|sequence| {
                    let last_value = sequence.last_value?.to_string();
                    Some(manifest::Sequence { name: sequence.name, last_value })
                })
                .collect(),
            excluded,
            verify: format!("tenure tenant verify-bundle FILE; the chain alone: tenure-verify {CHAIN}"),
        };
        Ok((manifest, self.rows))
    }

    /// Writes the tables of one database and gives what stayed.
    async fn database(
        &mut self,
        database: &'static str,
        conn: &mut PgConnection,
        catalog: Catalog,
        scrubber: &Scrubber,
    ) -> Result<Vec<manifest::Excluded>, Stop> {
        for table in catalog.tables {
            let (rows, sealed) = self.table(database, conn, &table, scrubber).await?;
            for ending in [LINES, SHEET] {
                self.rows.insert(path(database, &table.name, ending), rows);
            }
            self.tables.push(described(database, table, sealed));
        }
        Ok(left_out(database, catalog.excluded).collect())
    }

    /// Writes a table twice over, as lines and as a sheet, and says how many rows, and sealed values that stayed.
    async fn table(
        &mut self,
        database: &str,
        conn: &mut PgConnection,
        table: &Table,
        scrubber: &Scrubber,
    ) -> Result<(u64, u64), Stop> {
        let Archive { lines, sheets } = &*self.archive;
        lines.file(path(database, &table.name, LINES)).await?;
        sheets.file(path(database, &table.name, SHEET)).await?;
        let mut pieces = pieces(conn, table, self.about.tenant.id.0, scrubber).await?;
        while let Some(Piece { json, csv }) = pieces.next().await? {
            lines.bytes(json).await?;
            sheets.bytes(csv).await?;
            if !(self.watch)(&table.name, pieces.rows()) {
                return Err(BundleError::Stopped.into());
            }
        }
        Ok((pieces.rows(), pieces.sealed()))
    }

    /// Writes the audit chain as verifiers read it, and the newest checkpoint.
    async fn chain(&mut self, conn: &mut PgConnection) -> Result<manifest::Audit, Stop> {
        let lines = &self.archive.lines;
        lines.file(CHAIN.to_owned()).await?;
        let (reader, writer) = io::pipe().map_err(audit::ExportError::from)?;
        lines.pipe(reader).await?;
        let head = match audit::export(conn, &mut BufWriter::with_capacity(1 << 16, writer)).await {
            Ok(head) => head,
            // The other end of the pipe is a packer's.
            Err(audit::ExportError::Write(_)) => return Err(Stop::Broken),
            Err(error) => return Err(error.into()),
        };
        self.rows.insert(CHAIN.to_owned(), head.size.unsigned_abs());
        if let Some(note) = newest_note(conn).await? {
            lines.file(CHECKPOINT.to_owned()).await?;
            self.rows.insert(CHECKPOINT.to_owned(), note.lines().count() as u64);
            lines.bytes(note.into_bytes()).await?;
        }
        Ok(manifest::Audit { origin: head.origin, size: head.size, head: head.hash.to_string() })
    }
}

fn described(database: &str, table: Table, sealed: u64) -> manifest::Table {
    manifest::Table {
        database: database.to_owned(),
        name: table.name,
        rows_where: table.rows.map(str::to_owned),
        key: table.key,
        columns: table.columns.into_iter().map(described_column).collect(),
        sealed,
    }
}

pub(super) fn described_column(column: Column) -> manifest::Column {
    manifest::Column { name: column.name, type_name: column.type_name, form: column.form }
}

fn left_out(
    database: &'static str,
    excluded: Vec<(String, String)>,
) -> impl Iterator<Item = manifest::Excluded> {
    excluded.into_iter().map(move |(name, reason)| manifest::Excluded {
        database: database.to_owned(),
        name,
        reason,
    })
}

/// Settings under which a value's text loses nothing and is the same everywhere, for the transaction.
pub(super) async fn settings(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(
        "-- bundle.settings
        set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'; set local intervalstyle = 'iso_8601';
        set local bytea_output = 'hex'; set local extra_float_digits = 1; set local statement_timeout = 0;
        set local idle_in_transaction_session_timeout = 0",
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Takes the snapshot, and says when it was and what Postgres calls it.
async fn begin(conn: &mut PgConnection) -> Result<(DateTime<Utc>, String), sqlx::Error> {
    settings(conn).await?;
    let row = sqlx::query!(
        r#"-- bundle.snapshot
        select now() as "at!", pg_current_snapshot()::text as "snapshot!""#
    )
    .fetch_one(conn)
    .await?;
    Ok((row.at, row.snapshot))
}

/// Every secret that stands in a connector's definition.
async fn secrets(conn: &mut PgConnection) -> Result<Vec<SecretString>, sqlx::Error> {
    let texts = sqlx::query_scalar!("-- bundle.definitions\nselect definition from tenant.connector");
    let texts = texts.fetch_all(conn).await?;
    Ok(texts.iter().flat_map(|text| connectors::redacted(text).secrets).collect())
}

/// The newest migration of each of these schemas.
async fn versions(conn: &mut PgConnection, schemas: &[&str]) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let mut versions = BTreeMap::new();
    for schema in schemas {
        let statement =
            format!("-- bundle.version\nselect coalesce(max(version), 0) from {schema}.migration");
        let version = sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_one(&mut *conn).await?;
        versions.insert((*schema).to_owned(), version);
    }
    Ok(versions)
}

async fn newest_note(conn: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let note = sqlx::query_scalar!(
        "-- bundle.newest_note\nselect note from governance.checkpoint order by size desc limit 1"
    );
    note.fetch_optional(conn).await
}

/// The digests of a tenant's tables as a bundle of it would have them, without writing any, under the names of their files.
pub(super) async fn digests(
    conn: &mut PgConnection,
    tenant: uuid::Uuid,
    tables: &[Table],
) -> Result<Vec<(String, String)>, BundleError> {
    // What was let out holds no secret any more.
    let scrubber = Scrubber::default();
    let mut digests = Vec::with_capacity(tables.len());
    for table in tables {
        let mut digest = Sha256::new();
        let mut pieces = pieces(conn, table, tenant, &scrubber).await?;
        while let Some(piece) = pieces.next().await? {
            digest.update(&piece.json);
        }
        digests.push((path(TENANT, &table.name, LINES), verifier::hex(&digest.finalize().into())));
    }
    Ok(digests)
}
