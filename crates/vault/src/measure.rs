//! Measures rotations beside the same reads and writes without cryptography.
//!
//! Promises: both sides work on tables of the same shape in a database made for it, read the same pages, write as many
//! bytes, commit as often, and alternate in one run; the order changes from round to round.
//!
//! Refuses: to compare runs, and to speak of key services elsewhere: the keyring is a file on this machine.

use std::{path::Path, sync::Arc, time::Duration};

use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _, postgres::PgConnectOptions};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    keyring::{Keyring, KeyringError},
    rotation::{Action, Counts, Progress, Rotation, RotationError, Settings},
    sealed::{Cell, Owner},
    service::{Services, Vendor},
    vault::{Vault, VaultError},
};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sealed values.
    pub values: u32,
    /// Bytes of each text.
    pub bytes: u32,
    /// Keys of tables.
    pub keys: u32,
    /// Rows of a transaction.
    pub page_rows: u16,
    /// Rounds; the figures are medians over them.
    pub rounds: u16,
}

/// Values and keys per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Values read and written back, without cryptography.
    pub plain_values_per_sec: f64,
    /// Values under a new key.
    pub reseal_per_sec: f64,
    /// That as a part of plain.
    pub reseal_of_plain: f64,
    /// Values of a dry run, which writes nothing.
    pub dry_run_per_sec: f64,
    /// Values of a run that finds all of them under the new key.
    pub again_per_sec: f64,
    /// Keys read and written back, without cryptography.
    pub plain_keys_per_sec: f64,
    /// Keys wrapped under a new version of a keyring's key.
    pub rewrap_per_sec: f64,
    /// That as a part of plain.
    pub rewrap_of_plain: f64,
    /// Bytes of a sealed value.
    pub value_bytes: u64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The keyring could not be made.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A rotation stopped.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// A rotation did not do what it was to do.
    #[error("a rotation of {expected} ended with {counts:?}")]
    Wrong {
        /// How many there are.
        expected: u64,
        /// What it counted.
        counts: Counts,
    },
    /// The database refused or was lost.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

impl From<VaultError> for MeasureError {
    fn from(error: VaultError) -> Self {
        Self::Rotation(error.into())
    }
}

/// Measures in a database of its own on the server. `schema_sql` makes the schema `governance`.
pub async fn rotations(
    server: &PgConnectOptions,
    schema_sql: &str,
    options: &Options,
    say: impl Fn(&str),
) -> Result<Measured, MeasureError> {
    let name = format!("bench_keys_{}", std::process::id());
    let mut admin = PgConnection::connect_with(server).await?;
    run(&mut admin, format!("create database {name} template template0")).await?;
    let keyring = std::env::temp_dir().join(format!("tenure-{name}.json"));
    let measured = within(&server.clone().database(&name), schema_sql, &keyring, options, say).await;
    let dropped = run(&mut admin, format!("drop database {name} with (force)")).await;
    for file in [keyring.clone(), keyring.with_added_extension("lock")] {
        // What was never made need not be removed.
        let _absent = std::fs::remove_file(file);
    }
    let measured = measured?;
    dropped?;
    admin.close().await?;
    Ok(measured)
}

async fn run(conn: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(drop)
}

struct Bench {
    conn: PgConnection,
    vault: Vault,
    options: Options,
}

/// What is measured, in one round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    PlainValues,
    Reseal,
    PlainKeys,
    Rewrap,
}

