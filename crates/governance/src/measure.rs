//! Measures what the chain costs: appends beside plain inserts into the same database, and the verifier.
//!
//! Promises: all sides alternate in one run, in a database made for it and dropped at its end; every session has
//! prepared its statements before the clock starts, as one that serves a single tenant has.
//!
//! Refuses: to compare runs; the figures are of one machine in one hour. And to hide what a single chain cannot have: an
//! append holds its turn until its commit is on disk, so that a chain takes one commit for each flush of the disk, where
//! plain inserts of many sessions share one. What that alone costs is a side of its own, plain inserts in turn.

mod verification;

use std::{sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::Instant;

pub use self::verification::{Verification, VerificationError, memory_peak_bytes, verification};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sessions that write at the same time.
    pub sessions: usize,
    /// How long each side writes in each round.
    pub time: Duration,
    /// Rounds; the figures are medians over them.
    pub rounds: usize,
    /// Chains of the side that spreads.
    pub chains: usize,
}

/// Appends and inserts per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Rows of the size of an entry into a table with one index, each its own transaction.
    pub plain_per_sec: f64,
    /// The same, each holding the lock of one row until its commit is on disk: what one chain could do at most.
    pub in_turn_per_sec: f64,
    /// Appends to one chain, each its own transaction.
    pub one_chain_per_sec: f64,
    /// Appends to all chains in turn.
    pub spread_per_sec: f64,
    /// One chain as a part of plain.
    pub one_of_plain: f64,
    /// One chain as a part of plain in turn.
    pub one_of_in_turn: f64,
    /// Spread as a part of plain.
    pub spread_of_plain: f64,
}

/// An entry of a usual size: a decision's ids and digests.
const BODY: &str = "{\"batch\":48213,\"root\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\",\"size\":1000}";

/// Measures in a database of its own on the server. `schema_sql` makes the schema `governance`; each chain is a copy
/// of it under another name in that one database, since a server has fewer connections than there are tenants.
pub async fn appends(
    server: &PgConnectOptions,
    schema_sql: &str,
    options: &Options,
    say: impl Fn(&str),
) -> Result<Measured, sqlx::Error> {
    let name = format!("bench_audit_{}", std::process::id());
    let mut admin = PgConnection::connect_with(server).await?;
    run(&mut admin, format!("create database {name} template template0")).await?;
    let measured = within(&server.clone().database(&name), schema_sql, options, say).await;
    let dropped = run(&mut admin, format!("drop database {name} with (force)")).await;
    let measured = measured?;
    dropped?;
    admin.close().await?;
    Ok(measured)
}

async fn run(conn: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(drop)
}

async fn within(
    database: &PgConnectOptions,
    schema_sql: &str,
    options: &Options,
    say: impl Fn(&str),
) -> Result<Measured, sqlx::Error> {
    let mut conn = PgConnection::connect_with(database).await?;
    say(&format!("making {} chains", options.chains));
    for chain in 0..options.chains {
        let copy = schema_sql.replace("governance.", &format!("chain_{chain}."));
        run(&mut conn, format!("create schema chain_{chain}; {copy}")).await?;
    }
    let plain = "create table plain (seq bigint generated always as identity primary key,
                    content bytea not null, hash bytea not null);
                 create table turn (only_row boolean primary key);
                 insert into turn values (true)";
    run(&mut conn, plain.to_owned()).await?;
    let content = Value::Bytes(format!("{BODY:>300}").into_bytes());
    let insert = "insert into plain (content, hash) values ($1, sha256($1))";
    let in_turn = "with mine as materialized (select from turn where only_row for update)
                   insert into plain (content, hash) select $1::bytea, sha256($1::bytea) from mine";
    let append = |chain| format!("select entry_seq from chain_{chain}.append('bench.happened', null, 7, $1)");
    let sides = [
        Side { statements: [insert.to_owned()].into(), value: content.clone() },
        Side { statements: [in_turn.to_owned()].into(), value: content },
        Side { statements: [append(0)].into(), value: Value::Text(BODY.to_owned()) },
        Side { statements: (0..options.chains).map(append).collect(), value: Value::Text(BODY.to_owned()) },
    ];
    let mut rates = [const { Vec::new() }; 4];
    for round in 1..=options.rounds {
        say(&format!("round {round} of {}", options.rounds));
        for (side, rates) in sides.iter().zip(&mut rates) {
            rates.push(side.measure(database, options).await?);
        }
    }
    let [plain, in_turn, one, spread] = rates.map(median);
    Ok(Measured {
        plain_per_sec: plain,
        in_turn_per_sec: in_turn,
        one_chain_per_sec: one,
        spread_per_sec: spread,
        one_of_plain: one / plain,
        one_of_in_turn: one / in_turn,
        spread_of_plain: spread / plain,
    })
}

/// What is bound to a statement.
#[derive(Clone)]
enum Value {
    Bytes(Vec<u8>),
    Text(String),
}

/// One side of the comparison.
#[derive(Clone)]
struct Side {
    statements: Arc<[String]>,
    value: Value,
}

impl Side {
    /// Statements per second, by all sessions together, each going through the list from a place of its own.
    async fn measure(&self, database: &PgConnectOptions, options: &Options) -> Result<f64, sqlx::Error> {
        // Else a session that goes round would prepare every statement anew.
        let database = database.clone().statement_cache_capacity(self.statements.len() + 8);
        let mut sessions = Vec::with_capacity(options.sessions);
        for _ in 0..options.sessions {
            sessions.push(self.warm_up(PgConnection::connect_with(&database).await?).await?);
        }
        let begun = Instant::now();
        let until = begun + options.time;
        let writing = sessions.into_iter().enumerate().map(|(session, conn)| {
            let first = session * self.statements.len() / options.sessions;
            tokio::spawn(self.clone().write(conn, first, until))
        });
        let written =
            try_join_all(writing).await.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
        let written: u32 = written.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().sum();
        Ok(f64::from(written) / begun.elapsed().as_secs_f64())
    }

    /// Each statement once, in one transaction.
    async fn warm_up(&self, mut conn: PgConnection) -> Result<PgConnection, sqlx::Error> {
        let mut tx = conn.begin().await?;
        for statement in &*self.statements {
            self.execute(&mut tx, statement).await?;
        }
        tx.commit().await?;
        Ok(conn)
    }

    async fn write(self, mut conn: PgConnection, first: usize, until: Instant) -> Result<u32, sqlx::Error> {
        let mut written = 0;
        for statement in self.statements.iter().cycle().skip(first) {
            if Instant::now() >= until {
                break;
            }
            self.execute(&mut conn, statement).await?;
            written += 1;
        }
        conn.close().await?;
        Ok(written)
    }

    async fn execute(&self, conn: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
        let query = sqlx::query(AssertSqlSafe(statement.to_owned()));
        let query = match &self.value {
            Value::Bytes(bytes) => query.bind(bytes),
            Value::Text(text) => query.bind(text),
        };
        query.execute(conn).await.map(drop)
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}
