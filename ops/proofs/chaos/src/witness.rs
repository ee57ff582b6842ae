//! Watches the databases with triggers of its own, and reads what they saw and what the tables say.

use std::collections::HashMap;

use anyhow::Context;
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::ledger::{Charge, Charged, Effect, Fire, Job, Ledger, Move, Raise, Rest, Side, Sighting};

/// The time of the commit of the row's transaction.
const COMMITTED: &str = "(extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint";

/// Installs the witness of the control database.
pub(crate) async fn watch_control(conn: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql(include_str!("witness.sql")).execute(conn).await.context("while watching the queue")?;
    Ok(())
}

/// Installs the witness of a tenant's database.
pub(crate) async fn watch_tenant(conn: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql(include_str!("witness_tenant.sql"))
        .execute(conn)
        .await
        .context("while watching a tenant")?;
    Ok(())
}

/// Runs a query that is made of constants of this module.
async fn rows(conn: &mut PgConnection, sql: &str) -> anyhow::Result<Vec<PgRow>> {
    let sql = sql.replace("COMMITTED", COMMITTED);
    sqlx::query(sqlx::AssertSqlSafe(sql.clone())).fetch_all(conn).await.with_context(|| format!("in {sql}"))
}

/// Reads the control database.
pub(crate) async fn read_control(conn: &mut PgConnection, ledger: &mut Ledger) -> anyhow::Result<()> {
    ledger.jobs = jobs(conn).await?;
    for row in rows(conn, "select job, outcome, worker from queue.attempt").await? {
        let how = match row.try_get::<i16, _>(1)? {
            4 => Charged::Lost,
            5 => Charged::Crashed,
            6 => Charged::Cancelled,
            _ => Charged::Failed,
        };
        ledger.charges.push(Charge { job: row.try_get(0)?, how, worker: row.try_get(2)? });
    }
    for row in
        rows(conn, "select schedule, (extract(epoch from fire_at) * 1000000)::bigint, job from queue.fire")
            .await?
    {
        let (schedule, at, job) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        ledger.fires.push(Fire { schedule, at, job });
    }
    for row in rows(
        conn,
        "select number, job, from_running, from_fence, from_worker, to_running, to_fence, to_worker, COMMITTED,
                queue, tenant
         from witness.move order by number",
    )
    .await?
    {
        let to = match (row.try_get(5)?, row.try_get(6)?) {
            (Some(running), Some(fence)) => Some(Side { running, fence, worker: row.try_get(7)? }),
            _ => None,
        };
        ledger.moves.push(Move {
            number: row.try_get(0)?,
            job: row.try_get(1)?,
            from: Side { running: row.try_get(2)?, fence: row.try_get(3)?, worker: row.try_get(4)? },
            to,
            committed: row.try_get(8)?,
            queue: row.try_get(9)?,
            tenant: row.try_get(10)?,
        });
    }
    Ok(())
}

async fn jobs(conn: &mut PgConnection) -> anyhow::Result<Vec<Job>> {
    let found = rows(
        conn,
        "select id, coalesce(payload ->> 'label', ''), case state when 3 then 3 else 0 end::smallint, attempt, failures,
                attempts_max, coalesce(note, '')
         from queue.job where kind = 'probe'
         union all
         select id, coalesce(payload ->> 'label', ''), (10 + outcome)::smallint, attempt, failures, attempts_max,
                coalesce(note, '')
         from queue.job_history where kind = 'probe'",
    )
    .await?;
    let job = |row: &PgRow| {
        Ok(Job {
            id: row.try_get(0)?,
            label: row.try_get(1)?,
            rest: match row.try_get::<i16, _>(2)? {
                0 => Rest::Live,
                3 => Rest::Quarantined,
                11 => Rest::Succeeded,
                12 => Rest::Failed,
                _ => Rest::Cancelled,
            },
            attempt: row.try_get(3)?,
            failures: row.try_get(4)?,
            attempts_max: row.try_get(5)?,
            note: row.try_get(6)?,
        })
    };
    found.iter().map(job).collect()
}

/// Reads a tenant's database.
pub(crate) async fn read_tenant(conn: &mut PgConnection, ledger: &mut Ledger) -> anyhow::Result<()> {
    for row in rows(conn, "select job, fence, COMMITTED from witness.raise").await? {
        let committed = row.try_get(2)?;
        ledger.raises.push(Raise { job: row.try_get(0)?, fence: row.try_get(1)?, committed });
    }
    for row in rows(conn, "select job, fence, step, COMMITTED from tenant.probe_effect").await? {
        ledger.effects.push(Effect {
            job: row.try_get(0)?,
            fence: row.try_get(1)?,
            step: row.try_get(2)?,
            committed: row.try_get(3)?,
        });
    }
    for row in rows(
        conn,
        "select job, fence, event = 'began', (extract(epoch from at) * 1000000)::bigint from tenant.probe_sighting",
    )
    .await?
    {
        ledger.sightings.push(Sighting {
            job: row.try_get(0)?,
            fence: row.try_get(1)?,
            began: row.try_get(2)?,
            at: row.try_get(3)?,
        });
    }
    Ok(())
}

/// Jobs that neither rest nor are set aside.
pub(crate) async fn unfinished(conn: &mut PgConnection) -> anyhow::Result<i64> {
    let row = sqlx::query("select count(*) from queue.job where kind = 'probe' and state <> 3")
        .fetch_one(conn)
        .await?;
    Ok(row.try_get(0)?)
}

/// Jobs that are charged with the death of one of these processes.
pub(crate) async fn charged(conn: &mut PgConnection, living: &[i32]) -> anyhow::Result<i64> {
    let charged = "select count(*) from queue.crash_charge c join queue.worker w on w.id = c.worker
                   where w.pid = any($1)";
    Ok(sqlx::query(charged).bind(living).fetch_one(conn).await?.try_get(0)?)
}

/// The workers that were ever started, by their processes.
pub(crate) async fn workers(conn: &mut PgConnection) -> anyhow::Result<HashMap<u32, i64>> {
    let rows = rows(conn, "select pid::bigint, max(id) from queue.worker group by pid").await?;
    rows.iter().map(|row| Ok((u32::try_from(row.try_get::<i64, _>(0)?)?, row.try_get(1)?))).collect()
}