async fn within(
    database: &PgConnectOptions,
    schema_sql: &str,
    keyring: &Path,
    options: &Options,
    say: impl Fn(&str),
) -> Result<Measured, MeasureError> {
    let conn = PgConnection::connect_with(database).await?;
    let vault = Vault::new(Services::none().with(Vendor::Local, Arc::new(Keyring::generate(keyring)?)));
    let mut bench = Bench { conn, vault, options: *options };
    say(&format!("sealing {} values", options.values));
    bench.fill(schema_sql).await?;
    let mut rates = [const { Vec::new() }; 6];
    for round in 1..=options.rounds {
        say(&format!("round {round} of {}", options.rounds));
        let mut sides = [Side::PlainValues, Side::Reseal, Side::PlainKeys, Side::Rewrap];
        if round % 2 == 0 {
            sides.reverse();
        }
        for side in sides {
            let rate = bench.measure(side).await?;
            rates[side as usize].push(rate);
        }
        rates[4].push(bench.dry_run().await?);
        rates[5].push(bench.again().await?);
    }
    let value_bytes = bench.value_bytes().await?;
    bench.conn.close().await?;
    let [plain_values, reseal, plain_keys, rewrap, dry_run, again] = rates.map(median);
    Ok(Measured {
        plain_values_per_sec: plain_values,
        reseal_per_sec: reseal,
        reseal_of_plain: reseal / plain_values,
        dry_run_per_sec: dry_run,
        again_per_sec: again,
        plain_keys_per_sec: plain_keys,
        rewrap_per_sec: rewrap,
        rewrap_of_plain: rewrap / plain_keys,
        value_bytes,
    })
}

impl Bench {
    async fn fill(&mut self, schema_sql: &str) -> Result<(), MeasureError> {
        let tables = "create schema bench;
            create table bench.secret (id bigint primary key, value governance.sealed);
            create table bench.plain (id bigint primary key, value bytea);
            create table bench.plain_key (id uuid primary key, wrapped bytea)";
        run(&mut self.conn, format!("create schema governance; {schema_sql}; {tables}")).await?;
        let text = vec![b'x'; self.options.bytes as usize];
        let mut tx = self.conn.begin().await?;
        for id in 1..=self.options.values {
            let key = [id.to_string()];
            let cell = Cell { owner: Owner::Platform, relation: "bench.secret", column: "value", key: &key };
            let sealed = self.vault.seal(&mut tx, &cell, &text).await?;
            sqlx::query("insert into bench.secret values ($1, $2)")
                .bind(i64::from(id))
                .bind(sealed)
                .execute(&mut *tx)
                .await?;
        }
        for at in 1..self.options.keys {
            self.vault.new_dek(&mut tx, Owner::Platform, &format!("bench.t{at}")).await?;
        }
        tx.commit().await?;
        let copies = "insert into bench.plain select id, value::bytea from bench.secret;
            insert into bench.plain_key select id, wrapped from governance.dek;
            vacuum analyze";
        for statement in copies.split(';') {
            run(&mut self.conn, statement.to_owned()).await?;
        }
        Ok(())
    }

    async fn measure(&mut self, side: Side) -> Result<f64, MeasureError> {
        // Dead rows of the rounds before cost both sides alike, so neither is to have them.
        run(&mut self.conn, "vacuum".to_owned()).await?;
        let began = Instant::now();
        let done = match side {
            Side::PlainValues => self.plain_values().await?,
            Side::Reseal => self.rotate(Action::Reseal).await?,
            Side::PlainKeys => self.plain_keys().await?,
            Side::Rewrap => self.rotate(Action::Rewrap).await?,
        };
        Ok(rate(done, began))
    }

    async fn rotate(&mut self, action: Action) -> Result<u64, MeasureError> {
        let settings =
            Settings { action, older_than: Duration::ZERO, page_rows: self.options.page_rows.into() };
        let request = Uuid::new_v4().to_string();
        let mut rotation = Rotation::real(self.vault.clone(), Owner::Platform, settings, request);
        let counts = advance(&mut self.conn, &mut rotation, "begin").await?;
        expect(counts.rotated, counts)
    }

    async fn dry_run(&mut self) -> Result<f64, MeasureError> {
        let settings = self.settings(Duration::ZERO);
        let mut rotation = Rotation::dry(self.vault.clone(), Owner::Platform, settings);
        let began = Instant::now();
        let read_only = "begin transaction isolation level repeatable read, read only";
        let counts = advance(&mut self.conn, &mut rotation, read_only).await?;
        Ok(rate(expect(counts.rotated, counts)?, began))
    }

