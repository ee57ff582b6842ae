//! The Postgres of the comparison: an installed one in a private folder, durable, with one set of settings for all.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use database::embedded::{Embedded, Options};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};

/// What differs from the defaults of Postgres. fsync, full-page writes and checksums are on.
pub(crate) const SETTINGS: [(&str, &str); 5] = [
    // The tables of a measurement fit; a disk that is slow to read would hide what the queues do.
    ("shared_buffers", "2GB"),
    // No checkpoint inside a measurement: it would fall on one system and not on the next.
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "30min"),
    ("wal_buffers", "64MB"),
    // Tables of a million jobs are vacuumed and analysed within seconds instead of a minute: for all alike.
    ("autovacuum_naptime", "5s"),
];

const CONNECTIONS_MAX: u16 = 200;

/// The running server.
pub(crate) struct Server {
    embedded: Embedded,
    folder: PathBuf,
}

impl Server {
    /// Starts it on a new data folder, which must not exist yet unless it is a leftover of an earlier run.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        remove(folder)?;
        let settings = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let options =
            Options { connections_max: CONNECTIONS_MAX, settings: settings.collect(), ..Options::at(folder) };
        let embedded = Embedded::start_or_attach(options).context("while Postgres was started")?;
        Ok(Self { embedded, folder: folder.to_owned() })
    }

    /// Stops it and removes its data.
    pub(crate) fn stop(self) -> Result<()> {
        self.embedded.stop().context("while Postgres was stopped")?;
        remove(&self.folder)
    }

    /// The process that all backends are children of.
    pub(crate) fn pid(&self) -> Result<u32> {
        let path = self.folder.join("data/postmaster.pid");
        let text = fs::read_to_string(&path).with_context(|| format!("while {} was read", path.display()))?;
        Ok(text.lines().next().unwrap_or_default().trim().parse()?)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        self.embedded.url(database)
    }

    /// Where the systems' complaints are written.
    pub(crate) fn log(&self, system: &str) -> PathBuf {
        self.folder.join(format!("{system}.log"))
    }

    pub(crate) async fn connect(&self, database: &str) -> Result<PgConnection> {
        let options: PgConnectOptions = self.embedded.options(database);
        Ok(PgConnection::connect_with(&options).await?)
    }

    pub(crate) async fn create(&self, database: &str) -> Result<()> {
        self.run(&format!("create database {database}")).await
    }

    pub(crate) async fn drop(&self, database: &str) -> Result<()> {
        self.run(&format!("drop database if exists {database} with (force)")).await
    }

    pub(crate) async fn version(&self) -> Result<String> {
        let mut conn = self.connect("postgres").await?;
        Ok(sqlx::query_scalar("show server_version").fetch_one(&mut conn).await?)
    }

    async fn run(&self, statement: &str) -> Result<()> {
        let mut conn = self.connect("postgres").await?;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut conn).await?;
        Ok(())
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("while {} was removed", folder.display()))
        }
        _ => Ok(()),
    }
}
