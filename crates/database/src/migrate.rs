//! Migrations: forward only, one set per schema, each set's bookkeeping in a table `migration` of its own schema.
//!
//! Promises: a migration and its mark commit together, so a run that is killed anywhere leaves the schema at one
//! version or the next, and a second run finishes it. Two processes never migrate one database at a time. A migration
//! gives up rather than queue behind a long transaction, with all other sessions queueing behind it.
//!
//! Refuses a database whose migrations were edited after they had run, or that a newer program has migrated. The
//! rules for writing one are in `migrations/README.md`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::{Migrate, Migration, Migrator};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::failure::{Class, classify, is_sqlstate};

/// How long a statement of a migration waits for a lock: longer than any healthy transaction holds one, shorter than
/// users wait for the sessions that queue up behind.
const LOCK_TIMEOUT: &str = "5s";

/// SQLSTATE `lock_not_available`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// The migrations of the control database's schema `control`.
#[must_use]
pub fn control() -> &'static Migrator {
    static SET: LazyLock<Migrator> =
        LazyLock::new(|| in_schema(sqlx::migrate!("../../migrations/control"), "control"));
    &SET
}

/// The migrations of the schema `governance`, which the control database and every tenant's database have.
#[must_use]
pub fn governance() -> &'static Migrator {
    static SET: LazyLock<Migrator> =
        LazyLock::new(|| in_schema(sqlx::migrate!("../../migrations/governance"), "governance"));
    &SET
}

/// The sets of a tenant's database, in the order in which they run.
#[must_use]
pub fn of_tenant() -> [&'static Migrator; 2] {
    [governance(), tenant()]
}

/// The version of a tenant's database that has everything: the newest numbers of its sets, added up. Both only rise,
/// so a database that lacks a migration of either has a smaller one.
#[must_use]
pub fn newest_of_tenant() -> i64 {
    of_tenant().into_iter().map(newest).sum()
}

/// The migrations of a tenant database's schema `tenant`.
#[must_use]
pub fn tenant() -> &'static Migrator {
    static SET: LazyLock<Migrator> =
        LazyLock::new(|| in_schema(sqlx::migrate!("../../migrations/tenant"), "tenant"));
    &SET
}

/// The set with its schema, which it makes, and its bookkeeping in there.
fn in_schema(mut set: Migrator, schema: &'static str) -> Migrator {
    set.dangerous_set_table_name(format!("{schema}.migration"));
    set.create_schema(schema);
    set
}

/// The number of the set's last migration; 0 for an empty set.
#[must_use]
pub fn newest(set: &Migrator) -> i64 {
    set.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// A migration that has not run yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its number.
    pub version: i64,
    /// What its file is called after the number.
    pub name: String,
    /// Its text, to the letter.
    pub sql: String,
}

/// A migration that has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub version: i64,
    /// What its file is called after the number.
    pub name: String,
    /// How long it took; unknown when the process died right after it.
    pub elapsed: Option<Duration>,
}

/// Where a database stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What has run, in order.
    pub applied: Vec<Applied>,
    /// What is still to run, in order.
    pub pending: Vec<Pending>,
}

/// Why a database cannot be migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The file of an applied migration was changed afterwards.
    #[error("migration {0} was edited after it had been applied")]
    Edited(i64),
    /// The database has a migration that this program does not know.
    #[error("the schema is newer than this program: migration {0} is unknown to it")]
    Newer(i64),
    /// A lock was not to be had in time: a long transaction is at work. Nothing of this migration has happened.
    #[error("migration {0} gave up waiting for a lock")]
    Locked(i64),
    /// A migration failed. Nothing of it has happened.
    #[error("migration {version} failed")]
    Step {
        /// Its number.
        version: i64,
        /// What the database said.
        source: sqlx::Error,
    },
    /// The bookkeeping failed.
    #[error("the migration table cannot be used")]
    Bookkeeping(#[from] sqlx::Error),
}

impl MigrateError {
    /// What the failure asks of the caller.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Locked(_) => Class::Transient,
            Self::Step { source: error, .. } | Self::Bookkeeping(error) => classify(error),
            Self::Edited(_) | Self::Newer(_) => Class::Configuration,
        }
    }
}

/// What would run, in order, with its text. Changes nothing.
pub async fn plan(conn: &mut PgConnection, set: &Migrator) -> Result<Vec<Pending>, MigrateError> {
    Ok(status(conn, set).await?.pending)
}

