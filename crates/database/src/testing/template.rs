//! Migrated databases to copy from, one per list of migration sets and server.

use sha2::{Digest, Sha256};
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};

use super::{connect, must, run, with_database};

/// Held while a template is made, so that it is made once. The number is arbitrary.
const MAKING: i64 = 0x7465_6d70_6c61_7465;

/// The name of the template for these sets; it is made unless the server has it.
pub(super) async fn of(server: &str, sets: &[&Migrator]) -> String {
    let name = name(sets);
    let mut conn = connect(server).await;
    if !exists(&mut conn, &name).await {
        let lock = sqlx::query("select pg_advisory_lock($1)").bind(MAKING).execute(&mut conn).await;
        must(lock, "wait for another test's template");
        if !exists(&mut conn, &name).await {
            make(&mut conn, server, sets, &name).await;
        }
    }
    must(conn.close().await, "close the maintenance connection");
    name
}

/// Built under another name, so that a template which exists is complete.
async fn make(conn: &mut PgConnection, server: &str, sets: &[&Migrator], name: &str) {
    let unfinished = format!("{name}_unfinished");
    run(conn, format!("drop database if exists {unfinished} with (force)")).await;
    run(conn, format!("create database {unfinished}")).await;
    let mut inside = connect(&with_database(server, &unfinished)).await;
    for set in sets {
        must(set.run(&mut inside).await, "migrate a test database");
    }
    must(inside.close().await, "close the template");
    // The backend of the connection above may take a moment to go; renaming waits up to 5 s for it.
    run(conn, format!("alter database {unfinished} rename to {name}")).await;
}

async fn exists(conn: &mut PgConnection, name: &str) -> bool {
    let found = sqlx::query_scalar("select exists (select from pg_database where datname = $1)").bind(name);
    must(found.fetch_one(conn).await, "look for a template")
}

/// Changes with every migration of every set.
fn name(sets: &[&Migrator]) -> String {
    let mut digest = Sha256::new();
    for set in sets {
        digest.update(set.table_name.as_bytes());
        for migration in set.iter() {
            digest.update(migration.version.to_be_bytes());
            digest.update(&migration.checksum);
        }
    }
    let digest = digest.finalize();
    let short = u64::from_be_bytes(digest[..8].try_into().expect("32 bytes hold 8"));
    format!("template_{short:016x}")
}
