//! The schedules of a run: one per tenant, which fires every two seconds whatever happens.

use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::{PgConnection, Row};
use tokio::time::Instant;

use crate::{
    fleet::Program,
    ledger::{Beat, FIRE, Fate, Micros, Promise},
    load::Tenant,
};

const NAME: &str = "beat";
const EVERY_SECS: i64 = 2;

/// How long the healed fleet may take to give the last fire times what is theirs.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);

/// What every job of a schedule promises.
pub(crate) fn promise() -> Promise {
    Promise {
        label: FIRE.to_owned(),
        fate: Fate::Unknown,
        steps: 1,
        failures: 0,
        hang: false,
        attempts_max: 25,
    }
}

/// Takes away the schedules that a new tenant has: a night that falls into a run would add jobs that nobody promised.
pub(crate) async fn clear(program: &Program, url: &str, tenant: &Tenant) -> anyhow::Result<()> {
    let listed = program.json(url, &["schedule", "list", "--tenant", &tenant.name]).await?;
    for schedule in listed["schedules"].as_array().into_iter().flatten() {
        let name = schedule["name"].as_str().context("a schedule without a name")?;
        program.json(url, &["schedule", "delete", name, "--tenant", &tenant.name]).await?;
    }
    Ok(())
}

/// Creates a schedule for the tenant.
pub(crate) async fn start(program: &Program, url: &str, tenant: &Tenant) -> anyhow::Result<()> {
    let (cron, payload) =
        (format!("*/{EVERY_SECS} * * * * *"), format!(r#"{{"steps": 1, "label": "{FIRE}"}}"#));
    let what = ["schedule", "create", NAME, "probe", "--tenant", &tenant.name, "--payload", &payload];
    let when = ["--cron", &cron, "--zone", "UTC", "--missed", "all", "--missed-max", "1000"];
    program.json(url, &[&what[..], &when[..]].concat()).await?;
    Ok(())
}

/// Waits until every fire time before now has been looked at, then pauses the schedules; answers what they owed.
pub(crate) async fn stop(
    conn: &mut PgConnection,
    program: &Program,
    url: &str,
    tenants: &[Tenant],
) -> anyhow::Result<Vec<Beat>> {
    let now =
        sqlx::query("select (extract(epoch from now()) * 1000000)::bigint").fetch_one(&mut *conn).await?;
    let to: Micros = now.try_get(0)?;
    let deadline = Instant::now() + CATCH_UP_MAX;
    while Instant::now() < deadline && behind(conn, to).await? {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for tenant in tenants {
        program.json(url, &["schedule", "pause", NAME, "--tenant", &tenant.name]).await?;
    }
    let rows =
        sqlx::query("select id, (extract(epoch from created_at) * 1000000)::bigint from queue.schedule")
            .fetch_all(conn)
            .await?;
    ensure!(rows.len() == tenants.len(), "{} schedules for {} tenants", rows.len(), tenants.len());
    let beat = |row: &sqlx::postgres::PgRow| {
        Ok(Beat { schedule: row.try_get(0)?, every: EVERY_SECS * 1_000_000, from: row.try_get(1)?, to })
    };
    rows.iter().map(beat).collect()
}

async fn behind(conn: &mut PgConnection, to: Micros) -> anyhow::Result<bool> {
    let row = sqlx::query(
        "select exists (select from queue.schedule where next_fire_at <= to_timestamp($1 / 1000000.0))",
    )
    .bind(to)
    .fetch_one(conn)
    .await?;
    Ok(row.try_get(0)?)
}
