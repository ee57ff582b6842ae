//! Measures what the chain costs: appends beside plain inserts into the same database, and the verifier.
//!
//! Promises: both sides alternate in one run, in a database made for it and dropped at its end. Refuses: to compare
//! runs; the figures are of one machine in one hour.

mod verification;

use std::{sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::Instant;

pub use self::verification::{Verification, VerificationError, verification};

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
    /// Appends to one chain, each its own transaction.
    pub one_chain_per_sec: f64,
    /// Appends to all chains in turn.
    pub spread_per_sec: f64,
    /// One chain as a part of plain.
    pub one_of_plain: f64,
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
                    content bytea not null, hash bytea not null)";
    run(&mut conn, plain.to_owned()).await?;
    let content = format!("{BODY:>300}").into_bytes();
    let insert = vec!["insert into plain (content, hash) values ($1, sha256($1))".to_owned()];
    let append = |chain| format!("select entry_seq from chain_{chain}.append('bench.happened', null, 7, $1)");
    let one = vec![append(0)];
    let all: Vec<_> = (0..options.chains).map(append).collect();
    let body = BODY.as_bytes().to_vec();
    let sides = [(insert, content), (one, body.clone()), (all, body)];
    let mut rates = [const { Vec::new() }; 3];
    for round in 1..=options.rounds {
        say(&format!("round {round} of {}", options.rounds));
        for ((statements, value), rates) in sides.iter().zip(&mut rates) {
            rates.push(side(database, statements, value, options).await?);
        }
    }
    let [plain, one, spread] = rates.map(median);
    Ok(Measured {
        plain_per_sec: plain,
        one_chain_per_sec: one,
        spread_per_sec: spread,
        one_of_plain: one / plain,
        spread_of_plain: spread / plain,
    })
}

/// Statements per second, by all sessions together, each going through the list from a place of its own.
async fn side(
    database: &PgConnectOptions,
    statements: &[String],
    value: &[u8],
    options: &Options,
) -> Result<f64, sqlx::Error> {
    let statements: Arc<[String]> = statements.into();
    let mut sessions = Vec::with_capacity(options.sessions);
    for _ in 0..options.sessions {
        sessions.push(PgConnection::connect_with(database).await?);
    }
    let begun = Instant::now();
    let until = begun + options.time;
    let writing = sessions.into_iter().enumerate().map(|(session, conn)| {
        let first = session * statements.len() / options.sessions;
        tokio::spawn(write(conn, statements.clone(), first, value.to_vec(), until))
    });
    let written =
        try_join_all(writing).await.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
    let written: u32 = written.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().sum();
    Ok(f64::from(written) / begun.elapsed().as_secs_f64())
}

async fn write(
    mut conn: PgConnection,
    statements: Arc<[String]>,
    first: usize,
    value: Vec<u8>,
    until: Instant,
) -> Result<u32, sqlx::Error> {
    let text = String::from_utf8_lossy(&value).into_owned();
    let mut written = 0;
    for statement in statements.iter().cycle().skip(first) {
        if Instant::now() >= until {
            break;
        }
        let query = sqlx::query(AssertSqlSafe(statement.clone()));
        let query = if statement.starts_with("insert") { query.bind(&value) } else { query.bind(&text) };
        query.execute(&mut conn).await?;
        written += 1;
    }
    conn.close().await?;
    Ok(written)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}
