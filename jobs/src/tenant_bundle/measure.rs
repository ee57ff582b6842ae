//! Measures what an export costs: beside `pg_dump` of the same database, in the same run.
//!
//! Promises: the sides alternate, in databases made for it and dropped at its end; what was exported is checked, restored
//! and read back, so that a fast wrong answer does not count.
//!
//! Refuses: to compare runs; the figures are of one machine in one hour.

use std::{
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use database::{
    control::{Tenant, TenantId, TenantState},
    migrate::{self, MigrateError},
};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::process::Command;

use super::{About, BundleError, ImportError, Partial, VerifyError, import, verify, write};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Records of the tenant.
    pub records: u64,
    /// Rounds of each side; medians are reported.
    pub rounds: usize,
    /// Where the files go, and are removed.
    pub folder: PathBuf,
    /// The program to compare with.
    pub pg_dump: PathBuf,
}

/// What was measured. Megabytes are 10^6 bytes of the tenant's tables as they lie in Postgres, for every side the same.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Records of the tenant.
    pub records: u64,
    /// What its tables take in Postgres, without indexes.
    pub tenant_bytes: u64,
    /// What the bundle takes: every row twice, as lines and as a sheet.
    pub bundle_bytes: u64,
    /// The export.
    pub export_mb_per_sec: f64,
    /// `pg_dump --format=custom`, compressed as by default.
    pub dump_mb_per_sec: f64,
    /// `pg_dump --format=plain`, not compressed.
    pub plain_dump_mb_per_sec: f64,
    /// The export as a part of the compressed dump.
    pub of_dump: f64,
    /// The export as a part of the plain dump.
    pub of_plain_dump: f64,
    /// The check of the bundle.
    pub verify_mb_per_sec: f64,
    /// The restore with its check before and its reading back.
    pub import_mb_per_sec: f64,
    /// The most memory that this process ever took.
    pub memory_peak_bytes: Option<u64>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The export failed.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle does not fit.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// It could not be restored.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The schema could not be made.
    #[error("the schema could not be made")]
    Migrate(#[from] MigrateError),
    /// The other side failed.
    #[error("{program} failed: {said}")]
    Dump {
        /// The program.
        program: String,
        /// What it said.
        said: String,
    },
    /// A file could not be written or read.
    #[error("a file of the measurement could not be used")]
    File(#[from] io::Error),
    /// The database refused or was lost.
    #[error("the database refused or was lost")]
    Database(#[from] sqlx::Error),
}

/// Measures on the server. `url` gives the address of one of its databases for another program, and a password.
pub async fn measure(
    server: &PgConnectOptions,
    url: impl Fn(&str) -> (String, Option<String>),
    options: &Options,
    say: impl Fn(&str),
) -> Result<Measured, MeasureError> {
    let names = ["from", "into"].map(|part| format!("bench_export_{part}_{}", std::process::id()));
    let mut admin = PgConnection::connect_with(server).await?;
    for name in &names {
        run(&mut admin, format!("create database {name} template template0")).await?;
    }
    let measured = within(server, &names, url(&names[0]), options, say).await;
    for name in &names {
        run(&mut admin, format!("drop database {name} with (force)")).await?;
    }
    admin.close().await?;
    measured
}

async fn run(conn: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(drop)
}

async fn within(
    server: &PgConnectOptions,
    [from, into]: &[String; 2],
    url: (String, Option<String>),
    options: &Options,
    say: impl Fn(&str),
) -> Result<Measured, MeasureError> {
    say(&format!("making a tenant of {} records", options.records));
    let mut source = PgConnection::connect_with(&server.clone().database(from)).await?;
    let tenant = prepared(&mut source, from).await?;
    fill(&mut source, options.records).await?;
    let tenant_bytes: i64 = sqlx::query_scalar(
        "select sum(pg_table_size(c.oid))::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname in ('tenant', 'governance') and c.relkind = 'r'",
    )
    .fetch_one(&mut source)
    .await?;
    let [mut exports, mut dumps, mut plain_dumps] = [const { Vec::new() }; 3];
    let mut bundle = None;
    for round in 1..=options.rounds {
        say(&format!("round {round} of {}", options.rounds));
        let began = Instant::now();
        bundle = Some(exported(&mut source, &tenant, &options.folder).await?);
        exports.push(began.elapsed().as_secs_f64());
        dumps.push(dumped("custom", &url, options).await?);
        plain_dumps.push(dumped("plain", &url, options).await?);
    }
    let bundle = bundle.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    say("checking the bundle and restoring it");
    let began = Instant::now();
    let file = bundle.clone();
    tokio::task::spawn_blocking(move || verify(&file, &[], None)).await.map_err(io::Error::other)??;
    let verified = began.elapsed().as_secs_f64();
    let mut target = PgConnection::connect_with(&server.clone().database(into)).await?;
    let other = prepared(&mut target, into).await?;
    let began = Instant::now();
    import(&mut target, &bundle, &other, &[], None).await?;
    let imported = began.elapsed().as_secs_f64();
    let bundle_bytes = std::fs::metadata(&bundle)?.len();
    super::remove(&bundle)?;
    let tenant_bytes = tenant_bytes.unsigned_abs();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = |secs: f64| tenant_bytes as f64 / 1e6 / secs;
    let [export, dump, plain_dump] = [exports, dumps, plain_dumps].map(|times| rate(median(times)));
    Ok(Measured {
        records: options.records,
        tenant_bytes,
        bundle_bytes,
        export_mb_per_sec: export,
        dump_mb_per_sec: dump,
        plain_dump_mb_per_sec: plain_dump,
        of_dump: export / dump,
        of_plain_dump: export / plain_dump,
        verify_mb_per_sec: rate(verified),
        import_mb_per_sec: rate(imported),
        memory_peak_bytes: governance::measure::memory_peak_bytes(),
    })
}

/// A tenant's schema in an empty database, and whose it is.
async fn prepared(conn: &mut PgConnection, name: &str) -> Result<Tenant, MeasureError> {
    for set in migrate::of_tenant() {
        migrate::run(conn, set).await?;
    }
    let row: (uuid::Uuid, chrono::DateTime<chrono::Utc>) = sqlx::query_as(
        "insert into tenant.stamp (tenant_id) values (gen_random_uuid()) returning tenant_id, stamped_at",
    )
    .fetch_one(&mut *conn)
    .await?;
    let (id, created_at) = (TenantId(row.0), row.1);
    run(conn, format!("update governance.audit_head set origin = 'tenant/{id}'")).await?;
    Ok(Tenant {
        id,
        name: "bench".parse().expect("a tenant's name"),
        region: "local".parse().expect("a region's name"),
        state: TenantState::Active,
        database_name: name.to_owned(),
        role_name: name.to_owned(),
        schema_version: None,
        created_at,
        active_since: Some(created_at),
    })
}

/// Records of a usual form, and an audit entry for every hundredth.
async fn fill(conn: &mut PgConnection, records: u64) -> Result<(), sqlx::Error> {
    run(conn, format!(
        r#"insert into tenant.record (connector, stream, key, cursor, digest, data)
        select 'crm', 'contacts', n::text, n::text, encode(sha256(n::text::bytea), 'hex'), jsonb_build_object(
            'id', n, 'email', 'person' || n || '@example.org', 'name', 'Person "' || md5(n::text) || '"',
            'phone', '+49 30 ' || n, 'address', jsonb_build_object('street', md5((n + 1)::text), 'city', 'Berlin', 'zip', n % 99999),
            'note', repeat(md5((n / 7)::text) || ' ', 8), 'amount', n * 1.25, 'active', n % 3 = 0)
          from generate_series(1, {records}) n"#
    ))
    .await?;
    run(conn, format!(
        "select governance.append('bench.happened', null, n, '{{\"n\":' || n || '}}') from generate_series(1, {records} / 100) n"
    ))
    .await?;
    run(conn, "vacuum analyze".to_owned()).await
}

/// Takes as long as the job's own export: from the snapshot until the file has its name.
async fn exported(conn: &mut PgConnection, tenant: &Tenant, folder: &Path) -> Result<PathBuf, MeasureError> {
    let mut tx = conn.begin_with("begin transaction isolation level repeatable read, read only").await?;
    let partial = Partial::new(folder, "bench.zip", i64::from(std::process::id()))?;
    let about = About { tenant, program: env!("CARGO_PKG_VERSION") };
    write(about, &mut tx, None, &partial, &|_, _| true).await?;
    tx.rollback().await?;
    Ok(partial.offer()?)
}

/// Seconds that the other program takes until its file is on the disk too.
async fn dumped(
    format: &str,
    (url, password): &(String, Option<String>),
    options: &Options,
) -> Result<f64, MeasureError> {
    let file = options.folder.join(format!("bench.{format}"));
    let mut command = Command::new(&options.pg_dump);
    command.arg(format!("--format={format}")).arg("--file").arg(&file).arg("--dbname").arg(url);
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
    let began = Instant::now();
    let ran = command.output().await?;
    std::fs::File::open(&file).and_then(|file| file.sync_all()).ok();
    let elapsed = began.elapsed().as_secs_f64();
    super::remove(&file)?;
    if ran.status.success() {
        return Ok(elapsed);
    }
    let program = options.pg_dump.display().to_string();
    Err(MeasureError::Dump { program, said: String::from_utf8_lossy(&ran.stderr).trim().to_owned() })
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