/// What has run and what has not. Changes nothing.
pub async fn status(conn: &mut PgConnection, set: &Migrator) -> Result<Status, MigrateError> {
    let mut known: BTreeMap<i64, &Migration> = set.iter().map(|one| (one.version, one)).collect();
    let mut applied = Vec::new();
    for mark in marks(conn, set).await? {
        let migration = known.remove(&mark.version).ok_or(MigrateError::Newer(mark.version))?;
        if *migration.checksum != *mark.checksum {
            return Err(MigrateError::Edited(mark.version));
        }
        // -1 stands for unknown.
        let elapsed = u64::try_from(mark.execution_time).ok().map(Duration::from_nanos);
        applied.push(Applied { version: mark.version, name: migration.description.to_string(), elapsed });
    }
    Ok(Status { applied, pending: known.into_values().map(pending).collect() })
}

/// Runs what is pending, in order, and returns it with the time that each took. A second process waits for the first
/// and then finds nothing to do. What ran before a failure stays.
pub async fn run(conn: &mut PgConnection, set: &Migrator) -> Result<Vec<Applied>, MigrateError> {
    // Before the lock and its waiting: most runs find nothing to do, and a bad schema is no reason to wait.
    if status(conn, set).await?.pending.is_empty() {
        return Ok(Vec::new());
    }
    conn.lock().await.map_err(bookkeeping)?;
    let ran = run_locked(conn, set).await;
    // After a failure that lost the connection this fails too, and the lock is gone with the session.
    let unlocked = conn.unlock().await.map_err(bookkeeping);
    let ran = ran?;
    unlocked?;
    Ok(ran)
}

async fn run_locked(conn: &mut PgConnection, set: &Migrator) -> Result<Vec<Applied>, MigrateError> {
    for schema in set.create_schemas.iter() {
        conn.create_schema_if_not_exists(schema).await.map_err(bookkeeping)?;
    }
    conn.ensure_migrations_table(&set.table_name).await.map_err(bookkeeping)?;
    let before = swap_lock_timeout(conn, LOCK_TIMEOUT).await?;
    let ran = run_pending(conn, set).await;
    let restored = swap_lock_timeout(conn, &before).await;
    let ran = ran?;
    restored?;
    Ok(ran)
}

async fn run_pending(conn: &mut PgConnection, set: &Migrator) -> Result<Vec<Applied>, MigrateError> {
    // Asked again, since another process may have been at work until we got the lock.
    let pending = status(conn, set).await?.pending;
    let mut ran = Vec::with_capacity(pending.len());
    for migration in set.iter().filter(|one| pending.iter().any(|pending| pending.version == one.version)) {
        let (version, name) = (migration.version, migration.description.to_string());
        tracing::info!(version, name, table = %set.table_name, "migrating");
        let elapsed = conn.apply(&set.table_name, migration).await.map_err(|error| failed(version, error))?;
        ran.push(Applied { version, name, elapsed: Some(elapsed) });
    }
    Ok(ran)
}

/// The mark that an applied migration has left.
#[derive(sqlx::FromRow)]
struct Mark {
    version: i64,
    checksum: Vec<u8>,
    execution_time: i64,
}

/// All marks in order; none in a database that was never migrated.
async fn marks(conn: &mut PgConnection, set: &Migrator) -> Result<Vec<Mark>, MigrateError> {
    let table = &set.table_name;
    let exists = "-- migration.exists\n select to_regclass($1) is not null";
    if !sqlx::query_scalar::<_, bool>(exists).bind(table.as_ref()).fetch_one(&mut *conn).await? {
        return Ok(Vec::new());
    }
    // The name is the set's own, written in a program.
    let list =
        format!("-- migration.list\n select version, checksum, execution_time from {table} order by version");
    Ok(sqlx::query_as(AssertSqlSafe(list)).fetch_all(conn).await?)
}

/// Sets the session's lock timeout and returns what it was.
async fn swap_lock_timeout(conn: &mut PgConnection, timeout: &str) -> Result<String, MigrateError> {
    let before = sqlx::query!(
        r#"-- migration.lock_timeout
        select current_setting('lock_timeout') as "before!", set_config('lock_timeout', $1, false) as now"#,
        timeout,
    )
    .fetch_one(conn)
    .await?
    .before;
    Ok(before)
}

fn pending(migration: &Migration) -> Pending {
    let (name, sql) = (migration.description.to_string(), migration.sql.as_str().to_owned());
    Pending { version: migration.version, name, sql }
}

fn failed(version: i64, error: sqlx::migrate::MigrateError) -> MigrateError {
    match error {
        sqlx::migrate::MigrateError::ExecuteMigration(error, _)
            if is_sqlstate(&error, LOCK_NOT_AVAILABLE) =>
        {
            MigrateError::Locked(version)
        }
        sqlx::migrate::MigrateError::ExecuteMigration(source, _) => MigrateError::Step { version, source },
        error => bookkeeping(error),
    }
}

fn bookkeeping(error: sqlx::migrate::MigrateError) -> MigrateError {
    MigrateError::Bookkeeping(match error {
        sqlx::migrate::MigrateError::Execute(error) => error,
        error => sqlx::Error::Migrate(Box::new(error)),
    })
}