    async fn again(&mut self) -> Result<f64, MeasureError> {
        let settings = self.settings(Duration::from_hours(24));
        let mut rotation = Rotation::real(self.vault.clone(), Owner::Platform, settings, String::new());
        let began = Instant::now();
        let counts = advance(&mut self.conn, &mut rotation, "begin").await?;
        Ok(rate(expect(counts.already, counts)?, began))
    }

    fn settings(&self, older_than: Duration) -> Settings {
        Settings { action: Action::Reseal, older_than, page_rows: self.options.page_rows.into() }
    }

    /// The statements of a page of values, and no more.
    async fn plain_values(&mut self) -> Result<u64, MeasureError> {
        let read = "select array[t.id::text] as key, t.value from bench.plain t
                     where t.id > $1 order by t.id limit $2";
        let write = "update bench.plain t set value = n.fresh
                       from unnest($1::text[], $2::bytea[], $3::bytea[]) as n (k1, was, fresh)
                      where t.id = n.k1::bigint and t.value = n.was returning array[t.id::text]";
        let (mut after, mut done) = (0_i64, 0);
        loop {
            let mut tx = self.conn.begin().await?;
            let rows = sqlx::query(read).bind(after).bind(i64::from(self.options.page_rows));
            let rows = rows.fetch_all(&mut *tx).await?;
            let Some(last) = rows.last() else { break Ok(done) };
            let key: Vec<String> = last.try_get("key")?;
            after = key[0].parse().unwrap_or(i64::MAX);
            let keys = rows.iter().map(|row| Ok(row.try_get::<Vec<String>, _>("key")?.remove(0)));
            let keys = keys.collect::<Result<Vec<_>, sqlx::Error>>()?;
            let was = rows.iter().map(|row| row.try_get("value")).collect::<Result<Vec<Vec<u8>>, _>>()?;
            let fresh: Vec<Vec<u8>> =
                was.iter().map(|value| value.iter().map(|byte| !byte).collect()).collect();
            let written = sqlx::query(write).bind(keys).bind(was).bind(fresh).fetch_all(&mut *tx).await?;
            tx.commit().await?;
            done += written.len() as u64;
        }
    }

    /// The statements of a page of keys, and no more.
    async fn plain_keys(&mut self) -> Result<u64, MeasureError> {
        let read = "select id, wrapped from bench.plain_key where id > $1 order by id limit 20";
        let write = "update bench.plain_key set wrapped = $2 where id = $1 and wrapped = $3";
        let (mut after, mut done) = (Uuid::nil(), 0);
        loop {
            let mut tx = self.conn.begin().await?;
            let rows = sqlx::query(read).bind(after).fetch_all(&mut *tx).await?;
            let Some(last) = rows.last() else { break Ok(done) };
            after = last.try_get("id")?;
            for row in &rows {
                let (id, was): (Uuid, Vec<u8>) = (row.try_get("id")?, row.try_get("wrapped")?);
                let fresh: Vec<u8> = was.iter().map(|byte| !byte).collect();
                let written = sqlx::query(write).bind(id).bind(fresh).bind(was).execute(&mut *tx).await?;
                done += written.rows_affected();
            }
            tx.commit().await?;
        }
    }

    async fn value_bytes(&mut self) -> Result<u64, MeasureError> {
        let bytes = sqlx::query_scalar::<_, i32>("select octet_length(value) from bench.secret limit 1");
        Ok(u64::from(bytes.fetch_one(&mut self.conn).await?.unsigned_abs()))
    }
}

/// A rotation to its end, each step a transaction.
async fn advance(
    conn: &mut PgConnection,
    rotation: &mut Rotation,
    begin: &'static str,
) -> Result<Counts, MeasureError> {
    let mut progress = Progress::default();
    while !progress.is_done {
        let mut tx = conn.begin_with(begin).await?;
        rotation.advance(&mut tx, &mut progress).await?;
        tx.commit().await?;
    }
    Ok(progress.counts)
}

/// Whether all of them became what they were to become.
fn expect(done: u64, counts: Counts) -> Result<u64, MeasureError> {
    let expected = counts.total();
    if done == expected { Ok(done) } else { Err(MeasureError::Wrong { expected, counts }) }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(done: u64, began: Instant) -> f64 {
    done as f64 / began.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}
